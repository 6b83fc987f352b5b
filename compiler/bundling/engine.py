"""A bundle with a TensorRT engine.

The weights are beside the plan only for the fp32 graph that the engine is verified against; both
may be deleted.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import onnx

from vggspec.base.catalogue.artefacts import ChangedWeights
from vggspec.base.catalogue.engines import ProfileOutOfReach
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.version import __version__
from vggspec.base.watcher import SILENT, Watcher
from vggspec.bundle.manifest import BYTES, LAYERS, MODEL, PLAN, FileEntry, Manifest
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.profile import BatchShape, Profile, derive_profiles
from vggspec.bundle.sizes import Size, check_ranges, continued
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.backends.tensorrt import build as tensorrt_engine
from vggspec.compiler.backends.tensorrt.build import Built
from vggspec.compiler.backends.tensorrt.network import Ports
from vggspec.compiler.bundling.description import (
    describe,
    position_of,
    sizes_of,
    window_and_stride,
)
from vggspec.compiler.bundling.graph import add_factors, add_reference
from vggspec.compiler.bundling.staging import Staging, WrittenBundle, check_place, write
from vggspec.compiler.cost import run_cost
from vggspec.compiler.factors import read_factors
from vggspec.compiler.input_contract import known_mean, settled
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounded_weights import rounded
from vggspec.compiler.weights import WeightsFile, for_net, reading

HASHED_AT_A_TIME = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """What a profile of an engine costs."""

    profile: Profile
    macs: int
    """Multiply-accumulates at the profile's usual shape."""

    activation_bytes: int
    """Memory for activations at its largest shape."""


Planned = Callable[[Sequence[ProfileCost]], None]


def write_engine_bundle(
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    options: CompileOptions,
    watch: Watcher = SILENT,
    planned: Planned = lambda _: None,
) -> WrittenBundle:
    """Write a bundle with a TensorRT engine; a bundle at ``out`` is replaced.

    ``options.engine`` names the flavour; without profiles it has those of the spec's ``test:``.
    ``planned`` is called with the profiles' costs before the build.

    Raises:
        VggspecError: as ``write_bundle``; the weights, which are all read, differ from the digest
            in their header; or the engine cannot be built, or is not as asked for.
        MissingLibraryError: that flavour of TensorRT is not installed.
    """
    assert options.engine is not None
    target = Path(out)
    check_place(target)
    options = options.settled(lowered.experiment.test)
    asked = options.engine
    assert asked is not None
    lowered, mean_from = settled(lowered, weights)
    network = prepare(lowered.network, options)
    factors = read_factors(options.factors, lowered.network) if options.distance else None
    profiles = asked.profiles or default_profiles(lowered, options)
    fitting = sizes_of(lowered.network, options)
    check_ranges(profiles, fitting.sizes, path=f"net {network.name}", is_derived=not asked.profiles)
    check_profiles(network, options, profiles)
    planned(costs(network, options, profiles))
    types = number_types(network, options.precision, options.keep_fp32)
    is_int8 = options.precision == "int8"
    weights = for_net(weights, network, is_read=is_int8)
    described = describe(lowered, network, weights, options)
    quantised = None
    if is_int8:
        from vggspec.compiler.quantising.quantise import quantise

        quantised = quantise(lowered, weights, options, described, watch)
    notes: list[str] = []

    def graph(weights_as: Literal["declared", "external"]) -> onnx.ModelProto:
        if quantised is not None:
            return quantised.model
        return emit(
            network,
            weights,
            contract=options.contract,
            mean=known_mean(network.input),
            is_dynamic=options.is_dense,
            types=types,
            weights_as=weights_as,
            factors=factors,
        )

    def produce(staging: Staging) -> Manifest:
        staging.add_weights(weights, link=options.link_weights, is_needed=False)
        model = graph("declared").SerializeToString()
        arrays, built_net, built_types, manifest = {}, network, types, described
        if quantised is None:
            arrays = rounded(weights, weight_types(network, types))
        else:
            built_net, manifest = quantised.network, quantised.described(described)
            built_types = number_types(built_net, "int8", quantised.kept)
        with checking(weights) as check:
            built = tensorrt_engine.build(
                model,
                arrays,
                built_net,
                built_types,
                asked,
                profiles,
                plan_name(manifest, weights),
                staging.folder / PLAN,
                lambda: staging.write_graph(MODEL, graph("external")),
                watch,
                Ports(manifest.inputs, tuple(output.name for output in manifest.outputs)),
            )
            del arrays
            check()
        (staging.folder / MODEL).unlink(missing_ok=True)
        size = (staging.folder / PLAN).stat().st_size
        # Hashed while it was written.
        staging.files.insert(0, FileEntry(path=PLAN, bytes=size, sha256=built.plan_sha256))
        add_reference(staging, network, weights, options, factors)
        if factors is not None and options.factors is not None:
            add_factors(staging, factors)
        _add_layers(staging, built)
        notes.extend(built.notes)
        tools = {**manifest.tools, built.engine.flavour: built.engine.version}
        return replace(manifest, model=PLAN, engine=built.engine, tools=tools)

    written = write(target, produce, mean_from=(mean_from,))
    return replace(written, notes=tuple(notes))


