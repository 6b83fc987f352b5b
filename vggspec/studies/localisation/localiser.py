"""Nets that end in ``boxes``, applied to images by both protocols of the paper.

Centrally: the nets see the central window of each image, and the class is given. The box is the
mean over nets, scales and mirror images.

Densely: a classifier gives the likeliest classes of the image, and the posterior of each class in
every window that the nets of boxes see too. The boxes of all windows, scales, mirror images and
nets are merged; the merged box with the largest sum of posteriors of a class is the class's box.

A box whose predicted width or height is not positive is empty, and is ignored wherever boxes are
merged or averaged.

Source: Simonyan & Zisserman 2015, appendix A.1; Sermanet et al. 2014, section 4.3.

Axes: N inputs (an image or its crops, each followed by its mirror image), K boxes per window: one
for each class, or one for all, h rows and w columns of a map, n windows. Boxes ``(..., 4)`` are as
in ``vggspec.data.box_coding``, in pixels of the upright image unless noted otherwise.
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
from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.fusion import HoldsProtocol, OtherClasses, OtherLabels
from vggspec.base.class_names import pair
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.labels import Classes, check_same
from vggspec.bundle.manifest import Manifest
from vggspec.data.box_coding import Boxes, area, clip, decode, mirror
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
    """How to find boxes."""

    protocol: TestProtocol
    """Scales and mirror images; with a classifier, also dense application and crops."""

    top: int = TOP
    """How many of the classifier's likeliest classes get a box."""

    match: float = MATCH
    """The largest match score of two boxes that are merged."""

    literal: bool = False
    """Whether to match boxes by the formula that OverFeat prints; ``match`` is then in pixels."""

    enlarge: bool = False
    """Whether to rescale an image to more than Q if a window does not fit; else it is left out."""

    threads: int | None = None
    """Threads that decode images."""

    batch_pixels: int | None = None
    """Pixels of the largest batch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassBox:
    """The box of a class on an image."""

    label: int | None
    """The number of the class; None if the nets have one box for all classes."""

    box: Boxes | None
    """``(4,)``, clipped to the image; None if there is no box."""

    posterior: float | None = None
    """The posterior of the class, averaged over the image; None without a classifier."""

    score: float | None = None
    """The sum of the class's posteriors over the windows whose boxes were merged."""

    windows: int = 0
    """How many boxes were merged, or averaged if there is no classifier."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Located:
    """The boxes on an image."""

    index: int
    size: Size
    """Rows and columns of the upright image; zeros if it cannot be read."""

    likeliest: tuple[ClassBox, ...] = ()
    """The boxes of the classifier's likeliest classes, best first."""

    asked: tuple[ClassBox, ...] = ()
    """The boxes of the classes that were requested, in that order."""

    unread: str | None = None
    """Why the image was left out, if it was."""


