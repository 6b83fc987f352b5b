"""Files and folders that are written whole or not at all."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from vggspec.base.catalogue.artefacts import CannotWrite, PathIsNoText
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.exchange import exchange
from vggspec.base.interrupt import held
from vggspec.base.wording import reason

#: The request of `ioctl_ficlone(2)` that shares a file's blocks.
FICLONE = 0x40049409

#: Another at every start of a Linux system, the same in all its containers.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

MAX_LINKS = 40  # as Linux follows
MAX_NAME = 40  # characters of a name in the hidden ones beside it, of which most systems take 255 B
OLD = ".old"


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


def leads_to(path: str | os.PathLike[str]) -> Path | int:
    """The file that is written under this name, there or not: where links lead. Of ``/dev/stdout``
    and the like, the number of this process's open file: under its name it would have a place of
    its own, at the beginning.

    Raises:
        OSError: the system refuses to say.
    """
    at = Path(path)
    for _ in range(MAX_LINKS):
        folder = Path(os.path.realpath(at.parent))
        at = folder / at.name if at.name not in ("", "..") else Path(os.path.realpath(at))
        is_descriptors = str(folder) in (f"/proc/{os.getpid()}/fd", "/dev/fd")
        if is_descriptors and at.name.isdecimal():
            return int(at.name)
        if not at.is_symlink():
            return at
        at = folder / os.readlink(at)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


@contextmanager
def named_in_text(path: str | os.PathLike[str]) -> Iterator[str]:
    """A name of a file, or of a file and what is beside it, for libraries that take text alone: of
    a path with bytes that are no text, one by way of an open descriptor.

    Raises:
        VggspecError: the system has no such names.
        OSError: it is not there.
    """
    name = os.fspath(path)
    if _is_text(name):
        yield name
        return
    folder, last = os.path.split(name)
    if not _is_text(last):
        folder, last = name, ""
    if not os.path.isdir("/proc/self/fd"):
        raise VggspecError(report(PathIsNoText(), path=name))
    descriptor = os.open(folder or ".", os.O_RDONLY)
    try:
        yield os.path.join(f"/proc/self/fd/{descriptor}", last).rstrip("/")
    finally:
        os.close(descriptor)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def plain_target(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Where to write the file that is to be at ``path``: there, links followed. Where a device or a
    pipe is there, a temporary file, whose content is copied into it when the block ends well.

    Raises:
        VggspecError: a folder is there, or the system refuses.
    """
    with refusals(path):
        target = leads_to(path)
        mode = _mode(target) if isinstance(target, Path) else stat.S_IFIFO
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if isinstance(target, Path) and stat.S_ISREG(mode):
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="vggspec-") as folder:
        whole = Path(folder) / "whole"
        yield whole
        with refusals(path), open(whole, "rb") as source, _opened(target) as sink:
            shutil.copyfileobj(source, sink)


def _mode(target: Path) -> int:
    """What is at a place; where nothing is, a file may be."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _opened(target: Path | int) -> IO[bytes]:
    """A device or a pipe, to be written."""
    if isinstance(target, Path):
        return open(os.open(target, os.O_WRONLY), "wb")  # not made where it is gone by now
    sys.stdout.flush()  # what was said before comes before
    return open(os.dup(target), "wb")


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
    block only writes: an ``OSError`` there is the system's refusal. A link stays, and what it leads
    to is replaced; into a device or a pipe the whole file is written in the end.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    with refusals(path), plain_target(path) as target:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _scratch(target.parent, _hidden(target), ".tmp", _touch) as scratch,
            completing_file(target, scratch) as file,
        ):
            yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        VggspecError: the system refuses.
    """
    with replacing_file(path) as file:
        file.write(text.encode())


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder; it replaces the one at ``path``, or where a link there leads, when the block
    ends well. Where the system can, the two change places in one step; else the old one is under
    another name for a moment, and who is killed then leaves that to the next one who writes there.

    Raises:
        VggspecError: the system refuses, for lack of space for instance.
    """
    with refusals(path):
        target = leads_to(path)
        if isinstance(target, int):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        _restore(target)
        with _scratch(target.parent, _hidden(target), ".tmp", Path.mkdir) as scratch:
            yield scratch
            _put(scratch, target)


def write_files(path: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Write text files that belong together into a folder: all or none. They replace the folder, so
    that those of two times never stand together; in one with other things they are put beside
    these, one right after the other.

    Raises:
        VggspecError: the system refuses.
    """
    with refusals(path), suppress(FileNotFoundError), os.scandir(path) as entries:
        if not all(entry.name in texts and entry.is_file() for entry in entries):
            with ExitStack() as stack:
                for name, text in reversed(list(texts.items())):
                    file = stack.enter_context(replacing_file(Path(path) / name))
                    file.write(text.encode())
            return
    with replacing_folder(path) as folder:
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode())


