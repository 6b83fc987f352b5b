"""Files and folders that are written whole or not at all, and folders for a while."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from vggspec.catalogue.artefacts import CannotWrite
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason

#: The request of `ioctl_ficlone(2)` that shares a file's blocks.
FICLONE = 0x40049409

#: Another at every start of a Linux system, the same in all its containers.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCK = "lock"


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
def completing_file(path: str | os.PathLike[str], scratch: Path) -> Iterator[IO[bytes]]:
    """Write a file, or go on with it, under the name ``scratch`` in the same folder; it takes its
    place when the block ends well, else it stays there. What the block raises is left as it is: who
    does more there than to write puts ``refusals`` around the writing.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    target = Path(path)
    with refusals(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(scratch, "r+b" if scratch.exists() else "x+b")  # noqa: SIM115 (closed below)
    try:
        yield file
        with refusals(path):
            file.flush()
            os.fsync(file.fileno())
    finally:
        with refusals(path):
            file.close()  # writes what it still holds
    with refusals(path):
        if target.exists():
            shutil.copymode(target, scratch)
        os.replace(scratch, target)


@contextmanager
def replacing_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Write a file; it takes its place when the block ends well, else nothing is left of it. The
    block only writes: an ``OSError`` there is the system's refusal.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    scratch = _beside(Path(path))
    try:
        with refusals(path), completing_file(path, scratch) as file:
            yield file
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


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in ``parent`` of a name that nobody has, for as long as the block lasts; where
    nothing can be written there, one in the system's own for temporary files.

    Those of the same prefix that killed processes left behind are removed. Whether a process still
    has one is known by a lock, which is sure to be seen by processes under one kernel alone. Names
    tell which kernel that was; what was left on a shared disk by another machine, or before this
    one was started, stays.

    Raises:
        OSError: nothing can be written there either.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(_scratch_in(parent, prefix))
        except OSError:
            system = Path(tempfile.gettempdir())
            folder = stack.enter_context(_scratch_in(system, "vggspec-"))
        yield folder


@contextmanager
def _scratch_in(parent: Path, prefix: str) -> Iterator[Path]:
    boot = _boot()
    if boot is not None:
        prefix = f"{prefix}{boot}-"
        _remove_abandoned(parent, prefix)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _boot() -> str | None:
    """What tells the running kernel from all others; None where it cannot be told."""
    try:
        return BOOT_ID.read_text("ascii").strip().replace("-", "") or None
    except (OSError, UnicodeDecodeError):
        return None


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        with suppress(OSError):  # a file system without locks
            _take(lock, waits=True)
        if (folder / LOCK).exists():
            return folder, lock
        os.close(lock)  # before it was locked, another process took it for abandoned


def _remove_abandoned(parent: Path, prefix: str) -> None:
    with os.scandir(parent) as entries:
        found = [Path(e) for e in entries if e.name.startswith(prefix) and not e.is_symlink()]
    for folder in found:
        with suppress(OSError):  # somebody has it, or another user, or it was just begun
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                _take(lock, waits=False)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _take(lock: int, *, waits: bool) -> None:
    """Make a lock ours.

    Raises:
        OSError: there are no locks here, or another process has it and we do not wait.
    """
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))


def place(source: Path, target: Path, *, copy: bool) -> Literal["link", "clone", "copy"]:
    """Put a file that is never overwritten under a second name, by the cheapest way there is. Of a
    link the file counts that it leads to.

    A clone shares blocks on disk until one side is written (Btrfs, XFS); a hard link is the same
    file; where neither is possible, across disks for instance, or where ``copy`` asks for a file
    of its own, the bytes are copied.
    """
    source = Path(os.path.realpath(source, strict=True))
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
