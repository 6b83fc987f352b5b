"""The classes of a data set by the numbers of a net's classes."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import evaluating
from vggspec.base.class_names import same, seen_as
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.wording import nearest
from vggspec.data.labelled import Labelled

WORDNET_ID = re.compile(r"n\d{8}")


def spread(number: int, limit: int | None) -> NDArray[np.int64]:
    """``limit`` of ``number`` indices, evenly; all of them if it is None or larger.

    >>> spread(10, 4).tolist()
    [0, 2, 5, 7]
    """
    kept = number if limit is None else min(limit, number)
    return np.arange(kept, dtype=np.int64) * number // max(kept, 1)


def match_classes(
    images: Labelled, labels: tuple[str, ...] | None, number: int, *, net: str
) -> tuple[tuple[int, ...], str | None]:
    """The net's class for each class of the data; and what was assumed, in words.

    Raises:
        VggspecError: a class of the data is not one of the net's, or two are the same.
    """
    folders = images.classes
    if folders is None:
        found = int(images.images.labels.max()) + 1
        if found > number:
            raise _at(_foreign(found, number, (), labels, net), str(images.folder))
        return tuple(range(found)), None
    known = _classes_of(folders, labels or ())
    foreign = tuple(name for name, i in zip(folders, known, strict=True) if i is None)
    if not foreign:
        classes = tuple(i for i in known if i is not None)
        _check_distinct(images, classes, labels or ())
        return classes, None
    are_ids = all(WORDNET_ID.fullmatch(name) for name in folders)
    if len(folders) == number and (labels is None or are_ids):
        names = f"{folders[0]} to {folders[-1]}"
        return tuple(range(number)), f"classes 0 to {number - 1} are taken to be {names}"
    raise _at(_foreign(len(folders), number, foreign, labels, net), str(images.folder))


def _foreign(
    classes: int,
    outputs: int,
    foreign: tuple[str, ...],
    labels: tuple[str, ...] | None,
    net: str,
) -> Diagnostic:
    named = foreign if labels else ()
    like = _most_like(named[0], labels) if named and labels else None
    return evaluating.ForeignClasses(
        net=net, classes=classes, outputs=outputs, foreign=named, like=like
    )


def _most_like(name: str, labels: tuple[str, ...]) -> str | None:
    """The label that looks the same, else the one most like it."""
    twin = next((label for label in labels if seen_as(label) == seen_as(name)), None)
    return twin or nearest(name, labels)


def _classes_of(names: Sequence[str], labels: Sequence[str]) -> list[int | None]:
    """For each name the class whose label it is, else the class with it as a part of its label
    between commas; case counts only where it distinguishes classes.
    """
    levels: list[tuple[Callable[[str], str], dict[str, set[int]]]] = []
    for fold in (_plain, _folded):
        whole_labels, parts = defaultdict(set), defaultdict(set)
        for i, label in enumerate(labels):
            whole_labels[fold(label)].add(i)
            for part in label.split(","):
                parts[fold(part)].add(i)
        levels += [(fold, whole_labels), (fold, parts)]

    def class_of(name: str) -> int | None:
        meant = next((known[fold(name)] for fold, known in levels if fold(name) in known), set())
        return next(iter(meant)) if len(meant) == 1 else None

    return [class_of(name) for name in names]


def _plain(name: str) -> str:
    return same(name).strip()


def _folded(name: str) -> str:
    return _plain(name).casefold()


def _check_distinct(images: Labelled, classes: Sequence[int], labels: Sequence[str]) -> None:
    """Check that no two classes of the data are the same class of the net."""
    first: dict[int, str] = {}
    for name, i in zip(images.classes or (), classes, strict=True):
        if i in first:
            what = evaluating.SameClass(names=(first[i], name), of_net=labels[i])
            raise _at(what, str(images.folder))
        first[i] = name


def _at(what: Diagnostic, path: str) -> VggspecError:
    return VggspecError(report(what, path=path))
