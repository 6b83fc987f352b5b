"""A split as WebDataset shards: tar files that contain each image next to its class.

    DIR/train/000000.tar    0.jpg 0.cls 1.jpg 1.cls …
    DIR/val/000000.tar      …
    DIR/classes.txt         a name a line, if there are names

Which files make a sample is webdataset's own rule. Its readers go from the first sample to the
last; here the order of a seed must be the same for any number of processes, and be resumed in
its middle, so each shard is indexed once and then read at random. Nothing is unpickled or
extracted.
"""

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import data
from vggspec.base.class_names import escaped, same
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.optional import require
from vggspec.base.regular_files import open_file, read_file
from vggspec.base.wording import all_of, reason
from vggspec.data.cache import recall, remember
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.folder import Skipped, has_images, is_hidden
from vggspec.data.read import DECODER_ERRORS

#: A sample's image is the first of these that it has.
IMAGES = ("jpg", "jpeg", "png", "webp")

FORMAT = 1  # of the cached index
MAX_CLASS_BYTES = 32
MAX_CLASSES_BYTES = 16 << 20  # of all names
SHOWN = 4
"""The number of names and lines that a message shows, of many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Where the images of a shard are."""

    names: NDArray[np.bytes_]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int32]


class ShardSplit:
    """The images of ``train`` or ``val``, shard by shard, in their order."""

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
        return self._shards[self._shard(index)], os.fsdecode(self._names[index])

    def _shard(self, index: int) -> int:
        """The number of the shard of an image."""
        return int(np.searchsorted(self._firsts, index, side="right")) - 1

    def name(self, index: int) -> str:
        """``DIR/train/000000.tar: 7.jpg``"""
        shard, name = self.place(index)
        return f"{shard}: {name}"

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

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


def list_shards(folder: Path, skipped: Skipped | None = None) -> list[Path]:
    """The tar files of a folder in the order of their names, hidden ones left out; where there are
    any, what else there is goes to ``skipped``.

    Raises:
        OSError: the folder cannot be read.
        VggspecError: there are folders of images too.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    shards = [
        entry.name
        for entry in found
        if entry.name.endswith(".tar") and not is_hidden(entry.name) and entry.is_file()
    ]
    if not shards:
        return []
    named = set(shards)
    others = [entry for entry in found if entry.name not in named]
    folders = [e.name for e in others if e.is_dir() and not is_hidden(e.name)]
    with_images = tuple(name for name in folders if has_images(folder / name))
    if with_images:
        what = data.FoldersAndShards(folders=with_images, shards=tuple(shards))
        raise VggspecError(report(what, path=str(folder)))
    if skipped is not None:
        for entry in others:
            skipped.add("hidden" if is_hidden(entry.name) else "no shard", entry.name)
    return [folder / name for name in shards]


def read_classes(root: Path) -> tuple[str, ...] | None:
    """The names in ``classes.txt``; None where there is no such file.

    Raises:
        VggspecError: it is no text, or a name is missing or written twice.
    """
    path = root / "classes.txt"
    try:
        content = read_file(path, MAX_CLASSES_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _no_data(f"`{path}` cannot be read: {reason(error)}") from error
    return classes_in(content, path)


def classes_in(content: bytes, path: Path) -> tuple[str, ...]:
    """The names in the content of ``classes.txt``, which is at ``path``.

    Raises:
        VggspecError: it is no text, or a name is missing or written twice.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad_names(path, "it is not UTF-8 text", "save it as UTF-8") from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    lines: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        if not name:
            advice = "write the name of that class, or remove the line"
            raise _bad_names(path, f"line {number} is empty", advice)
        lines.setdefault(same(name), []).append(number)
    twice = {name: numbers for name, numbers in lines.items() if len(numbers) > 1}
    if twice:
        raise _bad_names(path, *_in_words(names, twice))
    return names


def _in_words(names: tuple[str, ...], twice: dict[str, list[int]]) -> tuple[str, str]:
    """The problem and the advice for names that occur in several lines."""
    told = []
    for name, numbers in list(twice.items())[:SHOWN]:
        written = list(dict.fromkeys(names[number - 1] for number in numbers))
        word = " = ".join(map(escaped, written)) if len(written) > 1 else f"`{name}`"
        told.append(f"{word} in lines {all_of([str(number) for number in numbers[:SHOWN]])}")
    more = f"; and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
    name, numbers = next(iter(twice.items()))
    better = f"`{name} ({numbers[-1] - 1})`"
    advice = f"make them different, with what tells them apart, as {better} in line {numbers[-1]}"
    return f"{'; '.join(told)}{more}", advice


def _bad_names(path: Path, why: str, advice: str) -> VggspecError:
    return VggspecError(report(data.BadClassNames(why=why, advice=advice), path=str(path)))


