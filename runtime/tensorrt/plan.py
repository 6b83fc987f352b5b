"""A loaded plan, and what a shape needs to run. All calls of TensorRT while a net runs are here.

Both flavours are driven by the names that their bindings share; ``tests/test_tensorrt_api.py``
compares every one of them with the listings of several versions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vggspec.base.catalogue.artefacts import EngineFailed
from vggspec.base.catalogue.running import ShapeOutsideProfiles, StrippedPlan
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.shape import Shape
from vggspec.base.wording import count
from vggspec.bundle.opening import Bundle
from vggspec.bundle.profile import BatchShape, Profile, choose_profile, spans
from vggspec.runtime.session import Port
from vggspec.runtime.tensorrt.api import ICudaEngine, IExecutionContext, IRuntimeConfig, Library
from vggspec.runtime.tensorrt.load_plan import RefusedError, load_plan
from vggspec.runtime.tensorrt.messages import Heard, logger

ALIGNMENT = 256  # of every address that TensorRT is given

DTYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "UINT8": np.uint8,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a run's arrays lie in one piece of memory, in bytes from its beginning.

    The inputs come first, then the outputs, then what the layers need in between.
    """

    input: Shape
    """Of each input."""

    outputs: dict[str, Shape]
    offsets: dict[str, int]
    """Of every input and output."""

    num_input_bytes: int
    """From the beginning to the end of the last input."""

    outputs_at: int
    scratch_at: int
    num_bytes: int


class Plan:
    """A bundle's plan, loaded; ``trt`` is the library.

    The file is hashed before it is loaded: a plan is native code. The device is current whenever
    this is used.

    Raises:
        VggspecError: TensorRT refuses the plan, or it differs from the manifest.
    """

    def __init__(self, bundle: Bundle, data: bytes, trt: Library) -> None:
        facts = bundle.manifest.engine
        assert facts is not None
        self._path = str(bundle.model)
        self._trt = trt
        self._flavour = facts.flavour
        self._heard, _ = logger(trt)
        self._loaded = load_plan(trt, data, facts, self._path)
        engine: ICudaEngine = self._loaded.engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        ports = {name: self._port(name) for name in names}
        self.outputs = tuple(ports[n] for n in names if modes[n] == trt.TensorIOMode.OUTPUT)
        inputs = [ports[name] for name in names if modes[name] == trt.TensorIOMode.INPUT]
        wanted = len(bundle.manifest.inputs)
        if len(inputs) != wanted or len(inputs[0].shape) != 4:
            raise self._other(f"it does not have {count(wanted, 'input')} of images")
        self.inputs = tuple(inputs)
        if len({(port.dtype, port.shape) for port in inputs}) > 1:
            raise self._other("its inputs differ in type or shape")
        # Images, rows and columns among the input's axes.
        self._axes = (0, 1, 2) if bundle.manifest.input.contract == "raw" else (0, 2, 3)
        self.profiles = self._profiles()
        if self.profiles != facts.profiles:
            raise self._other("its profiles are not those of the manifest")

    def size(self, shape: Shape) -> Shape:
        """Images, rows and columns of an input; all inputs of a run have one shape."""
        return tuple(shape[axis] for axis in self._axes)

    def prepare(self, shape: Shape, stream: int) -> "ShapedContext":
        """An execution context for inputs of ``shape``, and its layout.

        ``stream`` is the handle of the one that it will run in.

        Raises:
            VggspecError: TensorRT does not take the shape, although a profile includes it.
            RefusedError: TensorRT refuses anything else.
        """
        index = choose_profile(self.profiles, self.size(shape))
        assert index is not None, "no profile includes the shape"
        self._heard.forget()
        context: IExecutionContext = self._new_context()
        if context is None:
            raise self._refused("it makes no execution context")
        if not context.set_optimization_profile_async(index, stream):
            raise self._refused(f"it does not switch to profile {index}")
        if not all(context.set_input_shape(port.name, shape) for port in self.inputs):
            what = ShapeOutsideProfiles(shape=self.size(shape), ranges=spans(self.profiles))
            raise VggspecError(report(what))
        missing = context.infer_shapes()
        if missing:
            raise self._refused(f"the shape of {', '.join(missing)} is open")
        outputs = {p.name: tuple(context.get_tensor_shape(p.name)) for p in self.outputs}
        if any(axis < 0 for output in outputs.values() for axis in output):
            raise self._refused("the shape of an output depends on more than that of the input")
        num_scratch_bytes = int(context.update_device_memory_size_for_shapes())
        layout = self._layout(shape, outputs, num_scratch_bytes)
        return ShapedContext(context, layout, self._heard)

    def close(self) -> None:
        """Release the engine, after everything that was prepared from it."""
        self._loaded.close()

    def _port(self, name: str) -> Port:
        engine: ICudaEngine = self._loaded.engine
        kind = engine.get_tensor_dtype(name).name
        if kind not in DTYPES:
            raise self._other(f"`{name}` has the type {kind}")
        axes = tuple(engine.get_tensor_shape(name))
        return Port(name, np.dtype(DTYPES[kind]), tuple(a if a >= 0 else None for a in axes))

    def _profiles(self) -> tuple[Profile, ...]:
        engine: ICudaEngine = self._loaded.engine
        found = []
        for index in range(engine.num_optimization_profiles):
            first, *others = (self._profile(port.name, index) for port in self.inputs)
            if any(other != first for other in others):
                raise self._other(f"its inputs have different shapes in profile {index}")
            found.append(first)
        return tuple(found)

    def _profile(self, name: str, index: int) -> Profile:
        engine: ICudaEngine = self._loaded.engine
        shapes = engine.get_tensor_profile_shape(name, index)
        low, usual, high = (self.size(tuple(shape)) for shape in shapes)
        return Profile(_three(low), _three(usual), _three(high))

    def _new_context(self) -> IExecutionContext:
        """A context whose memory we give it; by default each would take the largest profile's."""
        trt: Library = self._trt
        engine: ICudaEngine = self._loaded.engine
        by_user = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._flavour != "tensorrt_rtx":
            return engine.create_execution_context(by_user)
        # A context sees one shape, so its kernels are compiled for it at once: those that serve
        # until a thread has compiled better ones would be recorded for good.
        runtime_config: IRuntimeConfig = engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(by_user)
        eager = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        runtime_config.dynamic_shapes_kernel_specialization_strategy = eager
        return engine.create_execution_context(runtime_config)

    def _layout(self, shape: Shape, outputs: dict[str, Shape], num_scratch_bytes: int) -> Layout:
        offsets: dict[str, int] = {}
        num_input_bytes = 0
        for port in self.inputs:
            offsets[port.name] = _aligned(num_input_bytes)
            num_input_bytes = offsets[port.name] + _num_bytes(shape, port.dtype)
        outputs_at = at = _aligned(num_input_bytes)
        for port in self.outputs:
            offsets[port.name] = at
            at = _aligned(at + _num_bytes(outputs[port.name], port.dtype))
        return Layout(
            input=shape,
            outputs=outputs,
            offsets=offsets,
            num_input_bytes=num_input_bytes,
            outputs_at=outputs_at,
            scratch_at=at,
            num_bytes=at + num_scratch_bytes,
        )

    def _other(self, why: str) -> VggspecError:
        return VggspecError(report(EngineFailed(reason=why), path=self._path))

    def _refused(self, otherwise: str) -> RefusedError:
        return RefusedError(self._heard.told(otherwise))


