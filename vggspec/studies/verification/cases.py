"""The input shapes that a bundle is verified at."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from vggspec.bundle.profile import BatchShape, Profile, choose_profile
from vggspec.bundle.sizes import FittingSizes, above, fits
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape to run, and the profile that runs it."""

    profile: int
    point: str
    """``min``, ``opt`` or ``max``, or ``turned``: opt or max with rows and columns exchanged."""

    shape: BatchShape


def cases(profiles: Sequence[Profile], sizes: FittingSizes = "any") -> tuple[Case, ...]:
    """Every profile at min, opt and max, and turned if it takes both orientations.

    Where the net's branches do not meet for such a size, the next larger one is run at which they
    do. The profiles of an engine have none; others only say which sizes are of interest.

    A shape that several profiles take is run once, with the one that ``choose_profile`` returns,
    as in use.
    """
    found: dict[BatchShape, Case] = {}
    profiles = [_fitted(profile, sizes) for profile in profiles]
    for profile in profiles:
        turned = [(n, columns, rows) for n, rows, columns in (profile.opt, profile.max)]
        points = [
            ("min", profile.min),
            ("opt", profile.opt),
            ("max", profile.max),
            *(
                ("turned", shape)
                for shape in turned
                if profile.holds(shape) and fits(sizes, shape[1:])
            ),
        ]
        for point, shape in points:
            index = choose_profile(profiles, shape)
            assert index is not None
            found.setdefault(shape, Case(profile=index, point=point, shape=shape))
    return tuple(sorted(found.values(), key=lambda case: case.profile))


def _fitted(profile: Profile, sizes: FittingSizes) -> Profile:
    """The profile with sizes for which branches meet."""
    if sizes == "any":
        return profile
    low, usual, high = (
        (shape[0], *above(sizes, shape[1:])) for shape in (profile.min, profile.opt, profile.max)
    )
    return Profile(low, usual, high)


def within(cases: Sequence[Case], *, is_engine: bool) -> tuple[Case, ...]:
    """The cases whose images fit in memory.

    A manifest may name any size, and images of 65536 × 65536 pixels would exhaust the memory. ONNX
    Runtime gets at most the pixels of the largest image and its mirror image. An engine was built
    for its profiles on a GPU, so only numpy's share is bounded, to 8 GB.
    """
    most = (16 if is_engine else 2) * MAX_RESCALED_PIXELS
    return tuple(case for case in cases if prod(case.shape) <= most)
