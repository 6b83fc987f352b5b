"""Many images through a bundle, one prediction after another."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vggspec.base.arguments import Device
from vggspec.base.diagnostic import VggspecError
from vggspec.base.recipe import Resize
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.data.pictures import named_images
from vggspec.runtime.predictor import Images, OneOrMany, Prediction, Predictor, Scales

if TYPE_CHECKING:
    from vggspec.data.read import ImageLike


def predict(
    bundle: str | os.PathLike[str],
    images: OneOrMany,
    *,
    scales: Scales | None = None,
    flip: bool | None = None,
    resize: Resize | None = None,
    tile: int | None = None,
    device: Device = "auto",
    threads: int | None = None,
    watch: Watcher = SILENT,
    on_error: Callable[[VggspecError], None] | None = None,
) -> Iterator[Prediction]:
    """Apply a bundle to images, one at a time; nothing is loaded before the first is asked for.

    ``images`` is an image or a list of images, as ``Predictor`` takes them; the path of a folder
    means all images in it and its subfolders. The other arguments are those of ``Predictor`` and of
    its calls. An image that cannot be read raises, or is passed to ``on_error`` and left out.
    ``Prediction.file`` says which image a prediction is of.

    Raises:
        VggspecError: the bundle cannot be opened, a folder cannot be read, or an image fails and
            there is no ``on_error``.
        MissingLibraryError: ``device`` is not available.
        TypeError, ArgumentError: as ``Predictor``.
    """
    listed = listed_images(images, watch)
    with Predictor(bundle, device=device, threads=threads) as predictor:
        predictor.check()
        yield from predict_each(
            predictor,
            listed,
            scales=scales,
            flip=flip,
            resize=resize,
            tile=tile,
            watch=watch,
            on_error=on_error,
        )


def listed_images(images: OneOrMany, watch: Watcher = SILENT) -> "list[ImageLike]":
    """An image or a list of images, with those that the path of a folder means.

    Raises:
        VggspecError: a folder cannot be read.
    """
    given = list(images) if isinstance(images, list | tuple) else [images]
    listed: list[ImageLike] = []
    for image in given:
        is_path = isinstance(image, str | os.PathLike)
        listed += named_images([image], watch) if is_path else [image]  # type: ignore[list-item]
    return listed


def predict_each(
    predictor: Predictor,
    images: Images,
    *,
    scales: Scales | None = None,
    flip: bool | None = None,
    resize: Resize | None = None,
    tile: int | None = None,
    watch: Watcher = SILENT,
    on_error: Callable[[VggspecError], None] | None = None,
) -> Iterator[Prediction]:
    """As ``predict``, by a predictor that is open; paths are those of images."""
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        watch.progress(Progress(doing="predicting", done=done, total=len(images), unit="images"))

    def one_by_one(group: Images) -> Iterator[Prediction]:
        for image in group:
            try:
                yield predictor(image, scales, flip, resize, tile=tile)
            except VggspecError as error:
                if on_error is None:
                    raise
                on_error(error)
            advance()

    def together(group: Images) -> Iterator[Prediction]:
        for prediction in predictor(group, scales, flip, resize, tile=tile):
            yield prediction
            advance()

    size = predictor.group_size
    for group in (images[start : start + size] for start in range(0, len(images), size)):
        # An open file is read once, so it cannot be tried again.
        if size == 1 or any(hasattr(image, "read") for image in group):
            yield from one_by_one(group)
            continue
        try:
            yield from together(group)
        except VggspecError:  # of one of them, before the first prediction
            yield from one_by_one(group)
