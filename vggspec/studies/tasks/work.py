"""Going through the images of a task: shared among processes, resumable, watched.

Evaluation, localisation and features go through their images by ``work_through``.

Processes are spawned: a script that asks for several must guard its code by ``if __name__ ==
"__main__":``, as for ``multiprocessing``. A notebook needs no guard.
"""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggspec.base.arguments import Device, check_choice, check_flag, check_threads, check_whole
from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, VggspecError
from vggspec.base.processors import processors
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.base.wording import count
from vggspec.runtime.machine import this_machine
from vggspec.studies.tasks.journal import Journal, evaluation_path, journal
from vggspec.studies.tasks.processes import VISIBLE, results_by
from vggspec.studies.tasks.ranks import Ranks, Sharing, joined
from vggspec.studies.tasks.task import R, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Where and how images are computed."""

    device: Device = "auto"
    procs: int = 1
    """Processes that share the images."""

    on_gpus: bool = False
    """Whether each process has a GPU of its own."""

    threads: int | None = None
    """CPU threads of each process; None shares all cores among the processes."""

    batch_pixels: int | None = None
    """The largest batch; None uses ``pipeline.BATCH_PIXELS``. One image always fits."""

    resume: bool = False
    """Whether to resume an interrupted run of the same task."""

    ranks: Ranks | None = None
    """The ranks that share the images; None if this process is alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes, and does not only compute its part."""
        return self.ranks is None or self.ranks.is_first

    @property
    def machines(self) -> int:
        """How many machines share the images."""
        return 1 if self.ranks is None else self.ranks.size // self.ranks.local_size

    def watcher(self, watch: Watcher) -> Watcher:
        """``watch`` on rank 0; the other ranks report nothing."""
        return watch if self.is_first else SILENT

    @classmethod
    def of(
        cls,
        *,
        device: Device = "auto",
        procs: int | None = None,
        gpus: int | None = None,
        threads: int | None = None,
        batch_pixels: int | None = None,
        resume: bool = False,
        is_shared: bool = True,
    ) -> "Effort":
        """An effort from the options that every command shares: ``gpus`` processes, each with a
        GPU, or ``procs`` processes. If it ``is_shared`` and a launcher started this process as one
        of several ranks, they meet here.

        Raises:
            ArgumentError: the options contradict each other, a number is out of range, or there is
                no such ``device``.
            TypeError: a number is not a whole one.
            MissingLibraryError: the machine has fewer GPUs, or ranks lack PyTorch.
            VggspecError: the ranks cannot meet.
        """
        check_choice("device", device, Device)
        check_threads(threads)
        for name, number in {"procs": procs, "gpus": gpus, "batch_pixels": batch_pixels}.items():
            check_whole(name, number, least=1)
        check_flag("resume", resume)
        if procs and gpus:
            raise ArgumentError("`procs` and `gpus` exclude each other: each GPU has one process")
        if gpus:
            if device == "cpu":
                raise ArgumentError("`gpus` cannot be used with the device `cpu`")
            _check_gpus(gpus)
            device = "cuda" if device == "auto" else device
        return cls(
            device=device,
            procs=procs or gpus or 1,
            on_gpus=bool(gpus),
            threads=threads,
            batch_pixels=batch_pixels,
            resume=resume,
            ranks=joined() if is_shared else None,
        )


def _check_gpus(number: int) -> None:
    here = len(this_machine().gpus)
    if number > here:
        raise MissingLibraryError(f"{count(number, 'GPU')} asked for, and this machine has {here}")


def work_through(
    task: Task[R],
    take: Callable[[R], None],
    *,
    effort: Effort,
    kept: Journal[R] | None,
    doing: str,
    details: Callable[[], tuple[str, ...]] = tuple,
    take_again: Callable[[R], bool] | None = None,
    as_message: Callable[[R], dict[str, Any]] | None = None,
    in_order: bool = False,
    watch: Watcher = SILENT,
) -> None:
    """Compute a task and pass each result to ``take``, after adding it to the journal ``kept``.

    Ranks share the images: each computes a part, and ``take`` receives all results on each of them,
    on ranks other than 0 as ``as_data`` keeps them.

    When resuming, results of the journal come first. They go to ``take_again``, by default
    ``take``; if it returns False, that result and all that follow are computed again. The journal
    is never cleared at the end: the caller does that once the results are used.

    Args:
        task: What to compute.
        take: Takes a result.
        effort: How to compute it.
        kept: The task's journal; None keeps nothing.
        doing: What progress calls the work, such as ``testing``.
        details: Returns what else is known so far, for progress.
        take_again: Takes a result of the journal; returns whether it can be used.
        as_message: Turns a result into the JSON that travels to rank 0; by default ``as_data``.
        in_order: Whether results come in the order of the task's images.
        watch: Receives the progress, and problems with the journal.

    Raises:
        VggspecError: a net fails, or ``take`` raises it.
        MissingLibraryError: the device was requested by name and is not available.
    """
    total = len(task.indices)
    done: set[int] = set()
    ranks = effort.ranks
    sharing = None
    if ranks is not None:
        share = task if task.threads else task.with_threads(_threads(ranks, effort.procs))
        sharing = Sharing(
            ranks=ranks,
            task=task,
            compute=lambda indices: _computed(share, indices, effort, in_order=in_order),
            as_message=as_message or task.as_data,
            in_order=in_order,
        )
        if not ranks.is_first:
            _work_for_first(sharing, take, effort, kept)
            return
    known: list[R] = []

    def accept(result: R) -> bool:
        if take_again is None:
            take(result)
        elif not take_again(result):
            return False
        done.add(result.index)
        if sharing is not None:
            known.append(result)
        return True

    if kept is not None and effort.resume:
        wrong = kept.take_up(accept)
        if wrong is not None:
            watch.note(f"of the journal, {wrong}; that and what follows is computed again")
        if not in_order:
            found: list[R] = []
            kept.take_up_others(found.append)
            for result in found:
                kept.add(result)
                accept(result)
    elif kept is not None:
        if not kept.is_empty:
            watch.note("an interrupted run is discarded; --resume would have resumed it")
        kept.clear()
    if effort.resume:
        watch.note(f"{len(done) or 'none'} of {count(total, 'image')} were done before")
    before, can_resume = len(done), kept is not None

    def show() -> None:
        watch.progress(
            Progress(
                doing=doing,
                done=len(done),
                total=total,
                unit="images",
                before=before,
                details=details(),
                can_resume=can_resume,
            )
        )

    show()
    if sharing is None:
        left = [index for index in task.indices.tolist() if index not in done]
        results = _computed(task, left, effort, in_order=in_order)
    else:
        results = sharing.results(known, watch.note)
    with contextlib.closing(results):
        try:
            for result in results:
                if kept is not None:
                    try:
                        kept.add(result)
                    except VggspecError as error:
                        _note_not_kept("further results are", error, watch)
                        kept = None
                done.add(result.index)
                take(result)
                show()
        except (KeyboardInterrupt, SystemExit):
            show()  # the watcher knows how far it came
            raise
    if sharing is not None:
        sharing.give_back()


def _work_for_first(
    sharing: Sharing[R], take: Callable[[R], None], effort: Effort, kept: Journal[R] | None
) -> None:
    """The work of a rank other than 0."""
    known: dict[int, R] = {}

    def accept(result: R) -> bool:
        known[result.index] = result
        return True

    if kept is not None and effort.resume:
        kept.take_up(accept)
        kept.take_up_others(accept)
    elif kept is not None:
        kept.clear()

    def keep(result: R) -> None:
        if kept is not None:
            with contextlib.suppress(VggspecError):  # rank 0 keeps it too
                kept.add(result)

    with contextlib.closing(sharing.work(known, keep)) as results:
        for result in results:
            take(result)


def _computed(
    task: Task[R], indices: Sequence[int], effort: Effort, *, in_order: bool
) -> Generator[R, None, None]:
    """The results that this machine, or this rank's part of it, computes."""
    first = _first_gpu(effort)
    return results_by(
        task,
        indices,
        effort.procs,
        on_gpus=effort.on_gpus or first > 0,
        first_gpu=first,
        in_order=in_order,
    )


