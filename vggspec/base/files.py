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
from vggspec.base.exchange_folders import exchange
from vggspec.base.interrupt import held
from vggspec.base.locking import lock as take_lock
from vggspec.base.render import shown
from vggspec.base.wording import reason

#: The request of `ioctl_ficlone(2)` that shares a file's blocks.
FICLONE = 0x40049409

#: Changes at every boot of a Linux system, and is the same in all its containers.
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

MAX_LINKS = 40  # as Linux follows
MAX_NAME = 40  # characters of a name within a hidden name; most systems allow 255 bytes
OLD = ".old"


def cache_folder() -> Path | None:
    """The folder for files that may be removed at any time: ``$XDG_CACHE_HOME/vggspec``, else
    ``~/.cache/vggspec``. None without a home folder. The folder may not exist.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    except RuntimeError:  # no home folder
        return None
    return folder / "vggspec"


@contextmanager
def refusals(path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert an ``OSError`` of writing to a report.

    Raises:
        VggspecError: the system refuses.
    """
    try:
        yield
    except OSError as error:
        raise VggspecError(report(CannotWrite(reason=reason(error)), path=str(path))) from error


def leads_to(path: str | os.PathLike[str]) -> Path | int:
    """The file that a write to this name reaches, existing or not, with links resolved.

    For ``/dev/stdout`` and the like it is the descriptor of this process: opened by name, the file
    would have its own position, at the beginning.

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
    """A name for libraries that take paths as text only: if the path is not valid text, a name that
    goes through an open descriptor of the file, or of its folder.

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
    """The path to write for ``path``: the same, with links resolved. For a device or a pipe, a
    temporary file, which is copied into it when the block succeeds.

    Raises:
        VggspecError: a folder is there, or the system refuses.
    """
    target, is_plain = _reached(path)
    if is_plain:
        assert isinstance(target, Path)
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="vggspec-") as folder:
        whole = Path(folder) / "whole"
        yield whole
        with refusals(path), open(whole, "rb") as source, _opened(target) as sink:
            shutil.copyfileobj(source, sink)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Check that files can be written into a folder, which need not exist: before the work whose
    result goes there.

    Raises:
        VggspecError: they cannot.
    """
    _check_below(Path(path), path)


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that ``replacing_file`` can write a file: before the work whose result it is.

    Raises:
        VggspecError: it cannot.
    """
    target, is_plain = _reached(path)
    if is_plain:
        assert isinstance(target, Path)
        _check_below(target.parent, path)


def _check_below(folder: Path, path: str | os.PathLike[str]) -> None:
    """Write into a folder, or the one above in which it would be made; ``path`` is what it is for.

    Raises:
        VggspecError: the system refuses.
    """
    with refusals(path):
        folder = folder.absolute()
        folder = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        if not folder.is_dir():
            what = CannotWrite(reason=f"{shown(str(folder))} is not a folder")
            raise VggspecError(report(what, path=os.fspath(path)))
        tempfile.TemporaryFile(dir=folder).close()


def _reached(path: str | os.PathLike[str]) -> tuple[Path | int, bool]:
    """What a write to this name reaches, and whether it is a regular file, existing or not.

    Raises:
        VggspecError: it is a folder, or the system refuses.
    """
    with refusals(path):
        target = leads_to(path)
        mode = _mode(target) if isinstance(target, Path) else stat.S_IFIFO
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return target, stat.S_ISREG(mode)


def _mode(target: Path) -> int:
    """The kind of file at a path; a path that does not exist counts as a regular file."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _opened(target: Path | int) -> IO[bytes]:
    """A device or a pipe, to be written."""
    if isinstance(target, Path):
        return open(os.open(target, os.O_WRONLY), "wb")  # not created if it no longer exists
    sys.stdout.flush()  # earlier output comes first
    return open(os.dup(target), "wb")


@contextmanager
def completing_file(path: str | os.PathLike[str], scratch: Path) -> Iterator[IO[bytes]]:
    """Write a file, or continue one, under the name ``scratch`` in the same folder. It is renamed
    when the block succeeds, and kept otherwise. Exceptions of the block are not converted: wrap the
    writing in ``refusals``.

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
    """Write a file atomically: it appears when the block succeeds, and is removed otherwise.

    An ``OSError`` in the block is reported as a failure to write. A link is kept, and its target is
    replaced. A device or a pipe receives the whole file at the end.

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


@contextmanager
def restored_on_failure(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put back what stands at ``path`` if the block fails: a file as it was, or nothing.

    Around a block that replaces this file and then another one, it makes both whole or neither. A
    process that is killed between the two leaves the first one new.

    Raises:
        VggspecError: the system refuses to keep the old file.
    """
    with refusals(path):
        target = leads_to(path)
        mode = _mode(target) if isinstance(target, Path) else None
    if not isinstance(target, Path) or mode is None or not stat.S_ISREG(mode):
        yield  # what a device got cannot be taken back
        return
    with ExitStack() as stack:
        old = None
        if target.exists():
            with refusals(path):
                scratch = _scratch(target.parent, _hidden(target), ".tmp", Path.mkdir)
                old = stack.enter_context(scratch) / target.name
                _keep(target, old)
        try:
            yield
        except BaseException:
            with refusals(path):
                if old is None:
                    target.unlink(missing_ok=True)
                else:
                    os.replace(old, target)
            raise


