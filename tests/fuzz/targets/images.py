"""Image files: whole ones damaged, headers with huge sizes, parts that do not fit each other."""

import io
import struct
import warnings
import zlib
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from vggspec.data.decode import BadImageError, decode, decoded_size, upright_size
from vggspec.data.read import read_image

SIZES = (0, 1, 2, 255, 256, 1000, 9000, 13370, 16384, 32768, 65535, 65536, 1 << 24, 1 << 31, 2**32)


def one(random: Random, folder: Path) -> str:
    """An image to each of the ways to read one; both decoders say the same of it."""
    if random.randrange(2):
        warnings.simplefilter("ignore")  # as the command line has it; else they are errors here
    data = random.choice(_whole())
    if random.randrange(3) == 0:
        data = _resized(random, data)
    if random.randrange(8):
        data = mutate.damaged(random, data)
    color = random.choice(("RGB", "BGR", "gray"))
    path = folder / "image"
    path.write_bytes(data)
    found = {
        answer(lambda: _checked(read_image(data, color))),
        answer(lambda: _checked(read_image(path, color))),
        _of_many(lambda: _checked(decode(data, color))),
    }
    for reads in (decoded_size, upright_size, lambda data: decode(data, color, 4)):
        _of_many(lambda reads=reads: reads(data))
    kinds = {"bad" if kind in ("VGG451", "VGG452", "VGG510") else kind for kind in found}
    assert len(kinds) == 1, f"they disagree: {found}"
    return " ".join(sorted(found))


def _checked(pixels: Any) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.size


def _of_many(call: Any) -> str:
    try:
        call()
    except BadImageError as error:
        text = str(error)
        assert text.isprintable(), repr(text)
        assert len(text) < 300, text
        return "bad"
    return "ok"


def _resized(random: Random, data: bytes) -> bytes:
    """The header with another size, as whole as before."""
    width, height = (random.choice(SIZES) for _ in range(2))
    found = bytearray(data)
    if data.startswith(b"\x89PNG"):
        found[16:24] = struct.pack(">II", width % 2**32, height % 2**32)
        found[29:33] = struct.pack(">I", zlib.crc32(found[12:29]))
    elif data.startswith(b"BM"):
        found[18:26] = struct.pack("<II", width % 2**32, height % 2**32)
    elif data.startswith(b"GIF"):
        at = random.choice((6, data.find(b"\x2c\0\0\0\0") + 5))
        found[at : at + 4] = struct.pack("<HH", width % 65536, height % 65536)
    elif data.startswith(b"\xff\xd8"):
        at = max(data.find(mark) for mark in (b"\xff\xc0", b"\xff\xc2"))
        found[at + 5 : at + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif data[:2] in (b"II", b"MM"):
        (at,) = struct.unpack("<I", data[4:8])
        for i in range(struct.unpack("<H", data[at : at + 2])[0]):
            entry = at + 2 + 12 * i
            if random.randrange(3) == 0:
                found[entry + 8 : entry + 12] = struct.pack("<I", random.choice(SIZES) % 2**32)
    elif data.startswith(b"RIFF"):
        at = data.find(b"VP8")
        found[at + 8 : at + 18] = random.randbytes(10)
    return bytes(found)


@lru_cache
def _whole() -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)).resize((30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 200)
    palette, later = rgb.quantize(16), rgb.rotate(90)
    kept: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "PNG", {"exif": exif}),
        (rgb.convert("RGBA"), "PNG", {}),
        (rgb.convert("LA"), "PNG", {}),
        (palette, "PNG", {"transparency": bytes(range(16)), "bits": 4}),
        (rgb.convert("1"), "PNG", {}),
        (deep, "PNG", {"icc_profile": b"profile" * 9}),
        (rgb, "PNG", {"save_all": True, "append_images": [later.copy()]}),
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True, "comment": b"x" * 30}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb.convert("L"), "JPEG", {}),
        (rgb, "MPO", {"save_all": True, "append_images": [later.copy()]}),
        (palette, "GIF", {"transparency": 3, "comment": b"c"}),
        (palette, "GIF", {"save_all": True, "append_images": [later.quantize(8)]}),
        (rgb, "BMP", {}),
        (palette, "BMP", {}),
        (rgb, "WEBP", {"exif": exif}),
        (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        (rgb, "WEBP", {"save_all": True, "append_images": [later.copy()]}),
        (rgb, "TIFF", {"exif": exif}),
        (rgb.convert("RGBA"), "TIFF", {"compression": "tiff_lzw"}),
        (rgb, "TIFF", {"compression": "jpeg"}),
        (rgb, "TIFF", {"save_all": True, "append_images": [later.copy()]}),
        (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
    ]
    files = []
    for image, form, options in kept:
        file = io.BytesIO()
        image.copy().save(file, form, **options)  # it remembers options of JPEG
        files.append(file.getvalue())
    return tuple(files)
