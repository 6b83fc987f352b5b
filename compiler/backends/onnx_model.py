"""A network as an ONNX model, written from the IR rather than traced, and as a bundle."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import onnx

from vggspec import __version__
from vggspec.bundle import (
    MANIFEST,
    MODEL,
    WEIGHTS,
    Contract,
    FileEntry,
    InputContract,
    Manifest,
    OutputContract,
    OutputKind,
    file_entry,
)
from vggspec.catalogue import artefacts, backends
from vggspec.compiler.backends.onnx_graph import FLOAT, OPSET, UINT8, OnnxGraph, tensor_info
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import IMAGE, ImageInput, Network, smallest
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.passes import Form, inference, run
from vggspec.compiler.passes.average_over_space import AVERAGE
from vggspec.compiler.weights import WeightsFile, check_fits
from vggspec.diagnostic import VggspecError, report
from vggspec.files import place, replacing_folder
from vggspec.recipe import Average

#: Mean of the ILSVRC training images, RGB, 0 to 255: what the paper's nets subtract.
ILSVRC_MEAN = (123.68, 116.779, 103.939)

#: A protobuf message holds 2 GiB; some is left for the graph itself.
MAX_EMBEDDED_BYTES = (1 << 31) - (1 << 24)

MeanFrom = Literal["spec", "weights", "ILSVRC"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxOptions:
    """What the user chooses about the graph."""

    form: Form = "dense"
    average: Average = "scores"
    contract: Contract = "float"
    keep_map: bool = False
    single_file: bool = False
    copy_weights: bool = False
    """Whether the bundle gets weights of its own even where a link would do."""


@dataclass(frozen=True, slots=True)
class Written:
    """What ``write_bundle`` did."""

    manifest: Manifest
    mean_from: MeanFrom
    weights_by: Literal["link", "clone", "copy", "embedding"]


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
    embed: bool = False,
) -> onnx.ModelProto:
    """The ONNX model of a prepared network.

    Unless ``embed`` is true it points into a weights file called ``model.safetensors`` beside it.

    Raises:
        VggspecError: the weights do not fit the net, or are too large to embed.
    """
    check_fits(weights, network)
    total = sum(4 * param.num_elements for param in network.params())
    if embed and total > MAX_EMBEDDED_BYTES:
        what = backends.TooLargeForOneFile(bytes=total)
        raise VggspecError(report(what, path=str(weights.path)))
    renamed = {output.layer: output.name for output in network.outputs}
    graph = OnnxGraph(network.name, renamed)
    tensors = {IMAGE: IMAGE}
    if contract == "raw":
        tensors[IMAGE] = _preprocess(graph, network.input, mean)
    for layer in network.layers:
        names = []
        for param in layer.params:
            if embed:
                data = weights.read(param.name)
                names.append(graph.constant(param.name, data.reshape(param.shape)))
            else:
                offset = weights.tensors[param.name].offset
                location = os.path.basename(WEIGHTS)
                names.append(graph.external(param.name, param.shape, location, offset))
        x = tensors[layer.inputs[0]]
        tensors[layer.name] = layer.op.to_onnx(graph, x, tuple(names), layer.name)
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
        order = graph.constant("image_order", np.array([2, 1, 0], np.int64))
        x = graph.node("Gather", (x, order), "image_bgr", axis=1)

    def column(name: str, values: Sequence[float]) -> str:
        return graph.constant(name, np.array(values, np.float32).reshape(1, -1, 1, 1))

    x = graph.node("Sub", (x, column("image_mean", mean)), "image_centred")
    if image.std is not None:
        x = graph.node("Div", (x, column("image_std", image.std)), "image_scaled")
    elif image.scale != 1:
        x = graph.node("Mul", (x, column("image_scale", (image.scale,))), "image_scaled")
    return x


def choose_mean(image: ImageInput, weights: WeightsFile) -> tuple[tuple[float, ...], MeanFrom]:
    """The mean that the spec writes, else the one kept with the weights, else ILSVRC's."""
    if image.mean is not None:
        return image.mean, "spec"
    measured = weights.metadata.mean
    if measured is not None and len(measured) == image.channels:
        return measured, "weights"
    red, green, blue = ILSVRC_MEAN
    if image.color == "gray":
        # The luma of ITU-R BT.601, by which images are made gray.
        return (0.299 * red + 0.587 * green + 0.114 * blue,), "ILSVRC"
    return (ILSVRC_MEAN if image.color == "RGB" else ILSVRC_MEAN[::-1]), "ILSVRC"


