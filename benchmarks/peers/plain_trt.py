"""A TensorRT plan driven by hand through pycuda, for one shape: the least that a run can cost.

One context, buffers of that shape on both sides, pinned memory, one stream; the device stays
current. The answer lies in pinned memory and is overwritten by the next run.
"""

import ctypes
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

NON_BLOCKING = 1
THREAD_LOCAL = 1  # how a stream is recorded

Floats = NDArray[np.float32]


class Recorded:
    """What a stream was given to do, as a CUDA graph."""

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream, self._executable = ctypes.c_void_p(stream), ctypes.c_void_p()
        graph = ctypes.c_void_p()
        self._check(self._driver.cuStreamBeginCapture_v2(self._stream, THREAD_LOCAL))
        work()
        self._check(self._driver.cuStreamEndCapture(self._stream, ctypes.byref(graph)))
        made = self._driver.cuGraphInstantiateWithFlags(
            ctypes.byref(self._executable), graph, ctypes.c_ulonglong(0)
        )
        self._check(made)
        self._check(self._driver.cuGraphDestroy(graph))
        self._launch = self._driver.cuGraphLaunch

    def launch(self) -> None:
        """Replay it."""
        self._check(self._launch(self._executable, self._stream))

    def close(self) -> None:
        """Free it."""
        self._check(self._driver.cuGraphExecDestroy(self._executable))

    def _check(self, code: int) -> None:
        if code != 0:
            raise RuntimeError(f"the driver returned {code} while a graph was recorded or replayed")


class PlainTrt:
    """A plan ready for inputs of one shape.

    ``profile`` is the index of the one that holds ``shape``; the plan has one input and one output,
    both float32.
    """

    def __init__(
        self,
        trt: Any,
        flavour: str,
        plan: bytes,
        *,
        profile: int,
        shape: tuple[int, ...],
        names: tuple[str, str] = ("image", "posteriors"),
    ) -> None:
        cuda.init()
        self._device = cuda.Device(0).retain_primary_context()
        self._device.push()
        self._graph: Recorded | None = None
        logger = trt.Logger(trt.Logger.WARNING)
        self._engine_runtime = trt.Runtime(logger)
        plan_engine = self._plan_engine = self._engine_runtime.deserialize_cuda_engine(plan)
        context = self._context = create_context(trt, flavour, plan_engine)
        self._stream = cuda.Stream(NON_BLOCKING)
        image, answer = names
        require(context.set_optimization_profile_async(profile, self._stream.handle), "the profile")
        self._stream.synchronize()
        require(context.set_input_shape(image, shape), "the shape")
        self._image: Floats = cuda.pagelocked_empty(shape, np.float32)
        self._answer: Floats = cuda.pagelocked_empty(
            tuple(context.get_tensor_shape(answer)), np.float32
        )
        self._memory = [cuda.mem_alloc(array.nbytes) for array in (self._image, self._answer)]
        for name, address in zip(names, self._memory, strict=True):
            require(context.set_tensor_address(name, int(address)), f"the address of `{name}`")

    def run(self, image: Floats) -> Floats:
        """Copies and kernels, given to the stream one by one."""
        np.copyto(self._image, image)
        self._give()
        self._stream.synchronize()
        return self._answer

    def replay(self, image: Floats) -> Floats:
        """The same as one CUDA graph, recorded when it is first called, after a ``run``."""
        if self._graph is None:
            self._graph = Recorded(self._stream.handle, self._give)
        np.copyto(self._image, image)
        self._graph.launch()
        self._stream.synchronize()
        return self._answer

    def close(self) -> None:
        """Free everything, while the device is still current."""
        self._stream.synchronize()
        if self._graph is not None:
            self._graph.close()
        del self._context, self._plan_engine, self._engine_runtime
        del self._memory, self._image, self._answer, self._stream
        self._device.pop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _give(self) -> None:
        image, answer = self._memory
        cuda.memcpy_htod_async(image, self._image, self._stream)
        require(self._context.execute_async_v3(self._stream.handle), "the run")
        cuda.memcpy_dtoh_async(self._answer, answer, self._stream)


def create_context(trt: Any, flavour: str, plan_engine: Any) -> Any:
    """An execution context with memory for the profile in use, and kernels made for its shape."""
    strategy = trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
    if flavour != "tensorrt_rtx":
        return plan_engine.create_execution_context(strategy)
    runtime_config = plan_engine.create_runtime_config()
    runtime_config.set_execution_context_allocation_strategy(strategy)
    eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
    return plan_engine.create_execution_context(runtime_config)


def require(answer: object, what: str) -> None:
    """TensorRT says no by a return value."""
    if not answer:
        raise RuntimeError(f"TensorRT does not take {what}")
