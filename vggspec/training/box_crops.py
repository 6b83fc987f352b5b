"""Crops for a net that localises: drawn so that they show an object, with its box.

Random choices depend on the seed, the epoch and the example alone, as for other crops.

Source: Simonyan & Zisserman 2015, appendix A.1. The paper does not define which crops show an
object; here they show at least half of the part that a crop could show.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vggspec.base.recipe import Resize, TrainRecipe
from vggspec.compiler.ir import ImageInput
from vggspec.data.annotated import Examples
from vggspec.data.box_coding import Boxes, area, encode, mirror, overlap
from vggspec.data.decode import BadImageError, Pixels
from vggspec.training.augment import (
    Crop,
    Draw,
    Region,
    Target,
    Unread,
    central_region,
    draw,
    drawn_region,
)
from vggspec.training.images import Images
from vggspec.training.order import Ticket, stream

#: Of an object, or of as much of it as a crop has room for.
LEAST_SHOWN = 0.5

#: Attempts to draw a crop; after them the crop is centred on the object as far as possible.
MAX_DRAWS = 16


class TrainBoxCrops:
    """A data set of random crops, each with the box of an object of its class, by tickets."""

    def __init__(
        self,
        images: Images,
        examples: Examples,
        input: ImageInput,
        recipe: TrainRecipe,
        axes: NDArray[np.float64],
        seed: int,
    ) -> None:
        self._images = images
        self._examples = examples
        self._size = input.height, input.width
        self._recipe = recipe
        self._axes = axes
        self._seed = seed

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        drawn = draw(self._recipe, len(self._axes), self._seed, ticket)
        random = stream(self._seed, "boxes", ticket)
        try:
            image = self._images.read(ticket.image)
            boxes = self._examples.boxes_on(ticket.image, image)
            box = boxes[random.integers(len(boxes))]
            region = shown(image, box, drawn, self._size, random)
        except BadImageError as error:
            return Unread(self._images.split.name(ticket.image), str(error))
        return Crop(
            region.cut_drawn(image, is_mirrored=drawn.is_mirrored),
            (self._axes @ drawn.colours).astype(np.float32),
            int(self._images.split.labels[ticket.image]),
            ticket.row,
            target(image, box, region, is_mirrored=drawn.is_mirrored),
        )


class CentreBoxCrops:
    """A data set of central crops at one Q, each with all boxes of its class."""

    def __init__(
        self,
        images: Images,
        examples: Examples,
        input: ImageInput,
        scale: int,
        resize: Resize = "rounded",
    ) -> None:
        self._images = images
        self._examples = examples
        self._size = input.height, input.width
        self._scale = scale
        self._resize: Resize = resize
        self._no_shift = np.zeros(input.channels, np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        try:
            image = self._images.read(ticket.image)
            boxes = self._examples.boxes_on(ticket.image, image)
            region = central_region(image, self._scale, *self._size, self._resize)
        except BadImageError as error:
            return Unread(self._images.split.name(ticket.image), str(error))
        label = int(self._images.split.labels[ticket.image])
        here = target(image, boxes, region)
        return Crop(region.cut(image), self._no_shift, label, ticket.row, here)


def shown(
    image: Pixels, box: Boxes, drawn: Draw, size: tuple[int, int], random: np.random.Generator
) -> Region:
    """A region of ``size``, rows and columns, that shows the object in a box of the image.

    Raises:
        BadImageError: the image is so long and thin that it would become huge.
    """
    region = drawn_region(image, drawn, *size)
    there = _rescaled(box, image, region)
    sides = there[2:] - there[:2]
    most = np.minimum(sides, (region.width, region.height)).prod()
    for _ in range(MAX_DRAWS):
        if area(overlap(there, region.box())) >= LEAST_SHOWN * most:
            return region
        top, left = random.random(2)
        region = drawn_region(image, replace(drawn, top=top, left=left), *size)
    x, y = (there[:2] + there[2:]) / 2
    return region._replace(
        top=int(np.clip(round(y - region.height / 2), 0, region.rows - region.height)),
        left=int(np.clip(round(x - region.width / 2), 0, region.columns - region.width)),
    )


def target(image: Pixels, boxes: Boxes, region: Region, *, is_mirrored: bool = False) -> Target:
    """The output for the region; boxes ``(4,)`` or ``(K, 4)`` of the image."""
    frame = np.array([0, 0, image.shape[1], image.shape[0]], np.float64)
    seen = encode(_rescaled(np.vstack([frame, boxes]), image, region), region.box())
    frame_seen, *seen_boxes = (mirror(seen) if is_mirrored else seen).astype(np.float32)
    return Target(boxes=np.array(seen_boxes), frame=frame_seen)


def _rescaled(boxes: Boxes, image: Pixels, region: Region) -> Boxes:
    """Boxes of an image after rescaling."""
    across, down = region.columns / image.shape[1], region.rows / image.shape[0]
    return np.asarray(boxes * (across, down, across, down))
