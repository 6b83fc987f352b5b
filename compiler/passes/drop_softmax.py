"""Removes the soft-max at the end: the loss of section 3.1 takes class scores.

Given   fc8 -> prob      output posteriors
Result  fc8              output scores
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ir import Network, Output
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes.rewiring import without


@dataclass(frozen=True, slots=True)
class DropSoftmax:
    """Removes a soft-max that computes an output."""

    name: ClassVar[str] = "drop-softmax"

    def __call__(self, network: Network) -> Network:
        """The network whose output is class scores."""
        last = {output.layer for output in network.outputs}
        gone = {
            layer.name
            for layer in network.layers
            if layer.name in last and isinstance(layer.op, Softmax)
        }
        if not gone:
            return network
        outputs = [
            Output("scores" if output.name == "posteriors" else output.name, output.layer)
            for output in network.outputs
        ]
        return without(network.rebuild(network.layers, outputs), network.layers, gone)
