"""Max-pooling that rounds up, as padding at the bottom and at the right and rounding down.

The numbers are the same for every size of the map. PyTorch's ``ceil_mode`` drops a last window that
would begin past the map by a comparison of sizes, which ``torch.export`` cannot prove for a range
of them; padding needs no comparison. Averages keep ``ceil_mode``: padding would count.

Given   pool5 (2 × 2, stride 2, ceil)
Result  pool5 (2 × 2, stride 2, one row and one column of minus infinity at the end)
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.compiler.ir import Layer, Network, Node
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.max_pool import MaxPool


@dataclass(frozen=True, slots=True)
class CeilAsPadding:
    """Makes max-pooling that rounds up round down on a padded map."""

    name: ClassVar[str] = "ceil-as-padding"

    def __call__(self, network: Network) -> Network:
        """The network in which no max-pooling rounds up."""
        nodes = [_padded(layer) for layer in network.layers]
        if all(node is layer for node, layer in zip(nodes, network.layers, strict=True)):
            return network
        return network.rebuild(nodes)


def _padded(layer: Layer) -> Node:
    op = layer.op
    if not isinstance(op, MaxPool) or isinstance(op, AvgPool) or not op.ceil:
        return layer
    end = None if op.end == op.padding else op.end
    return replace(layer, op=replace(op, ceil=False, end_padding=end))
