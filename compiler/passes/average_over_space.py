"""One vector for an image of any size: class scores averaged over space.

The paper leaves open whether the soft-max comes before or after the average; both ways are here,
and scores are averaged unless posteriors are asked for.

Heads are averaged, each by itself: the output of a net that has one, and in a net with several each
end that is a vector in the spec, or a soft-max. A tap of an inner layer stays the map that it is,
and so do boxes and what ``soft-max(map)`` gives.

Given   fc8 -> prob                                     output posteriors, a map
Result  fc8 -> average -> vector -> prob                average scores
        fc8 -> prob -> average -> vector                average posteriors
With ``keep_map``, ``fc8`` is an output too; where the scores are those of ``gap``, what it reads.

Source: Simonyan & Zisserman 2015, section 3.2.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.recipe import Average
from vggspec.compiler.ir import FEATURES, SCORE_MAP, Layer, Network, Node, Output
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes.rewiring import fresh

AVERAGE, VECTOR = "average", "vector"

#: What the first output is called where the spec gives it no name.
UNNAMED = ("scores", "posteriors", FEATURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageOverSpace:
    """Averages heads over rows and columns."""

    name: ClassVar[str] = "average-over-space"

    average: Average = "scores"
    keep_map: bool = False

    def __call__(self, network: Network) -> Network:
        """The network whose heads are vectors."""
        heads = [network[name] for name in _heads(network)]
        if not heads:
            return network
        nodes: list[Node] = list(network.layers)
        taken = {layer.name for layer in network.layers}
        results: dict[str, str] = {}
        for last in heads:
            is_first = last.name == network.outputs[0].layer
            prefix = "" if is_first else f"{last.name}_"
            averaged = fresh(prefix + AVERAGE, taken)
            flat = fresh(prefix + VECTOR, taken)
            is_moved = isinstance(last.op, Softmax) and self.average == "scores"
            after = last.inputs[0] if is_moved else last.name
            results[last.name] = last.name if is_moved else flat
            average = Node(name=averaged, op=GlobalAvgPool(), inputs=(after,), origin=last.origin)
            nodes += [
                average,
                Node(name=flat, op=Flatten(), inputs=(averaged,), origin=last.origin),
            ]
            if is_moved:
                nodes = [node for node in nodes if node.name != last.name]
                nodes.append(replace(last, inputs=(flat,)))
        outputs = [Output(out.name, results.get(out.layer, out.layer)) for out in network.outputs]
        first = network[network.outputs[0].layer]
        if self.keep_map and first in heads:
            outputs.append(Output(SCORE_MAP, _class_map(network, first)))
        return network.rebuild(nodes, outputs)


def _heads(network: Network) -> list[str]:
    """The outputs that are averaged, by their layers."""
    read = {name for layer in network.layers for name in layer.inputs}
    at_one_position: set[str] = set()
    for layer in network.layers:
        was_vector = isinstance(layer.op, Conv) and layer.op.fc_shape is not None
        is_global = isinstance(layer.op, GlobalAvgPool)
        if was_vector or is_global or not at_one_position.isdisjoint(layer.inputs):
            at_one_position.add(layer.name)
    found = []
    for i, output in enumerate(network.outputs):
        last = network[output.layer]
        if not last.type.is_map or isinstance(last.op, Boxes) or last.name in read:
            continue
        if isinstance(last.op, Softmax) and last.op.per_position:
            continue
        is_unnamed = i == 0 and output.name in UNNAMED
        if is_unnamed or isinstance(last.op, Softmax) or last.name in at_one_position:
            found.append(last.name)
    return list(dict.fromkeys(found))


def _class_map(network: Network, last: Layer) -> str:
    """The map of class scores that an output is made of."""
    scores = last.inputs[0] if isinstance(last.op, Softmax) else last.name
    op = network[scores].op
    return network[scores].inputs[0] if isinstance(op, GlobalAvgPool) else scores
