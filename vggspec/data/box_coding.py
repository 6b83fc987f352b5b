"""Boxes around objects: where they are, how a net says it, and when it is right.

A box is left, top, right, bottom in pixels of the upright image, from the upper left corner of its
first pixel: one that covers the columns 0 to 9 has its left side at 0 and its right side at 10.
Arrays of boxes are float64 ``(..., 4)``; all functions take any number of boxes at once, and
broadcast.

A net sees a window of an image and says where the box is in it: centre x, centre y, width, height,
seen from the window's centre, in units of the window's width and height. A box that fills its
window is (0, 0, 1, 1); one that fills the left half is (-0.25, 0, 0.5, 1). So the numbers mean the
same at every scale, and no rescaling changes them.

Source: Simonyan & Zisserman 2015, appendix A. It names the four numbers and not their origin and
unit, which are chosen here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]

#: A box is right when it shares more than this with the true one (appendix A, after ILSVRC).
RIGHT_IOU = 0.5


def encode(boxes: ArrayLike, window: ArrayLike) -> Boxes:
    """Boxes ``(..., 4)`` as a net says them that sees ``window``, itself a box."""
    corners, (origin, size) = _corners(boxes), _origin_and_size(window)
    near, far = ((corners[..., i, :] - origin) / size for i in (0, 1))
    return np.concatenate([(near + far) / 2 - 0.5, far - near], axis=-1)


def decode(output: ArrayLike, window: ArrayLike) -> Boxes:
    """The boxes ``(..., 4)`` of a net's output for ``window``; the inverse of ``encode``."""
    numbers, (origin, size) = np.asarray(output, np.float64), _origin_and_size(window)
    centre, extent = numbers[..., :2] + 0.5, numbers[..., 2:]
    sides = [centre - extent / 2, centre + extent / 2]
    return np.concatenate([side * size + origin for side in sides], axis=-1)


def mirror(output: ArrayLike) -> Boxes:
    """What a net says of the mirror image of its window."""
    return np.asarray(output, np.float64) * (-1.0, 1.0, 1.0, 1.0)


def clip(boxes: ArrayLike, size: tuple[int, int]) -> Boxes:
    """The part of each box within an image of ``size``, rows and columns; empty where none is."""
    rows, columns = size
    return np.asarray(boxes, np.float64).clip(0.0, (columns, rows, columns, rows))


def area(boxes: ArrayLike) -> NDArray[np.float64]:
    """Area in square pixels ``(...)``; 0 for a box whose right side is left of its left side."""
    corners = _corners(boxes)
    sides = (corners[..., 1, :] - corners[..., 0, :]).clip(0.0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def overlap(one: ArrayLike, other: ArrayLike) -> Boxes:
    """The box that two share."""
    ours, theirs = _corners(one), _corners(other)
    near = np.maximum(ours[..., 0, :], theirs[..., 0, :])
    return np.concatenate([near, np.minimum(ours[..., 1, :], theirs[..., 1, :])], axis=-1)


def iou(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union ``(...)``, from 0 to 1; 0 where both are empty."""
    shared = area(overlap(one, other))
    union = area(one) + area(other) - shared
    return np.divide(shared, union, out=np.zeros_like(union), where=union > 0)


def _corners(boxes: ArrayLike) -> Boxes:
    """``(..., 2, 2)``: upper left and lower right, each x and y."""
    array = np.asarray(boxes, np.float64)
    return array.reshape(*array.shape[:-1], 2, 2)


def _origin_and_size(window: ArrayLike) -> Sequence[Boxes]:
    corners = _corners(window)
    return corners[..., 0, :], corners[..., 1, :] - corners[..., 0, :]
