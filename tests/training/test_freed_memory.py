"""Memory that is freed stays with a process while it trains, and goes back afterwards."""

import os
import subprocess
import sys

import pytest

from vggspec.training.freed_memory import _glibc

SIZE = 64 << 20
SCRIPT = f"""
import resource
from pathlib import Path
import numpy as np
from vggspec.training.freed_memory import keeping_freed_memory, return_freed_memory

def faults():
    np.zeros(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def arrays():
    before = faults()
    for _ in range(3):
        np.empty({SIZE}, np.uint8).fill(1)
    return faults() - before

outside = arrays()
with keeping_freed_memory():
    arrays()
    inside, kept = arrays(), resident()
    return_freed_memory()
    left = resident()
    arrays()
after, last = arrays(), resident()
print(outside, inside, after, kept - left, kept - last)
"""


def figures(**environment: str) -> list[int]:
    """Page faults before, in and after the block, and the bytes that were returned in it and that
    its end returned.
    """
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")} | environment,
    )
    return [int(word) for word in found.stdout.split()]


@pytest.mark.skipif(_glibc() is None, reason="another C library")
def test_arrays_use_the_memory_of_those_before() -> None:
    outside, inside, after, *returned = figures()
    assert inside < outside / 10
    assert after == pytest.approx(outside, rel=0.1)
    assert min(returned) > SIZE / 2


@pytest.mark.parametrize(
    "setting",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
)
def test_what_the_user_set_is_kept(setting: dict[str, str]) -> None:
    outside, inside, *_ = figures(**setting)
    assert inside == pytest.approx(outside, rel=0.1)
