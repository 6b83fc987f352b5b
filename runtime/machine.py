"""This machine: its platform, its GPUs and driver, and the libraries that run bundles.

The driver is called through ctypes, which requires no library and creates no context on a GPU.
CUDA's environment variables apply: GPUs that ``CUDA_VISIBLE_DEVICES`` hides are not listed.
"""

import ctypes
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vggspec.base.optional import has_library
from vggspec.bundle.engine import Flavour
from vggspec.runtime.tensorrt.library import FLAVOURS, installed, version

#: The driver's library, on Linux and on Windows.
DRIVERS = ("libcuda.so.1", "nvcuda.dll")

#: The names of onnxruntime on PyPI; the first one also runs on NVIDIA GPUs.
ORT_ON_CUDA, ORT = "onnxruntime-gpu", "onnxruntime"

# Of cuda.h: CUdevice_attribute.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NAME_BYTES = 256

#: The instructions that decide how fast products are, by their names in Linux.
_INSTRUCTIONS = (
    "amx_bf16", "amx_fp16", "amx_int8", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni",
    "avx512f", "avx2",
)  # fmt: skip

_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as the driver reports it."""

    name: str
    capability: str
    """Compute capability, such as ``8.9``."""

    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} ({self.capability})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The NVIDIA driver and its GPUs in CUDA's order: the first one is used."""

    cuda: str
    """The newest CUDA that it supports, such as ``12.4``."""

    gpus: tuple[Gpu, ...] = ()
    trouble: str | None = None
    """Its error, if it failed to list GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """An installed library: its version, and the CUDA it was built with if known."""

    version: str
    cuda: str | None = None
    """Major version, such as ``13``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The parts of a machine that decide whether a bundle runs."""

    platform: str
    driver: Driver | None = None
    """None without an NVIDIA driver."""

    tensorrt: Library | None = None
    tensorrt_rtx: Library | None = None
    has_pycuda: bool = False
    onnxruntime: Library | None = None
    has_cuda_provider: bool = False
    """Whether onnxruntime was built with CUDA."""

    openvino: Library | None = None

    def trt(self, flavour: Flavour) -> Library | None:
        """The TensorRT of that flavour."""
        return self.tensorrt if flavour == "tensorrt" else self.tensorrt_rtx

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs; empty without a driver."""
        return self.driver.gpus if self.driver else ()


def this_machine() -> Machine:
    """The machine that this process runs on. No library is imported."""
    here = set(installed())
    on_cuda, ort = _version(ORT_ON_CUDA), _version(ORT)
    runtime = on_cuda or ort
    openvino = _version("openvino")
    return Machine(
        platform=platform_name(),
        driver=ask_driver(),
        tensorrt=_trt("tensorrt") if "tensorrt" in here else None,
        tensorrt_rtx=_trt("tensorrt_rtx") if "tensorrt_rtx" in here else None,
        has_pycuda=has_library("pycuda"),
        onnxruntime=Library(version=runtime) if runtime else None,
        has_cuda_provider=on_cuda is not None,
        openvino=Library(version=openvino) if openvino else None,
    )


def processor() -> str:
    """The processor's name, and those of its instructions that decide how fast products are, such
    as ``AMD EPYC 9554, avx512_bf16 avx512_vnni avx512f avx2``.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    flags = facts.get("flags", facts.get("Features", "")).split()
    name = facts.get("model name") or platform.machine()
    return f"{name}, {' '.join(each for each in _INSTRUCTIONS if each in flags)}".rstrip(", ")


def platform_name() -> str:
    """The platform, such as ``linux-x86_64``: a plan of the classic TensorRT runs on one."""
    system, architecture = platform.system().lower(), platform.machine().lower()
    return f"{system}-{_ARCHITECTURES.get(architecture, architecture)}"


def cuda_of(flavour: Flavour) -> str | None:
    """Major version of the CUDA that the installed TensorRT was built with, if its name on PyPI
    has it.
    """
    for distribution in FLAVOURS[flavour].distributions:
        match = re.search(r"_cu(\d+)$", distribution)
        if match and _version(distribution) is not None:
            return match[1]
    return None


def _trt(flavour: Flavour) -> Library | None:
    found = version(flavour)
    return Library(version=found, cuda=cuda_of(flavour)) if found else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


class _DriverError(Exception):
    """A call of the driver failed."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


def ask_driver() -> Driver | None:
    """The NVIDIA driver, or None without one."""
    for name in DRIVERS:
        try:
            return read_driver(ctypes.CDLL(name))
        except (OSError, AttributeError):  # no such library, or one without these calls
            continue
    return None


def read_driver(cuda: ctypes.CDLL) -> Driver:
    """The driver's version and GPUs; ``cuda`` is its library."""
    number = ctypes.c_int(0)
    version_found = "unknown"
    try:
        _check(cuda, cuda.cuDriverGetVersion(ctypes.byref(number)), "cuDriverGetVersion")
        version_found = f"{number.value // 1000}.{number.value % 1000 // 10}"
        _check(cuda, cuda.cuInit(0), "cuInit")
        _check(cuda, cuda.cuDeviceGetCount(ctypes.byref(number)), "cuDeviceGetCount")
        gpus = tuple(_gpu(cuda, index) for index in range(number.value))
    except _DriverError as error:
        trouble = None if error.code == _NO_DEVICE else str(error)
        return Driver(cuda=version_found, trouble=trouble)
    return Driver(cuda=version_found, gpus=gpus)


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int(0)
    _check(cuda, cuda.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(cuda, cuda.cuDeviceGetName(name, _NAME_BYTES, device), "cuDeviceGetName")
    memory = ctypes.c_size_t(0)
    _check(cuda, cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        code = cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        _check(cuda, code, "cuDeviceGetAttribute")
        capability.append(value.value)
    return Gpu(
        name=name.value.decode(errors="replace"),
        capability=".".join(map(str, capability)),
        memory_bytes=memory.value,
    )


def _check(cuda: ctypes.CDLL, code: int, call: str) -> None:
    if code == 0:
        return
    text = ctypes.c_char_p()
    known = cuda.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value
    name = text.value.decode(errors="replace") if known and text.value else f"error {code}"
    raise _DriverError(code, f"{call} returned {name}")
