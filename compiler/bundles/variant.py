"""A bundle in another form: averaged or rounded in another way, with a finer stride, or up to a
layer.

It is compiled anew from the spec in the manifest and points at the same weights, so it takes
kilobytes and no time. What it takes is the same: mean, scale, and the contract of its input.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vggspec.base.catalogue.variants import NoWeightsToVary, ProtocolNotVaried
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.recipe import Average, Rounding
from vggspec.bundle.manifest import WEIGHTS, Bundle, OutputContract
from vggspec.compiler.backends.onnx.model import OnnxOptions, prepare
from vggspec.compiler.bundles.net import lowered_of, options_of
from vggspec.compiler.bundles.writer import write_bundle
from vggspec.compiler.passes import Form
from vggspec.compiler.weights import WeightsFile, open_weights
from vggspec.runtime.compatibility import compile_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is to be other than in a bundle; None leaves it."""

    form: Form | None = None
    average: Average | None = None
    keep_map: bool | None = None
    pool: Rounding | None = None
    stride: int | None = None
    layer: str | None = None

    def applied(self, options: OnnxOptions) -> OnnxOptions:
        """The options with the changes; a layer's numbers have no score map beside them."""
        if self.layer is not None:
            options = replace(options, keep_map=False)
        return replace(
            options,
            form=options.form if self.form is None else self.form,
            average=options.average if self.average is None else self.average,
            keep_map=options.keep_map if self.keep_map is None else self.keep_map,
            pool=options.pool if self.pool is None else self.pool,
            stride=options.stride if self.stride is None else self.stride,
            layer=options.layer if self.layer is None else self.layer,
        )


def write_variant(
    bundle: Bundle, out: str | os.PathLike[str], changes: Changes, *, refer: bool = False
) -> Bundle:
    """Write the bundle with the changes to ``out``; where they change nothing, ``bundle`` itself is
    returned and nothing is written.

    The variant is a graph for ONNX Runtime: in the precision of the bundle, and in fp32 where that
    holds an engine.

    With ``refer`` its weights are a symbolic link to those of the bundle.

    Raises:
        VggspecError: the changes do not fit the net, or the bundle lacks its weights or a part of
            its spec.
    """
    if bundle.manifest.input.contract == "picture":
        raise VggspecError(report(ProtocolNotVaried(), path=str(bundle.path)))
    lowered = lowered_of(bundle)
    before = options_of(bundle.manifest)
    options = changes.applied(before)
    network = prepare(lowered.network, options)
    if network == prepare(lowered.network, before):
        return bundle
    if bundle.manifest.engine is not None:
        options = replace(options, precision="fp32", keep_fp32=())
    kept = tuple(name for name in options.keep_fp32 if name in network)
    options = replace(options, keep_fp32=kept)
    weights = _weights(bundle, options)
    written = write_bundle(lowered, weights, out, options, like=bundle.manifest, refer=refer)
    return Bundle(Path(out), written.manifest)


@contextmanager
def varied(bundle: Bundle, changes: Changes) -> Iterator[Bundle]:
    """The bundle with the changes, for as long as the block lasts.

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
    """The report as one about the bundle that the user knows, where it is about the variant."""
    is_variant = one.path is not None and Path(one.path).is_relative_to(folder)
    return replace(one, path=str(bundle.path)) if is_variant else one


def _weights(bundle: Bundle, options: OnnxOptions) -> WeightsFile:
    """The weights beside the model, with the digest that the manifest has of them."""
    entry = next((entry for entry in bundle.manifest.files if entry.path == WEIGHTS), None)
    path = bundle.path / WEIGHTS
    if entry is None or not path.is_file():
        what = NoWeightsToVary(missing=WEIGHTS, commands=_commands(bundle, options))
        raise VggspecError(report(what, path=str(bundle.path)))
    weights = open_weights(path)
    return replace(weights, metadata=replace(weights.metadata, data_sha256=entry.sha256))


def _commands(bundle: Bundle, options: OnnxOptions) -> tuple[str, ...]:
    """What to type to have the variant compiled where the weights are."""
    manifest = bundle.manifest
    result = manifest.outputs[0]
    maps = [replace(result, kind="score_map", is_map=True)] if options.keep_map else []
    outputs: tuple[OutputContract, ...] = (result, *maps)
    changed = replace(
        manifest,
        engine=None,
        form=options.form,
        precision=options.precision,
        fp32_layers=options.keep_fp32,
        average=options.average,
        outputs=outputs,
        pool=options.pool,
        finer_stride=options.stride,
        layer=options.layer,
        files=(),
    )
    return compile_command(changed, bundle=str(bundle.path))
