"""The heat map: evidence at the right places, and pictures that can be read."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vggspec.base.diagnostic import ArgumentError
from vggspec.runtime.predictor import Prediction
from vggspec.runtime.protocol import PosteriorMap
from vggspec.studies import heatmap
from vggspec.studies.heatmap import HUES, MAX_CLASSES, draw, evidence, ramp

WINDOW, STRIDE = 16, 8
LABELS = ("ant", "bee", "cat", *(f"class {i}" for i in range(3, 10)))


def posterior_map(
    values: NDArray[np.float64], origin: tuple[float, float] = (0.0, 0.0)
) -> PosteriorMap:
    """A map of one class's ``values`` ``(h, w)``; the second class has the rest."""
    rows, columns = values.shape
    others = np.zeros((len(LABELS) - 2, rows, columns))
    return PosteriorMap(
        posteriors=np.concatenate([[values, 1 - values], others]),
        scale=WINDOW + STRIDE * (rows - 1),
        size=(WINDOW + STRIDE * (rows - 1), WINDOW + STRIDE * (columns - 1)),
        window=(WINDOW, WINDOW),
        stride=(STRIDE, STRIDE),
        origin=origin,
    )


def prediction(*maps: PosteriorMap, **changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "posteriors": np.array([0.6, 0.3, 0.1, *[0.0] * 7]),
        "kind": "posteriors",
        "labels": LABELS,
        "scales": tuple(one.scale for one in maps),
        "flip": False,
        "maps": maps,
        "size": (40, 56),
    }
    return Prediction(**values | changes)


def peak(row: int, column: int) -> PosteriorMap:
    values = np.zeros((4, 6))
    values[row, column] = 1.0
    return posterior_map(values)


