"""Refuses a dense net whose branches meet on images of one size only.

Each position of a dense net's output is what the net says of the window there. That holds where
branches meet with equal strides, and where either all of them or none are averaged over the whole
map: ``gap`` has one position on any image.

Given   pool4 -> fc_a (14 × 14 conv), pool5 -> fc_b (7 × 7 conv), concat of both
Result  an error at concat: fc_a has a position every 16 pixels, fc_b every 32

Whether branches of equal strides meet on every image is another question: it depends on how the
layers on the way round.
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.base.catalogue.dense import MeetsAtOneSize
from vggspec.base.catalogue.maps import AverageIntoMap
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.geometry import fields
from vggspec.compiler.ir import Network
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.passes.rewiring import at


@dataclass(frozen=True, slots=True)
class CheckJoins:
    """Changes nothing."""

    name: ClassVar[str] = "check-joins"

    def __call__(self, network: Network) -> Network:
        """The same network.

        Raises:
            VggspecError: branches meet at the net's own size only.
        """
        seen = network.once(fields)
        averaged: set[str] = set()
        for layer in network.layers:
            if isinstance(layer.op, Resize) and layer.inputs[0] in averaged:
                raise VggspecError(at(layer, AverageIntoMap(layer=layer.name), network))
            over_space = [name in averaged for name in layer.sources]
            if any(over_space) or isinstance(layer.op, GlobalAvgPool):
                averaged.add(layer.name)
            if any(over_space) and not all(over_space):
                because = "one branch is averaged over the whole map, another is not"
            elif not any(over_space) and len({seen[name].stride for name in layer.sources}) > 1:
                strides = sorted({seen[name].stride[0] for name in layer.sources})
                finest, coarsest = strides[0], strides[-1]
                because = f"branches have a position every {finest} and every {coarsest} pixels"
            else:
                continue
            what = MeetsAtOneSize(layer=layer.name, because=because)
            raise VggspecError(at(layer, what, network))
        return network
