"""Linear SVMs on descriptors: one class against the rest, C chosen by cross-validation.

scikit-learn's ``LinearSVC`` fits them with liblinear: L2-regularised squared hinge loss, a
regularised bias, Newton's method in the primal. For large C that converges in ten to twenty steps
where coordinate descent in the dual does not in hundreds, and it draws no random numbers.

The weights of an SVM are a combination of its images. If there are fewer images than numbers, it is
fitted in the space that the images span, with the same result: an N by N matrix instead of N by D.

If each image has one class, all classes share the folds, which are stratified, and C is chosen by
accuracy. If images may have several classes, each class is a problem of its own with stratified
folds of its own, and one C is chosen for all classes by mean average precision.

Source: Simonyan & Zisserman 2015, appendix B; Fan et al. 2008, "LIBLINEAR"; Everingham et al. 2010,
section 4.2 (average precision).

Axes: N images, D numbers of a descriptor, K classes.
"""

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.base.files import replacing_file
from vggspec.base.optional import require
from vggspec.base.safetensors_header import header
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.studies.features.file import CLASSES, ROWS, SETTINGS, Labels

Floats = NDArray[np.float64]
ApKind = Literal["area", "voc07"]
"""How average precision is defined."""

MAX_STEPS = 1000
"""Newton steps after which a fit stops without having converged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A value of C and its scores in cross-validation."""

    c: float
    scores: tuple[float, ...]
    """The score of each fold, from 0 to 1: accuracy, or mean average precision."""

    unconverged: int
    """How many fits did not converge."""

    @property
    def mean(self) -> float:
        """The mean over the folds."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """The standard deviation over the folds."""
        return float(np.std(self.scores))


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """A hyperplane for each class; the score is the signed distance times the weights' length."""

    weights: Floats
    """``(K, D)``"""

    bias: Floats
    """``(K,)``"""

    c: float
    unconverged: int
    """How many fits did not converge."""

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """The scores ``(N, K)`` of descriptors ``(N, D)``."""
        found = np.empty((len(features), len(self.bias)))
        for start in range(0, len(features), ROWS):
            rows = features[start : start + ROWS].astype(np.float64)
            found[start : start + ROWS] = rows @ self.weights.T + self.bias
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """The scores of one class; None if it has no images."""

    images: int
    accuracy: float | None
    """The share of its images that are assigned to it; None also if images have several classes."""

    average_precision: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of a model on images that it was not fitted on; shares from 0 to 1."""

    images: int
    classes: tuple[ClassScores, ...]
    accuracy: float | None
    """The share of images assigned to their class; None if images have several classes."""

    confusions: tuple[tuple[int, int, int], ...]
    """Class, another class, and how many images of the first are assigned to the second; the
    largest number first."""

    @property
    def mean_class_accuracy(self) -> float | None:
        """The mean over the classes that have images: Caltech's measure."""
        return _mean(each.accuracy for each in self.classes)

    @property
    def mean_average_precision(self) -> float | None:
        """The mean over the classes that have images: VOC's measure."""
        return _mean(each.average_precision for each in self.classes)


def cross_validate(
    features: NDArray[np.float32],
    labels: Labels,
    cs: Sequence[float],
    *,
    folds: int,
    seed: int,
    ap: ApKind = "area",
    watch: Watcher = SILENT,
) -> tuple[Candidate, ...]:
    """Score each C on each fold. Each class must have an image in each fold.

    Args:
        features: Descriptors ``(N, D)``.
        labels: ``(N,)``, the numbers of the images' classes, or ``(N, K)`` of zeros and ones.
        cs: The candidates, ascending.
        folds: The number of folds.
        seed: Seeds the assignment of images to folds.
        ap: The average precision that scores images of several classes.
        watch: Receives the number of fits that are done.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "fitting an SVM")
    from sklearn.model_selection import StratifiedKFold

    targets = _targets(labels)
    scores = np.zeros((len(targets), len(cs), folds))
    unconverged = [0] * len(cs)
    done, total = 0, scores.size
    for t, target in enumerate(targets):
        cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for k, (kept, held_out) in enumerate(cut.split(target, target)):
            span = _Span(features[kept])
            x, truth = span.project(features[held_out]), target[held_out]
            for i, c in enumerate(cs):
                svm, has_converged = _fit_one(span.images, target[kept], c)
                unconverged[i] += not has_converged
                if labels.ndim == 1:
                    scores[t, i, k] = svm.score(x, truth)
                else:
                    scores[t, i, k] = average_precision(truth, svm.decision_function(x), ap)
                done += 1
                watch.progress(Progress(doing="choosing C", done=done, total=total, unit="fits"))
    return tuple(
        Candidate(c=c, scores=tuple(map(float, of_folds)), unconverged=number)
        for c, of_folds, number in zip(cs, scores.mean(axis=0), unconverged, strict=True)
    )


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the best mean; among equals the one with the smallest C."""
    return max(candidates, key=lambda each: (each.mean, -each.c))


