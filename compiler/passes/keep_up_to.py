"""Makes the activations of a layer the output and removes the layers after it.

A conv or FC means its output after its batch normalisation and its activation: ``conv4_3`` is what
the field calls the features of conv4_3. A sum means its output after its activation. The last FC
has no activation and is itself, and so is a layer whose numbers something else reads before them.

Given   … relu7 -> fc8 -> prob      output posteriors
Result  … relu7                     output features

Source: Simonyan & Zisserman 2015, appendix B.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from vggspec.base.catalogue.dense import SeveralBeforeLast
from vggspec.base.catalogue.variants import NoSuchOutput, NothingBeforeLast
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import nearest
from vggspec.compiler.ir import FEATURES, IMAGE, Layer, Network, Node, Output
from vggspec.compiler.naming import place_of
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.op import Activation
from vggspec.compiler.passes.average_over_space import VECTOR
from vggspec.compiler.passes.rewiring import at

#: How the names of batch normalisations and activations begin or end.
_KINDS = ("bn", "relu", "silu")


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
        last = meant(network, self.layer)
        nodes = needed_for(network, [last])
        result = last.name
        if self.flat and last.type.is_map:
            result = VECTOR
            nodes.append(Node(name=VECTOR, op=Flatten(), inputs=(last.name,), origin=last.origin))
        outputs = (Output(FEATURES, result),)
        if tuple(nodes) == network.layers and outputs == network.outputs:
            return network
        return network.rebuild(nodes, outputs)


def meant(network: Network, name: str) -> Layer:
    """The layer that gives what a name means: for a conv the ReLU after it.

    Raises:
        VggspecError: there is no such layer.
    """
    if name not in network:
        like = nearest(name, [layer.name for layer in network.layers])
        what = NoSuchOutput(layer=name, like=like)
        raise VggspecError(report(what, path=f"net {network.name}"))
    return _activation(network, _computing(network, network[name]))


def needed_for(network: Network, layers: Iterable[Layer]) -> list[Node]:
    """The layers that these ones read, directly or not, and themselves."""
    needed = {layer.name for layer in layers}
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return [layer for layer in network.layers if layer.name in needed]


def before_last(network: Network) -> str:
    """The layer whose numbers the last conv or FC works on: ``relu7`` of the paper's nets.

    In a net with several heads it is that of the first.

    Raises:
        VggspecError: it works on the image, or there are several.
    """
    last = network.outputs[0].layer
    while last != IMAGE and not network[last].op.is_weight_layer:
        if network[last].op.is_join:
            raise VggspecError(at(network[last], SeveralBeforeLast(join=last), network))
        last = network[last].inputs[0]
    name = last if last == IMAGE else network[last].inputs[0]
    while name != IMAGE and isinstance(network[name].op, Flatten | Dropout):
        name = network[name].inputs[0]
    if name == IMAGE:
        raise VggspecError(report(NothingBeforeLast(layer=last), path=f"net {network.name}"))
    return name


def _computing(network: Network, layer: Layer) -> Layer:
    """The layer itself, or the one whose numbers it passes on."""
    while isinstance(layer.op, Flatten | Boxes) and layer.inputs[0] != IMAGE:
        layer = network[layer.inputs[0]]
    return layer


def _activation(network: Network, layer: Layer) -> Layer:
    """The batch normalisation and the activation that belong to a layer, where it has them."""
    last = layer
    while len(users := network.users(last.name)) == 1:
        op = users[0].op
        has_norm = layer.op.is_weight_layer and last is layer
        has_activation = layer.op.is_weight_layer or isinstance(layer.op, BatchNorm | Add)
        is_its = (has_norm and isinstance(op, BatchNorm)) or (
            has_activation and isinstance(op, Activation) and not isinstance(last.op, Activation)
        )
        if not is_its or _is_of_another(network, users[0], layer):
            break
        last = users[0]
    return last


def _is_of_another(network: Network, user: Layer, layer: Layer) -> bool:
    """Whether its name says that it is of another layer, as where BN and ReLU stand before convs:
    ``bn1_2`` or ``conv1_2_bn`` after ``conv1_1``.
    """
    owner = _owner(network, user.name)
    return owner is not None and owner not in (layer.name, _owner(network, layer.name))


def _owner(network: Network, name: str) -> str | None:
    """The weight layer or join that a batch normalisation or an activation is named after."""
    for layer in network.layers:
        if layer.op.is_weight_layer or layer.op.is_join:
            place = place_of(layer.name)
            names = (own for kind in _KINDS for own in (f"{layer.name}_{kind}", kind + place))
            if name.rstrip("_") in names:
                return layer.name
    return None
