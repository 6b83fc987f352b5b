"""Images to test a net on, each with its class: folders or shards, with or without a split.

DIR/val/cat/1.jpg   DIR/cat/1.jpg   DIR/val/000000.tar   DIR/000000.tar

and data sets in files of their own, see ``packed.py``.
"""

from dataclasses import dataclass
from pathlib import Path

from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.render import shown
from vggspec.base.wording import reason
from vggspec.data.digest import Digest
from vggspec.data.folder import Skipped, list_folder, subfolders, without_images
from vggspec.data.packed import Packed, find_packed, open_packed, root_of
from vggspec.data.shards import list_shards, open_shards, read_classes
from vggspec.data.split import Split

#: Names of folders that contain class folders and are not classes themselves.
SPLITS = frozenset(
    ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Images on disk with their classes."""

    folder: Path
    """The folder of the split, or the one that was named where it has none."""

    classes: tuple[str, ...] | None
    """Their names in the order of their numbers; None for shards without names."""

    images: Split
    stamp: str
    """SHA-256 of the names, sizes and times of all files."""

    notes: tuple[str, ...] = ()
    """What of it is not used, in words."""


def open_labelled(root: Path, split: str = "val") -> Labelled:
    """List the images of ``root/split``, or of ``root`` where there is no such folder.

    A class without images counts as a class: the numbers of a net's classes follow from the sorted
    names of their folders.

    Raises:
        VggspecError: there are none, a folder cannot be read, or a shard is damaged.
        MissingLibraryError: they are in shards, and webdataset is not installed.
    """
    digest, skipped = Digest(), Skipped()
    try:
        packed = find_packed(root)
        if packed is not None:
            return _of_packed(packed, root_of(packed, root), split, digest)
    except OSError as error:
        where = shown(str(error.filename or root))
        raise _no_images(f"`{where}` cannot be read: {reason(error)}", split) from error
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise _no_images(f"`{folder}` is not a folder", split)
    classes: tuple[str, ...] | None
    images: Split
    try:
        if list_shards(folder):
            images = open_shards(folder, digest, skipped)
            classes = read_classes(root) or read_classes(folder)
        else:
            classes = subfolders(folder, skipped)
            if folder == root:
                _check_no_splits(root, split, classes)
            images = list_folder(folder, classes, digest, skipped)
    except OSError as error:
        where = shown(str(error.filename or folder))
        raise _no_images(f"`{where}` cannot be read: {reason(error)}", split) from error
    words = skipped.in_words()
    if not len(images):
        instead = f", but {words}" if words else ""
        tried = f"`{folder}` holds no folders with images, one for each class{instead}"
        raise _no_images(tried, split)
    notes = skipped.notes(folder.name)
    if classes is not None:
        notes = (*notes, *without_images(folder.name, classes, images.labels))
    return Labelled(
        folder=folder, classes=classes, images=images, stamp=digest.stamp(), notes=notes
    )


def _of_packed(packed: Packed, root: Path, split: str, digest: Digest) -> Labelled:
    classes, images = open_packed(packed, split, root, digest)
    notes = () if classes is None else without_images(split, classes, images.labels)
    return Labelled(
        folder=root, classes=classes, images=images, stamp=digest.stamp(), notes=tuple(notes)
    )


def _check_no_splits(root: Path, split: str, folders: tuple[str, ...]) -> None:
    """Check that the folders are classes, not splits other than the requested one.

    Raises:
        VggspecError: one has the name of a split, and contains folders and no images.
    """
    called = (name for name in folders if name.casefold() in SPLITS)
    splits = tuple(name for name in called if holds_classes(root / name))
    if splits:
        what = NoImages(tried=f"`{root}` has no folder `{split}`", splits=splits)
        raise VggspecError(report(what))


def holds_classes(folder: Path) -> bool:
    """Whether a folder is that of a split: it contains folders and no images, or shards.

    Raises:
        OSError: it cannot be read.
    """
    skipped = Skipped()
    if not folder.is_dir():
        return False
    return bool(subfolders(folder, skipped) or list_shards(folder)) and not skipped.has("loose")


def _no_images(tried: str, split: str) -> VggspecError:
    return VggspecError(report(NoImages(tried=tried, split=split)))
