"""What all processes of a study share: how they start, fail and end."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import parent_process
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running

from vggspec.base.failure import ending

PR_SET_PDEATHSIG = 1  # of `prctl(2)`
PATIENCE_S = 5.0  # for a process that was told to end


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started in the block ignore Ctrl-C: this process ends them."""
    if sys.platform == "win32":
        yield
        return
    ensure_running()  # otherwise the first process starts it, which unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let the system end this process with the thread that started it, which waits for it, however
    that ends: a process within native code would notice once that returns. Only Linux does it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    parent = parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it ended before
        os._exit(1)


def how_it_ended(process: SpawnProcess) -> str:
    """In words, of a process that was lost; it is waited for."""
    process.join(PATIENCE_S)
    return ending(process.exitcode)


def end(process: SpawnProcess) -> None:
    """End a process, by force where it does not obey."""
    process.terminate()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()