def _first_gpu(effort: Effort) -> int:
    """The number of the first GPU of this rank; ranks of a machine take one after the other."""
    ranks = effort.ranks
    if ranks is None or not ranks.local_rank or effort.device not in ("auto", "cuda", "tensorrt"):
        return 0
    visible = os.environ.get(VISIBLE)
    here = len(this_machine().gpus if visible is None else visible.split(","))
    first = ranks.local_rank * effort.procs
    return first if first + effort.procs <= here else 0  # the launcher gave each rank its own


def _threads(ranks: Ranks, procs: int) -> int:
    return max(1, processors() // (ranks.local_size * procs))


@contextlib.contextmanager
def cached_journal(
    task: Task[R], effort: Effort, watch: Watcher = SILENT
) -> Iterator[Journal[R] | None]:
    """The task's journal in the user's cache folder; None, and a note, if that cannot be used.

    Raises:
        VggspecError: another process writes it, or the run is resumed and it cannot be read.
    """
    with contextlib.ExitStack() as stack:
        rank = 0 if effort.ranks is None else effort.ranks.rank
        path, kept = evaluation_path(task.digest(), rank), None
        if path is None:
            watch.note("results are not kept for --resume: there is no home folder")
        else:
            try:
                kept = stack.enter_context(journal(task, path))
            except VggspecError as error:
                is_refused = isinstance(error.reports[0].what, CannotWrite)
                if not is_refused or (effort.resume and not _is_absent(path)):
                    raise
                _note_not_kept("results are", error, watch)
        yield kept


def _is_absent(path: Path) -> bool:
    """Whether it is certain that nothing is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _note_not_kept(what: str, error: VggspecError, watch: Watcher) -> None:
    refusal = error.reports[0]
    watch.note(f"{what} not kept for --resume: {refusal.path}: {refusal.what.title()}")
