"""Atomic exchange of two names in the file system."""

import errno
import os
import platform
import sys
from pathlib import Path
from typing import Any

AT_FDCWD = -100
SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS

#: Numbers of the call ``renameat2(2)``, for C libraries that do not name it.
RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}

#: Errors that mean that the kernel or the file system does not support the exchange.
CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders of one file system atomically.

    Returns False, and changes nothing, if this is not supported or one of them does not exist.

    Raises:
        OSError: the system refuses.
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    import ctypes

    number = ctypes.get_errno()
    if number in CANNOT or number == errno.ENOENT:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _call() -> Any:
    """The system call, as a function of two paths; None if the system has none."""
    if sys.platform not in ("linux", "darwin"):
        return None
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        swap = getattr(library, "renamex_np", None)
        return swap and (lambda one, other: swap(one, other, ctypes.c_uint(SWAP)))
    named = getattr(library, "renameat2", None)
    number = RENAMEAT2.get(platform.machine())
    if named is None and number is None:
        return None

    def swap_at(one: bytes, other: bytes) -> int:
        arguments = (AT_FDCWD, one, AT_FDCWD, other, ctypes.c_uint(SWAP))
        if named is not None:
            return int(named(*arguments))
        return int(library.syscall(ctypes.c_long(number or 0), *arguments))

    return swap_at
