"""The net that a bundle was compiled from, and the options it was compiled with."""

from vggspec.bundle import Bundle, Manifest
from vggspec.catalogue.names import LikeUnreadable
from vggspec.catalogue.verifying import SpecNotWhole
from vggspec.compiler.backends.onnx_model import OnnxOptions
from vggspec.compiler.lower import Lowered, lower
from vggspec.diagnostic import VggspecError, report
from vggspec.lang.loading import pick
from vggspec.lang.parser import parse
from vggspec.source import Source


def lowered_of(bundle: Bundle) -> Lowered:
    """The net of the spec in the manifest.

    Raises:
        VggspecError: the spec takes layers from another one, which is not there.
    """
    manifest = bundle.manifest
    # A net without a name has that of its file.
    source = Source(str(bundle.path / f"{manifest.net}.vgg"), manifest.spec_text)
    try:
        return lower(pick(parse(source), manifest.net))
    except VggspecError as error:
        for one in error.reports:
            if isinstance(one.what, LikeUnreadable):
                what = SpecNotWhole(path=one.what.path)
                raise VggspecError(report(what, path=str(bundle.path))) from error
        raise


def options_of(manifest: Manifest) -> OnnxOptions:
    """The options of the graph."""
    return OnnxOptions(
        form=manifest.form,
        average=manifest.average,
        contract=manifest.input.contract,
        keep_map=manifest.score_map is not None,
        precision=manifest.precision,
        keep_fp32=manifest.fp32_layers,
    )
