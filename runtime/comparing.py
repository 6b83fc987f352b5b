"""The distances of many images from one, by a bundle that compares pictures."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vggspec.base.arguments import Device
from vggspec.base.catalogue.distances import NoDistance
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.runtime.predicting import listed_images
from vggspec.runtime.predictor import OneOrMany, Predictor

if TYPE_CHECKING:
    from vggspec.data.read import ImageLike


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far an image is from the reference."""

    distance: float
    """0 for images that are alike to the net; it has no largest value."""

    file: str | None = None
    """The path of the image, if it was given by its path."""


def distance(
    bundle: str | os.PathLike[str],
    reference: "ImageLike",
    images: OneOrMany,
    *,
    device: Device = "auto",
    threads: int | None = None,
    watch: Watcher = SILENT,
    on_error: Callable[[VggspecError], None] | None = None,
) -> Iterator[Distance]:
    """The perceptual distance of each image from ``reference``, one at a time, by a bundle that was
    compiled with ``distance``; nothing is loaded before the first is asked for.

    ``images`` is an image or a list of images, as ``Predictor.distance`` takes them; the path of a
    folder means all images in it and its subfolders. All have the size of the reference. An image
    that cannot be compared raises, or is passed to ``on_error`` and left out.

    Raises:
        VggspecError: the bundle cannot be opened or gives no distance, the reference or a folder
            cannot be read, or an image fails and there is no ``on_error``.
        MissingLibraryError: ``device`` is not available.
        TypeError, ArgumentError: as ``Predictor.distance``.
    """
    from vggspec.data.read import read_image

    listed = listed_images(images, watch)
    with Predictor(bundle, device=device, threads=threads) as predictor:
        manifest = predictor.manifest
        if not manifest.compares:
            what = NoDistance(output=manifest.gives)
            raise VggspecError(report(what, path=os.fspath(bundle)))
        pixels = read_image(reference, manifest.input.color)
        for done, image in enumerate(listed, 1):
            try:
                found = predictor.distance(pixels, image)
            except VggspecError as error:
                if on_error is None:
                    raise
                on_error(error)
            else:
                file = os.fspath(image) if isinstance(image, str | os.PathLike) else None
                yield Distance(distance=found, file=file)
            progress = Progress(doing="comparing", done=done, total=len(listed), unit="images")
            watch.progress(progress)
