"""The range of each tensor of a graph over images, one image in memory at a time.

ONNX Runtime's own calibration keeps the outputs of all images until the end. Here the graph itself
reduces each tensor to its highest and lowest number.
"""

from collections.abc import Iterable
from pathlib import Path

import onnx

from vggspec.compiler.backends.onnx.graph import FLOAT
from vggspec.compiler.backends.onnx.tapped import HIGHEST, LOWEST, tapped
from vggspec.compiler.ir import IMAGE
from vggspec.compiler.quantising.examples import Example

Ranges = dict[str, tuple[float, float]]
"""The lowest and the highest number of each tensor, by its name."""


def measure_ranges(path: Path, typed: onnx.ModelProto, examples: Iterable[Example]) -> Ranges:
    """The ranges of all float tensors of the fp32 graph at ``path``; ``typed`` is the same graph
    with the types of its tensors.

    Raises:
        VggspecError: ONNX Runtime fails, or as ``examples``.
    """
    from vggspec.runtime.ort_session import OrtSession

    graph = typed.graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == FLOAT
    }
    nodes = {node.name: node.output[0] for node in graph.node if node.output[0] in floats}
    ranges: Ranges = {}

    def take(tensor: str, low: float, high: float) -> None:
        known = ranges.get(tensor, (low, high))
        ranges[tensor] = min(low, known[0]), max(high, known[1])

    with OrtSession(path, "cpu", graph=tapped(path, nodes)) as session:
        for example in examples:
            take(IMAGE, float(example.feed.min()), float(example.feed.max()))
            outputs = session.run({IMAGE: example.feed})
            for node, tensor in nodes.items():
                take(tensor, float(outputs[LOWEST + node]), float(outputs[HIGHEST + node]))
    return ranges
