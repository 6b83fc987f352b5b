"""``vggspec reproduce``: a table of the paper, measured beside printed."""

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from vggspec.base.wording import count
from vggspec.cli.computing import check_computing
from vggspec.cli.evaluating import NARROW, percent, running_options, tabulated, wide_option
from vggspec.cli.progress import resumable
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
    is_wide: bool,
    **options: Any,
) -> None:
    """Measure the rows of a table for which there are weights, beside the paper's numbers.

    Table 3 is at one scale, 4 at several, 5 compares dense application with crops, 6 fuses two
    nets. The specs are those that come with vggspec.
    """
    from vggspec.studies.reproduce import reproduce

    check_computing(options)

    def finish(found: "Reproduction") -> None:
        if as_json:
            click.echo(json.dumps(found.as_data(), indent=2))
        else:
            click.echo("\n".join(in_table(found, is_wide=is_wide)))

    with resumable() as watch:
        reproduce(table, folder, weights, **options, finish=finish, watch=watch)


def in_table(found: "Reproduction", *, is_wide: bool = False) -> list[str]:
    """A line for each row, the paper's errors beside the measured ones."""
    head = "net", "S", "Q", "evaluation"
    full = [(*head, "top-1 error", "paper", "top-5 error", "paper")]
    narrow = [(*head, "top-1", "paper", "top-5", "paper")]
    for one in found.rows:
        row, errors = one.row, one.errors
        words = (
            " + ".join(net.net for net in row.nets),
            " + ".join(dict.fromkeys(net.scale for net in row.nets)),
            ", ".join(map(str, row.scales)),
            row.evaluation,
        )
        paper1, paper5 = f"{row.top1:.1f}", f"{row.top5:.1f}"
        long1 = long5 = short1 = short5 = NOT_MEASURED
        if errors is not None:
            long1, long5 = (
                percent(share, errors.images) for share in (errors.top1_error, errors.top5_error)
            )
            short1, short5 = f"{100 * errors.top1_error:.2f}", f"{100 * errors.top5_error:.2f}"
        full.append((*words, long1, paper1, long5, paper5))
        narrow.append((*words, short1, paper1, short5, paper5))
    title = f"{found.title} of the paper, on {count(found.images, 'image')}"
    right, wrap = (4, 5, 6, 7), (3,)
    lines = tabulated(full, narrow, right=right, wrap=wrap, is_wide=is_wide, note=NARROW)
    return [title, "", *lines]
