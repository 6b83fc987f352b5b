"""A small builder for ONNX graphs, with weights that stay where they are.

An initialiser may point into another file (location, offset, length), and a safetensors file is
nothing but a header and plain arrays: so the graph of a 16-layer VGG takes a few kilobytes and is
written without reading one weight.

Source: the ONNX IR specification, "External Tensor Data".
"""

from collections.abc import Sequence

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

OPSET = 18
IR_VERSION = 8  # of ONNX 1.13, February 2023: older runtimes are refused by opset 18 anyway

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8

Dimension = int | str


class OnnxGraph:
    """Nodes, constants and weights, in the order in which they are added."""

    def __init__(self, name: str, renamed: dict[str, str]) -> None:
        self._name = name
        self._renamed = renamed
        self._nodes: list[NodeProto] = []
        self._initializers: list[TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: object) -> str:
        """Add a node of one output; the output's name, which is the node's unless renamed."""
        output = self._renamed.get(name, name)
        node = NodeProto(op_type=op, name=name, input=list(inputs), output=[output])
        for key, value in attributes.items():
            node.attribute.append(_attribute(key, value))
        self._nodes.append(node)
        return output

    def constant(self, name: str, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        """Add a small constant that is part of the graph."""
        kind = TensorProto.INT64 if value.dtype == np.int64 else FLOAT
        tensor = TensorProto(name=name, data_type=kind, dims=value.shape)
        tensor.raw_data = value.tobytes()
        self._initializers.append(tensor)
        return name

    def external(self, name: str, shape: Sequence[int], location: str, offset: int) -> str:
        """Add float32 weights that lie in another file of the same folder."""
        tensor = TensorProto(name=name, data_type=FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        length = 4 * int(np.prod(shape, dtype=np.int64))
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers.append(tensor)
        return name

    def model(
        self,
        inputs: Sequence[ValueInfoProto],
        outputs: Sequence[ValueInfoProto],
        metadata: dict[str, str],
        version: str,
    ) -> ModelProto:
        """The finished model."""
        graph = GraphProto(
            name=self._name,
            node=self._nodes,
            initializer=self._initializers,
            input=inputs,
            output=outputs,
        )
        model = ModelProto(
            ir_version=IR_VERSION, producer_name="vggspec", producer_version=version, graph=graph
        )
        model.opset_import.add(domain="", version=OPSET)
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
        case list():
            attribute.type = AttributeProto.INTS
            attribute.ints.extend(value)
        case _:
            raise TypeError(f"{key}: {type(value).__name__}")
    return attribute


def tensor_info(name: str, kind: int, shape: Sequence[Dimension]) -> ValueInfoProto:
    """The type of an input or output; a text is an open dimension."""
    return helper.make_tensor_value_info(name, kind, list(shape))
