"""Removes the layers that act only in training: dropout.

Given   relu6 -> drop6 -> fc7
Result  relu6 -> fc7
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ir import Network
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.passes.rewiring import without


@dataclass(frozen=True, slots=True)
class DropTrainingOps:
    """Removes every dropout."""

    name: ClassVar[str] = "drop-training-ops"

    def __call__(self, network: Network) -> Network:
        """The network without dropout."""
        dropouts = {layer.name for layer in network.layers if isinstance(layer.op, Dropout)}
        return without(network, network.layers, dropouts) if dropouts else network
