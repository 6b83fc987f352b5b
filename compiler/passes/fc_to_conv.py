"""FC layers as convolutions, so that the net can be applied to a whole image.

The first FC sees the whole feature map, so it becomes a convolution with a window of that size and
no padding; the others become 1 × 1 convolutions. The weights stay as they are: an FC weight
``(4096, 25088)`` with its columns in the order C, H, W is the conv weight ``(4096, 512, 7, 7)``,
byte for byte.

Given   pool5 -> flatten -> fc6 (FC) -> relu6 -> fc7 (FC)
Result  pool5 -> fc6 (7 × 7 conv) -> relu6 -> fc7 (1 × 1 conv)

Source: Simonyan & Zisserman 2015, section 3.2; Sermanet et al. 2014, section 3.5.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.compiler.ir import IMAGE, Network, Node
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.passes.rewiring import without


@dataclass(frozen=True, slots=True)
class FcToConv:
    """Makes every FC a convolution and removes the flattening."""

    name: ClassVar[str] = "fc-to-conv"

    def __call__(self, network: Network) -> Network:
        """The fully convolutional network."""
        if not any(isinstance(layer.op, Linear) for layer in network.layers):
            return network
        sizes = {IMAGE: network.input.type.size}
        nodes: list[Node] = []
        for layer in network.layers:
            flattened = isinstance(layer.op, Flatten)
            sizes[layer.name] = sizes[layer.inputs[0]] if flattened else layer.type.size
            if isinstance(layer.op, Linear):
                stored = next(p for p in layer.params if p.name.endswith(".weight")).stored
                conv = Conv(
                    kernel_size=sizes[layer.inputs[0]],
                    out_channels=layer.op.out_channels,
                    bias=layer.op.bias,
                    linear=layer.op.linear,
                    activated=layer.op.activated,
                    fc_shape=stored,
                )
                nodes.append(replace(layer, op=conv))
            else:
                nodes.append(layer)
        flat = {layer.name for layer in network.layers if isinstance(layer.op, Flatten)}
        return without(network, nodes, flat)
