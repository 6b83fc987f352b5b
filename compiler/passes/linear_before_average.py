"""The last linear layers moved before ``gap``: the same scores, and a class score map.

A net that averages its last map has one position, and its class scores have no place. A 1 × 1
convolution and the mean over positions may be exchanged (``average_before_linear.py``): the scores
of each position, averaged, are the scores of the average. Zhou et al. call that map a class
activation map. A batch normalisation with fixed statistics and a dropout that is off move along. An
activation or a larger window between ``gap`` and the scores ends the way: there is no such map.

Given   relu5 -> gap -> fc6 (1 × 1 conv) -> prob
Result  relu5 -> fc6 (1 × 1 conv) -> gap -> prob

Source: Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 2.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.catalogue.dense import NoMapPastAverage
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.ir import IMAGE, SCORE_MAP, Layer, Network, Node, Output
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes.average_before_linear import is_linear
from vggspec.compiler.passes.keep_up_to import needed_for
from vggspec.compiler.passes.rewiring import at


@dataclass(frozen=True, slots=True)
class LinearBeforeAverage:
    """Exchanges ``gap`` and the linear layers between it and the first output's scores."""

    name: ClassVar[str] = "linear-before-average"

    def __call__(self, network: Network) -> Network:
        """The network whose class scores are a map that is averaged.

        Raises:
            VggspecError: class scores are made of an average, and cannot be made of a map.
        """
        if any(output.name == SCORE_MAP for output in network.outputs):
            return network
        last = network[network.outputs[0].layer]
        scores = last.inputs[0] if isinstance(last.op, Softmax) else last.name
        gap, moved = _way(network, scores)
        if gap is None:
            _check_has_map(network, scores)
        if gap is None or not moved:
            return network
        nodes: list[Node] = []
        for layer in network.layers:
            if layer is gap:
                continue
            if layer is moved[0]:
                nodes.append(replace(layer, inputs=gap.inputs))
            elif layer in moved:
                nodes.append(layer)
            else:
                inputs = tuple(gap.name if name == scores else name for name in layer.inputs)
                nodes.append(layer if inputs == layer.inputs else replace(layer, inputs=inputs))
            if layer.name == scores:
                nodes.append(replace(gap, inputs=(scores,)))
        outputs = [
            Output(out.name, gap.name if out.layer == scores else out.layer)
            for out in network.outputs
        ]
        return network.rebuild(nodes, outputs)


def _way(network: Network, scores: str) -> tuple[Layer | None, list[Layer]]:
    """The ``gap`` before the scores, and the layers from there to the scores, nothing of which
    anything else reads; None where something else is in between.
    """
    others = {output.layer for output in network.outputs}
    moved: list[Layer] = []
    name = scores
    while name != IMAGE:
        layer = network[name]
        if name != scores and (len(network.users(name)) > 1 or name in others):
            return None, []
        if isinstance(layer.op, GlobalAvgPool):
            return layer, moved
        if not is_linear(layer.op) and not isinstance(layer.op, Dropout):
            return None, []
        moved.insert(0, layer)
        (name,) = layer.inputs
    return None, []


def _check_has_map(network: Network, scores: str) -> None:
    """Refuse scores that depend on an average, although not in a way that could be exchanged."""
    needed = needed_for(network, [network[scores]] if scores != IMAGE else [])
    if not any(isinstance(node.op, GlobalAvgPool) for node in needed):
        return
    others = {output.layer for output in network.outputs}
    name = scores
    while True:
        layer = network[name]
        is_read = name != scores and (len(network.users(name)) > 1 or name in others)
        if is_read or not (is_linear(layer.op) or isinstance(layer.op, Dropout)):
            break
        (name,) = layer.inputs
    raise VggspecError(at(layer, NoMapPastAverage(layer=layer.name, is_read=is_read), network))
