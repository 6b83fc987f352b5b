"""What every session must do, tried on ONNX Runtime and OpenVINO."""

import json
import os
import subprocess
import sys
import threading
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.nets import net
from tests.refusals import refused, told
from tests.runtime.bundles import CLASSES, Made, make, rewrite, torch_scores, weights
from vggspec.base.arguments import Device
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, VggspecError
from vggspec.base.recipe import TestProtocol
from vggspec.base.safetensors_header import header
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import MODEL
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.initialise import write_initial
from vggspec.compiler.weights import Metadata, _texts, open_weights
from vggspec.runtime import ort_session
from vggspec.runtime.open_session import open_session
from vggspec.runtime.ort_session import _reason
from vggspec.runtime.session import Port

FLOAT = np.dtype(np.float32)


ON_CPUS = pytest.mark.parametrize("device", ["cpu", "openvino"])


def feed(n: int = 2, height: int = 24, width: int = 33) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    return {"image": rng.normal(0, 80, (n, 3, height, width)).astype(np.float32)}


@ON_CPUS
def test_a_session_tells_its_ports(device: Device, made: Made) -> None:
    with open_session(open_bundle(made.path), device) as session:
        assert session.inputs == (Port("image", FLOAT, (None, 3, None, None)),)
        assert session.outputs == (
            Port("posteriors", FLOAT, (None, CLASSES)),
            Port("score_map", FLOAT, (None, CLASSES, None, None)),
        )
        assert session.device == "cpu"


@ON_CPUS
@pytest.mark.parametrize("size", [(16, 16), (24, 33), (57, 19)])
def test_the_score_map_is_that_of_torch(device: Device, made: Made, size: tuple[int, int]) -> None:
    fed = feed(2, *size)
    with open_session(open_bundle(made.path), device, threads=1) as session:
        arrays = session.run(fed)
    scores = torch_scores(fed["image"], made.weights)
    np.testing.assert_allclose(arrays["score_map"], scores.numpy(), atol=1e-4)
    posteriors = scores.mean(dim=(2, 3)).softmax(dim=1)
    np.testing.assert_allclose(arrays["posteriors"], posteriors.numpy(), atol=1e-5)


@ON_CPUS
@pytest.mark.parametrize(
    ("fed", "words"),
    [
        ({}, "got none"),
        ({"picture": feed()["image"]}, "inputs are image; got picture"),
        ({**feed(), "more": feed()["image"]}, "got image, more"),
        ({"image": feed()["image"][0]}, r"float32 \(any, 3, any, any\); got float32 \(3, 24"),
        ({"image": feed()["image"].astype(np.float64)}, "got float64"),
        ({"image": feed()["image"][:, :2]}, r"got float32 \(2, 2, 24, 33\)"),
    ],
)
def test_feeds_are_checked_before_the_run(
    device: Device, made: Made, fed: dict[str, Any], words: str
) -> None:
    with (
        open_session(open_bundle(made.path), device) as session,
        pytest.raises(ValueError, match=words),
    ):
        session.run(fed)


@pytest.mark.parametrize("device", ["gpu", "cuda:0", "CPU"])
def test_a_device_that_is_none_is_refused(device: Any, made: Made) -> None:
    with pytest.raises(ArgumentError, match=r"`device` is .*, not one of auto, cpu, cuda"):
        open_session(open_bundle(made.path), device)


@ON_CPUS
def test_a_closed_session_says_so(device: Device, made: Made) -> None:
    session = open_session(open_bundle(made.path), device)
    session.close()
    session.close()
    with pytest.raises(ValueError, match="closed"):
        session.run(feed())


@ON_CPUS
def test_what_the_engine_cannot_do_is_reported(device: Device, made: Made) -> None:
    with (
        open_session(open_bundle(made.path), device) as session,
        pytest.raises(VggspecError) as error,
    ):
        session.run(feed(height=8))  # smaller than the last convolution
    assert error.value.reports[0].what.code == "VGG529"


