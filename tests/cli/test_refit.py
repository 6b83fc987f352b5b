"""``vggspec refit``: what it refuses before anything is loaded, and what it says when all is well.

What it does to an engine is in ``tests/compiler/backends/tensorrt/test_refit.py``, whose recorded
TensorRT stands in for the real one here too.
"""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.compiler.backends.tensorrt.test_refit import CLASSIC_10, expected, machine_of, make
from tests.engines import RTX, rewritten, stand_in
from tests.nets import SMALL, net, random_weights
from vggspec.bundle.manifest import MANIFEST, PLAN, WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime import machine
from vggspec.runtime.machine import Machine

Capture = pytest.CaptureFixture[str]
REFITTABLE = replace(RTX, refit="all")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(machine_of("rtx-1.7"), driver=None)
    monkeypatch.setattr(machine, "this_machine", lambda: here)


def on(monkeypatch: pytest.MonkeyPatch, here: Machine) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: here)


def refit(capsys: Capture, *args: object) -> tuple[int, str]:
    """The exit code, and what was said; nothing is a result where it is not 0."""
    code = run(["refit", *map(str, args)])
    out, err = capsys.readouterr()
    assert code != 0
    assert out == ""
    return code, err


def weights(folder: Path, text: str = SMALL) -> Path:
    path = folder / "new.safetensors"
    random_weights(net(text), path, seed=1)
    return path


def test_an_engine_that_is_not_refittable(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "b")
    code, err = refit(capsys, tmp_path / "b", tmp_path / "nothing there")
    assert code == 1
    assert "VGG621" in err
    assert f"vggspec inspect {tmp_path}/b --spec > small.vgg" in err
    build = next(line for line in err.splitlines() if "vggspec compile" in line)
    words = shlex.split(build)
    assert "--refittable" in words
    assert words[words.index("--trt-flavor") + 1] == "tensorrt_rtx"


def test_a_graph(tmp_path: Path, capsys: Capture) -> None:
    lowered = net(SMALL)
    old = random_weights(lowered, tmp_path / "old.safetensors")
    write_bundle(lowered, old, tmp_path / "b", CompileOptions())
    code, err = refit(capsys, tmp_path / "b", "new.safetensors")
    assert code == 1
    assert "VGG620" in err
    assert "`vggspec compile SPEC --weights new.safetensors`" in err


def test_weights_of_another_net(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "b", REFITTABLE)
    other = weights(tmp_path, SMALL.replace("FC-24", "FC-25"))
    code, err = refit(capsys, tmp_path / "b", other)
    assert code == 1
    assert "VGG503" in err
    assert "fc3.weight: 25 × 1024 in the file, 24 × 1024 in the net" in err


def test_no_weights(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "b", REFITTABLE)
    code, err = refit(capsys, tmp_path / "b", tmp_path / "new.safetensors")
    assert code == 1
    assert "VGG510" in err


def test_other_weights_for_a_stripped_engine(tmp_path: Path, capsys: Capture) -> None:
    stand_in(tmp_path / "b", replace(RTX, is_stripped=True))
    code, err = refit(capsys, tmp_path / "b", weights(tmp_path))
    assert code == 1
    assert "VGG622" in err


@pytest.mark.parametrize("is_stripped", [False, True])
def test_no_gpu(tmp_path: Path, capsys: Capture, is_stripped: bool) -> None:
    stand_in(tmp_path / "b", replace(REFITTABLE, is_stripped=is_stripped))
    before = sorted(tmp_path.rglob("*"))
    new = weights(tmp_path)
    code, err = refit(capsys, tmp_path / "b", new, "-o", tmp_path / "c")
    assert code == 3
    (line,) = err.splitlines()
    assert line.startswith("error: the engine cannot be refitted here: ")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, new])


def test_another_machine(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "b", REFITTABLE)
    on(monkeypatch, replace(machine_of("rtx-1.7"), tensorrt_rtx=None))
    code, err = refit(capsys, tmp_path / "b", weights(tmp_path))
    assert code == 3
    assert "TensorRT-RTX" in err
    assert "pip install" in err


def test_something_is_in_the_way(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch)
    on(monkeypatch, machine_of(made.version))
    (tmp_path / "notes").write_text("mine")
    code, err = refit(capsys, made.bundle.path, made.new.path, "-o", tmp_path / "notes")
    assert code == 1
    assert "VGG512" in err
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("in_place", [False, True])
def test_all_went_well(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    made = make(tmp_path, monkeypatch, precision="fp16", labels=tuple("abcdefghij"))
    on(monkeypatch, machine_of(made.version))
    target = made.bundle.path if in_place else tmp_path / "new"
    more = [] if in_place else ["-o", str(target), "--link-weights"]
    assert run(["refit", str(made.bundle.path), str(made.new.path), *more]) == 0
    out, err = capsys.readouterr()
    assert out == f"{target}\n"
    number = len(expected(made))
    assert f"TensorRT 11.4.0.106, fp16: {number} arrays replaced in 0." in err
    assert "labels: those of the new weights" in err
    assert "ILSVRC" not in err
    assert open_bundle(target, deep=True).manifest.labels == tuple("abcdefghij")
    if not in_place and (target / WEIGHTS).samefile(made.new.path):
        assert "weights: linked" in err  # elsewhere they are cloned


def test_the_weights_beside_a_stripped_engine_go_into_it(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch, refit="none", is_stripped=True, same=True)
    on(monkeypatch, machine_of(made.version))
    path = made.bundle.path
    assert run(["refit", str(path), str(path / WEIGHTS)]) == 0
    engine = open_bundle(path, deep=True).manifest.engine
    assert engine is not None
    assert not engine.is_stripped


def test_what_came_with_the_weights_is_told(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SMALL.replace("(mean 120 115 100, std 58 57 56)", "")
    made = make(tmp_path, monkeypatch, spec, version=CLASSIC_10)
    on(monkeypatch, machine_of(made.version))
    labelled = replace(made.bundle.manifest, labels=tuple("abcdefghij"))
    changes: dict[str, Any] = {"input": replace(labelled.input, mean=(1.0, 2.0, 3.0))}
    rewritten(made.bundle.path, labelled, **changes)
    assert run(["refit", str(made.bundle.path), str(made.new.path)]) == 0
    err = capsys.readouterr().err
    assert "mean: neither the spec nor the weights say one" in err
    assert "mean: 123.68 116.779 103.939 from now on, and 1 2 3 before" in err
    assert "labels: the new weights have none" in err
    assert "takes weights only once" in err


def test_a_failure_leaves_the_bundle(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch)
    on(monkeypatch, machine_of(made.version))
    made.trt.refuses.add("refit")
    before = [(made.bundle.path / name).read_bytes() for name in (PLAN, WEIGHTS, MANIFEST)]
    code, err = refit(capsys, made.bundle.path, made.new.path)
    assert code == 1
    assert "VGG624" in err
    after = [(made.bundle.path / name).read_bytes() for name in (PLAN, WEIGHTS, MANIFEST)]
    assert after == before
