"""Nets in OpenVINO, on the CPU."""

import mmap
import os
import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, RunFailed
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import named_in_text
from vggspec.base.optional import require
from vggspec.base.processors import engine_threads
from vggspec.base.regular_files import open_file
from vggspec.base.wording import foreign
from vggspec.bundle.options import Precision
from vggspec.runtime.session import Arrays, Port, check_feeds

#: Its own exceptions are RuntimeErrors; others come of weights that are missing or too short.
OV_ERRORS = (RuntimeError, MemoryError, OSError, ValueError, KeyError)

#: What OpenVINO calls layers that multiply with weights.
PRODUCTS = {"Convolution", "FullyConnected", "MatMul", "Deconvolution"}

MAX_SAID = 1 << 16

#: A place in OpenVINO's source, with what stands before it.
_PLACE = re.compile(
    r"(?:Exception from|Check '[^\n]*?' failed at) \S+\.(?:cc|cpp|h|hpp):\d+:?\s"
    r"| Please check that model format[^\n]*|FrontEnd API failed with \w+:\s|Loading input model\s"
)


class OpenvinoSession(Closing):
    """A net loaded by OpenVINO.

    Products are computed in bf16 where ``precision`` is bf16 and the processor has it, in int8
    where the graph is quantised, else in fp32: never in what OpenVINO would choose by itself.
    ``threads`` bounds the threads of a run; None is all cores. Runs take turns.

    Raises:
        VggspecError: OpenVINO refuses the model.
    """

    device: Literal["cpu"] = "cpu"
    is_slow_to_change_shape = False

    def __init__(
        self, model: Path, precision: Precision = "fp32", threads: int | None = None
    ) -> None:
        self._path = str(model)
        self._net: ov.CompiledModel | None = compile_graph(model, precision, threads)
        self.inputs = tuple(map(_port, self._net.inputs))
        self.outputs = tuple(map(_port, self._net.outputs))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name, as new arrays.

        Raises:
            ValueError: the feeds do not match the inputs, or the session is closed.
            VggspecError: the engine fails, for lack of memory for instance.
        """
        net = self._net
        if net is None:
            raise ValueError("the session is closed")
        check_feeds(self.inputs, feeds)
        try:
            # A request takes microseconds, and holds the caller's arrays as long as it lives.
            found = net.create_infer_request().infer(dict(feeds), share_inputs=True)
        except (RuntimeError, MemoryError) as error:
            raise VggspecError(report(RunFailed(reason=cleaned(error, self._path)))) from error
        return dict(zip((port.name for port in self.outputs), found.values(), strict=True))

    def close(self) -> None:
        """Free the net and its memory; a second call does nothing."""
        self._net = None

    def computed_in(self) -> Counter[str]:
        """The number types of the layers that multiply with weights, once the net has run, as
        OpenVINO names them: how many are ``f32``, ``bf16``, ``i8``, ``u8``.
        """
        assert self._net is not None
        layers = [op.rt_info for op in self._net.get_runtime_model().get_ordered_ops()]
        return Counter(
            str(each["runtimePrecision"].value)
            for each in layers
            if each["layerType"].value in PRODUCTS
        )


def compile_graph(
    model: Path, precision: Precision, threads: int | None, *, is_profiled: bool = False
) -> ov.CompiledModel:
    """A graph for this CPU. ``is_profiled`` has it count the time of each layer.

    Raises:
        VggspecError: OpenVINO refuses it.
    """
    try:
        core = ov.Core()
        options = {
            "INFERENCE_PRECISION_HINT": number_type(precision, core),
            "INFERENCE_NUM_THREADS": engine_threads(threads),  # 0 is all cores
            "PERFORMANCE_HINT": "LATENCY",
            # It would tie the threads of several processes to the same cores.
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": is_profiled,
        }
        return core.compile_model(_read(core, model), "CPU", options)
    except OV_ERRORS as error:
        what = EngineFailed(reason=cleaned(error, str(model)))
        raise VggspecError(report(what, path=str(model))) from error


def has_bf16() -> bool:
    """Whether OpenVINO multiplies in bf16 on this processor."""
    return number_type("bf16", ov.Core()) == "bf16"


def number_type(precision: Precision, core: ov.Core) -> Literal["f32", "bf16"]:
    """What products in floating point are computed in, in OpenVINO's words.

    fp16 is computed in fp32: CPUs that multiply in fp16 are few, and none was tested.
    """
    has_it = precision == "bf16" and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if has_it else "f32"


def _read(core: ov.Core, model: Path) -> ov.Model:
    """The graph, whose weights are mapped into memory."""
    folder = os.path.realpath(model.parent)
    weights = {path.name: os.path.realpath(path) for path in model.parent.glob("*.safetensors")}
    if all(path == os.path.join(folder, name) for name, path in weights.items()):
        with named_in_text(model) as name:
            return core.read_model(name)
    return _with_linked(core, model, weights)


def _with_linked(core: ov.Core, model: Path, weights: Mapping[str, str]) -> ov.Model:
    """A graph whose weights are links to another folder, which OpenVINO refuses: it is read without
    them, and they are added as mapped memory, which it does not copy.
    """
    onnx = require("onnx", "weights that are links")
    proto = onnx.load(model, load_external_data=False)
    stored = [one for one in proto.graph.initializer if one.external_data]
    embedded = [one for one in proto.graph.initializer if not one.external_data]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(embedded)
    arrays = {}
    maps: dict[str, mmap.mmap] = {}
    for one in stored:
        facts = {entry.key: entry.value for entry in one.external_data}
        name = facts["location"]
        if name not in maps:
            with open_file(weights[name]) as file:
                # A private map, as OpenVINO takes arrays that may be written.
                maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(one.data_type)
        flat = np.frombuffer(maps[name], dtype, prod(one.dims), int(facts["offset"]))
        arrays[one.name] = flat.reshape(one.dims)
        shape = list(one.dims)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, shape))
    graph = core.read_model(proto.SerializeToString(), b"")
    for port in graph.get_parameters():
        array = arrays.get(port.get_friendly_name())
        if array is not None:
            constant = ov.op.Constant(array, shared_memory=True)
            constant.set_friendly_name(port.get_friendly_name())
            port.output(0).replace(constant.output(0))
            graph.remove_parameter(port)
    graph.validate_nodes_and_infer_types()
    return graph


def _port(port: ov.ConstOutput) -> Port:
    shape = tuple(axis.get_length() if axis.is_static else None for axis in port.partial_shape)
    return Port(port.any_name, np.dtype(port.element_type.to_dtype()), shape)


def cleaned(error: Exception, path: str) -> str:
    """The message of OpenVINO, without places in its source and the path that is known."""
    text = str(error)[:MAX_SAID].replace(f': "{path}"', "")
    return foreign(_PLACE.sub("", text)) or "not enough memory"
