"""Masks: their numbers, and what cannot be one."""

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vggspec.data.decode import BadImageError
from vggspec.data.mask import NotLabelsError, decode_mask

LABELS = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def with_palette(labels: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(labels).convert("L")
    found = Image.frombytes("P", image.size, image.tobytes())
    found.putpalette([(7 * i) % 256 for i in range(768)])
    return found


def packed(bits: int, values: NDArray[np.uint8]) -> bytes:
    """A gray PNG of that many bits a pixel, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows, columns = values.shape
    of_bits = np.unpackbits(values[:, :, np.newaxis], axis=2)[:, :, -bits:].reshape(rows, -1)
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in of_bits)
    header = struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "data",
    [
        png(Image.fromarray(LABELS)),
        png(with_palette(LABELS)),
        png(with_palette(LABELS), transparency=0),
        png(Image.fromarray(LABELS.astype(np.uint16))),
    ],
    ids=["gray", "palette", "transparent", "16 bits"],
)
def test_labels_are_the_numbers_of_the_file(data: bytes) -> None:
    mask, values = decode_mask(data)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LABELS)
    assert values == (0, 1, 2, 3, 255)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_not_stretched(bits: int) -> None:
    labels = np.arange(2**bits, dtype=np.uint8).reshape(1, -1).repeat(3, axis=0)
    mask, values = decode_mask(packed(bits, labels))
    np.testing.assert_array_equal(mask, labels)
    assert values == tuple(range(2**bits))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_labels(mode: str) -> None:
    with pytest.raises(NotLabelsError, match=rf"in colours \({mode}\)"):
        decode_mask(png(Image.new(mode, (2, 2))))


def test_what_changes_values_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(LABELS).save(file, "JPEG")
    with pytest.raises(NotLabelsError, match="it is JPEG, and masks are PNG"):
        decode_mask(file.getvalue())
    turned = Image.Exif()
    turned[0x0112] = 6
    with pytest.raises(BadImageError, match="its EXIF turns it"):
        decode_mask(png(Image.fromarray(LABELS), exif=turned))
    with pytest.raises(BadImageError, match="it has the value 256"):
        decode_mask(png(Image.fromarray(LABELS.astype(np.uint16) + 1)))
    with pytest.raises(BadImageError, match="it is not an image"):
        decode_mask(b"labels")


def test_a_size_is_checked_before_it_is_decoded() -> None:
    image = bytearray(packed(4, LABELS[:, :1] % 4))
    image[16:24] = struct.pack(">II", 60_000, 60_000)
    image[29:33] = struct.pack(">I", zlib.crc32(bytes(image[12:29])))
    with pytest.raises(BadImageError, match="60000 × 60000 pixels, more than"):
        decode_mask(bytes(image))