def _put(scratch: Path, target: Path) -> None:
    """Give a folder its name; what had it goes."""
    with suppress(FileNotFoundError):
        shutil.copymode(target, scratch)
    if exchange(scratch, target):
        return  # `scratch` is the old one by now
    old = scratch.with_suffix(OLD)
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(scratch, target)
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)  # interrupted between the two: back as it was
        shutil.rmtree(old, ignore_errors=True)


def left_behind(target: Path) -> list[Path]:
    """What stood at a place when who was to replace it was killed; the newest comes last."""
    named = re.compile(rf"{re.escape(_hidden(target))}[0-9a-f-]+{re.escape(OLD)}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        found = [Path(entry) for entry in entries if named.fullmatch(entry.name)]
        return sorted(found, key=lambda old: old.stat().st_mtime)
    return []


def _restore(target: Path) -> None:
    for old in reversed(left_behind(target)):
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, target)


@contextmanager
@held
def _scratch(
    parent: Path, prefix: str, suffix: str, make: Callable[[Path], object]
) -> Iterator[Path]:
    """A new file or folder, gone after the block unless it was renamed.

    What killed processes left behind there is removed. Whether a process still has it is known by a
    lock, which is sure to be seen by processes under one kernel alone. Names tell which kernel that
    was; what was left on a shared disk by another machine, or before this one was started, stays.
    """
    boot = _boot()
    if boot is not None:
        prefix = f"{prefix}{boot}-"
        _remove_abandoned(parent, boot)
    path, lock = _locked(parent, prefix, suffix, make)
    try:
        yield path
    finally:
        _remove(path)
        if lock is not None:
            os.close(lock)


def _hidden(target: Path) -> str:
    """How hidden names begin of what is to be at ``target``."""
    name = target.name
    if len(name) > MAX_NAME:
        name = name[:MAX_NAME] + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f".{name}."


def _touch(path: Path) -> None:
    path.touch(exist_ok=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _boot() -> str | None:
    """What tells the running kernel from all others; None where it cannot be told."""
    try:
        return BOOT_ID.read_text("ascii").strip().replace("-", "") or None
    except (OSError, UnicodeDecodeError):
        return None


def _locked(
    parent: Path, prefix: str, suffix: str, make: Callable[[Path], object]
) -> tuple[Path, int | None]:
    """Something new and the descriptor that holds its lock, where there are locks."""
    while True:
        path = parent / f"{prefix}{secrets.token_hex(4)}{suffix}"
        with suppress(FileExistsError):
            make(path)
            if sys.platform == "win32":
                return path, None
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY)
                with suppress(OSError):  # a file system without locks
                    _take(lock, waits=True)
                if path.exists():
                    return path, lock
                os.close(lock)  # before it was locked, another process took it for abandoned


def _remove_abandoned(parent: Path, boot: str) -> None:
    """Remove what killed processes left in a folder."""
    ours = re.compile(rf"\.?[^/]*{boot}-[0-9a-f]{{8}}(\.tmp)?")
    with os.scandir(parent) as entries:
        found = [Path(entry) for entry in entries if ours.fullmatch(entry.name)]
    for path in found:
        with suppress(OSError):  # somebody has it, or another user, or it was just begun
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                _take(lock, waits=False)
                _remove(path)
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


def place(
    source: Path, target: Path, *, copy: bool, refer: bool = False
) -> Literal["link", "clone", "copy"]:
    """Put a file that is never overwritten under a second name, by the cheapest way there is. Of a
    link the file counts that it leads to. With ``refer`` the second name is a symbolic link, where
    the system allows one.

    A clone shares blocks on disk until one side is written (Btrfs, XFS); a hard link is the same
    file; where neither is possible, across disks for instance, or where ``copy`` asks for a file
    of its own, the bytes are copied.
    """
    source = Path(os.path.realpath(source, strict=True))
    if refer:
        with suppress(OSError):
            os.symlink(source, target)
            return "link"
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
    with (
        refusals(target),
        _scratch(target.parent, _hidden(target), ".tmp", Path.mkdir) as folder,
    ):
        place(source, folder / target.name, copy=False)
        # Of two names of one file neither takes the other's: then the second goes with the folder.
        os.replace(folder / target.name, target)


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
