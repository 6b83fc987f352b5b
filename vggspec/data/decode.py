"""From the bytes of an image file to the pixels that ``vggspec predict`` reads.

If simplejpeg is installed it decodes the upright JPEGs: it uses the same library as Pillow, so the
pixels are the same, in two thirds of the time. All other files, and those that it refuses, go to
Pillow, which alone decides what is damaged.

Axes: H rows, W columns, C channels.
"""

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from vggspec.base.catalogue.data import NotAnImage
from vggspec.base.diagnostic import VggspecError
from vggspec.data.decode_limits import SMALL_BYTES, room
from vggspec.data.read import (
    DECODER_ERRORS,
    Color,
    decoding_bytes,
    opened,
    orientation,
    upright_pixels,
)

Pixels = NDArray[np.uint8]

#: A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that leaves this many times the required
#: pixels a side: the rescaling that follows evens out how the decoder averages. In a photo full of
#: detail 99 values of 100 stay within two levels of 255; at twice the pixels, within six.
DRAFT_GAP = 3

#: So few that decoding takes too little memory to be counted, whatever the header says.
PLAIN_PIXELS = SMALL_BYTES // 13

#: simplejpeg's names of the channel orders.
_COLORSPACES = {"RGB": "RGB", "BGR": "BGR", "gray": "GRAY"}


class BadImageError(Exception):
    """The file cannot be read as an image; the message says why."""


def decode(data: bytes, color: Color, at_least: int | None = None) -> Pixels:
    """An image as uint8 ``(H, W, C)``, channels in the order of ``color``, upright.

    With ``at_least``, a JPEG whose sides are all much longer than that many pixels is decoded at a
    fraction of its size, which is several times as fast.

    Raises:
        BadImageError: it is not an image, or damaged, or too large.
    """
    with decoding(data, color, at_least) as pixels:
        return pixels


@contextlib.contextmanager
def decoding(data: bytes, color: Color, at_least: int | None = None) -> Iterator[Pixels]:
    """As ``decode``; during the block the pixels count as memory that all threads share."""
    with contextlib.ExitStack() as held:
        yield _decode(data, color, at_least, held)


def _decode(data: bytes, color: Color, at_least: int | None, held: contextlib.ExitStack) -> Pixels:
    plain = _plain_jpeg(data, color, at_least)
    if plain is not None:
        return plain
    with opened_image(data) as image:
        held.enter_context(room.of(decoding_bytes(image)))
        fraction = _fraction(image, at_least)
        pixels = _by_simplejpeg(data, image, color, at_least)
        if pixels is not None:
            return pixels
        if fraction > 1:
            image.draft("RGB", (image.width // fraction, image.height // fraction))
        pixels = upright_pixels(image, color)
        return pixels[..., ::-1] if color == "BGR" else pixels


def decoded_size(data: bytes, at_least: int | None = None) -> tuple[int, int]:
    """Rows and columns that ``decode`` gives, before an image is turned upright.

    Raises:
        BadImageError: it is not an image, or too large.
    """
    with opened_image(data) as image:
        fraction = _fraction(image, at_least)
        return -(-image.height // fraction), -(-image.width // fraction)


def upright_size(data: bytes) -> tuple[int, int]:
    """Rows and columns of the upright image.

    Raises:
        BadImageError: it is not an image, or too large.
    """
    with opened_image(data) as image:
        exif, size = image.getexif(), image.size
        if image.format == "TIFF":  # some versions of Pillow turn its size, others do not
            size = exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]
        lies_on_its_side = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        columns, rows = reversed(size) if lies_on_its_side else size
        return rows, columns


@contextlib.contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """An image whose header is read; errors in the block are errors of the image."""
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
    """The divisor of the sides: 1, 2, 4 or 8."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    return _fraction_of_jpeg(image.size, at_least)


def _fraction_of_jpeg(size: tuple[int, int], at_least: int | None) -> int:
    if at_least is None:
        return 1
    gap = min(size) // (DRAFT_GAP * at_least)
    return next((fraction for fraction in (8, 4, 2) if gap >= fraction), 1)


def _plain_jpeg(data: bytes, color: Color, at_least: int | None) -> Pixels | None:
    """The pixels of a small JPEG of one upright picture, or None if Pillow has to read its header,
    which takes a twentieth of the time of a training image.
    """
    library = _simplejpeg()
    if library is None or not _is_plain_jpeg(data):
        return None
    try:
        height, width, kind, _ = library.decode_jpeg_header(data)
    except DECODER_ERRORS:
        return None
    if height * width > PLAIN_PIXELS or kind not in ("YCbCr", "Gray"):
        return None
    return _decoded_by(library, data, (height, width), color, at_least, is_gray=kind == "Gray")


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether the segments of a file's header follow one another up to the picture, and none says
    how to turn it (APP1: EXIF or XMP), or that others follow (APP2 of MPF).
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    place = 2
    while len(data) > place + 4 and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return True
        is_segment = marker >= 0xC0 and not 0xD0 <= marker <= 0xD9
        if not is_segment or marker == 0xE1:
            return False
        if marker == 0xE2 and data.startswith(b"MPF", place + 4):
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _by_simplejpeg(
    data: bytes, image: Image.Image, color: Color, at_least: int | None
) -> Pixels | None:
    """The pixels, or None if Pillow has to decode them."""
    library = _simplejpeg()
    if library is None or image.format != "JPEG" or orientation(image) != 1:
        return None
    if image.mode not in ("L", "RGB"):
        return None
    size = image.height, image.width
    return _decoded_by(library, data, size, color, at_least, is_gray=image.mode == "L")


def _decoded_by(
    simplejpeg: ModuleType,
    data: bytes,
    size: tuple[int, int],
    color: Color,
    at_least: int | None,
    *,
    is_gray: bool,
) -> Pixels | None:
    if color == "gray" and not is_gray:
        return None
    fraction = _fraction_of_jpeg(size, at_least)
    height, width = (0, 0) if fraction == 1 else (-(-side // fraction) for side in size)
    try:
        return cast(
            "Pixels",
            simplejpeg.decode_jpeg(
                data, colorspace=_COLORSPACES[color], min_height=height, min_width=width
            ),
        )
    except DECODER_ERRORS:
        return None


@functools.cache
def _simplejpeg() -> ModuleType | None:
    """The library, or None if it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return cast("ModuleType", simplejpeg)
