"""The module of each layer, made by ``torch.nn`` or by a stand-in that writes source text."""

from typing import Any

from vggspec.compiler.ir import Network
from vggspec.compiler.memory import overwritten
from vggspec.compiler.ops.op import Activation, TorchNN


def made_by(network: Network, nn: TorchNN) -> dict[str, Any]:
    """The module of each layer by name; None for one that ``Op.call_torch`` computes."""
    in_place = overwritten(network)
    made = {}
    for layer in network.layers:
        inputs = network.types_of(layer)
        if isinstance(layer.op, Activation):
            made[layer.name] = layer.op.to_torch(nn, inputs, in_place=layer.name in in_place)
        else:
            made[layer.name] = layer.op.to_torch(nn, inputs)
    return made
