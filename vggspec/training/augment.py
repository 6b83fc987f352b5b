"""From decoded images to crops: drawn at random for training, central for validation.

The random numbers of a crop depend on the seed, the epoch and the image alone, so that the stream
is the same for any number of workers, and can be resumed anywhere.

Only the part of an image that a crop shows is rescaled.

Source: Simonyan & Zisserman 2015, section 3.1 (rescaling to S, random crops, flips, colour shift)
and section 3.2 (Q); Krizhevsky et al. 2012, section 4.1.

S is the smallest side of a training image after rescaling, Q that of a validation image.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggspec.base.recipe import Resize, TrainRecipe
from vggspec.compiler.ir import ImageInput
from vggspec.data.decode import BadImageError, Pixels
from vggspec.data.mask import IGNORED, Mask
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS, rescaled_size
from vggspec.runtime.protocol import grid
from vggspec.training.changes import changes_of
from vggspec.training.images import Images
from vggspec.training.order import Ticket, stream
from vggspec.training.resample import Resample, mirrored, resample, resample_fast
from vggspec.training.shapes import Shapes, drawn_shapes, first_that_fits

#: Columns to rows of a crop of a share of the area (Szegedy et al. 2015, section 6).
ASPECTS = (3 / 4, 4 / 3)


class Target(NamedTuple):
    """The output that a net of boxes should have for a crop, see ``data.box_coding.encode``."""

    boxes: NDArray[np.float32]
    """``(K, 4)``: the boxes of its class; the net should find one of them."""

    frame: NDArray[np.float32]
    """``(4,)``: the edge of the image."""


class Crop(NamedTuple):
    """One image's part of a batch."""

    pixels: Pixels
    """``(H, W, C)``"""

    shift: NDArray[np.float32]
    """``(C,)``, to be added to every pixel; in units of 0 to 255."""

    label: int

    row: int = 0
    """Its place in the batch of all ranks together."""

    target: Target | None = None
    mask: Mask | None = None
    """``(H, W)``: the label of each pixel, for a net of label maps."""


class Unread(NamedTuple):
    """An image that cannot be read, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The random choices for one crop."""

    scale: int
    """S in pixels."""

    top: float
    left: float
    """The position of the crop, from 0 to 1 of the possible range."""

    is_mirrored: bool
    colours: NDArray[np.float64]
    """``(C,)``: how far the colours shift along each axis, in standard deviations."""

    pad: int = 0
    """Pixels around the rescaled image that the crop may show."""

    shapes: Shapes | None = None
    """Of what the crop shows, in place of a window at ``scale``: the first that fits counts.
    Aspects are in units of the crop's own."""


def decoded_scale(recipe: TrainRecipe, input: ImageInput) -> tuple[int, int]:
    """The smallest and the largest smallest side to which training images are rescaled, in pixels:
    S, or what the smallest share of the area makes of an image.
    """
    if recipe.area is None:
        return recipe.scale
    of_side = math.sqrt(recipe.area[0] * ASPECTS[0])  # or more, unless an image has no such shape
    least = min(input.height, input.width)
    return least, math.ceil(max(input.height, input.width) / of_side)


def draw(recipe: TrainRecipe, channels: int, seed: int, ticket: Ticket) -> Draw:
    """The random choices for the crop of an image in an epoch."""
    random = stream(seed, "crops", ticket)
    scale, top, left, mirror = random.random(4)
    low, high = recipe.scale
    shapes = None
    if recipe.area is not None:
        shapes = drawn_shapes(stream(seed, "areas", ticket), recipe.area, ASPECTS)
    return Draw(
        scale=low + int(scale * (high - low + 1)),
        top=top,
        left=left,
        is_mirrored=recipe.flip and mirror < 0.5,
        colours=random.normal(0.0, recipe.colour_shift, channels),
        pad=recipe.crop_pad,
        shapes=shapes,
    )


