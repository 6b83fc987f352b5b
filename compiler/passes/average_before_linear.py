"""The spatial average moved before the last linear layers: the same numbers for less work.

A 1 × 1 convolution and the mean over positions are both linear and do not mix, so
``mean(W h + b) = W mean(h) + b``; likewise a batch normalisation with fixed statistics. The mean of
a sum is the sum of the means, and that of joined channels the means joined, so that the average
climbs into all branches where one of them gains by it. A layer stays where it is when its map is an
output, or when anything else reads it. An activation, a pooling or a larger window ends the way.

Given   relu7 -> fc8 -> average
Result  relu7 -> average -> fc8
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.compiler.ir import IMAGE, Layer, Network, Node
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.passes.average_over_space import AVERAGE


@dataclass(frozen=True, slots=True)
class AverageBeforeLinear:
    """Exchanges the average and the linear layers before it."""

    name: ClassVar[str] = "average-before-linear"

    def __call__(self, network: Network) -> Network:
        """The network that averages as early as it may."""
        if AVERAGE not in network or not _gains(network, network[AVERAGE].inputs[0]):
            return network
        average = network[AVERAGE]
        moved = _Moved(network, average)
        result = moved.mean(average.inputs[0])
        names = {node.name for node in moved.nodes}
        nodes: list[Node] = []
        for layer in network.layers:
            if layer.name == AVERAGE:
                nodes += moved.nodes
            elif layer.name not in names:
                nodes.append(layer)
        readers = {layer.name for layer in network.users(AVERAGE)}
        nodes = [
            replace(node, inputs=tuple(result if name == AVERAGE else name for name in node.inputs))
            if node.name in readers
            else node
            for node in nodes
        ]
        return network.rebuild(nodes)


class _Moved:
    """The nodes that compute the mean of a tensor, the averages first."""

    def __init__(self, network: Network, average: Layer) -> None:
        self.nodes: list[Node] = []
        self._network = network
        self._average = average
        self._averages = 0

    def mean(self, name: str) -> str:
        """The name of the mean of a tensor, whose nodes are added."""
        if not _commutes(self._network, name) or not _gains(self._network, name):
            self._averages += 1
            own = AVERAGE if self._averages == 1 else f"{AVERAGE}_{self._averages}"
            self.nodes.append(replace(self._average, name=own, inputs=(name,)))
            return own
        layer = self._network[name]
        inputs = tuple(self.mean(each) for each in layer.inputs)
        self.nodes.append(replace(layer, inputs=inputs))
        return name


def _commutes(network: Network, name: str) -> bool:
    """Whether the mean of a tensor is the layer's result for the means of its inputs."""
    if name == IMAGE or len(network.users(name)) > 1:
        return False
    if any(output.layer == name for output in network.outputs):
        return False
    op = network[name].op
    return op.is_join or _is_linear(op)


def _gains(network: Network, name: str) -> bool:
    """Whether the average climbs past a layer with weights."""
    if not _commutes(network, name):
        return False
    layer = network[name]
    return not layer.op.is_join or any(_gains(network, each) for each in layer.inputs)


def _is_linear(op: object) -> bool:
    if isinstance(op, BatchNorm):
        return True
    return (
        isinstance(op, Conv)
        and op.kernel_size == (1, 1)
        and op.stride == 1
        and op.padding == (0, 0)
    )
