"""Where objects are: nets that end in ``boxes``, by both protocols of the paper.

Centrally: of each image the central window is seen, and the class is given. The box is the mean
over nets, scales and mirror images.

Densely: a classifier tells the likeliest classes of the image, and how likely each is in every
window that a net of boxes sees too. The boxes of all windows, scales, mirror images and nets are
merged, and of each class the merged box with the largest sum of posteriors counts.

A box is empty where a net says that its width or height is not positive. It is no place, so it is
left out wherever boxes are merged or averaged.

Source: Simonyan & Zisserman 2015, appendix A.1; Sermanet et al. 2014, section 4.3.

Axes: N inputs (an image or its crops, each followed by its mirror image), K boxes a window: one for
each class, or one for all, h rows and w columns of a map, n windows. Boxes ``(..., 4)`` are as in
``vggspec.data.boxes``, in pixels of the upright image unless said otherwise.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import localising
from vggspec.base.catalogue.fusion import HoldsProtocol
from vggspec.base.class_names import first_unlike, pair
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.manifest import Manifest
from vggspec.data.boxes import Boxes, area, clip, decode, mirror
from vggspec.runtime.net import BundleNet, view_of
from vggspec.runtime.predictor import softmax
from vggspec.runtime.protocol import Size, View, grid
from vggspec.studies.localisation.merge import merge
from vggspec.studies.pipeline import Applied, Seen, Sight, see

#: Boxes with a match score up to this are merged; docs/localisation.md has the measurement.
MATCH = 0.6

TOP = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How boxes are found."""

    protocol: TestProtocol
    """Scales and mirror images; with a classifier also whether densely or by which crops."""

    top: int = TOP
    """How many of the likeliest classes get a box, where a classifier tells them."""

    match: float = MATCH
    """Boxes are merged whose match score is at most this."""

    literal: bool = False
    """Whether they match by the formula that OverFeat prints; ``match`` is in pixels then."""

    enlarge: bool = False
    """Rescale an image to more than Q where a window would not fit; else it is left out."""

    threads: int | None = None
    """That decode images."""

    batch_pixels: int | None = None
    """Of the largest batch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """Where an object of a class is."""

    label: int | None
    """The number of the class; None where none is known and the nets have one box for all."""

    box: Boxes | None
    """``(4,)``, the part of it that lies within the image; None where there is none."""

    posterior: float | None = None
    """Of the class, averaged over the image, where there is a classifier."""

    score: float | None = None
    """The sum of the class's posteriors over the windows whose boxes were merged to this one."""

    windows: int = 0
    """How many they are; centrally, how many the box is the mean of."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Located:
    """The places on an image."""

    index: int
    size: Size
    """Rows and columns of the image, upright; zeros where it could not be read."""

    likeliest: tuple[Place, ...] = ()
    """Of the classifier's likeliest classes, best first."""

    asked: tuple[Place, ...] = ()
    """Of the classes that were asked for, in that order."""

    unread: str | None = None
    """Why the image could not be read or looked at, where that is so."""


