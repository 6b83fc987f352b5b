"""The question that an evaluation answers: which nets, their looks at images, what is averaged.

A setting chooses posteriors to average, so one pass over the images answers many. Every mistake
that can be found before a net is loaded is found here.

Source: Simonyan & Zisserman 2015, section 4: one scale (Table 3), several (Table 4), crops (Table
5), several nets (Table 6).
"""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import evaluating
from vggspec.base.catalogue.artefacts import NoClasses
from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.fusion import HoldsProtocol
from vggspec.base.class_names import same, seen_as
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.base.version import __version__
from vggspec.base.wording import nearest
from vggspec.bundle.labels import Classes, check_same
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle
from vggspec.data.labelled import Labelled
from vggspec.data.split import Split
from vggspec.runtime.net import view_of
from vggspec.runtime.preprocess import rescaled_size
from vggspec.runtime.protocol import Look, Size, View, Way, looks, needed, ways
from vggspec.runtime.session import Device
from vggspec.studies.pipeline import enlarged_scale

T = TypeVar("T")

WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A net, and how it looks at each image."""

    path: str
    """Of the bundle."""

    name: str
    """Its name in tables."""

    manifest: Manifest
    protocol: TestProtocol

    @property
    def view(self) -> View:
        """How the net sees an image."""
        return view_of(self.manifest)

    @property
    def ways(self) -> tuple[Way, ...]:
        """Densely, by crops, or both."""
        return ways(self.view, self.protocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetLooks:
    """The looks of one net that a setting averages over."""

    net: int
    """Its place among the nets."""

    scales: tuple[int, ...]
    ways: tuple[Way, ...]

    def takes(self, look: Look) -> bool:
        """Whether it contains a look."""
        return look.scale in self.scales and look.way in self.ways


@dataclass(frozen=True, slots=True)
class Setting:
    """The mean over nets of each net's mean over scales and ways: a row of a table."""

    parts: tuple[NetLooks, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that the answers depend on, and how they are computed. It can be pickled."""

    nets: tuple[Asked, ...]
    settings: tuple[Setting, ...]
    """The last one is the main one: for it more than ranks is kept."""

    images: Split
    folder: Path
    """The folder of the images."""

    stamp: str
    """SHA-256 of the names, sizes and times of their files."""

    indices: NDArray[np.int64]
    """The images that are evaluated, in ascending order."""

    classes: tuple[int, ...]
    """The net's class for each class of the data."""

    labels: tuple[str, ...]
    """The names of the net's classes."""

    enlarge: bool = False
    device: Device = "auto"
    threads: int | None = None
    batch_pixels: int | None = None

    @property
    def main(self) -> Setting:
        """The setting that averages everything."""
        return self.settings[-1]

    @property
    def top(self) -> int:
        """How many classes count for the top-5 error: 5, or all if the net has fewer."""
        return min(5, len(self.labels))

    def truth(self, index: int) -> int:
        """The true class of an image, by the net's numbers."""
        return self.classes[int(self.images.labels[index])]

    def digest(self) -> str:
        """SHA-256 of everything that changes an answer, in hexadecimal."""
        facts = {
            "version": __version__,
            "nets": [
                {"manifest": each.manifest.to_json(), "protocol": asdict(each.protocol)}
                for each in self.nets
            ],
            "settings": [asdict(each) for each in self.settings],
            "data": (os.path.realpath(self.folder), self.stamp),
            "indices": hashlib.sha256(self.indices.tobytes()).hexdigest(),
            "classes": self.classes,
            "enlarge": self.enlarge,
            "device": self.device,
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The inputs of one look of one net at an image."""

    net: int
    look: Look
    rescaled: Size
    """Rows and columns of the whole image."""

    inputs: int
    """How many inputs the net receives, mirror images among them."""

    size: Size
    """Rows and columns of each."""


def ask(
    bundles: Sequence[Bundle],
    protocols: Sequence[TestProtocol],
    images: Labelled,
    *,
    names: Sequence[str] | None = None,
    limit: int | None = None,
    enlarge: bool = False,
    device: Device = "auto",
    threads: int | None = None,
    batch_pixels: int | None = None,
) -> tuple[Question, str | None]:
    """A question with one setting, which averages everything; and what was assumed, in words.

    ``limit`` takes that many images, evenly from the list of all.

    Raises:
        VggspecError: the nets do not classify, or their classes differ, or are not those of the
            data; or a scale is smaller than a net's window.
    """
    names = names or names_of(bundles)
    nets = tuple(
        Asked(path=str(bundle.path), name=name, manifest=bundle.manifest, protocol=protocol)
        for bundle, name, protocol in zip(bundles, names, protocols, strict=True)
    )
    _check_outputs(nets)
    common = _check_labels(nets)
    if not enlarge:
        _check_scales(nets)
    number, labels = common.number, common.labels
    classes, assumed = match_classes(images, labels, number, net=common.net)
    question = Question(
        nets=nets,
        settings=(whole(nets),),
        images=images.images,
        folder=images.folder,
        stamp=images.stamp,
        indices=spread(len(images.images), limit),
        classes=classes,
        labels=labels or _labels(images, classes, number),
        enlarge=enlarge,
        device=device,
        threads=threads,
        batch_pixels=batch_pixels,
    )
    return question, assumed


def whole(nets: Sequence[Asked]) -> Setting:
    """The setting that averages over all looks of the nets' protocols."""
    return Setting(
        tuple(
            NetLooks(net=i, scales=_distinct(each.protocol.scales), ways=each.ways)
            for i, each in enumerate(nets)
        )
    )


def table(nets: Sequence[Asked]) -> tuple[Setting, ...]:
    """All settings that one pass over the images answers, in the order of the paper's tables.

    Each net at each scale (Table 3), at all scales (4), densely, by crops, by both (5), and all
    nets together in the same ways (6).
    """
    rows: list[Setting] = []
    for i, each in enumerate(nets):
        scales = _distinct(each.protocol.scales)
        rows += [
            Setting((NetLooks(net=i, scales=(scale,), ways=each.ways[:1]),))
            for scale in scales
            if len(scales) > 1
        ]
    every = [whole([each]).parts[0] for each in nets]
    every = [replace(part, net=i) for i, part in enumerate(every)]
    for group in (*((part,) for part in every), tuple(every)):
        offered = _distinct([way for part in group for way in part.ways])
        for chosen in (*((way,) for way in offered if len(offered) > 1), offered):
            # A net that has only one way uses it in every row.
            rows.append(
                Setting(
                    tuple(
                        replace(part, ways=tuple(w for w in part.ways if w in chosen) or part.ways)
                        for part in group
                    )
                )
            )
    return tuple(dict.fromkeys(rows))


def plan(question: Question, size: Size) -> tuple[Step, ...]:
    """The inputs of the nets for an image of ``size``, rows and columns."""
    steps = []
    for i, each in enumerate(question.nets):
        view, protocol = each.view, each.protocol
        for look in looks(view, protocol):
            least = needed(look.way, view)
            scale = enlarged_scale(size, look.scale, least) if question.enlarge else look.scale
            rescaled = rescaled_size(size, scale, protocol.resize)
            number = 1 if look.way == "dense" else (protocol.crops or 1) ** 2
            steps.append(
                Step(
                    net=i,
                    look=look,
                    rescaled=rescaled,
                    inputs=number * (2 if protocol.flip else 1),
                    size=rescaled if look.way == "dense" else view.window,
                )
            )
    return tuple(steps)


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


def _labels(images: Labelled, classes: tuple[int, ...], number: int) -> tuple[str, ...]:
    """Names for the classes of a net without labels: those of the data where it has them."""
    names = [f"class {i}" for i in range(number)]
    for i, name in zip(classes, images.classes or (), strict=False):
        names[i] = name
    return tuple(names)


def names_of(bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Names of bundles: of their nets if these differ, else of their folders, else their paths."""
    for names in (
        [bundle.manifest.net for bundle in bundles],
        [Path(bundle.path).resolve().name for bundle in bundles],
    ):
        if len(set(names)) == len(names):
            return tuple(names)
    return tuple(str(bundle.path) for bundle in bundles)


def _check_outputs(nets: Sequence[Asked]) -> None:
    for each in nets:
        kind = each.manifest.result.kind
        if each.manifest.members:
            raise _at(HoldsProtocol(), each.path)
        if each.manifest.compares:
            raise _at(ComparesPictures(), each.path)
        if kind not in ("posteriors", "scores"):
            raise _at(NoClasses(output=each.manifest.gives), each.path)
        if kind == "scores" and len(nets) > 1:
            raise _at(evaluating.ScoresNotFused(), each.path)


def _check_labels(nets: Sequence[Asked]) -> Classes:
    """The classes of all nets."""

    def refuse(i: int, what: Diagnostic) -> VggspecError:
        return _at(what, nets[i].path)

    classes = [
        Classes(
            net=each.name,
            number=each.manifest.result.channels,
            labels=each.manifest.labels,
        )
        for each in nets
    ]
    return check_same(classes, refuse)


def _check_scales(nets: Sequence[Asked]) -> None:
    for each in nets:
        for look in looks(each.view, each.protocol):
            window = needed(look.way, each.view)
            if look.scale < min(window):
                what = evaluating.ScaleBelowWindow(
                    scale=look.scale, window=window, can_enlarge=True
                )
                raise _at(what, each.path)


def _distinct(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _at(what: Diagnostic, path: str) -> VggspecError:
    return VggspecError(report(what, path=path))
