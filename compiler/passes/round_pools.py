"""Every pooling rounded the same way: down as in PyTorch, or up as in Caffe.

In a dense net it decides how many positions a map has: for an image of n pixels a VGG net gives
``n // 32 - 6`` rounding down and ``ceil(n / 32) - 6`` rounding up, the last of which see past the
image. At the net's own input the first FC must still see the map that its weights are for.

Given   pool5 (2 × 2, stride 2)
Result  pool5 (2 × 2, stride 2, ceil)
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.catalogue.shapes import FixedInput
from vggspec.base.catalogue.variants import OtherRounding
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Rounding
from vggspec.compiler.ir import Layer, Network, Node, build
from vggspec.compiler.ops.max_pool import MaxPool


@dataclass(frozen=True, slots=True)
class RoundPools:
    """Makes every pooling round down (``floor``) or up (``ceil``)."""

    name: ClassVar[str] = "round-pools"

    to: Rounding

    def __call__(self, network: Network) -> Network:
        """The network whose poolings all round that way.

        Raises:
            VggspecError: at the net's own input an FC would get a map of another size.
        """
        nodes: list[Node] = [self._rounded(layer) for layer in network.layers]
        if all(node is layer for node, layer in zip(nodes, network.layers, strict=True)):
            return network
        try:
            return build(network.name, network.input, nodes, network.outputs, fixed=network)
        except VggspecError as error:
            what = error.reports[0].what
            if not isinstance(what, FixedInput):
                raise
            other = OtherRounding(
                to=self.to, layer=what.layer, made_for=what.made_for, given=what.given
            )
            raise VggspecError(report(other, path=f"net {network.name}")) from error

    def _rounded(self, layer: Layer) -> Node:
        op = layer.op
        ceil = self.to == "ceil"
        # A stride of 1 leaves nothing to round; padding at the end says how it was rounded.
        if not isinstance(op, MaxPool) or op.stride == 1 or op.end_padding is not None:
            return layer
        return layer if op.ceil == ceil else replace(layer, op=replace(op, ceil=ceil))
