"""Decoding: what is good and what bad, on which both decoders agree, and what scaling costs."""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from tests.refusals import told
from tests.training.folders import picture
from vggspec.compiler.ir import Color
from vggspec.data import decode as module
from vggspec.data.decode import BadImageError, decode, decoded_size, upright_size
from vggspec.data.read import read_image
from vggspec.runtime.preprocess import rescale

HAS_SIMPLEJPEG = module._simplejpeg() is not None
DECODERS = [
    "Pillow",
    pytest.param(
        "simplejpeg",
        marks=pytest.mark.skipif(not HAS_SIMPLEJPEG, reason="simplejpeg is not installed"),
    ),
]


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "Pillow":
        monkeypatch.setattr(module, "_simplejpeg", lambda: None)
    return request.param


def photo(size: tuple[int, int] = (500, 375), name: str = "china.jpg") -> Image.Image:
    """A real photo, rescaled."""
    datasets = pytest.importorskip("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image(name)).resize(size, Resampling.LANCZOS)


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(kind: str) -> bytes:
    """An image whose header promises 60 000 × 60 000 pixels."""
    raw = bytearray(saved(Image.new("L", (1, 1)), kind))
    if kind == "PNG":
        raw[16:24] = (60_000).to_bytes(4, "big") * 2
        raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    else:
        frame = raw.index(b"\xff\xc0")
        raw[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    return bytes(raw)


BAD: dict[str, Callable[[], bytes]] = {
    "a truncated JPEG": lambda: saved(picture((90, 90, 90), (64, 64), 0))[:-600],
    "a truncated PNG": lambda: saved(picture((90, 90, 90), (64, 64), 0), "PNG")[:-600],
    "nothing": lambda: b"",
    "text": lambda: b"not an image",
    "half a header": lambda: saved(picture((90, 90, 90), (64, 64), 0))[:100],
    "a PNG bomb": lambda: bomb("PNG"),
    "a JPEG bomb": lambda: bomb("JPEG"),
    "floating point": lambda: saved(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("at_least", [None, 4])
def test_bad_images_are_told_from_good_ones(decoder: str, kind: str, at_least: int | None) -> None:
    with pytest.raises(BadImageError) as caught:
        decode(BAD[kind](), "RGB", at_least)
    assert told(caught.value)


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, 1, None])
def test_a_bomb_is_not_opened(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Pillow's limit is, which belongs to the user's own code."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for kind in ("PNG", "JPEG"):
        for reads in (decoded_size, upright_size, partial(decode, color="RGB")):
            with pytest.raises(BadImageError, match="60000 × 60000 pixels"):
                reads(bomb(kind))


IMAGE = picture((200, 100, 50), (30, 40), 1)
DEEP = np.asarray(IMAGE.convert("L")).astype(np.uint16) * 257


def animated(kind: str) -> bytes:
    frames = [IMAGE, picture((0, 0, 200), (30, 40), 2)]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(IMAGE, exif=exif, quality=95)


UNUSUAL: dict[str, Callable[[], bytes]] = {
    "upright": lambda: turned(1),
    "turned by 90 degrees": lambda: turned(6),
    "mirrored": lambda: turned(2),
    "no such orientation": lambda: turned(99),
    "PNG": lambda: saved(IMAGE, "PNG"),  # named .jpg or not: a name is never looked at
    "CMYK": lambda: saved(IMAGE.convert("CMYK")),
    "gray": lambda: saved(IMAGE.convert("L")),
    "progressive": lambda: saved(IMAGE, progressive=True),
    "RGB in JPEG": lambda: saved(IMAGE, keep_rgb=True),
    "4:4:4": lambda: saved(IMAGE, subsampling=0),
    "multi-picture": lambda: saved(IMAGE, "MPO", save_all=True, append_images=[IMAGE]),
    "16 bits gray": lambda: saved(Image.fromarray(DEEP), "PNG"),
    "transparent": lambda: saved(IMAGE.convert("RGBA"), "PNG"),
    "palette": lambda: saved(IMAGE.quantize(16), "GIF"),
    "animated GIF": lambda: animated("GIF"),
    "animated PNG": lambda: animated("PNG"),
    "animated WebP": lambda: animated("WEBP"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.parametrize("color", ["RGB", "BGR", "gray"])
def test_images_are_read_as_predict_reads_them(decoder: str, kind: str, color: Color) -> None:
    data = UNUSUAL[kind]()
    expected = read_image(data, color)
    if color == "BGR":
        expected = expected[..., ::-1]
    np.testing.assert_array_equal(decode(data, color), expected)


def test_sixteen_bits_and_the_first_frame_are_as_written(decoder: str) -> None:
    gray = decode(UNUSUAL["16 bits gray"](), "gray")
    np.testing.assert_array_equal(gray[..., 0], IMAGE.convert("L"))
    np.testing.assert_array_equal(decode(UNUSUAL["animated PNG"](), "RGB"), IMAGE)
    np.testing.assert_array_equal(decode(UNUSUAL["animated WebP"](), "RGB"), IMAGE)
    deep = np.stack([DEEP] * 3, axis=2)
    np.testing.assert_array_equal(decode(sixteen_bit_rgb(deep), "RGB"), deep // 257)


def sixteen_bit_rgb(pixels: np.ndarray) -> bytes:
    """A PNG that Pillow cannot write: 16 bits of each of three colours."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_orientation_turns_the_picture(decoder: str) -> None:
    upright = decode(turned(1), "RGB")
    np.testing.assert_array_equal(decode(turned(6), "RGB"), np.rot90(upright, -1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_that_of_the_pixels(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.new("RGB", (40, 20)), kind, exif=exif)
    rows, columns = (20, 40) if orientation < 5 else (40, 20)
    assert upright_size(data) == (rows, columns)
    assert decode(data, "RGB").shape == (rows, columns, 3)


@pytest.mark.skipif(not HAS_SIMPLEJPEG, reason="simplejpeg is not installed")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"gray": True}])
@pytest.mark.parametrize("at_least", [None, 60, 30, 15])
def test_both_decoders_give_the_same_pixels(
    options: dict[str, object], at_least: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo((501, 375))
    options = dict(options)
    if options.pop("gray", False):
        image = image.convert("L")
    data = saved(image, quality=90, **options)
    fast = decode(data, "RGB", at_least)
    fraction = {None: 1, 60: 2, 30: 4, 15: 8}[at_least]
    assert fast.shape == (-(-375 // fraction), -(-501 // fraction), 3)
    assert decoded_size(data, at_least) == fast.shape[:2]
    monkeypatch.setattr(module, "_simplejpeg", lambda: None)
    np.testing.assert_array_equal(fast, decode(data, "RGB", at_least))


def outcome(data: bytes) -> object:
    try:
        return decode(data, "RGB", 12).tobytes()
    except BadImageError as error:
        return str(error)


@pytest.mark.skipif(not HAS_SIMPLEJPEG, reason="simplejpeg is not installed")
def test_both_decoders_find_the_same_files_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    whole = saved(picture((90, 120, 60), (48, 64), 0), quality=80)
    cases = [whole[:length] for length in (*range(1, len(whole), 97), len(whole) - 2)]
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(2, len(whole), 3):
            damaged[place] = random.integers(256)
        cases.append(bytes(damaged))
    fast = [outcome(case) for case in cases]
    monkeypatch.setattr(module, "_simplejpeg", lambda: None)
    plain = [outcome(case) for case in cases]
    differing = [i for i, (one, other) in enumerate(zip(fast, plain, strict=True)) if one != other]
    assert not differing
    kinds = {isinstance(one, str) for one in plain}
    assert kinds == {True, False}  # of either there were some


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_scaling_in_the_decoder_changes_little(decoder: str, name: str) -> None:
    data = saved(photo((1000, 750), name), quality=90)
    small = decode(data, "RGB", at_least=125)
    assert small.shape == (375, 500, 3)  # no side below three times what is asked for
    assert decode(data, "RGB", at_least=126).shape == (750, 1000, 3)
    plain = rescale(read_image(data), 125).astype(int)
    difference = np.abs(rescale(small, 125) - plain)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) <= 2
    assert difference.max() <= 6


def test_the_name_of_a_file_says_nothing(tmp_path: Path, decoder: str) -> None:
    IMAGE.save(tmp_path / "misnamed.jpg", "PNG")
    data = (tmp_path / "misnamed.jpg").read_bytes()
    np.testing.assert_array_equal(decode(data, "RGB"), IMAGE)