class Compiled(Protocol):
    """A net, loaded or not: what ``Bundle`` and ``BundleNet`` have in common."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def path(self) -> str | Path: ...


N = TypeVar("N", bound=Compiled)


class Ensemble(Generic[N]):
    """Nets of boxes, perhaps with classifiers, as one; what can be known before they are loaded.

    Raises:
        VggspecError: a net does not give boxes, a classifier no posteriors for each window, or
            their classes or windows are not the same.
    """

    def __init__(self, nets: Sequence[N], classifiers: Sequence[N], method: Method) -> None:
        for net in (*nets, *classifiers):
            if net.manifest.members:
                raise _at(HoldsProtocol(), net)
        for net in nets:
            if net.manifest.result.kind != "boxes":
                raise _at(localising.NoBoxes(gives=net.manifest.result.kind), net)
        for net in classifiers:
            if net.manifest.result.kind != "posteriors":
                gives = net.manifest.result.kind
                raise _at(localising.NoPosteriorsForBoxes(gives=gives), net)
        self._nets, self._classifiers, self.method = nets, classifiers, method
        self._check_classes()
        self.protocol = self._narrowed(method.protocol)
        if classifiers:
            self._check_windows()

    @property
    def num_classes(self) -> int | None:
        """How many classes there are, where the nets tell them apart."""
        return next((number for _, number in self._counted()), None)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, where a net has them."""
        return next(
            (net.manifest.labels for net, _ in self._counted() if net.manifest.labels), None
        )

    @property
    def needs_class(self) -> bool:
        """Whether there is a box only for a class that is named."""
        return not self._classifiers and self.num_classes is not None

    def _counted(self) -> Iterator[tuple[N, int]]:
        """The nets that tell classes apart, each with their number."""
        for net in (*self._nets, *self._classifiers):
            number = _num_classes(net)
            if number is not None:
                yield net, number

    def _check_classes(self) -> None:
        counted = sorted(self._counted(), key=lambda each: each[0].manifest.labels is None)
        for net, number in counted[1:]:
            other, of_other = counted[0]
            labels, wanted, how = net.manifest.labels or (), other.manifest.labels or (), None
            i = first_unlike(labels, wanted)
            if number != of_other:
                how = f"{number}, and there {of_other}"
            elif i is not None:
                here, there = pair(labels[i], wanted[i])
                how = f"class {i} is {here}, and there {there}"
            if how is not None:
                raise _at(localising.OtherClassesThanBoxes(other=other.manifest.net, how=how), net)

    def _narrowed(self, protocol: TestProtocol) -> TestProtocol:
        """The protocol that all nets can follow; without a classifier, the central one."""
        if not self._classifiers:
            return replace(protocol, dense=False, crops=1)
        has_maps = all(net.manifest.result.is_map for net in self._nets)
        if has_maps and all(
            view_of(net.manifest).is_dynamic for net in (*self._nets, *self._classifiers)
        ):
            return protocol
        return replace(protocol, dense=False, crops=protocol.crops or 1)

    def _check_windows(self) -> None:
        is_dense = self.protocol.dense or self.protocol.crops is None
        view = view_of(self._classifiers[0].manifest)
        for net in (*self._classifiers, *self._nets):
            other = view_of(net.manifest)
            if other.window != view.window or (is_dense and other.stride != view.stride):
                raise self._other_windows(net)
        for net in self._classifiers:
            if is_dense and net.manifest.score_map is None:
                raise _at(localising.NoMapToRate(), net)

    def _other_windows(self, net: Compiled) -> VggspecError:
        other = self._classifiers[0].manifest
        views = view_of(other), view_of(net.manifest)
        what = localising.OtherWindows(
            other=other.net,
            windows=(views[0].window, views[1].window),
            strides=(views[0].stride, views[1].stride),
        )
        return _at(what, net)


