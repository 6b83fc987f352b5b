"""Reading images, against Pillow's encoders."""

import io
import re
import struct
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from tests.photos import small_photo as photo
from tests.refusals import refused, told
from vggspec.base.diagnostic import ArgumentError, VggspecError
from vggspec.base.optional import silence_pillow
from vggspec.data import read
from vggspec.data.decode import BadImageError, decode
from vggspec.data.read import decoding_bytes, opened, read_image
from vggspec.runtime.preprocess import rescale

Pixels = NDArray[np.uint8]


def encoded(image: Pixels | Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(file, form, **options)
    return file.getvalue()


def code(error: pytest.ExceptionInfo[VggspecError]) -> str:
    return error.value.reports[0].what.code


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    image = photo()
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(image, "PNG"))
    with path.open("rb") as file:
        sources = [path, str(path), path.read_bytes(), file, Image.open(path), image]
        for source in sources:
            np.testing.assert_array_equal(read_image(source), image)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP"])
def test_every_format_is_read(form: str) -> None:
    if form == "WEBP" and not features.check("webp"):
        pytest.skip("Pillow was built without WebP")
    image = photo()
    mean_difference = {"GIF": 12, "JPEG": 6, "WEBP": 6}.get(form, 0)
    found = read_image(encoded(image, form))
    assert found.shape == image.shape
    assert np.abs(found.astype(int) - image).mean() <= mean_difference


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_are_turned_upright(orientation: int) -> None:
    upright = photo()
    # What a camera held that way stores: the inverse of what the tag asks for.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(stored), "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(data), upright)
    by_pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(read_image(data), np.asarray(by_pillow))


def test_a_damaged_exif_block_does_not_cost_the_image() -> None:
    image = photo()
    data = encoded(image, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    np.testing.assert_array_equal(read_image(data), image)


def test_transparent_pixels_lie_on_white() -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = 0, 128, 255  # black at three opacities
    expected = [255, 127, 0]
    np.testing.assert_array_equal(read_image(encoded(rgba, "PNG"))[0, :, 0], expected)
    np.testing.assert_array_equal(read_image(rgba, "gray")[0, :, 0], expected)
    la = Image.fromarray(rgba).convert("LA")
    np.testing.assert_array_equal(read_image(encoded(la, "PNG"))[0, :, 2], expected)


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    opaque = read_image(encoded(image, "PNG"))
    np.testing.assert_array_equal(opaque, [[[10, 20, 30], [40, 50, 60]]])
    clear = read_image(encoded(image, "PNG", transparency=0))
    np.testing.assert_array_equal(clear, [[[255, 255, 255], [40, 50, 60]]])
    partly = read_image(encoded(image, "PNG", transparency=b"\x00\xff"))
    np.testing.assert_array_equal(partly, clear)


def test_16_bits_are_scaled_to_8() -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]])
    expected = np.round(values / 257)
    short = Image.fromarray(values.astype(np.uint16))
    # Older versions of Pillow read a 16-bit PNG as mode I.
    for source in (encoded(short, "PNG"), Image.fromarray(values.astype(np.int32))):
        np.testing.assert_array_equal(read_image(source, "gray")[:, :, 0], expected)
        np.testing.assert_array_equal(read_image(source)[:, :, 1], expected)


