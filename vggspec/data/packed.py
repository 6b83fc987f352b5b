"""Data sets in files of their own, many images to a file.

DIR/data_batch_1.bin … DIR/test_batch.bin           CIFAR-10, the binary version
DIR/train.bin  DIR/test.bin                         CIFAR-100, the binary version
DIR/train-images-idx3-ubyte  DIR/t10k-…  (.gz)      MNIST, Fashion-MNIST and others of that format
DIR/data/train-00000-of-00001.parquet               Parquet, as on the Hugging Face Hub

s3://bucket/DIR                                     WebDataset shards behind a URL

``val`` is the split of that name or of a usual one like it; where there is none, ``test``.
"""

from pathlib import Path
from typing import Protocol

from vggspec.base.catalogue.data import BadPacked, PickledData
from vggspec.base.diagnostic import VggspecError, report
from vggspec.data.digest import Digest
from vggspec.data.parquet import find_parquet
from vggspec.data.records import find_cifar, find_idx
from vggspec.data.remote import WHOLE, RemoteShards, find_remote
from vggspec.data.split import Split

#: The names of a split in data sets of others, the likeliest first.
ALSO_CALLED = {"val": ("val", "validation", "valid", "dev", "test", WHOLE), "test": ("test",)}

#: CIFAR's files in the version for Python, which are pickles.
PICKLES = (("data_batch_1", "batches.meta"), ("train", "test", "meta"))


Opened = tuple[tuple[str, ...] | None, Split]
"""The names of the classes, None if they have numbers only; and the images of a split."""


class Packed(Protocol):
    """A data set in files of its own."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""

    def open(self, split: str, digest: Digest, outputs: int | None) -> "Opened":
        """The images of a split; ``outputs`` of a net decide which classes are meant where an image
        has several.

        Raises:
            VggspecError: a file is damaged, or too large.
            MissingLibraryError: a library is not installed.
            OSError: a file cannot be read.
        """


def find_packed(folder: Path) -> Packed | None:
    """The data set in files of its own in a folder, if there is one.

    Raises:
        VggspecError: its files are pickles.
        OSError: the folder cannot be read.
    """
    remote = find_remote(folder)
    if remote is not None:
        return remote
    if not folder.is_dir():
        return None
    for names in PICKLES:
        if all((folder / name).is_file() for name in names):
            raise VggspecError(report(PickledData(), path=str(folder)))
    return find_cifar(folder) or find_idx(folder) or find_parquet(folder)


def root_of(packed: Packed, root: Path) -> Path:
    """What a data set is called: its folder, or the URL without what is secret in it."""
    return packed.folder if isinstance(packed, RemoteShards) else root


def open_packed(
    packed: Packed, split: str, folder: Path, digest: Digest, outputs: int | None = None
) -> Opened:
    """The images of a split of these names: of ``val`` else of ``test``, say.

    Raises:
        VggspecError: there is no such split, or it is damaged.
        MissingLibraryError: a library is not installed.
        OSError: a file cannot be read.
    """
    name = name_of(packed, split)
    if name is None:
        has = ", ".join(f"`{each}`" for each in packed.splits)
        what = BadPacked(why=f"it has no split `{split}`, but {has}")
        raise VggspecError(report(what, path=str(root_of(packed, folder))))
    return packed.open(name, digest, outputs)


def name_of(packed: Packed, split: str) -> str | None:
    """What a data set calls a split, if it has it."""
    return next((n for n in ALSO_CALLED.get(split, (split,)) if n in packed.splits), None)
