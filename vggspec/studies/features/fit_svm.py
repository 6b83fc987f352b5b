"""A linear SVM on descriptors, from files of features to scores (appendix B)."""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vggspec.base.arguments import check_choice, check_number, check_whole, entries
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.optional import require
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.studies.features import linear_svm
from vggspec.studies.features.file import open_features
from vggspec.studies.features.linear_svm import ApKind, Candidate, LinearModel, Scores
from vggspec.studies.features.svm_data import SvmData, select_splits

MAX_FOLD_SEED = (1 << 32) - 1
"""The largest that scikit-learn takes."""

DEFAULT_C = (0.01, 0.1, 1.0, 10.0, 100.0)


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class SvmResult:
    """A fitted SVM, how C was chosen, and its scores on the test split."""

    data: SvmData
    candidates: tuple[Candidate, ...]
    """Each C that was tried, ascending."""

    model: LinearModel
    scores: Scores | None
    """None without a split to test on."""

    ap: ApKind

    @property
    def chosen_by(self) -> str:
        """The score that C was chosen by."""
        return "accuracy" if self.data.fit.labels.ndim == 1 else "mean average precision"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons to doubt the result: a C at the end of the range, fits that did not converge."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        cs = [each.c for each in self.candidates]
        if len(cs) > 1 and self.model.c in (cs[0], cs[-1]):
            end, more = ("smallest", "smaller") if self.model.c == cs[0] else ("largest", "larger")
            yield f"C = {self.model.c:g} is the {end} value that was tried: try {more} ones"
        for each in self.candidates:
            if each.unconverged:
                fits = count(each.unconverged, "fit")
                yield f"at C = {each.c:g}, {fits} of the cross-validation did not converge"
        if self.model.unconverged:
            yield f"{count(self.model.unconverged, 'SVM')} of the model did not converge"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as safetensors: ``weights`` (K, D) and ``bias`` (K,), float32.

        The score of class k is ``weights[k] @ descriptor + bias[k]``.

        Raises:
            VggspecError: the file cannot be written.
        """
        linear_svm.save(path, self.model, self.data.classes, self.data.settings)

    def as_data(self) -> dict[str, Any]:
        """The result for JSON."""
        fit, test, classes = self.data.fit, self.data.test, self.data.classes
        found: dict[str, Any] = {
            "fit": {
                "file": fit.path,
                "split": fit.split,
                "images": len(fit.labels),
                "numbers": fit.features.shape[1],
            },
            "classes": list(classes),
            "chosen_by": self.chosen_by,
            "trials": [
                {
                    "c": each.c,
                    "scores": list(each.scores),
                    "mean": each.mean,
                    "unconverged": each.unconverged,
                }
                for each in self.candidates
            ],
            "c": self.model.c,
            "unconverged": self.model.unconverged,
            "ap": self.ap,
        }
        if self.scores is not None and test is not None:
            found["test"] = {
                "file": test.path,
                "split": test.split,
                "images": self.scores.images,
                "accuracy": self.scores.accuracy,
                "mean_class_accuracy": self.scores.mean_class_accuracy,
                "mean_average_precision": self.scores.mean_average_precision,
                "of_classes": [
                    {
                        "class": name,
                        "images": each.images,
                        "accuracy": each.accuracy,
                        "ap": each.average_precision,
                    }
                    for name, each in zip(classes, self.scores.classes, strict=True)
                ],
                "confusions": [
                    {"class": classes[i], "taken_for": classes[j], "images": images}
                    for i, j, images in self.scores.confusions
                ],
            }
        return found


def fit_svm(
    features: str | os.PathLike[str],
    *,
    test: str | os.PathLike[str] | None = None,
    cs: Sequence[float] = DEFAULT_C,
    folds: int = 5,
    ap: ApKind = "area",
    seed: int = 0,
    watch: Watcher = SILENT,
) -> SvmResult:
    """Fit a linear SVM on descriptors, one class against the rest, and test it.

    C is chosen by cross-validation: by accuracy, or by mean average precision if images may have
    several classes.

    Args:
        features: A file that ``vggspec features`` or ``vggspec.features`` wrote. The SVM is fitted
            on its split ``train``, or on its only split.
        test: A file whose split ``val``, or only split, the SVM is tested on. None tests on the
            split ``val`` of ``features``, if there is one.
        cs: The values to choose C from. The larger C, the less may an image lie on the wrong side.
        folds: The number of folds of the cross-validation, at least 2.
        ap: How average precision is defined: ``area`` or ``voc07``.
        seed: Seeds the assignment of images to folds.
        watch: Receives the number of fits that are done.

    Raises:
        ArgumentError: a C is not a positive number, there are fewer than two folds, ``seed`` is out
            of range, or ``ap`` is none of the choices.
        TypeError: ``cs`` is no list of numbers, or ``folds`` or ``seed`` no whole number.
        VggspecError: a file is unusable, the files do not match, or a class has too few images.
        MissingLibraryError: scikit-learn is not installed.
    """
    check_choice("ap", ap, ApKind)
    cs = entries("cs", cs)
    for c in cs:
        check_number("cs", c, least=0, below=math.inf)
    cs = tuple(sorted(set(map(float, cs))))
    if not cs or cs[0] == 0:
        raise ArgumentError(f"`cs` must be positive numbers, not {cs}")
    check_whole("folds", folds, least=2)
    check_whole("seed", seed, least=0, most=MAX_FOLD_SEED)
    require("sklearn", "fitting an SVM")
    data = select_splits(open_features(features), open_features(test) if test else None, folds)
    x, labels = data.fit.features, data.fit.labels
    candidates = linear_svm.cross_validate(
        x, labels, cs, folds=folds, seed=seed, ap=ap, watch=watch
    )
    model = linear_svm.fit(x, labels, linear_svm.best(candidates).c, watch=watch)
    scores = None
    if data.test is not None:
        scores = linear_svm.score(model.scores(data.test.features), data.test.labels, ap)
    return SvmResult(data=data, candidates=candidates, model=model, scores=scores, ap=ap)