class Compiled(Protocol):
    """A net, loaded or not: the common part of ``Bundle`` and ``BundleNet``."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def path(self) -> str | Path: ...


N = TypeVar("N", bound=Compiled)


class Ensemble(Generic[N]):
    """Nets of boxes and classifiers, checked before they are loaded.

    Raises:
        VggspecError: a net has no boxes, a classifier has no posteriors for each window, or their
            classes or windows differ.
    """

    def __init__(self, nets: Sequence[N], classifiers: Sequence[N], method: Method) -> None:
        for net in (*nets, *classifiers):
            if net.manifest.members:
                raise _at(HoldsProtocol(), net)
            if net.manifest.compares:
                raise _at(ComparesPictures(), net)
        for net in nets:
            if net.manifest.result.kind != "boxes":
                raise _at(localising.NoBoxes(gives=net.manifest.gives), net)
        for net in classifiers:
            if net.manifest.result.kind != "posteriors":
                gives = net.manifest.gives
                raise _at(localising.NoPosteriorsForBoxes(gives=gives), net)
        self._nets, self._classifiers, self.method = nets, classifiers, method
        self._check_classes()
        self.protocol = self._narrowed(method.protocol)
        if classifiers:
            self._check_windows()

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None if no net has classes."""
        return next((number for _, number in self._counted()), None)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, if a net has them."""
        return next(
            (net.manifest.labels for net, _ in self._counted() if net.manifest.labels), None
        )

    @property
    def needs_class(self) -> bool:
        """Whether the class must be named: the nets have boxes per class, and no classifier."""
        return not self._classifiers and self.num_classes is not None

    def _counted(self) -> Iterator[tuple[N, int]]:
        """The nets that have classes, each with their number."""
        for net in (*self._nets, *self._classifiers):
            number = _num_classes(net)
            if number is not None:
                yield net, number

    def _check_classes(self) -> None:
        nets = list(self._counted())

        def refuse(at: int, what: Diagnostic) -> VggspecError:
            if isinstance(what, OtherLabels):
                other, here = pair(*what.labels)
                how = f"class {what.index} is {here}, and there {other}"
            else:
                assert isinstance(what, OtherClasses)
                how = f"{what.classes[1]}, and there {what.classes[0]}"
            return _at(localising.OtherClassesThanBoxes(other=what.other, how=how), nets[at][0])

        if nets:
            check_same(
                [
                    Classes(net=net.manifest.net, number=number, labels=net.manifest.labels)
                    for net, number in nets
                ],
                refuse,
            )

    def _narrowed(self, protocol: TestProtocol) -> TestProtocol:
        """The protocol that all nets support; without a classifier, the central one."""
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
        """Find the boxes on images, in the order of ``indices``.

        ``read`` returns the bytes of an image file and is called from several threads. ``asked``
        returns the classes that are requested for an image, whatever a classifier says; None
        requests the one box of nets without classes.

        Raises:
            VggspecError: an engine fails or returns NaN, or two nets see an image by different
                windows.
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
                    found = tuple(_mean(boxes, label, seen.size) for label in asked(seen.index))
                    yield Located(index=seen.index, size=seen.size, asked=found)

    def _by_classifier(self, seen: Seen, asked: Sequence[int | None]) -> Located:
        sights = self._by_net(seen)[len(self._nets) :]
        means = [[one.outputs["posteriors"].mean(axis=0) for one in of_net] for of_net in sights]
        posteriors: Floats = np.mean(means, axis=(0, 1))
        likeliest = np.argsort(-posteriors, kind="stable")[: self.method.top].tolist()
        requested = [label for label in asked if label is not None]
        rates = []
        for of_look in zip(*sights, strict=True):
            rated = [rates_of(one) for one in of_look]
            for net, one in zip(self._classifiers, rated, strict=True):
                if len(one) != len(rated[0]):
                    raise self._other_windows(net)
            rates.append(np.mean(rated, axis=0))
        found = {
            one.label: replace(one, posterior=float(posteriors[one.label]))
            for one in self._merged(seen, rates, list(dict.fromkeys([*likeliest, *requested])))
            if one.label is not None
        }
        return Located(
            index=seen.index,
            size=seen.size,
            likeliest=tuple(found[label] for label in likeliest),
            asked=tuple(found[label] for label in requested),
        )

    def _merged(
        self, seen: Seen, rates: Sequence[Floats], labels: Sequence[int]
    ) -> Iterator[ClassBox]:
        """For each class, the merged box with the largest score. ``rates`` is by look."""
        boxes = self._boxes(seen)
        for net, of_net in zip(self._nets, boxes, strict=True):
            for one, rated in zip(of_net, rates, strict=True):
                if len(one) != len(rated):
                    raise self._other_windows(net)
        scores = np.concatenate([*rates] * len(boxes))
        # A box that is the same for every class is merged once.
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
                    yield ClassBox(label=label, box=None)
                    continue
                best = int(merged.scores[:, column].argmax())
                yield ClassBox(
                    label=label,
                    box=_within(merged.boxes[best], seen.size),
                    score=float(merged.scores[best, column]),
                    windows=int(merged.sources[best]),
                )

    def _boxes(self, seen: Seen) -> list[list[Boxes]]:
        """For each net and each of its looks, the boxes of each window and class ``(n, K, 4)``."""
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
    """The boxes ``(n, K, 4)`` that a net predicts for an image of ``size``, window by window.

    The windows are in the order of the net's inputs, then of the rows and columns of its map.
    """
    output = sight.outputs["boxes"]
    output = output.reshape(*output.shape, *[1] * (4 - output.ndim))
    number, channels, *map_size = output.shape
    seen_by = windows(sight, view, protocol, (map_size[0], map_size[1]))
    # Rescaling rounds each side to whole pixels, so the two scales are not quite the same.
    scales = [side / rescaled for side, rescaled in zip(size, sight.size, strict=True)]
    seen_by *= (scales[1], scales[0]) * 2
    numbers = output.reshape(number, channels // 4, 4, *map_size).transpose(0, 3, 4, 1, 2).copy()
    if protocol.flip:  # every other input is a mirror image
        numbers[1::2] = mirror(numbers[1::2])
    return decode(numbers, seen_by[..., np.newaxis, :]).reshape(-1, channels // 4, 4)


def windows(sight: Sight, view: View, protocol: TestProtocol, map_size: Size) -> Boxes:
    """The windows ``(N, h, w, 4)`` that a net has seen, in pixels of the rescaled image.

    Position (i, j) of a map is the window that begins (i, j) strides from the first row and column
    of the input. The windows of a mirror image begin at its own first column, which is the image's
    last one: turned back they end there.
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
    """Check that a net applied densely returns boxes for all windows."""
    if sight.look.way == "crops":
        return
    view, found = net.view, sight.outputs["boxes"].shape[2:]
    fitting = [(sight.size[i] - view.window[i]) // view.stride[i] + 1 for i in (0, 1)]
    if any(number < least for number, least in zip(found, fitting, strict=True)):
        raise _at(localising.OneBoxForAll(), net)


def _mean(boxes: Sequence[Boxes], label: int | None, size: Size) -> ClassBox:
    """The mean of a class's boxes over windows ``(n, K, 4)`` of nets and looks."""
    found = np.concatenate([_of_class(one, label or 0) for one in boxes])
    found = found[area(found) > 0]
    box = _within(found.mean(axis=0), size) if len(found) else None
    return ClassBox(label=label, box=box, windows=len(found))


def _of_class(boxes: Boxes, label: int) -> Boxes:
    """The boxes ``(n, 4)`` of a class among those of each window ``(n, K, 4)``."""
    return boxes[:, label if boxes.shape[1] > 1 else 0]


def _within(box: Boxes, size: Size) -> Boxes | None:
    """The box clipped to the image; None if nothing remains."""
    part = clip(box, size)
    return part if area(part) > 0 else None


def _num_classes(net: Compiled) -> int | None:
    """The number of a net's classes; None if it has one box for all."""
    result = net.manifest.result
    if result.kind != "boxes":
        return result.channels
    return result.channels // 4 if result.channels > 4 else None


def _at(what: Diagnostic, net: Compiled) -> VggspecError:
    return VggspecError(report(what, path=str(net.path)))
