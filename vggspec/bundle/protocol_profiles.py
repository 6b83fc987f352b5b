"""The optimisation profiles of a bundle's test protocol."""

from functools import partial

from vggspec.bundle.manifest import Manifest
from vggspec.bundle.profile import Profile, derive_profiles
from vggspec.bundle.sizes import continued


def profiles_of(manifest: Manifest, max_batch: int | None = None) -> tuple[Profile, ...]:
    """The profiles that an engine for the scales of a bundle has, of those sizes that its net is
    given.

    Raises:
        VggspecError: a scale is smaller than the net's window.
    """
    image, position = manifest.input, manifest.result.position
    margin = position.margin if position is not None else (0, 0)
    taken = partial(continued, margin=margin, least=image.size, sizes=image.sizes)
    return derive_profiles(
        manifest.test,
        least=image.size,
        window=manifest.window if image.is_dynamic else image.size,
        is_dynamic=image.is_dynamic,
        **({"taken": taken} if manifest.segments else {}),
        max_batch=max_batch,
    )
