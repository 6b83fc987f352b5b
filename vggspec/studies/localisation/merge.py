"""OverFeat's greedy merging of boxes that mean the same object.

The two boxes that match best are replaced by their average until no two match well enough; class
scores add up. An average weights each box by the number of its sources, so a merged box is the mean
of all its sources.

Source: Sermanet et al. 2014, section 4.3; Simonyan & Zisserman 2015, appendix A.1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vggspec.data.box_coding import Boxes

Floats = NDArray[np.float64]

BLOCK_PAIRS = 1 << 15  # match scores computed at once: 2 MB, which fit a cache

MOST = float(np.finfo(np.float64).max)  # boxes that match worse never merge


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The M of N boxes that remain when no two match."""

    boxes: Boxes
    """``(M, 4)``, the mean of their sources."""

    scores: Floats
    """``(M, ...)``, the sum of their sources' scores."""

    sources: NDArray[np.int64]
    """``(M,)``: how many boxes were merged into each."""


def match_score(one: ArrayLike, other: ArrayLike, *, literal: bool = False) -> Floats:
    """How badly boxes match ``(...)``: 0 for equal boxes, 1 or more for boxes that share nothing.

    The distance of the centres over the mean of the diagonals, plus 1 - IoU. ``literal`` is the
    formula that OverFeat prints: the distance of the centres in pixels plus the area of the
    intersection. By it boxes match worse the more they share, and best where they just touch.
    """
    return _match(_measures(one), _measures(other), literal=literal)


def merge(
    boxes: ArrayLike, scores: ArrayLike, threshold: float, *, literal: bool = False
) -> Merged:
    """Merge boxes ``(N, 4)`` whose match score is at most ``threshold``, the best match first.

    ``scores`` ``(N, ...)`` are numbers of each box that add up. The order of the boxes changes no
    digit: they are sorted first, and the first of several equally good matches is merged. Each box
    remembers its best match among the boxes after it, so merging takes N² match scores, not N³.
    """
    sums, totals = np.asarray(boxes, np.float64) + 0.0, np.asarray(scores, np.float64) + 0.0
    if not len(sums):
        return Merged(boxes=sums.reshape(0, 4), scores=totals, sources=np.ones(0, np.int64))
    order = np.lexsort([*totals.reshape(len(sums), -1).T, *sums.T[::-1]])
    sums, totals, sources = sums[order], totals[order], np.ones(len(sums), np.int64)
    measures, is_gone = _measures(sums), np.zeros(len(sums), bool)
    best, match = np.full(len(sums), np.inf), np.zeros(len(sums), np.int64)

    def find_best(rows: NDArray[np.int64]) -> None:
        num_blocks = min(len(rows), -(-len(rows) * len(sums) // BLOCK_PAIRS))
        for some in np.array_split(rows, num_blocks):
            first = some[0]
            found = _match(measures[:, some, None], measures[:, None, first:], literal=literal)
            is_before = np.arange(first, len(sums)) <= some[:, None]
            found[is_before | is_gone[first:]] = np.inf
            match[some] = first + found.argmin(axis=1)
            best[some] = found.min(axis=1)

    find_best(np.arange(len(sums)))
    while best.min() <= min(threshold, MOST):
        i = int(best.argmin())
        j = int(match[i])
        for array in (sums, totals, sources):
            array[i] += array[j]
        measures[:, i] = _measures(sums[i] / sources[i])
        is_gone[j], best[j] = True, np.inf
        found = _match(measures[:, i, None], measures, literal=literal)
        found[is_gone] = np.inf
        before, after = found[:i], found[i + 1 :]
        if len(after):
            match[i], best[i] = i + 1 + after.argmin(), after.min()
        else:
            best[i] = np.inf
        is_better = (before < best[:i]) | ((before == best[:i]) & (i < match[:i]))
        has_lost = ((match == i) | (match == j)) & ~is_gone
        best[:i][is_better], match[:i][is_better] = before[is_better], i
        has_lost[:i] &= ~is_better
        if has_lost.any():
            find_best(np.flatnonzero(has_lost))
    means = sums / sources[:, np.newaxis]
    return Merged(boxes=means[~is_gone], scores=totals[~is_gone], sources=sources[~is_gone])


def _measures(boxes: ArrayLike) -> Floats:
    """``(8, ...)``: sides of boxes ``(..., 4)``, x and y of their centres, diagonals, areas."""
    left, top, right, bottom = np.moveaxis(np.asarray(boxes, np.float64), -1, 0)
    width, height = right - left, bottom - top
    diagonal, area = np.sqrt(width**2 + height**2), width.clip(0.0) * height.clip(0.0)
    x, y = (left + right) / 2, (top + bottom) / 2
    return np.stack([left, top, right, bottom, x, y, diagonal, area])


def _match(ours: Floats, theirs: Floats, *, literal: bool) -> Floats:
    """``match_score`` of boxes whose measures are known."""
    left, top, right, bottom, x, y, diagonal, area = ours
    other_left, other_top, other_right, other_bottom, other_x, other_y, *others = theirs
    width = (np.minimum(right, other_right) - np.maximum(left, other_left)).clip(0.0)
    height = (np.minimum(bottom, other_bottom) - np.maximum(top, other_top)).clip(0.0)
    shared = width * height
    apart = np.sqrt((x - other_x) ** 2 + (y - other_y) ** 2)
    if literal:
        return np.asarray(apart + shared)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = apart / ((diagonal + others[0]) / 2)
        overlap = shared / (area + others[1] - shared)
    # Points and boxes without area: equal ones have distance 0, and none shares anything.
    relative = np.where(apart > 0, relative, 0.0)
    return np.asarray(relative + (1 - np.where(shared > 0, overlap, 0.0)))
