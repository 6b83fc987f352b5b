"""The paper's test protocol: several scales, mirror images, densely or by crops, averaged.

Source: Simonyan & Zisserman 2015, section 3.2 (dense application, mirror images, a grid of crops),
sections 4.1 (one scale), 4.2 (several scales) and 4.3 (dense and crops together). Posteriors are
averaged everywhere.

Axes: N images, H rows and W columns of pixels, C channels, K classes, h rows and w columns of the
score map. Averages are taken in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.data import SmallerThanWindow
from vggspec.base.catalogue.sizes import BranchesDoNotMeet
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Resize, TestProtocol
from vggspec.base.short_repr import short_repr
from vggspec.bundle.sizes import FittingSizes, fits, nearest
from vggspec.runtime.preprocess import rescalings

INPUTS_A_BATCH = 10  # bounds the memory of a batch; 50 crops are 5 batches

Size = tuple[int, int]
Way = Literal["dense", "crops"]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorMap:
    """Class posteriors at each position of the score map, at one scale.

    Position (i, j) is the window of ``window`` pixels that begins at ``origin`` plus (i, j) times
    ``stride`` in the image rescaled to ``size``; all are rows and columns.
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
    """The outputs of a net for a batch: class posteriors ``(N, K)``, maps ``(N, K, h, w)``."""

    posteriors: NDArray[np.float64]
    maps: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The windows in which a net sees an image; all sizes are rows and columns of pixels."""

    least: Size
    """The smallest image that the net takes."""

    is_dynamic: bool
    """Whether it also takes larger images."""

    window: Size
    """Of a crop, and of one position of the score map."""

    stride: Size
    """From one position of the score map to the next."""

    sizes: FittingSizes = "any"
    """The larger images at which the net's branches meet."""


@dataclass(frozen=True, slots=True)
class Look:
    """One evaluation of an image: at one scale, densely or by crops."""

    scale: int
    """Q in pixels."""

    way: Way


class Net(Protocol):
    """A function of images ``(N, H, W, C)``."""

    def __call__(self, images: NDArray[np.uint8], /) -> Answer: ...


def looks(view: View, protocol: TestProtocol) -> tuple[Look, ...]:
    """The evaluations of each image, scale by scale; their posteriors are averaged."""
    return tuple(Look(scale, way) for scale in protocol.scales for way in ways(view, protocol))


def ways(view: View, protocol: TestProtocol) -> tuple[Way, ...]:
    """How an image is evaluated at each scale.

    A net of one size sees the central crop if the protocol is dense.
    """
    is_dense = view.is_dynamic and (protocol.dense or protocol.crops is None)
    if not is_dense:
        return ("crops",)
    return ("dense",) if protocol.crops is None else ("dense", "crops")


def needed(way: Way, view: View) -> Size:
    """The smallest rescaled image, rows and columns."""
    return view.least if way == "dense" else view.window


def inputs(
    rescaled: NDArray[np.uint8], way: Way, view: View, protocol: TestProtocol
) -> list[NDArray[np.uint8]]:
    """The inputs ``(H, W, C)`` of the net, each followed by its mirror image; nothing is copied.

    Raises:
        VggspecError: the rescaled image is smaller than the net's window, or the net's branches do
            not meet for it.
    """
    size = rescaled.shape[0], rescaled.shape[1]
    least = needed(way, view)
    if size[0] < least[0] or size[1] < least[1]:
        raise VggspecError(report(SmallerThanWindow(size=size, window=least)))
    check_size(size if way == "dense" else view.window, view)
    seen = [rescaled] if way == "dense" else list(_crops(rescaled, view.window, protocol))
    if not protocol.flip:
        return seen
    return [each for one in seen for each in (one, one[:, ::-1])]


def check_size(size: Size, view: View) -> None:
    """Make sure that the net's branches meet for an image of this size.

    Raises:
        VggspecError: they do not.
    """
    if view.sizes != "any" and not fits(view.sizes, size):
        what = BranchesDoNotMeet(
            size=size,
            fits=str(view.sizes),
            nearest=nearest(view.sizes, size, view.least),
        )
        raise VggspecError(report(what))


Classified = tuple[NDArray[np.float64], tuple[PosteriorMap, ...]]


