"""The question that an evaluation answers: which nets, their looks at images, what is averaged.

A setting chooses posteriors to average, so one pass over the images answers many. Every mistake
that can be found before a net is loaded is found here.

Source: Simonyan & Zisserman 2015, section 4: one scale (Table 3), several (Table 4), crops (Table
5), several nets (Table 6).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import Device
from vggspec.base.catalogue import evaluating
from vggspec.base.catalogue.artefacts import NoClasses
from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.fusion import HoldsProtocol
from vggspec.base.catalogue.label_maps import LabelsPixels
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.base.version import __version__
from vggspec.bundle.labels import Classes, check_same
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle
from vggspec.data.labelled import Labelled
from vggspec.data.matched import match_classes, spread
from vggspec.data.split import Split
from vggspec.runtime.net import view_of
from vggspec.runtime.preprocess import rescaled_size
from vggspec.runtime.protocol import Look, Size, View, Way, looks, needed, ways
from vggspec.studies.pipeline import enlarged_scale

T = TypeVar("T")


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
            "data": (str(self.folder.resolve()), self.stamp),
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
        if each.manifest.segments:
            raise _at(LabelsPixels(required="a class of the image"), each.path)
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