def _keep(target: Path, old: Path) -> None:
    """A second name of a file, or a copy where the file system has no such names."""
    try:
        os.link(target, old)
    except OSError:
        shutil.copy2(target, old)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        VggspecError: the system refuses.
    """
    with replacing_file(path) as file:
        file.write(text.encode())


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder, which replaces the one at ``path``, or the target of a link there, when the
    block succeeds. The two are exchanged atomically if the system supports that. Otherwise the old
    one has another name for a moment; if the process is killed then, the next writer restores it.

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


def write_files(path: str | os.PathLike[str], contents: Mapping[str, str | bytes]) -> None:
    """Write several files into a folder: all or none. They replace the folder, so that files
    of two versions are never mixed. If it contains other files, these are kept, and the new ones
    are added one after the other; a failure puts back what was there.

    Raises:
        VggspecError: the system refuses.
    """
    with refusals(path), suppress(FileNotFoundError), os.scandir(path) as entries:
        if not all(entry.name in contents and entry.is_file() for entry in entries):
            with ExitStack() as stack:
                for name in contents:
                    stack.enter_context(restored_on_failure(Path(path) / name))
                for name, content in reversed(list(contents.items())):
                    file = stack.enter_context(replacing_file(Path(path) / name))
                    file.write(_as_bytes(content))
            return
    with replacing_folder(path) as folder:
        for name, content in contents.items():
            (folder / name).write_bytes(_as_bytes(content))


def _as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _put(scratch: Path, target: Path) -> None:
    """Give a folder its final name and remove the previous one."""
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
            os.replace(old, target)  # interrupted between the two: restore it
        shutil.rmtree(old, ignore_errors=True)


def left_behind(target: Path) -> list[Path]:
    """Previous versions that a killed process left while it replaced ``target``, oldest first."""
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
    """A new file or folder, removed after the block unless it was renamed.

    Leftovers of killed processes are removed too. A lock shows whether a process still uses one,
    but locks are reliable only under one kernel, which the name identifies. Leftovers on a shared
    disk of another machine, or from before this one booted, are kept.
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
    """The prefix of hidden names for ``target``."""
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
    """An identifier of the running kernel, or None if it is unknown."""
    try:
        return BOOT_ID.read_text("ascii").strip().replace("-", "") or None
    except (OSError, UnicodeDecodeError):
        return None


def _locked(
    parent: Path, prefix: str, suffix: str, make: Callable[[Path], object]
) -> tuple[Path, int | None]:
    """A new file or folder, and the descriptor that holds its lock, if locks are supported."""
    while True:
        path = parent / f"{prefix}{secrets.token_hex(4)}{suffix}"
        with suppress(FileExistsError):
            make(path)
            if sys.platform == "win32":
                return path, None
            with suppress(FileNotFoundError):
                lock = os.open(path, os.O_RDONLY)
                with suppress(OSError):  # a file system without locks
                    take_lock(lock, waits=True)
                if path.exists():
                    return path, lock
                os.close(lock)  # before it was locked, another process took it for abandoned


def _remove_abandoned(parent: Path, boot: str) -> None:
    """Remove what killed processes left in a folder."""
    ours = re.compile(rf"\.?[^/]*{boot}-[0-9a-f]{{8}}(\.tmp)?")
    with os.scandir(parent) as entries:
        found = [Path(entry) for entry in entries if ours.fullmatch(entry.name)]
    for path in found:
        with suppress(OSError):  # in use, owned by another user, or just created
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                take_lock(lock)
                _remove(path)
            finally:
                os.close(lock)


def place(
    source: Path, target: Path, *, link: bool = False, refer: bool = False
) -> Literal["link", "clone", "copy"]:
    """Put the content of a file, which is never overwritten, under a second name, in the cheapest
    way. Links are resolved.

    A clone is a file of its own that shares blocks on disk until one side is written (Btrfs, XFS).
    Where the file system has none, the bytes are copied; with ``link`` the second name is a hard
    link, which is the same file, where that is possible. With ``refer`` it is a symbolic link, if
    the system supports it.
    """
    source = Path(os.path.realpath(source, strict=True))
    if refer:
        with suppress(OSError):
            os.symlink(source, target)
            return "link"
    if _clone(source, target):
        return "clone"
    if link:
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
        VggspecError: the system refuses; ``target`` is unchanged.
    """
    with (
        refusals(target),
        _scratch(target.parent, _hidden(target), ".tmp", Path.mkdir) as folder,
    ):
        place(source, folder / target.name, link=True)
        # Renaming one name of a file to another has no effect; the folder's removal removes it.
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


def is_same_file(one: str, other: str) -> bool:
    """Whether both paths are the same existing file, with links resolved."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return False
