"""The results of a task so far, a line for each image, from which an interrupted task is resumed.

The file is named after a digest of everything that the results depend on, so no other task can use
it. It is removed once the results are used.

    3f2a90c1 {"index": 7, …}

A line begins with the CRC-32 of the rest, in eight hexadecimal digits, which detects numbers that
changed on the disk. An interruption may leave the last line torn.
"""

import glob
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Generic

from vggspec.base.catalogue.evaluating import JournalInUse
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, parse_object
from vggspec.base.files import cache_folder, refusals
from vggspec.base.locking import lock
from vggspec.base.regular_files import regular
from vggspec.studies.tasks.task import R, Task

FOLDER = "evals"

PATIENCE_S = 0.5
"""How long a journal is waited for: rank 0 holds those of other ranks while it removes them."""

LOOK_S = 0.01

MAX_LINE_BYTES = 1 << 20
"""An image of an evaluation takes 300, an image with boxes a few hundred for each class on it."""


def evaluation_path(digest: str, rank: int = 0) -> Path | None:
    """The path of a task's journal in the user's cache folder; None without such a folder. Ranks
    that share the folder have a journal each.
    """
    folder = cache_folder()
    of_rank = f".rank-{rank}" if rank else ""
    return None if folder is None else folder / FOLDER / f"{digest}{of_rank}.jsonl"


class Journal(Generic[R]):
    """The file with the results of a task."""

    def __init__(self, task: Task[R], path: Path, file: IO[bytes]) -> None:
        self._task = task
        self._path = path
        self._file = file
        self._asked: set[int] = set()
        """The images without a result, once the results are taken up."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no results to resume from."""
        return os.fstat(self._file.fileno()).st_size == 0

    def take_up(self, accept: Callable[[R], bool]) -> str | None:
        """Pass the results of an earlier run to ``accept``, one by one.

        The journal is cut at the first line that is torn or damaged, or whose result is not
        accepted. Returns what is wrong with that line; None if all lines are sound, or if it is the
        last line and torn or not accepted, as an interruption leaves it.

        Raises:
            VggspecError: the system refuses.
        """
        asked = self._asked = set(self._task.indices.tolist())
        end, wrong = 0, None
        lines = self._lines()
        for number, line in enumerate(lines, start=1):
            try:
                result = self._result(line)
                if result.index not in asked:
                    raise BadFieldError("its image occurs twice, or is not one of the task's")
            except BadFieldError as error:
                is_torn = not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES
                wrong = None if is_torn else f"line {number}: {error}"
                break
            if not accept(result):
                is_last = next(lines, None) is None  # the file it refers to was not written in time
                wrong = None if is_last else f"line {number}: what it refers to is missing"
                break
            asked.remove(result.index)
            end += len(line)
        self._cut(end)
        return wrong

    def take_up_others(self, accept: Callable[[R], object]) -> None:
        """Pass the results that other ranks left in the same folder, and that this journal lacks,
        to ``accept``. A journal is read as far as its lines are sound.

        Raises:
            VggspecError: the system refuses.
        """
        for path in self._others():
            with refusals(path), open(path, "rb", opener=regular) as file:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    try:
                        result = self._result(line)
                    except BadFieldError:
                        break
                    if result.index in self._asked:
                        self._asked.remove(result.index)
                        accept(result)

    def _others(self) -> list[Path]:
        first = self._path.with_name(f"{self._stem}{self._path.suffix}")
        of_ranks = f"{glob.escape(self._stem)}.rank-*{self._path.suffix}"
        found = [first, *sorted(self._path.parent.glob(of_ranks))]
        return [path for path in found if path != self._path and path.is_file()]

    @property
    def _stem(self) -> str:
        """The name of rank 0's journal, without its suffix."""
        return re.sub(r"\.rank-\d+$", "", self._path.stem)

    def _lines(self) -> Iterator[bytes]:
        with refusals(self._path):
            self._file.seek(0)
            # A second descriptor: writing is unbuffered, and reading that way takes a call a byte.
            with open(os.dup(self._file.fileno()), "rb") as file:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    yield line

    def add(self, result: R) -> None:
        """Append a result.

        Raises:
            VggspecError: the system refuses.
        """
        with refusals(self._path):
            self._file.write(_line(json.dumps(self._task.as_data(result)).encode()))

    def clear(self) -> None:
        """Remove all results: they are used, or cannot be used. With rank 0's go those that other
        ranks left in the same folder, unless one writes them now.

        Raises:
            VggspecError: the system refuses.
        """
        self._cut(0)
        for path in self._others() if self._path.stem == self._stem else ():
            with suppress(OSError, VggspecError), _held(path, patience_s=0):
                path.unlink()

    def _cut(self, end: int) -> None:
        with refusals(self._path):
            self._file.truncate(end)

    def _result(self, line: bytes) -> R:
        """The result in a line.

        Raises:
            BadFieldError: it is torn or damaged, or not a result of this task.
        """
        data = line[9:-1]
        if line.startswith(b"{"):
            raise BadFieldError("an earlier version wrote it, without a checksum")
        if _line(data) != line:
            raise BadFieldError("its checksum is wrong")
        return self._task.from_data(parse_object(data))


def _line(data: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(data), data)


@contextmanager
def journal(task: Task[R], path: Path) -> Iterator[Journal[R]]:
    """The task's journal at ``path``: created if missing, and removed if it ends up empty.

    Raises:
        VggspecError: another process writes it, or the system refuses.
    """
    with _held(path) as file:
        kept = Journal(task, path, file)
        try:
            yield kept
        finally:
            if kept.is_empty:
                with suppress(OSError):  # an empty file does no harm
                    path.unlink()


def _held(path: Path, patience_s: float = PATIENCE_S) -> IO[bytes]:
    """The file at ``path``, which no other process holds."""
    while True:
        with refusals(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what was written is in the file, however this process ends.
            file = open(path, "a+b", buffering=0, opener=regular)  # noqa: SIM115 (see below)
        try:
            _hold(file, path, patience_s)
            with refusals(path):
                if _is_at(path, file):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()  # the process that held it removed it before it was locked here


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _hold(file: IO[bytes], path: Path, patience_s: float) -> None:
    """Keep other processes out while the file is open."""
    end = time.monotonic() + patience_s
    while True:
        try:
            lock(file.fileno())
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise VggspecError(report(JournalInUse(), path=str(path))) from error
            time.sleep(LOOK_S)
        except OSError:
            return  # a file system without locks
        else:
            return
