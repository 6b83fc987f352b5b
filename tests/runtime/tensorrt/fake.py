"""A recorded TensorRT and a recorded CUDA device: no GPU computes here, and none is claimed to.

Both check that they are used as the real ones must be, and fail the test otherwise: memory is not
touched after it is freed, everything has an address before it runs, a recorded graph is replayed on
the memory that it was recorded with, the device is current wherever it is asked for something.
Streams do their work late, early or in random order, as far as their events allow. What the net
computes is real: the bytes in the device's memory go through ONNX Runtime.

The module has the names of one of the listings in ``tests/tensorrt_api``, and no other.
"""

import base64
import enum
import json
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.conftest import ROOT
from tests.engines import engine_options
from tests.runtime.bundles import Made, make
from vggspec.bundle.digests import file_entry
from vggspec.bundle.engine import Engine, Flavour
from vggspec.bundle.manifest import MANIFEST, MODEL, PLAN, REFERENCE, Manifest
from vggspec.bundle.profile import Profile

LISTINGS = ("10.0.1", "10.16", "11.0", "11.4", "rtx-1.7")
PROFILES = (
    Profile((1, 24, 24), (2, 24, 32), (4, 24, 48)),
    Profile((1, 24, 24), (2, 32, 24), (4, 48, 24)),
    Profile((1, 36, 36), (2, 36, 48), (4, 36, 72)),
    Profile((1, 36, 36), (2, 48, 36), (4, 72, 36)),
)
SCRATCH_PER_PIXEL = 64


def listing(version: str) -> dict[str, list[str]]:
    path = ROOT / "tests" / "tensorrt_api" / f"{version}.json"
    found: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
    return found


def flavour_of(version: str) -> Flavour:
    return "tensorrt_rtx" if version.startswith("rtx") else "tensorrt"


def make_plan(folder: Path, *, version: str = "11.4", **changes: Any) -> Made:
    """A bundle of the small net whose plan the recorded TensorRT can load.

    ``profiles`` and other fields of ``Engine`` may be given; the rest goes to ``bundles.make``.
    """
    profiles = changes.pop("profiles", PROFILES)
    facts = {key: changes.pop(key) for key in list(changes) if key in Engine.__slots__}
    made = make(folder, **changes)
    manifest = as_plan(folder, made.manifest, version=version, profiles=profiles, **facts)
    return replace(made, manifest=manifest)


def as_plan(
    folder: Path,
    manifest: Manifest,
    *,
    version: str = "11.4",
    profiles: tuple[Profile, ...] = PROFILES,
    **facts: Any,
) -> Manifest:
    """Make a plan of the graph of a bundle in one file; the bundle's new manifest."""
    (folder / MODEL).rename(folder / REFERENCE)
    contract = manifest.input
    plan = {
        "onnx": base64.b64encode((folder / REFERENCE).read_bytes()).decode(),
        "profiles": [[p.min, p.opt, p.max] for p in profiles],
        "is_raw": contract.contract == "raw",
        "channels": len(contract.mean),
    }
    (folder / PLAN).write_text(json.dumps(plan), "utf-8")
    engine = Engine(
        **{
            "flavour": flavour_of(version),
            "version": "11.4.0.106",
            "cuda": "13",
            "platform": "linux-x86_64",
            "gpu": None,
            "capabilities": ("8.9",),
            "is_open_ended": True,
            "profiles": profiles,
            "tf32": False,
            "hardware": "none",
            "is_version_compatible": False,
            "refit": "none",
            "is_stripped": False,
            "level": 3,
            "name": "small",
            **facts,
        }
    )
    files = (file_entry(folder, PLAN), file_entry(folder, REFERENCE, is_needed=False))
    options = replace(manifest.options, engine=engine_options(engine))
    manifest = replace(manifest, model=PLAN, files=files, engine=engine, options=options)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return manifest


# The device.


class DeviceError(Exception):
    """What the recorded device raises where a real one would fail."""


