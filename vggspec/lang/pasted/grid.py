"""A pasted table as rows of cells, whatever form it was pasted in."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from vggspec.base.catalogue import pasting
from vggspec.base.diagnostic import Diagnostic, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source, Span
from vggspec.lang.pasted.text import Text

MAX_COLUMNS = 80  # 64 nets, and what is written beside them


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one cell, and the columns that it spans."""

    text: Text
    span: Span
    first: int
    width: int = 1

    @property
    def columns(self) -> range:
        """The columns that the cell spans."""
        return range(self.first, self.first + self.width)


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells that are not empty, from left to right."""

    cells: tuple[Cell, ...]
    span: Span
    number_of_cells: int
    """As written, empty ones included."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table; ``is_exact`` where its form says which columns a cell spans, and says so."""

    rows: tuple[Row, ...]
    columns: int
    is_exact: bool


@dataclass(slots=True)
class Notes:
    """What was dropped or guessed: each text once, with the lines that it is about."""

    source: Source
    found: dict[str, set[int]] = field(default_factory=dict)

    def add(self, text: str, span: Span | None = None) -> None:
        """Note ``text`` of the line of ``span``, or of the whole table."""
        lines = self.found.setdefault(text, set())
        if span is not None:
            lines.add(self.source.locate(span.start).line)

    def lines(self) -> tuple[str, ...]:
        """The notes in the order of their first lines."""
        ordered = sorted(self.found.items(), key=lambda one: min(one[1], default=0))
        return tuple(
            f"{_lines(sorted(numbers))}: {text}" if numbers else text for text, numbers in ordered
        )


def _lines(numbers: Sequence[int]) -> str:
    """``line 3``, or ``lines 3, 5-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    if len(parts) > 8:
        parts = [*parts[:8], f"{len(parts) - 8} more"]
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


@dataclass(slots=True)
class Desk:
    """What all readers of a pasted text share."""

    source: Source
    reports: Reports
    notes: Notes

    def report(self, what: Diagnostic, span: Span) -> None:
        """Report a mistake at its place."""
        self.reports.add(report(what, self.source, span))


def place(
    cells: Sequence[tuple[Text, Span, int]], desk: Desk, taken: set[int] | None = None
) -> tuple[Cell, ...]:
    """Cells with their widths, one after the other, in columns that are not ``taken``."""
    found = []
    column = 0
    for text, span, width in cells:
        while taken and column in taken:
            column += 1
        if column + width > MAX_COLUMNS:
            desk.report(pasting.TooMuch(most_columns=MAX_COLUMNS), span)
            break
        found.append(Cell(text, span, column, width))
        column += width
    return tuple(found)
