"""How images are computed, for every command that goes through a data set: options, progress,
sharing, going on.
"""

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vggspec.base.wording import count
from vggspec.cli.pacing import pacing
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from vggspec.base.diagnostic import VggspecError
    from vggspec.runtime.session import Device
    from vggspec.studies.tasks.journal import Journal
    from vggspec.studies.tasks.task import R, Task

Command = TypeVar("Command", bound=Callable[..., Any])

limit_option = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only N images, taken evenly from all."
)

_COMPUTING = (
    click.option("--resume", is_flag=True, help="Go on where the same command was interrupted."),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """What ``computing_options`` says."""

    resume: bool
    device: "Device"
    procs: int
    on_gpus: bool
    threads: int | None
    batch_pixels: int | None


def computing_of(given: dict[str, Any]) -> Computing:
    """The values of ``computing_options``.

    Raises:
        MissingLibraryError: there are not as many GPUs.
    """
    return Computing(**computing_facts(given))


def computing_facts(given: dict[str, Any]) -> dict[str, Any]:
    """The values of ``computing_options`` by the names of ``Computing``'s fields.

    Raises:
        MissingLibraryError: there are not as many GPUs.
    """
    procs, gpus = given["procs"], given["gpus"]
    if procs and gpus:
        raise click.UsageError("Give `--procs` or `--gpus`, not both: a GPU has one process.")
    device = given["device"]
    if gpus:
        if device == "cpu":
            raise click.UsageError("`--gpus` does not go with `--device cpu`.")
        _check_gpus(gpus)
        device = "cuda" if device == "auto" else device
    return {
        "resume": given["resume"],
        "device": device,
        "procs": procs or gpus or 1,
        "on_gpus": bool(gpus),
        "threads": given["threads"],
        "batch_pixels": given["batch_pixels"],
    }


def _check_gpus(wanted: int) -> None:
    from vggspec.base.diagnostic import MissingLibraryError
    from vggspec.runtime.machine import this_machine

    here = len(this_machine().gpus)
    if wanted > here:
        raise MissingLibraryError(f"{count(wanted, 'GPU')} asked for, and this machine has {here}")


def go_through(
    task: "Task[R]",
    kept: "Journal[R] | None",
    computing: Computing,
    take: "Callable[[R], None]",
    *,
    doing: str,
    more: Callable[[], tuple[str, ...]] = tuple,
    take_again: "Callable[[R], bool] | None" = None,
    in_order: bool = False,
) -> None:
    """Hand over what is found out about every image of a task, and keep it as it comes.

    With ``--resume`` what was kept at an earlier time goes before the rest, to ``take_again``, or
    ``take`` where there is none. ``take_again`` says whether a result is of any use; those that
    follow one that is not are found out anew. ``more`` tells of how it goes. ``in_order`` gives the
    results in the order of the task's images.

    Raises:
        VggspecError: a net fails, or as ``take``.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """
    from vggspec.base.diagnostic import VggspecError
    from vggspec.studies.tasks.processes import results_by

    total = len(task.indices)
    done: set[int] = set()

    def accept(result: "R") -> bool:
        if take_again is None:
            take(result)
        elif not take_again(result):
            return False
        done.add(result.index)
        return True

    if kept is not None and computing.resume:
        wrong = kept.take_up(accept)
        if wrong is not None:
            say("note", f"of the journal, {wrong}; that and what follows is computed again")
    elif kept is not None:
        if not kept.is_empty:
            say("note", "an interrupted run is begun anew; --resume would go on with it")
        kept.clear()
    if computing.resume:
        say("note", f"{len(done) or 'none'} of {count(total, 'image')} were done before")
    left = [index for index in task.indices.tolist() if index not in done]
    procs, on_gpus = computing.procs, computing.on_gpus
    with (
        _interruptible(done, total, can_go_on=kept is not None),
        pacing(doing, total, "images", before=len(done)) as show,
    ):
        for result in results_by(task, left, procs, on_gpus=on_gpus, in_order=in_order):
            if kept is not None:
                try:
                    kept.add(result)
                except VggspecError as error:
                    _say_not_kept("what is found from here on", error)
                    kept = None
            done.add(result.index)
            take(result)
            show(len(done), *more())


@contextlib.contextmanager
def _interruptible(done: Collection[int], total: int, *, can_go_on: bool) -> Iterator[None]:
    """Say how far it came where it is interrupted, and leave with the exit code of that."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as leaving:
        code = 128 + signal.SIGINT if isinstance(leaving, KeyboardInterrupt) else leaving.code
        more = "; --resume goes on" if can_go_on and done else ""
        click.echo(f"interrupted after {len(done)} of {count(total, 'image')}{more}", err=True)
        raise click.exceptions.Exit(code if isinstance(code, int) else 1) from leaving


@contextlib.contextmanager
def journal_of(task: "Task[R]", computing: Computing) -> "Iterator[Journal[R] | None]":
    """The journal of an evaluation; None, and a note, where the cache folder cannot be used.

    Raises:
        VggspecError: another process writes it, or it is to be gone on with and cannot be read.
    """
    from vggspec.base.catalogue.artefacts import CannotWrite
    from vggspec.base.diagnostic import VggspecError
    from vggspec.studies.tasks.journal import evaluation_path, journal

    with contextlib.ExitStack() as stack:
        path, kept = evaluation_path(task.digest()), None
        if path is None:
            say("note", "what is found is not kept for --resume: there is no home folder")
        else:
            try:
                kept = stack.enter_context(journal(task, path))
            except VggspecError as error:
                is_refused = isinstance(error.reports[0].what, CannotWrite)
                if not is_refused or (computing.resume and not _is_absent(path)):
                    raise
                _say_not_kept("what is found", error)
        yield kept


def _is_absent(path: "Path") -> bool:
    """Whether there is surely nothing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _say_not_kept(what: str, error: "VggspecError") -> None:
    refusal = error.reports[0]
    say("note", f"{what} is not kept for --resume: {refusal.path}: {refusal.what.title()}")
