"""Makes the activations of a layer the output and removes the layers after it.

A conv or FC means its output after its batch normalisation and its ReLU: ``conv4_3`` is what the
field calls the features of conv4_3. The last FC has no ReLU and is itself.

Given   … relu7 -> fc8 -> prob      output posteriors
Result  … relu7                     output features

Source: Simonyan & Zisserman 2015, appendix B.
"""

from dataclasses import dataclass
from typing import ClassVar

from vggspec.base.catalogue.variants import NoSuchOutput, NothingBeforeLast
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import nearest
from vggspec.compiler.ir import FEATURES, IMAGE, Layer, Network, Node, Output
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.passes.average_over_space import VECTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepUpTo:
    """Makes ``layer`` the only output, called ``features``."""

    name: ClassVar[str] = "keep-up-to"

    layer: str
    flat: bool = False
    """Whether a map becomes a vector, its channels outermost."""

    def __call__(self, network: Network) -> Network:
        """The network up to that layer.

        Raises:
            VggspecError: there is no such layer.
        """
        if self.layer not in network:
            like = nearest(self.layer, [layer.name for layer in network.layers])
            what = NoSuchOutput(layer=self.layer, like=like)
            raise VggspecError(report(what, path=f"net {network.name}"))
        last = _activation(network, _computing(network, network[self.layer]))
        nodes: list[Node] = _up_to(network, last)
        result = last.name
        if self.flat and last.type.is_map:
            result = VECTOR
            nodes.append(Node(name=VECTOR, op=Flatten(), inputs=(last.name,), origin=last.origin))
        outputs = (Output(FEATURES, result),)
        if tuple(nodes) == network.layers and outputs == network.outputs:
            return network
        return network.rebuild(nodes, outputs)


def before_last(network: Network) -> str:
    """The layer whose numbers the last conv or FC works on: ``relu7`` of the paper's nets.

    Raises:
        VggspecError: it works on the image.
    """
    last = network.weight_layers[-1]
    name = last.inputs[0]
    while name != IMAGE and isinstance(network[name].op, Flatten | Dropout):
        name = network[name].inputs[0]
    if name == IMAGE:
        raise VggspecError(report(NothingBeforeLast(layer=last.name), path=f"net {network.name}"))
    return name


def _computing(network: Network, layer: Layer) -> Layer:
    """The layer itself, or the one whose numbers it passes on."""
    while isinstance(layer.op, Flatten | Boxes) and layer.inputs[0] != IMAGE:
        layer = network[layer.inputs[0]]
    return layer


def _activation(network: Network, layer: Layer) -> Layer:
    """The batch normalisation and the ReLU that belong to a conv or FC, where it has them."""
    users = network.users(layer.name)
    if len(users) == 1 and (
        (layer.op.is_weight_layer and isinstance(users[0].op, BatchNorm | Relu))
        or (isinstance(layer.op, BatchNorm) and isinstance(users[0].op, Relu))
    ):
        return _activation(network, users[0])
    return layer


def _up_to(network: Network, last: Layer) -> list[Node]:
    needed = {last.name}
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return [layer for layer in network.layers if layer.name in needed]
