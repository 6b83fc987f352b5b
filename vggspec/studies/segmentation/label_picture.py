"""A label map as a picture: over the image with a legend, and as a PNG of class numbers.

Colours are those of Pascal VOC's annotations, which other tools show too: neighbouring numbers have
distant colours, and class 0, usually the background, is black. A class called background is left
unpainted over the image.

Axes: H rows and W columns of the image, h rows and w columns of the picture.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vggspec.base.diagnostic import ArgumentError
from vggspec.data.mask import palette
from vggspec.studies.heatmap import (
    FAINT,
    INK,
    LEAST_WIDTH_PX,
    RGB,
    displayed,
    shortened,
    stacked,
)

if TYPE_CHECKING:
    from vggspec.runtime.predictor import Area, Prediction

MOST_ENTRIES = 12
"""Classes in the legend; the others are counted."""

OPACITY = 0.6
UNPAINTED = ("background", "__background__", "_background_")
EDGE: RGB = (255, 255, 255)


def mask(labels: NDArray[np.uint8] | NDArray[np.uint16]) -> Image.Image:
    """Class numbers ``(H, W)`` as a picture: with a palette, as in Pascal VOC, whose indices are
    the numbers; in gray of 16 bits where there are more than 256.
    """
    if labels.dtype != np.uint8:
        return Image.fromarray(labels)
    picture = Image.fromarray(labels)
    picture.putpalette(palette().tobytes())
    return picture


def overlay(image: NDArray[np.uint8], prediction: "Prediction") -> Image.Image:
    """An image ``(H, W, C)`` with the classes of its pixels painted over it, the edges between them
    in white, and a legend below with each class's share of the image.

    Raises:
        ArgumentError: the prediction has no label map.
    """
    if prediction.label_map is None:
        raise ArgumentError("the prediction has no label map; its net gives no labels of pixels")
    picture = displayed(image)
    labels = np.asarray(
        Image.fromarray(prediction.label_map.labels.astype(np.int32)).resize(
            picture.size, Image.Resampling.NEAREST
        )
    )
    areas = prediction.areas()
    clear = [area.index for area in areas if _is_unpainted(area.label)]
    colours = palette()[labels % 256].astype(np.float32)
    opacity = np.where(np.isin(labels, clear), 0.0, OPACITY)[..., np.newaxis]
    painted = np.asarray(picture, np.float32) * (1 - opacity) + colours * opacity
    painted[_edges(labels)] = EDGE
    legend = _legend(areas, max(picture.width, LEAST_WIDTH_PX), _caption(prediction))
    return stacked(Image.fromarray(np.round(painted).astype(np.uint8)), legend)


def _is_unpainted(label: str) -> bool:
    return label.strip().casefold() in UNPAINTED


def _edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels ``(h, w)`` whose right or lower neighbour has another label."""
    found = np.zeros(labels.shape, np.bool_)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def _caption(prediction: "Prediction") -> str:
    scales = ", ".join(map(str, prediction.scales))
    mirrored = ", with the mirror image" if prediction.flip else ""
    return f"share of the image, mean posterior; Q = {scales}{mirrored}"


def _legend(areas: list["Area"], width: int, caption: str) -> Image.Image:
    unit = min(max(width // 38, 15), 32)
    shown = areas[:MOST_ENTRIES]
    more = len(areas) - len(shown)
    height = round((1.7 * (len(shown) + bool(more)) + 1.1) * unit)
    legend = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(legend), ImageFont.load_default(size=unit)
    small = ImageFont.load_default(size=0.75 * unit)
    colours, y = palette(), 0
    for area in shown:
        top = y + unit // 8
        square = (0, top, unit - 1, top + unit - 1)
        red, green, blue = (int(value) for value in colours[area.index % 256])
        is_clear = _is_unpainted(area.label)
        fill = None if is_clear else (red, green, blue)
        pen.rounded_rectangle(square, unit // 5, fill=fill, outline=FAINT if is_clear else fill)
        value = f"{area.share:.1%}   {area.posterior:.2f}"
        pen.text((width, y), value, INK, font, anchor="ra")
        left = round(1.6 * unit)
        room = width - left - unit - pen.textlength(value, font)
        pen.text((left, y), shortened(pen, area.label, font, room), INK, font)
        y += round(1.7 * unit)
    if more:
        pen.text((round(1.6 * unit), y), f"and {more} more", FAINT, font)
        y += round(1.7 * unit)
    pen.text((0, y), shortened(pen, caption, small, width), FAINT, small)
    return legend
