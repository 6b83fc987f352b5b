"""From an image of any kind to upright pixels of eight bits.

Axes: H rows, W columns, C channels. Pixels are uint8 ``(H, W, C)``, RGB or gray.
"""

import contextlib
import functools
import importlib
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import NoSuchFile
from vggspec.base.catalogue.data import ImageTooLarge, NotAnImage
from vggspec.base.diagnostic import ArgumentError, Diagnostic, VggspecError, report
from vggspec.base.regular_files import open_file
from vggspec.base.wording import reason
from vggspec.data.decode_limits import MAX_BYTES, SMALL_BYTES, room

if TYPE_CHECKING:
    import torch
    from PIL import Image

Pixels: TypeAlias = NDArray[np.uint8]
ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[Any] | torch.Tensor"
)
Color = Literal["RGB", "BGR", "gray"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

#: The endings of image files: of those formats, and of some that are not read, so that such images
#: count as unreadable and are not skipped.
ENDINGS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif",
    ".tiff", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".avif", ".jp2", ".jxl",
    ".tga",
))  # fmt: skip
MAX_FILE_BYTES = 2 << 30  # such an image of four times 16 bits, not compressed, has 1.4 GB

STRIP_PIXELS = 1 << 18
"""Pixels converted at once, which bounds the memory that a conversion takes."""

MAX_PARTS = 1 << 18
"""Strips or tiles of a TIFF; Pillow makes an object of 240 bytes and a decoder for each."""

# Pillow's decoders raise all of these on damaged files, and warnings where Python's filters make
# them errors.
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
    Warning,
    struct.error,
    zlib.error,
)


def read_image(image: ImageLike, color: Color = "RGB") -> Pixels:
    """An image as uint8 ``(H, W, 3)``, red first, or ``(H, W, 1)`` gray.

    Files are turned upright by their EXIF orientation; of an animation the first frame is read;
    transparent pixels lie on white; 16-bit numbers are scaled to 8 bits. An array is uint8
    ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA. A torch tensor may also have
    its channels first, and floating point numbers from 0 to 1.

    Raises:
        VggspecError: there is no such file, it is not an image, or it is too large.
        TypeError: ``image`` is of another type; the message says which types are read.
        ArgumentError: an array or a tensor has another shape, number type or range, or its layout
            is ambiguous; the message says how to convert it.
    """
    with reading(image, color) as pixels:
        return pixels


@contextlib.contextmanager
def reading(image: ImageLike, color: Color = "RGB") -> Iterator[Pixels]:
    """As ``read_image``; during the block the pixels count as memory that all threads share."""
    if isinstance(image, np.ndarray):
        yield _of_array(image, color)
        return
    if _is_tensor(image):
        yield _of_array(_pixels_of(image), color)
        return
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else None
    source = image if name is not None else _source(image)
    with contextlib.ExitStack() as held:
        yield _read(source, name, color, held)


def _read(image: Any, name: str | None, color: Color, held: contextlib.ExitStack) -> Pixels:
    # A function of its own: Pillow's image is freed when it returns.
    with opened(image, name) as found:
        held.enter_context(room.of(decoding_bytes(found)))
        return upright_pixels(found, color)


@contextlib.contextmanager
def opened(image: Any, name: str | None = None) -> Iterator["Image.Image"]:
    """An image whose header is read and whose size is checked; the block may decode it.

    Raises:
        VggspecError: there is no such file, or it is not an image, damaged, or too large.
    """
    from PIL import Image

    try:
        with contextlib.ExitStack() as stack:
            file: IO[bytes]
            if isinstance(image, Image.Image):
                found = image
            else:
                if name is not None:
                    file = BytesIO(_content(name))
                elif isinstance(image, bytes | bytearray | memoryview):
                    file = BytesIO(image)
                else:
                    file = BytesIO(image.read())
                found = stack.enter_context(_header(file))
            _check_size(found, name)
            yield found
    except Image.DecompressionBombError as error:  # a frame, or a tile, larger than the image
        raise _complaint(ImageTooLarge(), name) from error
    except DECODER_ERRORS as error:
        raise _complaint(NotAnImage(reason=_decoder_reason(error)), name) from error


