"""Linear SVMs on descriptors: one class against the rest, C chosen by cross-validation.

liblinear fits them, through scikit-learn: L2-regularised squared hinge loss, the bias among what is
regularised, by Newton's method in the primal. That has converged after ten or twenty steps where C
is large and coordinate descent in the dual has not after hundreds; and it leaves nothing to chance.

An SVM's weights are a combination of its images. So where there are fewer images than numbers, it
is fitted in the space that the images span, to the same planes: an N by N matrix instead of N by D.

Where an image has one class, the classes share the folds, which are stratified, and C
is chosen by accuracy. Where it may have several, each class is a problem of its own with stratified
folds of its own, and one C is chosen for all by mean average precision.

Source: Simonyan & Zisserman 2015, appendix B; Fan et al. 2008, "LIBLINEAR"; Everingham et al. 2010,
section 4.2 (average precision).

Axes: N images, D numbers of a descriptor, K classes.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.base.files import replacing_file
from vggspec.base.optional import require
from vggspec.base.tensors import header
from vggspec.studies.features.file import CLASSES, ROWS, SETTINGS, Labels

Floats = NDArray[np.float64]
Precision = Literal["area", "voc07"]
Watch = Callable[[int], None]
"""Is told how many fits are done."""

#: Newton's steps after which a fit is given up.
MAX_STEPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of a C."""

    c: float
    scores: tuple[float, ...]
    """From 0 to 1, of each fold: accuracy, or mean average precision."""

    unconverged: int
    """How many of the fits ended before they had converged."""

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """The standard deviation over the folds."""
        return float(np.std(self.scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """A score for each class: how far a descriptor lies on its side of a plane."""

    weights: Floats
    """``(K, D)``"""

    bias: Floats
    """``(K,)``"""

    c: float
    unconverged: int
    """How many of the fits ended before they had converged."""

    def scores(self, features: NDArray[np.float32]) -> Floats:
        """``(N, K)`` for descriptors ``(N, D)``."""
        found = np.empty((len(features), len(self.bias)))
        for start in range(0, len(features), ROWS):
            rows = features[start : start + ROWS].astype(np.float64)
            found[start : start + ROWS] = rows @ self.weights.T + self.bias
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OfClass:
    """How one class fares; None where it has no images to say so."""

    images: int
    accuracy: float | None
    """The share of its images that are told to be of it; None too where images have several."""

    precision: float | None
    """Average precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How a model does on images that it was not fitted on; shares from 0 to 1."""

    images: int
    classes: tuple[OfClass, ...]
    accuracy: float | None
    """The share of images whose class is told; None where images have several."""

    confusions: tuple[tuple[int, int, int], ...]
    """Class, the class that its images were taken for, how many were; most first."""

    @property
    def mean_class_accuracy(self) -> float | None:
        """Over the classes with images, each counting the same: Caltech's measure."""
        return _mean(each.accuracy for each in self.classes)

    @property
    def mean_precision(self) -> float | None:
        """Over the classes with images: VOC's measure."""
        return _mean(each.precision for each in self.classes)


def try_out(
    features: NDArray[np.float32],
    labels: Labels,
    cs: Sequence[float],
    *,
    folds: int,
    seed: int,
    precision: Precision = "area",
    watch: Watch | None = None,
) -> tuple[Trial, ...]:
    """What comes of each C in cross-validation, in the order of ``cs``.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "fitting an SVM")
    from sklearn.model_selection import StratifiedKFold

    several = labels.ndim == 2
    targets = list(labels.T) if several else [labels]
    scores = np.zeros((len(targets), len(cs), folds))
    unconverged = [0] * len(cs)
    done = 0
    for t, target in enumerate(targets):
        cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for k, (kept, left_out) in enumerate(cut.split(np.zeros(len(target)), target)):
            span = _Span(features[kept])
            x, truth = span.of(features[left_out]), target[left_out]
            for i, c in enumerate(cs):
                svm, converged = _fitted(span.images, target[kept], c)
                unconverged[i] += not converged
                if several:
                    value = average_precision(truth, svm.decision_function(x), precision)
                    assert value is not None  # the folds are stratified
                    scores[t, i, k] = value
                else:
                    scores[t, i, k] = svm.score(x, truth)
                done += 1
                if watch:
                    watch(done)
    return tuple(
        Trial(c=c, scores=tuple(map(float, of_folds)), unconverged=missed)
        for c, of_folds, missed in zip(cs, scores.mean(axis=0), unconverged, strict=True)
    )


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the best mean; of equals the one with the smallest C."""
    return max(trials, key=lambda trial: (trial.mean, -trial.c))


def fit(
    features: NDArray[np.float32],
    labels: Labels,
    c: float,
    *,
    watch: Watch | None = None,
) -> LinearModel:
    """Fit the SVM of each class against the rest; every class has images.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    require("sklearn", "fitting an SVM")
    span = _Span(features)
    targets = list(labels.T) if labels.ndim == 2 else [labels]
    weights, bias, unconverged = [], [], 0
    for done, target in enumerate(targets, start=1):
        svm, converged = _fitted(span.images, target, c)
        unconverged += not converged
        weights.append(span.back(svm.coef_))
        bias.append(svm.intercept_)
        if watch:
            watch(done)
    w, b = np.concatenate(weights), np.concatenate(bias)
    if labels.ndim == 1 and len(w) == 1:  # one plane tells two classes apart
        w, b = np.concatenate([-w, w]), np.concatenate([-b, b])
    return LinearModel(weights=w, bias=b, c=c, unconverged=unconverged)


def score(scores: Floats, labels: Labels, precision: Precision = "area") -> Scored:
    """Hold scores ``(N, K)`` against what the images show.

    Raises:
        MissingLibraryError: scikit-learn is not installed.
    """
    number = scores.shape[1]
    accuracy = None
    shares: list[float | None] = [None] * number
    confusions: list[tuple[int, int, int]] = []
    if labels.ndim == 1:
        said = scores.argmax(axis=1)
        table = np.zeros((number, number), np.int64)
        np.add.at(table, (labels, said), 1)
        accuracy = float(np.trace(table) / len(labels))
        shares = [float(row[k] / row.sum()) if row.any() else None for k, row in enumerate(table)]
        confusions = [
            (int(i), int(j), int(table[i, j]))
            for i, j in np.argwhere(table - np.diag(np.diag(table)))
        ]
    return Scored(
        images=len(labels),
        classes=tuple(
            OfClass(
                images=int(truth.sum()),
                accuracy=shares[k],
                precision=average_precision(truth, scores[:, k], precision),
            )
            for k, truth in ((k, _truth(labels, k)) for k in range(number))
        ),
        accuracy=accuracy,
        confusions=tuple(sorted(confusions, key=lambda one: (-one[2], one[0], one[1]))),
    )


def average_precision(truth: NDArray[Any], scores: Floats, kind: Precision) -> float | None:
    """Average precision of a ranking of images by scores ``(N,)``; None where none is true.

    ``area`` is scikit-learn's: the precision at each true image, averaged. ``voc07`` is that of the
    VOC challenges up to 2009: the best precision at a recall of 0, 0.1 … 1 or more, averaged.

    Raises:
        MissingLibraryError: scikit-learn is not installed, and ``area`` is asked for.
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
    # In whole numbers, as 0.3 is no binary fraction.
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
        VggspecError: the system refuses.
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
    """The space that images span, with axes of its own where it has fewer than D."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self.images: Floats = features.astype(np.float64)
        """``(N, min(N, D))``"""

        self._axes: Floats | None = None
        if self.images.shape[0] < self.images.shape[1]:
            self._axes, triangle = np.linalg.qr(self.images.T)
            self.images = np.ascontiguousarray(triangle.T)

    def of(self, features: NDArray[np.float32]) -> Floats:
        """Descriptors ``(M, D)`` as the space sees them."""
        found: Floats = features.astype(np.float64)
        return found if self._axes is None else found @ self._axes

    def back(self, weights: Floats) -> Floats:
        """Weights ``(K, D)`` from those of the space."""
        return weights if self._axes is None else weights @ self._axes.T


def _fitted(x: Floats, y: NDArray[Any], c: float) -> tuple[Any, bool]:
    """A fitted LinearSVC, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=c, dual=False, max_iter=MAX_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is told by the number of steps
        svm.fit(x, y)
    return svm, svm.n_iter_ < MAX_STEPS


def _truth(labels: Labels, k: int) -> NDArray[np.bool_]:
    """``(N,)``: whether an image has class k."""
    found: NDArray[np.bool_] = labels == k if labels.ndim == 1 else labels[:, k] == 1
    return found


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
