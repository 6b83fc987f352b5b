"""What every session must do, tried on ONNX Runtime."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.runtime.bundles import CLASSES, Made, make, rewrite, torch_scores
from vggspec.bundle import MODEL, file_entry, open_bundle
from vggspec.diagnostic import MissingLibraryError, VggspecError
from vggspec.runtime import ort_session
from vggspec.runtime.session import Port, open_session

FLOAT = np.dtype(np.float32)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make(tmp_path / "small")


def feed(n: int = 2, height: int = 24, width: int = 33) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    return {"image": rng.normal(0, 80, (n, 3, height, width)).astype(np.float32)}


def test_a_session_tells_its_ports(made: Made) -> None:
    with open_session(open_bundle(made.path), "cpu") as session:
        assert session.inputs == (Port("image", FLOAT, (None, 3, None, None)),)
        assert session.outputs == (
            Port("posteriors", FLOAT, (None, CLASSES)),
            Port("score_map", FLOAT, (None, CLASSES, None, None)),
        )
        assert session.device == "cpu"


@pytest.mark.parametrize("size", [(16, 16), (24, 33), (57, 19)])
def test_the_score_map_is_that_of_torch(made: Made, size: tuple[int, int]) -> None:
    fed = feed(2, *size)
    with open_session(open_bundle(made.path), "cpu", threads=1) as session:
        arrays = session.run(fed)
    scores = torch_scores(fed["image"], made.weights)
    np.testing.assert_allclose(arrays["score_map"], scores.numpy(), atol=1e-4)
    posteriors = scores.mean(dim=(2, 3)).softmax(dim=1)
    np.testing.assert_allclose(arrays["posteriors"], posteriors.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("fed", "words"),
    [
        ({}, "fed were none"),
        ({"picture": feed()["image"]}, "inputs are image; fed were picture"),
        ({**feed(), "more": feed()["image"]}, "fed were image, more"),
        ({"image": feed()["image"][0]}, r"float32 \(any, 3, any, any\); fed was float32 \(3, 24"),
        ({"image": feed()["image"].astype(np.float64)}, "fed was float64"),
        ({"image": feed()["image"][:, :2]}, r"fed was float32 \(2, 2, 24, 33\)"),
    ],
)
def test_feeds_are_checked_before_the_run(made: Made, fed: dict[str, Any], words: str) -> None:
    with (
        open_session(open_bundle(made.path), "cpu") as session,
        pytest.raises(ValueError, match=words),
    ):
        session.run(fed)


def test_a_closed_session_says_so(made: Made) -> None:
    session = open_session(open_bundle(made.path), "cpu")
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run(feed())


def test_what_the_engine_cannot_do_is_reported(made: Made) -> None:
    with (
        open_session(open_bundle(made.path), "cpu") as session,
        pytest.raises(VggspecError) as error,
    ):
        session.run(feed(height=8))  # smaller than the last convolution
    assert error.value.reports[0].what.code == "VGG529"


def test_threads_may_share_a_session(made: Made) -> None:
    results: list[Any] = []
    with open_session(open_bundle(made.path), "cpu") as session:
        expected = session.run(feed())["posteriors"]

        def run() -> None:
            results.append(session.run(feed())["posteriors"])

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 8
    for result in results:
        np.testing.assert_array_equal(result, expected)


def replace_model(made: Made, data: bytes, name: str = MODEL) -> Path:
    """The bundle with other bytes as its model, honestly listed."""
    folder = made.path.parent / "replaced"
    (folder / "1").mkdir(parents=True)
    (folder / name).write_bytes(data)
    text = made.manifest.to_json()
    (folder / "manifest.json").write_text(text, "utf-8")
    entry = file_entry(folder, name)
    listed = {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256, "from_byte": 0}
    rewrite(folder, {"files": [listed], "model": name})
    return folder


def unknown_op() -> bytes:
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, "H", "W"])
        for name in ("image", "posteriors")
    ]
    node = helper.make_node("Frobnicate", ["image"], ["posteriors"])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    opset = helper.make_opsetid("", 17)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no graph was found"),
        (b"not a model at all", "protobuf parsing failed"),
        (unknown_op(), "No Op registered for Frobnicate"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_reported(made: Made, data: bytes, words: str) -> None:
    folder = replace_model(made, data)
    with pytest.raises(VggspecError, match=words) as error:
        open_session(open_bundle(folder), "cpu")
    title = error.value.reports[0].what.title()
    assert error.value.reports[0].what.code == "VGG527"
    assert "ONNXRuntimeError" not in title
    assert str(folder) not in title


def test_an_unknown_kind_of_model_is_reported(made: Made) -> None:
    folder = replace_model(made, b"plan", "1/model.plan")
    with pytest.raises(VggspecError, match=r"no engine here runs `model\.plan`"):
        open_session(open_bundle(folder))


# Devices.


def test_cuda_that_is_not_there_is_never_replaced(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "count_cuda_devices", lambda: 0)
    with pytest.raises(MissingLibraryError, match="the device `cuda` cannot be had"):
        open_session(open_bundle(made.path), "cuda")


def test_cuda_that_does_not_load_is_never_replaced(
    made: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if ort_session.count_cuda_devices():
        pytest.skip("CUDA loads here")
    monkeypatch.setattr(ort_session, "lacking_cuda", lambda: None)
    with pytest.raises(MissingLibraryError, match="cannot load CUDA"):
        open_session(open_bundle(made.path), "cuda")
    with open_session(open_bundle(made.path), "auto") as session:
        assert session.device == "cpu"
    assert capfd.readouterr() == ("", "")


def test_a_session_on_a_machine_without_cuda_is_silent(made: Made) -> None:
    code = (
        "import sys; from vggspec.bundle import open_bundle;"
        "from vggspec.runtime.session import open_session;"
        "open_session(open_bundle(sys.argv[1]), sys.argv[2]).close()"
    )
    for device in ("auto", "cpu"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(made.path), device],
            capture_output=True,
            text=True,
            check=True,
            cwd=made.path,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.gpu
def test_the_cuda_device_gives_what_the_cpu_gives(made: Made) -> None:
    bundle = open_bundle(made.path)
    with open_session(bundle, "cuda") as cuda, open_session(bundle, "cpu") as cpu:
        assert cuda.device == "cuda"
        for name, expected in cpu.run(feed()).items():
            # TF32 rounds factors to 10 bits.
            np.testing.assert_allclose(cuda.run(feed())[name], expected, atol=2e-2, rtol=1e-2)
