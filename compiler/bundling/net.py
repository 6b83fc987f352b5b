"""The net that a bundle was compiled from."""

from dataclasses import replace

from vggspec.base.catalogue.artefacts import BadManifest
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.source import Source
from vggspec.bundle.manifest import MANIFEST, Member
from vggspec.bundle.opening import Bundle
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered, lower
from vggspec.lang.loading import pick
from vggspec.lang.parser import parse


def lowered_of(bundle: Bundle) -> Lowered:
    """The net of the spec in the manifest.

    Raises:
        VggspecError: the manifest was changed, and its spec is not one that bundles contain.
    """
    return _lowered(bundle, bundle.manifest.net, bundle.manifest.spec_text)


def network_of(bundle: Bundle) -> Network:
    """The compiled network of the bundle.

    Raises:
        VggspecError: as ``lowered_of``, or the options in the manifest do not fit the net.
    """
    return prepare(lowered_of(bundle).network, bundle.manifest.options)


def member_of(bundle: Bundle, member: Member) -> Network:
    """The network of one of the nets in a graph that contains the test protocol.

    Raises:
        VggspecError: as ``network_of``.
    """
    options = replace(bundle.manifest.options, average=member.average)
    return prepare(_lowered(bundle, member.net, member.spec_text).network, options)


def _lowered(bundle: Bundle, net: str, spec_text: str) -> Lowered:
    # A net without a name has that of its file.
    spec = pick(parse(Source(str(bundle.path / f"{net}.vgg"), spec_text)), net)
    if spec.like is not None:  # bundles are written with all layers, and name no files
        what = BadManifest(reason="its spec takes layers from another file")
        raise VggspecError(report(what, path=str(bundle.path / MANIFEST)))
    return lower(spec)
