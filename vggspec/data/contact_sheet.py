"""A picture of many images: rows of small ones, each row with its name.

Axes: H rows, W columns of an image.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from vggspec.base.files import replacing_file
from vggspec.base.render import shown
from vggspec.data.decode import Pixels

GAP_PX = 6
MARGIN_PX = 16
NAME_PX = 150  # the column of names
FONT_PX = 13
FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"
PAPER, INK, GRAY, FRAME = (252, 252, 251), (28, 29, 31), (105, 110, 117), (227, 228, 226)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """A row of a sheet."""

    name: str
    images: Sequence[Pixels]
    """uint8 ``(H, W, 3)`` or ``(H, W, 1)``."""

    below: str = ""
    """A line below the name."""


def write_sheet(
    path: str | os.PathLike[str], title: str, rows: Iterable[Row], *, side: int = 96
) -> None:
    """Write a PNG, whole or not at all; images are fitted into squares of ``side`` pixels.

    Raises:
        VggspecError: the system refuses.
    """
    sheet = draw_sheet(title, list(rows), side=side)
    with replacing_file(path) as file:
        sheet.save(file, "PNG")


def draw_sheet(title: str, rows: Sequence[Row], *, side: int = 96) -> Image.Image:
    """The sheet; images that are smaller than their square are enlarged without smoothing."""
    font = _font(FONT_PX)
    names = NAME_PX if any(row.name or row.below for row in rows) else 0
    across = max((len(row.images) for row in rows), default=1)
    top = MARGIN_PX + 2 * FONT_PX
    width = 2 * MARGIN_PX + names + across * (side + GAP_PX) - GAP_PX
    sheet = Image.new(
        "RGB", (max(width, 420), top + len(rows) * (side + GAP_PX) + MARGIN_PX), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    head = fitting(pen, title, font, sheet.width - 2 * MARGIN_PX)
    pen.text((MARGIN_PX, MARGIN_PX), head, INK, font)
    for number, row in enumerate(rows):
        y = top + number * (side + GAP_PX)
        room = names - 2 * GAP_PX
        middle = y + side / 2
        lift = 0.7 * FONT_PX if row.below else 0
        pen.text((MARGIN_PX, middle - lift), fitting(pen, row.name, font, room), INK, font, "lm")
        below = fitting(pen, row.below, font, room)
        pen.text((MARGIN_PX, middle + lift), below, GRAY, font, "lm")
        for place, pixels in enumerate(row.images):
            x = MARGIN_PX + names + place * (side + GAP_PX)
            pen.rectangle((x, y, x + side - 1, y + side - 1), fill=FRAME)
            small = _fitted(pixels, side)
            sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))
    return sheet


def fitting(pen: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """The beginning of a text that fits into so many pixels."""
    text = shown(text)
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def _font(size: int) -> Font:
    """Matplotlib's font, which has most alphabets, else Pillow's."""
    found = importlib.util.find_spec("matplotlib")
    for folder in found.submodule_search_locations or () if found is not None else ():
        with contextlib.suppress(OSError):
            return ImageFont.truetype(os.path.join(folder, FONT), size)
    return ImageFont.load_default(size=size)


def _fitted(pixels: Pixels, side: int) -> Image.Image:
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    by = side / max(image.size)
    size = max(1, round(image.width * by)), max(1, round(image.height * by))
    how = Image.Resampling.NEAREST if by > 1 else Image.Resampling.BILINEAR
    return image.resize(size, how, reducing_gap=2).convert("RGB")