def costs(
    network: Network, options: CompileOptions, profiles: Sequence[Profile]
) -> tuple[ProfileCost, ...]:
    """The cost of each profile."""
    types = number_types(network, options.precision, options.keep_fp32)
    sizes = {name: BYTES[precision] for name, precision in types.items()}

    def images(shape: BatchShape) -> BatchShape:
        pairs, rows, columns = shape
        return (2 * pairs if options.distance else pairs), rows, columns

    return tuple(
        ProfileCost(
            profile,
            run_cost(network, images(profile.opt), sizes).macs,
            run_cost(network, images(profile.max), sizes).bytes,
        )
        for profile in profiles
    )


def default_profiles(lowered: Lowered, options: CompileOptions) -> tuple[Profile, ...]:
    """The profiles that the spec's ``test:`` section asks for: of its scales for an engine that
    compares pictures, which has neither crops nor mirror images.

    Raises:
        VggspecError: a scale is smaller than the net's window.
    """
    network = prepare(lowered.network, options)
    size = network.input.type.size
    test = lowered.experiment.test
    fitting = sizes_of(lowered.network, options)

    def taken(size: Size) -> Size:
        """What a net that labels pixels is given of an image of ``size``."""
        position = position_of(lowered.network, network, network.outputs[0])
        if position is None or position.place is None:
            return size
        margin = position.margin
        return continued(size, margin=margin, least=fitting.least, sizes=fitting.sizes)

    return derive_profiles(
        replace(test, dense=True, crops=None, flip=False) if options.distance else test,
        least=fitting.least,
        window=window_and_stride(lowered.network, options)[0] if options.is_dense else size,
        is_dynamic=options.is_dense,
        taken=taken,
        max_batch=None if options.engine is None else options.engine.max_batch,
    )


def check_profiles(network: Network, options: CompileOptions, profiles: Sequence[Profile]) -> None:
    """Make sure that the net takes every size that the profiles promise.

    Raises:
        VggspecError: one is too small, or differs from the one size of a crop.
    """
    for profile in profiles:
        for _, height, width in (profile.min, profile.max):
            reason = None
            if not options.is_dense and (height, width) != network.input.type.size:
                own = " x ".join(map(str, network.input.type.size))
                reason = f"compiled with `--crop` it takes {own} pixels only"
            elif options.is_dense:
                try:
                    network.at(height, width)
                except VggspecError as error:
                    reason = f"{height} x {width}: {error.reports[0].what.title()}"
            if reason is not None:
                what = ProfileOutOfReach(profile=str(profile), reason=reason)
                raise VggspecError(report(what, path=f"net {network.name}"))


def plan_name(manifest: Manifest, weights: WeightsFile) -> str:
    """The network's name inside the plan: the least that identifies it, as JSON.

    An inspector shows it and ``ICudaEngine.name`` returns it, so that a plan can be identified
    without its manifest.
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
    """Hash the weights while other work runs; the function that it gives waits and compares."""
    stop = threading.Event()

    def read() -> str:
        found = hashlib.sha256()
        buffer = memoryview(bytearray(HASHED_AT_A_TIME))
        with reading(weights) as file:
            while not stop.is_set() and (number := file.readinto(buffer)):
                found.update(buffer[:number])
        return found.hexdigest()

    if weights.is_read:
        yield lambda: None
        return
    with ThreadPoolExecutor(1, "weights-digest") as pool:
        digest = pool.submit(read)

        def check() -> None:
            if digest.result() != weights.metadata.data_sha256:
                raise VggspecError(report(ChangedWeights(part="numbers"), path=str(weights.path)))

        try:
            yield check
        finally:
            stop.set()


def _add_layers(staging: Staging, built: Built) -> None:
    layers = [asdict(layer) for layer in built.layers]
    text = json.dumps({"from": built.layers_from, "layers": layers}, indent=1)
    (staging.folder / LAYERS).write_text(text + "\n", "utf-8")
    staging.add(LAYERS, is_needed=False)
