"""A mask: from a PNG to the label of each pixel of its picture.

Labels are numbers of a file: gray values, or indices of a palette. Colours are never looked at.

Axes: H rows, W columns.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggspec.data.decode import BadImageError, opened_image
from vggspec.data.decode_limits import room
from vggspec.data.read import decoding_bytes, orientation

Mask = NDArray[np.uint8]
"""``(H, W)``: labels."""

#: The label of pixels that count nowhere.
IGNORED = 255

#: Most classes that labels below ``IGNORED`` can have.
MAX_CLASSES = IGNORED

_MODES = ("1", "L", "P", "I;16")


class NotLabelsError(BadImageError):
    """The file is a picture whose pixels are no labels."""


def decode_mask(data: bytes) -> tuple[Mask, tuple[int, ...]]:
    """The values of a PNG, and which of them occur, in ascending order.

    Raises:
        NotLabelsError: it has colours, or another format.
        BadImageError: it is no image, damaged, too large, or has values above 255.
    """
    with opened_image(data) as image:
        if image.format != "PNG":
            raise NotLabelsError(f"it is {image.format}, and masks are PNG: others change values")
        if image.mode not in _MODES:
            raise NotLabelsError(f"it is in colours ({image.mode})")
        if orientation(image) != 1:
            raise BadImageError("its EXIF turns it, and a mask lies as its upright picture")
        with room.of(decoding_bytes(image)):
            values = np.asarray(image)
            if image.mode == "I;16" and values.max(initial=0) > IGNORED:
                raise BadImageError(f"it has the value {values.max()}, and labels end at 255")
            mask = values.astype(np.uint8)
            if image.mode == "L" and (by := _stretched_by(data)) > 1:
                mask //= by
            counts = Image.fromarray(mask).histogram()
    return mask, tuple(value for value, number in enumerate(counts) if number)


def _stretched_by(data: bytes) -> int:
    """What Pillow multiplies gray values of two or four bits by, so that the largest is 255."""
    bits = data[24]  # of the header that begins each PNG
    return 255 // (2**bits - 1) if bits in (2, 4) else 1


def palette() -> NDArray[np.uint8]:
    """``(256, 3)`` RGB: the bits of a number, three by three, from the highest bit of each colour
    down.

    Source: Everingham et al. 2010, the development kit of Pascal VOC, ``VOClabelcolormap``.
    """
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            set_ = numbers >> (3 * bit + channel) & 1
            colours[:, channel] |= (set_ << (7 - bit)).astype(np.uint8)
    return colours


def painted(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.uint8]:
    """A picture ``(H, W, C)`` in gray under the colours of its labels, ``(H, W, 3)``; what is
    ignored is white.
    """
    gray = pixels.mean(axis=2, keepdims=True)
    colours = palette()
    colours[IGNORED] = 255
    blended: NDArray[np.uint8] = np.round(0.5 * gray + 0.5 * colours[mask]).astype(np.uint8)
    return blended
