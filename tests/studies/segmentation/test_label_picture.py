"""Label maps as pictures: colours of Pascal VOC, edges, a legend that fits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggspec.base.diagnostic import ArgumentError
from vggspec.data.mask import palette
from vggspec.runtime.label_maps import LabelMap
from vggspec.runtime.predictor import Prediction
from vggspec.studies.segmentation.label_picture import MOST_ENTRIES, mask, overlay

VOC = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128),
       20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip


def prediction(labels: np.ndarray, names: tuple[str, ...]) -> Prediction:
    found = LabelMap(labels=labels, confidence=np.full(labels.shape, 0.5, np.float32))
    return Prediction(
        posteriors=np.zeros(0), kind="posterior_map", labels=names, scales=(64,), flip=False,
        maps=(), size=labels.shape, label_map=found,
    )  # fmt: skip


def halves(rows: int = 40, columns: int = 60) -> np.ndarray:
    labels = np.zeros((rows, columns), np.uint8)
    labels[:, columns // 2 :] = 2
    return labels


def test_colours_are_those_of_pascal_voc() -> None:
    found = palette()
    assert {index: tuple(found[index].tolist()) for index in VOC} == VOC
    assert len(np.unique(found, axis=0)) == 256


def test_a_mask_contains_the_numbers(tmp_path: Path) -> None:
    labels = halves()
    mask(labels).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        assert read.mode == "P"
        np.testing.assert_array_equal(np.asarray(read), labels)
        assert read.convert("RGB").getpixel((59, 0)) == VOC[2]


def test_a_mask_of_many_classes_has_16_bits(tmp_path: Path) -> None:
    labels = halves().astype(np.uint16) * 400
    mask(labels).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        np.testing.assert_array_equal(np.asarray(read), labels)


def test_background_is_left_unpainted_and_edges_are_white() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    picture = overlay(image, prediction(halves(), ("background", "cat", "dog")))
    pixels = np.asarray(picture)
    middle = pixels.shape[1] // 2
    row = pixels[60]
    assert (row[middle - 200] == 200).all()
    dog = np.round(0.4 * 200 + 0.6 * np.array(VOC[2]))
    np.testing.assert_array_equal(row[middle + 200], dog)
    assert (row[middle - 2 : middle + 2] == 255).all(axis=1).any()


@pytest.mark.parametrize("number", [1, MOST_ENTRIES, MOST_ENTRIES + 3])
def test_the_legend_has_the_largest_classes(number: int) -> None:
    labels = np.repeat(np.arange(number, dtype=np.uint8), 12)[np.newaxis].repeat(30, axis=0)
    names = tuple("a very long name of a class that does not fit on one line " * 3
                  for _ in range(number))  # fmt: skip
    drawn = overlay(np.zeros((*labels.shape, 1), np.uint8), prediction(labels, names))
    more = 1 if number > MOST_ENTRIES else 0
    few = overlay(np.zeros((*labels.shape, 1), np.uint8), prediction(labels * 0, names))
    unit = min(max((drawn.width * 38 // 40) // 38, 15), 32)
    assert (drawn.height - few.height) // (1.6 * unit) >= min(number, MOST_ENTRIES) + more - 1
    assert np.asarray(drawn).std() > 0


def test_a_prediction_without_a_map_is_refused() -> None:
    plain = Prediction(
        posteriors=np.ones(1), kind="posteriors", labels=("a",), scales=(1,), flip=False,
        maps=(), size=(3, 3),
    )  # fmt: skip
    with pytest.raises(ArgumentError, match="has no label map"):
        overlay(np.zeros((3, 3, 3), np.uint8), plain)
