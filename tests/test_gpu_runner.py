"""What is carried to a machine with a GPU, and how the steps there are run: without a GPU."""

import importlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import __main__ as runner
from benchmarks.gpu import install, pack, steps
from benchmarks.gpu.fatbin import CONTAINER, ENTRY, MACHINE_CODE, MAGIC, PTX, containers, prune
from benchmarks.gpu.steps import GPU_TESTS, STEPS, Step, lacking
from tests.conftest import ROOT
from tests.test_engine_gpu import HERE

# Device code of a library.


def container(*entries: tuple[int, int, bytes]) -> bytes:
    """As nvcc lays it out: kind, compute capability, payload."""
    body = b""
    for kind, capability, payload in entries:
        header = bytearray(64)
        ENTRY.pack_into(header, 0, kind, 0x101, len(header), len(payload), capability)
        body += header + payload
    return MAGIC + struct.pack("<Q", len(body)) + body


def cubin(capability: int) -> tuple[int, int, bytes]:
    return MACHINE_CODE, capability, bytes([capability]) * 24


def ptx(capability: int) -> tuple[int, int, bytes]:
    return PTX, capability, b"P" * 16


@pytest.mark.parametrize(
    ("capability", "kept"),
    [
        (90, [90]),
        (86, [86]),
        (89, [86]),  # the nearest below, of the same major version
        (80, [80]),
    ],
)
def test_one_gpu_s_code_is_left(tmp_path: Path, capability: int, kept: list[int]) -> None:
    path = tmp_path / "lib.so"
    code = container(cubin(80), cubin(86), cubin(90), ptx(90))
    path.write_bytes(b"\x7fELF" + code + b"between" + code + b"end")
    before = path.read_bytes()
    assert prune(path, capability) == 2 * (2 * 24 + 16)
    after = path.read_bytes()
    assert len(after) == len(before)
    for entries in containers(after):
        for one in entries:
            payload = after[one.start : one.start + one.size]
            is_kept = one.kind == MACHINE_CODE and one.capability in kept
            assert any(payload) == is_kept
            if is_kept:
                assert payload == before[one.start : one.start + one.size]
    # Nothing else has changed, headers included.
    assert [len(found) for found in containers(after)] == [4, 4]
    assert after.startswith(b"\x7fELF")
    assert after.endswith(b"end")
    assert b"between" in after


def test_a_container_without_code_for_the_gpu_keeps_its_ptx(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(container(cubin(80), ptx(80)))
    before = path.read_bytes()
    assert prune(path, 90) == 0
    assert path.read_bytes() == before


@given(st.binary(max_size=200), st.integers(0, 200))
def test_what_only_looks_like_a_container_is_passed_over(noise: bytes, cut: int) -> None:
    whole = container(cubin(90), ptx(90))
    assert list(containers(whole[: min(cut, len(whole) - 1)])) == []
    found = [[one.capability for one in entries] for entries in containers(noise + MAGIC + whole)]
    assert found[-1:] == [[90, 90]]
    assert CONTAINER.size == 16


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_nvcc_lays_it_out_so(tmp_path: Path) -> None:
    """The format is NVIDIA's and not documented: what its own compiler writes is the proof."""
    source = tmp_path / "k.cu"
    source.write_text("__global__ void f(float *x) { x[0] *= 2; }\n", "utf-8")
    codes = [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=[sm_90,compute_90]",
    ]
    out = tmp_path / "k.fatbin"
    pack.subprocess.run(["nvcc", "-fatbin", *codes, "-o", str(out), str(source)], check=True)
    (entries,) = containers(out.read_bytes())
    assert sorted((one.kind, one.capability) for one in entries) == [(1, 90), (2, 80), (2, 90)]


# Parts.


@pytest.mark.parametrize("part", [700, 1000, 10**6])
def test_archives_are_cut_and_joined(tmp_path: Path, part: int) -> None:
    archives, contents = [], {}
    for name, size in (("a", 300), ("b", 2000), ("c", 10)):
        site = tmp_path / "in" / name
        (site / "package").mkdir(parents=True)
        contents[name] = os.urandom(size)
        (site / "package" / f"{name}.bin").write_bytes(contents[name])
        archives.append(tmp_path / f"{name}.tar.xz")
        pack.archive(site, archives[-1])
    parts = tmp_path / "parts"
    parts.mkdir()
    pack.split(archives, parts, part)
    folders = sorted(parts.iterdir(), key=lambda folder: int(folder.name))
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in folders]
    assert sum(sizes) == sum(path.stat().st_size for path in archives)
    assert all(size == part for size in sizes[:-1])
    assert sizes[-1] <= part
    site = tmp_path / "site"
    site.mkdir()
    for _, paths in pack.pieces(list(reversed(folders))):
        assert install.unpack(paths, site) is None
    for name, content in contents.items():
        assert (site / "package" / f"{name}.bin").read_bytes() == content


def test_an_archive_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    site = tmp_path / "in"
    site.mkdir()
    (site / "big.bin").write_bytes(os.urandom(5000))
    pack.archive(site, tmp_path / "big.tar.xz")
    pack.split([tmp_path / "big.tar.xz"], tmp_path, 2000)
    ((_, paths),) = pack.pieces([tmp_path / "1", tmp_path / "2", tmp_path / "3"])
    assert len(paths) == 3
    for missing in paths:
        out = tmp_path / f"without-{missing.parent.name}"
        out.mkdir()
        why = install.unpack([path for path in paths if path != missing], out)
        assert why is not None
        assert why.startswith("it is not whole")
        assert list(out.iterdir()) == []


# Steps.


