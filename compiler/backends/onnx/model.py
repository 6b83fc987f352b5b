"""A network as an ONNX model, written from the IR rather than traced."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
import onnx

from vggspec.base.catalogue import backends
from vggspec.base.catalogue.maps import FinerThanPixels
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.version import __version__
from vggspec.bundle.manifest import BYTES, FIRST, SECOND, WEIGHTS, Contract
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.compiler.backends.onnx.distance import DISTANCE, add_distance, as_one_batch
from vggspec.compiler.backends.onnx.graph import FLOAT, UINT8, OnnxGraph, tensor_info
from vggspec.compiler.factors import Factors, taps
from vggspec.compiler.geometry import fields
from vggspec.compiler.ir import IMAGE, POSTERIOR_MAP, SCORE_MAP, ImageInput, Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes import Pass, comparison, inference, run
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.results import result_of
from vggspec.compiler.rounded_weights import rounded
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import WeightsFile, check_fits

#: A protobuf message is limited to 2 GiB; some is reserved for the graph itself.
MAX_EMBEDDED_BYTES = (1 << 31) - (1 << 24)


def prepare(network: Network, options: CompileOptions) -> Network:
    """The network as it is exported.

    Raises:
        VggspecError: the options do not fit the net.
    """
    prepared = run(pipeline(network, options), network)
    if options.keep_map and all(output.name != SCORE_MAP for output in prepared.outputs):
        because = f"the first output, `{network.outputs[0].name}`, is a map of an inner layer"
        raise _refuse(backends.NoScoreMap(because=because), network)
    seen = prepared.once(fields)
    for output in prepared.outputs:
        for stride in seen[output.layer].stride:
            if Fraction(stride).denominator != 1:
                raise _refuse(FinerThanPixels(output=output.name, stride=stride), network)
    return prepared


def pipeline(network: Network, options: CompileOptions) -> tuple[Pass, ...]:
    """The passes that prepare a network.

    Raises:
        VggspecError: the options do not fit the net.
    """
    if options.distance:
        taps(network)
        return comparison(options.pool)
    has_softmax = any(
        isinstance(op, Softmax) and not op.per_position
        for op in (network[out.layer].op for out in network.outputs)
    )
    has_boxes = isinstance(network[network.outputs[0].layer].op, Boxes)
    if options.average == "posteriors" and not has_softmax and options.layer is None:
        raise _refuse(backends.NothingToAverage(), network)
    is_label_map = result_of(network) == POSTERIOR_MAP
    if options.keep_map and (
        not options.is_dense or has_boxes or is_label_map or options.layer is not None
    ):
        because = "the net gives boxes" if has_boxes else "a crop has one position"
        if is_label_map:
            because = "the net's own output is a map, of posteriors"
        if options.layer is not None:
            because = f"the output is that of `{options.layer}`"
        raise _refuse(backends.NoScoreMap(because=because), network)
    return inference(
        "dense" if options.is_dense else "crop",
        options.average or "scores",
        keep_map=options.keep_map,
        pool=options.pool,
        stride=options.stride,
        layer=options.layer,
    )


def _refuse(what: Diagnostic, net: Network) -> VggspecError:
    return VggspecError(report(what, path=f"net {net.name}"))


def emit(
    network: Network,
    weights: WeightsFile,
    *,
    contract: Contract = "float",
    mean: tuple[float, ...],
    is_dynamic: bool,
    types: Mapping[str, Precision] | None = None,
    weights_as: Literal["external", "embedded", "declared"] = "external",
    factors: Factors | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a prepared network.

    ``types`` are the layers' number types (``number_types``); None is fp32 throughout. Weights are
    ``external``, where the graph points into a weights file called ``model.safetensors`` beside it
    and casts what is used in a lower precision; ``embedded``; or ``declared``: the graph names them
    with the type in which they are used, and the caller supplies them when loading. With
    ``factors`` the graph takes two pictures and gives their distance in the network's outputs.

    Raises:
        VggspecError: the weights do not fit the net, or are too large to embed.
    """
    check_fits(weights, network)
    types = number_types(network, "fp32") if types is None else types
    used_as = weight_types(network, types)
    if weights_as == "embedded":
        check_embedded(weights, [network], used_as)
    results = network.outputs if factors is None else ()
    # An output of the graph is fp32; where the layer is not, a cast takes its name.
    names = {output.layer: output.name for output in reversed(results)}
    renamed = {layer: name for layer, name in names.items() if types[layer] == "fp32"}
    # A tap may be called as one layer and be the result of another: conv1_2, after its ReLU.
    inner = {output.name for output in results if output.name in network} - renamed.keys()
    other_names = {name: f"{name}.inner" for name in inner}
    other_names |= {f"{name}.output": name for name in inner}
    graph = OnnxGraph(network.name, renamed | other_names)
    channels = network.input.channels
    pictures = (IMAGE,) if factors is None else (FIRST, SECOND)
    planes = [_planes(graph, name) if contract == "raw" else name for name in pictures]
    image = planes[0] if factors is None else as_one_batch(graph, planes, channels)
    if contract == "raw":
        image = preprocess(graph, network.input, mean, image)
    arrays = rounded(weights, used_as) if weights_as == "embedded" else {}

    def give(param: Param) -> str:
        used = used_as[param.name]
        if weights_as == "embedded":
            data = arrays.pop(param.name).tobytes()
            return graph.embedded(param.name, param.shape, used, data)
        stored: Precision = used if weights_as == "declared" else "fp32"
        offset = weights.tensors[param.name].offset
        location = os.path.basename(WEIGHTS)
        name = graph.external(param.name, param.shape, location, offset, stored)
        return name if stored == used else graph.cast(name, used)

    tensors = add_layers(graph, network, image, types, give)
    for output in results:
        node = f"{output.name}.output" if output.name in inner else output.name
        if types[output.layer] != "fp32":
            graph.cast(tensors[output.layer], "fp32", node)
        elif output.name != names[output.layer]:
            graph.node("Identity", (tensors[output.layer],), node)
    height: int | str = "H" if is_dynamic else network.input.height
    width: int | str = "W" if is_dynamic else network.input.width
    if contract == "raw":
        taken = [tensor_info(name, UINT8, ("N", height, width, channels)) for name in pictures]
    else:
        taken = [tensor_info(name, FLOAT, ("N", channels, height, width)) for name in pictures]
    outputs = []
    maps = [out.name for out in results if network.type_of(out.layer).is_map]
    for output in results:
        kind = network.type_of(output.layer)
        shape: list[int | str] = ["N", *kind.shape]
        if kind.is_map and is_dynamic:
            # Dimensions of one name are equal, and maps may have different sizes.
            shape[2:] = ["h", "w"] if len(maps) == 1 else [f"h_{output.name}", f"w_{output.name}"]
        outputs.append(tensor_info(output.name, FLOAT, shape))
    metadata = {"vggspec.net": network.name, "vggspec.weights_sha256": weights.data_sha256()}
    if factors is not None:
        compared = [
            tensors[layer] if types[layer] == "fp32" else graph.cast(tensors[layer], "fp32")
            for layer in (output.layer for output in network.outputs)
        ]
        add_distance(graph, compared, factors)
        outputs = [tensor_info(DISTANCE, FLOAT, ("N",))]
    return graph.model(taken, outputs, metadata, __version__)


