"""Text in columns that fits the terminal."""

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import click

from vggspec.base.quantities import memory as memory
from vggspec.base.quantities import scaled as scaled
from vggspec.base.wording import columns, count, wrapped
from vggspec.cli import terminal

GAP = "  "
NARROWEST = 16  # columns that a wrapped column keeps


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table as lines."""

    rows: tuple[tuple[str, ...], ...]
    """The lines of each row; more than one where a cell was wrapped."""

    dropped: tuple[str, ...] = ()
    """The headings of the columns that were left out."""

    @property
    def lines(self) -> list[str]:
        """All lines."""
        return [line for row in self.rows for line in row]


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """The rows as lines, however long; the columns ``right`` are flush right."""
    return fitted(rows, None, right=right).lines


def fitted(
    rows: Sequence[Sequence[str]],
    width: int | None,
    *,
    right: Iterable[int] = (),
    optional: Sequence[int] = (),
) -> Fitted:
    """The rows as lines of at most ``width`` columns.

    Where they do not fit, the columns ``optional`` are left out, the first one first; the first
    row has their headings. Then the widest columns that are not ``right`` are wrapped at words.
    """
    flush = set(right)
    kept = list(range(len(rows[0]))) if rows else []
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    dropped: list[str] = []

    def excess() -> int:
        total = sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1)
        return 0 if width is None else total - width

    for column in optional:
        if excess() <= 0:
            break
        kept.remove(column)
        dropped.append(rows[0][column])
    while excess() > 0:
        widest = max((i for i in kept if i not in flush), key=lambda i: widths[i], default=None)
        if widest is None or widths[widest] <= NARROWEST:
            break
        second = max((widths[i] for i in kept if i not in flush and i != widest), default=0)
        enough = max(second, NARROWEST, widths[widest] - excess())
        widths[widest] = min(widths[widest] - 1, enough)

    def line_up(row: Sequence[str]) -> tuple[str, ...]:
        cells = [wrapped(row[i], widths[i] if width is not None else None) for i in kept]
        lines = []
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            padded = (
                _pad(part, widths[i], i in flush) for i, part in zip(kept, parts, strict=True)
            )
            lines.append(GAP.join(padded).rstrip())
        return tuple(lines)

    return Fitted(tuple(map(line_up, rows)), tuple(dropped))


def _pad(text: str, width: int, is_right: bool) -> str:  # noqa: FBT001 (private)
    space = " " * (width - columns(text))
    return space + text if is_right else text + space


def print_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[int] = (),
    optional: Sequence[int] = (),
    bold: Collection[int] = (0,),
) -> None:
    """Print a table to standard output so that it fits; a note says what was left out.

    On a terminal the rows ``bold`` are bold; by default the first one, the headings.
    """
    note_left_out(print_rows(rows, right=right, optional=optional, bold=bold))


def print_rows(
    rows: Sequence[Sequence[str]],
    *,
    right: Iterable[int] = (),
    optional: Sequence[int] = (),
    bold: Collection[int] = (0,),
) -> tuple[str, ...]:
    """``print_table`` without the note: the headings of the columns that were left out."""
    table = fitted(rows, terminal.table_width(), right=right, optional=optional)
    for i, lines in enumerate(table.rows):
        for line in lines:
            _print(line, bold=i in bold)
    return table.dropped


def note_left_out(headings: Collection[str]) -> None:
    """Say which columns were left out, if any."""
    if headings:
        sys.stdout.flush()
        names = ", ".join(headings)
        terminal.say("note", f"{count(len(headings), 'column')} left out: {names}; see --wide")


def print_text(text: str, *, bold: bool = False) -> None:
    """Print prose to standard output so that it fits, wrapped at words."""
    for line in wrapped(text, terminal.table_width()):
        _print(line, bold=bold)


def _print(line: str, *, bold: bool) -> None:
    has_style = bold and terminal.use_color(sys.stdout)
    click.echo(click.style(line, bold=True) if has_style else line)