def _check_size(image: "Image.Image", name: str | None) -> None:
    pixels = image.width * image.height
    if len(getattr(image, "tile", ())) > _PLANES * pixels:
        raise ValueError("it has more parts than pixels")
    takes = decoding_bytes(image)
    if takes > MAX_BYTES:
        whole = ImageTooLarge(size=image.size, limit=pixels * MAX_BYTES // takes)
        raise _complaint(whole if pixels * _MOST_BYTES > MAX_BYTES else ImageTooLarge(), name)


#: A file may store each colour in parts of its own.
_PLANES = 8


def _content(name: str) -> bytes:
    """The bytes of a file. Reading from the file, Pillow would allocate what a damaged chunk
    claims.
    """
    with _file(name) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"its file has more than {MAX_BYTES >> 20} MiB")
    return data


def _file(name: str) -> IO[bytes]:
    try:
        return open_file(name)
    except OSError as error:
        raise _complaint(NoSuchFile(kind="image", reason=reason(error)), name) from error


def _header(file: IO[bytes]) -> "Image.Image":
    """Pillow's image of a file, with the header read.

    ``Image.open`` compares every size with ``Image.MAX_IMAGE_PIXELS``, which belongs to the whole
    process and does not bound the memory of a conversion. So the plugins are called directly.
    """
    from PIL import Image, UnidentifiedImageError

    _load_plugins()
    start = file.read(16)
    if not start:
        raise ValueError("it is empty")
    for form in FORMATS:
        factory, accepts = Image.OPEN[form]
        is_known = accepts is None or accepts(start)
        if isinstance(is_known, str):  # the reason why this Pillow cannot read the format
            raise ValueError(is_known)  # noqa: TRY004 (the file is wrong, not the call)
        if is_known:
            try:
                if form == "TIFF":
                    _check_parts(file)
                file.seek(0)
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    known = ", ".join(FORMATS)
    raise UnidentifiedImageError(f"it is none of {known}, or its header is damaged")


def _check_parts(file: IO[bytes]) -> None:
    """Refuse a TIFF of too many parts: Pillow makes objects of all of them at once."""
    file.seek(0)
    start = file.read(8)
    order = ">" if start[:2] == b"MM" else "<"
    is_big = 43 in start[2:4]
    place = file.read(8) if is_big else start[4:]
    file.seek(*struct.unpack(order + ("Q" if is_big else "I"), place))
    (number,) = struct.unpack(order + ("Q" if is_big else "H"), file.read(8 if is_big else 2))
    entry = order + ("HHQ8x" if is_big else "HHI4x")
    for _ in range(min(number, 1 << 16)):
        tag, _, count = struct.unpack(entry, file.read(struct.calcsize(entry)))
        if tag in (273, 279, 324, 325) and count > MAX_PARTS:
            raise ValueError(f"it comes in {count} parts, more than {MAX_PARTS}")


@functools.cache
def _load_plugins() -> None:
    """Import Pillow's plugins for ``FORMATS``; each registers itself in ``Image.OPEN``."""
    for name in ("Jpeg", "Png", "WebP", "Bmp", "Gif", "Tiff"):
        importlib.import_module(f"PIL.{name}ImagePlugin")


def decoding_bytes(image: "Image.Image") -> int:
    """The most bytes that decoding, converting and rescaling an image take, from its header.

    The peak was measured for every format and mode.
    """
    pixels = image.width * image.height
    stored = _STORED_BYTES.get(image.mode, 4) * pixels
    return max(pixels * _BYTES, stored + _decoder_bytes(image))


#: The result and a copy that Pillow rescales, 3 + 4; or Pillow's image and the result, 4 + 3.
_BYTES = 7

#: The same for the worst case, a 16-bit JPEG within a TIFF.
_MOST_BYTES = 24

#: Bytes of a pixel in Pillow's memory, where it is not 4.
_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}


