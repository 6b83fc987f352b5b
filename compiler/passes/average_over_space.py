"""One vector for an image of any size: the class score map averaged over space.

The paper leaves open whether the soft-max comes before or after the average; both ways are here,
and scores are averaged unless posteriors are asked for.

Given   fc8 -> prob                                     output posteriors, a map
Result  fc8 -> average -> vector -> prob                average scores
        fc8 -> prob -> average -> vector                average posteriors
With ``keep_map``, ``fc8`` is an output too.

Source: Simonyan & Zisserman 2015, section 3.2.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.recipe import Average
from vggspec.compiler.ir import FEATURES, Network, Node, Output
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.softmax import Softmax

AVERAGE, VECTOR = "average", "vector"

#: What the first output is called where the spec gives it no name.
UNNAMED = ("scores", "posteriors", FEATURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageOverSpace:
    """Averages the first output over rows and columns; boxes keep their places, and so does an
    inner layer that the spec names as an output.
    """

    name: ClassVar[str] = "average-over-space"

    average: Average = "scores"
    keep_map: bool = False

    def __call__(self, network: Network) -> Network:
        """The network whose first output is a vector."""
        output = network.outputs[0]
        last = network[output.layer]
        if not last.type.is_map or isinstance(last.op, Boxes):
            return network
        is_softmax = isinstance(last.op, Softmax)
        if output.name not in UNNAMED and not is_softmax:
            return network
        scores = last.inputs[0] if is_softmax else last.name
        after = scores if is_softmax and self.average == "scores" else last.name
        average = Node(name=AVERAGE, op=GlobalAvgPool(), inputs=(after,), origin=last.origin)
        vector = Node(name=VECTOR, op=Flatten(), inputs=(AVERAGE,), origin=last.origin)
        nodes: list[Node] = [*network.layers, average, vector]
        result = VECTOR
        if after != last.name:
            nodes = [node for node in nodes if node.name != last.name]
            nodes.append(replace(last, inputs=(VECTOR,)))
            result = last.name
        outputs = [Output(output.name, result), *network.outputs[1:]]
        if self.keep_map:
            outputs.append(Output("score_map", scores))
        return network.rebuild(nodes, outputs)
