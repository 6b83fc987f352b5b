"""Rectangles of a drawn share of an image's area and a drawn aspect.

As in Szegedy et al. 2015, section 6, and torchvision's ``RandomResizedCrop`` and ``RandomErasing``.
"""

import math

import numpy as np
from numpy.typing import NDArray

#: Shapes that are drawn until one fits.
TRIES = 10

Shapes = NDArray[np.float64]
"""``(TRIES, 2)``: shares of an area, and aspects, columns to rows."""


def drawn_shapes(
    random: np.random.Generator, areas: tuple[float, float], aspects: tuple[float, float]
) -> Shapes:
    """Shares from a range, all equally likely; aspects likewise by their logarithms."""
    area, aspect = random.random((2, TRIES))
    low, high = np.log(aspects)
    of_area = areas[0] + area * (areas[1] - areas[0])
    return np.stack([of_area, np.exp(low + aspect * (high - low))], axis=1)


def first_that_fits(shapes: Shapes, rows: int, columns: int) -> tuple[int, int] | None:
    """Rows and columns of the first shape that is no larger than an image."""
    for area, aspect in shapes.tolist():
        down = round(math.sqrt(area * rows * columns / aspect))
        across = round(math.sqrt(area * rows * columns * aspect))
        if 1 <= down <= rows and 1 <= across <= columns:
            return down, across
    return None
