"""CUDA graphs and other driver calls that pycuda lacks.

A graph is a recording of work on a stream. Replaying it costs one call instead of one for each
kernel, and is valid for the addresses and shapes that it was recorded with.
"""

import ctypes
from collections.abc import Callable
from typing import Any

from vggspec.base.diagnostic import MissingLibraryError
from vggspec.runtime.machine import DRIVERS

SUCCESS = 0

#: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile.
THREAD_LOCAL = 1


class CudaDriverError(Exception):
    """The driver refused a call; the message says which, and why."""


class CudaDriver:
    """The driver's functions by name, every return code checked.

    Raises:
        MissingLibraryError: there is no driver.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = _load() if library is None else library

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            CudaDriverError: it returns anything but success.
        """
        result = getattr(self._library, name)(*arguments)
        if result != SUCCESS:
            raise CudaDriverError(f"{name} failed: {self._words(result)}")

    def _words(self, result: int) -> str:
        text = ctypes.c_char_p()
        if self._library.cuGetErrorString(result, ctypes.byref(text)) != SUCCESS or not text.value:
            return f"error {result}"
        return text.value.decode(errors="replace")


class CudaGraph:
    """A recording of work on a stream, ready to be replayed."""

    def __init__(self, driver: CudaDriver, executable: int) -> None:
        self._driver = driver
        self._executable: int | None = executable

    def launch(self, stream: int) -> None:
        """Replay it on a stream, given by its handle.

        Raises:
            CudaDriverError: the driver refuses.
        """
        assert self._executable is not None, "launched after close"
        self._driver.call(
            "cuGraphLaunch", ctypes.c_void_p(self._executable), ctypes.c_void_p(stream)
        )

    def close(self) -> None:
        """Free it; a second call does nothing.

        Raises:
            CudaDriverError: the driver refuses.
        """
        executable, self._executable = self._executable, None
        if executable is not None:
            self._driver.call("cuGraphExecDestroy", ctypes.c_void_p(executable))


def capture(driver: CudaDriver, stream: int, work: Callable[[], None]) -> CudaGraph:
    """Record the work that ``work`` enqueues, without running it. The stream has stopped recording
    afterwards, also after errors.

    Raises:
        CudaDriverError: the driver cannot record the work.
        Exception: whatever ``work`` raises.
    """
    handle = ctypes.c_void_p(stream)
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    driver.call("cuStreamBeginCapture_v2", handle, ctypes.c_int(THREAD_LOCAL))
    try:
        work()
    except BaseException:
        try:
            driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
        except CudaDriverError:
            pass  # a recording that was broken off ends with an error, and has no graph
        else:
            _destroy(driver, graph)
        raise
    driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
    try:
        no_flags = ctypes.c_ulonglong(0)
        driver.call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, no_flags)
    finally:
        _destroy(driver, graph)
    assert executable.value is not None
    return CudaGraph(driver, executable.value)


def _destroy(driver: CudaDriver, graph: ctypes.c_void_p) -> None:
    if graph.value is not None:
        driver.call("cuGraphDestroy", graph)


def _load() -> ctypes.CDLL:
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise MissingLibraryError(f"CUDA needs NVIDIA's driver: {DRIVERS[0]} is not there")
