"""What a machine lacks, and whether a bundle runs on it; nothing is loaded."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.engines import CLASSIC, RTX, stand_in
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from tests.runtime.test_compatibility import B200, BARE, H200, LINUX, T4, with_gpus
from vggspec.base.optional import EXTRAS
from vggspec.bundle.manifest import PLAN, WEIGHTS
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime import machine
from vggspec.runtime.machine import Driver, Machine
from vggspec.studies import diagnosis
from vggspec.studies.diagnosis import BundleDiagnosis, doctor

Patch = pytest.MonkeyPatch


def test_versions() -> None:
    found = doctor()
    assert found.passed
    versions = {component.name: component.version for component in found.components}
    for name in ("torch", "lark"):
        assert versions[name] == metadata.version(name)
    assert found.as_data()[0] == {
        "name": "lark",
        "purpose": "reads specs",
        "version": metadata.version("lark"),
        "remedy": 'pip install "vggspec"',
    }


def test_every_optional_library_is_listed() -> None:
    extras = {name: extra for name, _, _, extra in diagnosis.LIBRARIES}
    for library, extra in EXTRAS.items():
        assert extras[{"sklearn": "scikit-learn"}.get(library, library)] == extra


def test_missing_libraries(monkeypatch: Patch) -> None:
    real = diagnosis._version
    monkeypatch.setattr(
        diagnosis, "_version", lambda names: None if "torch" in names else real(names)
    )
    assert doctor().passed
    monkeypatch.setattr(diagnosis, "_version", lambda names: None)
    found = doctor()
    assert not found.passed
    remedies = {component.remedy for component in found.components}
    assert {f'pip install "vggspec[{extra}]"' for extra in ("trt", "rtx", "cuda")} <= remedies


@pytest.mark.parametrize(
    ("driver", "remedy"),
    [
        (None, "requires the NVIDIA driver; not needed on a CPU"),
        (Driver(cuda="13.0"), "the driver reports no GPU"),
        (
            Driver(cuda="13.0", trouble="cuInit returned error 803"),
            "the driver reports no GPU: cuInit returned error 803",
        ),
    ],
)
def test_no_gpu(driver: Driver | None, remedy: str, monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "ask_driver", lambda: driver)
    cuda = doctor().components[-1]
    assert (cuda.name, cuda.version, cuda.remedy) == ("CUDA", None, remedy)


def test_gpus_are_listed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(machine, "ask_driver", lambda: Driver(cuda="12.4", gpus=(H200, T4, B200)))
    found = doctor()
    cuda, first, *rest = found.components[-4:]
    assert cuda.version == "up to 12.4"
    assert (first.name, first.version) == ("GPU 0", "NVIDIA H200")
    assert first.purpose == "compute capability 9.0, 131 GiB"
    assert [each.name for each in rest] == ["GPU 1", "GPU 2"]
    first_note, second_note = found.notes
    assert "TensorRT-RTX does not run on GPU 0, of compute capability 9.0" in first_note
    assert "TensorRT-RTX does not run on GPU 2, of compute capability 10.0" in second_note
    assert "--trt-flavor tensorrt" in first_note


# A bundle on this machine.


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    stand_in(tmp_path / "small")
    return tmp_path / "small"


def on(found: Machine, bundle: Path, monkeypatch: Patch) -> BundleDiagnosis:
    monkeypatch.setattr(machine, "this_machine", lambda: found)
    return doctor(bundle)


def test_an_engine_that_fits(bundle: Path, monkeypatch: Patch) -> None:
    found = on(LINUX, bundle, monkeypatch)
    assert found.passed
    assert {finding.level for finding in found.findings} == {"ok"}
    assert found.findings[0].subject == "files"
    assert found.findings[0].text.startswith("3 files, ")


def test_an_engine_that_does_not(bundle: Path, monkeypatch: Patch) -> None:
    found = on(BARE, bundle, monkeypatch)
    assert not found.passed
    assert {finding.subject: finding.level for finding in found.findings} == {
        "files": "ok",
        "platform": "ok",
        "version": "problem",
        "driver": "problem",
        "GPU": "problem",
        "pycuda": "problem",
    }
    spec, compile_ = found.rebuild
    assert spec == f"vggspec inspect {bundle} --spec > small.vgg"
    assert compile_.startswith("vggspec compile small.vgg --trt --trt-flavor tensorrt_rtx ")


@pytest.mark.parametrize("gpu", [H200, B200])
def test_a_gpu_that_tensorrt_rtx_refuses(
    gpu: machine.Gpu, bundle: Path, monkeypatch: Patch
) -> None:
    found = on(with_gpus(gpu), bundle, monkeypatch)
    assert not found.passed
    (problem,) = (finding for finding in found.findings if finding.level == "problem")
    assert problem.subject == "GPU"
    assert f"TensorRT-RTX does not run on compute capability {gpu.capability}" in problem.text
    assert "--trt-flavor tensorrt " in found.rebuild[1]


def test_a_classic_engine(tmp_path: Path, monkeypatch: Patch) -> None:
    stand_in(tmp_path / "small", CLASSIC)
    found = on(replace(LINUX, platform="windows-x86_64"), tmp_path / "small", monkeypatch)
    assert not found.passed
    assert "runs on the platform it was built on" in found.findings[1].text


def test_as_data(bundle: Path, monkeypatch: Patch) -> None:
    found = on(BARE, bundle, monkeypatch).as_data()
    assert list(found) == ["bundle", "fits", "findings", "rebuild"]
    assert (found["bundle"], found["fits"]) == (str(bundle), False)


def test_a_stripped_plan_requires_its_weights(tmp_path: Path, monkeypatch: Patch) -> None:
    stand_in(tmp_path / "small", replace(RTX, is_stripped=True, refit="identical"))
    found = on(LINUX, tmp_path / "small", monkeypatch)
    assert not found.passed
    assert "stripped" in found.findings[-1].text


@pytest.mark.parametrize("name", [PLAN, WEIGHTS])
def test_a_changed_file_is_found_first(name: str, bundle: Path, monkeypatch: Patch) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    with refused(f"VGG524(.|\n)*{name}"):
        on(LINUX, bundle, monkeypatch)


def test_a_graph(tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w")
    write_bundle(lowered, weights, tmp_path / "small", CompileOptions())
    found = doctor(tmp_path / "small")
    assert found.passed
    subjects = ["files", "version", "device", "OpenVINO"]
    assert [finding.subject for finding in found.findings] == subjects


def test_no_bundle(tmp_path: Path) -> None:
    with refused("VGG521"):
        doctor(tmp_path)