def _decoder_bytes(image: "Image.Image") -> int:
    """The bytes of a decoder's own buffers."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        return 13 * pixels  # two canvases, their bytes, and some more
    if image.format in ("JPEG", "MPO"):
        coefficients = 2 * getattr(image, "layers", 4) * pixels
        if coefficients + _BYTES * pixels <= SMALL_BYTES:
            return 0  # too few to matter
        return 0 if _is_of_one_scan(getattr(image, "fp", None)) else coefficients
    if image.format == "TIFF":
        return _tiff_bytes(image)
    if _raw_mode(image) == DEEP and "transparency" in image.info:
        return _BYTES * pixels  # its lower bytes, and the result
    return 0


def _is_of_one_scan(file: IO[bytes] | None) -> bool:
    """Whether a JPEG is decoded row by row; if not, all coefficients are kept, two bytes each."""
    if file is None:
        return True  # already decoded
    place = file.tell()
    try:
        file.seek(2)
        layers = -1
        while True:
            start, marker, length = struct.unpack(">BBH", file.read(4))
            body = file.read(length - 2) if length > 2 else b""
            if start != 0xFF or marker == 0xC2:  # a progressive frame
                return False
            if marker in (0xC0, 0xC1):
                layers = body[5]
            if marker == 0xDA:
                return body[0] == layers
    except (struct.error, IndexError):
        return False
    finally:
        file.seek(place)


def _tiff_bytes(image: "Image.Image") -> int:
    """The bytes of the part of a TIFF that is decoded at once; it may exceed the image."""
    tags = getattr(image, "tag_v2", {})
    rows, length, width = (tags.get(tag) for tag in (278, 323, 322))
    bits = tags.get(258, (1,))
    part = image.width * min(rows or image.height, image.height)
    if width is not None or length is not None:
        part = (width or image.width) * (length or image.height)
    channels = max(4, sum(bits) / 8)  # YCbCr becomes RGBA on the way
    coefficients = 2 * len(bits) if "jpeg" in str(image.info.get("compression")) else 0
    turned = 4 * image.width * image.height if tags.get(274, 1) != 1 else 0
    return max(int(part * (channels + coefficients)), turned)


def _source(image: Any) -> "bytes | bytearray | memoryview | Image.Image":
    """The bytes or Pillow's image of anything but a path, an array or a tensor."""
    from PIL import Image

    if isinstance(image, bytes | bytearray | memoryview | Image.Image):
        return image
    if not callable(getattr(image, "read", None)):
        raise TypeError(f"{_kind(image)} is not an image: {_way(image)}; {_TAKEN}")
    try:
        data = image.read()
    except (OSError, ValueError) as error:
        raise _complaint(NotAnImage(reason=_decoder_reason(error)), None) from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the file gives {_kind(data)}, not bytes: open it as 'rb'; {_TAKEN}")
    return data


_SHAPES = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
_TAKEN = (
    "an image is a path, the bytes of a file, a file opened as 'rb', a Pillow image, a uint8 array"
    f" {_SHAPES}, or a torch tensor of such a shape or (C, H, W)"
)
_CHANNELS = (1, 3, 4)


