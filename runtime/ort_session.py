"""Nets in ONNX Runtime: on the CPU, on a CUDA device, or by its TensorRT."""

import contextlib
import ctypes
import hashlib
import importlib
import io
import json
import mmap
import os
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from vggspec.base.arguments import Device
from vggspec.base.catalogue.artefacts import EngineFailed, RunFailed
from vggspec.base.catalogue.running import ShapeOutsideProfiles
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.files import cache_folder, named_in_text
from vggspec.base.optional import has_library
from vggspec.base.processors import engine_threads
from vggspec.base.regular_files import open_file
from vggspec.base.safetensors_header import BadTensorsError, Tensor, read_layout
from vggspec.base.wording import foreign
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.profile import BatchShape, Profile, spans
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.bundle.sizes import check_ranges
from vggspec.runtime.machine import ask_driver
from vggspec.runtime.session import Arrays, Port, check_feeds

# ONNX Runtime's exceptions have only Exception as a common base.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(
        value
        for value in vars(ort_state).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# By default ONNX Runtime tries every algorithm for each new image size, which takes seconds, and
# rounds the factors of fp32 products to the 10 bits of TF32.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
#: In fp16 alone channels last is faster; the exhaustive search is not, and fp32 is not.
CHANNELS_LAST = {"prefer_nhwc": "1"}
#: What cuDNN says where it proposes no algorithm, for some shapes in fp16; a search finds one.
NO_PROPOSAL = "HEURISTIC_QUERY_FAILED"
#: The libraries that ONNX Runtime's TensorRT is linked with, by their names in its file.
LINKED = re.compile(rb"lib(?:nvinfer|nvonnxparser|cudart|cublas|cudnn)\.so\.\d+")
FATAL, WARNING = 4, 2

#: How ONNX Runtime's refusal of weights begins that are links to another folder.
LINK_REFUSED = "External data path"
#: The session option with the folder of the weights of a graph that is passed as bytes.
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
#: The pass that reorders weights for the CPU's vector units, and the largest tensor it can make.
REORDERING, HUGE_BYTES = "NchwcTransformer", 1 << 31
MAX_SAID = 1 << 16

