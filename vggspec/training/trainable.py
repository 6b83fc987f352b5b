"""Which nets can be trained, and in which form. It needs no PyTorch."""

from vggspec.base.catalogue.data import NotTrainable
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import all_of
from vggspec.compiler.ir import POSTERIOR_MAP, Layer, Network, Output
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.passes import TRAINING
from vggspec.compiler.passes import run as apply_passes
from vggspec.compiler.results import result_of


def training_network(lowered: Lowered) -> Network:
    """The net in the form for training: it ends in class scores, of the image or of
    positions, or in boxes.

    Raises:
        VggspecError: it has no parameters, gives boxes for several positions, or its batches
            are too small to be normalised.
    """
    network = lowered.network
    last = network[network.outputs[0].layer]
    kind = result_of(network)
    if kind == "activations" or len(network.outputs) > 1:
        because = f"training takes one output, classes, boxes or maps; {_how_to_have_one(network)}"
        raise _not_trainable(last, because)
    network = network.rebuild(network.layers, (Output(kind, last.name),))
    if isinstance(last.op, Boxes) and last.type.is_map:
        raise _not_trainable(last, "it gives boxes for each place of a map")
    for_classes = lowered.experiment.train.for_classes()
    if isinstance(last.op, Boxes) and for_classes:
        raise _not_trainable(last, f"it gives boxes, and `{for_classes[0]}` is for classes")
    not_for_maps = lowered.experiment.train.not_for_maps()
    if kind == POSTERIOR_MAP and not_for_maps:
        because = f"it labels positions, and `{not_for_maps[0]}` is for labels of images"
        raise _not_trainable(last, because)
    if not network.weight_layers:
        raise _not_trainable(last, "it has no weight layer")
    network = apply_passes(TRAINING, network)
    norm = normalised_vector(network)
    if norm is not None and lowered.experiment.train.batch < 2:
        raise _not_trainable(norm, "batch normalisation of vectors needs two images a batch")
    return network


def _how_to_have_one(network: Network) -> str:
    read = {name for layer in network.layers for name in layer.inputs}
    ends = [output.name for output in network.outputs if output.layer not in read]
    if len(ends) > 1:
        return f"this net ends in {all_of(ends)}: keep one of these branches"
    names = " ".join(output.name for output in network.outputs)
    return f"train it without `outputs {names}`, and its weights serve the net with that line too"


def normalised_vector(network: Network) -> Layer | None:
    """The first batch normalisation that sees one number a channel, so no variance of one image."""
    norms = (layer for layer in network.layers if isinstance(layer.op, BatchNorm))
    return next((layer for layer in norms if layer.type.size == (1, 1)), None)


def _not_trainable(layer: Layer, because: str) -> VggspecError:
    what = NotTrainable(because=because)
    if layer.origin is None:
        return VggspecError(report(what))
    return VggspecError(report(what, layer.origin.source, layer.origin.span))
