"""A bundle in another form: with another average or rounding, with a finer stride, or up to a
layer.

It is compiled again from the spec in the manifest, with the same weights; ``varied`` refers to them
and takes kilobytes. Its input is the same: mean, scale and contract.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.variants import NoWeightsToVary, ProtocolNotVaried
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.recipe import Average, Form, Rounding
from vggspec.bundle.manifest import WEIGHTS, Manifest
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.net import lowered_of
from vggspec.compiler.weights import WeightsFile, open_weights
from vggspec.runtime.compatibility import compile_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Options that differ from those of a bundle; None keeps the bundle's."""

    form: Form | None = None
    average: Average | None = None
    keep_map: bool | None = None
    pool: Rounding | None = None
    stride: int | None = None
    layer: str | None = None

    def applied(self, options: CompileOptions) -> CompileOptions:
        """The options with the changes; a layer's activations have no score map beside them."""
        changed = {one.name: getattr(self, one.name) for one in fields(self)}
        if self.layer is not None and self.keep_map is None:
            changed["keep_map"] = False
        return replace(options, **{name: v for name, v in changed.items() if v is not None})


def write_variant(
    bundle: Bundle, out: str | os.PathLike[str], changes: Changes, *, refer: bool = False
) -> Bundle:
    """Write the bundle with the changes to ``out``. Where they change nothing, return ``bundle``
    itself and write nothing.

    The variant is a graph for ONNX Runtime: in the precision of the bundle, or in fp32 where the
    bundle contains an engine or is in int8, for which it would have to be calibrated. With
    ``refer`` its weights are a symbolic link to those of the bundle.

    Raises:
        VggspecError: the changes do not fit the net, or the bundle lacks its weights or a part of
            its spec.
    """
    if bundle.manifest.input.contract == "picture":
        raise VggspecError(report(ProtocolNotVaried(), path=str(bundle.path)))
    if bundle.manifest.compares:
        raise VggspecError(report(ComparesPictures(), path=str(bundle.path)))
    lowered = lowered_of(bundle)
    # A variant is a graph beside its weights, whatever the bundle is.
    before = replace(bundle.manifest.options, engine=None, single_file=False)
    options = changes.applied(before)
    network = prepare(lowered.network, options)
    is_same_form = options.is_dense == before.is_dense  # without FC layers only their sizes differ
    if is_same_form and network == prepare(lowered.network, before):
        return bundle
    if only_as_it_is(bundle.manifest) is not None:
        options = replace(options, precision="fp32", keep_fp32=())
    kept = tuple(name for name in options.keep_fp32 if name in network)
    options = replace(options, keep_fp32=kept)
    weights = _weights(bundle, options)
    written = write_bundle(lowered, weights, out, options, like=bundle.manifest, refer=refer)
    return Bundle(Path(out), written.manifest)


def only_as_it_is(manifest: Manifest) -> str | None:
    """What of a bundle no other form of it has, in words: its variants are fp32 graphs. None where
    they are like it.
    """
    if manifest.engine is not None:
        return "its engine"
    return "its int8 graph" if manifest.precision == "int8" else None


@contextmanager
def varied(bundle: Bundle, changes: Changes) -> Iterator[Bundle]:
    """The bundle with the changes, until the block ends.

    It is a temporary folder of some kilobytes that refers to the weights of the bundle. Errors
    within the block name ``bundle``.

    Raises:
        VggspecError: as ``write_variant``.
    """
    name = bundle.path.resolve().name
    with tempfile.TemporaryDirectory(prefix="vggspec-") as scratch:
        folder = Path(scratch)
        try:
            yield write_variant(bundle, folder / name, changes, refer=True)
        except VggspecError as error:
            reports = [_as_of(bundle, folder, each) for each in error.reports]
            raise VggspecError(*reports) from error


def _as_of(bundle: Bundle, folder: Path, one: Report) -> Report:
    """The report, naming the bundle that the user knows where it names the variant."""
    is_variant = one.path is not None and Path(one.path).is_relative_to(folder)
    return replace(one, path=str(bundle.path)) if is_variant else one


def _weights(bundle: Bundle, options: CompileOptions) -> WeightsFile:
    """The weights beside the model, with their digest from the manifest."""
    entry = next((entry for entry in bundle.manifest.files if entry.path == WEIGHTS), None)
    path = bundle.path / WEIGHTS
    if entry is None or not path.is_file():
        what = NoWeightsToVary(missing=WEIGHTS, commands=_commands(bundle, options))
        raise VggspecError(report(what, path=str(bundle.path)))
    weights = open_weights(path)
    return replace(weights, metadata=replace(weights.metadata, data_sha256=entry.sha256))


def _commands(bundle: Bundle, options: CompileOptions) -> tuple[str, ...]:
    """The commands that compile the variant where the weights are."""
    options = replace(options, engine=None, single_file=False)
    changed = replace(bundle.manifest, engine=None, options=options, files=())
    return compile_command(changed, bundle=str(bundle.path))
