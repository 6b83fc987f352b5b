"""What all processes of a study share: how they start, fail and end."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running

from vggspec.base.diagnostic import MissingLibraryError, Report, VggspecError

PATIENCE_S = 5.0  # for a process that was told to end


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a process stopped."""

    reports: tuple[Report, ...] = ()
    lacking: str | None = None
    """The message about a missing library."""

    @staticmethod
    def of(error: VggspecError | MissingLibraryError) -> "Failure":
        """The failure that ``raised`` turns into the error again."""
        if isinstance(error, VggspecError):
            return Failure(reports=error.reports)
        return Failure(lacking=str(error))

    def raised(self) -> VggspecError | MissingLibraryError:
        """The error, to be raised in another process."""
        return VggspecError(*self.reports) if self.reports else MissingLibraryError(self.lacking)


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


def how_it_ended(process: SpawnProcess) -> str:
    """In words, of a process that was lost; it is waited for."""
    process.join(PATIENCE_S)
    code = process.exitcode
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def end(process: SpawnProcess) -> None:
    """End a process, by force where it does not obey."""
    process.terminate()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        process.join()
