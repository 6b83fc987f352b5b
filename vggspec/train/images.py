"""A folder of images, a folder for each class: found, checked, decoded.

    DIR/train/cat/1.jpg   DIR/train/dog/1.jpg
    DIR/val/cat/9.jpg     DIR/val/dog/9.jpg

Everything that names alone can tell is checked before the first image is opened. An image that
cannot be read is left out and counted; more than one in a hundred end the work.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vggspec.catalogue import data
from vggspec.compiler.ir import Color, Network
from vggspec.diagnostic import Diagnostic, Report, Reports, VggspecError, report
from vggspec.runtime.preprocess import DECODER_ERRORS, FORMATS, read_image
from vggspec.source import reason

Pixels = NDArray[np.uint8]

#: JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves this many times the pixels a
#: side that are wanted: the rescaling that follows then evens out how the decoder averages.
DRAFT_GAP = 2

#: More bad images than this share of all are an error.
MAX_BAD_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The images of ``train`` or ``val``, in the order of their paths."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    """For each path the number of its class."""

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """A data set on disk: its classes in the order of their names, and where the images are."""

    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    fingerprint: str
    """SHA-256 of the paths and sizes of all files, so that another run can tell other data."""


class BadImageError(Exception):
    """The file cannot be read as an image; the message says why."""


def open_folder(root: Path, network: Network) -> ImageFolder:
    """List the images of a data set and hold its classes against the net.

    Hidden files are no images, all others are. ``val`` may lack classes of ``train``.

    Raises:
        VggspecError: there is no such data, a class is empty or foreign, or the net's last layer
            has another number of outputs.
    """
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise _no_data(f"`{folder}` is not a folder")
    try:
        return _listed(root, network)
    except OSError as error:
        raise _no_data(f"`{root}` cannot be read: {reason(error)}") from error


def decode(path: str, color: Color, at_least: int | None = None) -> Pixels:
    """An image as uint8 ``(H, W, C)``, channels in the order of ``color``, upright.

    Its pixels are those that ``vggspec predict`` reads. With ``at_least``, a JPEG whose sides are
    all much longer than that many pixels may come out at a fraction of its size, which is several
    times as fast.

    Raises:
        BadImageError: it is no image, is damaged, or is too large.
    """
    try:
        with opened(path) as image:
            if at_least is not None:
                side = DRAFT_GAP * at_least
                image.draft("L" if color == "gray" else "RGB", (side, side))
            pixels = read_image(image, color)
            return pixels[..., ::-1] if color == "BGR" else pixels
    except VggspecError as error:
        raise BadImageError(error.reports[0].what.title()) from error
    except UnidentifiedImageError as error:
        raise BadImageError("it is not an image") from error
    except Image.DecompressionBombError as error:
        raise BadImageError("it has too many pixels") from error
    except OSError as error:
        raise BadImageError(reason(error)) from error
    except DECODER_ERRORS as error:
        raise BadImageError("it is damaged") from error


@contextlib.contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """An image file whose header has been read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large image is no concern, a huge one an error
        image = Image.open(path, formats=FORMATS)
    with image:
        yield image


class LeftOut:
    """The images that could not be read, with reasons; too many of them are an error."""

    def __init__(self, total: int, root: Path) -> None:
        self._total = total
        self._root = root
        self._reasons: dict[str, str] = {}

    def add(self, path: str, why: str) -> None:
        """Count an image, once.

        Raises:
            VggspecError: these are too many.
        """
        self._reasons.setdefault(path, why)
        if len(self) > MAX_BAD_SHARE * self._total:
            what = data.TooManyBadImages(bad=len(self), total=self._total, first=self.first())
            raise VggspecError(_at(what, self._root))

    def first(self, number: int = 5) -> tuple[str, ...]:
        """The first names, each with its reason."""
        return tuple(f"{path}: {why}" for path, why in list(self._reasons.items())[:number])

    def __len__(self) -> int:
        return len(self._reasons)


def _listed(root: Path, network: Network) -> ImageFolder:
    classes = _subfolders(root / "train")
    foreign = tuple(name for name in _subfolders(root / "val") if name not in classes)
    wrong = Reports()
    if foreign:
        wrong.add(_at(data.UnlikeClasses(missing=foreign), root))
    last = network.weight_layers[-1]
    if len(classes) != network.num_classes:
        what = data.ClassMismatch(
            classes=len(classes), outputs=network.num_classes, layer=last.name
        )
        wrong.add(_at(what, root))
    wrong.raise_if_any()  # a folder of something else would otherwise be listed to its end
    digest = hashlib.sha256()
    train = _split(root, "train", classes, digest)
    val = _split(root, "val", classes, digest)
    empty = sorted(set(range(len(classes))) - set(train.labels))
    if empty:
        raise VggspecError(*(_at(data.EmptyClass(name=classes[i]), root / "train") for i in empty))
    if not val.paths:
        raise _no_data(f"`{root / 'val'}` holds no images")
    return ImageFolder(
        root=root, classes=classes, train=train, val=val, fingerprint=digest.hexdigest()
    )


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _visible(folder) if entry.is_dir()))


def _split(root: Path, name: str, classes: tuple[str, ...], digest: "hashlib._Hash") -> Split:
    paths: list[str] = []
    labels: list[int] = []
    for label, each in enumerate(classes):
        if not (root / name / each).is_dir():
            continue
        files = (entry for entry in _visible(root / name / each) if entry.is_file())
        for entry in sorted(files, key=lambda entry: entry.name):
            paths.append(entry.path)
            labels.append(label)
            line = f"{name}/{each}/{entry.name}\0{entry.stat().st_size}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return Split(paths=tuple(paths), labels=tuple(labels))


def _visible(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _no_data(tried: str) -> VggspecError:
    return VggspecError(report(data.NoData(tried=tried)))


def _at(what: Diagnostic, path: Path) -> Report:
    return report(what, path=str(path))
