"""A split as WebDataset shards: tar files in which an image and its class lie side by side.

    DIR/train/000000.tar    0.jpg 0.cls 1.jpg 1.cls …
    DIR/val/000000.tar      …
    DIR/classes.txt         a name a line, if there are names

Which files make a sample is webdataset's own rule. Its readers go from the first sample to the
last; here the order of a seed must be the same for any number of processes, and be taken up in
its middle, so each shard is indexed once and then read at random. Nothing is unpickled or
extracted.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue import data
from vggspec.data.cache import recall, remember
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.read import DECODER_ERRORS
from vggspec.diagnostic import VggspecError, report
from vggspec.optional import require
from vggspec.source import open_file, read_file, reason

#: A sample's image is the first of these that it has.
IMAGES = ("jpg", "jpeg", "png", "webp")

FORMAT = 1  # of the cached index
MAX_CLASS_BYTES = 32
MAX_CLASSES_BYTES = 16 << 20  # of all names


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where the images of a shard are."""

    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]


class ShardSplit:
    """The images of ``train`` or ``val``, shard by shard, in the order in which they lie there."""

    def __init__(self, shards: list[Path], indices: list[Index]) -> None:
        self.labels = np.concatenate([index.labels for index in indices])
        self._shards = shards
        self._firsts = np.cumsum([0, *(len(index.labels) for index in indices)])
        self._names = np.concatenate([index.names for index in indices])
        self._offsets = np.concatenate([index.offsets for index in indices])
        self._sizes = np.concatenate([index.sizes for index in indices])

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, index: int) -> tuple[Path, str]:
        """The shard, and the name of the image in it."""
        shard = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._shards[shard], os.fsdecode(self._names[index])

    def name(self, index: int) -> str:
        """``DIR/train/000000.tar: 7.jpg``"""
        shard, name = self.place(index)
        return f"{shard}: {name}"

    def read(self, index: int) -> bytes:
        """The image as it lies in its shard.

        Raises:
            BadImageError: it cannot be read.
        """
        shard, _ = self.place(index)
        size = int(self._sizes[index])
        try:
            with open_file(shard) as file:
                file.seek(int(self._offsets[index]))
                found = file.read(size)
        except OSError as error:
            raise BadImageError(reason(error)) from error
        if len(found) < size:
            raise BadImageError("the shard ends within it")
        return found


