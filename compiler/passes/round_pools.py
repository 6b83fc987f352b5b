"""Every pooling rounded the same way: down as in PyTorch, or up as in Caffe.

In a dense net it decides how many positions a map has: for an image of n pixels a VGG net gives
``n // 32 - 6`` rounding down and ``ceil(n / 32) - 6`` rounding up, the last of which see past the
image. At the net's own input the first FC must still see the map that its weights are for, and
branches must still meet.

Given   pool5 (2 × 2, stride 2)
Result  pool5 (2 × 2, stride 2, ceil)
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.catalogue.dense import OtherRoundingAtJoin
from vggspec.base.catalogue.maps import CropOutside
from vggspec.base.catalogue.shapes import CannotAdd, CannotJoin, FixedInput
from vggspec.base.catalogue.variants import OtherRounding
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Rounding
from vggspec.compiler.ir import Builder, Layer, Network, Node
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.passes.rewiring import at


@dataclass(frozen=True, slots=True)
class RoundPools:
    """Makes every pooling round down (``floor``) or up (``ceil``)."""

    name: ClassVar[str] = "round-pools"

    to: Rounding

    def __call__(self, network: Network) -> Network:
        """The network whose poolings all round that way.

        Raises:
            VggspecError: at the net's own input an FC would get a map of another size, or branches
                would not meet.
        """
        nodes: list[Node] = [self._rounded(layer) for layer in network.layers]
        if all(node is layer for node, layer in zip(nodes, network.layers, strict=True)):
            return network
        builder = Builder(network.name, network.input, fixed=network)
        for layer, node in zip(network.layers, nodes, strict=True):
            try:
                builder.add(node)
            except VggspecError as error:
                raise self._refused(network, layer, error) from error
        return builder.finish(network.outputs)

    def _refused(self, network: Network, layer: Layer, error: VggspecError) -> VggspecError:
        what = error.reports[0].what
        if isinstance(what, CannotAdd | CannotJoin | CropOutside):
            given = what.shapes if not isinstance(what, CropOutside) else (what.shape, what.wanted)
            parts = OtherRoundingAtJoin(to=self.to, layer=layer.name, shapes=given)
            return VggspecError(at(layer, parts, network))
        if not isinstance(what, FixedInput):
            return error
        other = OtherRounding(
            to=self.to, layer=what.layer, made_for=what.made_for, given=what.given
        )
        return VggspecError(report(other, path=f"net {network.name}"))

    def _rounded(self, layer: Layer) -> Node:
        op = layer.op
        ceil = self.to == "ceil"
        # A stride of 1 leaves nothing to round; padding at the end says how it was rounded.
        if not isinstance(op, MaxPool) or op.stride == 1 or op.end_padding is not None:
            return layer
        return layer if op.ceil == ceil else replace(layer, op=replace(op, ceil=ceil))
