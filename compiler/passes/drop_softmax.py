"""Removes the soft-max at the end: the loss of section 3.1 takes class scores.

Before  fc8 -> prob      output posteriors
After   fc8              output scores
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ir import Network, Output
from vggspec.compiler.ops.softmax import Softmax


@dataclass(frozen=True, slots=True)
class DropSoftmax:
    """Removes a soft-max that computes an output."""

    name: ClassVar[str] = "drop-softmax"

    def __call__(self, network: Network) -> Network:
        """The network whose output is class scores."""
        outputs = []
        gone = set()
        for output in network.outputs:
            layer = network[output.layer]
            if isinstance(layer.op, Softmax):
                gone.add(layer.name)
                outputs.append(Output("scores", layer.inputs[0]))
            else:
                outputs.append(output)
        if not gone:
            return network
        return network.rebuild([la for la in network.layers if la.name not in gone], outputs)