def fit(
    features: NDArray[np.float32], labels: Labels, c: float, *, watch: Watcher = SILENT
) -> LinearModel:
    """Fit the SVM of each class against the rest. Each class must have images.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "fitting an SVM")
    span = _Span(features)
    targets = _targets(labels)
    weights, bias, unconverged = [], [], 0
    for done, target in enumerate(targets, start=1):
        svm, has_converged = _fit_one(span.images, target, c)
        unconverged += not has_converged
        weights.append(span.lift(svm.coef_))
        bias.append(svm.intercept_)
        watch.progress(Progress(doing=f"C = {c:g}", done=done, total=len(targets), unit="fits"))
    w, b = np.concatenate(weights), np.concatenate(bias)
    if labels.ndim == 1 and len(w) == 1:  # one hyperplane separates two classes
        w, b = np.concatenate([-w, w]), np.concatenate([-b, b])
    return LinearModel(weights=w, bias=b, c=c, unconverged=unconverged)


def score(scores: Floats, labels: Labels, ap: ApKind = "area") -> Scores:
    """Compare scores ``(N, K)`` with the images' labels.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "scoring an SVM")
    from sklearn.metrics import confusion_matrix

    number = scores.shape[1]
    accuracy, confusions = None, []
    shares: list[float | None] = [None] * number
    flags = labels
    if labels.ndim == 1:
        table = confusion_matrix(labels, scores.argmax(axis=1), labels=np.arange(number))
        accuracy = float(np.trace(table) / len(labels))
        shares = [float(row[k] / row.sum()) if row.any() else None for k, row in enumerate(table)]
        mistakes = table - np.diag(np.diag(table))
        confusions = [(int(i), int(j), int(table[i, j])) for i, j in np.argwhere(mistakes)]
        flags = (labels[:, np.newaxis] == np.arange(number)).astype(np.uint8)
    return Scores(
        images=len(labels),
        classes=tuple(
            ClassScores(
                images=int(truth.sum()),
                accuracy=share,
                average_precision=average_precision(truth, of_class, ap),
            )
            for truth, of_class, share in zip(flags.T, scores.T, shares, strict=True)
        ),
        accuracy=accuracy,
        confusions=tuple(sorted(confusions, key=lambda one: (-one[2], one[0], one[1]))),
    )


def average_precision(truth: NDArray[Any], scores: Floats, kind: ApKind) -> float | None:
    """The average precision of images ranked by scores ``(N,)``; None if no image is true.

    ``area`` is scikit-learn's: the precision at each true image, averaged. ``voc07`` is that of the
    VOC challenges up to 2009, which scikit-learn lacks: the best precision at a recall of at least
    0, 0.1 … 1, averaged.

    Raises:
        MissingLibraryError: ``area`` requires scikit-learn, which is not installed.
    """
    total = int(truth.sum())
    if not total:
        return None
    if kind == "area":
        require("sklearn", "average precision")
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(truth, scores))
    hits = np.cumsum(truth[np.argsort(-scores, kind="stable")].astype(np.int64))
    precision = hits / np.arange(1, len(hits) + 1)
    # In integers, because 0.3 is not a binary fraction.
    return float(np.mean([precision[10 * hits >= tenths * total].max() for tenths in range(11)]))


def save(
    path: str | os.PathLike[str],
    model: LinearModel,
    classes: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Write a model as safetensors: ``weights`` F32 (K, D), ``bias`` F32 (K,), and its metadata.

    The score of class k is ``weights[k] @ descriptor + bias[k]``.

    Raises:
        VggspecError: the file cannot be written.
    """
    arrays = {"weights": model.weights, "bias": model.bias}
    metadata = {
        CLASSES: json.dumps(list(classes)),
        "vggspec.c": json.dumps(model.c),
        SETTINGS: json.dumps(dict(settings)),
    }
    shapes = {name: ("F32", array.shape) for name, array in arrays.items()}
    with replacing_file(path) as file:
        file.write(header(shapes, metadata))
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").data)


class _Span:
    """The space that images span: coordinates in an orthonormal basis if it has fewer than D."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.images: Floats = features.astype(np.float64)
        """``(N, min(N, D))``"""

        self._basis: Floats | None = None
        if self.images.shape[0] < self.images.shape[1]:
            self._basis, triangle = np.linalg.qr(self.images.T)
            self.images = np.ascontiguousarray(triangle.T)

    def project(self, features: NDArray[np.float32]) -> Floats:
        """The coordinates of descriptors ``(M, D)`` in the space."""
        found: Floats = features.astype(np.float64)
        return found if self._basis is None else found @ self._basis

    def lift(self, weights: Floats) -> Floats:
        """The weights ``(K, D)`` for weights in the space."""
        return weights if self._basis is None else weights @ self._basis.T


def _targets(labels: Labels) -> list[NDArray[Any]]:
    """What to fit: all classes together, or each class on its own if images may have several."""
    return list(labels.T) if labels.ndim == 2 else [labels]


def _fit_one(x: Floats, y: NDArray[Any], c: float) -> tuple[Any, bool]:
    """A fitted ``LinearSVC``, and whether it has converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=c, dual=False, max_iter=MAX_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps shows it
        svm.fit(x, y)
    return svm, svm.n_iter_ < MAX_STEPS


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
