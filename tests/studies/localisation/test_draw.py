"""Boxes on pictures: at their places, in their colours, named, and never outside."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ImageDraw

from vggspec.studies import heatmap
from vggspec.studies.heatmap import HUES, LEAST_WIDTH_PX
from vggspec.studies.localisation import draw as draw_boxes
from vggspec.studies.localisation.draw import Drawn, draw


def grey(rows: int, columns: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.full((rows, columns, channels), 128, np.uint8)


def drawn(*sides: float, text: str = "cat") -> Drawn:
    return Drawn(box=np.array(sides, np.float64), text=text)


def of_colour(picture: NDArray[np.uint8], number: int) -> NDArray[np.bool_]:
    return np.asarray((picture == HUES[number]).all(axis=-1))


def extent(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_a_box_is_drawn_where_it_is() -> None:
    image = grey(900, 1200)  # shown at its own size
    picture = np.asarray(draw(image, [drawn(200, 300, 700, 800, text="")]))
    assert picture.shape == image.shape
    untouched = (picture == 128).all(axis=-1)
    assert untouched[:, :200].all()
    assert untouched[:, 700:].all()
    assert untouched[800:].all()
    assert not untouched[300, 200:700].any()  # the upper edge, and so on
    assert not untouched[799, 200:700].any()
    assert not untouched[300:800, 200].any()
    assert not untouched[300:800, 699].any()
    assert untouched[320:780, 220:680].all()
    below_its_name = of_colour(picture, 0)[310:]
    assert extent(below_its_name)[0] == 201  # beside the dark line
    assert extent(below_its_name)[2] == 699


def test_small_images_are_shown_large_and_their_boxes_with_them() -> None:
    picture = np.asarray(draw(grey(60, 80), [drawn(20, 30, 40, 60)]))
    assert picture.shape == (600, 800, 3)
    left, _, right, bottom = extent(of_colour(picture, 0)[310:])
    assert (left, right, bottom + 310) == (201, 399, 599)


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_a_line_is_seen_on_any_ground(colour: int) -> None:
    """Beside the coloured line run a dark one and a light one: one is unlike the ground."""
    image = np.full((900, 1200, 3), colour, np.uint8)
    picture = np.asarray(draw(image, [drawn(200, 300, 700, 800)])).astype(int)
    across = picture[500, 195:215].sum(axis=-1)
    assert abs(across - 3 * colour).max() > 300


@pytest.mark.parametrize(
    "sides",
    [
        (0, 0, 1200, 900),
        (0, 0, 1, 1),
        (1199, 899, 1200, 900),
        (1150, 0, 1200, 20),
        (0, 880, 1200, 900),
        (600.2, 400.2, 600.3, 400.3),
    ],
)
def test_names_are_whole_and_inside(sides: tuple[float, ...]) -> None:
    text = "king penguin  63.2%"
    picture = draw(grey(900, 1200), [drawn(*sides, text=text)])
    assert picture.size == (1200, 900)
    field = of_colour(np.asarray(picture), 0)
    font = draw_boxes.ImageFont.load_default(size=31)
    wanted = ImageDraw.Draw(picture).textlength(text, font)
    assert field.any(axis=0).sum() >= wanted


def test_names_do_not_cover_each_other_where_there_is_room() -> None:
    boxes = [drawn(200, 300, 700, 800, text=f"class {i}") for i in range(len(HUES))]
    picture = np.asarray(draw(grey(900, 1200), boxes))
    areas = [of_colour(picture, i).sum() for i in range(len(HUES))]
    assert min(areas) > 1000
    assert max(areas[1:]) < 1.3 * min(areas[1:])  # but for the first one's lines, over the others


def test_the_first_box_is_over_the_others() -> None:
    picture = np.asarray(draw(grey(900, 1200), [drawn(200, 300, 700, 800) for _ in range(2)]))
    assert of_colour(picture, 0)[500].any()
    assert not of_colour(picture, 1)[500].any()


@pytest.mark.parametrize(
    "shape", [(300, 400, 3), (12, 9, 1), (30, 3000, 3), (3000, 30, 3), (1, 1, 3)]
)
@pytest.mark.parametrize("text", ["", "cat", "a very long name " * 20, "two\nlines"])
def test_any_image_and_any_name_will_do(shape: tuple[int, int, int], text: str) -> None:
    rows, columns = shape[:2]
    boxes = [drawn(0, 0, columns, rows, text=text), drawn(0, 0, columns / 2, rows, text=text)]
    picture = draw(grey(*shape), boxes)
    assert picture.mode == "RGB"
    assert LEAST_WIDTH_PX <= picture.width <= heatmap.LARGEST_PX
    assert picture.height <= heatmap.LARGEST_PX
    colours = np.asarray(picture)
    assert of_colour(colours, 0).any()
    assert of_colour(colours, 1).any() or not text  # the first one may lie over a thin one


def test_no_boxes_are_a_picture_too() -> None:
    picture = np.asarray(draw(grey(900, 1200), []))
    assert (picture == 128).all()


def test_letters_are_read_on_their_fields() -> None:
    """The contrast of letters and field, as WCAG 2.1 reckons it, is 3 at least: they are large."""
    for number, hue in enumerate(HUES):
        boxes = [drawn(0, 0, 1, 1, text="") for _ in range(number)]
        picture = np.asarray(
            draw(grey(900, 1200), [*boxes, drawn(200, 300, 700, 800, text="MMMM")])
        )
        mask = of_colour(picture, number)[250:300]
        left, top, right, bottom = extent(mask)
        letters = picture[250 + top : 250 + bottom, left:right].reshape(-1, 3)
        contrasts = [_contrast(colour, hue) for colour in np.unique(letters, axis=0)]
        assert max(contrasts) > 3, hue


def _contrast(one: NDArray[np.uint8], other: tuple[int, int, int]) -> float:
    bright, dark = sorted((_luminance(np.array(c) / 255) for c in (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: NDArray[np.float64]) -> float:
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
