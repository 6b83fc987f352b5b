"""A small reader of handwriting: pages of digits to train on, and the reading of a page.

scikit-learn's digits are 8 × 8 pixels. They are enlarged and written in uneven rows, as on paper,
and windows are cut from these pages: around each digit, with what stands beside it, and between
the digits. A net that has learned to tell eleven classes from such windows, the ten digits and
``between``, can be applied densely to a page and read it, though it never saw where a digit is.

Source: Simonyan & Zisserman 2015, section 3.2 (dense application). The digits are E. Alpaydin and
C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vggspec.base.catalogue.artefacts import InTheWay
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import replacing_folder
from vggspec.base.optional import require
from vggspec.runtime.protocol import PosteriorMap
from vggspec.studies.heatmap import evidence

BETWEEN = "between"
LABELS = (*(str(digit) for digit in range(10)), BETWEEN)  # sorted, as folders are

GLYPH_PX = 24
WINDOW_PX = 38  # the files; the net sees crops of 32
DIGIT_PX = (24, 14)  # no other digit is as close as this, downwards and sideways
CLEAR_PX = 10  # a window this far from every digit is between them
ROW = 30  # digits in a row of the pages that are trained on
NUM_BETWEEN = {"train": 600, "val": 200}

MARK = ".vggspec-demo"

Number = TypeVar("Number", bound=np.generic)
Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: A colour for each digit, after Tableau 10.
COLOURS = (
    (78, 121, 167),
    (242, 142, 43),
    (225, 87, 89),
    (60, 174, 163),
    (89, 161, 79),
    (222, 178, 30),
    (176, 90, 180),
    (240, 110, 150),
    (156, 117, 95),
    (110, 110, 125),
)


@dataclass(frozen=True, slots=True)
class Digit:
    """A handwritten digit: its ink ``(GLYPH_PX, GLYPH_PX)`` from 0 to 1, and what it is."""

    ink: NDArray[np.float32]
    label: str


@dataclass(frozen=True, slots=True)
class PlacedDigit:
    """A digit on a page; the centre is in pixels."""

    label: str
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class Page:
    """A picture of digits, dark on white, and where they are, row by row."""

    pixels: Gray
    """``(H, W)``"""

    rows: tuple[tuple[PlacedDigit, ...], ...]

    @property
    def digits(self) -> tuple[PlacedDigit, ...]:
        """All digits in reading order."""
        return tuple(place for row in self.rows for place in row)


def spec_path() -> Path:
    """The spec of the net that reads."""
    return Path(str(resources.files("vggspec.specs"))) / "digits.vgg"


def load_digits(seed: int) -> dict[str, list[Digit]]:
    """The 1797 digits: three quarters of each kind in ``train``, the rest in ``val``, shuffled.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "the demo", "demo")
    from sklearn.datasets import load_digits as load

    images, numbers = load(return_X_y=True)
    random = np.random.default_rng(seed)
    train: list[Digit] = []
    val: list[Digit] = []
    for number in range(10):
        mine = random.permutation(np.flatnonzero(numbers == number))
        digits = [Digit(_enlarged(images[i].reshape(8, 8)), str(number)) for i in mine]
        split = round(len(digits) * 0.75)
        train += digits[:split]
        val += digits[split:]
    splits = {"train": train, "val": val}
    return {
        name: [digits[i] for i in random.permutation(len(digits))]
        for name, digits in splits.items()
    }


def write_page(
    digits: Sequence[Digit],
    in_row: int,
    random: np.random.Generator,
    row_px: tuple[int, int] = (30, 40),
) -> Page:
    """Digits in rows, unevenly spaced, none quite on its line; ``row_px`` is from row to row."""
    rows: list[tuple[PlacedDigit, ...]] = []
    y = WINDOW_PX
    for start in range(0, len(digits), in_row):
        x = WINDOW_PX + int(random.integers(0, 12))
        row = []
        for digit in digits[start : start + in_row]:
            row.append(PlacedDigit(digit.label, y + int(random.integers(-3, 4)), x))
            x += int(random.integers(21, 35))
        rows.append(tuple(row))
        y += int(random.integers(*row_px))
    page = Page(np.zeros(0, np.uint8), tuple(rows))
    height = max(place.y for place in page.digits) + WINDOW_PX
    width = max(place.x for place in page.digits) + WINDOW_PX
    ink = np.zeros((height, width), np.float32)
    for digit, place in zip(digits, page.digits, strict=True):
        part = _window(ink, place.y, place.x, GLYPH_PX)
        np.maximum(part, digit.ink, out=part)
    return Page((255 - 255 * ink).round().astype(np.uint8), page.rows)