def _is_tensor(value: object) -> bool:
    """Whether this is a torch tensor; torch is not imported for it."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _pixels_of(tensor: Any) -> NDArray[Any]:
    """A torch tensor as a uint8 array with its channels last."""
    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    is_first = len(shape) == 3 and shape[0] in _CHANNELS
    is_last = len(shape) == 3 and shape[2] in _CHANNELS
    if is_first and is_last:
        raise ArgumentError(
            f"a tensor of shape {shape} may have its channels first or last: make it an array"
            " (H, W, C), by `x.permute(1, 2, 0).numpy()` if they are first, by `x.numpy()` if they"
            " are last"
        )
    is_float = tensor.is_floating_point()
    is_image = (len(shape) == 2 or is_first or is_last) and 0 not in shape
    if not is_image or (dtype != "uint8" and not is_float):
        steps = _steps("uint8" if is_float else dtype, shape, ".permute(1, 2, 0)", ".byte()")
        told = (
            f"an image tensor is uint8, or floating point from 0 to 1, {_SHAPES} or (C, H, W);"
            f" this one is {dtype} {shape}"
        )
        raise ArgumentError(f"{told}: {', '.join(steps)}" if steps else told)
    if tensor.is_meta or str(tensor.layout) != "torch.strided":
        kind = "no numbers, as its device is `meta`" if tensor.is_meta else "no dense layout"
        way = "" if tensor.is_meta else ": make it dense by `x.to_dense()`"
        raise ArgumentError(f"an image tensor has its numbers in memory; this one has {kind}{way}")
    array: NDArray[Any] = (tensor.detach().float() if is_float else tensor).cpu().numpy()
    if is_float:
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):
            found = "contains NaN" if np.isnan(low) else f"is from {low:g} to {high:g}"
            raise ArgumentError(
                f"an image tensor of floating point numbers is from 0 to 1; this one {found}: make"
                " it bytes by `x.round().byte()` if white is 255, and undo its normalisation first"
                " if it has any"
            )
        array = (255 * array).round().astype(np.uint8)
    return np.ascontiguousarray(array.transpose(1, 2, 0)) if is_first else array


def _kind(value: Any) -> str:
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _way(value: Any) -> str:
    """How to convert a value of another type to an image."""
    if isinstance(value, list | tuple):
        return "give one image at a time, pixels as `numpy.array(pixels, numpy.uint8)`"
    if hasattr(value, "__array__"):
        return "make it an array by `numpy.asarray`"
    return "give another"


def _steps(dtype: str, shape: tuple[int, ...], to_last: str, to_bytes: str) -> list[str]:
    """The steps that convert an array of another type or shape to an image."""
    steps = []
    if len(shape) > 3:
        steps.append("give one image at a time")
    elif len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS:
        steps.append(f"put its channels last by `{to_last}`")
    if dtype == "bool" or "float" in dtype:
        steps.append(
            f"make it bytes by `(255 * x).round(){to_bytes}` if white is 1 in it, by"
            f" `x.round(){to_bytes}` if white is 255"
        )
    elif dtype == "uint16":
        steps.append(f"make it bytes by `(x / 257).round(){to_bytes}` if white is 65535 in it")
    elif dtype != "uint8":
        steps.append(f"make it bytes by `x{to_bytes}` if white is 255 in it")
    return steps


def _of_array(array: NDArray[Any], color: Color) -> Pixels:
    """The pixels of an array, RGB or gray."""
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)
    if array.dtype != np.uint8 or not is_image or 0 in array.shape:
        steps = _steps(str(array.dtype), array.shape, ".transpose(1, 2, 0)", '.astype("uint8")')
        told = [f"an image array is uint8 {_SHAPES}; this one is {array.dtype} {array.shape}"]
        raise ArgumentError(": ".join([*told, ", ".join(steps)] if steps else told))
    if array.ndim == 3 and array.shape[2] == (1 if color == "gray" else 3):
        return array
    return upright_pixels(as_pillow(array), color)


def as_pillow(array: Pixels) -> "Image.Image":
    """Pixels ``(H, W)`` or ``(H, W, C)`` as a Pillow image, a copy."""
    from PIL import Image

    is_gray = array.ndim == 3 and array.shape[2] == 1
    return Image.fromarray(array[:, :, 0] if is_gray else array)


def upright_pixels(image: "Image.Image", color: Color) -> Pixels:
    """The pixels of an opened image, turned by its EXIF orientation; RGB also for ``BGR``.

    They are converted a strip at a time, to bound the memory for anything but image and result.
    """
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers, and no number is known as white")
    channels = 1 if color == "gray" else 3
    clear = _Clear.of(image)
    image.load()
    turn = orientation(image)
    width, height = image.size
    is_on_its_side = turn in (5, 6, 7, 8)
    rows, columns = (width, height) if is_on_its_side else (height, width)
    upright = np.empty((rows, columns, channels), np.uint8)
    stored = _as_stored(upright, turn)
    across = min(width, STRIP_PIXELS)
    down = max(1, STRIP_PIXELS // width)
    for top in range(0, height, down):
        for left in range(0, width, across):
            box = left, top, min(left + across, width), min(top + down, height)
            strip = image if box == (0, 0, width, height) else image.crop(box)
            flat = _flat(strip, channels, blends=clear is None)
            if clear is not None:
                flat = np.where(clear.within(strip, box)[..., np.newaxis], np.uint8(255), flat)
            stored[box[1] : box[3], box[0] : box[2]] = flat
    return upright


@dataclass(frozen=True, slots=True)
class _Clear:
    """The colour of a PNG whose pixels are transparent, where Pillow does not compare it with them
    in the depth of the file.
    """

    colour: tuple[int, ...]
    lower: "Image.Image | None" = None
    """Of 16 bits a colour the lower eight, which Pillow leaves out."""

    @classmethod
    def of(cls, image: "Image.Image") -> "_Clear | None":
        """That of an image, which is best not decoded yet; None if Pillow sees to it."""
        found = image.info.get("transparency")
        if isinstance(found, int) and image.mode.startswith("I"):
            return cls((found,))
        if isinstance(found, int) and image.mode == "L":
            factor = {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 0)
            return cls((found * factor,)) if factor else None
        if isinstance(found, tuple) and image.mode == "RGB":
            if _raw_mode(image) == DEEP:
                return cls(found, _lower(image))
            if max(found) > 255:  # it is decoded already
                return cls(tuple(number >> 8 for number in found))
        return None

    def within(self, strip: "Image.Image", box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Which pixels ``(h, w)`` of a strip, which is that ``box`` of the image, have it."""
        pixels = np.asarray(strip)
        if self.lower is not None:
            pixels = pixels.astype(np.uint16) << 8 | np.asarray(self.lower.crop(box))
        same: NDArray[np.bool_] = pixels.reshape(-1, len(self.colour)) == self.colour
        found: NDArray[np.bool_] = np.logical_and.reduce(same, axis=1)
        return found.reshape(pixels.shape[:2])


