"""In which number type each layer computes.

TensorRT's networks are strongly typed and ONNX's always were: what the graph says is what runs. So
precision is decided here, layer by layer, and written into the graph as casts.

Each op says of itself what it needs (``Op.arithmetic``). Conv and FC take the chosen type, and so
do upconvs, but for bf16, which TensorRT does not offer for them. Sums of
many squares or many positions, and exponentials, stay in fp32: LRN, averages over space, soft-max.
Everything else computes in the type of what it reads, so that no cast comes between a conv and its
ReLU; where branches of different types meet, in fp32, which contains the others.
"""

from collections.abc import Collection, Mapping

from vggspec.base.catalogue.engines import NoSuchLayer
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import nearest
from vggspec.bundle.options import NO_LAYER, Precision
from vggspec.compiler.ir import IMAGE, Network

#: The largest finite number of a type; larger ones become infinite.
LARGEST: dict[Precision, float] = {"fp32": 3.4028235e38, "fp16": 65504.0, "bf16": 3.3895314e38}


def number_types(
    network: Network, precision: Precision, keep_fp32: Collection[str] = ()
) -> dict[str, Precision]:
    """The number type of each layer, by name; ``keep_fp32`` names layers that stay in fp32, or is
    ``none``.

    Raises:
        VggspecError: the net has no such layer.
    """
    for name in keep_fp32:
        if name not in network and name != NO_LAYER:
            like = nearest(name, [layer.name for layer in network.layers])
            raise VggspecError(
                report(NoSuchLayer(layer=name, like=like), path=f"net {network.name}")
            )
    types: dict[str, Precision] = {IMAGE: "fp32"}
    for layer in network.layers:
        if layer.name in keep_fp32 or layer.op.arithmetic == "fp32":
            types[layer.name] = "fp32"
        elif layer.op.arithmetic == "chosen":
            is_possible = precision != "bf16" or layer.op.has_bf16
            types[layer.name] = precision if is_possible else "fp32"
        else:
            read = {types[name] for name in layer.sources}
            types[layer.name] = read.pop() if len(read) == 1 else "fp32"
    del types[IMAGE]
    return types


def weight_types(network: Network, types: Mapping[str, Precision]) -> dict[str, Precision]:
    """The number type in which each array of weights is used, by the array's name."""
    return {
        param.name: types[layer.name] if layer.op.casts_params else "fp32"
        for layer in network.layers
        for param in layer.params
    }
