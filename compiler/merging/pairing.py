"""Which layer of one graph is which of another: the proof that the text of a net says its graph."""

from dataclasses import replace

from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.resize import Resize


def pairs(expected: Network, found: Network) -> dict[str, str] | None:
    """For each layer of ``found`` the one of ``expected`` that computes the same; None where the
    graphs differ. The options that say which activation follows are not compared: it is a layer.
    """
    waiting: dict[tuple[Op, tuple[str, ...]], list[Layer]] = {}
    for layer in reversed(expected.layers):
        waiting.setdefault((_bare(layer.op, layer), layer.inputs), []).append(layer)
    same = {IMAGE: IMAGE}
    for layer in found.layers:
        if any(name not in same for name in layer.inputs):
            return None
        inputs = tuple(same[name] for name in layer.inputs)
        candidates = waiting.get((_bare(layer.op, layer), inputs))
        if not candidates:
            return None
        same[layer.name] = candidates.pop().name
    outputs = [(output.name, same[output.layer]) for output in found.outputs]
    wanted = [(output.name, output.layer) for output in expected.outputs]
    if len(found.layers) != len(expected.layers) or outputs != wanted:
        return None
    return same


def _bare(op: Op, layer: Layer) -> Op:
    """The op without what it says about others; all convs as the same kind."""
    if isinstance(op, DepthwiseConv):
        op = op.of(layer.type.channels)
    if isinstance(op, Conv):
        return Conv(
            kernel_size=op.kernel_size,
            out_channels=op.out_channels,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=op.groups,
            bias=op.bias,
        )
    if isinstance(op, Linear):
        return replace(op, linear=False, activated=False)
    if isinstance(op, Crop | Resize):
        return replace(op, of="")  # the layer's inputs say it
    return op
