"""Boxes drawn on the image, each with its class and posterior.

A coloured line between a dark and a light one is visible on any photograph. A name is drawn in a
field of the colour of its box, above the box if there is room, and covers no other name if
possible.

Axes: H rows and W columns of the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vggspec.data.box_coding import Boxes
from vggspec.studies.heatmap import HUES, INK, LEAST_WIDTH_PX, RGB, displayed, shortened

PAPER: RGB = (255, 255, 255)
LIGHT = 0.4  # luma from 0 to 1; a lighter field has dark letters

Field = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """A box to draw."""

    box: Boxes
    """``(4,)``, in pixels of the image."""

    text: str
    """Its name, or an empty text."""


def draw(image: NDArray[np.uint8], boxes: Sequence[Drawn]) -> Image.Image:
    """The image ``(H, W, 3)`` or ``(H, W, 1)``, enlarged if it is small, with boxes.

    The first box is drawn last, over the others. A picture narrower than its names has white
    margins.
    """
    picture = displayed(image)
    unit = min(max(max(picture.size) // 38, 15), 32)
    width, height = max(picture.width, LEAST_WIDTH_PX), max(picture.height, 3 * unit)
    canvas = Image.new("RGB", (width, height), PAPER)
    place = (width - picture.width) // 2, (height - picture.height) // 2
    canvas.paste(picture, place)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=unit)
    zoom = picture.width / image.shape[1], picture.height / image.shape[0]
    edges = [_edges(each.box * (*zoom, *zoom) + (*place, *place), canvas.size) for each in boxes]
    for number in reversed(range(len(boxes))):
        _outline(pen, edges[number], HUES[number % len(HUES)], line=max(unit // 6, 3))
    taken: list[Field] = []
    for number, each in enumerate(boxes):
        if not each.text:
            continue
        text = shortened(pen, each.text, font, width - unit)
        size = round(pen.textlength(text, font)) + unit, round(1.4 * unit)
        field = _free(edges[number], size, canvas.size, taken)
        taken.append(field)
        hue = HUES[number % len(HUES)]
        pen.rectangle((field[0], field[1], field[2] - 1, field[3] - 1), fill=hue)
        middle = (field[0] + field[2]) / 2, (field[1] + field[3]) / 2
        pen.text(middle, text, INK if _luma(hue) > LIGHT else PAPER, font, anchor="mm")
    return canvas


def _edges(box: Boxes, size: tuple[int, int]) -> Field:
    """The first and last column and row of a box, within a canvas of ``size`` columns and rows.

    A box narrower than a pixel has one column.
    """
    left, top, right, bottom = np.round(box).astype(int).tolist()
    left, top = min(max(left, 0), size[0] - 1), min(max(top, 0), size[1] - 1)
    return left, top, min(max(right - 1, left), size[0] - 1), min(max(bottom - 1, top), size[1] - 1)


def _outline(pen: ImageDraw.ImageDraw, edges: Field, hue: RGB, *, line: int) -> None:
    """A dark, a coloured and a light frame, from the edges inwards."""
    frames = [(INK, 1), (hue, line), (PAPER, 1)]
    left, top, right, bottom = edges
    for colour, width in frames:
        for _ in range(width):
            if right < left or bottom < top:
                return
            pen.rectangle((left, top, right, bottom), outline=colour)
            left, top, right, bottom = left + 1, top + 1, right - 1, bottom - 1


def _free(
    edges: Field, size: tuple[int, int], within: tuple[int, int], taken: Sequence[Field]
) -> Field:
    """The first place for a field of ``size`` columns and rows that covers no other field."""
    fields = [
        (left, top, left + size[0], top + size[1])
        for left, top in _places(edges, size)
        for left, top in [
            (min(max(left, 0), within[0] - size[0]), min(max(top, 0), within[1] - size[1]))
        ]
    ]
    free = (one for one in fields if not any(_covers(one, other) for other in taken))
    return next(free, fields[0])


def _places(edges: Field, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Columns and rows where a field may begin: above the box, below it, then inside it."""
    left, top, right, bottom = edges
    for column in (left, right + 1 - size[0]):
        yield column, top - size[1]
        yield column, bottom + 1
        for row in range(top, max(bottom - size[1], top) + 1, size[1]):
            yield column, row


def _covers(one: Field, other: Field) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _luma(colour: RGB) -> float:
    red, green, blue = colour
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255