class FakeMemory:
    def __init__(self, cuda: "FakeCuda", num_bytes: int) -> None:
        self.cuda, self.num_bytes = cuda, num_bytes
        self.address = cuda.next_address
        cuda.next_address += (num_bytes + 4095) // 4096 * 4096 + 4096
        self.data = np.full(num_bytes, 0xCD, np.uint8)
        cuda.memory[self.address] = self

    def __int__(self) -> int:
        assert self.address in self.cuda.memory, "memory used after it was freed"
        return self.address

    def free(self) -> None:
        self.cuda.check_current()
        assert not self.cuda.is_capturing, "memory freed while a graph is recorded"
        self.cuda.said("free")
        del self.cuda.memory[self.address]


class FakeEvent:
    def __init__(self, cuda: "FakeCuda") -> None:
        self.cuda = cuda
        self.at: tuple[FakeStream, int] | None = None

    def record(self, stream: "FakeStream") -> None:
        self.cuda.check_current()
        self.at = (stream, stream.num_given)

    @property
    def is_over(self) -> bool:
        return self.at is None or self.at[0].num_done >= self.at[1]

    def synchronize(self) -> None:
        self.cuda.check_current()
        if self.at is not None:
            self.at[0].run_until(self.at[1])


class FakeStream:
    def __init__(self, cuda: "FakeCuda") -> None:
        self.cuda = cuda
        self.handle = 0x1000 + len(cuda.streams)
        self.work: deque[Callable[[], bool]] = deque()
        self.num_given = self.num_done = 0
        self.captured: list[Callable[[], None]] | None = None
        cuda.streams[self.handle] = self

    def give(self, work: Callable[[], None]) -> None:
        self.cuda.check_current()
        if self.captured is not None:
            self.captured.append(work)
            return

        def do() -> bool:
            work()
            return True

        self.work.append(do)
        self.num_given += 1
        self.cuda.shuffle()

    def wait_for_event(self, event: FakeEvent) -> None:
        assert event.at is not None, "waits for an event that nothing records"
        stream, until = event.at
        self.work.append(lambda: stream.num_done >= until)
        self.num_given += 1

    def step(self) -> bool:
        """Do the next thing, unless it has to wait."""
        if not self.work or not self.work[0]():
            return False
        self.work.popleft()
        self.num_done += 1
        return True

    def run_until(self, count: int) -> None:
        while self.num_done < count:
            if not self.step():
                # It waits for another stream: that one does as little as will do.
                others = [other for other in self.cuda.streams.values() if other is not self]
                assert any(other.step() for other in others), "streams wait for each other"

    def synchronize(self) -> None:
        self.cuda.check_current()
        assert self.captured is None, "synchronised while a graph is recorded"
        self.cuda.fail("synchronize")
        self.run_until(self.num_given)


class FakeGraph:
    def __init__(self, cuda: "FakeCuda", work: list[Callable[[], None]]) -> None:
        self.cuda, self.work = cuda, work
        self.addresses = tuple(cuda.memory)
        cuda.graphs.append(self)

    def launch(self, stream: int) -> None:
        assert self in self.cuda.graphs, "a graph replayed after it was closed"
        assert set(self.addresses) <= set(self.cuda.memory), "a graph replayed on moved memory"
        self.cuda.said("replay")
        for work in self.work:
            self.cuda.streams[stream].give(work)

    def close(self) -> None:
        self.cuda.check_current()
        self.cuda.said("close graph")
        self.cuda.graphs.remove(self)


