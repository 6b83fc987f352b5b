"""Crops for a net of label maps: of a picture and of its mask alike.

What is drawn is drawn as for other crops, from the streams of the picture. What is erased of a
picture keeps its labels.
"""

import numpy as np
from numpy.typing import NDArray

from vggspec.base.recipe import Resize, TrainRecipe
from vggspec.bundle.sizes import above
from vggspec.compiler.ir import ImageInput
from vggspec.compiler.sizes import Fitting
from vggspec.data.decode import BadImageError, Pixels
from vggspec.data.mask import IGNORED, Mask
from vggspec.training.augment import (
    Crop,
    Unread,
    central_region,
    draw,
    drawn_region,
    whole_region,
)
from vggspec.training.changes import changes_of
from vggspec.training.images import Pairs
from vggspec.training.order import Ticket, stream


class TrainMaskCrops:
    """A data set of random crops with their labels, by tickets."""

    def __init__(
        self,
        pairs: Pairs,
        input: ImageInput,
        recipe: TrainRecipe,
        axes: NDArray[np.float64],
        seed: int,
    ) -> None:
        self._pairs = pairs
        self._size = input.height, input.width
        self._recipe = recipe
        self._axes = axes
        self._seed = seed
        self._changes = changes_of(recipe, input.color)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        drawn = draw(self._recipe, len(self._axes), self._seed, ticket)
        try:
            image, mask = self._pairs.read(ticket.image)
            region = drawn_region(image, drawn, *self._size)
        except BadImageError as error:
            return Unread(self._pairs.split.name(ticket.image), str(error))
        pixels = region.cut_drawn(image, is_mirrored=drawn.is_mirrored)
        for purpose, change in self._changes.items():
            pixels = change(pixels, stream(self._seed, purpose, ticket))
        return Crop(
            pixels,
            (self._axes @ drawn.colours).astype(np.float32),
            0,
            ticket.row,
            mask=region.cut_mask(mask, is_mirrored=drawn.is_mirrored),
        )


class _Unvaried:
    """A data set of pictures at one Q, all cut in the same way, with their labels."""

    def __init__(
        self, pairs: Pairs, input: ImageInput, scale: int, resize: Resize = "rounded"
    ) -> None:
        self._pairs = pairs
        self._size = input.height, input.width
        self._scale = scale
        self._resize: Resize = resize
        self._no_shift = np.zeros(input.channels, np.float32)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        try:
            image, mask = self._pairs.read(ticket.image)
            pixels, labels = self._cut(image, mask)
        except BadImageError as error:
            return Unread(self._pairs.split.name(ticket.image), str(error))
        return Crop(pixels, self._no_shift, 0, ticket.row, mask=labels)

    def _cut(self, image: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
        """The part of a picture that the net is given, at its scale, and its labels."""
        raise NotImplementedError


class CentreMaskCrops(_Unvaried):
    """A data set of central crops at one Q, with their labels."""

    def _cut(self, image: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
        region = central_region(image, self._scale, *self._size, self._resize)
        return region.cut(image), region.cut_mask(mask)


class WholeMasks(_Unvaried):
    """A data set of whole pictures at one Q, with their labels.

    A picture of a size at which the net's branches do not meet is continued at its right and lower
    edge as in a mirror, and nothing is labelled there.
    """

    def __init__(
        self,
        pairs: Pairs,
        input: ImageInput,
        scale: int,
        resize: Resize = "rounded",
        *,
        fitting: Fitting,
    ) -> None:
        super().__init__(pairs, input, scale, resize)
        self._size = fitting.least
        self._fitting = fitting.sizes

    def _cut(self, image: Pixels, mask: Mask) -> tuple[Pixels, Mask]:
        region = whole_region(image, self._scale, *self._size, self._resize)
        pixels, labels = region.cut(image), region.cut_mask(mask)
        rows, columns = above(self._fitting, (region.height, region.width))
        margins = (0, rows - region.height), (0, columns - region.width)
        return (
            np.pad(pixels, (*margins, (0, 0)), mode="reflect"),
            np.pad(labels, margins, constant_values=IGNORED),
        )
