"""How often pixels of each class are given each class, and what follows from it.

Source: Long, Shelhamer & Darrell 2015, section 5; Everingham et al. 2015, section 4.2, for IoU.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.data.mask import IGNORED, Mask

#: Pixels that are counted at a time; each takes a few numbers of eight bytes.
STRIP = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Pixels by their label and by the class that a net names; pixels that are ignored are not in
    it.

    >>> found = Confusion(np.array([[3, 1], [0, 4]]))
    >>> found.mean_iou, found.pixel_accuracy, found.mean_accuracy
    (0.775, 0.875, 0.875)
    """

    counts: NDArray[np.int64]
    """``(K, K)``: rows are labels, columns what the net names."""

    @property
    def total(self) -> int:
        """How many pixels there are."""
        return int(self.counts.sum())

    @property
    def ious(self) -> NDArray[np.float64]:
        """``(K,)``: of the pixels that have a class or are given it, the share where both is so.
        NaN for a class that neither has a pixel nor is given to one.
        """
        right, either = np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1)
        return _shares(right, either - right)

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """``(K,)``: the share of a class's pixels that are given it; NaN for a class without."""
        return _shares(np.diag(self.counts), self.counts.sum(axis=1))

    @property
    def mean_iou(self) -> float:
        """The mean of ``ious`` over the classes that have one; 0 without any."""
        return _mean(self.ious)

    @property
    def mean_accuracy(self) -> float:
        """The mean of ``accuracies`` over the classes that have one; 0 without any."""
        return _mean(self.accuracies)

    @property
    def pixel_accuracy(self) -> float:
        """The share of all pixels that are given their class; 0 without any."""
        return int(np.trace(self.counts)) / max(1, self.total)


def counted(
    mask: Mask, named: NDArray[np.unsignedinteger[Any]], classes: NDArray[np.int64], number: int
) -> NDArray[np.int64]:
    """The counts ``(number, number)`` of a picture: its mask, and the class that a net names for
    each pixel, both ``(H, W)``. ``classes`` are the net's for each label.
    """
    counts = np.zeros(number**2, np.int64)
    step = max(1, STRIP // max(1, mask.shape[1]))
    for start in range(0, len(mask), step):
        labels, there = mask[start : start + step], named[start : start + step]
        is_labelled = labels != IGNORED
        pairs = classes[labels[is_labelled]] * number + there[is_labelled]
        counts += np.bincount(pairs, minlength=number**2)
    return counts.reshape(number, number)


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
