"""From an image file to upright pixels of eight bits, whatever the file holds.

Axes: H rows, W columns, C channels. Pixels are uint8 ``(H, W, C)``, RGB or gray.
"""

import contextlib
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue.artefacts import NoSuchFile
from vggspec.catalogue.data import ImageTooLarge, NotAnImage
from vggspec.diagnostic import Diagnostic, VggspecError, report
from vggspec.source import reason

if TYPE_CHECKING:
    from PIL import Image

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[Any]"
Color = Literal["RGB", "BGR", "gray"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

#: How the names of image files end: of those formats, and of some that are not read, so that such
#: images count as unreadable ones and are not passed over.
ENDINGS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".avif", ".jp2", ".jxl",
    ".tga",
))  # fmt: skip
MAX_PIXELS = 178_956_970  # where Pillow too refuses: half a gigabyte of RGB

# Pillow's decoders let all of these out when they meet damaged files.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def read_image(image: ImageLike, color: Color = "RGB") -> NDArray[np.uint8]:
    """An image as uint8 ``(H, W, 3)``, red first whatever the net wants, or ``(H, W, 1)`` gray.

    Files are turned upright as their EXIF orientation says; of an animation the first frame is
    taken; transparent pixels lie on white; 16-bit numbers are scaled to 8 bits. An array is uint8
    ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA.

    Raises:
        VggspecError: there is no such file, it is no image, or it is too large.
        ValueError: an array is not uint8, or of another shape.
    """
    channels = 1 if color == "gray" else 3
    if isinstance(image, np.ndarray):
        _check_array(image)
        if image.ndim == 3 and image.shape[2] == channels:
            return image
        return _pixels(as_pillow(image), channels)
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else None
    try:
        with _quiet_pillow(), _opened(image, name) as opened:
            return _pixels(_upright(opened), channels)
    except DECODER_ERRORS as error:
        raise _complaint(NotAnImage(reason=_decoder_reason(error)), name) from error


@contextlib.contextmanager
def _opened(image: Any, name: str | None) -> Iterator["Image.Image"]:
    """The image with its header read and its size checked."""
    from PIL import Image

    with contextlib.ExitStack() as stack:
        file: IO[bytes]
        if isinstance(image, Image.Image):
            opened = image
        else:
            if name is not None:
                file = stack.enter_context(_file(name))
            elif isinstance(image, bytes | bytearray | memoryview):
                file = BytesIO(image)
            else:
                file = BytesIO(image.read())
            opened = stack.enter_context(_header(file))
        width, height = opened.size
        if width * height > MAX_PIXELS:
            what = ImageTooLarge(width=width, height=height, limit=MAX_PIXELS)
            raise _complaint(what, name)
        yield opened


def _file(name: str) -> IO[bytes]:
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            kind = "directory" if os.path.isdir(name) else "device or a pipe"
            raise _complaint(NoSuchFile(kind="image", reason=f"it is a {kind}"), name)
        return open(name, "rb")
    except (OSError, ValueError) as error:
        raise _complaint(NoSuchFile(kind="image", reason=reason(error)), name) from error


def _header(file: IO[bytes]) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    if not file.read(1):
        raise ValueError("it is empty")
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ValueError(f"it is none of {known}, or its header is damaged") from error


class _QuietPillow:
    """Pillow without its warnings, and without its own limit, which does not tell the size.

    Both are global to the process, so the first thread in sets them aside and the last one out
    puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._set_aside()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._restore.close()

    def _set_aside(self) -> None:
        from PIL import Image

        self._restore.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        self._restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None


_quiet_pillow = _QuietPillow()


def _check_array(array: NDArray[Any]) -> None:
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not is_image or 0 in array.shape:
        raise ValueError(
            "an image array is uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4);"
            f" this one is {array.dtype} {array.shape}"
        )


def as_pillow(array: NDArray[np.uint8]) -> "Image.Image":
    """Pixels ``(H, W)`` or ``(H, W, C)`` as an image of Pillow's, copied."""
    from PIL import Image

    is_gray = array.ndim == 3 and array.shape[2] == 1
    return Image.fromarray(array[:, :, 0] if is_gray else array)


def _upright(image: "Image.Image") -> "Image.Image":
    from PIL import ExifTags, ImageOps

    image.load()
    try:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if is_turned else image
    except DECODER_ERRORS:
        return image  # the pixels are whole; only the note on how to turn them is damaged


def _pixels(image: "Image.Image", channels: int) -> NDArray[np.uint8]:
    """Eight bits a channel, nothing transparent, from any of Pillow's modes."""
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif image.mode == "F":
        raise ValueError("its pixels are floating point numbers, of which none is known as white")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        # Pillow goes from a palette, CMYK or YCbCr to gray by way of RGB.
        image = image.convert("RGB").convert(mode)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit pixels, 65535 white, as 8-bit ones, 255 white, to the nearest."""
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have more than 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decoder_reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = str(error) if isinstance(error, OSError | ValueError | SyntaxError) else ""
    return text[:1].lower() + text[1:] if text else "it is damaged"


def _complaint(what: Diagnostic, name: str | None) -> VggspecError:
    return VggspecError(report(what, path=name))
