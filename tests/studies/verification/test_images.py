"""The images that a bundle is verified on."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vggspec.studies.verification.images import natural_images
from vggspec.studies.verification.reference import one_by_one


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 33, 57), (3, 24, 2)])
def test_images_are_like_photographs(shape: tuple[int, int, int], channels: int) -> None:
    images = natural_images(shape, channels, 0)
    assert images.shape == (*shape, channels)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, natural_images(shape, channels, 0))
    assert not np.array_equal(images, natural_images(shape, channels, 1))
    if shape[0] > 1:
        assert not np.array_equal(images[0], images[1])


def test_neighbouring_pixels_are_alike() -> None:
    image = natural_images((1, 128, 160), 3, 0)[0].astype(np.float64)
    assert 25 < image.std() < 80
    steps = np.abs(np.diff(image, axis=1)).mean()
    assert steps < image.std() / 4


def test_a_reference_runs_image_by_image() -> None:
    images = natural_images((3, 8, 8), 1, 0)
    sizes = []

    def mean(batch: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        sizes.append(len(batch))
        return {"x": batch.mean(axis=(1, 2))}

    np.testing.assert_array_equal(one_by_one(mean, images)["x"], images.mean(axis=(1, 2)))
    assert sizes == [1, 1, 1]