class Region(NamedTuple):
    """The part of a rescaled image that a crop shows, in pixels. It may begin before the image, or
    end after it, and its sides may be rescaled by different factors.
    """

    rows: float
    columns: float
    """Of the whole rescaled image."""

    top: float
    left: float
    height: int
    width: int

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in the rescaled image."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def inside(self) -> "tuple[Region, tuple[int, int]]":
        """The part of a region that is on the image, and where it begins in the region: rows and
        columns. A region that is not all on the image begins at a whole pixel.
        """
        top, left = (max(0, -int(start)) for start in (self.top, self.left))
        height, width = self.height, self.width
        if self.top + height > self.rows + 0.5:
            height = int(self.rows - self.top)
        if self.left + width > self.columns + 0.5:
            width = int(self.columns - self.left)
        return (
            self._replace(
                top=self.top + top, left=self.left + left, height=height - top, width=width - left
            ),
            (top, left),
        )

    def cut(self, image: Pixels, by: Resample = resample) -> Pixels:
        """The crop ``(height, width, C)`` of the image before it is rescaled, black beyond it; the
        rest of the rescaled image is not computed.
        """
        inside, (top, left) = self.inside()
        rows = _Side(image.shape[0], inside.rows, inside.top, inside.height)
        columns = _Side(image.shape[1], inside.columns, inside.left, inside.width)
        of_rows, top_edge, bottom_edge = rows.part()
        of_columns, left_edge, right_edge = columns.part()
        box = left_edge, top_edge, right_edge, bottom_edge
        pixels = by(image[of_rows, of_columns], box, inside.height, inside.width)
        if (inside.height, inside.width) == (self.height, self.width):
            return pixels
        found = np.zeros((self.height, self.width, image.shape[2]), np.uint8)
        found[top : top + inside.height, left : left + inside.width] = pixels
        return found

    def cut_drawn(self, image: Pixels, *, is_mirrored: bool) -> Pixels:
        """The crop fast, up to two levels of 255: for crops that are drawn at random anyway."""
        pixels = self.cut(image, resample_fast)
        return mirrored(pixels) if is_mirrored else pixels

    def cut_mask(self, mask: Mask, *, is_mirrored: bool = False) -> Mask:
        """The labels ``(height, width)`` of the crop, from those of the image before it is
        rescaled: of the pixel in which the middle of each lies. Outside they are ignored.
        """
        rows = _nearest(_Side(mask.shape[0], self.rows, self.top, self.height))
        columns = _nearest(_Side(mask.shape[1], self.columns, self.left, self.width))
        labels = np.where(
            (rows < 0)[:, None] | (columns < 0), IGNORED, mask[rows[:, None], columns]
        ).astype(np.uint8)
        return labels[:, ::-1] if is_mirrored else labels


def drawn_region(image: Pixels, drawn: Draw, height: int, width: int) -> Region:
    """The position of a crop in an image.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    if drawn.shapes is not None:
        return _of_area(image.shape[:2], drawn, height, width)
    rows, columns = _rescaled_size(image, drawn.scale, height, width)
    top = int(drawn.top * (rows + 2 * drawn.pad - height + 1)) - drawn.pad
    left = int(drawn.left * (columns + 2 * drawn.pad - width + 1)) - drawn.pad
    return Region(rows, columns, top, left, height, width)


def _of_area(size: tuple[int, ...], drawn: Draw, height: int, width: int) -> Region:
    """A rectangle of the image, in whole pixels, stretched to the crop; the largest central one at
    an allowed aspect where none of those drawn fits, as in torchvision's ``RandomResizedCrop``.
    """
    assert drawn.shapes is not None
    rows, columns = size
    own = width / height
    shape = first_that_fits(drawn.shapes * (1, own), rows, columns)
    if shape is not None:
        down, across = shape
        top = int(drawn.top * (rows - down + 1))
        left = int(drawn.left * (columns - across + 1))
    else:
        low, high = (aspect * own for aspect in ASPECTS)
        down = min(rows, max(1, round(columns / low)))
        across = min(columns, max(1, round(rows * high)))
        top, left = (rows - down) // 2, (columns - across) // 2
    tall, wide = height / down, width / across
    return Region(rows * tall, columns * wide, top * tall, left * wide, height, width)


def central_region(
    image: Pixels, scale: int, height: int, width: int, resize: Resize = "rounded"
) -> Region:
    """The position of the central crop in an image rescaled to ``scale``.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    rows, columns = _rescaled_size(image, scale, height, width, resize)
    (top,), (left,) = grid(rows, height, 1, resize), grid(columns, width, 1, resize)
    return Region(rows, columns, top, left, height, width)


def cut(image: Pixels, drawn: Draw, height: int, width: int) -> Pixels:
    """The crop ``(height, width, C)`` of an image.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    region = drawn_region(image, drawn, height, width)
    return region.cut_drawn(image, is_mirrored=drawn.is_mirrored)


def cut_centre(
    image: Pixels, scale: int, height: int, width: int, resize: Resize = "rounded"
) -> Pixels:
    """The central crop ``(height, width, C)`` of an image rescaled to ``scale``.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    return central_region(image, scale, height, width, resize).cut(image)


