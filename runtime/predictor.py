"""A bundle as a function of images: an image goes in, a ``Prediction`` comes out."""

import contextlib
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, SupportsIndex, TypeAlias, cast, get_args, overload

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import Device, check_choice, check_flag, check_whole
from vggspec.base.catalogue.artefacts import NoClasses
from vggspec.base.catalogue.data import GraphRescales
from vggspec.base.catalogue.distances import ComparesPictures, NoDistance
from vggspec.base.catalogue.fusion import FixedMirrorImages, HoldsProtocol
from vggspec.base.catalogue.label_maps import NoLabelMap
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Resize, TestProtocol, as_scales
from vggspec.base.short_repr import short_repr
from vggspec.bundle.opening import Bundle, load_bundle
from vggspec.data.box_coding import Boxes
from vggspec.data.read import ImageLike, reading
from vggspec.runtime.central_boxes import central_boxes
from vggspec.runtime.label_maps import LabelMap, segment
from vggspec.runtime.net import BundleNet
from vggspec.runtime.pair_net import PairNet
from vggspec.runtime.picture_net import PictureNet
from vggspec.runtime.preprocess import rescale
from vggspec.runtime.protocol import (
    Answer,
    PosteriorMap,
    Question,
    classify,
    classify_by_shape,
    inputs,
    questions,
    ways,
)

#: Images of a list that are computed together where changes of shape are slow: enough that most
#: shapes come several times, few enough that results come soon. Their rescaled images take no more
#: than these bytes, and those of one image more.
GROUP, GROUP_BYTES = 32, 256 << 20

