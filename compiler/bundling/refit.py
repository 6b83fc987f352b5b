"""A bundle whose engine gets new weights.

What the engine is, and how TensorRT replaces its arrays, is in ``backends.tensorrt.refit``.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from vggspec.base.catalogue.refitting import (
    NeverRefitted,
    NoEngineToRefit,
    NotRefittable,
    OtherThanStripped,
)
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.files import place
from vggspec.base.version import __version__
from vggspec.bundle.digests import file_entry
from vggspec.bundle.engine import Refit
from vggspec.bundle.manifest import LAYERS, PLAN, WEIGHTS, Manifest
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.tensorrt.refit import EngineRefit, refit_of
from vggspec.compiler.bundling.description import labels_of
from vggspec.compiler.bundling.engine import checking
from vggspec.compiler.bundling.graph import add_reference
from vggspec.compiler.bundling.staging import Staging, WrittenBundle, check_place, write
from vggspec.compiler.input_contract import formula, known_mean, settled
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import WeightsFile, for_net
from vggspec.runtime.compatibility import compare_bundle, compile_command
from vggspec.runtime.machine import Machine
from vggspec.runtime.tensorrt import library as seam

#: What a machine may lack for a refit: it runs nothing, and brings the weights itself.
NOT_NEEDED = ("pycuda", "weights")


@dataclass(frozen=True, slots=True)
class Refitted:
    """What was written."""

    bundle: WrittenBundle
    num_arrays: int
    notes: tuple[str, ...]
    """What else changed, in words."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the new bundle."""
        return self.bundle.manifest


def check_engine(bundle: Bundle, weights: str | os.PathLike[str], machine: Machine) -> None:
    """Refuse a bundle whose engine takes no other weights, before anything else is checked.

    Raises:
        VggspecError: the bundle contains no engine, or one that is not refittable.
    """
    manifest, path = bundle.manifest, str(bundle.path)
    engine = manifest.engine
    if engine is None:
        raise VggspecError(report(NoEngineToRefit(weights=str(weights)), path=path))
    if manifest.compares or manifest.precision == "int8":
        kind = "that compares pictures" if manifest.compares else "in int8"
        commands = compile_command(manifest, bundle=path, machine=machine)
        raise VggspecError(report(NeverRefitted(kind=kind, commands=commands), path=path))
    if refit_of(engine) == "none":
        built = manifest.options.engine
        assert built is not None
        options = replace(manifest.options, engine=replace(built, refittable=True))
        refittable = replace(manifest, options=options)
        commands = compile_command(refittable, bundle=path, machine=machine)
        raise VggspecError(report(NotRefittable(commands=commands), path=path))


def check(bundle: Bundle, network: Network, weights: WeightsFile, machine: Machine) -> WeightsFile:
    """Refuse at once what cannot be refitted with these weights or on this machine; load nothing.

    Raises:
        VggspecError: as ``check_engine`` and ``for_net``; or the engine takes other weights.
        MissingLibraryError: the machine lacks something, or the engine is for another one.
    """
    check_engine(bundle, weights.path, machine)
    weights = for_net(weights, network)
    manifest = bundle.manifest
    assert manifest.engine is not None
    expected = next((entry.sha256 for entry in manifest.files if entry.path == WEIGHTS), "")
    found = weights.data_sha256()
    if refit_of(manifest.engine) == "identical" and found != expected:
        what = OtherThanStripped(expected=expected, found=found)
        raise VggspecError(report(what, path=str(weights.path)))
    for finding in compare_bundle(manifest, machine):
        if finding.level == "problem" and finding.subject not in NOT_NEEDED:
            raise MissingLibraryError(
                f"the engine cannot be refitted here: {finding.subject}: {finding.text};"
                f" `vggspec doctor {bundle.path}` lists everything"
            )
    return weights


def refit(
    bundle: Bundle,
    lowered: Lowered,
    weights: WeightsFile,
    out: str | os.PathLike[str],
    machine: Machine,
    *,
    link_weights: bool = False,
) -> Refitted:
    """Write a bundle with the engine of ``bundle`` and new weights; ``out`` may be that bundle.

    ``lowered`` is the net of the spec in the manifest. The plan, which is native code, is loaded.

    Raises:
        VggspecError: as ``check``; or the plan was changed, TensorRT refuses it or the weights, or
            some numbers of the engine would not be of the new weights.
        MissingLibraryError: as ``check``, or that flavour of TensorRT does not load.
    """
    target, manifest = Path(out), bundle.manifest
    check_place(target)
    options = replace(manifest.options, link_weights=link_weights)
    lowered, mean_from = settled(lowered, weights)
    network = prepare(lowered.network, options)
    weights = check(bundle, network, weights, machine)
    engine = manifest.engine
    assert engine is not None
    trt = seam.load(engine.flavour, "refitting an engine")
    # Only now: a plan is native code.
    data = bundle.read_model()
    num_arrays = 0

    def produce(staging: Staging) -> Manifest:
        nonlocal num_arrays
        folder = staging.folder
        staging.add_weights(weights, link=link_weights, is_needed=False)
        work = EngineRefit(trt, bundle, network, weights, options)
        with checking(weights) as check_digest:
            num_arrays = work.run(data, folder)
            check_digest()
        refit_left = work.refit_left(folder / PLAN)
        staging.files.insert(0, file_entry(folder, PLAN))
        add_reference(staging, network, weights, options)
        if (bundle.path / LAYERS).is_file():
            place(bundle.path / LAYERS, folder / LAYERS)
            staging.add(LAYERS, is_needed=False)
        image = network.input
        return replace(
            manifest,
            options=_options_now(options, refit_left),
            input=replace(manifest.input, mean=known_mean(image), std=image.std, scale=image.scale),
            labels=labels_of(weights, manifest.result),
            engine=replace(engine, refit=refit_left, is_stripped=False),
            model=PLAN,
            tools={**manifest.tools, "vggspec": __version__, "onnx": onnx.__version__},
        )

    written = write(target, produce, mean_from=(mean_from,))
    return Refitted(written, num_arrays, tuple(_changes(manifest, written.manifest)))


def _options_now(options: CompileOptions, refit_left: Refit) -> CompileOptions:
    """The options that build the refitted engine: it has its weights."""
    assert options.engine is not None
    engine = replace(options.engine, strip_weights=False, refittable=refit_left != "none")
    return replace(options, engine=engine)


def _changes(before: Manifest, after: Manifest) -> Iterable[str]:
    """What came with the weights, apart from the weights themselves."""
    if after.input.mean != before.input.mean:
        old, new = (" ".join(f"{n:g}" for n in each.input.mean) for each in (before, after))
        yield f"mean: {new} from now on, and {old} before"
    if (after.input.std, after.input.scale) != (before.input.std, before.input.scale):
        old, new = (
            formula(each.input.mean, each.input.std, each.input.scale) for each in (before, after)
        )
        yield f"input: {new} from now on, and {old} before"
    if after.labels != before.labels:
        yield (
            "labels: those of the new weights, which differ from the old ones"
            if after.labels
            else "labels: the new weights have none, so classes are shown by number"
        )
    assert after.engine is not None
    if after.engine.refit == "none":
        yield "this TensorRT makes an engine that takes weights only once: refit the old one again"