class FakeCuda:
    """The recorded device, as ``vggspec.runtime.tensorrt.cuda.Cuda``.

    ``order`` is how streams work: ``late`` as little as is waited for, ``early`` all they may, a
    number a random order. ``failing`` names calls that fail from the given time on.
    """

    errors: tuple[type[Exception], ...] = (DeviceError,)

    def __init__(self, order: str | int = "late") -> None:
        self.order = order
        self.random = random.Random(order)
        self.calls: list[str] = []
        self.memory: dict[int, FakeMemory] = {}
        self.pinned_arrays: list[Any] = []
        self.streams: dict[int, FakeStream] = {}
        self.graphs: list[FakeGraph] = []
        self.failing: dict[str, int] = {}
        self.next_address = 1 << 32
        self.is_closed = False
        self.most_bytes = 0
        self._current = threading.local()

    def said(self, call: str) -> None:
        self.calls.append(call)

    def fail(self, call: str) -> None:
        """Fail if that is what the test wants."""
        if call in self.failing:
            self.failing[call] -= 1
            if self.failing[call] < 0:
                raise DeviceError(f"{call} failed: out of luck")

    def check_current(self) -> None:
        assert getattr(self._current, "depth", 0) > 0, "the device is not current"
        assert not self.is_closed, "used after close"

    def busy(self) -> bool:
        return any(stream.work for stream in self.streams.values())

    @property
    def is_capturing(self) -> bool:
        return any(stream.captured is not None for stream in self.streams.values())

    def shuffle(self) -> None:
        if self.order == "late":
            return
        streams = list(self.streams.values())
        if self.order == "early":
            while any(stream.step() for stream in streams):
                pass
            return
        for _ in range(self.random.randrange(6)):
            self.random.choice(streams).step()

    def at(self, address: int, num_bytes: int) -> Any:
        """The bytes at an address, for reading and writing."""
        for memory in self.memory.values():
            offset = address - memory.address
            if offset >= 0 and offset + num_bytes <= memory.num_bytes:
                return memory.data[offset : offset + num_bytes]
        raise AssertionError(f"{num_bytes} bytes at {address:#x} are nobody's memory")

    @contextmanager
    def current(self) -> Iterator[None]:
        assert not self.is_closed, "used after close"
        self._current.depth = getattr(self._current, "depth", 0) + 1
        try:
            yield
        finally:
            self._current.depth -= 1

    def allocate(self, num_bytes: int) -> FakeMemory:
        self.check_current()
        assert not self.is_capturing
        self.fail("allocate")
        self.said("allocate")
        memory = FakeMemory(self, num_bytes)
        self.most_bytes = max(self.most_bytes, sum(m.num_bytes for m in self.memory.values()))
        return memory

    def pinned(self, num_bytes: int) -> Any:
        self.check_current()
        self.fail("pinned")
        array = np.full(num_bytes, 0xEF, np.uint8)
        self.pinned_arrays.append(array)
        return array

    def free_pinned(self, array: Any) -> None:
        self.check_current()
        index = next(i for i, one in enumerate(self.pinned_arrays) if one is array)
        del self.pinned_arrays[index]

    def stream(self) -> FakeStream:
        self.check_current()
        self.fail("stream")
        return FakeStream(self)

    def event(self) -> FakeEvent:
        self.check_current()
        return FakeEvent(self)

    def upload(self, to: int, array: Any, stream: FakeStream) -> None:
        self._check_pinned(array)
        self.fail("upload")
        stream.give(lambda: np.copyto(self.at(to, len(array)), self._check_pinned(array)))

    def download(self, array: Any, origin: int, stream: FakeStream) -> None:
        self._check_pinned(array)
        self.fail("download")
        stream.give(lambda: np.copyto(self._check_pinned(array), self.at(origin, len(array))))

    def copy(self, to: int, origin: int, num_bytes: int, stream: FakeStream) -> None:
        stream.give(lambda: np.copyto(self.at(to, num_bytes), self.at(origin, num_bytes)))

    def capture(self, stream: FakeStream, work: Callable[[], None]) -> FakeGraph:
        self.check_current()
        self.fail("capture")
        self.said("capture")
        stream.captured = []
        try:
            work()
            return FakeGraph(self, stream.captured)
        finally:
            stream.captured = None

    def close(self) -> None:
        self.fail("close")
        self.said("close")
        self.is_closed = True

    def check_idle(self) -> None:
        """Nothing that was given is still to be done."""
        assert not self.busy()

    def check_empty(self) -> None:
        """Nothing is left of a session."""
        assert self.is_closed
        assert not self.memory
        assert not self.pinned_arrays
        assert not self.graphs
        assert not self.busy()

    def _check_pinned(self, array: Any) -> Any:
        is_pinned = any(np.shares_memory(one, array) for one in self.pinned_arrays)
        assert is_pinned, "copies go from and to pinned memory"
        return array