def write_folder(root: Path, digits: dict[str, list[Digit]], seed: int) -> int:
    """Write the image folder to train on, in place of one from before; the number of images.

    Raises:
        VggspecError: something else stands there, or the system refuses.
    """
    if root.exists() and not (root / MARK).is_file():
        raise VggspecError(report(InTheWay(what="something else"), path=str(root)))
    with replacing_folder(root) as folder:
        (folder / MARK).touch()
        for name, some in digits.items():
            random = np.random.default_rng([seed, len(some)])
            _write_split(folder / name, some, NUM_BETWEEN[name], random)
    return sum(len(some) + NUM_BETWEEN[name] for name, some in digits.items())


def write_test_page(digits: Sequence[Digit], seed: int) -> Page:
    """Two rows of ten digits, at random."""
    random = np.random.default_rng([seed, 2])
    some = [digits[i] for i in random.permutation(len(digits))[:20]]
    return write_page(some, 10, random, row_px=(44, 47))


def read_page(seen: PosteriorMap, labels: Sequence[str], least: float = 0.2) -> list[PlacedDigit]:
    """The digits that a dense net sees, in reading order.

    A digit is a peak of its posterior, averaged over neighbouring positions; what is left of the
    posteriors around it, as far as a digit reaches, belongs to the same one.
    """
    digits = [i for i, label in enumerate(labels) if label != BETWEEN]
    smooth = _averaged(seen.posteriors[digits])
    height, width = smooth.shape[1:]
    ys, xs = (
        seen.origin[axis] + seen.window[axis] / 2 + seen.stride[axis] * np.arange(number)
        for axis, number in ((0, height), (1, width))
    )
    best = smooth.max(axis=0)
    found: list[PlacedDigit] = []
    while best.max() >= least:
        i, j = np.unravel_index(best.argmax(), best.shape)
        label = labels[digits[int(smooth[:, i, j].argmax())]]
        found.append(PlacedDigit(label, round(float(ys[i])), round(float(xs[j]))))
        is_near = np.hypot((ys[:, None] - ys[i]) / DIGIT_PX[0], (xs - xs[j]) / DIGIT_PX[1]) < 1
        best = np.where(is_near, 0.0, best)
    return [place for row in rows_of(found) for place in row]


def rows_of(places: Sequence[PlacedDigit]) -> list[list[PlacedDigit]]:
    """Places row by row, each from left to right; a row begins more than half a digit lower."""
    rows: list[list[PlacedDigit]] = []
    for place in sorted(places, key=lambda place: place.y):
        if not rows or place.y - rows[-1][-1].y > GLYPH_PX / 2:
            rows.append([])
        rows[-1].append(place)
    return [sorted(row, key=lambda place: place.x) for row in rows]


def num_agreeing(written: Sequence[PlacedDigit], read: Sequence[PlacedDigit]) -> int:
    """How many digits were read where they were written, and as what they are."""
    left = list(read)
    agreeing = 0
    for place in written:
        near = [one for one in left if math.hypot(one.y - place.y, one.x - place.x) < GLYPH_PX / 2]
        if near:
            nearest = min(near, key=lambda one: math.hypot(one.y - place.y, one.x - place.x))
            left.remove(nearest)
            agreeing += nearest.label == place.label
    return agreeing


