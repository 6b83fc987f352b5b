"""Source text and places in it.

A place is a half-open range of code points; lines and columns, both counted from 1, are
computed here and nowhere else.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate

from vggspec.base.short_repr import short_repr


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Code points ``start`` to ``end`` of a source's text, ``end`` excluded."""

    start: int
    end: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.end, (self.start, self.end)

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.end

    def to(self, other: "Span") -> "Span":
        """The smallest span that covers both."""
        return Span(min(self.start, other.start), max(self.end, other.end))


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A line and a column, both counted from 1; a tab is one column."""

    line: int
    column: int


@short_repr
@dataclass(frozen=True)
class Source:
    """The text of a spec and the name to show for it."""

    name: str
    text: str
    line_starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = accumulate(len(line) + 1 for line in self.text.split("\n"))
        starts = (0, *ends)[:-1]  # nothing begins after the end of the last line
        object.__setattr__(self, "line_starts", starts)

    @property
    def num_lines(self) -> int:
        """Lines of text; a final newline does not begin another line."""
        return len(self.line_starts) - (self.text.endswith("\n") or not self.text)

    def locate(self, offset: int) -> Location:
        """The line and column of ``offset``; past the end, the place just after the text."""
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self.line_starts, offset)
        return Location(line, offset - self.line_starts[line - 1] + 1)

    def offset(self, location: Location) -> int:
        """The inverse of ``locate``."""
        return self.line_starts[location.line - 1] + location.column - 1

    def line_span(self, line: int) -> Span:
        """Line number ``line`` without its newline."""
        start = self.line_starts[line - 1]
        last = line == len(self.line_starts)
        return Span(start, len(self.text) if last else self.line_starts[line] - 1)

    def line_text(self, line: int) -> str:
        """The text of line number ``line`` without its newline."""
        return self.slice(self.line_span(line))

    def slice(self, span: Span) -> str:
        """The text that ``span`` covers."""
        return self.text[span.start : span.end]
