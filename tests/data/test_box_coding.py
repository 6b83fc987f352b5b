"""Boxes: numbers worked out by hand, and areas counted in pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vggspec.data.box_coding import area, clip, decode, encode, iou, mirror, overlap

WINDOW = (10.0, 20.0, 110.0, 70.0)  # 100 wide, 50 high, its centre at (60, 45)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (WINDOW, (0, 0, 1, 1)),
        ((10, 20, 60, 70), (-0.25, 0, 0.5, 1)),
        ((60, 45, 110, 70), (0.25, 0.25, 0.5, 0.5)),
        ((110, 70, 120, 75), (0.55, 0.55, 0.1, 0.1)),
        ((-40, 20, 160, 70), (0, 0, 2, 1)),
    ],
)
def test_boxes_are_said_from_the_centre_of_the_window(
    box: tuple[float, ...], said: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(encode(box, WINDOW), said, atol=1e-15)
    np.testing.assert_allclose(decode(said, WINDOW), box, atol=1e-12)


def test_many_windows_at_once() -> None:
    said = np.array([0.25, -0.1, 0.5, 0.2])
    origins = np.stack(np.meshgrid([0, 32, 64], [0, 32], indexing="xy"), axis=-1)
    windows = np.concatenate([origins, origins + 224], axis=-1)
    found = decode(said, windows)
    assert found.shape == (2, 3, 4)
    centre = 32 + 112 + 0.25 * 224, 32 + 112 - 0.1 * 224
    assert found[1, 1].tolist() == pytest.approx(
        [centre[0] - 56, centre[1] - 22.4, centre[0] + 56, centre[1] + 22.4]
    )
    np.testing.assert_allclose(encode(found, windows), np.broadcast_to(said, (2, 3, 4)))


def test_the_mirror_image_of_a_box() -> None:
    said = encode((20, 30, 40, 60), WINDOW)
    assert decode(mirror(said), WINDOW).tolist() == pytest.approx([80, 30, 100, 60])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 2), (0, 0, 2, 2), 0.5),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0),  # they touch
        ((0, 0, 2, 2), (5, 5, 6, 6), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ((2, 2, 0, 0), (0, 0, 2, 2), 0.0),  # said inside out
        ((0, 0, np.nan, 2), (0, 0, 2, 2), 0.0),
    ],
)
def test_intersection_over_union(
    one: tuple[float, ...], other: tuple[float, ...], expected: float
) -> None:
    assert iou(one, other) == pytest.approx(expected)
    assert iou(other, one) == pytest.approx(expected)


def painted(box: NDArray[np.int64]) -> NDArray[np.bool_]:
    pixels = np.zeros((12, 12), bool)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = True
    return pixels


def test_areas_are_numbers_of_pixels() -> None:
    random = np.random.default_rng(0)
    corners = np.sort(random.integers(0, 13, (40, 2, 2)), axis=1)
    boxes = corners.reshape(40, 4)
    for one, other in zip(boxes, boxes[::-1], strict=True):
        both, either = painted(one) & painted(other), painted(one) | painted(other)
        assert area(one) == painted(one).sum()
        assert area(overlap(one, other)) == both.sum()
        assert iou(one, other) == pytest.approx(both.sum() / max(1, either.sum()))
    assert iou(boxes[:, None], boxes).shape == (40, 40)


def test_boxes_end_where_the_image_ends() -> None:
    boxes = [(-3, 2, 5, 40), (1, 1, 2, 2), (30, 30, 40, 40)]
    assert clip(boxes, (10, 20)).tolist() == [[0, 2, 5, 10], [1, 1, 2, 2], [20, 10, 20, 10]]
