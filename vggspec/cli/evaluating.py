"""Options and tables that ``eval``, ``reproduce`` and ``localise`` share."""

import re
import textwrap
from collections.abc import Iterable, Sequence

import click

from vggspec.cli.computing import Command, computing_options, limit_option
from vggspec.cli.table import aligned

COLUMNS = 80  # of a table
NARROW = "errors in percent; --wide shows their standard errors"
LEAST = 8  # columns that a cell keeps
MAX_CROPS = 64  # a side, as in a manifest

_split_option = click.option(
    "--split", default="val", metavar="NAME", help="The folder below DIR.  [default: val]"
)
wide_option = click.option(
    "--wide", "is_wide", is_flag=True, help="Show all columns, even beyond 80 characters."
)


def running_options(command: Command) -> Command:
    """Options for the images to evaluate and for how they are computed."""
    return _split_option(limit_option(computing_options(command)))


def grid_side(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """``5x5`` as a number."""
    if value is None:
        return None
    sides = re.fullmatch(r"(\d{1,3})(?:[x×](\d{1,3}))?", value, re.IGNORECASE)
    if sides is None or sides[2] not in (None, sides[1]) or not 1 <= int(sides[1]) <= MAX_CROPS:
        raise click.BadParameter(f"{value!r} is not a square grid such as 5x5.")
    return int(sides[1])


def percent(share: float, images: int) -> str:
    """An error in percent with one standard error: ``24.81 ± 0.19 %``."""
    from vggspec.studies.evaluation.words import percent as in_words

    return in_words(share, images)


def tabulated(
    full: Sequence[Sequence[str]],
    narrow: Sequence[Sequence[str]],
    *,
    right: Iterable[int],
    wrap: Sequence[int],
    is_wide: bool,
    note: str,
) -> list[str]:
    """``full`` as lines if they fit the terminal or it ``is_wide``, else ``narrow`` and a note.

    If ``narrow`` does not fit either, the columns ``wrap`` are wrapped.
    """
    lines = aligned(full, right)
    if is_wide or max(map(len, lines)) <= COLUMNS:
        return lines
    return [*aligned(wrapped(narrow, wrap), right), note]


def wrapped(
    rows: Sequence[Sequence[str]], wrap: Sequence[int], columns: int = COLUMNS
) -> list[tuple[str, ...]]:
    """The rows with the cells of some columns continued in further rows, so that all fit."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > columns:
        widest = max(wrap, key=lambda i: widths[i])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    found: list[tuple[str, ...]] = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        found += [
            tuple(cell[k] if k < len(cell) else "" for cell in cells)
            for k in range(max(map(len, cells)))
        ]
    return found
