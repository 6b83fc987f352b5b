"""Mean and covariance of the training images, against numpy."""

import numpy as np

from vggspec.train.statistics import SAMPLE, Statistics, measure, sample


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
    assert sample(10, seed=0) == list(range(10))
    large = sample(10 * SAMPLE, seed=0)
    assert large == sample(10 * SAMPLE, seed=0) != sample(10 * SAMPLE, seed=1)
    assert len(set(large)) == SAMPLE
    assert large == sorted(large)
