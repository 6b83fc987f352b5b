"""SVMs and their scores against scikit-learn called directly, and against hand-worked numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from vggspec.base.watcher import Progress, Watcher
from vggspec.studies.features import linear_svm
from vggspec.studies.features.linear_svm import (
    Candidate,
    LinearModel,
    average_precision,
    best,
    fit,
    score,
)

pytest.importorskip("sklearn")

CS = (0.01, 0.1, 1.0, 10.0)
FOLDS, SEED = 4, 3


class Heard(Watcher):
    """Keeps how many fits were done."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def progress(self, now: Progress) -> None:
        assert (now.doing, now.unit, now.total) == ("choosing C", "fits", len(CS) * FOLDS)
        self.done.append(now.done)


def blobs(images: int, numbers: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Descriptors of length 1 around a few directions that lie close."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    centres = rng.standard_normal((classes, numbers))
    x = centres[labels] + 0.5 * numbers**0.5 * rng.standard_normal((images, numbers))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def flags_of(labels: NDArray[Any], classes: int, seed: int = 0) -> NDArray[np.uint8]:
    """Each image's class and, of some images, another."""
    rng = np.random.default_rng(seed)
    flags = np.eye(classes, dtype=np.uint8)[labels]
    flags[np.arange(len(labels)), rng.integers(classes, size=len(labels))] = 1
    return flags


# More images than numbers, and fewer, where the SVM is fitted in the space that they span.
SHAPES = [(72, 10), (40, 90)]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("images", "numbers"), SHAPES)
def test_c_is_chosen_as_grid_search_does(images: int, numbers: int, classes: int) -> None:
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.svm import LinearSVC

    x, y = blobs(images, numbers, classes)
    watch = Heard()
    trials = linear_svm.cross_validate(x, y, CS, folds=FOLDS, seed=SEED, watch=watch)
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    search = GridSearchCV(LinearSVC(dual=False), {"C": CS}, cv=cut)
    search.fit(x.astype(np.float64), y)
    wanted = [search.cv_results_[f"split{k}_test_score"] for k in range(FOLDS)]
    np.testing.assert_allclose([t.scores for t in trials], np.transpose(wanted), rtol=0, atol=1e-12)
    assert best(trials).c == search.best_params_["C"]
    assert watch.done == list(range(1, len(CS) * FOLDS + 1))
    assert len({t.mean for t in trials}) > 1  # there was something to choose
    model = fit(x, y, best(trials).c)
    other, _ = blobs(30, numbers, classes, seed=1)
    direct = LinearSVC(C=best(trials).c, dual=False).fit(x.astype(np.float64), y)
    theirs = direct.decision_function(other)
    if classes == 2:
        theirs = np.stack([-theirs, theirs], axis=1)
    found = model.scores(other)
    np.testing.assert_allclose(found, theirs, rtol=0, atol=2e-3 * np.abs(theirs).max())
    np.testing.assert_array_equal(found.argmax(axis=1), direct.predict(other))


@pytest.mark.parametrize(("images", "numbers"), SHAPES)
def test_several_classes_an_image_are_a_problem_each(images: int, numbers: int) -> None:
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    x, labels = blobs(images, numbers, 3)
    flags = flags_of(labels, 3)
    (trial,) = linear_svm.cross_validate(x, flags, (1.0,), folds=FOLDS, seed=SEED)
    wanted = np.zeros((3, FOLDS))
    for k in range(3):
        cut = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(x, flags[:, k])
        for fold, (kept, left) in enumerate(cut):
            svm = LinearSVC(dual=False).fit(x[kept].astype(np.float64), flags[kept, k])
            wanted[k, fold] = average_precision_score(
                flags[left, k], svm.decision_function(x[left])
            )
    np.testing.assert_allclose(trial.scores, wanted.mean(axis=0), atol=0.01)
    model = fit(x, flags, 1.0)
    direct = OneVsRestClassifier(LinearSVC(dual=False)).fit(x.astype(np.float64), flags)
    theirs = direct.decision_function(x)
    np.testing.assert_allclose(model.scores(x), theirs, atol=2e-3 * np.abs(theirs).max())