def list_shards(folder: Path) -> list[Path]:
    """The tar files of a folder in the order of their names, hidden ones left out.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.endswith(".tar") and entry.name[0] != "." and entry.is_file()
        ]
    return [folder / name for name in sorted(names)]


def read_classes(root: Path) -> tuple[str, ...] | None:
    """The names in ``classes.txt``; None where there is no such file.

    Raises:
        VggspecError: it is no text, or a name is missing or written twice.
    """
    path = root / "classes.txt"
    try:
        text = read_file(path, MAX_CLASSES_BYTES).decode()
        names = tuple(line.strip() for line in text.rstrip().splitlines())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_data(f"`{path}` cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise _no_data(f"`{path}` is not UTF-8 text") from error
    for number, name in enumerate(names):
        if not name:
            raise _no_data(f"line {number + 1} of `{path}` is empty")
        if name in names[:number]:
            raise _no_data(f"`{path}` names class `{name}` twice")
    return names


def open_shards(folder: Path, digest: Digest) -> ShardSplit:
    """Index the shards of a split, those that are not in the cache.

    Raises:
        VggspecError: there are none, one is damaged, or a sample has no image or no class.
        MissingLibraryError: webdataset is not installed.
        OSError: the folder cannot be read.
    """
    shards = list_shards(folder)
    if not shards:
        raise _no_data(f"`{folder}` holds no shards, `*.tar`")
    indices = []
    for shard in shards:
        stat = shard.stat()
        index = _index(shard, stat)
        content = index.names.tobytes() + index.labels.tobytes() + index.sizes.tobytes()
        digest.add(f"{folder.name}/{shard.name}", stat, content)
        indices.append(index)
    return ShardSplit(shards, indices)


def _index(shard: Path, stat: os.stat_result) -> Index:
    key = [FORMAT, str(shard.resolve()), stat.st_size, stat.st_mtime_ns]
    index = _recalled(recall("shard", key), stat.st_size)
    if index is None:
        samples = list(_samples(shard, stat.st_size))
        index = _arrays(*zip(*samples, strict=True)) if samples else _arrays((), (), (), ())
        value = {
            "names": [os.fsdecode(name) for name in index.names],
            "offsets": index.offsets.tolist(),
            "sizes": index.sizes.tolist(),
            "labels": index.labels.tolist(),
        }
        remember("shard", key, value)
    return index


def _arrays(names: Any, offsets: Any, sizes: Any, labels: Any) -> Index:
    return Index(
        names=np.array([os.fsencode(name) for name in names], dtype="S"),
        offsets=np.array(offsets, np.int64),
        sizes=np.array(sizes, np.int64),
        labels=np.array(labels, np.int32),
    )


def _recalled(value: Any, shard_size: int) -> Index | None:
    """A cached index, if it can be one of a shard of that size."""
    try:
        index = _arrays(value["names"], value["offsets"], value["sizes"], value["labels"])
    except (TypeError, KeyError, ValueError, OverflowError):
        return None
    shapes = {array.shape for array in (index.names, index.offsets, index.sizes, index.labels)}
    if shapes != {(len(index.names),)}:
        return None
    ends = index.offsets + index.sizes
    is_within = bool(np.all((index.offsets >= 0) & (index.sizes >= 0) & (ends <= shard_size)))
    return index if is_within and bool(np.all(index.labels >= 0)) else None


def _samples(shard: Path, shard_size: int) -> Iterator[tuple[str, int, int, int]]:
    """Of each sample the image's name, its place and size in the shard, and its class."""
    require("webdataset", "training on shards")
    from webdataset.tariterators import group_by_keys

    seen = set()
    try:
        with open_file(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            # The library passes through what stands for a file's content.
            files = (
                {"fname": member.name, "data": member, "__url__": str(shard)}
                for member in _members(tar, shard, shard_size)
            )
            for sample in group_by_keys(files):
                key = sample["__key__"]
                if key in seen:
                    raise _bad_sample(shard, key, "it is there twice")
                seen.add(key)
                image = next((sample[kind] for kind in IMAGES if kind in sample), None)
                if image is None:
                    raise _bad_sample(shard, key, f"it has no image, {', '.join(IMAGES)}")
                label = _label(shard, key, tar, sample.get("cls"))
                yield image.name, image.offset_data, image.size, label
    except OSError as error:
        raise _bad_shard(shard, reason(error)) from error
    except (tarfile.TarError, *DECODER_ERRORS) as error:
        why = str(error.args[0]) if error.args else "it is damaged"
        raise _bad_shard(shard, why) from error


def _members(tar: tarfile.TarFile, shard: Path, shard_size: int) -> Iterator[tarfile.TarInfo]:
    """The files that webdataset sees, all of them whole."""
    seen = set()
    for member in tar:
        if not member.isreg() or re.match(r"__[^/]*__($|/)", member.name):
            continue
        if member.name in seen:
            raise _bad_shard(shard, f"`{member.name}` is there twice")
        seen.add(member.name)
        if member.issparse():
            raise _bad_shard(shard, f"`{member.name}` is stored as a sparse file")
        if member.size < 0 or member.offset_data + member.size > shard_size:
            raise _bad_shard(shard, f"it ends within `{member.name}`")
        yield member
    # tarfile takes what is no header for the end.
    with open_file(shard) as file:
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise _bad_shard(shard, f"byte {tar.offset} begins no file")


def _label(shard: Path, key: str, tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> int:
    if member is None:
        raise _bad_sample(shard, key, "it has no class, `cls`")
    file = tar.extractfile(member) if member.size <= MAX_CLASS_BYTES else None
    text = b"" if file is None else file.read().strip()
    if not re.fullmatch(rb"\d{1,9}", text):
        raise _bad_sample(shard, key, "its class is no number from 0")
    return int(text)


def _no_data(tried: str) -> VggspecError:
    return VggspecError(report(data.NoData(tried=tried)))


def _bad_shard(shard: Path, why: str) -> VggspecError:
    return VggspecError(report(data.BadShard(why=why), path=str(shard)))


def _bad_sample(shard: Path, key: str, why: str) -> VggspecError:
    return VggspecError(report(data.BadSample(name=key, why=why), path=str(shard)))