DEEP, LOWER = "RGB;16B", "RGB;16L"
"""How Pillow calls 16 bits a colour: of each it takes the first byte, which is the upper one of a
PNG, or the second.
"""


def _raw_mode(image: "Image.Image") -> str:
    """How a PNG that is not decoded yet stores its pixels; an empty text for other images."""
    tiles = getattr(image, "tile", []) if image.format == "PNG" else []
    modes = [mode for *_, mode in tiles]
    return modes[0] if len(modes) == 1 and isinstance(modes[0], str) else ""


def _lower(image: "Image.Image") -> "Image.Image":
    """The lower bytes of a PNG of 16 bits a colour, decoded from its file."""
    from PIL.PngImagePlugin import PngImageFile

    file: IO[bytes] = image.fp  # type: ignore[attr-defined]
    place = file.tell()
    file.seek(0)
    again = PngImageFile(file)
    decoder, box, offset, _ = again.tile[0]
    again.tile = [(decoder, box, offset, LOWER)]  # type: ignore[list-item]
    again.load()
    file.seek(place)
    return again


def orientation(image: "Image.Image") -> int:
    """The EXIF orientation, from 1, upright, to 8."""
    from PIL import ExifTags

    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODER_ERRORS:
        return 1  # only the metadata is damaged, not the pixels
    return int(found) if found in range(1, 9) else 1


def _as_stored(upright: Pixels, turn: int) -> Pixels:
    """A view of the upright pixels in the order in which the camera stored them."""
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    return turned[turn]


def _flat(image: "Image.Image", channels: int, *, blends: bool) -> Pixels:
    """A Pillow image of any mode as pixels of eight bits ``(H, W, C)``; on white, if it ``blends``
    what is transparent.
    """
    from PIL import Image

    if image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    elif blends and image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        # Pillow converts a palette, CMYK or YCbCr to gray through RGB.
        image = image.convert("RGB").convert(mode)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def _eight_bits(pixels: NDArray[Any]) -> Pixels:
    """16-bit pixels, where 65535 is white, rounded to 8 bits, where 255 is white."""
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise ValueError("its pixels have more than 16 bits")
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decoder_reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    text = str(error) if isinstance(error, OSError | ValueError | SyntaxError | Warning) else ""
    if re.fullmatch(r"decoder error -?\d+.*", text):
        return "it is damaged"
    if text[1:2].islower():
        text = text[:1].lower() + text[1:]
    return text or "it is damaged"


def _complaint(what: Diagnostic, name: str | None) -> VggspecError:
    return VggspecError(report(what, path=name))