def classify(net: Net, image: NDArray[np.uint8], view: View, protocol: TestProtocol) -> Classified:
    """Class posteriors ``(K,)`` of an image ``(H, W, C)``, and the maps of a net that gives maps.

    ``dense`` and ``crops`` together are the mean of both (section 4.3).

    Raises:
        VggspecError: the rescaled image is smaller than the net's window, too large, or of a size
            for which the net's branches do not meet.
    """
    return _combined(
        [
            each.answered([net(np.stack(one)) for one in each.batches], view)
            for each in questions(image, view, protocol)
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a net is asked about an image at one scale, in one way."""

    look: Look
    size: Size
    """Rows and columns of the rescaled image."""

    batches: list[list[NDArray[np.uint8]]]
    """Inputs ``(H, W, C)``, views of the rescaled image; those of a batch are of one shape."""

    num_bytes: int
    """Of the rescaled image."""

    def answered(
        self, answers: Sequence[Answer], view: View
    ) -> tuple[NDArray[np.float64], PosteriorMap | None]:
        """Posteriors ``(K,)`` and the map, from the answer to each batch."""
        maps = answers[0].maps if self.look.way == "dense" else None
        return (
            np.concatenate([each.posteriors for each in answers]).mean(axis=0),
            None if maps is None else posterior_map(maps, self.look.scale, self.size, view),
        )


def questions(image: NDArray[np.uint8], view: View, protocol: TestProtocol) -> Iterator[Question]:
    """All that a net is asked about an image ``(H, W, C)``, scale by scale.

    Raises:
        VggspecError: as ``classify``.
    """
    at_scales = rescalings(image, protocol.scales, protocol.resize)
    for scale, rescaled in zip(protocol.scales, at_scales, strict=True):
        for way in ways(view, protocol):
            seen = inputs(rescaled, way, view, protocol)
            yield Question(
                look=Look(scale, way),
                size=(rescaled.shape[0], rescaled.shape[1]),
                batches=[seen[k : k + INPUTS_A_BATCH] for k in range(0, len(seen), INPUTS_A_BATCH)],
                num_bytes=rescaled.nbytes,
            )


def classify_by_shape(
    net: Net, images: Sequence[Sequence[Question]], view: View
) -> list[Classified]:
    """Each image as ``classify`` does, in the same batches, but one shape after another: for an
    engine that prepares for a shape whenever it differs from the last.
    """
    places = [
        (batch[0].shape, len(batch), (i, j, k))
        for i, asked in enumerate(images)
        for j, question in enumerate(asked)
        for k, batch in enumerate(question.batches)
    ]
    answers = {
        (i, j, k): net(np.stack(images[i][j].batches[k])) for *_, (i, j, k) in sorted(places)
    }
    return [
        _combined(
            [
                each.answered([answers[i, j, k] for k in range(len(each.batches))], view)
                for j, each in enumerate(asked)
            ]
        )
        for i, asked in enumerate(images)
    ]


def _combined(
    found: Sequence[tuple[NDArray[np.float64], PosteriorMap | None]],
) -> Classified:
    """The mean over all questions about an image."""
    maps = tuple(each for _, each in found if each is not None)
    return np.mean([posteriors for posteriors, _ in found], axis=0), maps


def grid(length: int, window: int, number: int, resize: Resize = "rounded") -> list[int]:
    """Where ``number`` windows begin that cover a side evenly from end to end; one is central.

    Source: section 3.2, a regular grid; here the places are rounded to the nearest pixel. A central
    window between two pixels begins at the first one; torchvision's begins at the even one.

    >>> grid(256, 224, 5)
    [0, 8, 16, 24, 32]
    >>> grid(383, 224, 1), grid(383, 224, 1, "torchvision")
    ([79], [80])
    """
    room = length - window
    if number == 1:
        return [room // 2 + (resize == "torchvision" and room % 4 == 3)]
    return [(2 * k * room + number - 1) // (2 * (number - 1)) for k in range(number)]


def _crops(
    image: NDArray[np.uint8], window: Size, protocol: TestProtocol
) -> Iterator[NDArray[np.uint8]]:
    number, resize = protocol.crops or 1, protocol.resize
    # Places that coincide are all kept, so that the mean is that of the grid.
    for top in grid(image.shape[0], window[0], number, resize):
        for left in grid(image.shape[1], window[1], number, resize):
            yield image[top : top + window[0], left : left + window[1]]


def posterior_map(maps: NDArray[np.float64], scale: int, size: Size, view: View) -> PosteriorMap:
    """The map of an image, averaged with the map of its mirror image turned back.

    Pooling rounds down, so the windows of the image do not reach some pixels at its right edge, 31
    at most in a net of five poolings, and those of the mirror image as many at its left edge.
    Turned back, position j of the mirror image is a window that many pixels further right. Their
    mean is placed halfway between both, which centres it; no map is interpolated.
    """
    is_mirrored = len(maps) == 2
    mean = (maps[0] + maps[1, :, :, ::-1]) / 2 if is_mirrored else maps[0]
    columns = size[1] - view.window[1] - view.stride[1] * (mean.shape[2] - 1)  # outside of windows
    return PosteriorMap(
        posteriors=mean,
        scale=scale,
        size=size,
        window=view.window,
        stride=view.stride,
        # Windows begin at the edge; if poolings round up, the last ones pass the other edge.
        origin=(0.0, columns / 2 if is_mirrored else 0.0),
    )
