"""Images to test a net on, each with its class: folders or shards, with or without a split.

DIR/val/cat/1.jpg   DIR/cat/1.jpg   DIR/val/000000.tar   DIR/000000.tar
"""

from dataclasses import dataclass
from pathlib import Path

from vggspec.catalogue.evaluating import NoImages
from vggspec.data.digest import Digest
from vggspec.data.folder import list_folder, subfolders
from vggspec.data.shards import list_shards, open_shards, read_classes
from vggspec.data.split import Split
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason


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


def open_labelled(root: Path, split: str = "val") -> Labelled:
    """List the images of ``root/split``, or of ``root`` where there is no such folder.

    A class without images counts as a class: the numbers of a net's classes follow from the sorted
    names of their folders.

    Raises:
        VggspecError: there are none, a folder cannot be read, or a shard is damaged.
        MissingLibraryError: they are in shards, and webdataset is not installed.
    """
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise _no_images(f"`{folder}` is not a folder")
    digest = Digest()
    try:
        if list_shards(folder):
            shards = open_shards(folder, digest)
            classes = read_classes(root) or read_classes(folder)
            found = Labelled(folder=folder, classes=classes, images=shards, stamp=digest.stamp())
        else:
            names = subfolders(folder)
            images = list_folder(folder, names, digest)
            found = Labelled(folder=folder, classes=names, images=images, stamp=digest.stamp())
    except OSError as error:
        raise _no_images(f"`{folder}` cannot be read: {reason(error)}") from error
    if not len(found.images):
        raise _no_images(f"`{folder}` holds no folders with images, one for each class")
    return found


def _no_images(tried: str) -> VggspecError:
    return VggspecError(report(NoImages(tried=tried)))