def python(name: str, code: str, **facts: Any) -> Step:
    command = (sys.executable, "-c", code)
    return Step(
        name=name, question=f"{name}?", command=command, **{"seconds": 20, "needs": (), **facts}
    )


def test_every_step_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step that fails, hangs or lacks something stops no other, and all are in the results."""
    wait = "import time; print('begun', flush=True); time.sleep(60)"
    results = tmp_path / "docs" / "results.md"
    outcomes = runner.run_all(
        [
            python("fails", "print('| half |'); raise ValueError('no luck')"),
            python("hangs", wait, seconds=0.7),
            python("lacks", "", needs=("library no_such_library", "variable NO_SUCH")),
            python(
                "refused",
                "import sys; sys.exit('so\\nerror: it cannot run\\n  here: 9.0')",
                refusal="cannot run",
            ),
            python("missing", "import sys; print('this torch has no CUDA'); sys.exit(3)"),
            python("works", "print('| whole |')"),
        ],
        tmp_path / "out",
        results,
        60,
    )
    assert [(one.name, one.state) for one in outcomes] == [
        ("fails", "failed"),
        ("hangs", "stopped"),
        ("refused", "refused"),
        ("missing", "skipped"),
        ("works", "done"),
        ("lacks", "skipped"),
    ]
    whys = [one.why for one in outcomes]
    assert whys[0] == "exit 1: ValueError: no luck"
    assert whys[1].startswith("its limit was ")
    assert whys[2] == "error: it cannot run here: 9.0"
    assert whys[3] == "exit 3: this torch has no CUDA"
    assert whys[5] == "no_such_library is not installed; NO_SUCH names no file"
    assert outcomes[1].seconds < 15
    text = results.read_text("utf-8")
    assert text.count("\n## ") == 1
    questions = [line for line in text.splitlines() if line.startswith("### ")]
    assert questions == [
        *("### fails?", "### hangs?", "### refused?", "### missing?", "### works?", "### Steps")
    ]
    for piece in ("    | half |", "\nbegun\n", "    ValueError: no luck", "\n| whole |\n"):
        assert piece in text
    assert (tmp_path / "out" / "summary.md").read_text("utf-8") in text
    assert len(capsys.readouterr().out.splitlines()) == len(outcomes)


def test_results_are_there_before_the_next_step(tmp_path: Path) -> None:
    """A run that is cut off loses the step that was under way, and no other."""
    results = tmp_path / "results.md"
    look = (
        f"from pathlib import Path; assert '| first |' in Path({str(results)!r}).read_text('utf-8')"
    )
    first, second = python("first", "print('| first |')"), python("second", look)
    outcomes = runner.run_all([first, second], tmp_path / "out", results, 60)
    assert [one.state for one in outcomes] == ["done", "done"]


def test_a_library_may_be_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that needs what is not there yet comes after the others."""
    place = tmp_path / "place"
    monkeypatch.setenv("PLACE", str(place))
    early = python("early", "", needs=("variable PLACE",))
    make = python("make", f"import os; os.mkdir({str(place)!r})")
    outcomes = runner.run_all([early, make], tmp_path / "out", tmp_path / "results.md", 60)
    assert [(one.name, one.state) for one in outcomes] == [("make", "done"), ("early", "done")]


def test_no_step_begins_when_the_time_is_over(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    (outcome,) = runner.run_all([python("late", "")], tmp_path / "out", results, 0.5)
    assert outcome.why == "the 0.00833333 minutes are over"
    assert not results.exists()


def test_a_step_s_children_end_with_it(tmp_path: Path) -> None:
    flag = tmp_path / "alive"
    late = f"import time; time.sleep(0.7); open({str(flag)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}])"
    assert runner.run(python("parent", code), tmp_path, 20).state == "done"
    time.sleep(1)
    assert not flag.exists()


def test_without_a_gpu_all_is_skipped_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "this_machine", lambda: replace(HERE, driver=None))
    given = ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "results.md")]
    assert runner.main(given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STEPS)
    assert all("skipped, 0 s no CUDA device" in line for line in lines)
    assert not (tmp_path / "results.md").exists()
    assert runner.main(["--list", *given]) == runner.main(["--dry-run", *given]) == 0
    assert "tests/training/test_gpu.py" in capsys.readouterr().out


def test_a_reader_that_goes_is_no_matter() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "benchmarks.gpu", "--list"]
    try:
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_needs_are_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(steps, "this_machine", lambda: HERE)
    monkeypatch.setenv("PLACE", str(tmp_path))
    assert lacking(["gpu", "library no_such|numpy", "variable PLACE"]) == []


def test_every_file_with_tests_for_a_gpu_is_a_step_s() -> None:
    mark = "pytest.mark." + "gpu"
    marked = [path for path in ROOT.glob("tests/**/test_*.py") if mark in path.read_text("utf-8")]
    assert sorted(GPU_TESTS) == sorted(str(path.relative_to(ROOT)) for path in marked)


def test_every_step_s_command_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the script itself, which then says that there is no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for step in STEPS:
        scripts = [at for at, word in enumerate(step.command) if word.startswith("benchmarks.gpu.")]
        for at in scripts:
            script = importlib.import_module(step.command[at])
            if hasattr(script, "this_machine"):
                monkeypatch.setattr(script, "this_machine", lambda: replace(HERE, driver=None))
            assert script.main(step.command[at + 1 :]) == runner.MISSING, step.name
    assert {"engine", "dense", "train", "ranks", "protocol"} <= {
        word.removeprefix("benchmarks.gpu.") for step in STEPS for word in step.command
    }


def test_every_need_is_of_a_kind() -> None:
    needs = {need for step in STEPS for need in step.needs}
    assert all(re.fullmatch(r"gpu|library \S+|variable \S+", need) for need in needs)