SAID = {
    "Exception during initialization: /onnxruntime_src/onnxruntime/core/graph/graph_utils.cc:466 "
    "onnxruntime::NodeArg& onnxruntime::graph_utils::AddInitializerWithOrtValue(onnxruntime::Graph&"
    ", const onnx::TensorProto&) [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1512 "
    "ValidateEmbeddedTensorProtoDataSizeAndShape Initializer 'reorder_token_4' declares a size of "
    "2304000000 bytes which exceeds the 2147483648 byte limit.\n": (
        "exception during initialization: Initializer 'reorder_token_4' declares a size of "
        "2304000000 bytes which exceeds the 2147483648 byte limit"
    ),
    "Non-zero status code. Status Message: /onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, std::function"
    "<void(int)>) Failed to allocate memory for requested buffer of size 68719476736\n": (
        "non-zero status code. Status Message: Failed to allocate memory for requested buffer of "
        "size 68719476736"
    ),
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:121 std::conditional_t<THRW, "
    "void, Status> onnxruntime::CudaCall(ERRTYPE, const char*, int) [with ERRTYPE = cudaError; "
    "bool THRW = true] CUDA failure 2: out of memory ; GPU=0 ; hostname=x ; file=/a/b.cc": (
        "CUDA failure 2: out of memory"
    ),
    "/onnxruntime_src/onnxruntime/core/x.cc:1 onnxruntime::X::F()::<lambda(const N&)> a != b was "
    "false.": "a != b was false",
    "Load model from m.onnx failed:Protobuf parsing failed.": "protobuf parsing failed",
    "\x1b[1;31mIt is late.\x1b[m": "it is late",
}


@pytest.mark.parametrize("text", SAID)
def test_what_onnx_runtime_says_comes_without_its_own_places(text: str) -> None:
    assert _reason(Exception(f"[ONNXRuntimeError] : 1 : FAIL : {text}"), "m.onnx") == SAID[text]


def test_what_onnx_runtime_says_is_bounded() -> None:
    said = _reason(Exception("Too much. " * 100_000 + "[with (" * 9), "m.onnx")
    assert len(said) <= 502
    assert said.endswith("much. …")


@ON_CPUS
def test_threads_may_share_a_session(device: Device, made: Made) -> None:
    results: list[Any] = []
    with open_session(open_bundle(made.path), device) as session:
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


