"""Computes class scores at more positions of the image, in one pass.

OverFeat applies its last pooling at several offsets and its classifier to each of them, and
interleaves the results. One pass gives the same numbers: the last pooling loses its stride, and the
layers after it are dilated by the same factor, so that each window sees the same pixels. For the
paper's nets two attributes change for stride 16, and those of conv5 too for stride 8.

Before  pool5 (2 × 2, stride 2) -> fc6 (7 × 7 conv)                   a position every 32 pixels
After   pool5 (2 × 2, stride 1) -> fc6 (7 × 7 conv, dilation 2)       a position every 16 pixels

A pooling that rounded up is padded at its end, by what its windows reached past the map. Where a
layer pads its input, shifted windows see the map's own numbers in place of padding; at the map's
edge all see padding as before.

Source: Sermanet et al. 2014, section 3.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import gcd, prod
from typing import ClassVar

from vggspec.base.catalogue.variants import StrideOfACrop, StrideOutOfReach
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.ir import Layer, Network, Node
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op


@dataclass(frozen=True, slots=True)
class FinerStride:
    """Removes strides from the last layers that have one, until ``stride`` pixels are left."""

    name: ClassVar[str] = "finer-stride"

    stride: int
    """Pixels of the image from one position of the last map to the next."""

    def __call__(self, network: Network) -> Network:
        """The network with denser maps; it has the same weights.

        Raises:
            VggspecError: that stride is impossible, or FC layers fix the size of the image.
        """
        layers = _with_positions(network)
        own = prod(_stride(layer.op) for layer in layers)
        if own == self.stride:
            return network
        if any(isinstance(layer.op, Linear) for layer in network.layers):
            raise VggspecError(report(StrideOfACrop(), path=f"net {network.name}"))
        factors = _factors(layers, self.stride)
        average = None if factors is None else _dilated_average(layers, factors)
        if factors is None or average is not None:
            what = StrideOutOfReach(
                stride=self.stride, own=own, possible=_possible(layers), average=average
            )
            raise VggspecError(report(what, path=f"net {network.name}"))
        nodes: list[Node] = []
        dilation = 1
        for layer in network.layers:
            factor = factors.get(layer.name)
            if factor is None:
                nodes.append(layer)
            else:
                nodes.append(replace(layer, op=_refined(layer.op, factor, dilation)))
                dilation *= factor
        return network.rebuild(nodes)


def _with_positions(network: Network) -> tuple[Layer, ...]:
    """The layers before an average over the whole map, after which there is one position."""
    return tuple(takewhile(lambda layer: not isinstance(layer.op, GlobalAvgPool), network.layers))


def _stride(op: Op) -> int:
    return op.stride if isinstance(op, Conv | MaxPool) else 1


def _factors(layers: Sequence[Layer], wanted: int) -> dict[str, int] | None:
    """What each layer's stride is to be divided by; None where the strides do not allow it.

    Where a layer lost its stride, all after it must have lost theirs, so that no position is
    left out.
    """
    left, rest = divmod(prod(_stride(layer.op) for layer in layers), wanted)
    if rest:
        return None
    factors = {}
    for layer in reversed(layers):
        stride = _stride(layer.op)
        factor = gcd(left, stride)
        if factor not in (left, stride):
            return None
        factors[layer.name] = factor
        left //= factor
    return factors


def _dilated_average(layers: Sequence[Layer], factors: Mapping[str, int]) -> str | None:
    """An average pooling whose windows would have to skip rows, or to be padded at one end."""
    dilation = 1
    for layer in layers:
        op, factor = layer.op, factors[layer.name]
        if isinstance(op, AvgPool) and (
            (dilation > 1 and op.kernel_size > 1) or (factor > 1 and op.ceil)
        ):
            return layer.name
        dilation *= factor
    return None


def _possible(layers: Sequence[Layer]) -> tuple[int, ...]:
    """The possible strides, the largest first."""
    candidates, before = {1}, 1
    for layer in layers:
        stride = _stride(layer.op)
        candidates |= {before * part for part in range(1, stride + 1) if stride % part == 0}
        before *= stride
    found = []
    for wanted in sorted(candidates, reverse=True):
        factors = _factors(layers, wanted)
        if factors is not None and _dilated_average(layers, factors) is None:
            found.append(wanted)
    return tuple(found)


def _refined(op: Op, factor: int, dilation: int) -> Op:
    """The op with its stride divided, on a map whose positions are ``dilation`` times as many."""
    if factor == dilation == 1:
        return op
    match op:
        case Conv():
            return replace(
                op,
                stride=op.stride // factor,
                padding=(op.padding[0] * dilation, op.padding[1] * dilation),
                dilation=op.dilation * (1 if op.kernel_size == (1, 1) else dilation),
            )
        case MaxPool():
            return replace(
                op,
                stride=op.stride // factor,
                padding=op.padding * dilation,
                ceil=False,
                dilation=op.dilation * (1 if op.kernel_size == 1 else dilation),
                end_padding=None if op.end == op.padding else op.end * dilation,
            )
        case _:
            return op