# The library.


class Strict:
    """Has the public names that the listing gives its class, and no other."""

    names: frozenset[str]

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in type(self).names:
            raise AttributeError(name)
        return object.__getattribute__(self, name)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, UINT8, BF16 = range(6)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class Specialization(enum.Enum):
    LAZY, EAGER, NONE = range(3)


class FakeTrt(SimpleNamespace):
    """The module, with the names of one listing. ``refuses`` holds names of calls that say no."""

    def __init__(self, version: str, cuda: FakeCuda) -> None:
        names = listing(version)
        library = self
        self.refuses: set[str] = set()
        self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        self.engines: weakref.WeakSet[Any] = weakref.WeakSet()
        self.is_capturable = True
        self.misuses: list[str] = []

        class Logger:
            def __init__(self) -> None:
                pass

        def no(call: str, words: str, logger: Any) -> bool:
            if call not in library.refuses:
                return False
            place = call.replace(" ", "")
            words = f"[core.cpp::{place}::12] Error Code 3: {words} (In {place} at /a/b.cpp:1)"
            logger.log(1, words)
            return True

        class Runtime(Strict):
            names = frozenset(listing(version)["Runtime"])

            def __init__(self, logger: Any) -> None:
                cuda.check_current()
                self._logger = logger
                self._allows_host_code = False

            @property
            def engine_host_code_allowed(self) -> bool:
                return self._allows_host_code

            @engine_host_code_allowed.setter
            def engine_host_code_allowed(self, value: bool) -> None:
                self._allows_host_code = value

            def deserialize_cuda_engine(self, data: bytes) -> Any:
                cuda.check_current()
                if no("deserialize", "this plan is of another world", self._logger):
                    return None
                if "deserialize silently" in library.refuses:
                    return None
                return Engine(json.loads(data), self._logger)

        class RuntimeConfig(Strict):
            names = frozenset(listing(version).get("IRuntimeConfig", ()))

            def __init__(self) -> None:
                self._strategy = ExecutionContextAllocationStrategy.STATIC
                self._specialization = Specialization.LAZY

            def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
                self._strategy = strategy

            @property
            def dynamic_shapes_kernel_specialization_strategy(self) -> Any:
                return self._specialization

            @dynamic_shapes_kernel_specialization_strategy.setter
            def dynamic_shapes_kernel_specialization_strategy(self, value: Any) -> None:
                self._specialization = value

        class Engine(Strict):
            names = frozenset(listing(version)["ICudaEngine"])

            def __init__(self, plan: dict[str, Any], logger: Any) -> None:
                self._plan, self._logger = plan, logger
                self._net = ort.InferenceSession(
                    base64.b64decode(plan["onnx"]), providers=["CPUExecutionProvider"]
                )
                nodes = [*self._net.get_inputs(), *self._net.get_outputs()]
                self._nodes = {node.name: node for node in nodes}
                self._known_shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}
                library.engines.add(self)

            @property
            def num_io_tensors(self) -> int:
                return len(self._nodes)

            @property
            def num_optimization_profiles(self) -> int:
                return len(self._plan["profiles"])

            def get_tensor_name(self, index: int) -> str:
                return list(self._nodes)[index]

            def get_tensor_mode(self, name: str) -> Any:
                is_input = name in {node.name for node in self._net.get_inputs()}
                return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

            def get_tensor_dtype(self, name: str) -> Any:
                if "dtype" in library.refuses:
                    return DataType.BF16
                return DataType.UINT8 if "uint8" in self._nodes[name].type else DataType.FLOAT

            def get_tensor_shape(self, name: str) -> tuple[int, ...]:
                return tuple(n if isinstance(n, int) else -1 for n in self._nodes[name].shape)

            def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
                assert self.get_tensor_mode(name) == TensorIOMode.INPUT
                shapes = self._plan["profiles"][index]
                is_first = name == self._net.get_inputs()[0].name
                if "one profile for all" in library.refuses and not is_first:
                    shapes = [(n, h, w + 1) for n, h, w in shapes]
                return [self._axes(shape) for shape in shapes]

            def create_runtime_config(self) -> RuntimeConfig:
                return RuntimeConfig()

            def create_execution_context(self, how: Any) -> Any:
                cuda.check_current()
                if no("context", "no memory for a context", self._logger):
                    return None
                if version.startswith("rtx"):
                    assert how._specialization == Specialization.EAGER
                    how = how._strategy
                assert how == ExecutionContextAllocationStrategy.USER_MANAGED
                return Context(self)

            def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
                """The shapes of the outputs for one of the inputs."""
                if shape not in self._known_shapes:
                    nodes = self._net.get_inputs()
                    dtype = np.uint8 if "uint8" in nodes[0].type else np.float32
                    names = [output.name for output in self._net.get_outputs()]
                    feeds = {node.name: np.zeros(shape, dtype) for node in nodes}
                    arrays = self._net.run(names, feeds)
                    shapes = [array.shape for array in arrays]
                    self._known_shapes[shape] = dict(zip(names, shapes, strict=True))
                return self._known_shapes[shape]

            def _axes(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
                n, h, w = shape
                c = self._plan["channels"]
                return (n, h, w, c) if self._plan["is_raw"] else (n, c, h, w)

        class Context(Strict):
            names = frozenset(listing(version)["IExecutionContext"])

            def __init__(self, engine: Engine) -> None:
                self._engine = engine
                self._profile: int | None = None
                self._shapes: dict[str, tuple[int, ...]] = {}
                self._addresses: dict[str, int] = {}
                self._scratch: tuple[int, int] | None = None
                self._runs = 0  # since anything was set
                self._user: int | None = None
                self._given = [0]  # runs that are not over
                library.contexts.add(self)

                def ended(given: list[int]) -> None:
                    if given[0] and not cuda.failing:
                        library.misuses.append("a context was let go of while it ran")

                weakref.finalize(self, ended, self._given)

            def set_optimization_profile_async(self, index: int, stream: int) -> bool:
                assert stream in cuda.streams
                if no("profile", "no such profile", self._engine._logger):
                    return False
                assert 0 <= index < self._engine.num_optimization_profiles
                self._profile, self._shapes, self._runs = index, {}, 0
                return True

            def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
                assert self._profile is not None, "a shape before its profile"
                if no("shape", "set dimensions do not satisfy the profile", self._engine._logger):
                    return False
                low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
                if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
                    return False
                self._shapes[name], self._runs = tuple(shape), 0
                return True

            @property
            def _shape(self) -> tuple[int, ...] | None:
                """The shape of every input, once all have it."""
                names = {node.name for node in self._engine._net.get_inputs()}
                shapes = set(self._shapes.values())
                return shapes.pop() if set(self._shapes) == names and len(shapes) == 1 else None

            def infer_shapes(self) -> list[str]:
                return [] if self._shape and "infer" not in library.refuses else ["image"]

            def get_tensor_shape(self, name: str) -> tuple[int, ...]:
                assert self._shape is not None
                if "output shape" in library.refuses:
                    return (-1, 5)
                return self._engine._shapes(self._shape)[name]

            def update_device_memory_size_for_shapes(self) -> int:
                assert self._shape is not None, "memory is asked for before the shape is set"
                return int(np.prod(self._size())) * SCRATCH_PER_PIXEL

            def set_device_memory(self, address: int, num_bytes: int) -> None:
                assert address % 256 == 0
                assert num_bytes >= self.update_device_memory_size_for_shapes()
                self._scratch, self._runs = (address, num_bytes), 0

            @property
            def device_memory(self) -> int:
                raise AttributeError("it can only be set")

            @device_memory.setter
            def device_memory(self, address: int) -> None:
                assert address % 256 == 0
                num_bytes = self.update_device_memory_size_for_shapes()
                self._scratch, self._runs = (address, num_bytes), 0

            def set_tensor_address(self, name: str, address: int) -> bool:
                assert address % 256 == 0
                if no("address", "no such tensor", self._engine._logger):
                    return False
                self._addresses[name], self._runs = address, 0
                return True

            def is_stream_capturable(self, stream: int) -> bool:
                assert stream in cuda.streams
                return library.is_capturable

            def execute_async_v3(self, handle: int) -> bool:
                cuda.check_current()
                thread = threading.get_ident()
                assert self._user in (None, thread), "a context used by two threads at once"
                self._user = thread
                try:
                    return self._execute(cuda.streams[handle])
                finally:
                    self._user = None

            def _execute(self, stream: FakeStream) -> bool:
                assert set(self._addresses) == set(self._engine._nodes), "an address is missing"
                assert self._scratch is not None, "it has no memory"
                if no("execute", "the layers are on strike", self._engine._logger):
                    return False
                if stream.captured is not None:
                    assert self._runs > 0, "recorded before it ran"
                    if no("execute recorded", "operation not permitted", self._engine._logger):
                        return False
                cuda.said("enqueue")
                self._runs += 1
                work, given = self._work(), self._given
                if stream.captured is not None:
                    stream.give(work)
                    return True

                def counted() -> None:
                    work()
                    given[0] -= 1

                given[0] += 1
                stream.give(counted)
                return True

            def _work(self) -> Callable[[], None]:
                addresses, scratch = dict(self._addresses), self._scratch
                shape, net = self._shape, self._engine._net
                assert scratch is not None
                assert shape is not None
                nodes = net.get_inputs()
                dtype = np.dtype(np.uint8 if "uint8" in nodes[0].type else np.float32)

                def work() -> None:
                    num_bytes = int(np.prod(shape)) * dtype.itemsize
                    feeds = {
                        node.name: cuda.at(addresses[node.name], num_bytes)
                        .view(dtype)
                        .reshape(shape)
                        .copy()
                        for node in nodes
                    }
                    names = [output.name for output in net.get_outputs()]
                    arrays = net.run(names, feeds)
                    ranges = [scratch, *((addresses[node.name], num_bytes) for node in nodes)]
                    ranges += [
                        (addresses[name], array.nbytes)
                        for name, array in zip(names, arrays, strict=True)
                    ]
                    ranges.sort()
                    for (begin, size), (then, _) in pairwise(ranges):
                        assert begin + size <= then, "memory is used for two things at once"
                    cuda.at(*scratch)[:] = 0xAB
                    for name, array in zip(names, arrays, strict=True):
                        flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
                        cuda.at(addresses[name], flat.size)[:] = flat

                return work

            def _size(self) -> tuple[int, int, int]:
                assert self._shape is not None
                axes = (0, 1, 2) if self._engine._plan["is_raw"] else (0, 2, 3)
                images, rows, columns = (self._shape[axis] for axis in axes)
                return images, rows, columns

        offered = {
            "ILogger": Logger,
            "Runtime": Runtime,
            "TensorIOMode": TensorIOMode,
            "DataType": DataType,
            "ExecutionContextAllocationStrategy": ExecutionContextAllocationStrategy,
            "DynamicShapesKernelSpecializationStrategy": Specialization,
        }
        self.classes = {"IExecutionContext": Context, "ICudaEngine": Engine, "Runtime": Runtime}
        super().__init__(**{k: v for k, v in offered.items() if k in names})

    def __hash__(self) -> int:
        return id(self)
