"""Memory that is freed stays with a process while it trains, and goes back afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.folders import TINY, write_folder
from vggspec.training import freed_memory
from vggspec.training.freed_memory import _glibc
from vggspec.training.train import train

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


def test_training_keeps_it_and_validation_returns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the C library is told in a run of two epochs."""
    told: list[str] = []

    class Libc:
        def mallopt(self, parameter: int, value: int) -> None:
            told.append("keep" if (parameter, value) == (freed_memory._MMAP_MAX, 0) else "set")

        def malloc_trim(self, _: int) -> None:
            told.append("return")

    monkeypatch.setattr(freed_memory, "_glibc", Libc)
    (tmp_path / "tiny.vgg").write_text(TINY)
    images = write_folder(tmp_path / "images")
    settings = ["stop=after 2 epochs"]
    train(tmp_path / "tiny.vgg", data=images, run=tmp_path / "run", settings=settings, gpus=0)
    kept = told.index("keep")
    assert [each for each in told[kept + 1 :] if each != "set"] == ["return"] * 3


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
