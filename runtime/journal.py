"""What a task has found out so far, a line an image, so that an interrupted one can go on.

The file is named after a digest of everything that the results depend on, so none is taken up by
another task. It is removed once the task is done and told.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Generic

from vggspec.catalogue.evaluating import JournalInUse
from vggspec.diagnostic import VggspecError, report
from vggspec.files import cache_folder, refusals
from vggspec.runtime.task import R, Task

FOLDER = "evals"


def evaluation_path(digest: str) -> Path | None:
    """Where the journal of an evaluation lies, in the user's cache folder; None without one."""
    folder = cache_folder()
    return None if folder is None else folder / FOLDER / f"{digest}.jsonl"


class Journal(Generic[R]):
    """Where the results of a task are written down."""

    def __init__(self, task: Task[R], path: Path, file: IO[bytes]) -> None:
        self._task = task
        self._path = path
        self._file = file

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to go on with."""
        return os.fstat(self._file.fileno()).st_size == 0

    def take_up(self, accept: Callable[[R], bool]) -> None:
        """Hand over the results of an earlier time, one by one.

        From the first line on that is torn or damaged, or whose result is not accepted, all is cut
        off.

        Raises:
            VggspecError: the system refuses.
        """
        asked = set(self._task.indices.tolist())
        end = 0
        with refusals(self._path):
            self._file.seek(0)
            lines = self._file.read().splitlines(keepends=True)
        for line in lines:
            result = self._result(line)
            if result is None or result.index not in asked or not accept(result):
                break
            asked.remove(result.index)
            end += len(line)
        self._cut(end)

    def add(self, result: R) -> None:
        """Write a result down.

        Raises:
            VggspecError: the system refuses.
        """
        with refusals(self._path):
            self._file.write(json.dumps(self._task.as_data(result)).encode() + b"\n")

    def clear(self) -> None:
        """Forget everything: it has been told, or is worth nothing.

        Raises:
            VggspecError: the system refuses.
        """
        self._cut(0)

    def _cut(self, end: int) -> None:
        with refusals(self._path):
            self._file.truncate(end)

    def _result(self, line: bytes) -> R | None:
        try:
            return self._task.from_data(json.loads(line)) if line.endswith(b"\n") else None
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


@contextmanager
def journal(task: Task[R], path: Path) -> Iterator[Journal[R]]:
    """The task's journal at ``path``, made where there is none, and removed if it ends up empty.

    Raises:
        VggspecError: another process writes it, or the system refuses.
    """
    with _held(path) as file:
        kept = Journal(task, path, file)
        try:
            yield kept
        finally:
            if kept.is_empty:
                with suppress(OSError):  # it does no harm
                    path.unlink()


def _held(path: Path) -> IO[bytes]:
    """The file at ``path``, which no other process has."""
    while True:
        with refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not buffered: what was written is in the file, however this process ends.
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed by who gets it)
        try:
            _hold(file, path)
            with refusals(path):
                if _is_at(path, file):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # before it was locked, the process that had it removed it


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _hold(file: IO[bytes], path: Path) -> None:
    """Keep other processes out, as long as the file is open."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise VggspecError(report(JournalInUse(), path=str(path))) from error
    except OSError:
        pass  # a file system without locks
