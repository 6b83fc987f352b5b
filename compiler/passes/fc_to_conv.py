"""FC layers as convolutions, so that the net can be applied to a whole image.

An FC that reads a flattened map sees all of it, so it becomes a convolution with a window of that
size and no padding, whatever made the map; one that reads a vector becomes a 1 × 1 convolution. The
weights stay as they are: an FC weight ``(4096, 25088)`` with its columns in the order C, H, W is
the conv weight ``(4096, 512, 7, 7)``, byte for byte.

Between the flattening and the FC may be what computes each number by itself, and joins of maps of
one size. Anything else would mix the positions of the flattened map, and is refused.

Given   pool5 -> flatten -> fc6 (FC) -> relu6 -> fc7 (FC)
Result  pool5 -> fc6 (7 × 7 conv) -> relu6 -> fc7 (1 × 1 conv)

Source: Simonyan & Zisserman 2015, section 3.2; Sermanet et al. 2014, section 3.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from vggspec.base.catalogue.dense import MeetsAtOneSize, MixesPositions
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.ir import IMAGE, Layer, Network, Node
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Activation
from vggspec.compiler.passes.rewiring import at, without

Size = tuple[int, int]

ONE_POSITION = (1, 1)


@dataclass(frozen=True, slots=True)
class FcToConv:
    """Makes every FC a convolution and removes the flattening."""

    name: ClassVar[str] = "fc-to-conv"

    def __call__(self, network: Network) -> Network:
        """The fully convolutional network.

        Raises:
            VggspecError: a layer works across the positions of a flattened map.
        """
        if not any(_is_crop_only(network, layer) for layer in network.layers):
            return network
        sizes = {IMAGE: network.input.type.size}
        nodes: list[Node] = []
        for layer in network.layers:
            sizes[layer.name] = _size(network, layer, sizes)
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


def _is_crop_only(network: Network, layer: Layer) -> bool:
    if isinstance(layer.op, Linear):
        return True
    return isinstance(layer.op, Flatten) and network.types_of(layer)[0].size != ONE_POSITION


def _size(network: Network, layer: Layer, sizes: Mapping[str, Size]) -> Size:
    """Rows and columns of a layer's map, or of that which its vector was flattened from.

    Raises:
        VggspecError: they are not those of the dense map.
    """
    if layer.type.is_map:
        return layer.type.size
    if isinstance(layer.op, Linear):
        return ONE_POSITION
    of_inputs = [sizes[name] for name in layer.inputs]
    size = of_inputs[0]
    if layer.op.is_join:
        for other in of_inputs[1:]:
            if other != size:
                because = (
                    f"maps of {size[0]} × {size[1]} and {other[0]} × {other[1]} were flattened"
                )
                what = MeetsAtOneSize(layer=layer.name, because=because)
                raise VggspecError(at(layer, what, network))
    elif size != ONE_POSITION and not isinstance(layer.op, Flatten | Activation | Dropout):
        raise VggspecError(at(layer, MixesPositions(layer=layer.name, size=size), network))
    return size
