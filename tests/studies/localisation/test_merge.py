"""The greedy merge: by hand, against a slow one, and whatever the order of the boxes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vggspec.studies.localisation.merge import Merged, match_score, merge

Floats = NDArray[np.float64]

#: Of docs/localisation.md: left, top, right, bottom; the posteriors of two classes.
EXAMPLE = np.array(
    [[0, 0, 40, 30], [0, 8, 40, 38], [80, 0, 120, 30], [86, 8, 126, 38], [60, 60, 70, 70]], float
)
POSTERIORS = np.array([[0.5, 0.1], [0.4, 0.2], [0.2, 0.6], [0.3, 0.5], [0.7, 0.1]])


def slow_score(one: Floats, other: Floats, *, literal: bool) -> float:
    """The formula, a number at a time."""
    width = max(min(one[2], other[2]) - max(one[0], other[0]), 0)
    height = max(min(one[3], other[3]) - max(one[1], other[1]), 0)
    shared = width * height
    x, y = (
        (one[0] + one[2]) / 2 - (other[0] + other[2]) / 2,
        (one[1] + one[3]) / 2 - (other[1] + other[3]) / 2,
    )
    apart = np.sqrt(x * x + y * y)
    if literal:
        return float(apart + shared)
    areas = [max(b[2] - b[0], 0) * max(b[3] - b[1], 0) for b in (one, other)]
    diagonals = [np.sqrt((b[2] - b[0]) ** 2 + (b[3] - b[1]) ** 2) for b in (one, other)]
    size = (diagonals[0] + diagonals[1]) / 2
    relative = 0.0 if apart == 0 else np.inf if size == 0 else apart / size
    return float(relative + 1 - (shared / (areas[0] + areas[1] - shared) if shared else 0))


def slow_merge(boxes: Floats, scores: Floats, threshold: float, *, literal: bool) -> Merged:
    """All pairs compared after every merge; of equals the first pair in order."""
    order = sorted(range(len(boxes)), key=lambda i: (*boxes[i], scores[i]))
    sums, totals, sources = [boxes[i] for i in order], [scores[i] for i in order], [1] * len(order)
    while len(sums) > 1:
        means = [total / number for total, number in zip(sums, sources, strict=True)]
        found = [
            (slow_score(means[i], means[j], literal=literal), i, j)
            for i in range(len(sums))
            for j in range(i + 1, len(sums))
        ]
        score, i, j = min(found)
        if score > threshold or score == np.inf:
            break
        for listed in (sums, totals, sources):
            listed[i] = listed[i] + listed[j]  # type: ignore[index, operator]
            del listed[j]  # type: ignore[attr-defined]
    return Merged(
        boxes=np.array([total / number for total, number in zip(sums, sources, strict=True)]),
        scores=np.array(totals),
        sources=np.array(sources),
    )


def assert_same(found: Merged, expected: Merged) -> None:
    np.testing.assert_array_equal(found.boxes, expected.boxes.reshape(-1, 4))
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.sources, expected.sources)


# A small grid makes ties, boxes without area and boxes turned inside out common.
SIDES = st.one_of(st.integers(0, 6).map(float), st.floats(-50, 50, width=32))
BOXES = st.lists(st.tuples(*[SIDES] * 4), max_size=9).map(
    lambda rows: np.array(rows, np.float64).reshape(-1, 4)
)
THRESHOLDS = st.sampled_from([0.0, 0.3, 0.6, 1.0, 1.5, 4.0, 1e9, np.inf])


@settings(deadline=None)
@given(BOXES, THRESHOLDS, st.booleans(), st.randoms(use_true_random=False))
def test_it_is_what_comparing_all_pairs_gives_in_any_order(
    boxes: Floats, threshold: float, literal: bool, random: Any
) -> None:
    scores = np.array([random.random() for _ in boxes])
    expected = slow_merge(boxes, scores, threshold, literal=literal)
    assert_same(merge(boxes, scores, threshold, literal=literal), expected)
    order = list(range(len(boxes)))
    random.shuffle(order)
    assert_same(merge(boxes[order], scores[order], threshold, literal=literal), expected)


@settings(deadline=None)
@given(BOXES, THRESHOLDS)
def test_nothing_is_lost(boxes: Floats, threshold: float) -> None:
    merged = merge(boxes, np.ones((len(boxes), 2)), threshold)
    assert merged.sources.sum() == len(boxes)
    np.testing.assert_array_equal(
        merged.scores, np.repeat(merged.sources[:, np.newaxis], 2, axis=1)
    )
    np.testing.assert_allclose(
        (merged.boxes * merged.sources[:, np.newaxis]).sum(axis=0), boxes.sum(axis=0), atol=1e-9
    )
    for i, one in enumerate(merged.boxes):
        others = match_score(one, np.delete(merged.boxes, i, axis=0))
        assert not (others <= threshold)[np.isfinite(others)].any()


@settings(max_examples=10, deadline=None)
@given(st.integers(15, 30), st.integers(0, 1 << 30))
def test_many_boxes_are_merged_as_few_are(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 100, (number, 2))
    boxes = np.hstack([corners, corners + rng.uniform(10, 60, (number, 2))])
    scores = rng.random(number)
    assert_same(merge(boxes, scores, 0.7), slow_merge(boxes, scores, 0.7, literal=False))


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 100, (40, 2))
    boxes = np.hstack([corners, corners + rng.uniform(10, 60, (40, 2))])
    whole = merge(boxes, np.ones(40), 0.8)
    monkeypatch.setattr("vggspec.studies.localisation.merge.BLOCK_PAIRS", 7)
    assert_same(merge(boxes, np.ones(40), 0.8), whole)


def test_the_worked_example() -> None:
    """docs/localisation.md does it on paper."""
    # 0 and 1: centres 8 apart, diagonals of 50, 40 × 22 of 2 · 1200 - 880 shared.
    assert match_score(EXAMPLE[0], EXAMPLE[1]) == pytest.approx(8 / 50 + 1 - 880 / 1520)
    assert match_score(EXAMPLE[0], EXAMPLE[1]) == pytest.approx(0.581, abs=5e-4)
    # 2 and 3: (6, 8), so 10 apart, and 34 × 22 of 2 · 1200 - 748 shared.
    assert match_score(EXAMPLE[2], EXAMPLE[3]) == pytest.approx(10 / 50 + 1 - 748 / 1652)
    assert match_score(EXAMPLE[2], EXAMPLE[3]) == pytest.approx(0.747, abs=5e-4)
    merged = merge(EXAMPLE, POSTERIORS, 0.8)
    np.testing.assert_array_equal(
        merged.boxes, [[0, 4, 40, 34], [60, 60, 70, 70], [83, 4, 123, 34]]
    )
    np.testing.assert_allclose(merged.scores, [[0.9, 0.3], [0.7, 0.1], [0.5, 1.1]])
    np.testing.assert_array_equal(merged.sources, [2, 1, 2])
    only_the_first = merge(EXAMPLE, POSTERIORS, 0.6)
    np.testing.assert_array_equal(only_the_first.sources, [2, 1, 1, 1])


def test_the_printed_formula_keeps_what_is_almost_the_same_apart() -> None:
    twins = np.array([[0, 0, 40, 30], [1, 0, 41, 30], [42, 0, 82, 30]], float)
    assert match_score(twins[0], twins[1], literal=True) == 1 + 39 * 30
    assert match_score(twins[1], twins[2], literal=True) == 41
    assert len(merge(twins, np.ones(3), 0.3).boxes) == 2
    # The neighbours, which share nothing, become one; the twins do not.
    merged = merge(twins, np.ones(3), 50, literal=True)
    np.testing.assert_array_equal(merged.sources, [1, 2])
    np.testing.assert_array_equal(merged.boxes[1], [21.5, 0, 61.5, 30])


def test_boxes_count_as_often_as_they_have_sources() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [3, 0, 13, 10]], float)
    merged = merge(boxes, np.ones(3), 2.0)
    np.testing.assert_array_equal(merged.boxes, [[1, 0, 11, 10]])  # not 1.5, the mean of two means


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 0.0),
        ([0, 0, 10, 10], [10, 0, 20, 10], 10 / np.sqrt(200) + 1),  # they touch
        ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),  # two points at one place share no area
        ([5, 5, 5, 5], [6, 5, 6, 5], np.inf),
        ([0, 0, 10, 10], [5, 5, 5, 5], 1.0),
        ([10, 0, 0, 10], [0, 0, 10, 10], 1.0),  # turned inside out
    ],
)
def test_match_scores_at_the_edges(one: list[float], other: list[float], expected: float) -> None:
    assert match_score(one, other) == expected
    assert match_score(other, one) == expected


def test_match_scores_broadcast() -> None:
    found = match_score(EXAMPLE[:, np.newaxis], EXAMPLE[np.newaxis, :4])
    assert found.shape == (5, 4)
    assert found[0, 1] == match_score(EXAMPLE[0], EXAMPLE[1])
    assert found[4, 2] == match_score(EXAMPLE[4], EXAMPLE[2])


def test_none_and_one() -> None:
    none = merge(np.zeros((0, 4)), np.zeros((0, 3)), 1.0)
    assert (none.boxes.shape, none.scores.shape, none.sources.shape) == ((0, 4), (0, 3), (0,))
    one = merge(EXAMPLE[:1], POSTERIORS[:1], np.inf)
    assert_same(one, Merged(boxes=EXAMPLE[:1], scores=POSTERIORS[:1], sources=np.array([1])))
