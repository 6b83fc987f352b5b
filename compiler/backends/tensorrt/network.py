"""The network definition that TensorRT's parser makes of a graph, and whether it is the net."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vggspec.base.catalogue.engines import NotAsAsked, ParserRefused
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.options import Precision
from vggspec.compiler.ir import IMAGE, Network
from vggspec.runtime.tensorrt.api import (
    Builder,
    ILayer,
    INetworkDefinition,
    ITensor,
    Library,
    OnnxParser,
    ParserError,
)
from vggspec.runtime.tensorrt.messages import Heard, clean, logger

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Ports:
    """The names of the inputs, which all take images of one shape, and of the outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, network: Network) -> "Ports":
        """Those of a graph of the net alone."""
        return cls((IMAGE,), tuple(output.name for output in network.outputs))


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer of TensorRT's network."""

    name: str
    op: str
    precision: str
    output: tuple[int, ...]
    reads: tuple[str, ...]


@dataclass(slots=True)
class Parsed:
    """A network definition, and what must outlive it: the parser and the weights."""

    network: INetworkDefinition
    parser: OnnxParser
    arrays: Arrays


def parse(
    trt: Library,
    builder: Builder,
    model: bytes,
    arrays: Arrays,
    name: str,
    write_graph: Callable[[], Path],
) -> Parsed:
    """Parse a graph that declares its weights.

    TensorRT takes ``arrays`` from memory from 10.13 on, and RTX always does. An older release
    parses the graph that ``write_graph`` writes, which points at its weights.

    Raises:
        VggspecError: the parser refuses the graph.
    """
    heard, its_logger = logger(trt)
    strongly_typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: INetworkDefinition = builder.create_network(strongly_typed)
    network.name = name
    parser: OnnxParser = trt.OnnxParser(network, its_logger)
    if hasattr(parser, "load_initializer"):
        is_read = parser.load_model_proto(model)
        for weight, array in arrays.items():
            is_read = is_read and parser.load_initializer(weight, array.ctypes.data, array.nbytes)
        is_read = is_read and parser.parse_model_proto()
    else:
        is_read = parser.parse_from_file(str(write_graph()))
    if not is_read:
        raise VggspecError(report(_refusal(parser, heard)))
    return Parsed(network, parser, arrays)


def _refusal(parser: OnnxParser, heard: Heard) -> ParserRefused:
    if parser.num_errors == 0:
        return ParserRefused(layer="", op="", reason=heard.told("it gives no reason"))
    error: ParserError = parser.get_error(0)
    return ParserRefused(
        layer=error.node_name(), op=error.node_operator(), reason=clean(error.desc())
    )


def check_network(
    trt: Library,
    definition: INetworkDefinition,
    network: Network,
    types: Mapping[str, Precision],
    ports: Ports | None = None,
) -> None:
    """Compare the parsed network with the one that was compiled.

    A strongly typed network is built as it is, so this check needs no GPU. In int8 the type of a
    layer is fp32, and it reads what a layer beside it makes of int8. ``ports`` are those of the
    graph, None for those of the net alone.

    Raises:
        VggspecError: they differ.
    """
    names = _precisions(trt)
    found = {name: names.get(int(t.dtype), str(t.dtype)) for name, t in _tensors(definition)}
    from_int8 = _from_int8(trt, definition)
    for layer in network.layers:
        # The parser may remove ops without arithmetic of their own.
        if layer.name not in found and not layer.params:
            continue
        asked, made = types[layer.name], found.get(layer.name, "nothing")
        if asked == "int8":
            if layer.params and layer.name not in from_int8:
                raise _differs(f"layer `{layer.name}`", asked, made)
            asked = "fp32"
        if asked != made:
            raise _differs(f"layer `{layer.name}`", asked, made)
    ports = ports or Ports.of(network)
    inputs = tuple(definition.get_input(i).name for i in range(definition.num_inputs))
    if set(inputs) != set(ports.inputs):
        raise _differs("the input", ", ".join(ports.inputs), ", ".join(inputs) or "nothing")
    outputs: dict[str, ITensor] = {}
    for i in range(definition.num_outputs):
        output: ITensor = definition.get_output(i)
        outputs[output.name] = output
    for name in ports.outputs:
        tensor: ITensor = outputs.get(name)
        if tensor is None or int(tensor.dtype) != int(trt.DataType.FLOAT):
            made = "nothing" if tensor is None else names.get(int(tensor.dtype), "another")
            raise _differs(f"output `{name}`", "fp32", made)


def _from_int8(trt: Library, definition: INetworkDefinition) -> set[str]:
    """The layers whose image and weights are dequantised: TensorRT computes them in int8."""
    dequantised: set[str] = set()
    found: set[str] = set()
    for i in range(definition.num_layers):
        layer: ILayer = definition.get_layer(i)
        inputs = [layer.get_input(k) for k in range(layer.num_inputs)]
        names = [each.name for each in inputs if each is not None]
        if layer.type == trt.LayerType.DEQUANTIZE:
            dequantised.add(layer.get_output(0).name)
        elif names and set(names[:2]) <= dequantised:
            found.add(layer.name)
    return found


def layers(trt: Library, definition: INetworkDefinition) -> tuple[LayerRecord, ...]:
    """The layers of the parsed network."""
    names = _precisions(trt)
    records = []
    for i in range(definition.num_layers):
        layer: ILayer = definition.get_layer(i)
        tensor: ITensor = layer.get_output(0)
        other = str(tensor.dtype).rpartition(".")[2].lower()
        inputs = (layer.get_input(k) for k in range(layer.num_inputs))
        records.append(
            LayerRecord(
                name=layer.name,
                op=str(layer.type).rpartition(".")[2].lower(),
                precision=names.get(int(tensor.dtype), other),
                output=tuple(tensor.shape),
                reads=tuple(each.name for each in inputs if each is not None),
            )
        )
    return tuple(records)


def _tensors(definition: INetworkDefinition) -> list[tuple[str, ITensor]]:
    """The first output of each layer, by the layer's name."""
    found: list[tuple[str, ITensor]] = []
    for i in range(definition.num_layers):
        layer: ILayer = definition.get_layer(i)
        found.append((layer.name, layer.get_output(0)))
    return found


def _precisions(trt: Library) -> dict[int, Precision]:
    """Our names of TensorRT's number types."""
    return {
        int(trt.DataType.FLOAT): "fp32",
        int(trt.DataType.HALF): "fp16",
        int(trt.DataType.BF16): "bf16",
    }


def _differs(what: str, asked: str, found: str) -> VggspecError:
    return VggspecError(report(NotAsAsked(what=what, asked=asked, found=found)))