@ON_CPUS
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no graph was found|unable to read the model"),
        (b"not a model at all", "protobuf parsing failed|unable to read the model"),
        (unknown_op(), "(No Op registered|No conversion rule found) for .*Frobnicate"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_reported(
    device: Device, made: Made, data: bytes, words: str
) -> None:
    folder = replace_model(made, data)
    with refused(words) as error:
        open_session(open_bundle(folder), device)
    title = error.value.reports[0].what.title()
    assert error.value.reports[0].what.code == "VGG527"
    assert "ONNXRuntimeError" not in title
    assert str(folder) not in title


def test_an_unknown_kind_of_model_is_reported(made: Made) -> None:
    folder = replace_model(made, b"model", "1/model.mlir")
    with refused(r"no engine here runs `model\.mlir`"):
        open_session(open_bundle(folder))


@pytest.mark.parametrize("device", ["auto", "cpu", "tensorrt"])
def test_a_plan_that_the_manifest_does_not_describe_is_none(made: Made, device: Any) -> None:
    folder = replace_model(made, b"plan", "1/model.plan")
    with refused("a plan without `engine`"):
        open_session(open_bundle(folder), device)


# Devices.


def test_cuda_that_is_not_there_is_never_replaced(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "has_gpu", lambda: False)
    with pytest.raises(MissingLibraryError, match="the device `cuda` is not available"):
        open_session(open_bundle(made.path), "cuda")


def test_cuda_that_does_not_load_is_never_replaced(
    made: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if ort_session.has_gpu():
        pytest.skip("CUDA loads here")
    monkeypatch.setattr(ort_session, "lacking_cuda", lambda: None)
    with pytest.raises(MissingLibraryError, match="cannot load CUDA"):
        open_session(open_bundle(made.path), "cuda")
    with open_session(open_bundle(made.path), "auto") as session:
        assert session.device == "cpu"
    assert capfd.readouterr() == ("", "")


def test_tensorrt_that_is_not_there_is_never_replaced(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "has_gpu", lambda: False)
    with pytest.raises(
        MissingLibraryError, match="`tensorrt` is not available: this machine has no"
    ):
        open_session(open_bundle(made.path), "tensorrt")


def test_tensorrt_that_does_not_load_is_told_by_its_libraries(
    made: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if "libnvinfer.so.10" not in ort_session.missing_libraries():
        pytest.skip("TensorRT loads here, or this onnxruntime was built for another")
    monkeypatch.setattr(ort_session, "lacking_tensorrt", lambda: None)
    with pytest.raises(MissingLibraryError) as error:
        open_session(open_bundle(made.path), "tensorrt")
    assert "onnxruntime needs " in told(error.value)
    assert "libnvinfer.so.10" in told(error.value)
    assert "\n" not in told(error.value)
    assert capfd.readouterr() == ("", "")


class Recorded:
    """An ONNX Runtime session that writes down how it was opened, and runs on the CPU."""

    def __init__(self, gives_tensorrt: bool = True) -> None:
        self.gives_tensorrt = gives_tensorrt
        self.providers: list[Any] = []
        self.entries: dict[str, str] = {}
        self.real = ort_session.ort.InferenceSession

    def __call__(self, path: str, options: Any, *, providers: Any, enable_fallback: bool) -> Any:
        assert not enable_fallback
        self.providers = providers
        key = "session.disable_cpu_ep_fallback"
        assert options.get_session_config_entry(key) == "1"
        session = self.real(path, providers=["CPUExecutionProvider"])
        if self.gives_tensorrt:
            session.get_providers = lambda: [ort_session.TENSORRT, ort_session.CUDA]
        return session


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """As if ONNX Runtime's TensorRT were there."""
    recorded = Recorded()
    monkeypatch.setattr(ort_session, "lacking_tensorrt", lambda: None)
    monkeypatch.setattr(ort_session, "missing_libraries", list)
    monkeypatch.setattr(ort_session.ort, "InferenceSession", recorded)
    return recorded


def test_tensorrt_is_told_the_shapes_of_the_test_protocol(
    tmp_path: Path, recorded: Recorded
) -> None:
    test = TestProtocol(scales=(24, 40), flip=True)
    bundle = open_bundle(make(tmp_path / "two", test=test).path)
    with open_session(bundle, "tensorrt") as session:
        assert session.device == "cuda"
        fed = feed(2, 24, 80)
        assert session.run(fed)["posteriors"].shape == (2, CLASSES)
        with pytest.raises(VggspecError) as error:
            session.run(feed(2, 24, 81))
        assert error.value.reports[0].what.code == "VGG634"
    (name, options), (second, _) = recorded.providers
    assert (name, second) == (ort_session.TENSORRT, ort_session.CUDA)
    assert options["trt_fp16_enable"] == "0"
    assert options["trt_profile_min_shapes"] == "image:1x3x24x24"
    assert options["trt_profile_opt_shapes"] == "image:2x3x40x53"
    assert options["trt_profile_max_shapes"] == "image:8x3x80x80"
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_relative_to(os.environ["XDG_CACHE_HOME"])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"


def test_other_weights_have_another_engine(tmp_path: Path) -> None:
    first = make(tmp_path / "first").manifest
    assert ort_session.for_tensorrt(first) == ort_session.for_tensorrt(first)
    other = make(tmp_path / "other", of=weights(seed=1)).manifest
    folders = {
        ort_session.for_tensorrt(each).options["trt_engine_cache_path"] for each in (first, other)
    }
    assert len(folders) == 2


def test_a_net_of_one_size_and_raw_pixels_is_told_as_such(
    tmp_path: Path, recorded: Recorded
) -> None:
    made = make(tmp_path / "raw", contract="raw", is_dynamic=False)
    with open_session(open_bundle(made.path), "tensorrt"):
        pass
    ((_, options), _) = recorded.providers
    assert options["trt_profile_max_shapes"] == "image:10x16x16x3"


def test_without_a_cache_engines_are_built_each_time(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_session, "cache_folder", lambda: None)
    assert "trt_engine_cache_path" not in ort_session.for_tensorrt(made.manifest).options
    monkeypatch.setattr(ort_session, "cache_folder", lambda: made.path / "manifest.json")
    assert "trt_engine_cache_path" not in ort_session.for_tensorrt(made.manifest).options


def test_an_onnxruntime_that_falls_back_all_the_same_is_not_taken(
    made: Made, recorded: Recorded
) -> None:
    recorded.gives_tensorrt = False
    with pytest.raises(MissingLibraryError, match="onnxruntime cannot load TensorRT"):
        open_session(open_bundle(made.path), "tensorrt")


def test_a_session_on_a_machine_without_cuda_is_silent(made: Made) -> None:
    code = (
        "import sys; from vggspec.bundle.opening import open_bundle;"
        "from vggspec.runtime.open_session import open_session;"
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
            np.testing.assert_allclose(cuda.run(feed())[name], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
def test_a_shape_for_which_cudnn_proposes_no_algorithm_is_run(tmp_path: Path) -> None:
    """Net D's first FC layer in fp16, as a convolution over 8 maps of 8 × 10."""
    column = "conv3-512\nmaxpool\nFC-4096\nFC-4\nsoft-max\n"
    lowered = net(f"net head\ninput 14x14 RGB(mean 0)\n{column}train:\n  start he\n")
    head = tmp_path / "head.safetensors"
    write_initial(str(head), lowered.network, lowered.experiment.train, 0)
    for precision in ("fp32", "fp16"):
        options = CompileOptions(precision=precision)
        write_bundle(lowered, open_weights(head), tmp_path / precision, options)
    images = np.random.default_rng(0).normal(0, 1, (8, 3, 16, 20)).astype(np.float32)
    with (
        open_session(open_bundle(tmp_path / "fp32"), "cpu") as cpu,
        open_session(open_bundle(tmp_path / "fp16"), "cuda") as cuda,
    ):
        expected = cpu.run({"image": images})["posteriors"]
        for _ in range(2):
            found = cuda.run({"image": images})["posteriors"]
            np.testing.assert_allclose(found, expected, atol=2e-2)
        np.testing.assert_allclose(
            cuda.run({"image": images[:1]})["posteriors"], expected[:1], atol=2e-2
        )


def test_a_tensor_of_more_than_2_gib_is_loaded(tmp_path: Path) -> None:
    """ONNX Runtime would make another of that size in the order of the CPU's vector units, and
    refuses its own. Almost all of the weights are a hole in the file.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if os.name == "posix" else 0
    if free < 6 << 30:
        pytest.skip("takes 3 GB of memory")
    units = 24_000
    fc = f"FC-{units}\nFC-{units}\nFC-4"
    text = f"net big\ninput 8x8 RGB(mean 0)\nconv1-16\nmaxpool\n{fc}\nsoft-max\n"
    lowered = net(text)
    shapes = {param.name: ("F32", param.stored) for param in lowered.network.params()}
    # Vouched for and linked: ONNX Runtime alone reads it.
    vouched = _texts(shapes, Metadata(), sha256().hexdigest(), is_finite=True)
    start = header(shapes, vouched)
    path = tmp_path / "big.safetensors"
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + sum(4 * prod(shape) for _, shape in shapes.values()))
        assert list(shapes)[-1] == "fc4.bias"
        file.seek(-16, os.SEEK_END)
        file.write(np.log(np.array([1, 2, 3, 4], "<f4")).tobytes())
    write_bundle(lowered, open_weights(path), tmp_path / "b", CompileOptions(link_weights=True))
    code = (
        "import sys, numpy; from vggspec.bundle.opening import open_bundle;"
        "from vggspec.runtime.open_session import open_session;"
        "session = open_session(open_bundle(sys.argv[1]), 'cpu', threads=1);"
        "image = numpy.zeros((1, 3, 8, 8), numpy.float32);"
        "print(session.run({'image': image})['posteriors'].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "b")]  # whose memory ends with it
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(json.loads(done.stdout), [[0.1, 0.2, 0.3, 0.4]], rtol=1e-6)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="one processor"
)
def test_a_process_with_one_processor_gets_one_thread(made: Made) -> None:
    """ONNX Runtime would start as many threads as the machine has cores."""
    script = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from vggspec.bundle.opening import open_bundle\n"
        "from vggspec.runtime.open_session import open_session\n"
        "for threads in (1, None):\n"
        "    with open_session(open_bundle(sys.argv[1]), 'cpu', threads):\n"
        "        print(len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(made.path)], capture_output=True, text=True, check=True
    )
    one, chosen = done.stdout.split()
    assert chosen == one