def open_shards(
    folder: Path, digest: Digest, skipped: Skipped | None = None, called: str | None = None
) -> ShardSplit:
    """Index the shards of a split, those that are not in the cache. The digest calls the folder by
    its name, or as it is ``called``.

    Raises:
        VggspecError: there are none, one is damaged, or a sample has no image or no class.
        MissingLibraryError: webdataset is not installed.
        OSError: the folder cannot be read.
    """
    shards = list_shards(folder, skipped)
    if not shards:
        raise _no_data(f"`{folder}` holds no shards, `*.tar`")
    indices = []
    for shard in shards:
        stat = shard.stat()
        key = [stat.st_size, stat.st_mtime_ns]
        index = index_of(shard, stat.st_size, key, partial(open_file, shard))
        content = index.names.tobytes() + index.labels.tobytes() + index.sizes.tobytes()
        digest.add(f"{called or folder.name}/{shard.name}", stat, content)
        indices.append(index)
    return ShardSplit(shards, indices)


def index_of(
    shard: Path, size: int, version: Sequence[object], opened: Callable[[], BufferedReader]
) -> Index:
    """Where the images of a shard of ``size`` bytes are: from the cache, or by reading what
    ``opened`` opens. The cached index is used while the ``version`` is the same.

    Raises:
        VggspecError: it is damaged, or a sample has no image or no class.
        MissingLibraryError: webdataset is not installed.
    """
    key = [FORMAT, str(shard.resolve()), *version]
    index = _recalled(recall("shard", key), size)
    if index is None:
        samples = list(_samples(shard, size, opened))
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


def _samples(
    shard: Path, shard_size: int, opened: Callable[[], BufferedReader]
) -> Iterator[tuple[str, int, int, int]]:
    """Of each sample the image's name, its place and size in the shard, and its class."""
    require("webdataset", "training on shards")
    from webdataset.tariterators import group_by_keys

    seen = set()
    try:
        with opened() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            # The library passes through what stands for a file's content.
            files = (
                {"fname": member.name, "data": member, "__url__": str(shard)}
                for member in _members(tar, shard, shard_size, opened)
            )
            for sample in group_by_keys(files):
                key = sample["__key__"]
                if key in seen:
                    raise _bad_sample(shard, key, "it is there twice")
                seen.add(key)
                image = next((sample[kind] for kind in IMAGES if kind in sample), None)
                if image is None:
                    why = f"it has no image, {', '.join(IMAGES)}"
                    raise _bad_sample(shard, key, why, _dotted(sample, IMAGES))
                label = _label(shard, key, tar, sample)
                yield image.name, image.offset_data, image.size, label
    except OSError as error:
        raise _bad_shard(shard, reason(error)) from error
    except (tarfile.TarError, *DECODER_ERRORS) as error:
        why = str(error.args[0]) if error.args else "it is damaged"
        raise _bad_shard(shard, why) from error


def _members(
    tar: tarfile.TarFile, shard: Path, shard_size: int, opened: Callable[[], BufferedReader]
) -> Iterator[tarfile.TarInfo]:
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
    # tarfile treats an invalid header as the end.
    with opened() as file:
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise _bad_shard(shard, f"byte {tar.offset} begins no file")


def _dotted(sample: dict[str, Any], kinds: Sequence[str]) -> str:
    """A file that would be one of ``kinds`` but for another dot in its name; or an empty text."""
    ends = tuple(f".{kind}" for kind in kinds)
    return next((file.name for kind, file in sample.items() if kind.endswith(ends)), "")


def _label(shard: Path, key: str, tar: tarfile.TarFile, sample: dict[str, Any]) -> int:
    member, dotted = sample.get("cls"), _dotted(sample, ("cls",))
    if member is None:
        raise _bad_sample(shard, key, "it has no class, `cls`", dotted)
    if dotted:  # it and its image would be skipped
        raise _bad_sample(shard, key, "it has two classes", dotted)
    file = tar.extractfile(member) if member.size <= MAX_CLASS_BYTES else None
    text = b"" if file is None else file.read().strip()
    if not re.fullmatch(rb"\d{1,9}", text):
        raise _bad_sample(shard, key, "its class is no number from 0")
    return int(text)


def _no_data(tried: str) -> VggspecError:
    return VggspecError(report(data.NoData(tried=tried)))


def _bad_shard(shard: Path, why: str) -> VggspecError:
    return VggspecError(report(data.BadShard(why=why), path=str(shard)))


def _bad_sample(shard: Path, key: str, why: str, dotted: str = "") -> VggspecError:
    what = data.BadSample(name=key, why=why, dotted=dotted)
    return VggspecError(report(what, path=str(shard)))
