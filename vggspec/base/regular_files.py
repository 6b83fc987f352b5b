"""Files of unknown origin: regular ones are opened, others are an error."""

import errno
import os
import stat
from io import BufferedReader


class NotRegularError(OSError):
    """The path is a pipe, a socket or a device."""


_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading, without blocking; links are followed.

    Raises:
        OSError: it does not exist, is not a regular file, or the system refuses.
    """
    try:
        return open(path, "rb", opener=regular)
    except ValueError as error:  # a NUL character, or half a character of another encoding
        raise OSError(errno.EINVAL, "no file can have this name") from error


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes.

    Raises:
        OSError: as ``open_file``, or it is larger.
    """
    with open_file(path) as file:
        # Python allocates all requested bytes, so request no more than exist.
        size = os.fstat(file.fileno()).st_size
        data = (
            file.read(min(most, size) + 1) or b""
        )  # None if a file of the system is empty for now
        if size < len(data) <= most:  # it has grown, or the system does not report its size
            data += file.read(most + 1 - len(data)) or b""
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is too long: more than {most} bytes", os.fspath(path))
    return data


def regular(path: str | os.PathLike[str], flags: int) -> int:
    """Open or create a regular file: an ``opener`` for ``open``.

    Opening a pipe without a writer blocks forever, and opening a device can have side effects. So
    the kind of file is checked before, and again after opening, because it may have been replaced.

    Raises:
        OSError: the system refuses, or it is not a regular file.
    """
    if not flags & os.O_CREAT or os.path.exists(path):
        _check_regular(os.stat(path), path)
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "no file")
        raise NotRegularError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))
