"""The net that a bundle was compiled from, and the options it was compiled with."""

from vggspec.base.catalogue.artefacts import BadManifest
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.source import Source
from vggspec.bundle.manifest import MANIFEST, Bundle, Manifest, Member
from vggspec.compiler.backends.onnx.model import OnnxOptions, prepare
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered, lower
from vggspec.lang.loading import pick
from vggspec.lang.parser import parse


def lowered_of(bundle: Bundle) -> Lowered:
    """The net of the spec in the manifest.

    Raises:
        VggspecError: the manifest was changed, and its spec is none of a bundle's.
    """
    return _lowered(bundle, bundle.manifest.net, bundle.manifest.spec_text)


def member_of(bundle: Bundle, member: Member) -> Network:
    """A net of a graph that holds the test protocol, as it is in there.

    Raises:
        VggspecError: as ``lowered_of``.
    """
    manifest = bundle.manifest
    options = OnnxOptions(average=member.average, pool=manifest.pool, stride=manifest.finer_stride)
    return prepare(_lowered(bundle, member.net, member.spec_text).network, options)


def _lowered(bundle: Bundle, net: str, spec_text: str) -> Lowered:
    # A net without a name has that of its file.
    spec = pick(parse(Source(str(bundle.path / f"{net}.vgg"), spec_text)), net)
    if spec.like is not None:  # bundles are written with all layers, and name no files
        what = BadManifest(reason="its spec takes layers from another file")
        raise VggspecError(report(what, path=str(bundle.path / MANIFEST)))
    return lower(spec)


def options_of(manifest: Manifest) -> OnnxOptions:
    """The options of the graph."""
    return OnnxOptions(
        form=manifest.form,
        average=manifest.average,
        contract=manifest.input.contract,
        keep_map=manifest.score_map is not None,
        pool=manifest.pool,
        stride=manifest.finer_stride,
        layer=manifest.layer,
        precision=manifest.precision,
        keep_fp32=manifest.fp32_layers,
    )