class Localiser(Ensemble[BundleNet]):
    """An ensemble whose nets are loaded, applied to images."""

    def __call__(
        self,
        read: Callable[[int], bytes],
        indices: Iterable[int],
        asked: Callable[[int], Sequence[int | None]] = lambda _: (),
    ) -> Generator[Located, None, None]:
        """The places on images, in the order of ``indices``.

        ``read`` gives an image file's bytes and is called from several threads. ``asked`` gives the
        classes that are wanted whatever a classifier says; None, without a classifier, is the one
        box of nets that tell no classes apart.

        Raises:
            VggspecError: an engine fails or gives what is no number, or two nets turn out to see an
                image by different windows.
        """
        applied = [Applied(net, self.protocol) for net in (*self._nets, *self._classifiers)]
        method = self.method
        images = see(
            applied,
            read,
            indices,
            enlarge=method.enlarge,
            threads=method.threads,
            batch_pixels=method.batch_pixels,
        )
        with contextlib.closing(images):
            for seen in images:
                if seen.unread is not None:
                    yield Located(index=seen.index, size=seen.size, unread=seen.unread)
                elif self._classifiers:
                    yield self._by_classifier(seen, asked(seen.index))
                else:
                    boxes = [one for of_net in self._boxes(seen) for one in of_net]
                    places = tuple(_mean(boxes, label, seen.size) for label in asked(seen.index))
                    yield Located(index=seen.index, size=seen.size, asked=places)

    def _by_classifier(self, seen: Seen, asked: Sequence[int | None]) -> Located:
        sights = self._by_net(seen)[len(self._nets) :]
        means = [[one.outputs["posteriors"].mean(axis=0) for one in of_net] for of_net in sights]
        posteriors: Floats = np.mean(means, axis=(0, 1))
        likeliest = np.argsort(-posteriors, kind="stable")[: self.method.top].tolist()
        wanted = [label for label in asked if label is not None]
        rates = []
        for of_look in zip(*sights, strict=True):
            rated = [rates_of(one) for one in of_look]
            for net, one in zip(self._classifiers, rated, strict=True):
                if len(one) != len(rated[0]):
                    raise self._other_windows(net)
            rates.append(np.mean(rated, axis=0))
        found = {
            place.label: replace(place, posterior=float(posteriors[place.label]))
            for place in self._merged(seen, rates, list(dict.fromkeys([*likeliest, *wanted])))
            if place.label is not None
        }
        return Located(
            index=seen.index,
            size=seen.size,
            likeliest=tuple(found[label] for label in likeliest),
            asked=tuple(found[label] for label in wanted),
        )

    def _merged(
        self, seen: Seen, rates: Sequence[Floats], labels: Sequence[int]
    ) -> Iterator[Place]:
        """For each class the merged box with the largest score; ``rates`` are by look."""
        boxes = self._boxes(seen)
        for net, of_net in zip(self._nets, boxes, strict=True):
            for one, rated in zip(of_net, rates, strict=True):
                if len(one) != len(rated):
                    raise self._other_windows(net)
        scores = np.concatenate([*rates] * len(boxes))
        # Where a box is the same for every class it is merged once.
        is_shared = all(_num_classes(net) is None for net in self._nets)
        for group in [labels] if is_shared else [[label] for label in labels]:
            candidates = np.concatenate(
                [_of_class(one, group[0]) for of_net in boxes for one in of_net]
            )
            is_box = area(candidates) > 0
            merged = merge(
                candidates[is_box],
                scores[is_box][:, group],
                self.method.match,
                literal=self.method.literal,
            )
            for column, label in enumerate(group):
                if not len(merged.boxes):
                    yield Place(label=label, box=None)
                    continue
                best = int(merged.scores[:, column].argmax())
                yield Place(
                    label=label,
                    box=_within(merged.boxes[best], seen.size),
                    score=float(merged.scores[best, column]),
                    windows=int(merged.sources[best]),
                )

    def _boxes(self, seen: Seen) -> list[list[Boxes]]:
        """For each net, and each of its looks: a box for each window and class ``(n, K, 4)``."""
        boxes = []
        for net, of_net in zip(self._nets, self._by_net(seen), strict=False):
            for one in of_net:
                _check_map(net, one)
            boxes.append([boxes_of(one, net.view, self.protocol, seen.size) for one in of_net])
        return boxes

    def _by_net(self, seen: Seen) -> list[list[Sight]]:
        number = len(self._nets) + len(self._classifiers)
        return [[one for one in seen.sights if one.net == i] for i in range(number)]


