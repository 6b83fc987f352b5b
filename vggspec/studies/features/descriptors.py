"""Descriptors of images: the numbers of a layer, averaged over space, mirror images and scales.

Of an image at scale Q the net gives a number for each channel of the layer, averaged over space in
the graph, and another for its mirror image; the two are averaged. Several scales are averaged or
stacked. Each net's descriptor then has the length 1 (L2), and those of several nets are stacked,
the whole again of length 1: so each net counts the same, however large its numbers are.

Source: Simonyan & Zisserman 2015, appendix B. It leaves open whether the descriptors of two nets
are normalised before they are stacked.

Axes: C channels of the layer, D numbers of a descriptor. All is float64 until it is handed over.
"""

import contextlib
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.studies.features.file import row_of
from vggspec.studies.pipeline import Applied, Seen, see

Floats = NDArray[np.float64]
OverScales = Literal["average", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """How what the nets give at each scale becomes one descriptor."""

    over_scales: OverScales = "average"
    normalise: bool = True
    """Whether each net's descriptor, and the whole, is divided by its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """An image's descriptor, or why there is none."""

    index: int
    descriptor: NDArray[np.float32] | None
    """``(D,)``; None also where it is in a file already."""

    checksum: int | None = None
    """The descriptor's CRC-32, as it stands in a file."""

    unread: str | None = None
    """Why the image could not be read or looked at, where that is so."""


def describe(
    applied: Sequence[Applied],
    read: Callable[[int], bytes],
    indices: Iterable[int],
    combination: Combination,
    *,
    threads: int | None = None,
    batch_pixels: int | None = None,
) -> Generator[Described, None, None]:
    """The descriptors of images, in the order of ``indices``, by nets that give ``features``.

    Raises:
        VggspecError: a net's engine fails, or answers what is no number.
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
    """The descriptor ``(D,)`` of an image that so many nets have seen."""
    parts = []
    for net in range(nets):
        at_scales = [
            sight.outputs["features"].mean(axis=0) for sight in seen.sights if sight.net == net
        ]
        if combination.over_scales == "stack":
            part = np.concatenate(at_scales)
        else:
            part = np.mean(at_scales, axis=0)
        parts.append(unit(part) if combination.normalise else part)
    whole = np.concatenate(parts)
    return unit(whole) if combination.normalise else whole


def width(channels: Sequence[int], scales: Sequence[int], over_scales: OverScales) -> int:
    """D, for nets whose layers have so many channels and that look at so many scales.

    >>> width((4096, 4096), (3, 3), "stack")
    24576
    """
    times = scales if over_scales == "stack" else (1,) * len(channels)
    return sum(number * each for number, each in zip(channels, times, strict=True))


def unit(vector: Floats) -> Floats:
    """The vector divided by its length; zeros stay as they are."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
