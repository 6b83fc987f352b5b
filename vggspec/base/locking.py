"""Exclusive locks on files and folders that exist anyway.

The system releases a lock when the process ends, however it ends, and nothing is left behind. That
is why this is not ``filelock``: it locks a file of its own beside the one that is meant, which
stays there, and truncates it.
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
