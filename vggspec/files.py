"""Files and folders that are written whole or not at all."""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from vggspec.catalogue.artefacts import CannotWrite
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason

#: The request of `ioctl_ficlone(2)` that shares a file's blocks.
FICLONE = 0x40049409


def cache_folder() -> Path | None:
    """Where the user keeps what may be removed at any time: ``$XDG_CACHE_HOME/vggspec``, else
    ``~/.cache/vggspec``. None without a home; the folder need not be there.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    return folder / "vggspec"


def _beside(target: Path) -> Path:
    """A hidden name in the same folder, so that renaming it to ``target`` is one step."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}.tmp"


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's refusal to write into a report.

    Raises:
        VggspecError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(path))) from error


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Write a file; it takes its place when the block ends well, else nothing is left of it.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    target = Path(path)
    scratch = _beside(target)
    try:
        with refusals(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(scratch, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, scratch)
            os.replace(scratch, target)
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
        with refusals(path):
            scratch.mkdir(parents=True)
            yield scratch
            try:
                if target.exists():
                    os.replace(target, old)
                os.replace(scratch, target)
            finally:
                if old.exists() and not target.exists():
                    os.replace(old, target)  # interrupted between the two: back as it was
    finally:
        for leftover in (scratch, old):
            if leftover.exists():
                shutil.rmtree(leftover, ignore_errors=True)


def place(source: Path, target: Path, *, copy: bool) -> Literal["link", "clone", "copy"]:
    """Put a file that is never overwritten under a second name, by the cheapest way there is.

    A clone shares blocks on disk until one side is written (Btrfs, XFS); a hard link is the same
    file; where neither is possible, across disks for instance, or where ``copy`` asks for a file
    of its own, the bytes are copied.
    """
    if _clone(source, target):
        return "clone"
    if not copy:
        try:
            os.link(source, target)
        except OSError:
            pass
        else:
            return "link"
    shutil.copyfile(source, target)
    return "copy"


def replace_by_twin(source: Path, target: Path) -> None:
    """Give ``target`` the content of ``source``, in one step, without copying where possible.

    Raises:
        VggspecError: the system refuses; what stood at ``target`` still does.
    """
    scratch = _beside(target)
    try:
        with refusals(target):
            place(source, scratch, copy=False)
            os.replace(scratch, target)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)  # of two names of one file neither takes the other's


def _clone(source: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    with open(source, "rb") as old, open(target, "xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            pass
        else:
            return True
    target.unlink()
    return False