def write_bundle(
    lowered: Lowered, weights: WeightsFile, out: str | os.PathLike[str], options: OnnxOptions
) -> Written:
    """Write a bundle, whole or not at all; a bundle that stands at ``out`` is replaced.

    Raises:
        VggspecError: the weights are another net's, the options do not fit the net, something
            that is no bundle is in the way, or the system refuses.
    """
    target = Path(out)
    check_place(target)
    network = prepare(lowered.network, options)
    mean, mean_from = choose_mean(network.input, weights)
    is_dynamic = options.form == "dense"
    model = emit(
        network,
        weights,
        contract=options.contract,
        mean=mean,
        is_dynamic=is_dynamic,
        embed=options.single_file,
    )
    with replacing_folder(target) as folder:
        (folder / MODEL).parent.mkdir()
        with open(folder / MODEL, "wb") as file:
            file.write(model.SerializeToString())
        del model
        files = [file_entry(folder, MODEL)]
        by: Literal["link", "clone", "copy", "embedding"] = "embedding"
        if not options.single_file:
            by = place(weights.path, folder / WEIGHTS, copy=options.copy_weights)
            files.append(
                FileEntry(
                    path=WEIGHTS,
                    bytes=weights.bytes,
                    sha256=weights.data_sha256(),
                    from_byte=weights.data_start,
                )
            )
        manifest = _manifest(lowered, network, weights, options, mean, tuple(files))
        (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return Written(manifest, mean_from, by)


def check_place(target: Path) -> None:
    """Make sure that nothing but a bundle would be replaced.

    Raises:
        VggspecError: something else is in the way.
    """
    if target.is_dir():
        if (target / MANIFEST).is_file() or not any(target.iterdir()):
            return
        what = "a folder that is not a bundle"
    elif target.exists() or target.is_symlink():
        what = "a file"
    else:
        return
    raise VggspecError(report(artefacts.InTheWay(what=what), path=str(target)))


def _manifest(
    lowered: Lowered,
    network: Network,
    weights: WeightsFile,
    options: OnnxOptions,
    mean: tuple[float, ...],
    files: tuple[FileEntry, ...],
) -> Manifest:
    image = network.input
    source = lowered.spec.source
    labels = weights.metadata.labels
    outputs = tuple(
        OutputContract(
            name=output.name,
            kind=cast("OutputKind", output.name),
            channels=network.type_of(output.layer).channels,
            is_map=network.type_of(output.layer).is_map,
        )
        for output in network.outputs
    )
    size = (image.height, image.width)
    map_size, stride = _score_map(network)
    return Manifest(
        net=network.name,
        spec_text=source.text,
        spec_sha256=hashlib.sha256(source.text.encode()).hexdigest(),
        form=options.form,
        average=options.average,
        input=InputContract(
            contract=options.contract,
            color=image.color,
            mean=mean,
            std=image.std,
            scale=image.scale,
            size=least_size(network) if options.form == "dense" else size,
            is_dynamic=options.form == "dense",
        ),
        outputs=outputs,
        # What is left of the input when the other positions' steps are taken off.
        window=(
            size[0] - stride[0] * (map_size[0] - 1),
            size[1] - stride[1] * (map_size[1] - 1),
        ),
        stride=stride,
        labels=labels if labels and len(labels) == outputs[0].channels else None,
        test=lowered.experiment.test,
        precision="fp32",
        tools={"vggspec": __version__, "onnx": onnx.__version__, "opset": str(OPSET)},
        files=files,
    )


def least_size(network: Network) -> tuple[int, int]:
    """The smallest image, rows and columns, that a fully convolutional network takes."""

    def fits(height: int, width: int) -> bool:
        try:
            network.at(height, width)
        except VggspecError:
            return False
        return True

    height, width = network.input.height, network.input.width
    least_height = smallest(lambda n: fits(n, width), height)
    least_width = smallest(lambda n: fits(height, n), width)
    assert least_height is not None
    assert least_width is not None
    return least_height, least_width


def _score_map(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the class score map, and pixels from one position to the next."""
    maps = [layer for layer in cost(network).layers if len(layer.output) == 3]
    before_average = [layer for layer in maps if layer.output[1:] != (1, 1)]
    if AVERAGE not in network or not before_average:
        return (1, 1), maps[-1].stride if maps else (1, 1)
    last = network.type_of(network[AVERAGE].inputs[0])
    stride = {layer.name: layer.stride for layer in maps}[network[AVERAGE].inputs[0]]
    return last.size, stride
