"""``vggspec diff``: compare two nets."""

import json

import click

from vggspec.base.wording import count
from vggspec.cli import terminal
from vggspec.cli.completing import SPEC
from vggspec.cli.table import print_table
from vggspec.compiler.difference import Difference, LayerPair, diff
from vggspec.compiler.listing import INDENT

MOST_NAMES = 8


@click.command(
    "diff",
    epilog="""\b
Examples:
  vggspec diff A D
  vggspec diff specs/table1.vgg:C specs/table1.vgg:D
  vggspec diff specs/A.vgg specs/D.vgg --json""",
)
@click.argument("first", type=SPEC)
@click.argument("second", type=SPEC)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@terminal.wide_option
def command(first: str, second: str, *, as_json: bool) -> None:
    """Compare two nets: the layers that the second one adds (+) and lacks (-).

    FIRST and SECOND are files such as D.vgg, nets of a file, table1.vgg:D, or names that
    `vggspec specs` lists: D.

    Prints the columns side by side, as in Table 1 of the paper, then the costs and the settings
    that differ.
    """
    found = diff(first, second)
    if found.in_pieces:
        terminal.say(
            "note",
            f"{found.in_pieces:,} brackets and layers in a row are in one net only; they are "
            "compared in pieces, in their order, so that more of them may be alike than is shown",
        )
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
        return
    names = tuple(network.name for network in found.networks)
    changed = {i for i, row in enumerate(found.rows, start=1) if not row.is_same}
    heading = (f"  {names[0]}", f"  {names[1]}")
    print_table([heading, *map(_cells, found.rows)], bold={0} | changed)
    click.echo()
    print_table([("", *names, "difference"), *_totals(found)], right=(1, 2, 3), bold=())
    if found.changes:
        click.echo()
        rows = [
            (f"{each.section}:" if each.section else "", each.key, each.first, each.second)
            for each in found.changes
        ]
        print_table([("", "", *names), *rows], bold=())
    renamed = found.renamed
    if renamed:
        click.echo("\nThese names differ, and weights files go by names:\n")
        print_table([("", *names), *(("", *pair) for pair in renamed[:MOST_NAMES])], bold=())
        if len(renamed) > MOST_NAMES:
            click.echo(f"and {count(len(renamed) - MOST_NAMES, 'more layer')}")
    elif found.is_empty:
        click.echo("\nno difference")


def _cells(row: LayerPair) -> tuple[str, str]:
    marks = ("  ", "  ") if row.is_same else ("- ", "+ ")
    first, second = (
        mark + INDENT * depth + op.write() if op else ""
        for mark, op, depth in zip(marks, (row.first, row.second), row.depths, strict=True)
    )
    return first, second


def _totals(found: Difference) -> list[tuple[str, str, str, str]]:
    numbers = {
        "weight layers": [len(network.weight_layers) for network in found.networks],
        "parameters": [each.parameters for each in found.costs],
        "MACs": [each.macs for each in found.costs],
    }
    return [
        (word, f"{one:,}", f"{other:,}", f"{other - one:+,}" if other != one else "0")
        for word, (one, other) in numbers.items()
    ]
