"""A bundle written to disk, whole or not at all: an ONNX graph or a TensorRT engine, its manifest,
and what goes with them.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast

import onnx

from vggspec import __version__
from vggspec.bundle import (
    LAYERS,
    MANIFEST,
    MODEL,
    PLAN,
    REFERENCE,
    WEIGHTS,
    FileEntry,
    InputContract,
    Manifest,
    OutputContract,
    OutputKind,
    file_entry,
)
from vggspec.catalogue import artefacts
from vggspec.catalogue.engines import OnnxWithoutBf16, ProfileOutOfReach, WeightsChanged
from vggspec.compiler.backends import deepstream, tensorrt_engine, triton
from vggspec.compiler.backends.onnx_graph import OPSET
from vggspec.compiler.backends.onnx_model import OnnxOptions, emit, prepare
from vggspec.compiler.backends.tensorrt_engine import Built, EngineOptions, Watcher
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import ImageInput, Network, smallest
from vggspec.compiler.lower import Lowered
from vggspec.compiler.passes.average_over_space import AVERAGE
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounding import rounded
from vggspec.compiler.weights import WeightsFile
from vggspec.diagnostic import VggspecError, report
from vggspec.files import place, replacing_folder
from vggspec.profile import Profile, derive_profiles

#: Mean of the ILSVRC training images, RGB, 0 to 255: what the paper's nets subtract.
ILSVRC_MEAN = (123.68, 116.779, 103.939)

HASHED_AT_A_TIME = 4 << 20  # bytes

MeanFrom = Literal["spec", "weights", "ILSVRC"]
WeightsBy = Literal["link", "clone", "copy", "embedding"]


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    manifest: Manifest
    mean_from: MeanFrom
    weights_by: WeightsBy
    notes: tuple[str, ...] = ()
    """What of the options had no effect, in words."""


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
    """Write a bundle with an ONNX graph; a bundle that stands at ``out`` is replaced.

    Raises:
        VggspecError: the weights are another net's, the options do not fit the net, something
            that is no bundle is in the way, or the system refuses.
    """
    target = Path(out)
    check_place(target)
    if options.precision == "bf16":
        raise VggspecError(report(OnnxWithoutBf16(), path=f"net {lowered.network.name}"))
    network = prepare(lowered.network, options)
    types = number_types(network, options.precision, options.keep_fp32)
    mean, mean_from = choose_mean(network.input, weights)
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
        _write_model(folder / MODEL, model)
        del model
        files = [file_entry(folder, MODEL)]
        by: WeightsBy = "embedding"
        if not options.single_file:
            by, entry = place_weights(folder, weights, copy=options.copy_weights)
            files.append(entry)
            if options.precision != "fp32":
                files.append(write_reference(folder, network, weights, options, mean))
        manifest = _manifest(lowered, network, weights, options, mean, tuple(files))
        write_texts(folder, manifest)
    return Written(manifest, mean_from, by)


def write_engine_bundle(
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    options: OnnxOptions,
    engine_options: EngineOptions,
    watcher: Watcher,
) -> Written:
    """Write a bundle with a TensorRT engine; a bundle that stands at ``out`` is replaced.

    The weights are beside the plan only for the fp32 graph that the engine is verified against;
    both may be deleted.

    Raises:
        VggspecError: as ``write_bundle``; or the engine cannot be built, or is not as asked.
        MissingLibraryError: that flavour of TensorRT is not installed.
    """
    target = Path(out)
    check_place(target)
    network = prepare(lowered.network, options)
    check_profiles(network, options, engine_options)
    types = number_types(network, options.precision, options.keep_fp32)
    mean, mean_from = choose_mean(network.input, weights)
    is_dynamic = options.form == "dense"

    def graph(weights_as: Literal["declared", "external"]) -> onnx.ModelProto:
        return emit(
            network,
            weights,
            contract=options.contract,
            mean=mean,
            is_dynamic=is_dynamic,
            types=types,
            weights_as=weights_as,
        )

    with replacing_folder(target) as folder:
        by, weights_entry = place_weights(folder, weights, copy=options.copy_weights)

        def write_graph() -> Path:
            _write_model(folder / MODEL, graph("external"))
            return folder / MODEL

        model = graph("declared").SerializeToString()
        arrays = rounded(weights, weight_types(network, types))
        manifest = _manifest(lowered, network, weights, options, mean, ())
        with checking(weights) as check:
            built = tensorrt_engine.build(
                model,
                arrays,
                network,
                types,
                engine_options,
                plan_name(manifest, weights),
                folder / PLAN,
                watcher,
                write_graph,
            )
            del arrays
            check()
        (folder / MODEL).unlink(missing_ok=True)
        _write_layers(folder, built)
        files = [
            FileEntry(path=PLAN, bytes=(folder / PLAN).stat().st_size, sha256=built.plan_sha256),
            replace(weights_entry, is_needed=False),
            write_reference(folder, network, weights, options, mean),
            file_entry(folder, LAYERS, is_needed=False),
        ]
        tools = {**manifest.tools, built.engine.flavour: built.engine.version}
        manifest = replace(
            manifest, model=PLAN, engine=built.engine, files=tuple(files), tools=tools
        )
        write_texts(folder, manifest)
    return Written(manifest, mean_from, by, built.notes)


def default_profiles(
    lowered: Lowered, options: OnnxOptions, max_batch: int | None = None
) -> tuple[Profile, ...]:
    """The profiles that the spec's ``test:`` section asks for.

    Raises:
        VggspecError: a scale is smaller than the net's window.
    """
    network = prepare(lowered.network, options)
    size = network.input.type.size
    is_dynamic = options.form == "dense"
    return derive_profiles(
        lowered.experiment.test,
        least=least_size(network) if is_dynamic else size,
        window=window_and_stride(network)[0] if is_dynamic else size,
        is_dynamic=is_dynamic,
        max_batch=max_batch,
    )


def check_profiles(network: Network, options: OnnxOptions, engine: EngineOptions) -> None:
    """Make sure that the net takes every size that the profiles promise.

    Raises:
        VggspecError: one is too small, or differs from the one size of a crop.
    """
    for profile in engine.profiles:
        for _, height, width in (profile.min, profile.max):
            reason = None
            if options.form == "crop" and (height, width) != network.input.type.size:
                own = " x ".join(map(str, network.input.type.size))
                reason = f"compiled with `--crop` it takes {own} pixels only"
            elif options.form == "dense":
                try:
                    network.at(height, width)
                except VggspecError as error:
                    reason = f"{height} x {width}: {error.reports[0].what.title()}"
            if reason is not None:
                what = ProfileOutOfReach(profile=str(profile), reason=reason)
                raise VggspecError(report(what, path=f"net {network.name}"))


def plan_name(manifest: Manifest, weights: WeightsFile) -> str:
    """The network's name inside the plan: the least that identifies it, as JSON.

    An inspector shows it, and ``ICudaEngine.name`` gives it back, so a plan without its manifest
    still says what it is.
    """
    contract = manifest.input
    return json.dumps(
        {
            "vggspec": __version__,
            "net": manifest.net,
            "form": manifest.form,
            "precision": manifest.precision,
            "spec": manifest.spec_sha256[:12],
            "weights": weights.data_sha256()[:12],
            "contract": contract.contract,
            "color": contract.color,
            "mean": contract.mean,
            "std": contract.std,
            "scale": contract.scale,
        },
        separators=(",", ":"),
    )


@contextmanager
def checking(weights: WeightsFile) -> Iterator[Callable[[], None]]:
    """Hash the weights while something else goes on; the function given waits and compares."""
    expected = weights.metadata.data_sha256
    found = hashlib.sha256()
    stop = threading.Event()

    def read() -> None:
        buffer = memoryview(bytearray(HASHED_AT_A_TIME))
        with open(weights.path, "rb", buffering=0) as file:
            file.seek(weights.data_start)
            while not stop.is_set() and (number := file.readinto(buffer)):
                found.update(buffer[:number])

    thread = threading.Thread(target=read, name="weights-digest")

    def check() -> None:
        thread.join()
        if found.hexdigest() != expected:
            raise VggspecError(report(WeightsChanged(), path=str(weights.path)))

    if expected is None:  # a stranger's file; what was computed of it is all there is
        yield lambda: None
        return
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()


def _write_model(path: Path, model: onnx.ModelProto) -> None:
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.write(model.SerializeToString())


def place_weights(folder: Path, weights: WeightsFile, *, copy: bool) -> tuple[WeightsBy, FileEntry]:
    """Put the weights into a bundle that is being written: how, and the manifest's entry."""
    (folder / WEIGHTS).parent.mkdir(exist_ok=True)
    by = place(weights.path, folder / WEIGHTS, copy=copy)
    entry = FileEntry(
        path=WEIGHTS,
        bytes=weights.bytes,
        sha256=weights.data_sha256(),
        from_byte=weights.data_start,
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
    _write_model(folder / REFERENCE, model)
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


def _write_layers(folder: Path, built: Built) -> None:
    layers = [asdict(layer) for layer in built.layers]
    text = json.dumps({"from": built.layers_from, "layers": layers}, indent=1)
    (folder / LAYERS).write_text(text + "\n", "utf-8")


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
    window, stride = window_and_stride(network)
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
        window=window,
        stride=stride,
        labels=labels if labels and len(labels) == outputs[0].channels else None,
        test=lowered.experiment.test,
        precision=options.precision,
        fp32_layers=_kept(network, options),
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


def window_and_stride(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """What one position of the score map sees of the image, and how far it is to the next one."""
    map_size, stride = _score_map(network)
    # What is left of the input when the other positions' steps are taken off.
    height, width = (
        side - step * (number - 1)
        for side, step, number in zip(network.input.type.size, stride, map_size, strict=True)
    )
    return (height, width), stride


def _score_map(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the class score map, and pixels from one position to the next."""
    maps = [layer for layer in cost(network).layers if len(layer.output) == 3]
    before_average = [layer for layer in maps if layer.output[1:] != (1, 1)]
    if AVERAGE not in network or not before_average:
        return (1, 1), maps[-1].stride if maps else (1, 1)
    last = network.type_of(network[AVERAGE].inputs[0])
    stride = {layer.name: layer.stride for layer in maps}[network[AVERAGE].inputs[0]]
    return last.size, stride
