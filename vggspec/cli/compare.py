"""``vggspec compare``: training runs beside one another."""

import json
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.quantities import duration
from vggspec.base.render import shown
from vggspec.cli.table import print_table, print_text
from vggspec.cli.terminal import say, table_width, wide_option

if TYPE_CHECKING:
    from vggspec.training.compare import Comparison

MOST_LETTERS = 24  # of a value in the table of settings


@click.command(
    "compare",
    epilog="""\b
Examples:
  vggspec compare runs/D/2026-11-21-1 runs/D/2026-11-22-1
  vggspec compare runs/D/* -o D.png
  vggspec compare runs/D/2026-11-21-1 runs/E/2026-11-21-1 --json""",
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "-o", "--out", metavar="FILE", help="Draw the learning curves of all runs as PNG, PDF or SVG."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@wide_option
def command(runs: tuple[str, ...], *, out: str | None, as_json: bool) -> None:
    """Compare training runs: best errors, times, the settings that differ, learning curves.

    RUN is the folder of a run, also of one that still goes on.
    """
    from vggspec.training.compare import compare

    found = compare(runs, out=out)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        _print(found)
    if not found.is_same_data:
        say("note", "the runs were trained on different images: compare their errors with care")
    if out is not None and found.picture is None:
        say("note", "no picture: none of the runs has begun")


def _print(found: "Comparison") -> None:
    rows = [("", "run", "error", "at epoch", "epochs", "time")]
    rows += [
        (
            str(number),
            shown(str(one.run)),
            "-" if one.best is None else f"{one.best.error:.2%}",
            "-" if one.best_epoch is None else str(one.best_epoch),
            f"{one.epochs}{'' if one.is_over else ' …'}",
            "-" if one.seconds is None else duration(one.seconds),
        )
        for number, one in enumerate(found.runs, start=1)
    ]
    print_table(rows, right=(2, 3))
    if not all(one.is_over for one in found.runs):
        print_text("… has not come to the end of its recipe")
    click.echo()
    if not found.settings:
        click.echo("all settings are the same")
    else:
        head = ("setting that differs", *(str(i) for i in range(1, len(found.runs) + 1)))
        settings = [
            (name, *(_value(value) for value in values)) for name, values in found.settings.items()
        ]
        print_table([head, *settings])
    if found.picture is not None:
        click.echo(f"\ncurves: {shown(str(found.picture))}")


def _value(value: Any) -> str:
    """A value in a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        if any(isinstance(each, str) for each in value) and len(value) > 1:
            return f"{len(value)} entries"
        return shown(_short(" ".join(map(_value, value)) or "none"))
    text = value if isinstance(value, str) else json.dumps(value)
    return shown(_short(text))


def _short(text: str) -> str:
    """The end of a long text: of paths it says more than the beginning."""
    is_whole = len(text) <= MOST_LETTERS or table_width() is None
    return text if is_whole else f"…{text[1 - MOST_LETTERS :]}"
