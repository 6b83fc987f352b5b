"""The calls to pycuda and the driver, which recorders receive: not every machine has these."""

import ctypes
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from vggspec.base.diagnostic import MissingLibraryError
from vggspec.runtime.tensorrt import cuda as cuda_module
from vggspec.runtime.tensorrt import cuda_graph
from vggspec.runtime.tensorrt.cuda import PyCuda
from vggspec.runtime.tensorrt.cuda_graph import CudaDriver, CudaDriverError, capture

STREAM = 0x55


class Library:
    """A driver's library that writes down what it is asked, and fails where it is told to."""

    def __init__(self, **failing: int) -> None:
        self.failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls.append(name)
            result = self.failing.get(name, 0)
            if name == "cuGetErrorString":
                self.calls.pop()
                arguments[1]._obj.value = b"out of memory" if arguments[0] == 2 else None
            elif result == 0 and name == "cuStreamEndCapture":
                assert arguments[0].value == STREAM
                arguments[1]._obj.value = 0x66
            elif result == 0 and name == "cuGraphInstantiateWithFlags":
                assert arguments[1].value == 0x66
                arguments[0]._obj.value = 0x77
            elif name in ("cuGraphLaunch", "cuGraphExecDestroy"):
                assert arguments[0].value == 0x77
            elif name == "cuGraphDestroy":
                assert arguments[0].value == 0x66
            elif name == "cuStreamBeginCapture_v2":
                assert (arguments[0].value, arguments[1].value) == (STREAM, 1)
            return result

        return function


def test_a_graph_is_recorded_replayed_and_freed_once() -> None:
    library = Library()
    graph = capture(CudaDriver(library), STREAM, lambda: library.calls.append("work"))
    graph.launch(STREAM)
    graph.close()
    graph.close()
    assert library.calls == [
        "cuStreamBeginCapture_v2",
        "work",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


@pytest.mark.parametrize(
    ("failing", "left"),
    [
        ("cuStreamBeginCapture_v2", []),
        ("cuStreamEndCapture", ["work", "cuStreamEndCapture"]),
        (
            "cuGraphInstantiateWithFlags",
            ["work", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphDestroy"],
        ),
    ],
)
def test_every_return_code_is_read(failing: str, left: list[str]) -> None:
    library = Library(**{failing: 2})
    with pytest.raises(CudaDriverError, match=f"{failing} failed: out of memory"):
        capture(CudaDriver(library), STREAM, lambda: library.calls.append("work"))
    assert library.calls == ["cuStreamBeginCapture_v2", *left]


def test_an_error_without_words_has_its_number() -> None:
    with pytest.raises(CudaDriverError, match="cuGraphLaunch failed: error 999"):
        CudaDriver(Library(cuGraphLaunch=999)).call("cuGraphLaunch", ctypes.c_void_p(0x77))


@pytest.mark.parametrize("ends_well", [True, False])
def test_work_that_fails_leaves_the_stream_out_of_its_recording(*, ends_well: bool) -> None:
    def work() -> None:
        raise KeyError("lost")

    library = Library(**({} if ends_well else {"cuStreamEndCapture": 901}))
    with pytest.raises(KeyError):
        capture(CudaDriver(library), STREAM, work)
    freed = ["cuGraphDestroy"] if ends_well else []
    assert library.calls == ["cuStreamBeginCapture_v2", "cuStreamEndCapture", *freed]


def test_a_machine_without_the_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "DRIVERS", ("libnothing-of-this-name.so.1",))
    with pytest.raises(MissingLibraryError, match="needs NVIDIA's driver"):
        CudaDriver()


# pycuda. Its stack of contexts, and the driver's below it, as its source has them.


class Stacks:
    def __init__(self) -> None:
        self.pycuda: list[Any] = []
        self.driver: list[int] = []
        self.released = 0


class Context:
    def __init__(self, stacks: Stacks, handle: int) -> None:
        self.stacks, self.handle = stacks, handle

    def push(self) -> None:
        if self.stacks.pycuda:
            self.stacks.driver.pop()
        self.stacks.driver.append(self.handle)
        self.stacks.pycuda.append(self)

    def pop(self) -> None:
        self.stacks.driver.pop()
        self.stacks.pycuda.pop()
        if self.stacks.pycuda:
            self.stacks.driver.append(self.stacks.pycuda[-1].handle)

    def detach(self) -> None:
        assert self.stacks.pycuda[-1] is self, "else pycuda releases nothing in another thread"
        self.stacks.released += 1
        self.stacks.pycuda.pop()
        if self.stacks.pycuda:
            self.stacks.driver.append(self.stacks.pycuda[-1].handle)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stacks]:
    """A recorded pycuda is installed."""
    stacks = Stacks()

    class Driver(Library):
        def __getattr__(self, name: str) -> Any:
            def pop(_: Any) -> int:
                stacks.driver.pop()
                return 0

            def push(handle: Any) -> int:
                stacks.driver.append(handle.value)
                return 0

            known = {"cuCtxPopCurrent_v2": pop, "cuCtxPushCurrent_v2": push}
            return known[name] if name in known else super().__getattr__(name)

    class PycudaError(Exception):
        pass

    class Current:
        @staticmethod
        def get_current() -> Any:
            return stacks.pycuda[-1] if stacks.pycuda else None

    driver: Any = types.ModuleType("pycuda.driver")
    driver.Error = PycudaError
    driver.Context = Current
    driver.init = lambda: None
    device = types.SimpleNamespace(retain_primary_context=lambda: Context(stacks, 1))
    driver.Device = lambda index: device
    package: Any = types.ModuleType("pycuda")
    package.driver = driver
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setattr(cuda_module, "CudaDriver", lambda: CudaDriver(Driver()))
    yield stacks
    assert stacks.released <= 1


@pytest.mark.parametrize("others", [0, 1, 2])
def test_other_contexts_are_left_as_they_were(stacks: Stacks, others: int) -> None:
    stacks.driver.append(100)  # PyTorch's, made current by the runtime
    below = [Context(stacks, 200 + i) for i in range(others)]
    for context in below:
        context.push()
    before = list(stacks.driver), list(stacks.pycuda)
    cuda = PyCuda()
    with cuda.current():
        assert stacks.driver[-1] == 1
    assert (stacks.driver, stacks.pycuda) == before
    cuda.close()
    cuda.close()
    assert (stacks.driver, stacks.pycuda) == before
    assert stacks.released == 1


def test_the_device_is_given_back_after_an_error(stacks: Stacks) -> None:
    cuda = PyCuda()
    with pytest.raises(KeyError), cuda.current():
        raise KeyError
    assert stacks.driver == []


def test_a_machine_without_a_device_says_so(stacks: Stacks) -> None:
    driver: Any = sys.modules["pycuda.driver"]

    def no_device() -> None:
        raise driver.Error("cuInit failed: no CUDA-capable device is detected")

    driver.init = no_device
    with pytest.raises(MissingLibraryError, match="needs a CUDA device: cuInit failed"):
        PyCuda()


def test_pycuda_without_the_driver_says_so(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingLibraryError, match="needs NVIDIA's driver"):
        PyCuda()


def test_without_pycuda_the_extra_is_named() -> None:
    try:
        import pycuda  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[cuda\]"'):
            PyCuda()