def boxes_of(sight: Sight, view: View, protocol: TestProtocol, size: Size) -> Boxes:
    """The boxes ``(n, K, 4)`` that a net says of an image of ``size``, window by window.

    The windows are in the order of the net's inputs, then of the rows and columns of its map.
    """
    said = sight.outputs["boxes"]
    said = said.reshape(*said.shape, *[1] * (4 - said.ndim))
    number, channels, *map_size = said.shape
    seen_by = windows(sight, view, protocol, (map_size[0], map_size[1]))
    # Rescaling rounds each side to whole pixels, so the two scales are not quite the same.
    scales = [side / rescaled for side, rescaled in zip(size, sight.size, strict=True)]
    seen_by *= (scales[1], scales[0]) * 2
    numbers = said.reshape(number, channels // 4, 4, *map_size).transpose(0, 3, 4, 1, 2).copy()
    if protocol.flip:  # every other input is a mirror image
        numbers[1::2] = mirror(numbers[1::2])
    return decode(numbers, seen_by[..., np.newaxis, :]).reshape(-1, channels // 4, 4)


def windows(sight: Sight, view: View, protocol: TestProtocol, map_size: Size) -> Boxes:
    """The windows ``(N, h, w, 4)`` that a net has seen, in pixels of the rescaled image.

    Position (i, j) of a map stands for the window that begins (i, j) strides from the first row and
    column of the input. The windows of a mirror image begin at its own first column, which is the
    image's last one: turned back they end there.
    """
    extent, tops_lefts = sight.size, [(0, 0)]
    if sight.look.way == "crops":
        extent, number = view.window, protocol.crops or 1
        rows, columns = (
            grid(sight.size[axis], extent[axis], number, protocol.resize) for axis in (0, 1)
        )
        tops_lefts = list(product(rows, columns))
    tops, lefts = (view.stride[axis] * np.arange(map_size[axis], dtype=float) for axis in (0, 1))
    sides = np.meshgrid(tops, lefts, indexing="ij")
    of_input = np.stack(
        [sides[1], sides[0], sides[1] + view.window[1], sides[0] + view.window[0]], axis=-1
    )
    of_mirrored = of_input[..., [2, 1, 0, 3]] * (-1, 1, -1, 1) + (extent[1], 0, extent[1], 0)
    both = np.stack([of_input, of_mirrored] if protocol.flip else [of_input])
    corners = [np.array([left, top, left, top]) for top, left in tops_lefts]
    return np.concatenate([both + corner for corner in corners])


def rates_of(sight: Sight) -> Floats:
    """Class posteriors ``(n, K)`` of a classifier for each window, as ``boxes_of`` orders them."""
    if sight.look.way == "crops":
        return sight.outputs["posteriors"]
    posteriors = softmax(sight.outputs["score_map"])
    return posteriors.transpose(0, 2, 3, 1).reshape(-1, posteriors.shape[1])


def _check_map(net: BundleNet, sight: Sight) -> None:
    """Make sure that a net applied densely gives boxes for all windows."""
    if sight.look.way == "crops":
        return
    view, found = net.view, sight.outputs["boxes"].shape[2:]
    fitting = [(sight.size[i] - view.window[i]) // view.stride[i] + 1 for i in (0, 1)]
    if any(number < least for number, least in zip(found, fitting, strict=True)):
        raise _at(localising.OneBoxForAll(), net)


def _mean(boxes: Sequence[Boxes], label: int | None, size: Size) -> Place:
    """The mean of a class's boxes over windows ``(n, K, 4)`` of nets and looks."""
    found = np.concatenate([_of_class(one, label or 0) for one in boxes])
    found = found[area(found) > 0]
    box = _within(found.mean(axis=0), size) if len(found) else None
    return Place(label=label, box=box, windows=len(found))


def _of_class(boxes: Boxes, label: int) -> Boxes:
    """The boxes ``(n, 4)`` of a class among those of each window ``(n, K, 4)``."""
    return boxes[:, label if boxes.shape[1] > 1 else 0]


def _within(box: Boxes, size: Size) -> Boxes | None:
    """The part of a box within the image, if there is one."""
    part = clip(box, size)
    return part if area(part) > 0 else None


def _num_classes(net: Compiled) -> int | None:
    """How many classes a net tells apart; None where it has one box for all."""
    result = net.manifest.result
    if result.kind != "boxes":
        return result.channels
    return result.channels // 4 if result.channels > 4 else None


def _at(what: Diagnostic, net: Compiled) -> VggspecError:
    return VggspecError(report(what, path=str(net.path)))