def check_embedded(
    weights: WeightsFile, nets: Iterable[Network], used_as: Mapping[str, Precision] | None = None
) -> None:
    """Check that the weights of nets fit one ONNX file; ``used_as`` are their number types, None
    is fp32. ``weights`` are those of the first net, which an error names.

    Raises:
        VggspecError: they do not.
    """
    types = used_as or {}
    size = sum(
        BYTES[types.get(param.name, "fp32")] * param.num_elements
        for network in nets
        for param in network.params()
    )
    if size > MAX_EMBEDDED_BYTES:
        raise VggspecError(report(backends.TooLargeForOneFile(bytes=size), path=str(weights.path)))


def add_layers(
    graph: OnnxGraph,
    network: Network,
    image: str,
    types: Mapping[str, Precision],
    give: Callable[[Param], str],
) -> dict[str, str]:
    """Add a network that reads the tensor ``image``; its tensors by the layers that give them.

    ``give`` names the tensor of a parameter, in the number type in which it is used.
    """
    tensors = {IMAGE: image}
    results = {output.layer for output in network.outputs}
    graph.note(image, "fp32", network.input.type)
    for layer in network.layers:
        precision = types[layer.name]
        params = tuple(give(param) for param in layer.params)
        inputs = []
        for source in layer.inputs:
            x = tensors[source]
            if source in layer.sources and graph.about(x).precision != precision:
                x = graph.cast(x, precision)
                graph.note(x, precision, network.type_of(source))
            inputs.append(x)
        y = layer.op.to_onnx(graph, tuple(inputs), params, layer.name)
        graph.note(y, precision, layer.type)
        if layer.op.reads_size and layer.name not in results:
            graph.describe(y)
        tensors[layer.name] = y
    return tensors


def _planes(graph: OnnxGraph, image: str) -> str:
    """uint8 ``(N, H, W, C)`` as float32 ``(N, C, H, W)``."""
    x = graph.node("Cast", (image,), f"{image}_float", to=int(FLOAT))
    return graph.node("Transpose", (x,), f"{image}_nchw", perm=[0, 3, 1, 2])


def preprocess(graph: OnnxGraph, image: ImageInput, mean: tuple[float, ...], x: str) -> str:
    """float32 ``(N, C, H, W)`` from 0 to 255, RGB or gray, to what the first layer takes."""
    if image.color == "BGR":
        order = graph.integers("image_order", (2, 1, 0))
        x = graph.node("Gather", (x, order), "image_bgr", axis=1)

    def column(name: str, values: Sequence[float]) -> str:
        return graph.constant(name, np.array(values, np.float32).reshape(1, -1, 1, 1))

    x = graph.node("Sub", (x, column("image_mean", mean)), "image_centred")
    if image.std is not None:
        x = graph.node("Div", (x, column("image_std", image.std)), "image_scaled")
    elif image.scale != 1:
        x = graph.node("Mul", (x, column("image_scale", (image.scale,))), "image_scaled")
    return x
