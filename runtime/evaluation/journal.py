"""What an evaluation has found so far, a line an image, so that an interrupted one can go on.

The file lies in the user's cache folder under a digest of everything that the answers depend on. It
is removed once the evaluation is finished and told.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from vggspec.catalogue.evaluating import EvaluationInUse
from vggspec.diagnostic import VggspecError, report
from vggspec.files import cache_folder, refusals
from vggspec.runtime.evaluation.answers import Result
from vggspec.runtime.evaluation.question import Question

FOLDER = "evals"


class Journal:
    """Where the results of a question are written down; ``found`` are those of an earlier time."""

    def __init__(self, path: Path, file: IO[bytes], found: list[Result]) -> None:
        self._path = path
        self._file = file
        self.found = found

    def add(self, result: Result) -> None:
        """Write a result down.

        Raises:
            VggspecError: the system refuses.
        """
        with refusals(self._path):
            self._file.write(json.dumps(asdict(result)).encode() + b"\n")
            self._file.flush()

    def remove(self) -> None:
        """All has been told."""
        self._path.unlink(missing_ok=True)


@contextmanager
def journal(question: Question, *, resume: bool) -> Iterator[Journal | None]:
    """The question's journal: a new one, or to go on with; None where there is no cache folder.

    Raises:
        VggspecError: another process writes it, or the system refuses.
    """
    folder = cache_folder()
    if folder is None:
        yield None
        return
    path = folder / FOLDER / f"{question.digest()}.jsonl"
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not buffered: what was written is in the file, however this process ends.
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed below)
    with file:
        _hold(file, path)
        found, end = _read(file, question) if resume else ([], 0)
        with refusals(path):
            file.truncate(end)
        yield Journal(path, file, found)


def _hold(file: IO[bytes], path: Path) -> None:
    """Keep other processes out, as long as the file is open."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise VggspecError(report(EvaluationInUse(), path=str(path))) from error
    except OSError:
        pass  # a file system without locks


def _read(file: IO[bytes], question: Question) -> tuple[list[Result], int]:
    """The results up to the first line that is torn or damaged, and where that line begins."""
    asked = set(question.indices.tolist())
    found: list[Result] = []
    end = 0
    file.seek(0)
    for line in file.read().splitlines(keepends=True):
        result = _result(line, question) if line.endswith(b"\n") else None
        if result is None or result.index not in asked:
            break
        asked.remove(result.index)
        found.append(result)
        end += len(line)
    file.seek(0, os.SEEK_END)
    return found, end


def _result(line: bytes, question: Question) -> Result | None:
    try:
        data: dict[str, Any] = json.loads(line)
        result = Result(
            index=int(data["index"]),
            ranks=tuple(map(int, data["ranks"])),
            top=tuple((int(i), float(value)) for i, value in data["top"]),
            truth=float(data["truth"]),
            unread=None if data["unread"] is None else str(data["unread"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    settings, top = (0, 0) if result.unread is not None else _sizes(question)
    is_whole = len(result.ranks) == settings and len(result.top) == top
    return result if is_whole else None


def _sizes(question: Question) -> tuple[int, int]:
    return len(question.settings), question.top
