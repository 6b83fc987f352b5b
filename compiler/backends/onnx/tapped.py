"""A graph that also outputs the range of each layer's numbers."""

from collections.abc import Iterable
from pathlib import Path

import onnx

from vggspec.compiler.backends.onnx.graph import FLOAT, tensor_info

HIGHEST, LOWEST = "highest of ", "lowest of "


def tapped(path: Path, layers: Iterable[str]) -> bytes:
    """The fp32 graph at ``path`` with two more outputs for each of the layers: the highest and the
    lowest of its numbers. It refers to the same weights.
    """
    model = onnx.load(path, load_external_data=False)
    given = {node.name: node.output[0] for node in model.graph.node}
    for layer in layers:
        if layer not in given:
            continue
        for op, name in (("ReduceMax", HIGHEST + layer), ("ReduceMin", LOWEST + layer)):
            model.graph.node.add(
                op_type=op, name=name, input=[given[layer]], output=[name]
            ).attribute.add(name="keepdims", type=onnx.AttributeProto.INT, i=0)
            model.graph.output.append(tensor_info(name, FLOAT, ()))
    data: bytes = model.SerializeToString()
    return data
