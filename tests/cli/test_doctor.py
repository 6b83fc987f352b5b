"""``vggspec doctor``: its exit codes and text. The library's tests judge machines and bundles."""

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.run import vggspec
from tests.engines import stand_in
from tests.runtime.test_compatibility import BARE, H200, LINUX, with_gpus
from tests.test_import_cost import CLI, HEAVY
from tests.test_import_cost import run as run_without
from vggspec.cli import run
from vggspec.cli.doctor import print_machine
from vggspec.runtime import machine
from vggspec.runtime.tensorrt.library import FLAVOURS
from vggspec.studies.diagnosis import Component, MachineDiagnosis

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_this_machine() -> None:
    done = vggspec("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert {"name", "purpose", "version", "remedy"} == set(json.loads(done.stdout)[0])
    done = vggspec("doctor", env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("vggspec ")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_it_runs_where_libraries_are_missing() -> None:
    assert "onnxruntime" in run_without(CLI, HEAVY - set(FLAVOURS), "doctor", "--json")


def test_missing_libraries_and_notes(capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    torch = Component("torch", "train", None, 'pip install "vggspec[train]"')
    gpu = Component("GPU 0", "compute capability 9.0", "NVIDIA H200", "")
    note = "TensorRT-RTX does not run on GPU 0, of compute capability 9.0: build for another one"
    print_machine(MachineDiagnosis(components=(torch, gpu), notes=(note,)))
    out = capsys.readouterr().out
    assert out.partition("\n\n")[2] == (
        "torch  missing      train\n"
        '                    pip install "vggspec[train]"\n'
        "GPU 0  NVIDIA H200  compute capability 9.0\n"
        "\n"
        "Note: TensorRT-RTX does not run on GPU 0, of compute capability 9.0: build for\n"
        "another one.\n"
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    stand_in(tmp_path / "small")
    return tmp_path / "small"


def test_an_engine_that_fits(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: LINUX)
    assert run(["doctor", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "net small in fp16, an engine of TensorRT-RTX 1.7.1.116" in " ".join(out.split())
    assert "It should run here." in out
    assert "problem" not in out
    assert "vggspec compile" not in out


@pytest.mark.parametrize("columns", [60, 80])
def test_an_engine_that_does_not(
    columns: int, bundle: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(machine, "this_machine", lambda: with_gpus(H200))
    monkeypatch.chdir(bundle.parent)
    assert run(["doctor", "small"]) == 3
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert "build it with `--trt-flavor tensorrt`" in " ".join(out.split())
    findings, _, rest = out.partition("\nIt does not run here.\n")
    assert findings.count("\nok       ") == 5
    assert findings.count("\nproblem  GPU ") == 1
    # What is printed can be pasted into a shell.
    command = rest.partition("> small.vgg\n")[2]
    words = shlex.split(command.replace("\\\n", ""))
    assert words[:5] == ["vggspec", "compile", "small.vgg", "--trt", "--trt-flavor"]
    assert words[-4:] == ["--weights", "small/1/model.safetensors", "-o", "small-rebuilt"]


def test_paths_with_spaces_stay_whole(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: BARE)
    monkeypatch.chdir(bundle.parent)
    bundle.rename("a small   engine")
    assert run(["doctor", "a small   engine"]) == 3
    command = capsys.readouterr().out.partition("> small.vgg\n")[2]
    assert "a small   engine/1/model.safetensors" in shlex.split(command.replace("\\\n", ""))


def test_json(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: BARE)
    assert run(["doctor", str(bundle), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert [each["subject"] for each in found["findings"]][:2] == ["files", "platform"]
    assert found["rebuild"][1].startswith("vggspec compile small.vgg --trt")


def test_no_bundle(tmp_path: Path, capsys: Capture) -> None:
    assert run(["doctor", str(tmp_path)]) == 1
    assert "VGG521" in capsys.readouterr().err
