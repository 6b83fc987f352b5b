"""The spatial average moved before the last linear layers: the same numbers for less work.

A 1 × 1 convolution and the mean over positions are both linear and do not mix, so
``mean(W h + b) = W mean(h) + b``; likewise a batch normalisation with fixed statistics. The last
layer then works on one position instead of all. It stays where it is when its map is an output,
or when anything else reads it.

Before  relu7 -> fc8 -> average
After   relu7 -> average -> fc8
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.compiler.ir import Layer, Network, Node
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.passes.average_over_space import AVERAGE


@dataclass(frozen=True, slots=True)
class AverageBeforeLinear:
    """Swaps the average with the linear layers that it follows."""

    name: ClassVar[str] = "average-before-linear"

    def __call__(self, network: Network) -> Network:
        """The network that averages as early as it may."""
        while AVERAGE in network:
            average = network[AVERAGE]
            before = average.inputs[0]
            if before not in network or not _commutes(network, network[before]):
                break
            network = _swapped(network, network[before], average)
        return network


def _commutes(network: Network, layer: Layer) -> bool:
    is_output = any(output.layer == layer.name for output in network.outputs)
    if is_output or len(network.users(layer.name)) > 1 or len(layer.inputs) != 1:
        return False
    op = layer.op
    if isinstance(op, BatchNorm):
        return True
    return (
        isinstance(op, Conv)
        and op.kernel_size == (1, 1)
        and op.stride == 1
        and op.padding == (0, 0)
    )


def _swapped(network: Network, linear: Layer, average: Layer) -> Network:
    nodes: list[Node] = []
    for layer in network.layers:
        if layer.name == linear.name:
            nodes.append(replace(average, inputs=linear.inputs))
        elif layer.name == average.name:
            nodes.append(replace(linear, inputs=(AVERAGE,)))
        else:
            inputs = tuple(linear.name if name == AVERAGE else name for name in layer.inputs)
            nodes.append(replace(layer, inputs=inputs))
    return network.rebuild(nodes)
