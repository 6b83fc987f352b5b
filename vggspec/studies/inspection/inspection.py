"""``inspect``: read a bundle's manifest and its list of layers."""

import os
from dataclasses import asdict, dataclass

from vggspec.base.diagnostic import VggspecError
from vggspec.base.short_repr import short_repr
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle, load_bundle
from vggspec.bundle.profile import Profile
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.studies.inspection.layers import LayerFacts, read_layers
from vggspec.studies.inspection.sections import Section, sections


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The contents of a bundle."""

    manifest: Manifest
    test_profiles: tuple[Profile, ...]
    """The optimisation profiles of the test protocol; none if a scale is below the window."""

    layers_from: str
    """The source of ``layers``: ``engine``, the ``network`` its builder got, or ``graph``."""

    layers: tuple[LayerFacts, ...]

    @property
    def specs(self) -> tuple[str, ...]:
        """The text of the spec, or of all specs whose nets the graph contains, each once."""
        return specs_of(self.manifest)

    def sections(self) -> tuple[Section, ...]:
        """All but the layers in words, in tables."""
        return tuple(sections(self.manifest))

    def as_data(self) -> dict[str, object]:
        """The inspection as ``vggspec inspect --json`` prints it: the manifest's fields, then
        these.
        """
        manifest = self.manifest
        data: dict[str, object] = asdict(manifest) | {
            "format": manifest.format,
            "form": manifest.form,
            "average": manifest.average,
            "pool": manifest.pool,
            "finer_stride": manifest.options.stride,
            "layer": manifest.layer,
            "precision": manifest.precision,
            "fp32_layers": manifest.fp32_layers,
        }
        data["test_profiles"] = [asdict(profile) for profile in self.test_profiles]
        data["layers_from"] = self.layers_from
        data["layers"] = [asdict(layer) for layer in self.layers]
        return data


def inspect(bundle: str | os.PathLike[str]) -> Inspection:
    """Read what a bundle takes and returns, and its profiles, files, engine and layers.

    It comes from the manifest and the files beside it; an engine is never loaded.

    Raises:
        VggspecError: it is no bundle, or a file of it is damaged.
    """
    return load_bundle(bundle, inspected)


def inspected(bundle: Bundle) -> Inspection:
    """As ``inspect``, for a bundle that is open already."""
    try:
        profiles = profiles_of(bundle.manifest)
    except VggspecError:
        profiles = ()
    layers_from, layers = read_layers(bundle)
    return Inspection(
        manifest=bundle.manifest,
        test_profiles=profiles,
        layers_from=layers_from,
        layers=layers,
    )


def specs_of(manifest: Manifest) -> tuple[str, ...]:
    """The text of a bundle's spec, or of all specs whose nets its graph contains."""
    texts = [member.spec_text for member in manifest.members]
    return tuple(dict.fromkeys(texts or [manifest.spec_text]))
