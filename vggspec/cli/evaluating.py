"""Options and tables that ``eval``, ``reproduce`` and ``localise`` share."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.recipe import MAX_CROPS
from vggspec.base.wording import columns
from vggspec.cli.computing import Command, computing_options, limit_option
from vggspec.cli.table import aligned, print_table
from vggspec.cli.terminal import say, table_width

if TYPE_CHECKING:
    from vggspec.studies.evaluation.answers import Errors


_split_option = click.option(
    "--split", default="val", metavar="NAME", help="The folder below DIR.  [default: val]"
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


def percents(errors: "Errors") -> tuple[str, str]:
    """The top-1 and the top-5 error in percent, each with one standard error."""
    from vggspec.studies.evaluation.percents import with_standard_error

    return (
        with_standard_error(errors.top1_error, errors.images),
        with_standard_error(errors.top5_error, errors.images),
    )


def print_errors(rows: Sequence[Sequence[str]], errors: Sequence[Sequence[str]]) -> None:
    """Print a table of errors, which are the right columns.

    If it is wider than the terminal, the standard errors are left out, and a note says so.
    """
    right = range(len(rows[0]), len(rows[0]) + len(errors[0]))
    table = [(*row, *cells) for row, cells in zip(rows, errors, strict=True)]
    width = table_width()
    if width is None or max(map(columns, aligned(table, right))) <= width:
        print_table(table, right=right)
        return
    narrow = [[_without_spread(cell) for cell in cells] for cells in errors]
    print_table([(*row, *cells) for row, cells in zip(rows, narrow, strict=True)], right=right)
    say("note", "errors in percent, without their standard errors; see --wide")


def _without_spread(cell: str) -> str:
    """``24.81 ± 0.19 %`` as ``24.81``, ``top-1 error`` as ``top-1``."""
    return cell.partition(" ± ")[0].removesuffix(" error")
