"""What the C library does with memory that is freed."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator

#: Parameters of glibc's ``mallopt``.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

_MOST = 2**31 - 1
_MIB = 1 << 20

#: What glibc has settled at in a process that has freed large arrays.
_USUAL = ((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 64 * _MIB))


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """During the block, memory that is freed stays with this process and is used again.

    glibc returns arrays of 32 MiB and more to the system at once, and the next step's are pages
    that the system clears one by one: a fifth of the time of a step of net D on two cores. Other C
    libraries, and a process whose environment tunes malloc, are left as they are. Memory that is
    still free at the end is returned.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _MOST)
    try:
        yield
    finally:
        for parameter, value in _USUAL:
            libc.mallopt(parameter, value)
        return_freed_memory()


def return_freed_memory() -> None:
    """Return what is free now to the system, where ``keeping_freed_memory`` keeps it."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _is_tuned() -> bool:
    """Whether the user has decided."""
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )


def _glibc() -> ctypes.CDLL | None:
    """The C library, where its malloc is to be changed."""
    if sys.platform != "linux" or _is_tuned():
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
