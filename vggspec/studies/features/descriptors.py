"""Descriptors of images: the activations of a layer, averaged over space, mirror images and scales.

For an image at scale Q, the net outputs the activation of each channel of the layer, averaged over
space in the graph. It is averaged with that of the mirror image. Several scales are averaged or
stacked. Each net's descriptor is then divided by its L2 norm, descriptors of several nets are
stacked, and the whole is divided by its norm: so each net has the same weight. A net whose spec
names several layers as outputs gives their activations as they are: they are averaged here, and
stacked.

Source: Simonyan & Zisserman 2015, appendix B. It leaves open whether the descriptors of two nets
are normalised before they are stacked.

Axes: C channels of the layer, D numbers of a descriptor, in float64 until they are returned.
"""

import contextlib
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.runtime.net import Outputs
from vggspec.studies.features.file import row_of
from vggspec.studies.pipeline import Applied, Seen, see

Floats = NDArray[np.float64]
OverScales = Literal["average", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """How the outputs at each scale become one descriptor."""

    over_scales: OverScales = "average"
    normalise: bool = True
    """Whether each net's descriptor, and the whole, is divided by its L2 norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An image's descriptor, or why it has none."""

    index: int
    descriptor: NDArray[np.float32] | None
    """``(D,)``; None also if a file already contains it."""

    checksum: int | None = None
    """The CRC-32 of the descriptor's bytes in a file."""

    unread: str | None = None
    """Why the image was left out, if it was."""


def describe(
    applied: Sequence[Applied],
    read: Callable[[int], bytes],
    indices: Iterable[int],
    combination: Combination,
    *,
    threads: int | None = None,
    batch_pixels: int | None = None,
) -> Generator[Described, None, None]:
    """Describe images, in the order of ``indices``, with nets that output ``features``, or
    activations of several layers.

    Raises:
        VggspecError: a net's engine fails, or returns NaN.
    """
    images = see(applied, read, indices, threads=threads, batch_pixels=batch_pixels)
    with contextlib.closing(images):
        for seen in images:
            if seen.unread is not None:
                yield Described(index=seen.index, descriptor=None, unread=seen.unread)
            else:
                found = descriptor(seen, len(applied), combination).astype(np.float32)
                checksum = zlib.crc32(row_of(found))
                yield Described(index=seen.index, descriptor=found, checksum=checksum)


def descriptor(seen: Seen, nets: int, combination: Combination) -> Floats:
    """The descriptor ``(D,)`` of an image, from the outputs of ``nets`` nets."""
    parts = []
    for net in range(nets):
        at_scales = [
            over_space(sight.outputs).mean(axis=0) for sight in seen.sights if sight.net == net
        ]
        if combination.over_scales == "stack":
            part = np.concatenate(at_scales)
        else:
            part = np.mean(at_scales, axis=0)
        parts.append(unit(part) if combination.normalise else part)
    whole = np.concatenate(parts)
    return unit(whole) if combination.normalise else whole


def over_space(outputs: Outputs) -> Floats:
    """All outputs of a net for ``n`` images, averaged over space and stacked: ``(n, D)``."""
    vectors = [array.mean(axis=(2, 3)) if array.ndim == 4 else array for array in outputs.values()]
    return np.concatenate(vectors, axis=1)


def width(channels: Sequence[int], scales: Sequence[int], over_scales: OverScales) -> int:
    """D, for nets whose layers have ``channels`` channels and that see ``scales`` scales.

    >>> width((4096, 4096), (3, 3), "stack")
    24576
    """
    times = scales if over_scales == "stack" else (1,) * len(channels)
    return sum(number * each for number, each in zip(channels, times, strict=True))


def unit(vector: Floats) -> Floats:
    """The vector divided by its L2 norm; a zero vector is unchanged."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