def png_file(pixels: NDArray[np.integer[Any]], bits: int, clear: tuple[int, ...]) -> bytes:
    """A PNG ``(H, W)`` or ``(H, W, 3)`` with a transparent colour, as its specification has it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width, *channels = pixels.shape
    numbers = pixels.reshape(height, -1, 1) >> np.arange(bits)[::-1] & 1
    rows = np.packbits(numbers.reshape(height, -1).astype(np.uint8), axis=1)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if channels else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
        + chunk(b"IDAT", zlib.compress(content))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_gray_of_any_depth_is_white(bits: int) -> None:
    most = (1 << bits) - 1
    pixels = np.random.default_rng(bits).integers(0, most, (40, 50), endpoint=True)
    pixels[3, 4:9] = key = most // 3
    expected = np.round(pixels * (255 / most))
    expected[pixels == key] = 255
    data = png_file(pixels, bits, (key,))
    np.testing.assert_array_equal(read_image(data, "gray")[:, :, 0], expected)
    np.testing.assert_array_equal(read_image(data)[:, :, 2], expected)
    np.testing.assert_array_equal(decode(data, "BGR")[:, :, 1], expected)


def test_a_transparent_colour_of_16_bits_is_compared_in_16_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "STRIP_PIXELS", 128)
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (40, 50, 3))
    pixels[5, 6:9] = key = (300, 40000, 17)
    pixels[7] = 301, 40000, 17  # the same in its upper bytes
    pixels[8] = [(number & 255) << 8 for number in key]
    expected = pixels >> 8
    expected[(pixels == key).all(axis=2)] = 255
    data = png_file(pixels, 16, key)
    np.testing.assert_array_equal(read_image(data), expected)
    np.testing.assert_array_equal(decode(data, "BGR")[:, :, ::-1], expected)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read_image(image), expected)
        found = read_image(image)  # its lower bytes are lost
    assert (found[5, 6:9] == 255).all()
    np.testing.assert_array_equal(found[10:], expected[10:])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_refused(dtype: type) -> None:
    data = encoded(Image.fromarray(np.full((2, 2), 1 << 20, dtype)), "TIFF")
    with refused("its pixels") as error:
        read_image(data)
    assert code(error) == "VGG451"


def test_cmyk_is_turned_into_rgb() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:] = 200, 100, 50
    data = encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert np.abs(read_image(data).astype(int) - image).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb_or_gray(mode: str) -> None:
    source = Image.fromarray(photo())
    image = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
    assert read_image(image).shape == (24, 36, 3)
    assert read_image(image, "gray").shape == (24, 36, 1)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(data)[0, 0], [255, 0, 0])


def test_gray_arrays_of_both_ranks_are_taken() -> None:
    gray = photo()[:, :, 0]
    for array in (gray, gray[:, :, np.newaxis], gray[::-1][::-1]):
        np.testing.assert_array_equal(read_image(array, "gray")[:, :, 0], gray)
        np.testing.assert_array_equal(read_image(array)[:, :, 2], gray)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_a_mistake_of_the_caller(array: NDArray[Any]) -> None:
    with pytest.raises(ArgumentError, match="an image array is uint8"):
        read_image(array)


# Hostile files.


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jpg", b""),
        ("text.jpg", b"this is a text\n" * 50),
        ("truncated.jpg", encoded(photo(200, 300), "JPEG")[:2000]),
        ("truncated.png", encoded(photo(200, 300), "PNG")[:2000]),
        ("header.jpg", encoded(photo(), "JPEG")[:20]),
        ("page.png", b"<html><body>404</body></html>"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_what_is_no_image_is_reported_with_its_path(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(VggspecError) as error:
        read_image(path)
    assert code(error) == "VGG451"
    assert error.value.reports[0].path == str(path)
    with pytest.raises(VggspecError) as error:
        read_image(data)
    assert error.value.reports[0].path is None


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 1), (20_000, 10_000)])
def test_the_size_is_checked_before_the_image_is_decoded(size: tuple[int, int]) -> None:
    with refused(rf"{size[0]} × {size[1]} pixels") as error:
        read_image(png_header(*size))
    assert code(error) == "VGG452"


def test_the_size_is_checked_of_an_image_of_pillows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_BYTES", 7 * 24 * 36 - 1)
    with refused("36 × 24 pixels") as error:
        read_image(Image.fromarray(photo(24, 36)))
    assert code(error) == "VGG452"


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg", "/dev/zero", "nul\0.jpg", "x" * 5000):
        with pytest.raises(VggspecError) as error:
            read_image(path)
        assert code(error) == "VGG510", path


@settings(max_examples=400, deadline=None)
@given(data=st.data(), form=st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]))
def test_damaged_files_give_an_image_or_a_report(data: st.DataObject, form: str) -> None:
    if form == "WEBP" and not features.check("webp"):
        return
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if form in ("BMP", "GIF") else {"exif": exif}
    file = bytearray(encoded(photo(12, 10), form, **options))
    places = st.integers(0, len(file) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        file[place] = value
    end = data.draw(st.none() | places)
    codes = set()
    try:
        image = read_image(bytes(file[:end]))
    except VggspecError as error:
        codes = {report.what.code for report in error.reports}
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3
    assert codes <= {"VGG451", "VGG452"}


# What is global to the process stays as it is.


def test_threads_that_decode_leave_pillow_to_the_users_own_threads() -> None:
    """A limit that is lifted for a moment lets a bomb in, and refuses a good image elsewhere."""
    rgba = np.dstack([photo(), photo()[:, :, 0]])
    sources = [
        (encoded(photo(), "PNG"), photo()),
        (encoded(rgba, "PNG"), read_image(rgba)),
        (encoded(photo(seed=1), "BMP"), photo(seed=1)),
        (encoded(photo(seed=2), "TIFF", compression="tiff_lzw"), photo(seed=2)),
    ]
    bomb, plain = png_header(20_000, 10_000), encoded(photo(), "PNG")
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters), warnings.showwarning
    wrong: list[str] = []
    done = threading.Event()

    def decodes(data: bytes, expected: Pixels) -> None:
        try:
            while not done.is_set():
                if not np.array_equal(decode(data, "RGB"), expected):
                    wrong.append("other pixels")
                with pytest.raises(VggspecError):
                    read_image(bomb)
        except BaseException as error:  # noqa: BLE001 (it is told below)
            wrong.append(repr(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=decodes, args=each) for each in sources]
    try:
        for thread in threads:
            thread.start()
        for _ in range(400):
            with pytest.raises(Image.DecompressionBombError):
                Image.open(io.BytesIO(bomb))
            with Image.open(io.BytesIO(plain)) as opened:
                opened.load()
            found = Image.MAX_IMAGE_PIXELS, list(warnings.filters), warnings.showwarning
            assert found == before
    finally:
        done.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("limit", [1, None])
def test_pillows_own_limit_says_nothing(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for form in ("PNG", "JPEG", "BMP", "GIF"):
        assert read_image(encoded(photo(), form)).shape == (24, 36, 3)


def odd_tiff() -> bytes:
    """A good image of 1 × 1, with a note that reaches past the end of the file."""
    tags = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 8), (279, 4, 1, 1), (305, 2, 9999, 8)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0\0\0\0"


def test_the_command_line_is_not_warned_by_pillow() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert read_image(odd_tiff()).shape == (1, 1, 3)
        assert heard
        heard.clear()
        silence_pillow()
        read_image(odd_tiff())
        assert not heard


def test_where_warnings_are_errors_a_file_that_pillow_warns_of_is_bad() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(VggspecError) as error:
            read_image(odd_tiff())
    assert code(error) == "VGG451"


# Memory.


def bomb_palette(side: int) -> bytes:
    """A palette of two colours, one of them transparent: a bit a pixel in the file."""
    data = encoded(Image.new("P", (8, 8)), "PNG", bits=1, transparency=0)
    header = struct.pack(">II", side, side) + data[24:29]
    rows = zlib.compress(bytes(side * (side + 8) // 8 + side))
    end = data.index(b"IDAT") - 4
    idat = struct.pack(">I", len(rows)) + b"IDAT" + rows
    idat += struct.pack(">I", zlib.crc32(b"IDAT" + rows))
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return data[:16] + header + crc + data[33:end] + idat


def test_a_few_kilobytes_do_not_become_gigabytes() -> None:
    data = bomb_palette(13370)
    assert len(data) < 30_000
    with refused("13370 × 13370 pixels, more than 76695844") as error:
        read_image(data)
    assert code(error) == "VGG452"


SIDE = 2048


def large(kind: str) -> bytes:
    form, _, how = kind.partition(" ")
    if how == "16 bits clear":
        return png_file(np.full((SIDE, SIDE, 3), 500), 16, (500, 500, 501))
    image = Image.new("RGB", (SIDE, SIDE), (200, 100, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, Any] = {"progressive": {"progressive": True, "subsampling": 0}}.get(how, {})
    if how == "turned":
        options = {"exif": exif}
    if how == "one strip":
        options = {"compression": "tiff_lzw", "strip_size": 1 << 30}
    if how == "clear":
        options = {"transparency": 0}
    if how in ("clear", "palette"):
        image = image.quantize(4)
    elif how == "16 bits":
        image = Image.fromarray(np.full((SIDE, SIDE), 500, np.uint16))
    elif how in ("1", "L", "LA", "RGBA", "CMYK"):
        image = image.convert(how)
    return encoded(image, form, **options)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize(
    "kind",
    ["PNG RGB", "PNG RGBA", "PNG LA", "PNG 1", "PNG palette", "PNG clear", "PNG 16 bits",
     "PNG 16 bits clear",
     "JPEG L", "JPEG RGB", "JPEG CMYK", "JPEG progressive", "JPEG turned", "GIF clear", "BMP RGB",
     "WEBP RGB", "WEBP RGBA", "TIFF RGBA", "TIFF CMYK", "TIFF one strip", "TIFF turned"],
)  # fmt: skip
def test_decoding_and_rescaling_take_what_the_header_says(kind: str) -> None:
    data = large(kind)
    with opened(data) as image:
        told = decoding_bytes(image)
        assert 7 * SIDE**2 <= told <= 17 * SIDE**2
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    rescale(read_image(data), 64)
    slack = 12 << 20  # strips, the interpreter's own
    assert resident("VmHWM") - before <= told + slack


def resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


def tiff(tags: list[tuple[int, int, list[int]]], data: bytes = b"") -> bytes:
    """A TIFF of one image, from its tags: number, type, values."""
    entries, values = b"", b""
    for tag, kind, numbers in sorted(tags):
        packed = struct.pack(f"<{len(numbers)}{'_B_HI'[kind]}", *numbers)
        if len(packed) <= 4:
            place = packed.ljust(4, b"\0")
        else:
            place = struct.pack("<I", 14 + 12 * len(tags) + len(values))
            values += packed
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    start = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return start + entries + b"\0\0\0\0" + values + data


TEN = [(256, 4, [10]), (257, 4, [10]), (258, 3, [8]), (259, 3, [1]), (262, 3, [1])]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (tiff([*TEN[:3], (259, 3, [8]), TEN[4], (322, 4, [13000]), (323, 4, [13000]),
               (324, 4, [300]), (325, 4, [9])]), "VGG452"),
        (tiff([*TEN, (278, 4, [1]), (273, 3, [8] * 300_000), (279, 3, [10] * 300_000)]), "VGG451"),
        (tiff([*TEN, (278, 4, [1]), (273, 3, [8] * 2_000), (279, 3, [10] * 2_000)]), "VGG451"),
        (b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + b"\x2c"
         + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x08\x02\0\0\0;", "VGG452"),
    ],
    ids=["a tile", "strips", "more strips than pixels", "a frame"],
)  # fmt: skip
def test_parts_are_bounded_as_the_whole_is(data: bytes, expected: str) -> None:
    with pytest.raises(VggspecError) as error:
        read_image(data)
    assert code(error) == expected
    with pytest.raises(BadImageError):
        decode(data, "RGB")


def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (13, 17, 4), dtype=np.uint8)
    image = Image.fromarray(rgba)
    palette = image.convert("RGB").quantize(16)
    exif = Image.Exif()
    exif[0x0112] = 5
    deep = Image.fromarray(rgba[..., 0].astype(np.uint16) * 200)
    sources = [
        encoded(image, "PNG"),
        encoded(image, "PNG", exif=exif),
        encoded(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        encoded(palette, "GIF", transparency=3),
        encoded(deep, "PNG"),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image.convert("1"), "PNG"),
        encoded(image.convert("LA"), "PNG"),
    ]
    whole = [read_image(data, color) for data in sources for color in ("RGB", "gray")]
    for pixels in (1, 10, 40):
        monkeypatch.setattr(read, "STRIP_PIXELS", pixels)
        strips = [read_image(data, color) for data in sources for color in ("RGB", "gray")]
        for one, other in zip(whole, strips, strict=True):
            np.testing.assert_array_equal(one, other)


# Values that are not images.


def test_what_is_no_image_is_told_what_is_taken() -> None:
    for wrong in (None, 5, 1.5, True, [[1, 2]], (1,), {}, object(), np.uint8(3), io.StringIO("x")):
        with pytest.raises(TypeError, match="an image is a path, the bytes of a file") as error:
            read_image(wrong)  # type: ignore[arg-type]
        assert len(told(error.value)) < 400
    with pytest.raises(TypeError, match=r"one image at a time, pixels as `numpy\.array"):
        read_image([[[1, 2, 3]]])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="open it as 'rb'"):
        read_image(io.StringIO("x"))  # type: ignore[arg-type]


def test_tensors_are_images() -> None:
    torch = pytest.importorskip("torch")
    image = photo()
    x = torch.from_numpy(image)
    first = x.permute(2, 0, 1)
    same = [x, first, x / 255, first / 255, (first / 255).double(), (first / 255).requires_grad_()]
    for tensor in same:
        np.testing.assert_array_equal(read_image(tensor), image)
        assert read_image(tensor, "gray").shape == (24, 36, 1)
    gray = image[:, :, 0]
    for tensor in (x[:, :, 0], x[:, :, :1], first[:1], first[0] / 255):
        np.testing.assert_array_equal(read_image(tensor, "gray")[:, :, 0], gray)
    clear = torch.cat([first, first[:1] * 0])
    assert (read_image(clear) == 255).all()  # transparent pixels lie on white
    halves = read_image((first / 255).bfloat16())
    assert np.abs(halves.astype(int) - image).max() <= 1


def test_other_tensors_are_told_how_to_become_images() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(photo())
    wrongs = {
        "from 0 to 1; this one is from -1 to": x / 255 * 3 - 1,
        "make it bytes by `x.round().byte()` if white is 255": x.float(),
        "this one contains NaN": x * float("nan"),
        "may have its channels first or last: make it an array (H, W, C)": x[:3, :, :],
        "this one is uint8 (1, 24, 36, 3): give one image at a time": x[None],
        "this one is int64 (24, 36, 3): make it bytes by `x.byte()` if white is 255": x.long(),
        "make it bytes by `(255 * x).round().byte()` if white is 1": x > 100,
        "this one is uint8 (24, 2, 36)": x[:, :2, :1].expand(24, 2, 36),
        "this one is uint8 (0, 36, 3)": x[:0],
    }
    for words, wrong in wrongs.items():
        with pytest.raises(ArgumentError, match=re.escape(words)):
            read_image(wrong)
    for wrong in (x.to_sparse(), x.to("meta"), x.float().to("meta")):
        with pytest.raises(ArgumentError, match="an image tensor has its numbers in memory; this"):
            read_image(wrong)
    way = x[:3].permute(2, 0, 1)  # (3, 3, 36)
    np.testing.assert_array_equal(read_image(way.permute(1, 2, 0).numpy()), photo()[:3])


def test_arrays_are_told_how_to_become_images() -> None:
    x = photo()
    wrongs = {
        "put its channels last by `.transpose(1, 2, 0)`": x.transpose(2, 0, 1),
        '`(255 * x).round().astype("uint8")` if white is 1': (x / 255).astype(np.float32),
        '`(x / 257).round().astype("uint8")`': x.astype(np.uint16),
        '`x.astype("uint8")` if white is 255': x.astype(np.int64),
        "give one image at a time": x[None],
        "`.transpose(1, 2, 0)`, make it bytes by `(255 * x)": x.transpose(2, 0, 1) / 255,
        "this one is uint8 (0, 3)": x[:0, :3, 0],
        '(255 * x).round().astype("uint8")': x > 100,
    }
    for words, wrong in wrongs.items():
        with pytest.raises(ArgumentError, match=re.escape(words)):
            read_image(wrong)


def test_a_chunk_that_claims_gigabytes_is_no_matter(tmp_path: Path) -> None:
    """Pillow asks for as many bytes as a chunk claims, which a file on disk makes room for."""
    data = encoded(photo(), "PNG")
    path = tmp_path / "claim.png"
    path.write_bytes(data[:-12] + struct.pack(">I", (1 << 31) - 1) + b"tEXtx")
    with opened(path, str(path)) as image:
        assert isinstance(getattr(image, "fp", None), io.BytesIO)
