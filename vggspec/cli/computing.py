"""Options of every command that goes through a data set: where and how images are computed."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from vggspec.base.arguments import MAX_THREADS, Device

THREADS = click.IntRange(1, MAX_THREADS)

DEVICES: tuple[str, ...] = get_args(Device)

Command = TypeVar("Command", bound=Callable[..., Any])

limit_option = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only N images, taken evenly from all."
)

_COMPUTING = (
    click.option("--resume", is_flag=True, help="Resume the same command after an interruption."),
    click.option(
        "--device",
        type=click.Choice(DEVICES),
        default="auto",
        help="Where the nets run; `tensorrt` loads a bundle's engine, which is native code.  "
        "[default: a CUDA device if there is one; on a CPU OpenVINO where it was measured ahead]",
    ),
    click.option(
        "--procs", type=click.IntRange(1), metavar="N", help="Share the images among N processes."
    ),
    click.option(
        "--gpus",
        type=click.IntRange(1),
        metavar="N",
        help="Share the images among N processes, each with its own GPU.",
    ),
    click.option(
        "--threads",
        type=THREADS,
        metavar="N",
        help="CPU threads of each process.  [default: all allowed cores, shared among processes]",
    ),
    click.option(
        "--batch",
        "batch_pixels",
        type=click.IntRange(1),
        metavar="PIXELS",
        help="The largest batch; one image always fits.  [default: 524288 on a CPU, 4194304 on a "
        "GPU]",
    ),
)


def computing_options(command: Command) -> Command:
    """Options that say how images are computed."""
    for option in reversed(_COMPUTING):
        command = option(command)
    return command


def check_computing(given: dict[str, Any]) -> None:
    """Check that the values of ``computing_options`` are compatible.

    Raises:
        UsageError: they contradict each other.
    """
    if given["procs"] and given["gpus"]:
        raise click.UsageError("Give `--procs` or `--gpus`, not both: a GPU has one process.")
    if given["gpus"] and given["device"] == "cpu":
        raise click.UsageError("`--gpus` cannot be used with `--device cpu`.")
