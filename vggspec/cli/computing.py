"""Options of every command that goes through a data set: where and how images are computed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from vggspec.studies.tasks.journal import Journal
    from vggspec.studies.tasks.task import R, Task
    from vggspec.studies.tasks.work import Effort

Command = TypeVar("Command", bound=Callable[..., Any])

limit_option = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only N images, taken evenly from all."
)

_COMPUTING = (
    click.option("--resume", is_flag=True, help="Resume the same command, which was interrupted."),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
        default="auto",
        help="Where the nets run; `tensorrt` loads a bundle's engine, which is native code.  "
        "[default: a CUDA device if there is one]",
    ),
    click.option(
        "--procs", type=click.IntRange(1), metavar="N", help="Share the images among N processes."
    ),
    click.option(
        "--gpus", type=click.IntRange(1), metavar="N", help="The same, each with a GPU of its own."
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        metavar="N",
        help="CPU threads of each process.  [default: all cores, shared among processes]",
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
    """Check that the values of ``computing_options`` go together.

    Raises:
        UsageError: they contradict each other.
    """
    if given["procs"] and given["gpus"]:
        raise click.UsageError("Give `--procs` or `--gpus`, not both: a GPU has one process.")
    if given["gpus"] and given["device"] == "cpu":
        raise click.UsageError("`--gpus` does not go with `--device cpu`.")


def computing_of(given: dict[str, Any]) -> "Effort":
    """The values of ``computing_options`` as the library takes them.

    Raises:
        UsageError: they contradict each other.
        MissingLibraryError: the machine has fewer GPUs.
    """
    from vggspec.studies.tasks.work import Effort

    check_computing(given)
    names = "device", "procs", "gpus", "threads", "batch_pixels", "resume"
    return Effort.of(**{name: given[name] for name in names})


# For commands whose work is not in the library yet.


def go_through(
    task: "Task[R]",
    kept: "Journal[R] | None",
    computing: "Effort",
    take: "Callable[[R], None]",
    *,
    doing: str,
    details: Callable[[], tuple[str, ...]] = tuple,
    take_again: "Callable[[R], bool] | None" = None,
    in_order: bool = False,
) -> None:
    """As ``work_through``, shown on standard error."""
    from vggspec.cli.progress import resumable
    from vggspec.studies.tasks.work import work_through

    with resumable() as watch:
        work_through(
            task,
            take,
            effort=computing,
            kept=kept,
            doing=doing,
            details=details,
            take_again=take_again,
            in_order=in_order,
            watch=watch,
        )


@contextmanager
def journal_of(task: "Task[R]", computing: "Effort") -> "Iterator[Journal[R] | None]":
    """As ``cached_journal``, with its notes on standard error."""
    from vggspec.cli.progress import shown
    from vggspec.studies.tasks.work import cached_journal

    with shown() as watch, cached_journal(task, computing, watch) as kept:
        yield kept