def rescale_whole(
    image: Pixels, scale: int, height: int, width: int, resize: Resize = "rounded"
) -> Pixels:
    """All of an image rescaled to ``scale``, or to more where ``height`` and ``width`` require it.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    return whole_region(image, scale, height, width, resize).cut(image)


def whole_region(
    image: Pixels, scale: int, height: int, width: int, resize: Resize = "rounded"
) -> Region:
    """All of an image rescaled to ``scale``, or to more where ``height`` and ``width`` require it.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    rows, columns = _rescaled_size(image, scale, height, width, resize)
    return Region(rows, columns, 0, 0, rows, columns)


class TrainCrops:
    """A data set of random crops, by tickets."""

    def __init__(
        self,
        images: Images,
        input: ImageInput,
        recipe: TrainRecipe,
        axes: NDArray[np.float64],
        seed: int,
    ) -> None:
        self._images = images
        self._size = input.height, input.width
        self._recipe = recipe
        self._axes = axes
        self._seed = seed
        self._changes = changes_of(recipe, input.color)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        drawn = draw(self._recipe, len(self._axes), self._seed, ticket)
        try:
            pixels = cut(self._images.read(ticket.image), drawn, *self._size)
        except BadImageError as error:
            return Unread(self._images.split.name(ticket.image), str(error))
        for purpose, change in self._changes.items():
            pixels = change(pixels, stream(self._seed, purpose, ticket))
        shift = (self._axes @ drawn.colours).astype(np.float32)
        return Crop(pixels, shift, int(self._images.split.labels[ticket.image]), ticket.row)


class _Unvaried:
    """A data set of images at one Q, all cut in the same way, without random changes."""

    def __init__(
        self, images: Images, input: ImageInput, scale: int, resize: Resize = "rounded"
    ) -> None:
        self._images = images
        self._size = input.height, input.width
        self._scale = scale
        self._resize: Resize = resize
        self._no_shift = np.zeros(input.channels, np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        try:
            pixels = self._cut(self._images.read(ticket.image))
        except BadImageError as error:
            return Unread(self._images.split.name(ticket.image), str(error))
        return Crop(
            pixels, self._no_shift, int(self._images.split.labels[ticket.image]), ticket.row
        )

    def _cut(self, image: Pixels) -> Pixels:
        """The part of an image that the net is given, at its scale."""
        raise NotImplementedError


class CentreCrops(_Unvaried):
    """A data set of central crops at one Q."""

    def _cut(self, image: Pixels) -> Pixels:
        return cut_centre(image, self._scale, *self._size, self._resize)


class WholeImages(_Unvaried):
    """A data set of whole images at one Q, enlarged where the net's window would not fit."""

    def _cut(self, image: Pixels) -> Pixels:
        return rescale_whole(image, self._scale, *self._size, self._resize)


class _Side(NamedTuple):
    """Rows or columns: of an image, of the rescaled image, and of the crop."""

    source: int
    rescaled: float
    start: float
    length: int

    def part(self) -> tuple[slice, float, float]:
        """The part of the image on which the crop depends, and where in it the crop begins and
        ends.
        """
        low = max(0.0, self.start * self.source / self.rescaled)
        end = (self.start + self.length) * self.source / self.rescaled
        high = min(float(self.source), end)
        reach = max(1.0, self.source / self.rescaled)  # of a triangle, to either side
        first = max(0, math.floor(low - reach))
        behind = min(self.source, math.ceil(high + reach))
        return slice(first, behind), low - first, high - first


def _nearest(side: _Side) -> NDArray[np.int64]:
    """For each row of a crop the row of the image that its middle lies in; -1 for none."""
    middles = side.start + np.arange(side.length) + 0.5
    rows = np.floor(middles * side.source / side.rescaled).astype(np.int64)
    return np.where((rows < 0) | (rows >= side.source), -1, rows)


def _rescaled_size(
    image: Pixels, scale: int, height: int, width: int, resize: Resize = "rounded"
) -> tuple[int, int]:
    """Rows and columns at ``scale``, or more where a crop longer than wide would not fit."""
    short = min(image.shape[:2])
    least = (
        -(-side * short // of) for side, of in ((height, image.shape[0]), (width, image.shape[1]))
    )
    rows, columns = rescaled_size((image.shape[0], image.shape[1]), max(scale, *least), resize)
    if rows * columns > MAX_RESCALED_PIXELS:
        raise BadImageError(f"at {scale} pixels it would be {columns} × {rows}")
    return rows, columns
