"""The images that calibrate an int8 net, and those that measure its accuracy.

Both are centre crops: the image is rescaled to the smallest scale of the test protocol, and the
centre of the size of the spec's input is taken. A net that takes any size is calibrated so too.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.evaluating import ForeignClasses, NoImages
from vggspec.base.catalogue.quantising import TooFewToCalibrate
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import read_file
from vggspec.base.watcher import Progress, Watcher
from vggspec.base.wording import reason
from vggspec.bundle.manifest import Manifest
from vggspec.data.decode import BadImageError, decode
from vggspec.data.folder import subfolders
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.data.left_out import LeftOut
from vggspec.data.matched import match_classes, spread
from vggspec.data.pictures import list_images
from vggspec.data.read import MAX_FILE_BYTES
from vggspec.data.shards import list_shards
from vggspec.runtime.preprocess import normalise, rescale

LEAST_IMAGES = 16

MOST_HELD_OUT = 500
"""More would take longer than it tells: with 500 images the accuracy is known to about a point."""


@dataclass(frozen=True, slots=True)
class Example:
    """An image as the net takes it."""

    name: str
    """From the folder on."""

    sha256: str
    """Of the file."""

    feed: NDArray[np.generic]
    """The input tensor, of one image."""

    truth: int | None
    """The net's number of its class, where the folder has classes."""


@dataclass(frozen=True, slots=True)
class _Images:
    """All images of a folder."""

    number: int
    name: Callable[[int], str]
    read: Callable[[int], bytes]
    truth: Callable[[int], int] | None


class Examples:
    """The images of a folder, of which one part calibrates and another one is held out.

    Of each the central crop of ``size``, rows and columns, is seen. ``wanted`` images calibrate,
    but at most half of all; up to ``MOST_HELD_OUT`` others are held out. Both parts are taken
    evenly from all. ``watch`` receives notes and progress.

    Raises:
        VggspecError: there are too few images, or the folder cannot be read.
    """

    def __init__(
        self,
        root: str,
        manifest: Manifest,
        size: tuple[int, int],
        wanted: int,
        watch: Watcher,
    ) -> None:
        self.scale = max(min(manifest.test.scales), *size)
        self._size = size
        self._root, self._manifest, self._watch = root, manifest, watch
        self._images = _opened(Path(root), manifest, watch)
        number = self._images.number
        if number < LEAST_IMAGES:
            few = TooFewToCalibrate(least=LEAST_IMAGES, found=number)
            raise VggspecError(report(few, path=root))
        calibrating = min(wanted, number // 2)
        used = spread(number, calibrating + MOST_HELD_OUT)
        chosen = spread(len(used), calibrating)
        self._calibrating = used[chosen]
        self._held_out = np.delete(used, chosen)
        self._left_out = LeftOut(len(used), place=root)

    @property
    def has_classes(self) -> bool:
        """Whether the class of each image is known."""
        return self._images.truth is not None

    def calibrating(self) -> Iterator[Example]:
        """The images that calibrate.

        Raises:
            VggspecError: too many images cannot be used.
        """
        return self._each(self._calibrating, "calibrating")

    def held_out(self, doing: str) -> Iterator[Example]:
        """The images that measure the accuracy.

        Raises:
            VggspecError: too many images cannot be used.
        """
        return self._each(self._held_out, doing)

    def tell_left_out(self) -> None:
        """Note the images that could not be used, once all have been read."""
        if len(self._left_out):
            first = "; ".join(self._left_out.first())
            self._watch.note(f"{len(self._left_out)} of the images cannot be used: {first}")

    def _each(self, indices: Sequence[int] | NDArray[np.int64], doing: str) -> Iterator[Example]:
        for done, index in enumerate(map(int, indices)):
            now = Progress(doing=doing, done=done, total=len(indices), unit="images")
            self._watch.progress(now)
            name = self._images.name(index)
            try:
                yield self._example(index, name)
            except BadImageError as error:
                self._left_out.add(name, str(error))
        now = Progress(doing=doing, done=len(indices), total=len(indices), unit="images")
        self._watch.progress(now)

    def _example(self, index: int, name: str) -> Example:
        contract, test = self._manifest.input, self._manifest.test
        data = self._images.read(index)
        gray = contract.color == "gray"
        pixels = decode(data, "gray" if gray else "RGB", self.scale)
        try:
            rescaled = rescale(pixels, self.scale, test.resize)
        except VggspecError as error:
            raise BadImageError(error.reports[0].what.title()) from error
        rows, columns = self._size
        top, left = (rescaled.shape[0] - rows) // 2, (rescaled.shape[1] - columns) // 2
        crop = rescaled[None, top : top + rows, left : left + columns]
        truth = self._images.truth
        return Example(
            name=os.path.relpath(name, self._root),
            sha256=hashlib.sha256(data).hexdigest(),
            feed=normalise(crop, contract),
            truth=None if truth is None else truth(index),
        )


def _opened(root: Path, manifest: Manifest, watch: Watcher) -> _Images:
    """The images of ``root``: with classes where it has class folders or shards whose classes are
    the net's.

    Raises:
        VggspecError: there are none, or the folder cannot be read.
    """
    try:
        if not root.is_dir():
            tried = f"`{root}` is not a folder"
            raise VggspecError(report(NoImages(tried=tried, has_classes=False)))
        is_labelled = bool(subfolders(root) or list_shards(root))
    except OSError as error:
        tried = f"`{root}` cannot be read: {reason(error)}"
        raise VggspecError(report(NoImages(tried=tried, has_classes=False))) from error
    if not is_labelled:
        return _unlabelled(root, watch)
    labelled = open_labelled(root)
    for note in labelled.notes:
        watch.note(note)
    return _with_classes(labelled, manifest, watch)


def _with_classes(labelled: Labelled, manifest: Manifest, watch: Watcher) -> _Images:
    images = labelled.images
    found = _Images(len(images), images.name, images.read, None)
    number = manifest.result.channels
    try:
        classes, assumed = match_classes(labelled, manifest.labels, number, net=manifest.net)
    except VggspecError as error:
        what = error.reports[0].what
        if not isinstance(what, ForeignClasses):
            raise
        watch.note(f"{what.title()}: agreement with fp32 is measured instead of accuracy")
        return found
    if assumed is not None:
        watch.note(assumed)
    return _Images(
        found.number, found.name, found.read, lambda index: classes[int(images.labels[index])]
    )


def _unlabelled(root: Path, watch: Watcher) -> _Images:
    paths = list_images(root, watch)

    def read(index: int) -> bytes:
        try:
            return read_file(paths[index], MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error

    return _Images(len(paths), lambda index: str(paths[index]), read, None)
