"""The layers of a bundle: as its engine's builder recorded them, or from its ONNX graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vggspec.base.catalogue.artefacts import ChangedFile, EngineFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, parse_object
from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason
from vggspec.bundle.manifest import LAYERS
from vggspec.bundle.opening import MAX_MANIFEST_BYTES, Bundle

LARGEST_SHAPE_BYTES = 1024  # larger constants of a graph are no shapes
QUANTISING = ("QuantizeLinear", "DequantizeLinear")
INT8 = "int8"
PRECISIONS = {"float": "fp32", "half": "fp16", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A layer as the engine's builder recorded it, or a node of the graph."""

    name: str
    op: str
    precision: str
    output: tuple[int, ...]
    """Its shape; -1 is an open axis."""

    reads: tuple[str, ...]

    @property
    def computes_shapes(self) -> bool:
        """Whether it computes shapes rather than features of the image."""
        return self.precision in ("int32", "int64")

    @property
    def output_in_words(self) -> str:
        """The shape of the output with letters for open axes: ``N × 64 × h × w``."""
        letters = iter("hw")
        words = [
            str(axis) if axis >= 0 else "N" if i == 0 else next(letters, "?")
            for i, axis in enumerate(self.output)
        ]
        return " × ".join(words)


def read_layers(bundle: Bundle) -> tuple[str, tuple[LayerFacts, ...]]:
    """The source of the layers, ``network``, ``engine`` or ``graph``, and the layers.

    Raises:
        VggspecError: the list of layers or the graph is damaged.
    """
    if (bundle.path / LAYERS).is_file() and any(e.path == LAYERS for e in bundle.manifest.files):
        return _recorded(bundle)
    if bundle.model.suffix == ".onnx":
        return "graph", _of_graph(bundle)
    return "network", ()


def _recorded(bundle: Bundle) -> tuple[str, tuple[LayerFacts, ...]]:
    try:
        data = parse_object(read_file(bundle.path / LAYERS, MAX_MANIFEST_BYTES))
        layers = tuple(
            LayerFacts(
                name=each.text("name"),
                op=each.text("op"),
                precision=PRECISIONS.get(each.text("precision"), each.text("precision")),
                output=each.integers("output", -1),
                reads=each.texts("reads"),
            )
            for each in data.objects("layers")
        )
        return data.text("from"), layers
    except OSError as error:
        what = ChangedFile(file=LAYERS, reason=f"cannot be read: {reason(error)}")
        raise VggspecError(report(what, path=str(bundle.path))) from error
    except BadFieldError as error:
        what = ChangedFile(file=LAYERS, reason=f"is not a list of layers: {error}")
        raise VggspecError(report(what, path=str(bundle.path))) from error


def _of_graph(bundle: Bundle) -> tuple[LayerFacts, ...]:
    """The nodes of an ONNX graph that compute on the image; weights are not read."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.shape_inference import InferenceError, infer_shapes

    try:
        model = onnx.load(bundle.model, load_external_data=False)
        graph = model.graph
        constant = {tensor.name for tensor in graph.initializer}
        for tensor in graph.initializer:
            if len(tensor.raw_data) > LARGEST_SHAPE_BYTES:
                tensor.ClearField("raw_data")  # shape inference does not need the weights
        graph = infer_shapes(model).graph
    except (DecodeError, InferenceError, ValueError, OSError) as error:
        what = EngineFailed(reason=f"it is not an ONNX graph ({error})")
        raise VggspecError(report(what, path=str(bundle.model))) from error
    return tuple(_nodes(graph, constant))


def _nodes(graph: Any, constant: set[str]) -> Iterator[LayerFacts]:
    """The nodes that compute on the graph's inputs; those inside a loop follow the loop."""
    types = {
        value.name: value.type.tensor_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    quantised: dict[str, str] = {}
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if all(name in constant for name in inputs):
            constant.update(node.output)
            continue
        if node.op_type in QUANTISING:
            # The layer that reads it computes in int8.
            quantised[node.output[0]] = quantised.get(inputs[0], inputs[0])
            continue
        is_int8 = any(name in quantised for name in inputs)
        inputs = [quantised.get(name, name) for name in inputs]
        kind = types.get(node.output[0])
        yield LayerFacts(
            name=node.name or node.output[0],
            op=node.op_type,
            precision=INT8 if is_int8 else _precision(kind.elem_type) if kind is not None else "",
            output=_axes(kind) if kind is not None else (),
            reads=tuple(name for name in inputs if name not in constant),
        )
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g, constant)


def _precision(elem_type: int) -> str:
    import onnx

    name = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    return PRECISIONS.get(name, name)


def _axes(kind: Any) -> tuple[int, ...]:
    return tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in kind.shape.dim)
