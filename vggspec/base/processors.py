"""How many processors this process may use."""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

#: The control groups of this process, and where the system shows them.
GROUPS, MOUNTS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def processors() -> int:
    """Those that this process may use: by its affinity, and by the quotas of its control groups,
    which is how containers are limited. A part of one counts as one.

    Source: the kernel's ``cgroup-v2.rst`` (``cpu.max``) and ``sched-bwc.rst`` (``cfs_quota_us``).
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    number = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min([number, *map(math.ceil, _quotas())]))


def engine_threads(threads: int | None) -> int:
    """The threads that an engine is told to use, 0 for those that it chooses itself.

    Engines count the machine's processors. Where this process may use fewer, so many threads wait
    for one another.
    """
    if threads is None and processors() < (os.cpu_count() or 1):
        return processors()
    return threads or 0


def _quotas() -> Iterator[float]:
    """In processors: those of the groups of this process and of all groups around them."""
    with contextlib.suppress(OSError, ValueError):
        for line in GROUPS.read_text("utf-8", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                mounts = (MOUNTS, MOUNTS / "unified")
            elif "cpu" in controllers.split(","):
                mounts = (MOUNTS / "cpu", MOUNTS / controllers)
            else:
                continue
            inner = Path(path.lstrip("/"))
            for mount in mounts:
                # A container may see its own group as the outermost one.
                for group in (inner, *inner.parents):
                    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
                        yield from _quota(mount / group)


def _quota(group: Path) -> Iterator[float]:
    """That of a group, if it has one."""
    if (group / "cpu.max").exists():
        quota, period = (group / "cpu.max").read_text().split()
    else:
        quota, period = (
            (group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
        )
    if quota not in ("max", "-1"):
        yield int(quota) / int(period)
