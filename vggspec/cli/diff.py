"""``vggspec diff``: what one net adds to another."""

import json
import sys

import click

from vggspec.cli.table import aligned
from vggspec.compiler.cost import Cost, cost
from vggspec.compiler.difference import Difference, Row, difference
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network


@click.command(
    "diff",
    epilog="""\b
Examples:
  vggspec diff specs/A.vgg specs/D.vgg
  vggspec diff specs/table1.vgg:C specs/table1.vgg:D
  vggspec diff specs/A.vgg specs/D.vgg --json""",
)
@click.argument("first")
@click.argument("second")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(first: str, second: str, *, as_json: bool) -> None:
    """Say what the second net adds to the first (+) and lacks of it (-).

    Columns side by side, as in Table 1 of the paper, then what both cost and what else differs.
    """
    nets = load_network(first), load_network(second)
    networks = nets[0].network, nets[1].network
    costs = cost(networks[0]), cost(networks[1])
    found = difference(*nets)
    if as_json:
        click.echo(json.dumps(_as_dict(networks, costs, found), indent=2))
        return
    from vggspec.cli.terminal import use_color

    bold = use_color(sys.stdout)
    head = (f"  {networks[0].name}", f"  {networks[1].name}")
    body = [head, *(_cells(row) for row in found.rows)]
    for line, row in zip(aligned(body), (None, *found.rows), strict=True):
        is_bold = bold and (row is None or not row.is_same)
        click.echo(click.style(line, bold=True) if is_bold else line)
    click.echo()
    names = ("", networks[0].name, networks[1].name, "difference")
    for line in aligned([names, *_totals(networks, costs)], right=(1, 2, 3)):
        click.echo(line)
    if found.changes:
        click.echo()
        rows = [
            (
                f"{change.section}:" if change.section else "",
                change.key,
                change.first,
                change.second,
            )
            for change in found.changes
        ]
        for line in aligned([("", "", networks[0].name, networks[1].name), *rows]):
            click.echo(line)
    if found.is_empty:
        click.echo("\nno difference")


def _cells(row: Row) -> tuple[str, str]:
    marks = ("  ", "  ") if row.is_same else ("- ", "+ ")
    first, second = (
        mark + op.write() if op else ""
        for mark, op in zip(marks, (row.first, row.second), strict=True)
    )
    return first, second


def _totals(
    networks: tuple[Network, Network], costs: tuple[Cost, Cost]
) -> list[tuple[str, str, str, str]]:
    numbers = {
        "weight layers": [len(network.weight_layers) for network in networks],
        "parameters": [each.parameters for each in costs],
        "MACs": [each.macs for each in costs],
    }
    return [
        (word, f"{one:,}", f"{other:,}", f"{other - one:+,}" if other != one else "0")
        for word, (one, other) in numbers.items()
    ]


def _as_dict(
    networks: tuple[Network, Network], costs: tuple[Cost, Cost], found: Difference
) -> dict[str, object]:
    first, second = (
        {
            "name": network.name,
            "input": list(network.input.type.shape),
            "weight_layers": len(network.weight_layers),
            "parameters": each.parameters,
            "macs": each.macs,
        }
        for network, each in zip(networks, costs, strict=True)
    )
    return {
        "first": first,
        "second": second,
        "layers": [
            {
                "first": row.first.write() if row.first else None,
                "second": row.second.write() if row.second else None,
                "same": row.is_same,
            }
            for row in found.rows
        ],
        "settings": [
            {
                "section": change.section or None,
                "key": change.key,
                "first": change.first,
                "second": change.second,
            }
            for change in found.changes
        ],
    }