def test_scores_are_scikit_learns() -> None:
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        balanced_accuracy_score,
        confusion_matrix,
    )

    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=60)
    scores = rng.standard_normal((60, 4))
    scores[np.arange(60), labels] += 1
    found = score(scores, labels)
    said = scores.argmax(axis=1)
    assert found.accuracy == accuracy_score(labels, said)
    assert found.mean_class_accuracy == pytest.approx(balanced_accuracy_score(labels, said))
    for k, each in enumerate(found.classes):
        assert each.images == (labels == k).sum()
        assert each.average_precision == average_precision_score(labels == k, scores[:, k])
    precisions = [
        each.average_precision for each in found.classes if each.average_precision is not None
    ]
    assert found.mean_average_precision == pytest.approx(sum(precisions) / 4)
    table = confusion_matrix(labels, said)
    assert {(i, j): n for i, j, n in found.confusions} == {
        (i, j): table[i, j] for i in range(4) for j in range(4) if i != j and table[i, j]
    }
    assert [n for _, _, n in found.confusions] == sorted(
        (n for _, _, n in found.confusions), reverse=True
    )


def test_a_class_without_images_says_nothing() -> None:
    scores = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    found = score(scores, np.array([0, 1]))
    assert (found.classes[2].accuracy, found.classes[2].average_precision) == (None, None)
    assert (found.mean_class_accuracy, found.mean_average_precision, found.confusions) == (
        1.0,
        1.0,
        (),
    )
    several = score(scores, np.array([[1, 0, 0], [1, 1, 0]], np.uint8))
    assert several.accuracy is several.mean_class_accuracy is None
    assert [each.images for each in several.classes] == [2, 1, 0]


@pytest.mark.parametrize(
    ("truth", "area", "voc07"),
    [
        # Hits at ranks 1, 3, 4: precisions 1, 2/3, 3/4 at recalls 1/3, 2/3, 1. From recall 0 to
        # 0.3 the best is 1 (four points), above it 3/4 (seven).
        ([1, 0, 1, 1, 0], (1 + 2 / 3 + 3 / 4) / 3, (4 * 1 + 7 * 3 / 4) / 11),
        ([0, 0, 1], 1 / 3, 1 / 3),
        ([1, 1, 0], 1, 1),
        # Ten hits and then ten misses before the last: recall 0.3 is reached by the third hit.
        ([1] * 3 + [0] * 7 + [1] * 7, None, (4 * 1 + 7 * 10 / 17) / 11),
    ],
)
def test_average_precision_by_hand(truth: list[int], area: float | None, voc07: float) -> None:
    ranked = np.array(truth)
    scores = -np.arange(len(truth), dtype=np.float64)
    shuffled = np.random.default_rng(0).permutation(len(truth))
    if area is not None:
        assert average_precision(ranked[shuffled], scores[shuffled], "area") == pytest.approx(area)
    found = average_precision(ranked[shuffled], scores[shuffled], "voc07")
    assert found == pytest.approx(voc07)
    assert average_precision(ranked * 0, scores, "voc07") is None


def test_of_equal_trials_the_smallest_c_is_taken() -> None:
    trials = [
        Candidate(c=c, scores=scores, unconverged=0)
        for c, scores in ((0.1, (0.5, 0.5)), (1.0, (0.75, 0.75)), (10.0, (1.0, 0.5)))
    ]
    assert best(trials).c == 1.0
    assert trials[2].spread == 0.25


def test_a_fit_that_is_given_up_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_svm, "MAX_STEPS", 1)
    x, y = blobs(60, 5, 3)
    (trial,) = linear_svm.cross_validate(x, y, (100.0,), folds=2, seed=0)
    assert trial.unconverged == 2
    assert fit(x, y, 100.0).unconverged == 1


def test_the_model_is_of_use_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((3, 7)), rng.standard_normal(3)
    model = LinearModel(weights=w, bias=b, c=1.0, unconverged=0)
    linear_svm.save(tmp_path / "m", model, ("a", "ß", "c"), {"combine": "stack"})
    found = safetensors.numpy.load_file(tmp_path / "m")
    x = rng.standard_normal((5000, 7)).astype(np.float32)
    np.testing.assert_allclose(
        x @ found["weights"].T + found["bias"], model.scores(x), rtol=1e-4, atol=1e-5
    )
