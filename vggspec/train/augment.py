"""From decoded images to crops: drawn at random for training, central for validation.

What chance decides for a crop depends on the seed, the epoch and the image alone, so that the
stream is the same for any number of workers, and can be taken up anywhere.

Source: Simonyan & Zisserman 2015, section 3.1 (rescaling to S, random crops, flips, colour shift)
and section 3.2 (Q); Krizhevsky et al. 2012, section 4.1.

S is the smallest side of a training image after rescaling, Q that of a validation image.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggspec.compiler.ir import Color, ImageInput
from vggspec.diagnostic import VggspecError
from vggspec.recipe import TrainRecipe
from vggspec.runtime.preprocess import DECODER_ERRORS, rescale, rescaled_size
from vggspec.train.images import BadImageError, ImageFolder, Pixels, Split, decode, opened
from vggspec.train.order import Ticket, stream

#: Decoded images up to this size are kept: reading them again would take longer than training on
#: them, and a worker longer to hand one over than to cut it.
KEPT_BYTES = 256 << 20


class Crop(NamedTuple):
    """What one image gives to a batch."""

    pixels: Pixels
    """``(H, W, C)``"""

    shift: NDArray[np.float32]
    """``(C,)``, to be added to every pixel; in units of 0 to 255."""

    label: int

    row: int = 0
    """Its place in the batch of all ranks together."""


class Unread(NamedTuple):
    """An image that gives nothing, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What chance decides for one crop."""

    scale: int
    """S in pixels."""

    top: float
    left: float
    """Where the crop lies, from 0 to 1 of the room there is."""

    is_mirrored: bool
    colours: NDArray[np.float64]
    """``(C,)``: how far the colours shift along each axis, in standard deviations."""


def draw(recipe: TrainRecipe, channels: int, seed: int, ticket: Ticket) -> Draw:
    """What chance decides for the crop of an image in an epoch."""
    random = stream(seed, "crops", ticket)
    scale, top, left, mirror = random.random(4)
    low, high = recipe.scale
    return Draw(
        scale=low + int(scale * (high - low + 1)),
        top=top,
        left=left,
        is_mirrored=recipe.flip and mirror < 0.5,
        colours=random.normal(0.0, recipe.colour_shift, channels),
    )


def cut(image: Pixels, drawn: Draw, height: int, width: int) -> Pixels:
    """The crop ``(height, width, C)`` of an image."""
    image = _rescaled(image, drawn.scale, height, width)
    top = int(drawn.top * (image.shape[0] - height + 1))
    left = int(drawn.left * (image.shape[1] - width + 1))
    crop = image[top : top + height, left : left + width]
    return crop[:, ::-1] if drawn.is_mirrored else crop


def cut_centre(image: Pixels, scale: int, height: int, width: int) -> Pixels:
    """The central crop ``(height, width, C)`` of an image rescaled to ``scale``."""
    image = _rescaled(image, scale, height, width)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


class Images:
    """The images of a split, decoded when they are asked for and perhaps kept from then on.

    They come at the size ``scale`` says where that is one size, else at least at its upper end.
    """

    def __init__(
        self, split: Split, color: Color, scale: tuple[int, int], *, are_kept: bool
    ) -> None:
        self.split = split
        self._color = color
        self._scale = scale
        self._kept: dict[int, Pixels] | None = {} if are_kept else None

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int) -> Pixels:
        """An image ``(H, W, C)``.

        Raises:
            BadImageError: it cannot be read.
        """
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        low, high = self._scale
        image = decode(self.split.paths[index], self._color, high)
        if self._kept is not None:
            image = _rescaled(image, low, 1, 1) if low == high else image
            self._kept[index] = image
        return image


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

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        drawn = draw(self._recipe, len(self._axes), self._seed, ticket)
        try:
            pixels = cut(self._images.read(ticket.image), drawn, *self._size)
        except BadImageError as error:
            return Unread(self._images.split.paths[ticket.image], str(error))
        shift = (self._axes @ drawn.colours).astype(np.float32)
        return Crop(pixels, shift, self._images.split.labels[ticket.image], ticket.row)


class CentreCrops:
    """A data set of central crops at one Q."""

    def __init__(self, images: Images, input: ImageInput, scale: int) -> None:
        self._images = images
        self._size = input.height, input.width
        self._scale = scale
        self._no_shift = np.zeros(input.channels, np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, ticket: Ticket) -> Crop | Unread:
        try:
            pixels = cut_centre(self._images.read(ticket.image), self._scale, *self._size)
        except BadImageError as error:
            return Unread(self._images.split.paths[ticket.image], str(error))
        return Crop(pixels, self._no_shift, self._images.split.labels[ticket.image], ticket.row)


def fit_in_memory(
    data: ImageFolder, color: Color, train_scale: tuple[int, int], val_scale: tuple[int, int]
) -> bool:
    """Whether the decoded images of a data set are few enough to be kept."""
    sizes = (
        _decoded_bytes(split, color, scale)
        for split, scale in ((data.train, train_scale), (data.val, val_scale))
    )
    return sum(sizes) <= KEPT_BYTES


def _decoded_bytes(split: Split, color: Color, scale: tuple[int, int]) -> int:
    """About how much memory the decoded images of a split take, from the headers of a few."""
    total = read = 0
    for path in split.paths[:: max(1, len(split) // 64)]:
        try:
            with opened(path) as image:
                size = image.height, image.width
        except (*DECODER_ERRORS, Image.DecompressionBombError):
            continue  # whoever decodes it will say so
        height, width = rescaled_size(size, scale[0]) if scale[0] == scale[1] else size
        total += height * width * (1 if color == "gray" else 3)
        read += 1
    return total * len(split) // max(read, 1)


def _rescaled(image: Pixels, scale: int, height: int, width: int) -> Pixels:
    """The image at ``scale``, or larger where a crop longer than wide would not fit otherwise.

    Raises:
        BadImageError: it is so long and thin that it would become huge.
    """
    short = min(image.shape[:2])
    rows, columns = (
        -(-side * short // of) for side, of in ((height, image.shape[0]), (width, image.shape[1]))
    )
    scale = max(scale, rows, columns)
    if scale == short:
        return image
    try:
        return rescale(image, scale)
    except VggspecError as error:
        raise BadImageError(error.reports[0].what.title()) from error
