"""Exclusive locks on existing files and folders.

The system releases a lock when the process ends, for any reason, and no file is left behind.
``filelock`` instead locks a separate file, which it truncates and leaves behind.
"""

import sys


def lock(descriptor: int, *, waits: bool = False) -> None:
    """Take the lock on an open file or folder, until it is closed; nothing on Windows.

    Raises:
        BlockingIOError: another process has it, and this one does not wait.
        OSError: the file system has no locks.
    """
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
