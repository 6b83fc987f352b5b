"""From the bytes of an image file to pixels, those that ``vggspec predict`` reads.

Pillow reads every header. The pixels of an upright JPEG come from simplejpeg where it is installed:
the same library below, so the same pixels, in two thirds of the time. What it complains of goes
to Pillow, which alone decides what is damaged.

Axes: H rows, W columns, C channels.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vggspec.base.catalogue.data import NotAnImage
from vggspec.base.diagnostic import VggspecError
from vggspec.data.read import (
    DECODER_ERRORS,
    Color,
    decoding_bytes,
    opened,
    orientation,
    upright_pixels,
)
from vggspec.data.room import room

Pixels = NDArray[np.uint8]

#: JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves this many times the pixels a
#: side that are wanted: the rescaling that follows then evens out how the decoder averages. In a
#: photo full of detail 99 values of 100 stay within two levels of 255; at twice, within six.
DRAFT_GAP = 3

#: What simplejpeg calls the channels that a net wants.
_COLORSPACES = {"RGB": "RGB", "BGR": "BGR", "gray": "GRAY"}


class BadImageError(Exception):
    """The file cannot be read as an image; the message says why."""


def decode(data: bytes, color: Color, at_least: int | None = None) -> Pixels:
    """An image as uint8 ``(H, W, C)``, channels in the order of ``color``, upright.

    With ``at_least``, a JPEG whose sides are all much longer than that many pixels comes out at a
    fraction of its size, which is several times as fast.

    Raises:
        BadImageError: it is no image, is damaged, or is too large.
    """
    with decoding(data, color, at_least) as pixels:
        return pixels


@contextlib.contextmanager
def decoding(data: bytes, color: Color, at_least: int | None = None) -> Iterator[Pixels]:
    """As ``decode``; while the block lasts the pixels count among what all threads decode."""
    with contextlib.ExitStack() as held:
        yield _decode(data, color, at_least, held)


def _decode(data: bytes, color: Color, at_least: int | None, held: contextlib.ExitStack) -> Pixels:
    with _opened(data) as image:
        held.enter_context(room.of(decoding_bytes(image)))
        fraction = _fraction(image, at_least)
        pixels = _by_simplejpeg(data, image, color, fraction)
        if pixels is not None:
            return pixels
        if fraction > 1:
            image.draft("RGB", (image.width // fraction, image.height // fraction))
        pixels = upright_pixels(image, color)
        return pixels[..., ::-1] if color == "BGR" else pixels


def decoded_size(data: bytes, at_least: int | None = None) -> tuple[int, int]:
    """Rows and columns that ``decode`` gives, before an image is turned upright.

    Raises:
        BadImageError: it is no image, or is too large.
    """
    with _opened(data) as image:
        fraction = _fraction(image, at_least)
        return -(-image.height // fraction), -(-image.width // fraction)


def upright_size(data: bytes) -> tuple[int, int]:
    """Rows and columns of an image once it is upright.

    Raises:
        BadImageError: it is no image, or is too large.
    """
    with _opened(data) as image:
        exif, size = image.getexif(), image.size
        if image.format == "TIFF":  # whose size is turned already, but not by every Pillow
            size = exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]
        lies_on_its_side = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        columns, rows = reversed(size) if lies_on_its_side else size
        return rows, columns


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """An image whose header has been read; what is wrong in the block is wrong with the image."""
    try:
        with opened(data) as image:
            yield image
    except VggspecError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise BadImageError("it is not an image") from error
        what = error.reports[0].what
        raise BadImageError(
            what.reason if isinstance(what, NotAnImage) else what.title()
        ) from error


def _fraction(image: Image.Image, at_least: int | None) -> int:
    """By what the sides are divided: 1, 2, 4 or 8."""
    if at_least is None or image.format not in ("JPEG", "MPO"):
        return 1
    gap = min(image.size) // (DRAFT_GAP * at_least)
    return next((fraction for fraction in (8, 4, 2) if gap >= fraction), 1)


def _by_simplejpeg(data: bytes, image: Image.Image, color: Color, fraction: int) -> Pixels | None:
    """The pixels, or None where they are Pillow's business."""
    fast = _simplejpeg()
    if fast is None or image.format != "JPEG" or orientation(image) != 1:
        return None
    if image.mode != "L" and (image.mode != "RGB" or color == "gray"):
        return None
    least = (0, 0) if fraction == 1 else (-(-image.height // fraction), -(-image.width // fraction))
    try:
        return fast(data, colorspace=_COLORSPACES[color], min_height=least[0], min_width=least[1])
    except DECODER_ERRORS:
        return None


@functools.cache
def _simplejpeg() -> Callable[..., Pixels] | None:
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    return cast("Callable[..., Pixels]", decode_jpeg)
