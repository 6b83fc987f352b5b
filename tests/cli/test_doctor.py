"""``vggspec doctor`` names what is here and what is not, and judges bundles unloaded."""

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.cli.run import vggspec
from tests.engines import CLASSIC, RTX, stand_in
from tests.nets import SMALL, net, random_weights
from tests.runtime.test_compatibility import BARE, H200, LINUX, T4, with_gpus
from vggspec.bundle.manifest import PLAN, WEIGHTS
from vggspec.cli import doctor, run
from vggspec.compiler.backends.onnx.model import OnnxOptions
from vggspec.compiler.bundles.writer import write_bundle
from vggspec.runtime import machine
from vggspec.runtime.machine import Driver, Machine

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_it_lists_versions() -> None:
    done = vggspec("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert found["torch"]["version"] == metadata.version("torch")
    assert found["lark"]["version"] == metadata.version("lark")


def test_what_is_missing_has_its_remedy(monkeypatch: Patch, capsys: Capture) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda names: None if "torch" in names else real(names))
    assert run(["doctor"]) == 0
    assert 'pip install "vggspec[train]"' in capsys.readouterr().out
    monkeypatch.setattr(doctor, "_version", lambda names: None)
    assert run(["doctor"]) == 3
    out = capsys.readouterr().out
    for extra in ("trt", "rtx", "cuda"):
        assert f'pip install "vggspec[{extra}]"' in out


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (None, ["CUDA", "missing", "wants the NVIDIA driver; CPUs do without"]),
        (Driver(cuda="13.0"), ["missing", "the driver shows no GPU: there is none"]),
        (
            Driver(cuda="13.0", trouble="cuInit says error 803"),
            ["missing", "the driver shows no GPU: cuInit says error 803"],
        ),
        (
            Driver(cuda="12.4", gpus=(H200, T4)),
            ["up to 12.4", "GPU 0", "NVIDIA H200", "compute capability 9.0, 131 GiB", "GPU 1"],
        ),
    ],
)
def test_gpus_are_named(
    driver: Driver | None, words: list[str], monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr(machine, "ask_driver", lambda: driver)
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


# A bundle on this machine.


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    stand_in(tmp_path / "small")
    return tmp_path / "small"


def on(found: Machine, monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda: found)


def test_an_engine_that_fits(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    on(LINUX, monkeypatch)
    assert run(["doctor", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "net small in fp16, an engine of TensorRT-RTX 1.7.1.116" in out
    assert "It should run here." in out
    assert "problem" not in out
    assert "vggspec compile" not in out


def test_an_engine_that_does_not(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    on(BARE, monkeypatch)
    assert run(["doctor", str(bundle)]) == 3
    out = capsys.readouterr().out
    words = [line.split() for line in out.splitlines() if line.startswith(("ok", "problem"))]
    levels = {subject: level for level, subject, *_ in words}
    assert levels == {
        "files": "ok",
        "platform": "ok",
        "version": "problem",
        "driver": "problem",
        "GPU": "problem",
        "pycuda": "problem",
    }
    assert "It does not run here." in out
    assert f"vggspec inspect {bundle} --spec > small.vgg" in out
    assert "vggspec compile small.vgg --trt --trt-flavor tensorrt_rtx" in out


def test_what_is_untested_is_no_refusal(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    on(with_gpus(H200), monkeypatch)
    assert run(["doctor", str(bundle)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "unknown GPU NVIDIA H200 (9.0)" in out
    assert "may run as later than 8.9, which is untested" in out
    assert "To build it anew" in out


def test_lines_are_no_wider_than_the_terminal(
    bundle: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    on(with_gpus(H200), monkeypatch)
    monkeypatch.setenv("COLUMNS", "60")
    run(["doctor", str(bundle)])
    findings = capsys.readouterr().out.partition("\n\n")[2].partition("\n\n")[0]
    assert len(findings.splitlines()) > 6
    assert max(map(len, findings.splitlines())) <= 60


def test_a_classic_engine(tmp_path: Path, monkeypatch: Patch, capsys: Capture) -> None:
    stand_in(tmp_path / "small", CLASSIC)
    on(replace(LINUX, platform="windows-x86_64"), monkeypatch)
    assert run(["doctor", str(tmp_path / "small")]) == 3
    assert "do not cross platforms" in " ".join(capsys.readouterr().out.split())


def test_json(bundle: Path, monkeypatch: Patch, capsys: Capture) -> None:
    on(BARE, monkeypatch)
    assert run(["doctor", str(bundle), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False
    assert [each["subject"] for each in found["findings"]][:2] == ["files", "platform"]
    assert found["rebuild"][1].startswith("vggspec compile small.vgg --trt")


def test_a_stripped_plan_wants_its_weights(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    stand_in(tmp_path / "small", replace(RTX, is_stripped=True, refit="identical"))
    on(LINUX, monkeypatch)
    assert run(["doctor", str(tmp_path / "small")]) == 3
    assert "stripped" in capsys.readouterr().out


@pytest.mark.parametrize("name", [PLAN, WEIGHTS])
def test_a_changed_file_is_found_before_all_else(
    name: str, bundle: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    on(LINUX, monkeypatch)
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    assert run(["doctor", str(bundle)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "VGG524" in err
    assert name in err


def test_a_graph(tmp_path: Path, capsys: Capture) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w")
    write_bundle(lowered, weights, tmp_path / "small", OnnxOptions())
    assert run(["doctor", str(tmp_path / "small")]) == 0
    out = capsys.readouterr().out
    assert "net small in fp32, a graph for ONNX Runtime" in out
    assert "knows opset" in out
    assert "vggspec compile" not in out


def test_no_bundle(tmp_path: Path, capsys: Capture) -> None:
    assert run(["doctor", str(tmp_path)]) == 1
    assert "VGG521" in capsys.readouterr().err
