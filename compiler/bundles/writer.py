"""A bundle with an ONNX graph, written whole or not at all, and what every bundle is made of."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import onnx

from vggspec.base.catalogue import artefacts
from vggspec.base.catalogue.engines import OnnxWithoutBf16
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import place, replacing_folder
from vggspec.base.version import __version__
from vggspec.bundle.manifest import (
    MANIFEST,
    MODEL,
    REFERENCE,
    WEIGHTS,
    FileEntry,
    InputContract,
    Manifest,
    OutputContract,
    OutputKind,
    file_entry,
)
from vggspec.compiler.backends.onnx.graph import OPSET
from vggspec.compiler.backends.onnx.model import OnnxOptions, emit, prepare
from vggspec.compiler.bundles import deepstream, triton
from vggspec.compiler.cost import cost
from vggspec.compiler.input_contract import MeanFrom, known_mean, settled, with_input
from vggspec.compiler.ir import ImageInput, Network, smallest
from vggspec.compiler.lower import Lowered
from vggspec.compiler.passes.average_over_space import AVERAGE
from vggspec.compiler.precision import number_types
from vggspec.compiler.weights import WeightsFile, checked, for_net

WeightsBy = Literal["link", "clone", "copy", "embedding"]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    manifest: Manifest
    mean_from: MeanFrom
    weights_by: WeightsBy
    notes: tuple[str, ...] = ()
    """What of the options had no effect, in words."""


def input_of(contract: InputContract, lowered: Lowered) -> ImageInput:
    """The input of a net as a bundle takes it."""
    image = lowered.network.input
    return replace(image, mean=contract.mean, std=contract.std, scale=contract.scale)


def write_bundle(
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    options: OnnxOptions,
    *,
    like: Manifest | None = None,
    refer: bool = False,
) -> Written:
    """Write a bundle with an ONNX graph; a bundle that stands at ``out`` is replaced.

    ``like`` is the manifest of a bundle of the same net and weights, whose input, labels and test
    protocol are kept. With ``refer`` the weights are a symbolic link, for a bundle that is removed
    before they are.

    Raises:
        VggspecError: the weights are another net's, the options do not fit the net, something
            that is no bundle is in the way, or the system refuses; numbers of the weights are not
            finite, or, where they are read, not those that their header tells of.
    """
    target = Path(out)
    check_place(target)
    inside = Path(os.path.realpath(weights.path)).is_relative_to(os.path.realpath(target))
    if options.single_file and inside:  # and would go with the bundle that is replaced
        what = artefacts.InTheWay(what="a bundle with the weights file that is read")
        raise VggspecError(report(what, path=str(target)))
    if options.precision == "bf16":
        raise VggspecError(report(OnnxWithoutBf16(), path=f"net {lowered.network.name}"))
    mean_from: MeanFrom
    if like is None:
        lowered, mean_from = settled(lowered, weights)
    else:
        lowered, mean_from = with_input(lowered, input_of(like.input, lowered)), "bundle"
    network = prepare(lowered.network, options)
    types = number_types(network, options.precision, options.keep_fp32)
    mean = known_mean(network.input)
    if like is None:
        weights = for_net(weights, network, is_read=options.single_file)
    model = emit(
        network,
        weights,
        contract=options.contract,
        mean=mean,
        is_dynamic=options.form == "dense",
        types=types,
        weights_as="embedded" if options.single_file else "external",
    )
    with replacing_folder(target) as folder:
        write_model(folder / MODEL, model)
        del model
        files = [file_entry(folder, MODEL)]
        by: WeightsBy = "embedding"
        if not options.single_file:
            by, entry = place_weights(folder, weights, copy=options.copy_weights, refer=refer)
            files.append(entry)
            if options.precision != "fp32":
                files.append(write_reference(folder, network, weights, options, mean))
        manifest = make_manifest(lowered, network, weights, options, tuple(files))
        if like is not None:
            is_labelled = manifest.result.kind == like.result.kind
            labels = like.labels if is_labelled else None
            manifest = replace(manifest, labels=labels, test=like.test)
        write_texts(folder, manifest)
    return Written(manifest, mean_from, by)


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Write a graph into a bundle that is being written."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


def place_weights(
    folder: Path, weights: WeightsFile, *, copy: bool, refer: bool = False, path: str = WEIGHTS
) -> tuple[WeightsBy, FileEntry]:
    """Put the weights into a bundle that is being written: how, and the manifest's entry.

    Raises:
        VggspecError: they were copied, and are not those that their header tells of.
    """
    (folder / path).parent.mkdir(exist_ok=True)
    by = place(weights.path, folder / path, copy=copy, refer=refer)
    if by == "copy":
        weights = checked(weights, (), is_read=True)
    entry = FileEntry(
        path=path,
        bytes=weights.bytes,
        sha256=weights.data_sha256(),
        from_byte=weights.data_start,
        is_stated=not weights.is_read,
    )
    return by, entry


def write_reference(
    folder: Path,
    network: Network,
    weights: WeightsFile,
    options: OnnxOptions,
    mean: tuple[float, ...],
) -> FileEntry:
    """The same net in fp32, for ONNX Runtime, on the weights beside it."""
    is_dynamic = options.form == "dense"
    model = emit(network, weights, contract=options.contract, mean=mean, is_dynamic=is_dynamic)
    write_model(folder / REFERENCE, model)
    return file_entry(folder, REFERENCE, is_needed=False)


def write_texts(folder: Path, manifest: Manifest) -> None:
    """The manifest, and what servers read in its place.

    What servers read is not in the manifest's list of files: it is there to be edited.
    """
    for name, text in (
        (MANIFEST, manifest.to_json()),
        (triton.CONFIG, triton.config(manifest)),
        (triton.LABELS, triton.labels(manifest)),
        (deepstream.CONFIG, deepstream.config(manifest)),
        (deepstream.LABELS, deepstream.labels(manifest)),
    ):
        if text is not None:
            (folder / name).write_text(text, "utf-8", newline="\n")


def _kept(network: Network, options: OnnxOptions) -> tuple[str, ...]:
    """The layers with weights that stay in fp32 where the others do not."""
    if options.precision == "fp32":
        return ()
    return tuple(layer.name for layer in network.layers if layer.name in options.keep_fp32)


def check_place(target: Path) -> None:
    """Make sure that nothing but a bundle would be replaced.

    Raises:
        VggspecError: something else is in the way.
    """
    if target.is_dir():
        if (target / MANIFEST).is_file() or not any(target.iterdir()):
            return
        what = "a folder that is not a bundle"
    elif target.exists():
        what = "a file"
    else:
        return
    raise VggspecError(report(artefacts.InTheWay(what=what), path=str(target)))


def make_manifest(
    lowered: Lowered,
    network: Network,
    weights: WeightsFile,
    options: OnnxOptions,
    files: tuple[FileEntry, ...],
) -> Manifest:
    """The manifest of a bundle with a graph; that of an engine says more (``engine_bundle``)."""
    image = network.input
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
    window, stride = window_and_stride(lowered.network, options)

    def is_same(others: OnnxOptions) -> bool:
        return prepare(lowered.network, others) == network

    return Manifest(
        net=network.name,
        spec_text=lowered.text,
        spec_sha256=hashlib.sha256(lowered.text.encode()).hexdigest(),
        form=options.form,
        average=options.average,
        input=InputContract(
            contract=options.contract,
            color=image.color,
            mean=known_mean(image),
            std=image.std,
            scale=image.scale,
            size=least_size(network) if options.form == "dense" else size,
            is_dynamic=options.form == "dense",
        ),
        outputs=outputs,
        window=window,
        stride=stride,
        pool=None if is_same(replace(options, pool=None)) else options.pool,
        finer_stride=None if is_same(replace(options, stride=None)) else options.stride,
        layer=options.layer,
        labels=labels_of(weights, outputs[0]),
        test=lowered.experiment.test,
        precision=options.precision,
        fp32_layers=_kept(network, options),
        tools={"vggspec": __version__, "onnx": onnx.__version__, "opset": str(OPSET)},
        files=files,
    )


def labels_of(weights: WeightsFile, result: OutputContract) -> tuple[str, ...] | None:
    """The labels that came with the weights, where they name the numbers of the output."""
    labels = weights.metadata.labels
    if result.kind == "features" or not labels or not result.is_of(len(labels)):
        return None
    return labels


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


def window_and_stride(
    network: Network, options: OnnxOptions
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What one position of the score map sees of the image, and how far it is to the next one.

    ``network`` is as the spec has it. What a position sees is what it sees in the net's own form:
    where pooling rounds up, a finer map has positions past it.
    """
    map_size, own_stride = _score_map(prepare(network, OnnxOptions(form=options.form)))
    # What is left of the input when the other positions' steps are taken off.
    height, width = (
        side - step * (number - 1)
        for side, step, number in zip(network.input.type.size, own_stride, map_size, strict=True)
    )
    _, stride = _score_map(prepare(network, options))
    return (height, width), stride


def _score_map(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the class score map, or of that of boxes, and pixels from one position to
    the next.
    """
    maps = [layer for layer in cost(network).layers if len(layer.output) == 3]
    before_average = [layer for layer in maps if layer.output[1:] != (1, 1)]
    # Boxes are not averaged: the last layer's map is theirs.
    last = network[AVERAGE].inputs[0] if AVERAGE in network else network.outputs[0].layer
    if not network.type_of(last).is_map or not before_average:
        return (1, 1), maps[-1].stride if maps else (1, 1)
    stride = {layer.name: layer.stride for layer in maps}[last]
    return network.type_of(last).size, stride