def draw(
    page: Gray,
    seen: PosteriorMap,
    labels: Sequence[str],
    read: Sequence[PlacedDigit],
    zoom: int = 3,
) -> Image.Image:
    """The page under its class score map, a colour for each digit, with what was read above it."""
    size = page.shape[1] * zoom, page.shape[0] * zoom
    large = Image.fromarray(page).resize(size, Image.Resampling.LANCZOS)
    paper = _sharpened(np.asarray(large, np.float64) / 255, 0.15, 0.85)[..., np.newaxis]
    digits = [labels.index(label) for label in LABELS[:10]]
    heats = np.stack([evidence([seen], i, (size[1], size[0])) for i in digits], axis=-1)
    total = heats.sum(axis=-1, keepdims=True)
    hues = heats @ np.array(COLOURS) / 255 / np.maximum(total, 1e-6)
    heat = np.minimum(total, 1)
    # Ink takes the colour, and the paper around it a lighter shade, as from a marker pen.
    painted = paper * (1 - 0.5 * heat * (1 - hues)) + (1 - paper) * 0.9 * heat * hues
    picture = Image.fromarray((painted * 255).round().clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for place in read:
        _tag(pen, (place.x * zoom, (place.y - GLYPH_PX // 2 - 6) * zoom), place.label, zoom)
    return _with_legend(picture, zoom)


def _tag(pen: ImageDraw.ImageDraw, middle: tuple[int, int], label: str, zoom: int) -> None:
    x, y = middle
    radius = 4.5 * zoom
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), COLOURS[int(label)])
    pen.text(middle, label, "white", ImageFont.load_default(7 * zoom), anchor="mm")


def _with_legend(picture: Image.Image, zoom: int) -> Image.Image:
    side, below = 10 * zoom, (WINDOW_PX - GLYPH_PX // 2 - 8) * zoom  # more than is needed
    cropped = picture.crop((side, 2 * zoom, picture.width - side, picture.height - below))
    sheet = Image.new("RGB", (cropped.width, cropped.height + 22 * zoom), "white")
    sheet.paste(cropped)
    pen = ImageDraw.Draw(sheet)
    step = sheet.width / 11
    for digit in range(10):
        _tag(pen, (round((digit + 1) * step), cropped.height + 5 * zoom), str(digit), zoom)
    caption = (
        "colours: class posteriors of the 32 x 32 window around each place; discs: what is read"
    )
    font = ImageFont.load_default(5 * zoom)
    pen.text((sheet.width / 2, cropped.height + 16 * zoom), caption, (90, 93, 98), font, "mm")
    return sheet


def _enlarged(image: Floats) -> NDArray[np.float32]:
    """Ink from 0 to 1 at ``GLYPH_PX``: smooth strokes rather than blurred pixels."""
    small = Image.fromarray((image / 16).astype(np.float32))
    large = np.asarray(small.resize((GLYPH_PX, GLYPH_PX), Image.Resampling.BICUBIC))
    return _sharpened(large, 0.1, 0.9).astype(np.float32)


def _sharpened(values: NDArray[np.floating[Any]], low: float, high: float) -> Floats:
    """0 up to ``low``, 1 from ``high`` on, smoothly between: what was blurred gets edges again."""
    x = np.clip((values - low) / (high - low), 0, 1)
    sharp: Floats = x * x * (3 - 2 * x)
    return sharp


def _window(page: NDArray[Number], y: int, x: int, side: int) -> NDArray[Number]:
    half = side // 2
    return page[y - half : y + half, x - half : x + half]


def _write_split(
    folder: Path, digits: Sequence[Digit], num_between: int, random: np.random.Generator
) -> None:
    for label in LABELS:
        (folder / label).mkdir(parents=True)
    step = 4 * ROW
    pages = [write_page(digits[i : i + step], ROW, random) for i in range(0, len(digits), step)]
    windows = [(page, place) for page in pages for place in page.digits]
    windows += [_between(pages, random) for _ in range(num_between)]
    for number, (page, place) in enumerate(windows):
        window = _window(page.pixels, place.y, place.x, WINDOW_PX)
        Image.fromarray(window).save(folder / place.label / f"{number:04}.png")


def _between(pages: Sequence[Page], random: np.random.Generator) -> tuple[Page, PlacedDigit]:
    """A place without a digit in its middle."""
    half = WINDOW_PX // 2
    while True:
        page = pages[int(random.integers(len(pages)))]
        y, x = (int(random.integers(half, side - half)) for side in page.pixels.shape)
        if all(max(abs(p.y - y), abs(p.x - x)) >= CLEAR_PX for p in page.digits):
            return page, PlacedDigit(BETWEEN, y, x)


def _averaged(maps: Floats) -> Floats:
    """Each position ``(K, h, w)`` with its eight neighbours."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    height, width = maps.shape[1:]
    parts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    mean: Floats = np.mean(parts, axis=0)
    return mean
