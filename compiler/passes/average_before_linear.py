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
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.passes.average_over_space import AVERAGE
from vggspec.compiler.passes.rewiring import fresh


@dataclass(frozen=True, slots=True)
class AverageBeforeLinear:
    """Exchanges the averages of the heads and the linear layers before them."""

    name: ClassVar[str] = "average-before-linear"

    def __call__(self, network: Network) -> Network:
        """The network that averages as early as it may."""
        for layer in network.layers:
            if _is_of_head(layer) and _gains(network, layer.inputs[0]):
                network = _moved(network, layer)
        return network


def _is_of_head(layer: Layer) -> bool:
    """Whether the pass average-over-space has made it."""
    is_named = layer.name == AVERAGE or layer.name.endswith(f"_{AVERAGE}")
    return is_named and isinstance(layer.op, GlobalAvgPool)


def _moved(network: Network, average: Layer) -> Network:
    taken = {layer.name for layer in network.layers} - {average.name}
    averages: dict[str, Node] = {}  # by what they read
    moved: set[str] = set()

    def mean(name: str) -> str:
        """The name of the mean of a tensor."""
        if _gains(network, name):
            moved.add(name)
            for each in network[name].inputs:
                mean(each)
            return name
        if name not in averages:
            own = fresh(average.name, taken)
            averages[name] = replace(average, name=own, inputs=(name,))
        return averages[name].name

    result = mean(average.inputs[0])
    nodes: list[Node] = []
    written: set[str] = set()
    for layer in network.layers:
        if layer.name == average.name:
            continue
        inputs = tuple(result if name == average.name else name for name in layer.inputs)
        if layer.name in moved:
            # Layers with weights keep their order; the averages stand before their first reader.
            for name in inputs:
                if name in averages and name not in written:
                    written.add(name)
                    nodes.append(averages[name])
            inputs = tuple(averages[name].name if name in averages else name for name in inputs)
        nodes.append(replace(layer, inputs=inputs))
    return network.rebuild(nodes)


def _commutes(network: Network, name: str) -> bool:
    """Whether the mean of a tensor is the layer's result for the means of its inputs."""
    if name == IMAGE or len(network.users(name)) > 1:
        return False
    if any(output.layer == name for output in network.outputs):
        return False
    op = network[name].op
    return op.is_join or is_linear(op)


def _gains(network: Network, name: str) -> bool:
    """Whether the average climbs past a layer with weights."""
    if not _commutes(network, name):
        return False
    layer = network[name]
    return not layer.op.is_join or any(_gains(network, each) for each in layer.inputs)


def is_linear(op: Op) -> bool:
    """Whether the mean over positions and the op may be exchanged."""
    if isinstance(op, BatchNorm):
        return True
    return (
        isinstance(op, Conv)
        and op.kernel_size == (1, 1)
        and op.stride == 1
        and op.padding == (0, 0)
    )
