"""What this machine is, by a driver that is played and by the one that is here."""

import ctypes
from typing import Any

import pytest

from vggspec.runtime import machine
from vggspec.runtime.machine import Driver, Gpu, read_driver, this_machine

H200 = Gpu(name="NVIDIA H200", capability="9.0", memory_bytes=150_000_000_000)
L4 = Gpu(name="NVIDIA L4", capability="8.9", memory_bytes=24_000_000_000)


#: The driver's functions, and what plays them below.
CALLS = {
    "cuDriverGetVersion": "driver_get_version",
    "cuInit": "init",
    "cuDeviceGetCount": "device_get_count",
    "cuDeviceGet": "device_get",
    "cuDeviceGetName": "device_get_name",
    "cuDeviceTotalMem_v2": "device_total_mem",
    "cuDeviceGetAttribute": "device_get_attribute",
    "cuGetErrorName": "get_error_name",
}


class PlayedDriver:
    """Answers as the driver of a machine with these GPUs; ``failing`` names a call that fails."""

    def __init__(self, *gpus: Gpu, failing: str = "", code: int = 803) -> None:
        self.gpus = gpus
        self.failing = failing
        self.code = code

    def __getattr__(self, name: str) -> Any:
        if name == self.failing:
            return lambda *_: self.code
        return getattr(self, CALLS[name])

    def driver_get_version(self, into: Any) -> int:
        into._obj.value = 12_040
        return 0

    def init(self, flags: int) -> int:
        return 0

    def device_get_count(self, into: Any) -> int:
        into._obj.value = len(self.gpus)
        return 0

    def device_get(self, into: Any, index: int) -> int:
        into._obj.value = index
        return 0

    def device_get_name(self, into: Any, size: int, device: Any) -> int:
        into.value = self.gpus[device.value].name.encode()[: size - 1]
        return 0

    def device_total_mem(self, into: Any, device: Any) -> int:
        assert isinstance(into._obj, ctypes.c_size_t)
        into._obj.value = self.gpus[device.value].memory_bytes
        return 0

    def device_get_attribute(self, into: Any, attribute: int, device: Any) -> int:
        major, minor = self.gpus[device.value].capability.split(".")
        into._obj.value = int({75: major, 76: minor}[attribute])
        return 0

    def get_error_name(self, code: int, into: Any) -> int:
        if code != 803:
            return 1
        into._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
        return 0


def test_the_driver_tells_its_gpus() -> None:
    assert read_driver(PlayedDriver(H200, L4)) == Driver(cuda="12.4", gpus=(H200, L4))


@pytest.mark.parametrize(
    "call",
    [
        "cuInit",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDeviceTotalMem_v2",
        "cuDeviceGetAttribute",
    ],
)
def test_every_return_code_counts(call: str) -> None:
    found = read_driver(PlayedDriver(H200, failing=call))
    assert (found.cuda, found.gpus) == ("12.4", ())
    assert found.trouble == f"{call.removesuffix('_v2')} returned CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"


def test_a_driver_that_tells_nothing() -> None:
    found = read_driver(PlayedDriver(failing="cuDriverGetVersion", code=999))
    assert found == Driver(cuda="unknown", trouble="cuDriverGetVersion returned error 999")


def test_a_driver_without_a_gpu_is_no_trouble() -> None:
    assert read_driver(PlayedDriver(failing="cuInit", code=100)) == Driver(cuda="12.4")
    assert read_driver(PlayedDriver()) == Driver(cuda="12.4")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DRIVERS", ("libthere-is-no-such-driver.so",))
    assert machine.ask_driver() is None
    assert this_machine().gpus == ()


@pytest.mark.parametrize(
    ("system", "architecture", "name"),
    [
        ("Linux", "x86_64", "linux-x86_64"),
        ("Windows", "AMD64", "windows-x86_64"),
        ("Linux", "aarch64", "linux-aarch64"),
        ("Darwin", "arm64", "darwin-aarch64"),
    ],
)
def test_platforms_have_one_name(
    system: str, architecture: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.platform, "system", lambda: system)
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    assert machine.platform_name() == name


@pytest.mark.parametrize(
    ("here", "cuda"),
    [
        ({"tensorrt_rtx_cu13": "1.7"}, "13"),
        ({"tensorrt_rtx_cu12": "1.7"}, "12"),
        ({"tensorrt_rtx": "1.7"}, None),
        ({}, None),
    ],
)
def test_the_cuda_of_tensorrt_is_in_its_name(
    here: dict[str, str], cuda: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_version", here.get)
    assert machine.cuda_of("tensorrt_rtx") == cuda


def test_the_libraries_of_this_machine() -> None:
    found = this_machine()
    assert found.onnxruntime is not None
    assert found.trt("tensorrt") == found.tensorrt
    assert found.trt("tensorrt_rtx") == found.tensorrt_rtx


@pytest.mark.gpu
def test_this_machine_shows_what_torch_sees() -> None:
    import torch

    gpus = this_machine().gpus
    assert len(gpus) == torch.cuda.device_count()
    properties = torch.cuda.get_device_properties(0)
    assert gpus[0].name == properties.name
    assert gpus[0].capability == f"{properties.major}.{properties.minor}"
