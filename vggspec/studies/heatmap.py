"""A heat map over the image: where the net sees a class, from the class score map.

A net that is applied densely gives posteriors for every window of the image (Simonyan & Zisserman
2015, section 3.2). Each is painted at the centre of its window, with a smooth transition between,
and the scales are averaged. A legend below shows the classes and the meaning of the colours.

Axes: H rows and W columns of the picture, K classes, h rows and w columns of a score map.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vggspec.base.diagnostic import ArgumentError
from vggspec.runtime.protocol import PosteriorMap

if TYPE_CHECKING:
    from vggspec.runtime.predictor import Prediction

Floats = NDArray[np.floating[Any]]
RGB = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SMALLEST_PX, LARGEST_PX = 800, 1600  # the picture's long side
LEAST_WIDTH_PX = 480  # of the legend
INK: RGB = (32, 33, 36)
FAINT: RGB = (110, 113, 118)

#: Okabe & Ito 2008: colours that colour-blind readers can distinguish.
HUES: tuple[RGB, ...] = (
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
)
MAX_CLASSES = len(HUES)

#: Lightness, chroma and hue (degrees) in OKLCH at equal steps. Lightness rises evenly, so that
#: equal steps of the posterior look equal, also in print without colour.
RAMP = (
    (0.20, 0.08, 285.0),
    (0.39, 0.17, 303.0),
    (0.58, 0.20, 363.0),
    (0.77, 0.16, 420.0),
    (0.96, 0.11, 465.0),
)


def draw(
    image: NDArray[np.uint8],
    prediction: "Prediction",
    *,
    label: int | None = None,
    classes: int | None = None,
) -> Image.Image:
    """The image ``(H, W, 3)`` or ``(H, W, 1)`` under its heat map, with a legend.

    By default one class is drawn, the likeliest or the one with index ``label``, from dark at
    posterior 0 to light at 1. With ``classes`` the likeliest ones are drawn, each in its own hue
    and as opaque as it is likely.

    Raises:
        ArgumentError: the prediction has no maps, or ``classes`` exceeds the number of hues.
    """
    if not prediction.maps:
        raise ArgumentError("the prediction has no score map; compile the bundle with --map")
    if classes is not None and not 1 <= classes <= MAX_CLASSES:
        raise ArgumentError(f"classes are 1 to {MAX_CLASSES}, not {classes}")
    picture = np.asarray(displayed(image), np.float32) / 255
    width = max(picture.shape[1], LEAST_WIDTH_PX)
    if classes is not None:
        indices = prediction.ranking(classes)
        painted = _paint_hues(picture, prediction.maps, indices)
        legend = _hue_legend(prediction, indices, width)
    else:
        index = prediction.ranking(1)[0] if label is None else label
        painted = _paint_ramp(picture, evidence(prediction.maps, index, picture.shape[:2]))
        legend = _ramp_legend(prediction, index, width)
    return stacked(Image.fromarray(_to_bytes(painted)), legend)


def evidence(maps: Sequence[PosteriorMap], index: int, size: tuple[int, int]) -> Floats:
    """Posteriors ``(H, W)`` of a class over a picture of ``size``, averaged over the maps."""
    total = np.zeros(size, np.float32)
    for one in maps:
        values = one.posteriors[index]
        rows, columns = (
            _between_centres(
                size[axis],
                one.size[axis],
                (one.origin[axis] + one.window[axis] / 2, one.stride[axis], values.shape[axis]),
            )
            for axis in (0, 1)
        )
        total += np.clip(rows @ values.astype(np.float32) @ columns.T, 0, 1)
    return total / len(maps)


def _between_centres(
    num_pixels: int, rescaled_px: int, centres: tuple[float, float, int]
) -> Floats:
    """Weights ``(num_pixels, number)`` that interpolate smoothly between the windows' centres.

    The centres are ``(first, step, number)`` in pixels of the rescaled image. Catmull-Rom splines
    pass through the values; beyond the outer centres the last value continues.
    """
    first, step, number = centres
    places = (np.arange(num_pixels) + 0.5) * (rescaled_px / num_pixels)
    position = np.clip((places - first) / step, 0, number - 1)
    left = np.floor(position).astype(int)
    t = (position - left)[:, np.newaxis]
    cubic = 0.5 * np.hstack(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ]
    )
    weights = np.zeros((num_pixels, number), np.float32)
    for offset in range(4):
        neighbour = np.clip(left + offset - 1, 0, number - 1)
        np.add.at(weights, (np.arange(num_pixels), neighbour), cubic[:, offset])
    return weights


def displayed(image: NDArray[np.uint8]) -> Image.Image:
    """The image in RGB, enlarged or reduced for display."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
    longest = max(picture.size)
    zoom = min(max(longest, SMALLEST_PX), LARGEST_PX) / longest
    size = max(1, round(picture.width * zoom)), max(1, round(picture.height * zoom))
    return picture if zoom == 1 else picture.resize(size, Image.Resampling.LANCZOS)


def _under(picture: Floats, colours: Floats, opacity: Floats) -> Floats:
    """The picture in gray under the colours."""
    gray = picture @ np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
    blended: Floats = gray[..., np.newaxis] * (1 - opacity) + colours * opacity
    return blended


def _paint_ramp(picture: Floats, heat: Floats) -> Floats:
    colours = ramp()[np.round(heat * 255).astype(int)] / np.float32(255)
    return _under(picture, colours, opacity=(0.45 + 0.35 * heat)[..., np.newaxis])


