"""Text and tables that fit the terminal: wrapped at words, or without their least columns."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from vggspec.cli.table import aligned

DEFAULT = 80  # columns where there is no terminal
MOST = 100  # columns of running text, however wide the terminal
LEAST = 20  # columns of text in a table, however narrow the terminal


def width() -> int:
    """The columns of the terminal."""
    return shutil.get_terminal_size((DEFAULT, 0)).columns


def wrapped(text: str, room: int | None = None) -> list[str]:
    """Text as lines of ``room`` columns, by default the terminal's; its own lines are kept."""
    most = min(width(), MOST) if room is None else room
    return [
        line
        for part in text.split("\n")
        for line in textwrap.wrap(part, most, break_on_hyphens=False, break_long_words=False)
        or [""]
    ]


def with_text(
    rows: Sequence[Sequence[str]], *, right: Iterable[int] = (), indent: int = 0
) -> list[list[str]]:
    """A table whose last column is text: the lines of each row, the text wrapped."""
    heads = [line.ljust(indent) for line in aligned([row[:-1] for row in rows], right)]
    begin = indent + max(map(len, heads)) + 2
    room = max(min(width(), MOST) - begin, LEAST)
    found = []
    for head, row in zip(heads, rows, strict=True):
        first, *rest = wrapped(row[-1], room)
        lines = [f"{' ' * indent}{head}".ljust(begin) + first]
        found.append([line.rstrip() for line in (*lines, *(" " * begin + each for each in rest))])
    return found


def fitting(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    droppable: Sequence[str],
    *,
    indent: int = 0,
    wide: bool = False,
) -> tuple[list[str], str]:
    """A table without the columns that make it wider than the terminal, the first of ``droppable``
    first, and a note that names them; ``wide`` keeps all.
    """
    dropped: list[str] = []
    while True:
        kept = [i for i, heading in enumerate(headings) if heading not in dropped]
        lines = aligned([[row[i] for i in kept] for row in (headings, *rows)])
        is_too_wide = indent + max(map(len, lines)) > width()
        if wide or not is_too_wide or len(dropped) == len(droppable):
            break
        dropped.append(droppable[len(dropped)])
    note = f"Not shown: {', '.join(dropped)}. `--wide` shows all columns." if dropped else ""
    return [" " * indent + line for line in lines], note
