"""The paper's test protocol: several scales, mirror images, densely or by crops, averaged.

Source: Simonyan & Zisserman 2015, section 3.2 (dense application, mirror images, a grid of crops),
section 4.1 (one scale), 4.2 (several scales) and 4.3 (dense and crops together): every average is
one of posteriors.

Axes: N images, H rows and W columns of pixels, C channels, K classes, h rows and w columns of the
score map. Averages are taken in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue.data import SmallerThanWindow
from vggspec.diagnostic import VggspecError, report
from vggspec.recipe import TestProtocol
from vggspec.runtime.preprocess import rescalings

CROPS_A_BATCH = 10  # as many as keep a small batch's memory; 50 crops are 5 batches

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorMap:
    """Class posteriors at each position of the score map, at one scale.

    Position (i, j) stands for the window of ``window`` pixels that begins at ``origin`` plus
    (i, j) times ``stride`` in the image rescaled to ``size``; all are rows and columns.
    """

    posteriors: NDArray[np.float64]
    """``(K, h, w)``"""

    scale: int
    """Q in pixels."""

    size: Size
    window: Size
    stride: Size
    origin: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a net says of a batch: class posteriors ``(N, K)``, and maps ``(N, K, h, w)`` if any."""

    posteriors: NDArray[np.float64]
    maps: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a net looks at an image; all sizes are rows and columns of pixels."""

    least: Size
    """The smallest image that the net takes."""

    is_dynamic: bool
    """Whether it takes larger ones too."""

    window: Size
    """A crop, and what one position of the score map sees."""

    stride: Size
    """From one position of the score map to the next."""


class Net(Protocol):
    """Applies a net to images ``(N, H, W, C)``."""

    def __call__(self, images: NDArray[np.uint8], /) -> Answer: ...


def classify(
    net: Net, image: NDArray[np.uint8], view: View, protocol: TestProtocol
) -> tuple[NDArray[np.float64], tuple[PosteriorMap, ...]]:
    """Class posteriors ``(K,)`` of an image ``(H, W, C)``, and its maps where the net gives any.

    A net of one size sees the central crop where the protocol says dense. ``dense`` and ``crops``
    together are the mean of both (section 4.3).

    Raises:
        VggspecError: the rescaled image is smaller than the net's window, or too large.
    """
    is_dense = view.is_dynamic and (protocol.dense or protocol.crops is None)
    needed = view.least if is_dense and protocol.crops is None else view.window
    posteriors: list[NDArray[np.float64]] = []
    maps: list[PosteriorMap] = []
    for scale, rescaled in zip(protocol.scales, rescalings(image, protocol.scales), strict=True):
        size = rescaled.shape[0], rescaled.shape[1]
        if size[0] < needed[0] or size[1] < needed[1]:
            raise VggspecError(report(SmallerThanWindow(size=size, window=needed)))
        if is_dense:
            answer = net(with_mirror_image(rescaled) if protocol.flip else rescaled[np.newaxis])
            posteriors.append(answer.posteriors.mean(axis=0))
            if answer.maps is not None:
                maps.append(_posterior_map(answer.maps, scale, size, view))
        if protocol.crops is not None or not is_dense:
            crops = list(_crops(rescaled, view.window, protocol.crops or 1, flip=protocol.flip))
            posteriors.append(_mean_over_crops(net, crops))
    return np.mean(posteriors, axis=0), tuple(maps)


def with_mirror_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(2, H, W, C)``: an image and its mirror image."""
    return np.stack([image, image[:, ::-1]])


def grid(length: int, window: int, number: int) -> list[int]:
    """Where ``number`` windows begin that cover a side evenly from end to end; one is central.

    Source: section 3.2 says a regular grid; the places are rounded to the nearest pixel.

    >>> grid(256, 224, 5)
    [0, 8, 16, 24, 32]
    """
    room = length - window
    if number == 1:
        return [room // 2]
    return [(2 * k * room + number - 1) // (2 * (number - 1)) for k in range(number)]


def _crops(
    image: NDArray[np.uint8], window: Size, number: int, *, flip: bool
) -> Iterator[NDArray[np.uint8]]:
    # Where the grid's places coincide all are kept, so that the mean stays that of the grid.
    for top in grid(image.shape[0], window[0], number):
        for left in grid(image.shape[1], window[1], number):
            crop = image[top : top + window[0], left : left + window[1]]
            yield crop
            if flip:
                yield crop[:, ::-1]


def _mean_over_crops(net: Net, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    answers = [
        net(np.stack(crops[k : k + CROPS_A_BATCH])).posteriors
        for k in range(0, len(crops), CROPS_A_BATCH)
    ]
    mean: NDArray[np.float64] = np.concatenate(answers).mean(axis=0)
    return mean


def _posterior_map(maps: NDArray[np.float64], scale: int, size: Size, view: View) -> PosteriorMap:
    """The map of an image, averaged with that of its mirror image turned back.

    Pooling rounds down, so the windows of the image leave some pixels at its right edge unseen, 31
    at most in a net of five poolings, and those of the mirror image as many at its left edge.
    Turned back, position j of the mirror image stands for a window that many pixels further
    right. Their mean is placed halfway between both, which centres it; no map is interpolated.
    """
    is_mirrored = len(maps) == 2
    mean = (maps[0] + maps[1, :, :, ::-1]) / 2 if is_mirrored else maps[0]
    unseen = [
        size[axis] - view.window[axis] - view.stride[axis] * (mean.shape[1 + axis] - 1)
        for axis in (0, 1)
    ]
    # Less than none is unseen in a net that averages over space itself (gap): what a position of
    # its map sees is smaller than its input. Such a map is centred both ways.
    return PosteriorMap(
        posteriors=mean,
        scale=scale,
        size=size,
        window=view.window,
        stride=view.stride,
        origin=(
            min(unseen[0], 0) / 2,
            unseen[1] / 2 if is_mirrored else min(unseen[1], 0) / 2,
        ),
    )
