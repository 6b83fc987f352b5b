"""Computes class scores at more positions of the image, in one pass.

OverFeat applies its last pooling at several offsets and its classifier to each of them, and
interleaves the results. One pass gives the same numbers: the last pooling loses its stride, and the
layers after it are dilated by the same factor, so that each window sees the same pixels. For the
paper's nets two attributes change for stride 16, and those of conv5 too for stride 8.

Given   pool5 (2 × 2, stride 2) -> fc6 (7 × 7 conv)                   a position every 32 pixels
Result  pool5 (2 × 2, stride 1) -> fc6 (7 × 7 conv, dilation 2)       a position every 16 pixels

A pooling that rounded up is padded at its end, by what its windows reached past the map. Where a
layer pads its input, shifted windows see the map's own numbers in place of padding; at the map's
edge all see padding as before.

In a graph every tensor has a stride, and those of branches agree where they meet. So what becomes
of a layer follows from the strides of what it reads and gives, whatever lies between.

Source: Sermanet et al. 2014, section 3.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.catalogue.dense import OutputsOfDifferentStrides
from vggspec.base.catalogue.maps import StrideBehindGrowth
from vggspec.base.catalogue.variants import StrideOfACrop, StrideOutOfReach
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.geometry import fields
from vggspec.compiler.ir import IMAGE, Layer, Network, Output
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.up import Up
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.passes.check_joins import CheckJoins
from vggspec.compiler.passes.rewiring import at

#: Ops that make maps finer, or read where others lie: dilated, they would be others.
_GROWN = UpConv | Up | Resize | Crop


@dataclass(frozen=True, slots=True)
class FinerStride:
    """Divides strides so that no map has positions more than ``stride`` pixels apart."""

    name: ClassVar[str] = "finer-stride"

    stride: int
    """Pixels of the image from one position of the last map to the next."""

    def __call__(self, network: Network) -> Network:
        """The network with denser maps; it has the same weights.

        Raises:
            VggspecError: that stride is impossible, or FC layers fix the size of the image.
        """
        CheckJoins()(network)
        grown = next((layer for layer in network.layers if isinstance(layer.op, _GROWN)), None)
        if grown is not None:
            return self._grown(network, grown)
        strides = _strides(network)
        own = max(strides.values())
        if own == self.stride:
            return network
        if any(isinstance(layer.op, Linear) for layer in network.layers):
            raise VggspecError(report(StrideOfACrop(), path=f"net {network.name}"))
        of_outputs = tuple((out.name, _stride_of(network, strides, out)) for out in network.outputs)
        if len({stride for _, stride in of_outputs}) > 1:
            what = OutputsOfDifferentStrides(outputs=of_outputs)
            raise VggspecError(report(what, path=f"net {network.name}"))
        changes = _changes(network, strides, self.stride)
        average = None if changes is None else _dilated_average(network, changes)
        if changes is None or average is not None:
            out_of_reach = StrideOutOfReach(
                stride=self.stride,
                own=own,
                possible=_possible(network, strides),
                average=average,
            )
            raise VggspecError(report(out_of_reach, path=f"net {network.name}"))
        return network.rebuild(
            replace(layer, op=_refined(layer.op, *changes[layer.name]))
            if layer.name in changes
            else layer
            for layer in network.layers
        )

    def _grown(self, network: Network, layer: Layer) -> Network:
        """The network itself, where that is the stride of all its outputs."""
        seen = network.once(fields)
        own = [seen[output.layer].stride[0] for output in network.outputs]
        if all(stride == self.stride for stride in own):
            return network
        what = StrideBehindGrowth(stride=self.stride, layer=layer.name, own=min(own))
        raise VggspecError(at(layer, what, network))


def _strides(network: Network) -> dict[str, int]:
    """Pixels from one position to the next, for each tensor before an average over the whole map,
    after which there is one position.
    """
    seen = network.once(fields)
    found = {IMAGE: 1}
    for layer in network.layers:
        is_before = not isinstance(layer.op, GlobalAvgPool)
        if is_before and all(name in found for name in layer.inputs):
            found[layer.name] = int(seen[layer.name].stride[0])
    return found


def _stride_of(network: Network, strides: Mapping[str, int], output: Output) -> int:
    """That of an output, or of the maps that it is an average of."""
    left, found = [output.layer], 1
    while left:
        name = left.pop()
        if name in strides:
            found = max(found, strides[name])
        else:
            left += network[name].inputs
    return found


def _changes(
    network: Network, strides: Mapping[str, int], wanted: int
) -> dict[str, tuple[int, int]] | None:
    """What each layer's stride is divided by, and what its windows are dilated by; None where the
    strides do not allow it.

    A tensor of stride J gets N = min(J, wanted). A layer then has the stride N(out) / N(in), and
    its windows are as far apart as J(in) / N(in) says. That needs no order of the layers: strides
    agree wherever branches meet.
    """
    if wanted > max(strides.values()):
        return None
    changes = {}
    for layer in network.layers:
        if layer.name not in strides:
            continue
        before, after = strides[layer.inputs[0]], strides[layer.name]
        if after % min(after, wanted) or before % min(before, wanted):
            return None
        stride, rest = divmod(min(after, wanted), min(before, wanted))
        own = after // before
        if rest or own % stride:
            return None
        changes[layer.name] = own // stride, before // min(before, wanted)
    return changes


def _dilated_average(network: Network, changes: Mapping[str, tuple[int, int]]) -> str | None:
    """An average pooling whose windows would have to skip rows, or to be padded at one end."""
    for name, (factor, dilation) in changes.items():
        op = network[name].op
        if isinstance(op, AvgPool) and (
            (dilation > 1 and op.kernel_size > 1) or (factor > 1 and op.ceil)
        ):
            return name
    return None


def _possible(network: Network, strides: Mapping[str, int]) -> tuple[int, ...]:
    """The possible strides, the largest first."""
    candidates = {1}
    for layer in network.layers:
        if layer.name in strides:
            before = strides[layer.inputs[0]]
            own = strides[layer.name] // before
            candidates |= {before * part for part in range(1, own + 1) if own % part == 0}
    found = []
    for wanted in sorted(candidates, reverse=True):
        changes = _changes(network, strides, wanted)
        if changes is not None and _dilated_average(network, changes) is None:
            found.append(wanted)
    return tuple(found)


def _refined(op: Op, factor: int, dilation: int) -> Op:
    """The op with its stride divided, on a map whose positions are ``dilation`` times as many."""
    if factor == dilation == 1:
        return op
    match op:
        case Conv() | DepthwiseConv():
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
        case PadShortcut():
            return replace(op, stride=op.stride // factor)
        case _:
            assert factor == 1, f"{op.keyword} has no stride"
            return op