Kind = Literal["posteriors", "scores", "boxes", "posterior_map"]
Images: TypeAlias = "Sequence[ImageLike]"
OneOrMany: TypeAlias = "ImageLike | Sequence[ImageLike]"
Scales = SupportsIndex | Iterable[SupportsIndex]


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """What a class has of an image, by a net that labels pixels."""

    label: str
    index: int
    pixels: int
    share: float
    """Of all pixels of the image, from 0 to 1."""

    posterior: float
    """Of the class, averaged over its pixels."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer of a net for one image, and the test protocol that gave it."""

    posteriors: NDArray[np.float64]
    """``(K,)``, sum 1; class scores if ``kind`` is scores; ``(0,)`` if it is boxes or a map."""

    kind: Kind
    """``scores`` for a net without soft-max: a larger score is likelier, and has no other meaning.
    ``boxes`` for a net that localises, ``posterior_map`` for one that labels pixels.
    """

    labels: tuple[str, ...]
    """``K`` of them; empty for a net with one box for all classes."""

    scales: tuple[int, ...]
    """Each Q the image was rescaled to, in pixels."""

    flip: bool
    maps: tuple[PosteriorMap, ...]
    """One for each scale, if the bundle has a score map."""

    size: tuple[int, int]
    """Rows and columns of the upright image."""

    boxes: Boxes | None = None
    """``(K, 4)``, or ``(1, 4)`` for a net with one box for all classes: left, top, right, bottom in
    pixels of the upright image; NaN for a class without a box. None unless ``kind`` is boxes.
    """

    label_map: LabelMap | None = None
    """The class of each pixel of the upright image; None unless ``kind`` is posterior_map."""

    file: str | None = None
    """The path of the image, if it was given by its path."""

    def ranking(self, k: int) -> list[int]:
        """Indices of the ``k`` likeliest classes, best first; equal classes keep their order.

        Raises:
            TypeError: ``k`` is no whole number.
            ArgumentError: it is negative.
        """
        check_whole("k", k, least=0)
        return [int(i) for i in np.argsort(-self.posteriors, kind="stable")[:k]]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Labels and posteriors of the ``k`` likeliest classes, best first.

        Raises:
            TypeError: ``k`` is no whole number.
            ArgumentError: it is negative.
        """
        return [(self.labels[i], float(self.posteriors[i])) for i in self.ranking(k)]

    def areas(self) -> "list[Area]":
        """What each class has of the image, by a net that labels pixels, the largest first; classes
        without a pixel are left out.
        """
        if self.label_map is None:
            return []
        labels = self.label_map.labels.ravel()
        pixels = np.bincount(labels, minlength=len(self.labels))
        sums = np.bincount(labels, self.label_map.confidence.ravel(), len(self.labels))
        order = np.argsort(-pixels, kind="stable")
        return [
            Area(
                label=self.labels[i],
                index=int(i),
                pixels=int(pixels[i]),
                share=float(pixels[i] / labels.size),
                posterior=float(sums[i] / pixels[i]),
            )
            for i in order[: np.count_nonzero(pixels)]
        ]

    def as_data(self, top: int = 5) -> dict[str, Any]:
        """The prediction as JSON values, with the ``top`` likeliest classes, the ``top`` classes of
        the most pixels, or all boxes.
        """
        about = {"file": self.file, "scales": list(self.scales), "flip": self.flip}
        if self.label_map is not None:
            areas = [asdict(area) for area in self.areas()[:top]]
            return about | {"size": list(self.size), "areas": areas}
        if self.boxes is not None:
            boxes = [None if np.isnan(box).any() else box.tolist() for box in self.boxes]
            labels = self.labels or (None,)
            pairs = enumerate(zip(labels, boxes, strict=True))
            return about | {"boxes": [{"label": a, "index": i, "box": b} for i, (a, b) in pairs]}
        value = "posterior" if self.kind == "posteriors" else "score"
        classes = [
            {"label": self.labels[i], "index": i, value: float(self.posteriors[i])}
            for i in self.ranking(top)
        ]
        return about | {"top": classes}


def load(
    bundle: str | os.PathLike[str], *, device: Device = "auto", threads: int | None = None
) -> "Predictor":
    """Open a bundle, to apply its net to images: ``load("D")("photo.jpg").top(5)``, or
    ``load("lpips").distance("one.png", "other.png")`` for one that compares pictures.

    ``threads`` bounds the CPU threads of one run; None leaves the number to the engine. A TensorRT
    engine is native code and is only loaded for ``device="tensorrt"``.

    Raises:
        VggspecError: it is not a bundle, or a file of it is damaged or was changed.
        ArgumentError: there is no such ``device``, or ``threads`` is not 1 to 1024.
        TypeError: ``threads`` is no whole number.
        MissingLibraryError: ``device`` is not available.
    """
    return Predictor(bundle, device=device, threads=threads)


class Predictor(Closing):
    """Applies a bundle to images by the test protocol of its spec, unless a call says otherwise.

    The net is loaded once; several threads may call the predictor.

    Raises:
        VggspecError: it is not a bundle, or is damaged.
        MissingLibraryError: ``device`` is not available.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
    ) -> None:

        def load(opened: Bundle) -> BundleNet | PictureNet | PairNet:
            manifest = opened.manifest
            kind = PairNet if manifest.compares else PictureNet if manifest.members else BundleNet
            return kind(opened, device=device, threads=threads)

        self._net = load_bundle(bundle, load)
        self.manifest = self._net.manifest
        result = self.manifest.result
        gives = cast("Kind", result.kind) if result.kind in get_args(Kind) else None
        self.kind: Kind | None = gives
        """What predictions have; None for a net of activations, which has outputs."""

        number = result.channels // 4 if self.kind == "boxes" else result.channels
        numbered = tuple(f"class {i}" for i in range(number))
        has_one_box = self.kind == "boxes" and number == 1
        is_nameless = has_one_box or self.kind is None
        self.labels: tuple[str, ...] = () if is_nameless else self.manifest.labels or numbered

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that runs the net."""
        return self._net.device

    @property
    def gives_maps(self) -> bool:
        """Whether predictions have maps: the bundle has a score map, and is applied densely."""
        test = self.manifest.test
        is_dense = self.manifest.input.is_dynamic and (test.dense or test.crops is None)
        return is_dense and self.manifest.score_map is not None

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is one image
        self,
        image: ImageLike,
        scales: Scales | None = None,
        flip: bool | None = None,  # noqa: FBT001 (reads as the spec does)
        resize: Resize | None = None,
        *,
        tile: int | None = None,
        keep_posteriors: bool = False,
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        image: Images,
        scales: Scales | None = None,
        flip: bool | None = None,  # noqa: FBT001
        resize: Resize | None = None,
        *,
        tile: int | None = None,
        keep_posteriors: bool = False,
    ) -> list[Prediction]: ...

    def __call__(
        self,
        image: OneOrMany,
        scales: Scales | None = None,
        flip: bool | None = None,  # noqa: FBT001
        resize: Resize | None = None,
        *,
        tile: int | None = None,
        keep_posteriors: bool = False,
    ) -> Prediction | list[Prediction]:
        """Apply the net to an image, or to each of a list of images.

        An image is a path, the bytes of a file, an open file, a Pillow image, a uint8 array
        ``(H, W)`` or ``(H, W, C)``, or a torch tensor ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)`` of
        uint8 or of floating point numbers from 0 to 1. ``scales`` is one Q in pixels or several;
        ``flip`` averages with the mirror image; ``resize`` is "rounded", or "torchvision" for its
        sizes and its central crop. None is as in the spec.

        A net that localises sees the central window of the image at each scale, and its boxes are
        averaged, as ``vggspec localise`` does without a classifier.

        A net that labels pixels sees the whole image, or tiles of it: ``tile`` is how many pixels
        of the rescaled image are taken from each, both ways. None computes images of up to 2
        million pixels at once, and larger ones in tiles of 1024. ``keep_posteriors`` keeps those of
        all classes at each pixel, in ``label_map.posteriors``.

        Raises:
            VggspecError: an image cannot be read, or is too small or too large; the net gives
                neither classes nor boxes nor labels of pixels; or ``tile`` and ``keep_posteriors``
                are for such a net, and it is another.
            TypeError: ``image`` is of another type, or ``scales`` are not whole numbers.
            ArgumentError: an array or a tensor has another shape, number type or range, or its
                layout is ambiguous; ``scales`` are not sizes; or ``resize`` is neither.
        """
        self.check()
        check_whole("tile", tile, least=1)
        check_flag("keep_posteriors", keep_posteriors)
        protocol = self._protocol(scales, flip, resize)
        if self.kind != "posterior_map" and (tile is not None or keep_posteriors):
            raise VggspecError(report(NoLabelMap(output=self.manifest.gives), path=self._net.path))
        chosen = _Maps(tile, keep_posteriors)
        if isinstance(image, list | tuple):
            if self.group_size > 1:
                return list(self._classified(image, protocol))
            return [self._predict(each, protocol, chosen) for each in image]
        return self._predict(image, protocol, chosen)  # type: ignore[arg-type]

    @property
    def group_size(self) -> int:
        """How many images of a list are computed together, one shape after another; their numbers
        are those of single images. More than 1 on CUDA devices, in ONNX Runtime.
        """
        classifies = self.kind in ("posteriors", "scores")
        is_grouped = isinstance(self._net, BundleNet) and self._net.is_slow_to_change_shape
        return GROUP if classifies and is_grouped else 1

    def outputs(self, image: ImageLike, scale: int | None = None) -> dict[str, NDArray[Any]]:
        """All outputs of the net for one image, by their names: maps ``(C, h, w)`` and vectors
        ``(C,)``, as the graph computes them.

        ``scale`` is Q in pixels; None leaves the image as it is. A net of one size sees the central
        window of the rescaled image, with None at the first scale of the spec.

        Raises:
            VggspecError: the image cannot be read, or is too small or too large; or the graph
                contains the test protocol.
            TypeError, ArgumentError: as for a call.
        """
        net, test = self._net, self.manifest.test
        if isinstance(net, PictureNet):
            raise VggspecError(report(HoldsProtocol(), path=net.path))
        if isinstance(net, PairNet):
            raise VggspecError(report(ComparesPictures(), path=net.path))
        one = replace(test, dense=True, crops=None, flip=False)
        with reading(image, net.color) as pixels, _about(image):
            own = min(pixels.shape[:2]) if net.view.is_dynamic else test.scales[0]
            (scale,) = as_scales(own if scale is None else operator.index(scale))
            rescaled = rescale(pixels, scale, test.resize)
            (way,) = ways(net.view, one)
            (seen,) = inputs(rescaled, way, net.view, one)
            return {name: array[0] for name, array in net.arrays(seen[np.newaxis]).items()}

    def distance(self, first: ImageLike, second: ImageLike) -> float:
        """The perceptual distance of two images of one size, by a bundle that was compiled with
        ``distance``: 0 for images that are alike to the net. Neither image is rescaled.

        Raises:
            VggspecError: an image cannot be read; they differ in size, or are too small or too
                large; or the bundle gives no distance.
            TypeError, ArgumentError: as for a call.
        """
        net = self._net
        if not isinstance(net, PairNet):
            raise VggspecError(report(NoDistance(output=self.manifest.gives), path=net.path))
        with contextlib.ExitStack() as held:
            pixels = []
            for image in (first, second):
                with _about(image):
                    pixels.append(held.enter_context(reading(image, net.color)))
            with _about(second):
                return net(*pixels)

    def check(self) -> None:
        """Refuse a net that gives neither classes nor boxes nor labels of pixels.

        Raises:
            VggspecError: it is one.
        """
        if isinstance(self._net, PairNet):
            raise VggspecError(report(ComparesPictures(), path=self._net.path))
        if self.kind is None:
            what = NoClasses(output=self.manifest.gives)
            raise VggspecError(report(what, path=self._net.path))

    def close(self) -> None:
        """Free the net and its memory."""
        self._net.close()

    def _protocol(
        self,
        scales: Scales | None,
        flip: bool | None,  # noqa: FBT001
        resize: Resize | None,
    ) -> TestProtocol:
        test = self.manifest.test
        check_flag("flip", flip)
        check_choice("resize", resize, Resize)
        protocol = replace(
            test,
            scales=test.scales if scales is None else as_scales(scales),
            flip=test.flip if flip is None else bool(flip),
            resize=test.resize if resize is None else resize,
        )
        if self.manifest.members and protocol.resize != "rounded":
            raise VggspecError(report(GraphRescales(), path=self._net.path))
        if self.manifest.members and protocol.flip != test.flip:
            what = FixedMirrorImages(flip=test.flip)
            raise VggspecError(report(what, path=self._net.path))
        return protocol

    def _predict(self, image: ImageLike, protocol: TestProtocol, maps: "_Maps") -> Prediction:
        with reading(image, self._net.color) as pixels, _about(image) as file:
            return self._filled(self._empty(pixels, protocol, file), pixels, protocol, maps)

    def _classified(
        self, images: Sequence[ImageLike], protocol: TestProtocol
    ) -> Iterator[Prediction]:
        """As ``_predict`` of each, the runs of a group in the order of their shapes."""
        net = self._net
        assert isinstance(net, BundleNet)
        empty: list[Prediction] = []
        asked: list[list[Question]] = []
        num_bytes = 0

        def answered() -> Iterator[Prediction]:
            found = classify_by_shape(self._apply, asked, net.view)
            for one, (posteriors, maps) in zip(empty, found, strict=True):
                yield replace(one, posteriors=posteriors, maps=maps)

        for image in images:
            with reading(image, net.color) as pixels, _about(image) as file:
                empty.append(self._empty(pixels, protocol, file))
                asked.append(list(questions(pixels, net.view, protocol)))
            num_bytes += sum(each.num_bytes for each in asked[-1])
            if len(asked) == GROUP or num_bytes >= GROUP_BYTES:
                yield from answered()
                empty, asked, num_bytes = [], [], 0
        yield from answered()

    def _empty(
        self, pixels: NDArray[np.uint8], protocol: TestProtocol, file: str | None
    ) -> Prediction:
        """A prediction without its numbers."""
        assert self.kind is not None
        return Prediction(
            posteriors=np.zeros(0),
            kind=self.kind,
            labels=self.labels,
            scales=protocol.scales,
            flip=protocol.flip,
            maps=(),
            size=(pixels.shape[0], pixels.shape[1]),
            file=file,
        )

    def _filled(
        self,
        empty: Prediction,
        pixels: NDArray[np.uint8],
        protocol: TestProtocol,
        maps_of: "_Maps",
    ) -> Prediction:
        net = self._net
        assert not isinstance(net, PairNet)
        if isinstance(net, PictureNet):
            return replace(empty, posteriors=net(pixels, protocol.scales))
        if self.kind == "boxes":
            return replace(empty, boxes=central_boxes(net, pixels, protocol))
        if self.kind == "posterior_map":
            found = segment(
                net, pixels, protocol, tile=maps_of.tile, keep_posteriors=maps_of.keep_posteriors
            )
            return replace(empty, label_map=found)
        posteriors, maps = classify(self._apply, pixels, net.view, protocol)
        return replace(empty, posteriors=posteriors, maps=maps)

    def _apply(self, images: NDArray[np.uint8]) -> Answer:
        """What a net that gives classes says of a batch."""
        net = self._net
        assert isinstance(net, BundleNet)
        outputs = net(images)
        maps = outputs.get("score_map")
        posteriors = outputs[self.manifest.result.key]
        return Answer(posteriors, None if maps is None else softmax(maps))


@dataclass(frozen=True, slots=True)
class _Maps:
    """How a net that labels pixels is applied."""

    tile: int | None
    keep_posteriors: bool


@contextlib.contextmanager
def _about(image: ImageLike) -> Iterator[str | None]:
    """The path of an image, if it is one; what fails in the block is about this image."""
    file = os.fspath(image) if isinstance(image, str | os.PathLike) else None
    try:
        yield file
    except VggspecError as error:
        raise VggspecError(*(replace(one, path=file) for one in error.reports)) from error


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posteriors from scores ``(N, K, ...)``, over K."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    posteriors: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return posteriors
