"""Reading images, against Pillow's encoders."""

import io
import struct
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
from PIL import Image, features

from vggspec.data import read
from vggspec.data.read import read_image
from vggspec.diagnostic import VggspecError

Pixels = NDArray[np.uint8]


def photo(height: int = 24, width: int = 36, seed: int = 0) -> Pixels:
    """Smooth colours, so that lossy formats change them little."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


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


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_refused(dtype: type) -> None:
    data = encoded(Image.fromarray(np.full((2, 2), 1 << 20, dtype)), "TIFF")
    with pytest.raises(VggspecError, match="its pixels") as error:
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
    with pytest.raises(ValueError, match="an image array is uint8"):
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
    with pytest.raises(VggspecError, match=rf"{size[0]} × {size[1]} pixels") as error:
        read_image(png_header(*size))
    assert code(error) == "VGG452"


def test_the_size_is_checked_of_an_image_of_pillows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_PIXELS", 24 * 36 - 1)
    with pytest.raises(VggspecError, match="36 × 24 pixels") as error:
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


def test_pillow_is_left_as_it_was_found() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    data = encoded(photo(300, 400), "JPEG")
    threads = [threading.Thread(target=read_image, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(VggspecError):
        read_image(b"no image")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


# Rescaling.


def test_the_limit_is_where_pillow_refuses_too() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert read.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS
