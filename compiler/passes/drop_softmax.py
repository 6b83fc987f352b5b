"""Removes the soft-max at the end: the loss of section 3.1 takes class scores.

In a net with several heads each loses its own. A soft-max that another layer reads stays for that
one. What was called ``posteriors`` is called ``scores``, and ``posterior_map`` ``score_map``; other
names stay.

Given   fc8 -> prob      output posteriors
Result  fc8              output scores
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.compiler.ir import POSTERIOR_MAP, SCORE_MAP, Network, Output
from vggspec.compiler.ops.softmax import Softmax

SCORES_OF = {"posteriors": "scores", POSTERIOR_MAP: SCORE_MAP}


@dataclass(frozen=True, slots=True)
class DropSoftmax:
    """Removes a soft-max that computes an output."""

    name: ClassVar[str] = "drop-softmax"

    def __call__(self, network: Network) -> Network:
        """The network whose outputs are class scores."""
        results = {output.layer for output in network.outputs}
        scores = {
            layer.name: layer.inputs[0]
            for layer in network.layers
            if layer.name in results and isinstance(layer.op, Softmax)
        }
        if not scores:
            return network
        names = {output.name for output in network.outputs}
        outputs: list[Output] = []
        for output in network.outputs:
            name, layer = output.name, scores.get(output.layer, output.layer)
            scores_name = SCORES_OF.get(name, name)
            if scores_name != name and Output(scores_name, layer) in network.outputs:
                continue  # they are an output already
            if scores_name not in names:
                name = scores_name
            outputs.append(Output(name, layer))
        nodes = [
            layer
            for layer in network.layers
            if layer.name not in scores or network.users(layer.name)
        ]
        return network.rebuild(nodes, outputs)