def _paint_hues(picture: Floats, maps: Sequence[PosteriorMap], indices: Sequence[int]) -> Floats:
    heats = np.stack([evidence(maps, index, picture.shape[:2]) for index in indices], axis=-1)
    total = heats.sum(axis=-1, keepdims=True)
    hues = np.array(HUES[: len(indices)], np.float32) / 255
    colours = heats @ hues / np.maximum(total, 1e-6)
    return _under(picture, colours, opacity=0.75 * np.minimum(total, 1))


def ramp() -> NDArray[np.uint8]:
    """``(256, 3)`` RGB from dark to light, lightness in even steps.

    Source: Ottosson 2020, "A perceptual color space for image processing" (OKLab to sRGB).
    """
    anchors = np.array(RAMP)
    places = np.linspace(0, len(RAMP) - 1, 256)
    lightness, chroma, hue = (
        np.interp(places, np.arange(len(RAMP)), anchors[:, k]) for k in range(3)
    )
    a, b = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=-1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_rgb.T, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return _to_bytes(curved)


def _to_bytes(values: Floats) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return rounded


class _Sheet:
    """A white sheet for the legend, written downwards; its text is ``unit`` pixels high."""

    def __init__(self, prediction: "Prediction", width: int, lines: float) -> None:
        self.prediction = prediction
        self.width = width
        self.unit = min(max(width // 38, 15), 32)
        self.image = Image.new("RGB", (width, round(lines * self.unit)), "white")
        self.pen = ImageDraw.Draw(self.image)
        self.y = 0

    def skip(self, lines: float) -> None:
        self.y += round(lines * self.unit)

    def entry(self, index: int, indent: int = 0) -> None:
        """A class at the left and its posterior, or score, at the right."""
        font = ImageFont.load_default(size=self.unit)
        value = float(self.prediction.posteriors[index])
        is_posterior = self.prediction.kind == "posteriors"
        text = f"{value:.2%}" if is_posterior else f"score {value:.3g}"
        self.pen.text((self.width, self.y), text, INK, font, anchor="ra")
        room = self.width - indent - self.unit - self.pen.textlength(text, font)
        name = shortened(self.pen, self.prediction.labels[index], font, room)
        self.pen.text((indent, self.y), name, INK, font)

    def swatch(self, hue: RGB) -> int:
        """Draw a square of one colour at the left; returns where the text beside it begins."""
        top = self.y + self.unit // 8  # as high as the letters beside it
        square = (0, top, self.unit - 1, top + self.unit - 1)
        self.pen.rounded_rectangle(square, self.unit // 5, fill=hue)
        return round(1.6 * self.unit)

    def scale_of_colours(self) -> None:
        """The ramp, as wide as the sheet, with numbers from 0 to 1 below it."""
        colours = Image.fromarray(ramp()[np.newaxis])
        self.image.paste(
            colours.resize((self.width, self.unit), Image.Resampling.BILINEAR), (0, self.y)
        )
        self.skip(1.25)
        font = ImageFont.load_default(size=0.75 * self.unit)
        for quarter, anchor in enumerate(("la", "ma", "ma", "ma", "ra")):
            place = (self.width * quarter // 4, self.y)
            self.pen.text(place, f"{quarter / 4:g}", FAINT, font, anchor=anchor)

    def caption(self) -> None:
        """The meaning of the colours."""
        font = ImageFont.load_default(size=0.75 * self.unit)
        maps = self.prediction.maps
        rows, columns = maps[0].window
        scales = ", ".join(str(one.scale) for one in maps)
        text = f"posterior of the {columns} x {rows} window around each place, Q = {scales}"
        line = shortened(self.pen, text, font, self.width)
        self.pen.text((0, self.y), line, FAINT, font)


def shortened(pen: ImageDraw.ImageDraw, text: str, font: Font, room: float) -> str:
    """A text on one line, shortened to the width ``room``."""
    text = " ".join(text.split())
    if pen.textlength(text, font) <= room:
        return text
    while text and pen.textlength(f"{text}…", font) > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _ramp_legend(prediction: "Prediction", index: int, width: int) -> Image.Image:
    sheet = _Sheet(prediction, width, lines=5.3)
    sheet.entry(index)
    sheet.skip(1.7)
    sheet.scale_of_colours()
    sheet.skip(1.35)
    sheet.caption()
    return sheet.image


def _hue_legend(prediction: "Prediction", indices: Sequence[int], width: int) -> Image.Image:
    sheet = _Sheet(prediction, width, lines=1.7 * len(indices) + 1.1)
    for index, hue in zip(indices, HUES, strict=False):
        sheet.entry(index, indent=sheet.swatch(hue))
        sheet.skip(1.7)
    sheet.skip(0.15)
    sheet.caption()
    return sheet.image


def stacked(picture: Image.Image, legend: Image.Image) -> Image.Image:
    """The picture above the legend, both in the middle, with a margin around them."""
    margin = legend.width // 38
    canvas = Image.new(
        "RGB",
        (legend.width + 2 * margin, picture.height + legend.height + 3 * margin),
        "white",
    )
    canvas.paste(picture, (margin + (legend.width - picture.width) // 2, margin))
    canvas.paste(legend, (margin, picture.height + 2 * margin))
    return canvas