Providers = list[str | tuple[str, dict[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForTensorrt:
    """How ONNX Runtime's TensorRT builds an engine from a graph."""

    profile: Profile
    axes: tuple[int, int, int]
    """Images, rows and columns among the input's axes."""

    options: dict[str, str]


class OrtSession(Closing):
    """A net loaded by ONNX Runtime.

    ``auto`` is a CUDA device if there is one and its provider loads, else the CPU; ``cuda`` and
    ``tensorrt`` never fall back. ``tensorrt`` builds an engine as ``built`` says. On CPUs and CUDA
    devices dense FC layers are matrix products where that pays (``fc_products``), unless ``graph``
    replaces the file's graph on the CPU; its weights are those beside the file. ``is_half`` tells
    that it computes in fp16.

    Raises:
        VggspecError: ONNX Runtime refuses the model.
        MissingLibraryError: ``device`` is not available.
    """

    def __init__(
        self,
        model: Path,
        device: Device = "auto",
        threads: int | None = None,
        built: ForTensorrt | None = None,
        graph: bytes | None = None,
        *,
        is_half: bool = False,
    ) -> None:
        self._path = str(model)
        self._threads = threads
        self._built = built
        self._lock = threading.Lock()
        self._searching: ort.InferenceSession | None = None
        self._searched: set[tuple[tuple[int, ...], ...]] = set()
        session = None
        if device == "tensorrt":
            assert built is not None
            session = _load_on_tensorrt(self._path, threads, built.options)
        elif device == "cuda" or (device == "auto" and lacking_cuda() is None):
            options = CUDA_OPTIONS | (CHANNELS_LAST if is_half else {})
            session = _load_on_cuda(self._path, threads, options, must=device == "cuda")
        if session is None:
            graph = _graph_for_cpu(self._path) if graph is None else graph
            session = _load(self._path, [CPU], threads, graph=graph)
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(_port(node, self._path) for node in session.get_inputs())
        self.outputs = tuple(_port(node, self._path) for node in session.get_outputs())
        is_on_gpu = device == "tensorrt" or _is_on_cuda(session)
        self.device: Literal["cpu", "cuda"] = "cuda" if is_on_gpu else "cpu"

    @property
    def is_slow_to_change_shape(self) -> bool:
        """On CUDA: cuDNN is asked for the algorithm of each convolution anew, of net D for 43 ms in
        fp32 and 130 ms in fp16, where a run takes 1 to 20.
        """
        return self.device == "cuda" and self._built is None

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name, as new arrays.

        Raises:
            ValueError: the feeds do not match the inputs, or the session is closed.
            VggspecError: the engine fails, for lack of memory for instance.
        """
        session = self._session
        if session is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        if self._built is not None:
            self._check_profile(self._built, feeds[self.inputs[0].name].shape)
        try:
            arrays = self._run(session, dict(feeds))
        except ORT_ERRORS as error:
            what = RunFailed(reason=_reason(error, self._path))
            raise VggspecError(report(what)) from error
        return {port.name: array for port, array in zip(self.outputs, arrays, strict=True)}

    def _run(
        self, session: ort.InferenceSession, feeds: dict[str, NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Run it; shapes for which cuDNN proposes no algorithm run in a second session, with a copy
        of the weights, that tries them all. It is slower, so other shapes stay in the first one.
        """
        shapes = tuple(feeds[port.name].shape for port in self.inputs)
        if shapes not in self._searched:
            try:
                return _arrays(session, feeds)
            except ORT_ERRORS as error:
                if NO_PROPOSAL not in str(error):
                    raise
            self._searched.add(shapes)
        with self._lock:
            searching = self._searching
            if searching is None:
                options = CUDA_OPTIONS | {"cudnn_conv_algo_search": "EXHAUSTIVE"}
                graph = _graph_for_cuda(self._path)
                providers: Providers = [(CUDA, options), CPU]
                searching = _load(self._path, providers, self._threads, graph=graph)
                self._searching = searching
        return _arrays(searching, feeds)

    def close(self) -> None:
        """Free the net and its memory; a second call does nothing."""
        self._session = self._searching = None

    def _check_profile(self, built: ForTensorrt, fed: tuple[int, ...]) -> None:
        shape = tuple(fed[axis] for axis in built.axes)
        if not built.profile.holds(shape):
            what = ShapeOutsideProfiles(shape=shape, ranges=spans((built.profile,)))
            raise VggspecError(report(what))


def _arrays(session: ort.InferenceSession, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    arrays: list[NDArray[Any]] = session.run(None, feeds)
    return arrays


def for_tensorrt(manifest: Manifest) -> ForTensorrt:
    """One profile for all shapes of the bundle's test protocol, and the options.

    ONNX Runtime builds several profiles but runs only the first (microsoft/onnxruntime#31624). The
    precision is the graph's. Engines are kept in the user's cache, in a folder of their own: ONNX
    Runtime distinguishes graphs by their names and not by their weights
    (microsoft/onnxruntime#6455).

    Raises:
        VggspecError: a scale of the protocol is smaller than the net's window, or branches of the
            net do not meet for every size.
    """
    contract = manifest.input
    profile = covering(profiles_of(manifest))
    check_ranges(
        (profile,),
        contract.sizes,
        path=f"net {manifest.net}",
        is_derived=True,
        is_writable=False,
    )
    is_raw = contract.contract == "raw"
    channels = len(contract.mean)

    def text(shape: BatchShape) -> str:
        n, h, w = shape
        axes = (n, h, w, channels) if is_raw else (n, channels, h, w)
        return ",".join(f"{name}:{'x'.join(map(str, axes))}" for name in manifest.inputs)

    options = {
        "trt_fp16_enable": "0",
        "trt_profile_min_shapes": text(profile.min),
        "trt_profile_opt_shapes": text(profile.opt),
        "trt_profile_max_shapes": text(profile.max),
    }
    folder = _engine_folder(manifest, profile)
    if folder is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    axes = (0, 1, 2) if is_raw else (0, 2, 3)
    return ForTensorrt(profile=profile, axes=axes, options=options)


def covering(profiles: Sequence[Profile]) -> Profile:
    """The narrowest profile that covers all of these, tuned for the largest."""

    def each(choose: Callable[[Iterable[int]], int], shapes: Iterable[BatchShape]) -> BatchShape:
        images, rows, columns = (choose(axis) for axis in zip(*shapes, strict=True))
        return images, rows, columns

    return Profile(
        each(min, (profile.min for profile in profiles)),
        max((profile.opt for profile in profiles), key=prod),
        each(max, (profile.max for profile in profiles)),
    )


def lacking_tensorrt() -> str | None:
    """Why this machine cannot run a TensorRT session, or None if it may."""
    if TENSORRT not in ort.get_available_providers():
        return "this onnxruntime was built without TensorRT: pip install onnxruntime-gpu"
    if not has_gpu():
        return "this machine has no CUDA device"
    return None


def lacking_cuda() -> str | None:
    """Why this machine cannot run a CUDA session, or None if it may."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA: pip install onnxruntime-gpu"
    if not has_gpu():
        return "this machine has no CUDA device"
    return None


def has_gpu() -> bool:
    """Whether the driver reports a GPU."""
    # The driver is asked directly: ONNX Runtime reports a missing GPU by failing and printing.
    driver = ask_driver()
    return driver is not None and bool(driver.gpus)


def _load_on_cuda(
    path: str, threads: int | None, options: dict[str, str], *, must: bool
) -> ort.InferenceSession | None:
    """A session on the CUDA device, or None if no device exists and ``must`` is false."""
    lacks = lacking_cuda()
    if lacks is None:
        _preload()
        session = _load(path, [(CUDA, options), CPU], threads, graph=_graph_for_cuda(path))
        if _is_on_cuda(session):
            return session
        lacks = "onnxruntime cannot load CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if must:
        raise MissingLibraryError(f"the device `cuda` is not available: {lacks}")
    return None


def _graph_for_cuda(path: str) -> bytes | None:
    """Another graph for the file's weights, or None where the file's own is right."""
    if not has_library("onnx"):  # it serves then too, only slower
        return None
    from vggspec.runtime.fc_products import with_products

    return with_products(Path(path))


def _graph_for_cpu(path: str) -> bytes | None:
    """Another graph for the file's weights, or None where the file's own is right."""
    from vggspec.runtime.fc_products import LEAST_WEIGHTS, with_products

    stored = {
        (file.name, tensor.offset)
        for file in _weights_beside(path)
        for tensor in _tensors(file)
        # FC layers alone have (out, in).
        if len(tensor.shape) == 2 and prod(tensor.shape) >= LEAST_WEIGHTS
    }
    return with_products(Path(path), stored) if stored and has_library("onnx") else None


def _load_on_tensorrt(
    path: str, threads: int | None, options: dict[str, str]
) -> ort.InferenceSession:
    lacks = lacking_tensorrt()
    if lacks is None:
        _preload()
        with contextlib.suppress(ImportError):
            # It loads its own libraries, which are also in site-packages.
            importlib.import_module("tensorrt")
        missing = missing_libraries()
        if missing:
            lacks = f"onnxruntime needs {', '.join(missing)}, not installed or not found"
    if lacks is None:
        providers: Providers = [(TENSORRT, options), (CUDA, CUDA_OPTIONS)]
        session = _load(path, providers, threads, on_gpu=True)
        if TENSORRT in session.get_providers():
            return session
        lacks = "onnxruntime cannot load TensorRT"
    raise MissingLibraryError(f"the device `tensorrt` is not available: {lacks}")


def missing_libraries() -> list[str]:
    """The libraries that ONNX Runtime's TensorRT needs and that cannot be loaded."""
    # Loaded one by one: ONNX Runtime's own library does not load without its host.
    path = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_tensorrt.so"
    try:
        names = sorted({name.decode() for name in LINKED.findall(path.read_bytes())})
    except OSError:  # it has another name on this system
        return []
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def _engine_folder(manifest: Manifest, profile: Profile) -> Path | None:
    """The cache of engines of this graph with these weights; None if it cannot be written."""
    base = cache_folder()
    if base is None:
        return None
    key = (ort.__version__, str(profile), *sorted(entry.sha256 for entry in manifest.files))
    name = hashlib.sha256("\n".join(key).encode()).hexdigest()[:32]
    folder = base / "onnxruntime-tensorrt" / name
    try:
        # Only the user may write there, because an engine is native code.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return folder


def _preload() -> None:
    """Load the CUDA toolkit's libraries from site-packages, where the linker does not search."""
    # ONNX Runtime announces them by print.
    with contextlib.suppress(AttributeError), contextlib.redirect_stdout(io.StringIO()):
        ort.preload_dlls()


def computed_in(
    model: Path,
    device: Literal["cpu", "cuda"],
    feeds: Mapping[str, NDArray[Any]],
    *,
    is_half: bool = False,
) -> Counter[str]:
    """The number types of a graph's convolutions and matrix products, from ONNX Runtime's profile
    of one run: how many are ``float`` and how many ``float16``.

    Raises:
        VggspecError: as ``OrtSession``.
    """
    events = profiled(model, device, feeds, is_half=is_half)
    types = {}
    for event in events:
        facts = event.get("args", {})
        if event.get("cat") == "Node" and re.search("Conv|Gemm|MatMul", facts.get("op_name", "")):
            for first in facts.get("input_type_shape", [])[:1]:
                types[event["name"]] = next(iter(first))
    return Counter(types.values())


def profiled(
    model: Path,
    device: Literal["cpu", "cuda"],
    feeds: Mapping[str, NDArray[Any]],
    *,
    threads: int | None = None,
    runs: int = 1,
    is_half: bool = False,
) -> list[dict[str, Any]]:
    """The events of ONNX Runtime's profile of some runs.

    Raises:
        VggspecError: as ``OrtSession``.
    """
    options = CUDA_OPTIONS | (CHANNELS_LAST if is_half else {})
    providers: Providers = [CPU] if device == "cpu" else [(CUDA, options), CPU]
    with tempfile.TemporaryDirectory(prefix="vggspec-") as folder:
        graph = (_graph_for_cpu if device == "cpu" else _graph_for_cuda)(str(model))
        session = _load(str(model), providers, threads, graph=graph, profile=f"{folder}/run")
        try:
            for _ in range(runs):
                session.run(None, dict(feeds))
        except ORT_ERRORS as error:
            what = RunFailed(reason=_reason(error, str(model)))
            raise VggspecError(report(what)) from error
        with open(session.end_profiling(), encoding="utf-8") as file:
            events: list[dict[str, Any]] = json.load(file)
    return events


def _load(
    path: str,
    providers: Providers,
    threads: int | None,
    *,
    on_gpu: bool = False,
    graph: bytes | None = None,
    profile: str | None = None,
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    if on_gpu:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = FATAL  # errors are raised and need not be printed too
    options.intra_op_num_threads = engine_threads(threads)  # 0 is one thread a physical core

    weights = _weights_beside(path)
    # ONNX Runtime would reorder such a tensor and then refuse its own.
    is_any_huge = any(tensor.bytes > HUGE_BYTES for file in weights for tensor in _tensors(file))
    left_out = {"disabled_optimizers": [REORDERING]} if is_any_huge else {}

    def session(model: str | bytes) -> ort.InferenceSession:
        return ort.InferenceSession(
            model, options, providers=providers, enable_fallback=False, **left_out
        )

    ort.set_default_logger_severity(FATAL)
    try:
        if graph is None:
            try:
                with named_in_text(path) as name:
                    return session(name)
            except UnicodeDecodeError:  # its refusal names a path that is not text
                pass
            except ORT_ERRORS as error:
                if LINK_REFUSED not in str(error):
                    raise
            graph = Path(path).read_bytes()
        with _weights_for(weights, options):
            return session(graph)
    except ORT_ERRORS as error:
        what = EngineFailed(reason=_reason(error, path))
        raise VggspecError(report(what, path=path)) from error
    finally:
        # On CUDA the default logger prints each algorithm that cuDNN tries in vain, also in runs.
        if providers == [CPU]:
            ort.set_default_logger_severity(WARNING)


def _weights_beside(path: str) -> list[Path]:
    beside = Path(path).parent.glob("*.safetensors")
    return sorted(each for each in beside if each.is_file())


def _tensors(weights: Path) -> Collection[Tensor]:
    """Those of a file; none where it is unreadable, which the engine reports."""
    with contextlib.suppress(OSError, BadTensorsError):
        return read_layout(weights).tensors.values()
    return ()


@contextlib.contextmanager
def _weights_for(weights: Sequence[Path], options: ort.SessionOptions) -> Iterator[None]:
    """While the block loads a graph from bytes, tell ONNX Runtime where its weights are.

    ONNX Runtime reads weights from one folder only and refuses links out of it. So it is given the
    folder that the links lead to, or, where a file has another name there, the weights as mapped
    memory, which it copies. The manifest's digests hold wherever the links lead.
    """
    real = [Path(os.path.realpath(path)) for path in weights]
    folders = {path.parent for path in real}
    with contextlib.ExitStack() as stack:
        same_names = all(here.name == there.name for here, there in zip(weights, real, strict=True))
        if len(folders) == 1 and same_names and _is_text(*folders):
            options.add_session_config_entry(WEIGHTS_FOLDER, str(folders.pop()))
        elif weights:
            files = [stack.enter_context(open_file(path)) for path in weights]
            maps = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
            names = [path.name for path in weights]
            options.add_external_initializers_from_files_in_memory(
                names, maps, [len(each) for each in maps]
            )
        yield


def _is_text(path: Path) -> bool:
    """Whether ONNX Runtime can be given the path, which it takes as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_on_cuda(session: ort.InferenceSession) -> bool:
    return CUDA in session.get_providers()


def _port(node: ort.NodeArg, path: str) -> Port:
    if node.type not in DTYPES:
        what = EngineFailed(reason=f"`{node.name}` has the type {node.type}")
        raise VggspecError(report(what, path=path))
    shape = tuple(axis if isinstance(axis, int) else None for axis in node.shape)
    return Port(node.name, np.dtype(DTYPES[node.type]), shape)


#: A place in ONNX Runtime's source; a function follows.
_PLACE = re.compile(r"\S+\.(?:cc|cpp|cu|cuh|h|hpp):\d+ ")
_FUNCTION = re.compile(r"[A-Za-z_]\w* ")
_SIGNATURE = re.compile(r"[\w:<>,*&~ ]*::[\w:<>,*&~ ]*(?=\()")


def _reason(error: Exception, path: str) -> str:
    """The message of ONNX Runtime, without source places, functions and numbers."""
    text = " ".join(str(error)[:MAX_SAID].split())
    text = text.replace(f"Load model from {path} failed:", "").partition(" ; GPU=")[0]
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    while place := _PLACE.search(text):
        said = _after_function(text[place.end() :])
        text = text[: place.start()] + said
    return foreign(text)


def _after_function(text: str) -> str:
    """The text after a function, which is a name or a whole signature."""
    signature = _SIGNATURE.match(text)
    if signature is None:
        return _FUNCTION.sub("", text, count=1) if _FUNCTION.match(text) else text
    end = signature.end()
    while text[end : end + 1] not in ("", " "):  # `(…)`, or `(…)>::operator()(…)` of a lambda
        end = _closing(text, max(text.find("(", end), end))
    text = text[end:].strip().removeprefix("const ")
    return text[_closing(text, 0) :].strip() if text.startswith("[with ") else text


def _closing(text: str, start: int) -> int:
    """The place after the bracket that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([") - (text[i] in ")]")
        if depth == 0:
            return i + 1
    return len(text)
