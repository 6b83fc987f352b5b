"""Optimisation profiles: the ranges of input shapes that an engine is built for.

An engine runs shapes between ``min`` and ``max`` and is tuned for ``opt``; NVIDIA advises narrow
ranges over wide ones. So the test protocol becomes several: for each scale Q
one for landscape and one for portrait, since the smaller side of a rescaled image is always Q.

Shapes are (images, rows, columns).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vggspec.base.catalogue.engines import BadProfile, ProfileBelowWindow
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TestProtocol

BatchShape = tuple[int, int, int]
"""Images, rows and columns."""

Size = tuple[int, int]

MAX_BATCH = 8
"""Images a run at most, unless asked otherwise: four with their mirror images."""

CROPS_A_BATCH = 10
"""Crops that a net is given at a time: 50 crops are 5 runs."""

USUAL_ASPECT = (4, 3)
"""Longer to shorter side of most photographs: what the engine is tuned for."""

LONGEST_ASPECT = 2
"""Longer to shorter side up to which an image is taken; 16:9 is 1.78."""

_SHAPE = re.compile(r"(\d{1,7})[x×](?:(\d{1,7})[x×])?(\d{1,7})[x×](\d{1,7})", re.IGNORECASE)
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Profile:
    """A range of input shapes; each number of ``min`` is at most that of ``opt``, and so on."""

    min: BatchShape
    opt: BatchShape
    max: BatchShape

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether the engine takes ``shape`` by this profile."""
        return len(shape) == 3 and all(
            low <= n <= high for low, n, high in zip(self.min, shape, self.max, strict=True)
        )

    def __str__(self) -> str:
        """As ``--profile`` takes it: ``1x256x256,2x256x341,8x256x512``."""
        return ",".join("x".join(map(str, shape)) for shape in (self.min, self.opt, self.max))


def spans(profiles: Iterable[Profile]) -> tuple[tuple[BatchShape, BatchShape], ...]:
    """The smallest and the largest shape of each profile."""
    return tuple((profile.min, profile.max) for profile in profiles)


def parse_profile(text: str, channels: int) -> Profile:
    """A profile as written: three shapes, each N x H x W or N x C x H x W.

    Raises:
        VggspecError: it is not that, its numbers do not grow, or C is not the net's.
    """

    def bad(why: str) -> VggspecError:
        return VggspecError(report(BadProfile(text=text, why=why)))

    shapes: list[BatchShape] = []
    for word in text.split(","):
        match = _SHAPE.fullmatch(word.strip())
        if match is None:
            raise bad(f"`{word.strip()}` is not a shape")
        n, c, h, w = match.groups()
        if c is not None and int(c) != channels:
            raise bad(f"`{word.strip()}` has {c} channels, the net's input has {channels}")
        shape = (int(n), int(h), int(w))
        if not all(1 <= number <= _LARGEST for number in shape):
            raise bad(f"the numbers of `{word.strip()}` are not all from 1 to {_LARGEST}")
        shapes.append(shape)
    if len(shapes) != 3:
        raise bad(f"it has {len(shapes)} shapes, not three")
    profile = Profile(*shapes)
    for low, high in ((profile.min, profile.opt), (profile.opt, profile.max)):
        if any(a > b for a, b in zip(low, high, strict=True)):
            raise bad("min, opt and max do not grow")
    return profile


def derive_profiles(
    protocol: TestProtocol,
    *,
    least: Size,
    window: Size,
    is_dynamic: bool,
    taken: Callable[[Size], Size] = lambda size: size,
    max_batch: int | None = None,
) -> tuple[Profile, ...]:
    """The profiles that a test protocol asks for.

    ``least`` is the smallest image that the net takes, ``window`` its crop; ``taken`` says to which
    size an image is continued before it enters the net; ``max_batch`` bounds the images of a run.

    Raises:
        VggspecError: a scale is smaller than the net's window.
    """
    most = max_batch or MAX_BATCH
    usual = min(2 if protocol.flip else 1, most)
    if not is_dynamic:
        usual = min(CROPS_A_BATCH if protocol.crops else usual, max_batch or CROPS_A_BATCH)
        return (_fixed(window, usual, max_batch or CROPS_A_BATCH),)
    profiles: list[Profile] = []
    if protocol.dense or protocol.crops is None:
        for scale in protocol.scales:
            if min(taken((scale, scale))) < max(least):
                raise VggspecError(report(ProfileBelowWindow(scale=scale, window=max(least))))
            long, longest = _longer(scale), LONGEST_ASPECT * scale
            low = taken((scale, scale))
            for opt, high in (((scale, long), (scale, longest)), ((long, scale), (longest, scale))):
                profiles.append(Profile((1, *low), (usual, *taken(opt)), (most, *taken(high))))
    if protocol.crops is not None:
        crops = max_batch or CROPS_A_BATCH
        profiles.append(_fixed(window, crops, crops))
    return tuple(dict.fromkeys(profiles))


def choose_profile(profiles: Iterable[Profile], shape: Sequence[int]) -> int | None:
    """The index of the profile for ``shape``: of those that include it, the one whose ``opt`` is
    nearest, the first of equals.
    """
    best, index = None, None
    for i, profile in enumerate(profiles):
        if not profile.holds(shape):
            continue
        pairs = zip(profile.opt, shape, strict=True)
        far = sum(abs(opt - n) / opt for opt, n in pairs)
        if best is None or far < best:
            best, index = far, i
    return index


def _fixed(size: Size, usual: int, most: int) -> Profile:
    return Profile((1, *size), (usual, *size), (most, *size))


def _longer(scale: int) -> int:
    """The longer side of the usual photograph, rounded to the nearest pixel."""
    long, short = USUAL_ASPECT
    return (2 * scale * long + short) // (2 * short)
