"""Nets as TensorRT runs them: a plan, one execution context and one CUDA graph for each shape.

Everything that computes is given to one stream, so runs never overlap and share one piece of
device memory. Its addresses are part of every recorded graph: a shape that needs more of it than
any before makes the others record again.
"""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, RunFailed
from vggspec.base.catalogue.running import ShapeOutsideProfiles
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.shape import Shape
from vggspec.bundle.opening import Bundle
from vggspec.bundle.profile import choose_profile, spans
from vggspec.runtime.session import Arrays, check_feeds
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt.cuda import PURPOSE, Bytes, Cuda, Event, Graph, Memory, PyCuda, Stream
from vggspec.runtime.tensorrt.load_plan import RefusedError
from vggspec.runtime.tensorrt.plan import Layout, Plan, ShapedContext, read_plan

MAX_BUCKETS = 8
"""Shapes that are kept ready; the least recently used one is dropped."""

GRAIN = 8 << 20  # memory grows by whole grains, so that sizes a little larger move nothing
DEPTH = 2  # runs of a stream under way at once: one computes while the other is copied

Feeds = Mapping[str, NDArray[Any]]
T = TypeVar("T")

log = logging.getLogger(__name__)


class Arena(Generic[T]):
    """Memory as large as its largest use so far. The old memory is freed before it grows."""

    def __init__(self, allocate: Callable[[int], T], free: Callable[[T], None]) -> None:
        self._allocate, self._free = allocate, free
        self._memory: T | None = None
        self._num_bytes = 0
        self.generation = 0
        """How often it moved."""

    def holds(self, num_bytes: int) -> bool:
        """Whether reserving that much would move nothing."""
        return self._memory is not None and num_bytes <= self._num_bytes

    def reserve(self, num_bytes: int) -> T:
        """The memory, reallocated if it is smaller; it must not be in use then."""
        if self._memory is None or num_bytes > self._num_bytes:
            self.free()
            self._num_bytes = -(-max(num_bytes, 1) // GRAIN) * GRAIN
            self._memory = self._allocate(self._num_bytes)
        return self._memory

    def free(self) -> None:
        """Free it until it is reserved again."""
        memory, self._memory = self._memory, None
        self.generation += 1
        if memory is not None:
            self._free(memory)


@dataclass(slots=True)
class Bucket:
    """A shape that is ready to run."""

    prepared: ShapedContext
    generation: int = -1
    """Of the shared memory whose addresses it has."""

    runs: int = 0
    """With those addresses."""

    graph: Graph | None = None
    refusal: str | None = None
    """Why a graph cannot be recorded."""


@dataclass(slots=True, kw_only=True)
class Slot:
    """A place in a stream of runs: memory of its own on both sides, laid out as a run's."""

    device: Arena[Memory]
    host: Arena[Bytes]
    events: dict[str, Event]
    """Of its upload, its computation and its download being over."""

    layout: Layout | None = None
    """Of the run that is under way in it."""


class TrtSession(Closing):
    """A bundle's plan, loaded by the flavour of TensorRT that built it.

    ``run`` may be called from several threads; the device serves one at a time. With ``use_graphs``
    the second run of a shape is recorded as a CUDA graph, which the later ones replay;
    ``without_graph`` lists shapes where that failed, which only costs time.

    ``trt`` and ``cuda`` are the library and the device, None for the real ones.

    Raises:
        VggspecError: the plan was changed, has no weights, or TensorRT refuses it.
        MissingLibraryError: TensorRT, pycuda, the driver or a device is missing.
    """

    is_slow_to_change_shape = False

    def __init__(
        self,
        bundle: Bundle,
        *,
        use_graphs: bool = True,
        max_buckets: int = MAX_BUCKETS,
        trt: Any = None,
        cuda: Cuda | None = None,
    ) -> None:
        facts = bundle.manifest.engine
        assert facts is not None, "the bundle contains no engine"
        data = read_plan(bundle)
        library = flavours.load(facts.flavour, PURPOSE) if trt is None else trt
        self._use_graphs, self._max_buckets = use_graphs, max_buckets
        # Entered again where a generator is collected while its thread is in here.
        self._lock = threading.RLock()
        self._buckets: OrderedDict[Shape, Bucket] = OrderedDict()
        self._slots: list[Slot] = []
        self._streams: dict[str, Stream] = {}
        self._plan: Plan | None = None
        self._is_closed = False
        self._cuda: Cuda = PyCuda() if cuda is None else cuda
        # RuntimeError is what TensorRT's bindings raise.
        errors = self._cuda.errors
        self._refusals: tuple[type[Exception], ...] = (RefusedError, RuntimeError, *errors)
        self._shared = Arena(self._cuda.allocate, _free)
        self._host = Arena(self._cuda.pinned, self._cuda.free_pinned)
        try:
            with self._cuda.current():
                self._streams = {w: self._cuda.stream() for w in ("compute", "up", "down")}
                self._plan = Plan(bundle, data, library)
        except self._cuda.errors as error:
            self.close()
            what = EngineFailed(reason=str(error))
            raise VggspecError(report(what, path=str(bundle.model))) from error
        except BaseException:
            self.close()
            raise
        self._profiles = self._plan.profiles
        self._size = self._plan.size
        self.inputs = self._plan.inputs
        self.outputs = self._plan.outputs
        self.device: Literal["cpu", "cuda"] = "cuda"

    @property
    def with_graph(self) -> tuple[Shape, ...]:
        """Input shapes whose next run replays a CUDA graph."""
        with self._lock:
            return tuple(shape for shape, b in self._buckets.items() if b.graph is not None)

    @property
    def without_graph(self) -> dict[Shape, str]:
        """Input shapes whose run could not be recorded as a CUDA graph, and why."""
        with self._lock:
            return {s: b.refusal for s, b in self._buckets.items() if b.refusal is not None}

    def run(self, feeds: Feeds) -> Arrays:
        """All outputs by name, as new arrays.

        A batch larger than any profile takes is run in parts.

        Raises:
            ValueError: the feeds are not the net's inputs, or the session is closed.
            VggspecError: no profile takes the shape, or the engine fails.
        """
        return _joined([self._run(part) for part in self._parts(feeds)])

    def stream(self, feeds: Iterable[Feeds]) -> Generator[Arrays, None, None]:
        """The outputs of each of many feeds, in their order.

        Copies overlap with work: while one run computes, the next one's input is uploaded and the
        last one's outputs are downloaded. Each has a CUDA stream of its own, since the device
        copies both ways at once and neither copy should wait behind the other. Every run still
        reads and writes the same addresses, so that a shape needs one context and one graph; its
        arrays are moved there and away within the device. A result is given when the second feed
        after it has been asked for.

        Other runs may come between. Closing the generator, or the session, leaves nothing behind.

        Raises:
            ValueError: a feed is not the net's inputs, or the session is closed.
            VggspecError: no profile takes a shape, or the engine fails.
        """
        counts: deque[int] = deque()

        def parts() -> Iterator[Feeds]:
            for each in feeds:
                cut = self._parts(each)
                counts.append(len(cut))
                yield from cut

        results = self._pipeline(parts())
        try:
            for first in results:
                rest = [next(results) for _ in range(counts.popleft() - 1)]
                yield _joined([first, *rest])
        finally:
            results.close()

    def close(self) -> None:
        """Release the plan and all memory; a second call does nothing. If the device refuses, after
        a failure for instance, the driver frees the memory when the process ends.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            quietly = self._quietly
            with quietly(), self._cuda.current():
                self._settle()
                while self._slots:
                    self._free_slot(self._slots[-1])
                while self._buckets:
                    with quietly():
                        self._drop_oldest()
                if self._plan is not None:
                    self._plan.close()
                for arena in (self._shared, self._host):
                    with quietly():
                        arena.free()
                self._streams.clear()
            with quietly():
                self._cuda.close()

    def _parts(self, feeds: Feeds) -> list[Feeds]:
        """The feeds, cut into equal batches where no profile takes that many images."""
        check_feeds(self.inputs, feeds)
        shape, *others = (feeds[port.name].shape for port in self.inputs)
        if any(other != shape for other in others):
            raise ValueError(
                f"the inputs have different shapes: {', '.join(map(str, (shape, *others)))}"
            )
        images, rows, columns = size = self._size(shape)
        if choose_profile(self._profiles, size) is not None:
            return [feeds]
        fitting = [p.max[0] for p in self._profiles if p.holds((p.max[0], rows, columns))]
        most = max(fitting, default=0)
        if 0 < most < images:
            number = -(-images // most)
            cut = {name: np.array_split(array, number) for name, array in feeds.items()}
            parts: list[Feeds] = [
                dict(zip(cut, part, strict=True)) for part in zip(*cut.values(), strict=True)
            ]
            sizes = (self._size(_shape(part)) for part in parts)
            if all(choose_profile(self._profiles, each) is not None for each in sizes):
                return parts
        raise VggspecError(report(ShapeOutsideProfiles(shape=size, ranges=spans(self._profiles))))

    # One run.

    def _run(self, feeds: Feeds) -> Arrays:
        with self._working():
            bucket, address = self._ready(_shape(feeds))
            layout = bucket.prepared.layout
            host = self._host.reserve(layout.scratch_at)
            compute = self._streams["compute"]
            self._fill(host, layout, feeds)
            self._cuda.upload(address, host[: layout.num_input_bytes], compute)
            self._launch(bucket)
            outputs = host[layout.outputs_at : layout.scratch_at]
            self._cuda.download(outputs, address + layout.outputs_at, compute)
            compute.synchronize()
            return self._outputs(host, layout)

    def _ready(self, shape: Shape) -> tuple[Bucket, int]:
        """The bucket of a shape, and the address of the shared memory, which it has."""
        compute = self._streams["compute"]
        bucket = self._buckets.get(shape)
        if bucket is None:
            assert self._plan is not None
            if len(self._buckets) >= self._max_buckets:
                compute.synchronize()
                self._drop_oldest()
            bucket = Bucket(self._plan.prepare(shape, compute.handle))
            self._buckets[shape] = bucket
        self._buckets.move_to_end(shape)
        num_bytes = bucket.prepared.layout.num_bytes
        if not self._shared.holds(num_bytes):
            compute.synchronize()
        address = int(self._shared.reserve(num_bytes))
        if bucket.generation != self._shared.generation:
            compute.synchronize()
            self._forget_graph(bucket)
            bucket.prepared.bind(address)
            bucket.generation, bucket.runs = self._shared.generation, 0
        return bucket, address

    def _launch(self, bucket: Bucket) -> None:
        """Give a run to the compute stream, recording it when the shape comes a second time."""
        # Not the first time: most photographs have a unique shape.
        if self._use_graphs and bucket.runs == 1 and bucket.refusal is None:
            self._record(bucket)
        compute = self._streams["compute"]
        if bucket.graph is None:
            bucket.prepared.enqueue(compute.handle)
        else:
            bucket.graph.launch(compute.handle)
        bucket.runs += 1

    def _record(self, bucket: Bucket) -> None:
        compute = self._streams["compute"]
        prepared = bucket.prepared
        try:
            if not prepared.is_capturable(compute.handle):
                raise RefusedError("TensorRT says that it cannot be recorded")
            bucket.graph = self._cuda.capture(compute, lambda: prepared.enqueue(compute.handle))
        except self._refusals as error:
            bucket.refusal = str(error)
            log.warning("no CUDA graph for inputs of %s: %s", prepared.layout.input, error)

    def _forget_graph(self, bucket: Bucket) -> None:
        graph, bucket.graph = bucket.graph, None
        if graph is not None:
            graph.close()

    def _drop_oldest(self) -> None:
        _, bucket = self._buckets.popitem(last=False)
        try:
            self._forget_graph(bucket)
        finally:
            bucket.prepared.close()

    # A stream of runs.

    def _pipeline(self, parts: Iterator[Feeds]) -> Generator[Arrays, None, None]:
        slots: list[Slot] = []
        under_way: deque[Slot] = deque()
        try:
            for part in parts:
                if len(slots) < DEPTH:
                    slots.append(self._new_slot())
                    slot = slots[-1]
                else:
                    slot = under_way.popleft()
                    yield self._collect(slot)
                self._submit(slot, part)
                under_way.append(slot)
            while under_way:
                yield self._collect(under_way.popleft())
        finally:
            self._free_slots(slots)

    def _new_slot(self) -> Slot:
        cuda = self._cuda
        with self._working():
            slot = Slot(
                device=Arena(cuda.allocate, _free),
                host=Arena(cuda.pinned, cuda.free_pinned),
                events={which: cuda.event() for which in ("up", "compute", "down")},
            )
            self._slots.append(slot)
            return slot

    def _submit(self, slot: Slot, feeds: Feeds) -> None:
        cuda = self._cuda
        with self._working():
            compute, up, down = (self._streams[which] for which in ("compute", "up", "down"))
            bucket, address = self._ready(_shape(feeds))
            layout = slot.layout = bucket.prepared.layout
            host = slot.host.reserve(layout.scratch_at)
            device = int(slot.device.reserve(layout.scratch_at))
            self._fill(host, layout, feeds)
            cuda.upload(device, host[: layout.num_input_bytes], up)
            slot.events["up"].record(up)
            compute.wait_for_event(slot.events["up"])
            cuda.copy(address, device, layout.num_input_bytes, compute)
            self._launch(bucket)
            at, num_bytes = layout.outputs_at, layout.scratch_at - layout.outputs_at
            cuda.copy(device + at, address + at, num_bytes, compute)
            slot.events["compute"].record(compute)
            down.wait_for_event(slot.events["compute"])
            cuda.download(host[at : layout.scratch_at], device + at, down)
            slot.events["down"].record(down)

    def _collect(self, slot: Slot) -> Arrays:
        with self._working():
            layout, slot.layout = slot.layout, None
            assert layout is not None
            slot.events["down"].synchronize()
            return self._outputs(slot.host.reserve(layout.scratch_at), layout)

    def _free_slots(self, slots: list[Slot]) -> None:
        with self._lock:
            if self._is_closed or not slots:
                return
            with self._quietly(), self._cuda.current():
                self._settle()
                for slot in slots:
                    self._free_slot(slot)

    def _free_slot(self, slot: Slot) -> None:
        self._slots.remove(slot)
        slot.events.clear()
        for arena in (slot.device, slot.host):
            with self._quietly():
                arena.free()

    # Both.

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Use the device exclusively; its errors are reported, and all work is finished afterwards.

        Raises:
            ValueError: the session is closed.
            VggspecError: the engine or the device fails.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the session is closed")
            with self._cuda.current():
                try:
                    yield
                except self._refusals as error:
                    self._settle()
                    raise VggspecError(report(RunFailed(reason=str(error)))) from error
                except BaseException:
                    self._settle()
                    raise

    def _settle(self) -> None:
        """Wait until all work is finished."""
        for stream in self._streams.values():
            with self._quietly():
                stream.synchronize()

    def _quietly(self) -> suppress:
        return suppress(*self._cuda.errors)

    def _fill(self, host: Bytes, layout: Layout, feeds: Feeds) -> None:
        for name, array in feeds.items():
            at = layout.offsets[name]
            np.copyto(host[at : at + array.nbytes].view(array.dtype).reshape(array.shape), array)

    def _outputs(self, host: Bytes, layout: Layout) -> Arrays:
        """Copies of the outputs in ``host``."""
        arrays = {}
        for port in self.outputs:
            shape, at = layout.outputs[port.name], layout.offsets[port.name]
            array = np.empty(shape, port.dtype)
            array[...] = host[at : at + array.nbytes].view(port.dtype).reshape(shape)
            arrays[port.name] = array
        return arrays


def _shape(feeds: Feeds) -> Shape:
    """Of each array of a run."""
    return next(iter(feeds.values())).shape


def _free(block: Memory) -> None:
    block.free()


def _joined(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
