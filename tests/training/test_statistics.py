"""Mean and covariance of the training images, against numpy, and that they are measured once."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.refusals import refused
from tests.training.folders import tiny, write_folder
from vggspec.compiler.ir import Color
from vggspec.data.left_out import LeftOut
from vggspec.training import statistics
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.statistics import SAMPLE, Statistics, measure, measured, sample


def test_statistics_are_numpys() -> None:
    random = np.random.default_rng(3)
    images = [random.integers(0, 256, (7, 9, 3), dtype=np.uint8) for _ in range(5)]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
    found = measure(images)
    np.testing.assert_allclose(found.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(pixels.T, bias=True), rtol=1e-9)
    assert found.num_images == 5


def test_every_image_counts_alike() -> None:
    dark, light = np.zeros((2, 2, 1), np.uint8), np.full((20, 20, 1), 200, np.uint8)
    found = measure([dark, light])
    assert found.mean == (100.0,)
    assert found.covariance == ((10_000.0,),)


def test_axes_are_those_of_eigh() -> None:
    random = np.random.default_rng(4)
    spread = random.normal(size=(3, 3)) * 30
    covariance = spread @ spread.T
    rows = tuple(tuple(row) for row in covariance.tolist())
    axes = Statistics(mean=(0.0,) * 3, covariance=rows, num_images=1).axes()
    np.testing.assert_allclose(axes @ axes.T, covariance, rtol=1e-9)
    variances, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=0), np.sqrt(variances), rtol=1e-9)
    np.testing.assert_allclose(np.abs(axes), np.abs(vectors) * np.sqrt(variances), rtol=1e-9)


def test_axes_of_one_colour_are_no_numbers_to_fear() -> None:
    flat = measure([np.full((4, 4, 3), 77, np.uint8)])
    np.testing.assert_array_equal(flat.axes(), np.zeros((3, 3)))


def test_the_sample_is_the_same_each_time() -> None:
    assert sample(10) == list(range(10))
    large = sample(10 * SAMPLE)
    assert large == sample(10 * SAMPLE)
    assert len(set(large)) == SAMPLE
    assert large == sorted(large)
    assert np.mean(large) == np.clip(np.mean(large), 4.8 * SAMPLE, 5.2 * SAMPLE)


def found_in(data: DataSet, color: Color = "RGB") -> Statistics:
    return measured(data, color, LeftOut(1000, root=data.root))


def test_the_training_images_are_measured(tmp_path: Path) -> None:
    data = open_data(write_folder(tmp_path), tiny().network)
    pixels = [
        np.asarray(Image.open(path), float).reshape(-1, 3)
        for path in sorted((tmp_path / "train").glob("*/*.png"))
    ]
    mean = np.mean([image.mean(axis=0) for image in pixels], axis=0)
    found = found_in(data)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    assert found.num_images == 30
    np.testing.assert_allclose(found_in(data, "BGR").mean, mean[::-1], rtol=1e-9)
    assert len(found_in(data, "gray").mean) == 1


def test_they_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(write_folder(tmp_path), tiny().network)
    first = found_in(data)
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "decode", None)
        assert found_in(data) == first
    image = tmp_path / "train" / "red" / "0.png"
    size = image.stat().st_size
    image.write_bytes((tmp_path / "train" / "blue" / "0.png").read_bytes()[:size].ljust(size))
    os.utime(image, ns=(0, 0))
    again = open_data(tmp_path, tiny().network)
    assert again.fingerprint == data.fingerprint
    assert found_in(again).mean != first.mean  # other images of the same names and sizes


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"mean": [1.0], "covariance": [[1.0]], "num_images": 3},
        {"mean": [1.0] * 3, "covariance": [[1.0] * 3] * 2, "num_images": 3},
        {"mean": [float("nan")] * 3, "covariance": [[1.0] * 3] * 3, "num_images": 3},
        {"mean": [1.0] * 3, "covariance": [[1.0] * 3] * 3, "num_images": None},
        {"mean": ["a"] * 3, "covariance": [[1.0] * 3] * 3, "num_images": 3},
    ],
)
def test_invalid_statistics_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    data = open_data(write_folder(tmp_path), tiny().network)
    expected = found_in(data)
    monkeypatch.setattr(statistics, "recall", lambda kind, key: value)
    assert found_in(data) == expected


def test_bad_images_are_left_out_of_the_mean(tmp_path: Path) -> None:
    data = open_data(write_folder(tmp_path), tiny().network)
    (tmp_path / "train" / "red" / "3.png").write_bytes(b"")
    left_out = LeftOut(1000, root=tmp_path)
    assert measured(data, "RGB", left_out).num_images == 29
    assert left_out.first() == (f"{tmp_path / 'train' / 'red' / '3.png'}: it is empty",)
    with refused("1 of 30 images cannot be read"):
        measured(open_data(tmp_path, tiny().network), "BGR", LeftOut(30, root=tmp_path))
