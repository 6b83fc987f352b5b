"""``vggspec reproduce``: measure a table of the paper and compare it."""

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from vggspec.base.wording import count
from vggspec.cli.computing import check_computing
from vggspec.cli.evaluating import percents, print_errors, running_options
from vggspec.cli.progress import resumable
from vggspec.cli.terminal import wide_option
from vggspec.studies.paper import TableName

if TYPE_CHECKING:
    from vggspec.studies.reproduce import Reproduction

NOT_MEASURED = "-"


@click.command(
    "reproduce",
    epilog="""\b
Examples:
  vggspec reproduce table3 --data ILSVRC --weights weights
  vggspec reproduce table6 --data ILSVRC --weights weights --gpus 4
  vggspec reproduce table4 --data ILSVRC --weights weights --limit 1000""",
)
@click.argument("table", type=click.Choice(get_args(TableName)))
@click.option(
    "--data", "folder", required=True, metavar="DIR", help="ImageNet: class folders or shards."
)
@click.option(
    "--weights",
    required=True,
    metavar="DIR",
    help="Weights files by net and S: D-256.safetensors, D-384.safetensors, and "
    "D-256..512.safetensors or D.safetensors.",
)
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@wide_option
def command(
    table: TableName,
    *,
    folder: str,
    weights: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the rows of a table for which weights exist, and print the paper's numbers too.

    Table 3 is at one scale, 4 at several, 5 compares dense application with crops, 6 fuses two
    nets. The specs are those that come with vggspec.
    """
    from vggspec.studies.reproduce import reproduce

    check_computing(options)

    def finish(found: "Reproduction") -> None:
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        else:
            _print(found)

    with resumable() as watch:
        reproduce(table, folder, weights, **options, finish=finish, watch=watch)


def _print(found: "Reproduction") -> None:
    """A line for each row, the paper's errors beside the measured ones."""
    rows = [("net", "S", "Q", "evaluation")]
    errors = [("top-1 error", "paper", "top-5 error", "paper")]
    for one in found.rows:
        row = one.row
        rows.append(
            (
                " + ".join(net.net for net in row.nets),
                " + ".join(dict.fromkeys(net.scale for net in row.nets)),
                ", ".join(map(str, row.scales)),
                row.evaluation,
            )
        )
        measured = (NOT_MEASURED, NOT_MEASURED) if one.errors is None else percents(one.errors)
        errors.append((measured[0], f"{row.top1:.1f}", measured[1], f"{row.top5:.1f}"))
    click.echo(f"{found.title} of the paper, on {count(found.images, 'image')}")
    click.echo()
    print_errors(rows, errors)