@pytest.mark.parametrize(("row", "column"), [(1, 2), (2, 4), (0, 0), (3, 5)])
@pytest.mark.parametrize("zoom", [1, 3])
def test_the_evidence_of_a_window_lies_at_its_centre(row: int, column: int, zoom: int) -> None:
    one = peak(row, column)
    size = one.size[0] * zoom, one.size[1] * zoom
    heat = evidence([one], 0, size)
    assert heat.shape == size
    centre = zoom * (WINDOW // 2 + STRIDE * row), zoom * (WINDOW // 2 + STRIDE * column)
    assert heat[centre] > 0.9
    rows, columns = np.nonzero(heat > 0.5)
    if 0 < row < 3:  # at the border the outer values are continued
        assert abs((rows.min() + rows.max()) / 2 - centre[0]) <= zoom
    if 0 < column < 5:
        assert abs((columns.min() + columns.max()) / 2 - centre[1]) <= zoom
        assert columns.max() - columns.min() < 1.5 * zoom * STRIDE


def test_the_origin_moves_the_evidence() -> None:
    values = np.linspace(0, 1, 24).reshape(4, 6)
    size = posterior_map(values).size
    here = evidence([posterior_map(values)], 0, size)
    there = evidence([posterior_map(values, origin=(0.0, 3.0))], 0, size)
    np.testing.assert_allclose(there[:, 3:], here[:, :-3], atol=1e-6)


def test_a_flat_map_is_painted_flat_and_never_leaves_its_range() -> None:
    flat = posterior_map(np.full((3, 5), 0.25))
    np.testing.assert_allclose(evidence([flat], 0, (77, 31)), 0.25, atol=1e-6)
    steep = evidence([peak(1, 1)], 1, (100, 100))
    assert steep.min() >= 0
    assert steep.max() <= 1


def test_scales_are_averaged() -> None:
    maps = [posterior_map(np.full(shape, value)) for shape, value in [((1, 2), 0.2), ((4, 6), 0.8)]]
    np.testing.assert_allclose(evidence(maps, 0, (40, 60)), 0.5, atol=1e-6)


def test_the_ramp_climbs_evenly_in_lightness() -> None:
    colours = ramp() / 255
    assert colours.shape == (256, 3)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    # CIE L*, which the ramp was not made from.
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    assert lightness[0] < 15
    assert lightness[-1] > 90
    steps = np.diff(lightness[::15])
    assert steps.min() > 0.5 * steps.mean()
    assert steps.max() < 1.5 * steps.mean()


@pytest.mark.parametrize("classes", [None, 1, 3, MAX_CLASSES])
@pytest.mark.parametrize("shape", [(300, 400, 3), (12, 9, 1), (30, 3000, 3), (3000, 30, 3)])
def test_any_image_is_drawn_at_a_readable_size(
    classes: int | None, shape: tuple[int, int, int]
) -> None:
    image = np.full(shape, 128, np.uint8)
    picture = draw(image, prediction(peak(1, 2)), classes=classes)
    assert picture.mode == "RGB"
    assert heatmap.LEAST_WIDTH_PX < picture.width < 1.1 * heatmap.LARGEST_PX
    assert picture.height < 1.3 * heatmap.LARGEST_PX
    file = io.BytesIO()
    picture.save(file, "PNG")
    legend = np.asarray(picture.convert("L"))[-200:]
    assert legend.min() < 100  # there is ink on it


def centre_colour(picture: Image.Image) -> NDArray[np.int64]:
    """The colour in the middle of a picture of ``SMALLEST_PX`` by half that."""
    margin = (picture.width - heatmap.SMALLEST_PX) // 2
    place = picture.width // 2, margin + heatmap.SMALLEST_PX // 4
    return np.array(picture.getpixel(place), int)


@pytest.mark.parametrize("index", [0, 1])
def test_the_class_asked_for_is_the_one_drawn(index: int) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    certain = posterior_map(np.ones((2, 4)))
    colour = centre_colour(draw(image, prediction(certain), label=index))
    light, dark = ramp()[255].sum(), ramp()[0].sum()
    assert (abs(colour.sum() - light) < abs(colour.sum() - dark)) == (index == 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_each_class_has_the_hue_of_its_swatch(value: float) -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    picture = draw(image, prediction(posterior_map(np.full((2, 4), value))), classes=2)
    expected = np.array(HUES[0 if value == 1 else 1]) * 0.75 + 128 * 0.25
    assert np.abs(centre_colour(picture) - expected).max() <= 2
    # Both swatches are at the left below the picture.
    margin = (picture.width - heatmap.SMALLEST_PX) // 2
    column = np.asarray(picture)[heatmap.SMALLEST_PX // 2 + 2 * margin :, margin + 8]
    for hue in HUES[:2]:
        assert (column == hue).all(axis=1).any()


def test_unlikely_classes_leave_the_picture_alone() -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    unsure = prediction(posterior_map(np.zeros((2, 4))), posteriors=np.array([1.0, *[0.0] * 9]))
    np.testing.assert_allclose(centre_colour(draw(image, unsure, classes=1)), 128, atol=1)


def test_long_and_odd_labels_stay_inside() -> None:
    labels = ("x" * 500, "two\nlines", "名前", *LABELS[3:])
    picture = draw(
        np.zeros((20, 20, 3), np.uint8), prediction(peak(1, 1), labels=labels), classes=3
    )
    edge = np.asarray(picture)[:, -picture.width // 60 :]
    assert (edge == 255).all()


def test_scores_are_labelled_as_such() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    values = np.array([12.5, -3.0, *[-9.0] * 8])
    scored = draw(image, prediction(peak(1, 1), posteriors=values, kind="scores"))
    as_share = draw(image, prediction(peak(1, 1), posteriors=values))
    assert np.asarray(scored).tolist() != np.asarray(as_share).tolist()


def test_what_cannot_be_drawn_is_said() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ArgumentError, match="no score map"):
        draw(image, prediction())
    for classes in (0, MAX_CLASSES + 1):
        with pytest.raises(ArgumentError, match=f"1 to {MAX_CLASSES}"):
            draw(image, prediction(peak(1, 1)), classes=classes)
