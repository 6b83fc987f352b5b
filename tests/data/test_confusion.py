"""What follows from a confusion, against scikit-learn and by hand."""

import numpy as np
import pytest

from vggspec.data.confusion import Confusion


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    from sklearn import metrics

    random = np.random.default_rng(seed)
    truth, named = random.integers(0, 5, (2, 400))
    named[truth == 2] = 2
    counts = metrics.confusion_matrix(truth, named, labels=range(5))
    found = Confusion(counts)
    wanted = metrics.jaccard_score(truth, named, average=None)
    np.testing.assert_allclose(found.ious, wanted)
    assert found.mean_iou == pytest.approx(metrics.jaccard_score(truth, named, average="macro"))
    assert found.pixel_accuracy == pytest.approx(metrics.accuracy_score(truth, named))
    assert found.mean_accuracy == pytest.approx(metrics.balanced_accuracy_score(truth, named))
    np.testing.assert_allclose(found.accuracies, metrics.recall_score(truth, named, average=None))


def test_classes_that_do_not_occur_do_not_count() -> None:
    """Class 1 has no pixels and is named once; class 3 is neither there nor named."""
    found = Confusion(np.array([[6, 1, 1, 0], [0] * 4, [0, 0, 2, 0], [0] * 4]))
    np.testing.assert_allclose(found.ious, [6 / 8, 0, 2 / 3, np.nan])
    assert found.mean_iou == pytest.approx((6 / 8 + 0 + 2 / 3) / 3)
    np.testing.assert_allclose(found.accuracies, [6 / 8, np.nan, 1, np.nan])
    assert found.mean_accuracy == pytest.approx((6 / 8 + 1) / 2)
    assert found.pixel_accuracy == 8 / 10


def test_of_nothing() -> None:
    found = Confusion(np.zeros((3, 3), np.int64))
    assert (found.mean_iou, found.mean_accuracy, found.pixel_accuracy) == (0, 0, 0)
