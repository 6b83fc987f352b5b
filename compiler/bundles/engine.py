"""A bundle with a TensorRT engine, written whole or not at all.

The weights are beside the plan only for the fp32 graph that the engine is verified against; both
may be deleted.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import onnx

from vggspec.base.catalogue.artefacts import ChangedWeights
from vggspec.base.catalogue.engines import ProfileOutOfReach
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import replacing_folder
from vggspec.base.version import __version__
from vggspec.bundle.manifest import LAYERS, MODEL, PLAN, FileEntry, Manifest, file_entry
from vggspec.bundle.profile import Profile, derive_profiles
from vggspec.compiler.backends.onnx.model import OnnxOptions, emit, prepare
from vggspec.compiler.backends.tensorrt import build as tensorrt_engine
from vggspec.compiler.backends.tensorrt.build import Built, EngineOptions, Watcher
from vggspec.compiler.bundles.writer import (
    Written,
    check_place,
    least_size,
    make_manifest,
    place_weights,
    window_and_stride,
    write_model,
    write_reference,
    write_texts,
)
from vggspec.compiler.input_contract import known_mean, settled
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounding import rounded
from vggspec.compiler.weights import WeightsFile, for_net

HASHED_AT_A_TIME = 4 << 20  # bytes


def write_engine_bundle(
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    options: OnnxOptions,
    engine_options: EngineOptions,
    watcher: Watcher,
) -> Written:
    """Write a bundle with a TensorRT engine; a bundle that stands at ``out`` is replaced.

    Raises:
        VggspecError: as ``write_bundle``; the weights, all of which are read, are not those that
            their header tells of; or the engine cannot be built, or is not as asked.
        MissingLibraryError: that flavour of TensorRT is not installed.
    """
    target = Path(out)
    check_place(target)
    lowered, mean_from = settled(lowered, weights)
    network = prepare(lowered.network, options)
    check_profiles(network, options, engine_options)
    types = number_types(network, options.precision, options.keep_fp32)
    mean = known_mean(network.input)
    weights = for_net(weights, network)
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
            write_model(folder / MODEL, graph("external"))
            return folder / MODEL

        model = graph("declared").SerializeToString()
        arrays = rounded(weights, weight_types(network, types))
        manifest = make_manifest(lowered, network, weights, options, ())
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
        window=window_and_stride(lowered.network, options)[0] if is_dynamic else size,
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
            raise VggspecError(report(ChangedWeights(part="numbers"), path=str(weights.path)))

    if weights.is_read:
        yield lambda: None
        return
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()


def _write_layers(folder: Path, built: Built) -> None:
    layers = [asdict(layer) for layer in built.layers]
    text = json.dumps({"from": built.layers_from, "layers": layers}, indent=1)
    (folder / LAYERS).write_text(text + "\n", "utf-8")
