"""A bundle as something to call: an image goes in, a ``Prediction`` comes out."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, Self, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import NoClasses
from vggspec.base.catalogue.data import GraphRescales
from vggspec.base.catalogue.fusion import FixedMirrorImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Resize, TestProtocol, as_scales
from vggspec.bundle.manifest import Bundle, load_bundle
from vggspec.data.read import ImageLike, reading
from vggspec.runtime.net import BundleNet
from vggspec.runtime.picture_net import PictureNet
from vggspec.runtime.protocol import Answer, PosteriorMap, classify
from vggspec.runtime.session import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a net says of an image, and how it was asked."""

    posteriors: NDArray[np.float64]
    """``(K,)``, sum 1; where ``kind`` is scores, class scores instead."""

    kind: Literal["posteriors", "scores"]
    """``scores`` for a net without soft-max: larger is likelier, and no more is known."""

    labels: tuple[str, ...]
    scales: tuple[int, ...]
    """Each Q the image was rescaled to, in pixels."""

    flip: bool
    maps: tuple[PosteriorMap, ...]
    """One for each scale, where the bundle has a score map."""

    size: tuple[int, int]
    """Rows and columns of the image, upright."""

    def ranking(self, k: int) -> list[int]:
        """Indices of the ``k`` likeliest classes, best first; of equals the first one is first."""
        return [int(i) for i in np.argsort(-self.posteriors, kind="stable")[:k]]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Labels and posteriors of the ``k`` likeliest classes, best first."""
        return [(self.labels[i], float(self.posteriors[i])) for i in self.ranking(k)]


class Predictor:
    """Classifies images with a bundle, by the test protocol of its spec unless told otherwise.

    It may be called from several threads at once; the net is loaded once.

    Raises:
        VggspecError: it is no bundle, is damaged, or its net does not classify.
        MissingLibraryError: the device was asked for by name and cannot be had.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
    ) -> None:

        def load(opened: Bundle) -> BundleNet | PictureNet:
            kind = PictureNet if opened.manifest.members else BundleNet
            return kind(opened, device=device, threads=threads)

        self._net = load_bundle(bundle, load)
        self.manifest = self._net.manifest
        result = self.manifest.result
        if result.kind not in ("posteriors", "scores"):
            self._net.close()
            what = NoClasses(output=result.kind.replace("_", " "))
            raise VggspecError(report(what, path=self._net.path))
        self._kind: Literal["posteriors", "scores"] = result.kind
        self.labels: tuple[str, ...] = self.manifest.labels or tuple(
            f"class {i}" for i in range(result.channels)
        )

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the net runs."""
        return self._net.device

    @property
    def gives_maps(self) -> bool:
        """Whether predictions have maps: the bundle has a score map, and is applied densely."""
        test = self.manifest.test
        is_dense = self.manifest.input.is_dynamic and (test.dense or test.crops is None)
        return is_dense and self.manifest.score_map is not None

    def __call__(
        self,
        image: ImageLike,
        scales: SupportsIndex | Iterable[SupportsIndex] | None = None,
        flip: bool | None = None,  # noqa: FBT001 (reads as the spec does)
        resize: Resize | None = None,
    ) -> Prediction:
        """Classify an image: a path, an open file, its bytes, a Pillow image or an array.

        ``scales`` are the Q in pixels, or the one Q, and ``flip`` averages with the mirror image;
        ``resize`` is "rounded", or "torchvision" for its sizes and its central crop. None takes
        what the spec says.

        Raises:
            VggspecError: the image cannot be read, or is too small or too large.
            TypeError: this is nothing that an image can be read from, or scales are no numbers.
            ValueError: an array is not uint8, or of another shape; or scales are no sizes.
        """
        manifest = self.manifest
        if not isinstance(flip, bool | np.bool_ | None):
            raise TypeError(f"flip is True or False, not {flip!r}")
        if resize is not None and resize not in get_args(Resize):
            raise ValueError(f"resize is {' or '.join(get_args(Resize))}, not {resize!r}")
        protocol = replace(
            manifest.test,
            scales=manifest.test.scales if scales is None else as_scales(scales),
            flip=manifest.test.flip if flip is None else bool(flip),
            resize=manifest.test.resize if resize is None else resize,
        )
        if self.manifest.members and protocol.resize != "rounded":
            raise VggspecError(report(GraphRescales(), path=self._net.path))
        if self.manifest.members and protocol.flip != manifest.test.flip:
            what = FixedMirrorImages(flip=manifest.test.flip)
            raise VggspecError(report(what, path=self._net.path))
        with reading(image, self._net.color) as pixels:
            try:
                posteriors, maps = self._classify(pixels, protocol)
            except VggspecError as error:
                # What goes wrong from here on goes wrong with this image.
                name = os.fspath(image) if isinstance(image, str | os.PathLike) else None
                raise VggspecError(*(replace(one, path=name) for one in error.reports)) from error
            return Prediction(
                posteriors=posteriors,
                kind=self._kind,
                labels=self.labels,
                scales=protocol.scales,
                flip=protocol.flip,
                maps=maps,
                size=(pixels.shape[0], pixels.shape[1]),
            )

    def close(self) -> None:
        """Let go of the net and its memory."""
        self._net.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _classify(
        self, pixels: NDArray[np.uint8], protocol: TestProtocol
    ) -> tuple[NDArray[np.float64], tuple[PosteriorMap, ...]]:
        net = self._net
        if isinstance(net, PictureNet):
            return net(pixels, protocol.scales), ()

        def apply(images: NDArray[np.uint8]) -> Answer:
            outputs = net(images)
            maps = outputs.get("score_map")
            return Answer(outputs[self._kind], None if maps is None else softmax(maps))

        return classify(apply, pixels, net.view, protocol)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Posteriors from scores ``(N, K, ...)``, over K."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    posteriors: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return posteriors
