"""Which engine was measured ahead: the record, and that ``auto`` follows it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.engines import with_options
from tests.runtime.bundles import Made, make
from vggspec.bundle.opening import open_bundle
from vggspec.cli import run
from vggspec.runtime import fastest_engine
from vggspec.runtime.fastest_engine import fastest, recall, remember
from vggspec.runtime.machine import Library, this_machine
from vggspec.runtime.open_session import open_session
from vggspec.runtime.openvino_session import OpenvinoSession
from vggspec.runtime.ort_session import OrtSession, has_gpu

Patch = pytest.MonkeyPatch


@pytest.fixture
def made(tmp_path: Path, monkeypatch: Patch) -> Made:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make(tmp_path / "b")


def test_what_was_measured_is_recalled(made: Made) -> None:
    assert recall(made.manifest) is None
    assert fastest(made.manifest) == "cpu"
    assert remember(made.manifest, {"cpu": 0.2, "openvino": 0.1})
    assert recall(made.manifest) == {"cpu": 0.2, "openvino": 0.1}
    assert fastest(made.manifest) == "openvino"
    assert remember(made.manifest, {"cpu": 0.2, "openvino": 0.199})
    assert fastest(made.manifest) == "cpu"  # a difference of that size is noise


def test_it_holds_for_what_was_measured_alone(made: Made, monkeypatch: Patch) -> None:
    manifest = made.manifest
    remember(manifest, {"cpu": 0.2, "openvino": 0.1}, threads=1)
    assert recall(manifest, threads=1) is not None
    assert recall(manifest, threads=7) is None
    assert recall(with_options(manifest, precision="bf16"), threads=1) is None
    (entry,) = manifest.files
    other = replace(manifest, files=(replace(entry, sha256="0" * 64),))
    assert recall(other, threads=1) is None
    later = replace(this_machine(), openvino=Library(version="9999.0"))
    with monkeypatch.context() as patched:
        patched.setattr(fastest_engine, "this_machine", lambda: later)
        assert recall(manifest, threads=1) is None
    monkeypatch.setattr(fastest_engine, "processor", lambda: "another one")
    assert recall(manifest, threads=1) is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"seconds": {"cpu": 1}}', '{"seconds": {"cpu": 1, "openvino": -1}}']
)
def test_a_damaged_record_is_none(text: str, made: Made, tmp_path: Path) -> None:
    remember(made.manifest, {"cpu": 0.2, "openvino": 0.1})
    (record,) = (tmp_path / "cache").rglob("*.json")
    record.write_text(text)
    assert recall(made.manifest) is None


def test_a_record_has_both_times(made: Made) -> None:
    with pytest.raises(ValueError, match="a time of each of cpu, openvino"):
        remember(made.manifest, {"cpu": 0.2})
    with pytest.raises(ValueError, match="positive"):
        remember(made.manifest, {"cpu": 0.2, "openvino": float("nan")})


def test_no_cache_is_no_error(made: Made, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert not remember(made.manifest, {"cpu": 0.2, "openvino": 0.1})
    assert recall(made.manifest) is None


@pytest.mark.skipif(has_gpu(), reason="auto is the GPU")
def test_auto_follows_it_and_says_so(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_bundle(made.path)
    with open_session(opened, "auto") as session:
        assert isinstance(session, OrtSession)
    remember(made.manifest, {"cpu": 0.2, "openvino": 0.1})
    with open_session(opened, "auto") as session:
        assert isinstance(session, OpenvinoSession)
    with open_session(opened, "cpu") as session:
        assert isinstance(session, OrtSession)
    assert run(["doctor", str(made.path)]) == 0
    assert "measured here: 100 ms to 200 ms of ONNX Runtime, so `auto` takes it" in " ".join(
        capsys.readouterr().out.split()
    )
