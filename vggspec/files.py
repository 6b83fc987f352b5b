"""Files and folders that are written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vggspec.catalogue.artefacts import CannotWrite
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason


def _beside(target: Path) -> Path:
    """A hidden name in the same folder, so that renaming it to ``target`` is one step."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Write a file; it takes its place when the block ends well, else nothing is left of it.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    target = Path(path)
    scratch = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(scratch, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, scratch)
        os.replace(scratch, target)
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(path))) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        VggspecError: the system refuses.
    """
    with replacing_file(path) as file:
        file.write(text.encode())


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder; it replaces the one at ``path`` when the block ends well.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    target = Path(path)
    scratch, old = _beside(target), _beside(target)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        try:
            if target.exists():
                os.replace(target, old)
            os.replace(scratch, target)
        finally:
            if old.exists() and not target.exists():
                os.replace(old, target)  # refused or interrupted between the two: back as it was
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(path))) from error
    finally:
        for leftover in (scratch, old):
            if leftover.exists():
                shutil.rmtree(leftover, ignore_errors=True)
