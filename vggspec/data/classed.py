"""Images with their classes, one each or several: by class folders, shards, or annotations.

    DIR/train/cat/1.jpg     DIR/cat/1.jpg     DIR/train/000000.tar      one class an image
    DIR/ImageSets/Main/train.txt  DIR/annotations/instances_train.json  those of its objects

Folders and shards take precedence over annotations: in ILSVRC all objects are of the folder's
class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import annotations, data
from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.catalogue.features import ClassesDiffer
from vggspec.base.class_names import same
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import reason
from vggspec.data.annotated import Annotated, open_annotated
from vggspec.data.folder import subfolders
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.data.packed import find_packed, name_of
from vggspec.data.remote import WHOLE
from vggspec.data.shards import list_shards

SPLITS = ("train", "val")


class Images(Protocol):
    """A list of image files."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def read(self, index: int) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Classed:
    """The images of a split and their classes."""

    split: str
    images: Images
    labels: NDArray[np.int64] | NDArray[np.uint8]
    """``(N,)``, the number of an image's class; or ``(N, K)``, 1 for each that it has."""

    classes: tuple[str, ...] | None
    """Their names, the same for all splits; None for shards without names."""

    left_out: Mapping[str, str]
    """Images with invalid annotations, each with the reason."""

    notes: tuple[str, ...] = ()
    """What of the folders is not used, in words."""


def open_classed(
    root: Path, split: str | None = None, watch: Watcher = SILENT
) -> tuple[Classed, ...]:
    """The images of ``split``, else of ``train`` and ``val`` as far as they exist, else of all that
    is below ``root``. ``watch`` receives how many annotations have been read.

    Raises:
        VggspecError: no images exist, a folder cannot be read, ``val`` has classes that ``train``
            does not have, or too many annotations are invalid.
        MissingLibraryError: they are in shards, and webdataset is not installed.
    """
    names = SPLITS if split is None else (split,)
    found: list[Classed] = []
    for name in names:
        classes = found[0].classes if found else None
        one = _folders(root, name) or _annotated(root, name, classes, watch)
        if one is not None:
            found.append(_with_classes_of(found[0], one) if found else one)
    if found:
        return tuple(found)
    if split is not None:
        what = NoImages(
            tried=f"`{root}` has no split `{split}`", splits=_usual_splits(root), split=split
        )
        raise VggspecError(report(what))
    return (_of_labelled(open_labelled(root, WHOLE), WHOLE),)


def _usual_splits(root: Path) -> tuple[str, ...]:
    """The splits with a usual name, as folders or as VOC lists them."""
    lists = root / "ImageSets" / "Main"
    names = (*SPLITS, "trainval", "test")
    return tuple(n for n in names if (root / n).is_dir() or (lists / f"{n}.txt").is_file())


def _folders(root: Path, split: str) -> Classed | None:
    try:
        packed = find_packed(root)
        if packed is not None:
            is_there = name_of(packed, split) not in (None, WHOLE)
            return _of_labelled(open_labelled(root, split), split) if is_there else None
        folder = root / split
        if not folder.is_dir() or not (subfolders(folder) or list_shards(folder)):
            return None
    except OSError as error:
        what = NoImages(tried=f"`{root}` cannot be read: {reason(error)}", split=split)
        raise VggspecError(report(what)) from error
    return _of_labelled(open_labelled(root, split), split)


def _of_labelled(labelled: Labelled, split: str) -> Classed:
    labels = labelled.images.labels.astype(np.int64)
    return Classed(
        split=split,
        images=labelled.images,
        labels=labels,
        classes=labelled.classes,
        left_out={},
        notes=labelled.notes,
    )


def _annotated(
    root: Path, split: str, classes: tuple[str, ...] | None, watch: Watcher
) -> Classed | None:
    try:
        found = open_annotated(root, split, classes, watch)
    except VggspecError as error:
        if isinstance(error.reports[0].what, annotations.NoAnnotations):
            return None
        raise
    return Classed(
        split=split,
        images=found,
        labels=flags_of(found),
        classes=found.classes,
        left_out=found.left_out,
        notes=found.notes,
    )


def flags_of(found: Annotated) -> NDArray[np.uint8]:
    """``(images, classes)``: 1 where an object of the class is on the image."""
    flags = np.zeros((len(found), len(found.classes)), np.uint8)
    images = np.repeat(np.arange(len(found)), np.diff(found.firsts))
    flags[images, found.labels] = 1
    return flags


def _with_classes_of(first: Classed, one: Classed) -> Classed:
    """The same images, their classes numbered as in the split before."""
    if first.classes == one.classes and first.labels.ndim == one.labels.ndim:
        return one
    if first.classes is None or one.classes is None or first.labels.ndim != one.labels.ndim:
        raise VggspecError(report(ClassesDiffer(split=one.split, reason=_kinds(first, one))))
    known = {same(name): number for number, name in enumerate(first.classes)}
    missing = tuple(name for name in one.classes if same(name) not in known)
    if missing:
        what = data.UnlikeClasses(missing=missing, known=first.classes)
        raise VggspecError(report(what))
    numbers = np.array([known[same(name)] for name in one.classes], np.int64)
    return Classed(
        split=one.split,
        images=one.images,
        labels=numbers[one.labels],
        classes=first.classes,
        left_out=one.left_out,
        notes=one.notes,
    )


def _kinds(first: Classed, one: Classed) -> str:
    if first.labels.ndim == one.labels.ndim:
        return "only one of them has names for its classes"
    several, single = (first, one) if first.labels.ndim == 2 else (one, first)
    return f"an image of `{several.split}` has several classes, one of `{single.split}` has one"
