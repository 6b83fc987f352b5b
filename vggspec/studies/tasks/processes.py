"""A task's images, shared among processes that each load the nets.

Each of N processes computes every N-th image. This process collects the results, and ends the
others when it ends itself, for whatever reason.
"""

import contextlib
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from vggspec.base.catalogue.evaluating import LostProcess
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.failure import Failure
from vggspec.base.optional import silence_pillow
from vggspec.base.processors import processors
from vggspec.studies.child_process import end, end_with_parent, how_it_ended, without_interrupts
from vggspec.studies.tasks.task import R, Task

VISIBLE = "CUDA_VISIBLE_DEVICES"

#: Results of a process that wait for their turn, where order is required. At most as many arrive at
#: once, ``pipeline.ROUND_IMAGES``, so a process computes while others are waited for.
AHEAD = 512

Running = dict[Connection, SpawnProcess]


def results_by(
    task: Task[R],
    indices: Sequence[int],
    procs: int,
    *,
    on_gpus: bool = False,
    first_gpu: int = 0,
    in_order: bool = False,
) -> Generator[R, None, None]:
    """A task's results for these images as they come, from ``procs`` processes if that is above 1.

    ``on_gpus`` gives each process a GPU of its own, from ``first_gpu``. ``in_order`` returns the
    results in the order of ``indices``, and holds few of them in memory.

    Raises:
        VggspecError: as the task, or a process was killed.
        MissingLibraryError: as the task.
    """
    if procs == 1 and not first_gpu:
        yield from task.results(indices)
        return
    if task.threads is None:
        task = task.with_threads(max(1, processors() // procs))
    with contextlib.ExitStack() as stack:
        running: Running = {}
        for i in range(min(procs, len(indices))):
            gpu = _gpu(first_gpu + i) if on_gpus else None
            process, connection = _start(task, list(indices[i::procs]), gpu)
            stack.callback(end, process)
            running[stack.enter_context(connection)] = process
        if in_order:
            yield from _in_turn(running)
        yield from _as_they_come(running)


def _as_they_come(running: Running) -> Iterator[Any]:
    while running:
        for _, result in _received(running, list(running)):
            yield result


def _in_turn(running: Running) -> Iterator[Any]:
    """The results in the order of the images; each process computes every N-th.

    A process that is far ahead is not read from, and waits.
    """
    waiting: dict[Connection, deque[Any]] = {connection: deque() for connection in running}
    for its_turn in cycle(waiting):
        while not waiting[its_turn]:
            if its_turn not in running:
                return
            near = [each for each in running if len(waiting[each]) < AHEAD]
            for connection, result in _received(running, near):
                waiting[connection].append(result)
        yield waiting[its_turn].popleft()


def _received(running: Running, some: Sequence[Connection]) -> Iterator[tuple[Connection, Any]]:
    """The next results of some processes; finished processes are removed from ``running``."""
    for ready in wait(some):
        assert isinstance(ready, Connection)
        message = _message(ready, running[ready])
        if isinstance(message, Failure):
            raise message.raised()
        if message is None:
            del running[ready]
        else:
            yield ready, message


def _start(
    task: Task[Any], indices: list[int], gpu: str | None
) -> tuple[SpawnProcess, "Connection"]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, indices, gpu, theirs), daemon=True)
    with theirs, without_interrupts():
        process.start()
    return process, ours


def _work(task: Task[Any], indices: Sequence[int], gpu: str | None, connection: Connection) -> None:
    """The work of a process."""
    end_with_parent()
    silence_pillow()
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # before CUDA is loaded
    with contextlib.suppress(BrokenPipeError):  # nobody reads any more
        try:
            with contextlib.closing(task.results(indices)) as results:
                for result in results:
                    connection.send(result)
            connection.send(None)
        except (VggspecError, MissingLibraryError) as error:
            connection.send(Failure.of(error))


def _message(connection: Connection, process: SpawnProcess) -> Any:
    """A result, a ``Failure``, or None, the last message."""
    try:
        return connection.recv()
    except (EOFError, OSError) as error:  # it ended between two messages or within one
        raise VggspecError(report(LostProcess(how=how_it_ended(process)))) from error


def _gpu(number: int) -> str:
    """The GPU of a process, among those that this process may use."""
    visible = [each.strip() for each in os.environ.get(VISIBLE, "").split(",") if each.strip()]
    return visible[number] if number < len(visible) else str(number)
