"""How many processors a process may use."""

import os
from pathlib import Path

import pytest

from vggspec.base import processors as module
from vggspec.base.processors import engine_threads, processors

MACHINE = 16


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One with 16 processors and no control groups yet."""
    affinity = set(range(MACHINE))
    monkeypatch.setattr(os, "cpu_count", lambda: MACHINE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity, raising=False)
    monkeypatch.setattr(module, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(module, "MOUNTS", tmp_path / "mounts")


def write(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "mounts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000"}, 16),
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000"}, 16),
        # The least of all groups around it counts.
        ("0::/a/b\n", {"cpu.max": "max 1", "a/cpu.max": "300 100", "a/b/cpu.max": "500 100"}, 3),
        # A container without a name space of its own sees the path from outside.
        ("0::/docker/77\n", {"cpu.max": "200000 100000"}, 2),
        # Version 1, beside version 2 without this controller.
        (
            "3:cpu,cpuacct:/x\n1:memory:/y\n0::/\n",
            {f"cpu,cpuacct/x/cpu.cfs_{k}_us": v for k, v in (("quota", "250"), ("period", "100"))},
            3,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "0"}, 16),
        ("0::/\n", {"cpu.max": "nonsense"}, 16),
        ("nonsense\n", {"cpu.max": "100000 100000"}, 16),
    ],
)  # fmt: skip
def test_quotas(tmp_path: Path, groups: str, files: dict[str, str], expected: int) -> None:
    write(tmp_path, groups, files)
    assert processors() == expected
    assert engine_threads(None) == (0 if expected == MACHINE else expected)
    assert engine_threads(7) == 7


def test_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5}, raising=False)
    assert (processors(), engine_threads(None)) == (3, 3)
    write(tmp_path, "0::/\n", {"cpu.max": "200000 100000"})
    assert processors() == 2


def test_a_system_without_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert (processors(), engine_threads(None)) == (MACHINE, 0)
