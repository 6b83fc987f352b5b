"""What a session needs of CUDA: memory, streams, events, copies, graphs.

``Cuda`` is all that the session knows of it; ``PyCuda`` gives it by pycuda. pycuda's own rules end
here: an object of it lives in the context that was current when it was made, and can be freed
from another thread only while that context is current there.
"""

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.base.diagnostic import MissingLibraryError
from vggspec.base.optional import require
from vggspec.runtime.tensorrt.cuda_graph import CudaDriver, CudaDriverError, CudaGraph, capture

PURPOSE = "running a TensorRT engine"

#: CU_STREAM_NON_BLOCKING: it waits for no work of others on the default stream.
NON_BLOCKING = 1

Bytes = NDArray[np.uint8]


class Memory(Protocol):
    """Memory of the device; its number is its address."""

    def __int__(self) -> int: ...

    def free(self) -> None: ...


class Event(Protocol):
    """A point in a stream that others can wait for."""

    def record(self, stream: Any, /) -> object: ...

    def synchronize(self) -> object: ...


class Stream(Protocol):
    """Work that the device does in order."""

    @property
    def handle(self) -> int: ...

    def wait_for_event(self, event: Any, /) -> None: ...

    def synchronize(self) -> None: ...


class Graph(Protocol):
    """Recorded work."""

    def launch(self, stream: int, /) -> None: ...

    def close(self) -> None: ...


class Cuda(Protocol):
    """A CUDA device. All but ``current`` and ``close`` are called while it is current."""

    errors: tuple[type[Exception], ...]
    """The exceptions of a failing device or driver."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device current in this thread during the block."""

    def allocate(self, num_bytes: int) -> Memory: ...

    def pinned(self, num_bytes: int) -> Bytes:
        """Memory of the host that the device copies from and to by itself."""

    def free_pinned(self, array: Bytes) -> None: ...

    def stream(self) -> Stream: ...

    def event(self) -> Event: ...

    def upload(self, to: int, array: Bytes, stream: Stream) -> None:
        """Copy pinned memory to a device address, in the stream's order."""

    def download(self, array: Bytes, origin: int, stream: Stream) -> None:
        """Copy from a device address to pinned memory, in the stream's order."""

    def copy(self, to: int, origin: int, num_bytes: int, stream: Stream) -> None:
        """Copy between device addresses, in the stream's order."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Record the work that ``work`` enqueues, without running it."""

    def close(self) -> None:
        """Release the device."""


class PyCuda:
    """The first CUDA device that the process sees, by pycuda.

    Its primary context is retained, the one that PyTorch and TensorRT use too, so addresses are
    valid for all of them and none disturbs the other.

    Raises:
        MissingLibraryError: pycuda, the driver or a device is missing.
    """

    def __init__(self) -> None:
        require("pycuda", PURPOSE)
        try:
            self._driver: Any = importlib.import_module("pycuda.driver")
        except ImportError as error:
            raise MissingLibraryError(f"{PURPOSE} needs NVIDIA's driver: {error}") from error
        self.errors: tuple[type[Exception], ...] = (self._driver.Error, CudaDriverError)
        self._graphs = CudaDriver()
        try:
            self._driver.init()
            self._context: Any = self._driver.Device(0).retain_primary_context()
        except self._driver.Error as error:
            raise MissingLibraryError(f"{PURPOSE} needs a CUDA device: {error}") from error

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def allocate(self, num_bytes: int) -> Memory:
        memory: Memory = self._driver.mem_alloc(num_bytes)
        return memory

    def pinned(self, num_bytes: int) -> Bytes:
        array: Bytes = self._driver.pagelocked_empty(num_bytes, np.uint8)
        return array

    def free_pinned(self, array: Bytes) -> None:
        allocation: Any = array.base
        allocation.free()

    def stream(self) -> Stream:
        stream: Stream = self._driver.Stream(NON_BLOCKING)
        return stream

    def event(self) -> Event:
        event: Event = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
        return event

    def upload(self, to: int, array: Bytes, stream: Stream) -> None:
        self._driver.memcpy_htod_async(to, array, stream)

    def download(self, array: Bytes, origin: int, stream: Stream) -> None:
        self._driver.memcpy_dtoh_async(array, origin, stream)

    def copy(self, to: int, origin: int, num_bytes: int, stream: Stream) -> None:
        self._driver.memcpy_dtod_async(to, origin, num_bytes, stream)

    def capture(self, stream: Stream, work: Callable[[], None]) -> CudaGraph:
        return capture(self._graphs, stream.handle, work)

    def close(self) -> None:
        """Release the primary context, from any thread; a second call does nothing.

        Raises:
            Exception: one of ``errors``, if the driver refuses.
        """
        context, self._context = self._context, None
        if context is None:
            return
        # pycuda releases a context of another thread only while it is current, and then leaves it
        # on the driver's stack of this thread, below the one that pycuda has next.
        context.push()
        context.detach()
        below = self._driver.Context.get_current()
        if below is not None:
            self._pop()
        self._pop()
        if below is not None:
            self._graphs.call("cuCtxPushCurrent_v2", ctypes.c_void_p(below.handle))

    def _pop(self) -> None:
        self._graphs.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
