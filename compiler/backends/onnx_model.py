"""A network as an ONNX model, written from the IR rather than traced."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx

from vggspec import __version__
from vggspec.bundle import WEIGHTS, Contract, Precision
from vggspec.catalogue import backends
from vggspec.compiler.backends.onnx_graph import FLOAT, UINT8, OnnxGraph, tensor_info
from vggspec.compiler.ir import IMAGE, ImageInput, Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes import Form, inference, run
from vggspec.compiler.precision import BYTES, number_types, weight_types
from vggspec.compiler.rounding import rounded
from vggspec.compiler.weights import WeightsFile, check_fits
from vggspec.diagnostic import VggspecError, report
from vggspec.recipe import Average

#: A protobuf message holds 2 GiB; some is left for the graph itself.
MAX_EMBEDDED_BYTES = (1 << 31) - (1 << 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOptions:
    """What the user chooses about the graph."""

    form: Form = "dense"
    average: Average = "scores"
    contract: Contract = "float"
    keep_map: bool = False
    precision: Precision = "fp32"
    keep_fp32: tuple[str, ...] = ()
    """Layers that compute in fp32 whatever ``precision`` is."""

    single_file: bool = False
    copy_weights: bool = False
    """Whether the bundle gets weights of its own even where a link would do."""


def prepare(network: Network, options: OnnxOptions) -> Network:
    """The network as it is exported.

    Raises:
        VggspecError: the options do not fit the net.
    """
    has_softmax = any(isinstance(layer.op, Softmax) for layer in network.layers)
    has_boxes = any(isinstance(layer.op, Boxes) for layer in network.layers)
    if options.average == "posteriors" and not has_softmax:
        raise _refuse(backends.NothingToAverage(), network)
    if options.keep_map and (options.form == "crop" or has_boxes):
        because = "the net gives boxes" if has_boxes else "a crop has one position"
        raise _refuse(backends.NoScoreMap(because=because), network)
    pipeline = inference(options.form, options.average, keep_map=options.keep_map)
    return run(pipeline, network)


def _refuse(what: backends.NothingToAverage | backends.NoScoreMap, net: Network) -> VggspecError:
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
) -> onnx.ModelProto:
    """The ONNX model of a prepared network.

    ``types`` are the layers' number types (``number_types``); None is fp32 throughout. Weights are
    ``external``, where the graph points into a weights file called ``model.safetensors`` beside it
    and casts what is used in a lower precision; ``embedded``; or ``declared``: the graph names them
    with the type in which they are used, and whoever loads it brings them.

    Raises:
        VggspecError: the weights do not fit the net, or are too large to embed.
    """
    check_fits(weights, network)
    types = number_types(network, "fp32") if types is None else types
    used_as = weight_types(network, types)
    bytes_of_weights = sum(BYTES[used_as[p.name]] * p.num_elements for p in network.params())
    if weights_as == "embedded" and bytes_of_weights > MAX_EMBEDDED_BYTES:
        what = backends.TooLargeForOneFile(bytes=bytes_of_weights)
        raise VggspecError(report(what, path=str(weights.path)))
    names = {output.layer: output.name for output in network.outputs}
    # An output of the graph is fp32; where the layer is not, a cast takes its name.
    renamed = {layer: name for layer, name in names.items() if types[layer] == "fp32"}
    graph = OnnxGraph(network.name, renamed)
    tensors = {IMAGE: IMAGE}
    if contract == "raw":
        tensors[IMAGE] = _preprocess(graph, network.input, mean)
    graph.note(tensors[IMAGE], "fp32", is_map=True)
    arrays = rounded(weights, used_as) if weights_as == "embedded" else {}
    for layer in network.layers:
        precision = types[layer.name]
        params = []
        for param in layer.params:
            used = used_as[param.name]
            if weights_as == "embedded":
                data = arrays.pop(param.name).tobytes()
                name = graph.embedded(param.name, param.shape, used, data)
            else:
                stored: Precision = used if weights_as == "declared" else "fp32"
                offset = weights.tensors[param.name].offset
                location = os.path.basename(WEIGHTS)
                name = graph.external(param.name, param.shape, location, offset, stored)
                name = name if stored == used else graph.cast(name, used)
            params.append(name)
        source = layer.inputs[0]
        x = tensors[source]
        if graph.about(x).precision != precision:
            x = graph.cast(x, precision)
            graph.note(x, precision, is_map=network.type_of(source).is_map)
        y = layer.op.to_onnx(graph, x, tuple(params), layer.name)
        graph.note(y, precision, is_map=layer.type.is_map)
        tensors[layer.name] = y
    for layer_name in names.keys() - renamed.keys():
        graph.cast(tensors[layer_name], "fp32", names[layer_name])
    height: int | str = "H" if is_dynamic else network.input.height
    width: int | str = "W" if is_dynamic else network.input.width
    channels = network.input.channels
    if contract == "raw":
        image = tensor_info(IMAGE, UINT8, ("N", height, width, channels))
    else:
        image = tensor_info(IMAGE, FLOAT, ("N", channels, height, width))
    outputs = []
    for output in network.outputs:
        kind = network.type_of(output.layer)
        shape: list[int | str] = ["N", *kind.shape]
        if kind.is_map and is_dynamic:
            shape[2:] = ["h", "w"]
        outputs.append(tensor_info(output.name, FLOAT, shape))
    metadata = {"vggspec.net": network.name, "vggspec.weights_sha256": weights.data_sha256()}
    return graph.model([image], outputs, metadata, __version__)


def _preprocess(graph: OnnxGraph, image: ImageInput, mean: tuple[float, ...]) -> str:
    """uint8 ``(N, H, W, C)``, RGB or gray, to what the first layer takes."""
    x = graph.node("Cast", (IMAGE,), "image_float", to=int(FLOAT))
    x = graph.node("Transpose", (x,), "image_nchw", perm=[0, 3, 1, 2])
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
