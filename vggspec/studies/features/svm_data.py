"""The descriptors that an SVM is fitted and tested on: splits of features files, checked.

Axes: N images, D numbers of a descriptor, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.features import (
    BadFeaturesFile,
    NoLabelledSplit,
    NotFiniteFeatures,
    OneClass,
    OtherFeatures,
    TooFewImages,
)
from vggspec.base.class_names import same, told_apart
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.studies.features.file import ROWS, DescribedSplit, FeaturesFile, Labels

FIT, TEST = "train", "val"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSplit:
    """Descriptors and the classes of their images."""

    path: str
    """The path of their file."""

    split: str
    features: NDArray[np.float32]
    """``(N, D)``"""

    labels: Labels
    """``(N,)``, or ``(N, K)`` where an image may have several classes."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class SvmData:
    """The split to fit on, and the split to test on, if any."""

    fit: LabelledSplit
    test: LabelledSplit | None
    classes: tuple[str, ...]
    """The classes that have images."""

    settings: Mapping[str, Any]
    """How the descriptors were made."""


def select_splits(fit: FeaturesFile, test: FeaturesFile | None, folds: int) -> SvmData:
    """The splits of features files for an SVM; without ``test`` both come from ``fit``.

    Reads all descriptors once, to check that they are finite.

    Raises:
        VggspecError: a split is missing, the files do not match, a class has fewer images than
            folds, or a descriptor contains NaN or infinity.
    """
    fitted = _chosen(fit, FIT)
    tested = None
    if test is not None:
        tested = _chosen(test, TEST)
    elif TEST in fit.splits and fitted.name != TEST:
        test, tested = fit, _chosen(fit, TEST)
    if test is not None and tested is not None:
        _compare(fit, fitted, test, tested)
    names = _names(fit, fitted)
    numbered = {same(name): number for number, name in enumerate(names)}
    splits = [_NumberedSplit(fit, fitted, tuple(range(len(names))))]
    if test is not None and tested is not None:
        theirs = _names(test, tested)
        foreign = [name for name in theirs if same(name) not in numbered]
        if foreign or _has_several(fitted) != _has_several(tested):
            new = "".join(f", with {told}" for told in told_apart(foreign[:1], names, "the file"))
            raise _other("classes", _kind(fitted, names), _kind(tested, theirs) + new, test.path)
        splits.append(_NumberedSplit(test, tested, tuple(numbered[same(name)] for name in theirs)))
    used = np.unique(np.concatenate([each.used() for each in splits]))
    labelled = [each.labelled(used) for each in splits]
    classes = tuple(names[number] for number in used)
    _check_numbers(labelled[0], classes, folds)
    for each in splits:
        _check_finite(each.split, each.file.path)
    return SvmData(
        fit=labelled[0],
        test=labelled[1] if len(labelled) > 1 else None,
        classes=classes,
        settings=fit.settings,
    )


@dataclass(frozen=True, slots=True)
class _NumberedSplit:
    """A split; ``numbers`` are the numbers of its classes in the fitted file."""

    file: FeaturesFile
    split: DescribedSplit
    numbers: tuple[int, ...]

    def used(self) -> NDArray[np.int64]:
        """The classes that have images, by their numbers in the fitted file."""
        labels = _labels(self.split)
        own = np.unique(labels) if labels.ndim == 1 else np.flatnonzero(labels.any(axis=0))
        return np.array(self.numbers, np.int64)[own]

    def labelled(self, used: NDArray[np.int64]) -> LabelledSplit:
        """The split with labels that number the classes of ``used`` from 0."""
        labels = _labels(self.split)
        if labels.ndim == 1:
            found: Labels = np.searchsorted(used, np.array(self.numbers, np.int64)[labels])
        else:
            found = np.zeros((len(labels), len(used)), np.uint8)
            for own, number in enumerate(self.numbers):
                if number in used:
                    found[:, np.searchsorted(used, number)] = labels[:, own]
        return LabelledSplit(
            path=self.file.path,
            split=self.split.name,
            features=self.split.features,
            labels=found,
        )


def _chosen(file: FeaturesFile, name: str) -> DescribedSplit:
    """The split of that name, or the only split."""
    split = file.splits.get(name)
    if split is None and len(file.splits) == 1:
        split = next(iter(file.splits.values()))
    if split is None or split.labels is None:
        what = NoLabelledSplit(requested=name, splits=tuple(file.splits))
        raise VggspecError(report(what, path=file.path))
    return split


def _labels(split: DescribedSplit) -> Labels:
    assert split.labels is not None
    return split.labels


def _has_several(split: DescribedSplit) -> bool:
    return _labels(split).ndim == 2


def _names(file: FeaturesFile, split: DescribedSplit) -> tuple[str, ...]:
    """The names of all classes; their numbers if the file names none."""
    if file.classes is not None:
        return file.classes
    labels = _labels(split)
    number = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return tuple(map(str, range(number)))


def _kind(split: DescribedSplit, names: Sequence[str]) -> str:
    each = "several an image" if _has_several(split) else "one an image"
    some = ", ".join(names[:3])
    return f"{len(names)} ({some} …), {each}" if len(names) > 3 else f"{some}, {each}"


def _compare(
    fit: FeaturesFile, fitted: DescribedSplit, test: FeaturesFile, tested: DescribedSplit
) -> None:
    widths = fitted.features.shape[1], tested.features.shape[1]
    if widths[0] != widths[1] and test is fit:
        told = f"its descriptors have {widths[0]} numbers in `{fitted.name}`, {widths[1]} in"
        raise _at(BadFeaturesFile(reason=f"{told} `{tested.name}`"), fit.path)
    if widths[0] != widths[1]:
        raise _other("numbers of a descriptor", str(widths[0]), str(widths[1]), test.path)
    if not fit.settings or not test.settings:
        return
    for key, value in fit.settings.items():
        if test.settings.get(key) != value:
            raise _other(key, str(value), str(test.settings.get(key)), test.path)


def _other(what: str, fitted: str, tested: str, path: str) -> VggspecError:
    return _at(OtherFeatures(what=what, fitted=fitted, tested=tested), path)


def _check_numbers(fit: LabelledSplit, classes: Sequence[str], folds: int) -> None:
    labels = fit.labels
    if len(classes) < (2 if labels.ndim == 1 else 1):
        raise _at(OneClass(classes=len(classes)), fit.path)
    if labels.ndim == 1:
        counts = np.bincount(labels, minlength=len(classes))
        without = np.full(len(classes), folds)  # those of another class, which is checked itself
    else:
        counts = labels.sum(axis=0, dtype=np.int64)
        without = len(labels) - counts
    few = np.flatnonzero(np.minimum(counts, without) < folds).tolist()
    if few:
        what = TooFewImages(
            folds=folds,
            classes=tuple((classes[i], int(min(counts[i], without[i]))) for i in few),
            is_without=bool(without[few[0]] < counts[few[0]]),
        )
        raise _at(what, fit.path)


def _check_finite(split: DescribedSplit, path: str) -> None:
    for start in range(0, len(split.features), ROWS):
        good = np.isfinite(split.features[start : start + ROWS]).all(axis=1)
        if not good.all():
            index = start + int(np.argmin(good))
            image = f"`{split.names[index]}`" if split.names else f"image {index}"
            raise _at(NotFiniteFeatures(split=split.name, image=image), path)


def _at(what: Diagnostic, path: str) -> VggspecError:
    return VggspecError(report(what, path=path))
