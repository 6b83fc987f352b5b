"""An evaluation's images shared among processes, each of which loads the nets of its own.

Every process takes each N-th of the images. This one gathers what they say, watches over them, and
ends them when it ends itself, however that comes about.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running

from vggspec.catalogue.evaluating import LostProcess
from vggspec.diagnostic import MissingLibraryError, Report, VggspecError, report
from vggspec.runtime.evaluation.answers import Result, answer
from vggspec.runtime.evaluation.question import Question

VISIBLE = "CUDA_VISIBLE_DEVICES"
PATIENCE_S = 5.0  # for a process that was asked to end


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a process gave up."""

    reports: tuple[Report, ...] = ()
    lacking: str | None = None
    """The message about a library that is not installed."""

    def raised(self) -> VggspecError | MissingLibraryError:
        return VggspecError(*self.reports) if self.reports else MissingLibraryError(self.lacking)


_Message = Result | _Failure | None
"""None is the last one."""


def answer_by(
    question: Question, indices: Sequence[int], procs: int, *, on_gpus: bool = False
) -> Generator[Result, None, None]:
    """What the nets say of these images, as it comes; by ``procs`` processes where that is above 1.

    ``on_gpus`` gives each process a GPU of its own.

    Raises:
        VggspecError: as ``answer``, or a process was killed.
        MissingLibraryError: as ``answer``.
    """
    if procs == 1:
        yield from answer(question, indices)
        return
    if question.threads is None:
        question = replace(question, threads=max(1, (os.cpu_count() or 1) // procs))
    with contextlib.ExitStack() as stack:
        running: dict[Connection, SpawnProcess] = {}
        for i in range(min(procs, len(indices))):
            gpu = _gpu(i) if on_gpus else None
            process, connection = _start(question, list(indices[i::procs]), gpu)
            stack.callback(_end, process)
            running[stack.enter_context(connection)] = process
        while running:
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                message = _received(ready, running[ready])
                if isinstance(message, _Failure):
                    raise message.raised()
                if message is None:
                    del running[ready]
                else:
                    yield message


def _start(
    question: Question, indices: list[int], gpu: str | None
) -> tuple[SpawnProcess, "Connection"]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(question, indices, gpu, theirs), daemon=True)
    with theirs, _without_interrupts():
        process.start()
    return process, ours


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started in the block never sees Ctrl-C: it is this process that ends the others."""
    if sys.platform == "win32":
        yield
        return
    ensure_running()  # else the first process starts it, which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    question: Question, indices: Sequence[int], gpu: str | None, connection: Connection
) -> None:
    """What a process does."""
    if gpu is not None:
        os.environ[VISIBLE] = gpu  # before anything of CUDA is loaded
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        try:
            with contextlib.closing(answer(question, indices)) as results:
                for result in results:
                    connection.send(result)
            connection.send(None)
        except VggspecError as error:
            connection.send(_Failure(reports=error.reports))
        except MissingLibraryError as error:
            connection.send(_Failure(lacking=str(error)))


def _received(connection: Connection, process: SpawnProcess) -> _Message:
    try:
        message: _Message = connection.recv()
    except EOFError as error:
        process.join(PATIENCE_S)
        raise VggspecError(report(LostProcess(how=_how(process.exitcode)))) from error
    return message


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _end(process: SpawnProcess) -> None:
    process.terminate()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()


def _gpu(number: int) -> str:
    """The GPU of a process, among those that this one may use."""
    visible = [each.strip() for each in os.environ.get(VISIBLE, "").split(",") if each.strip()]
    return visible[number] if number < len(visible) else str(number)