class ShapedContext:
    """An execution context whose shapes are fixed."""

    def __init__(self, context: IExecutionContext, layout: Layout, heard: Heard) -> None:
        self._context: IExecutionContext = context
        self._heard = heard
        self.layout = layout

    def bind(self, address: int) -> None:
        """Set the memory that its layout describes.

        Raises:
            RefusedError: TensorRT does not take an address.
        """
        context: IExecutionContext = self._context
        num_scratch_bytes = self.layout.num_bytes - self.layout.scratch_at
        scratch = address + self.layout.scratch_at
        if hasattr(context, "set_device_memory"):
            context.set_device_memory(scratch, num_scratch_bytes)
        else:
            context.device_memory = scratch
        for name, offset in self.layout.offsets.items():
            if not context.set_tensor_address(name, address + offset):
                raise RefusedError(self._heard.told(f"it takes no address for `{name}`"))

    def enqueue(self, stream: int) -> None:
        """Enqueue the run in a stream, by its handle.

        Raises:
            RefusedError: TensorRT refuses.
        """
        if not self._context.execute_async_v3(stream):
            raise RefusedError(self._heard.told("it does not say why"))

    def is_capturable(self, stream: int) -> bool:
        """Whether a run can be recorded as a CUDA graph, as far as TensorRT knows."""
        context: IExecutionContext = self._context
        if hasattr(context, "is_stream_capturable"):
            return bool(context.is_stream_capturable(stream))
        return True

    def close(self) -> None:
        """Release the context."""
        self._context = None


def read_plan(bundle: Bundle) -> bytes:
    """The bytes of a bundle's plan, which are those that its manifest digests.

    Raises:
        VggspecError: the plan was changed, cannot be read, or has no weights.
    """
    facts = bundle.manifest.engine
    assert facts is not None
    if facts.is_stripped:
        raise VggspecError(report(StrippedPlan(), path=str(bundle.path)))
    return bundle.read_model()


def _three(size: Shape) -> BatchShape:
    images, rows, columns = size
    return images, rows, columns


def _num_bytes(shape: Shape, dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
