"""A small builder for ONNX graphs, with weights that stay where they are.

An initialiser may point into another file (location, offset, length), and a safetensors file is
nothing but a header and plain arrays: so the graph of a 16-layer VGG takes a few kilobytes and is
written without reading one weight. Where a weight is used in a lower precision, a cast in the graph
says so; the loader of the graph folds it.

Source: the ONNX IR specification, "External Tensor Data".
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from vggspec.bundle.manifest import BYTES
from vggspec.bundle.options import Precision
from vggspec.compiler.tensor import TensorType

OPSET = 18
IR_VERSION = 8  # of ONNX 1.13, February 2023: older runtimes are refused by opset 18 anyway

BF16_OPSET = 22
"""The first in which conv and pooling take bfloat16."""

BF16_IR_VERSION = 10

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
ELEMENT_TYPES: dict[Precision, int] = {
    "fp32": TensorProto.FLOAT,
    "fp16": TensorProto.FLOAT16,
    "bf16": TensorProto.BFLOAT16,
}

Dimension = int | str


@dataclass(frozen=True, slots=True)
class About:
    """What an op may want to know of a tensor it reads."""

    precision: Precision
    type: TensorType


class OnnxGraph:
    """Nodes, constants and weights, in the order in which they are added."""

    def __init__(self, name: str, renamed: dict[str, str]) -> None:
        self._name = name
        self._renamed = renamed
        self._scope = ""
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []
        self._described: list[ValueInfoProto] = []
        self._about: dict[str, About] = {}
        self._casts: dict[tuple[str, Precision], str] = {}

    @contextmanager
    def scope(self, prefix: str) -> Iterator[None]:
        """What is added in this block has names that begin with ``prefix``: two nets may be in one
        graph.
        """
        outside, self._scope = self._scope, prefix
        try:
            yield
        finally:
            self._scope = outside

    def about(self, tensor: str) -> About:
        """What was noted of an activation."""
        return self._about[tensor]

    def note(self, tensor: str, precision: Precision, type: TensorType) -> None:
        """Remember the type of an activation for the ops that read it."""
        self._about[tensor] = About(precision, type)

    def describe(self, tensor: str) -> None:
        """Write the type of a noted activation into the graph, where shape inference finds none."""
        about = self._about[tensor]
        shape = ("N", about.type.channels, f"{tensor}.h", f"{tensor}.w")
        self._described.append(tensor_info(tensor, ELEMENT_TYPES[about.precision], shape))

    def cast(self, tensor: str, precision: Precision, name: str | None = None) -> str:
        """A tensor in another number type, cast once however many read it."""
        known = self._casts.get((tensor, precision))
        if known is None or name is not None:
            to = ELEMENT_TYPES[precision]
            known = self.node("Cast", (tensor,), name or f"{tensor}_{precision}", to=to)
            self._casts[tensor, precision] = known
        return known

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Add a node of one output; the output's name, which is the node's unless renamed."""
        output = self._renamed.get(name, self._scope + name)
        node = NodeProto(op_type=op, name=self._scope + name, input=list(inputs), output=[output])
        for key, value in attributes.items():
            node.attribute.append(_attribute(key, value))
        self._nodes.append(node)
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a small constant that is part of the graph: float32, int64 or bool."""
        name = self._scope + name
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, data_type=kind, dims=value.shape)
        tensor.raw_data = value.tobytes()
        self._initializers.append(tensor)
        return name

    def number(self, name: str, value: float) -> str:
        """Add a float32 constant without axes."""
        return self.constant(name, np.array(value, np.float32))

    def numbers(self, name: str, values: Sequence[float]) -> str:
        """Add a list of float32 numbers."""
        return self.constant(name, np.array(values, np.float32))

    def scalar(self, name: str, value: int) -> str:
        """Add an integer without axes."""
        return self.constant(name, np.array(value, np.int64))

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a list of integers, such as a shape."""
        return self.constant(name, np.array(values, np.int64))

    def embedded(self, name: str, shape: Sequence[int], precision: Precision, data: bytes) -> str:
        """Add weights that are part of the graph, as little-endian numbers."""
        name = self._scope + name
        tensor = TensorProto(name=name, data_type=ELEMENT_TYPES[precision], dims=shape)
        tensor.raw_data = data
        self._initializers.append(tensor)
        return name

    def external(
        self,
        name: str,
        shape: Sequence[int],
        location: str,
        offset: int,
        precision: Precision = "fp32",
    ) -> str:
        """Add weights that lie in another file of the same folder."""
        name = self._scope + name
        tensor = TensorProto(name=name, data_type=ELEMENT_TYPES[precision], dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = BYTES[precision] * prod(shape)
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers.append(tensor)
        return name

    @property
    def weights(self) -> list[TensorProto]:
        """Those that lie in other files; a change of one changes the graph."""
        external = TensorProto.EXTERNAL
        return [each for each in self._initializers if each.data_location == external]

    def proto(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
    ) -> GraphProto:
        """The finished graph, to be that of a model or the body of a loop."""
        return GraphProto(
            name=self._name,
            node=self._nodes,
            initializer=self._initializers,
            input=inputs,
            output=outputs,
            value_info=self._described,
        )

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        metadata: dict[str, str],
        version: str,
    ) -> ModelProto:
        """The finished model."""
        has_bf16 = any(precision == "bf16" for _, precision in self._casts) or any(
            about.precision == "bf16" for about in self._about.values()
        )
        model = ModelProto(
            ir_version=BF16_IR_VERSION if has_bf16 else IR_VERSION,
            producer_name="vggspec",
            producer_version=version,
            graph=self.proto(inputs, outputs),
        )
        model.opset_import.add(domain="", version=BF16_OPSET if has_bf16 else OPSET)
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        return model


def _attribute(key: str, value: object) -> AttributeProto:
    attribute = AttributeProto(name=key)
    match value:
        case int():
            attribute.type, attribute.i = AttributeProto.INT, value
        case float():
            attribute.type, attribute.f = AttributeProto.FLOAT, value
        case str():
            attribute.type, attribute.s = AttributeProto.STRING, value.encode()
        case list():
            attribute.type = AttributeProto.INTS
            attribute.ints.extend(value)
        case GraphProto():
            attribute.type = AttributeProto.GRAPH
            attribute.g.CopyFrom(value)
        case _:
            raise TypeError(f"{key}: {type(value).__name__}")
    return attribute


def tensor_info(name: str, kind: int, shape: Sequence[Dimension]) -> ValueInfoProto:
    """The type of an input or output; a text is an open dimension."""
    return helper.make_tensor_value_info(name, kind, list(shape))
