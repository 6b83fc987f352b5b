"""Nets as ONNX Runtime runs them, on the CPU or on a CUDA device."""

import contextlib
import ctypes
import io
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from vggspec.catalogue.artefacts import EngineFailed, RunFailed
from vggspec.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.runtime.session import Arrays, Device, Port, check_feeds

# ONNX Runtime's exceptions share no base class but Exception.
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
# The default tries every algorithm anew for each size of image that comes, which takes seconds.
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
FATAL, WARNING = 4, 2
MAX_REASON = 200

Providers = list[str | tuple[str, dict[str, str]]]


class OrtSession:
    """A net loaded by ONNX Runtime.

    ``auto`` takes a CUDA device where there is one and the provider loads, else the CPU; ``cuda``
    never falls back.

    Raises:
        VggspecError: ONNX Runtime refuses the model.
        MissingLibraryError: ``cuda`` was asked for and cannot be had.
    """

    def __init__(self, model: Path, device: Device = "auto", threads: int | None = None) -> None:
        self._path = str(model)
        session = None
        if device == "cuda" or (device == "auto" and lacking_cuda() is None):
            session = _load_on_cuda(self._path, threads, must=device == "cuda")
        if session is None:
            session = _load(self._path, [CPU], threads)
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(_port(node, self._path) for node in session.get_inputs())
        self.outputs = tuple(_port(node, self._path) for node in session.get_outputs())
        self.device: Literal["cpu", "cuda"] = "cuda" if _is_on_cuda(session) else "cpu"

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name, as new arrays.

        Raises:
            ValueError: the feeds are not the net's inputs, or the session is closed.
            VggspecError: the engine fails, for lack of memory for instance.
        """
        session = self._session
        if session is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        try:
            arrays = session.run(None, dict(feeds))
        except ORT_ERRORS as error:
            what = RunFailed(reason=_reason(error, self._path))
            raise VggspecError(report(what)) from error
        return {port.name: array for port, array in zip(self.outputs, arrays, strict=True)}

    def close(self) -> None:
        """Let go of the net and its memory; closing twice is no mistake."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def lacking_cuda() -> str | None:
    """Why no CUDA session can be had here, or None where one may be tried."""
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA: pip install onnxruntime-gpu"
    if count_cuda_devices() == 0:
        return "this machine has no CUDA device"
    return None


def count_cuda_devices() -> int:
    """How many CUDA devices the driver shows; 0 without a driver."""
    # Asked of the driver itself: ONNX Runtime tells only by failing, and prints why.
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
            break
        except OSError:
            continue
    else:
        return 0
    number = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(number)) != 0:
        return 0
    return number.value


def _load_on_cuda(path: str, threads: int | None, *, must: bool) -> ort.InferenceSession | None:
    """A session on the CUDA device, or None where it cannot be had and need not be."""
    lacks = lacking_cuda()
    if lacks is None:
        # The toolkit's libraries may lie in site-packages, where the linker does not look;
        # loading them is announced by print.
        with contextlib.suppress(AttributeError), contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
        session = _load(path, [(CUDA, CUDA_OPTIONS), CPU], threads)
        if _is_on_cuda(session):
            return session
        lacks = "onnxruntime cannot load CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if must:
        raise MissingLibraryError(f"the device `cuda` cannot be had: {lacks}")
    return None


def _load(path: str, providers: Providers, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = FATAL  # what goes wrong is raised, and told once
    options.intra_op_num_threads = threads or 0  # 0: one thread a physical core
    ort.set_default_logger_severity(FATAL)
    try:
        return ort.InferenceSession(path, options, providers=providers, enable_fallback=False)
    except ORT_ERRORS as error:
        what = EngineFailed(reason=_reason(error, path))
        raise VggspecError(report(what, path=path)) from error
    finally:
        ort.set_default_logger_severity(WARNING)


def _is_on_cuda(session: ort.InferenceSession) -> bool:
    return CUDA in session.get_providers()


def _port(node: ort.NodeArg, path: str) -> Port:
    if node.type not in DTYPES:
        what = EngineFailed(reason=f"`{node.name}` has the type {node.type}")
        raise VggspecError(report(what, path=path))
    shape = tuple(axis if isinstance(axis, int) else None for axis in node.shape)
    return Port(node.name, np.dtype(DTYPES[node.type]), shape)


def _reason(error: Exception, path: str) -> str:
    """What ONNX Runtime said, without its own places and numbers."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = text.replace(f"Load model from {path} failed:", "")
    text = re.sub(r"\S*/onnxruntime\S*:\d+ .*?\) (?=[A-Z])", "", text)
    text = re.sub(r"\S+\.(?:cc|h|cpp):\d+ \w+ ", "", text)
    text = text.strip().rstrip(".")
    if len(text) > MAX_REASON:
        text = text[:MAX_REASON].rsplit(" ", 1)[0] + " …"
    return text[:1].lower() + text[1:]
