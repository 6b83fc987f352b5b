"""Which tensors lie in one piece of memory when PyTorch runs a net."""

from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.op import Activation
from vggspec.compiler.ops.softmax import Softmax

#: Ops whose backward pass reads their output, which must not be overwritten.
KEEPS_OUTPUT = Activation | Softmax


def overwritten(network: Network) -> frozenset[str]:
    """The activations that may work in place.

    Nothing else may read what an activation overwrites: no other layer, no output, no backward
    pass; neither the tensor itself nor one that lies in the same memory. The image is the caller's.
    """
    readers: dict[str, int] = {}
    for name in (
        *(name for layer in network.layers for name in layer.inputs),
        *(output.layer for output in network.outputs),
    ):
        readers[name] = readers.get(name, 0) + 1

    def is_alone(layer: Layer) -> bool:
        name = layer.inputs[0]
        while name != IMAGE and readers[name] == 1:
            before = network[name]
            if isinstance(before.op, KEEPS_OUTPUT):
                return False
            if not before.op.shares_memory:
                return True
            name = before.inputs[0]
        return False

    return frozenset(
        layer.name
        for layer in network.layers
        if isinstance(layer.op, Activation) and layer.op.shares_memory and is_alone(layer)
    )


def owners(network: Network) -> dict[str, str]:
    """Each tensor to the layer in whose memory it lies while the net is trained."""
    in_place = overwritten(network)
    owner = {IMAGE: IMAGE}
    for layer in network.layers:
        is_shared = layer.op.shares_memory and not isinstance(layer.op, Dropout)
        if isinstance(layer.op, Activation):
            is_shared = layer.name in in_place
        owner[layer.name] = owner[layer.inputs[0]] if is_shared else layer.name
    return owner
