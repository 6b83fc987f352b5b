"""What is measured on the training images: the mean colour, and how the colours vary.

The mean is subtracted from every image (section 2.1); the axes of variation give the colour shift
(section 3.1, after Krizhevsky et al. 2012, section 4.1). Each image counts alike, however large, as
each gives one crop an epoch.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggspec.train.images import Pixels

SAMPLE = 4096  # images; the mean of a channel is then known to about one level of 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of pixels from 0 to 255, channels in the order of the net's input."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    num_images: int

    def axes(self) -> NDArray[np.float64]:
        """The principal axes as columns ``(C, C)``, each one standard deviation long."""
        variances, axes = np.linalg.eigh(np.array(self.covariance))
        # An eigenvector may come with either sign; a seed gives one colour shift all the same.
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(len(axes))])
        return np.asarray(axes * np.sqrt(np.maximum(variances, 0.0)))


def sample(num_images: int, seed: int) -> list[int]:
    """Which images are measured: all of a small set, else ``SAMPLE`` at random, in their order."""
    if num_images <= SAMPLE:
        return list(range(num_images))
    random = np.random.default_rng(seed)
    return sorted(random.choice(num_images, SAMPLE, replace=False).tolist())


def measure(images: Iterable[Pixels]) -> Statistics:
    """The statistics of images ``(H, W, C)``, of which there is at least one."""
    number = 0
    mean: NDArray[np.float64] = np.zeros(1)
    square: NDArray[np.float64] = np.zeros((1, 1))
    for image in images:
        pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
        mean = mean + pixels.mean(axis=0)
        square = square + pixels.T @ pixels / len(pixels)
        number += 1
    assert number, "the caller ends the work when images cannot be read"
    mean, square = mean / number, square / number
    covariance = square - np.outer(mean, mean)
    return Statistics(
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        num_images=number,
    )
