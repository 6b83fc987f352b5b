"""Files of descriptors: written row by row, and mapped when read.

A safetensors file contains, for each split,

    train.features   F32 (N, D)
    train.labels     I64 (N,), the number of each image's class; or U8 (N, K), 1 for each class
    train.names      U8, the names of the images, each ended by a zero byte

The names are a tensor because most readers refuse a header of a million names. The metadata records
how the descriptors were made; each value is JSON.

The number of readable images is known only at the end. So space is reserved for the header, and all
features come first: an image that is left out moves no bytes. The incomplete file is always a
prefix of the complete one, apart from the header, so writing it can be resumed.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import NoSuchFile
from vggspec.base.catalogue.features import BadFeaturesFile
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields, parse
from vggspec.base.files import completing_file, refusals, replacing_file
from vggspec.base.safetensors_header import (
    BadTensorsError,
    Layout,
    Tensor,
    header,
    read_layout,
)
from vggspec.base.shape import Shape
from vggspec.base.short_repr import short_repr
from vggspec.base.wording import reason

CLASSES = "vggspec.classes"
SETTINGS = "vggspec.features"
LEFT_OUT = "vggspec.left_out"

#: Space for the number of images left out, which is known last.
LATER_BYTES = 1 << 10

MAX_CLASSES = 1 << 20
ROWS = 1 << 12  # descriptors that are read at once

Labels = NDArray[np.int64] | NDArray[np.uint8]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedSplit:
    """Images and their descriptors."""

    name: str
    features: NDArray[np.float32]
    """``(N, D)``, mapped from the file."""

    labels: Labels | None
    """``(N,)`` of int64, ``(N, K)`` of uint8, or None without classes."""

    names: tuple[str, ...] | None
    """The names of the images."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesFile:
    """An open file of descriptors."""

    path: str
    splits: Mapping[str, DescribedSplit]
    classes: tuple[str, ...] | None
    settings: Mapping[str, Any]
    """How the descriptors were made; empty if another tool wrote the file."""


@dataclass(slots=True)
class _Rows:
    """The labels, names and counts of a split, which are written after its features."""

    labels: list[Any] = field(default_factory=list)
    names: bytearray = field(default_factory=bytearray)
    number: int = 0
    left_out: int = 0


class FeaturesWriter:
    """Writes the images of one split after the other."""

    def __init__(self, path: str | os.PathLike[str], file: IO[bytes], width: int) -> None:
        self._path = path
        self._file = file
        self._width = width
        self.rows: dict[str, _Rows] = {}

    def begin(self, split: str) -> None:
        """Begin a split."""
        self.rows[split] = _Rows()

    def add(self, name: str, descriptor: NDArray[np.float32], label: Any) -> None:
        """Add an image to the current split; ``label`` is as in the file, or None.

        Raises:
            VggspecError: the file cannot be written.
        """
        assert descriptor.shape == (self._width,)
        with refusals(self._path):
            self._file.write(row_of(descriptor))
            self._file.flush()  # the row survives if this process is killed
        self._count(name, label)

    def add_again(self, name: str, checksum: int, label: Any) -> bool:
        """Add the next image of a resumed file; return False if its row is missing or differs.

        Raises:
            VggspecError: the file cannot be read.
        """
        with refusals(self._path):
            start = self._file.tell()
            row = self._file.read(4 * self._width)
            if len(row) < 4 * self._width or zlib.crc32(row) != checksum:
                self._file.seek(start)
                return False
        self._count(name, label)
        return True

    def leave_out(self) -> None:
        """Count an image that is left out."""
        self.rows[next(reversed(self.rows))].left_out += 1

    def _count(self, name: str, label: Any) -> None:
        rows = self.rows[next(reversed(self.rows))]
        rows.number += 1
        rows.names += os.fsencode(name) + b"\0"
        if label is not None:
            rows.labels.append(label)


def row_of(descriptor: NDArray[np.float32]) -> bytes:
    """The bytes of a descriptor in the file."""
    return descriptor.astype("<f4", copy=False).tobytes()


def part_of(path: str | os.PathLike[str], digest: str, ending: str) -> Path:
    """The path of a hidden file beside an incomplete one, which belongs to it."""
    target = Path(path)
    return target.parent / f".{target.name}.{digest[:16]}.{ending}"


@contextmanager
def writing(
    path: str | os.PathLike[str],
    splits: Mapping[str, int],
    width: int,
    classes: tuple[str, ...] | None,
    settings: Mapping[str, Any],
    *,
    part: Path | None = None,
) -> Iterator[FeaturesWriter]:
    """Write a complete file or none; ``splits`` are the largest numbers of images.

    If writing is interrupted, the incomplete file stays at ``part``; without ``part`` it is
    removed.

    Raises:
        VggspecError: the file cannot be written.
    """
    metadata = {SETTINGS: json.dumps(dict(settings))}
    if classes is not None:
        metadata[CLASSES] = json.dumps(classes)
    # The longest possible header: each number has the most digits.
    longest = {
        f"{split}.{what}": ("U8", (10**15, 10**15))
        for split in splits
        for what in ("features", "labels", "names")
    }
    room = len(header(longest, metadata)) + LATER_BYTES
    with replacing_file(path) if part is None else completing_file(path, part) as file:
        file.seek(room)
        writer = FeaturesWriter(path, file, width)
        yield writer
        with refusals(path):
            _finish(file, writer.rows, width, metadata, room)


def _finish(
    file: IO[bytes],
    splits: Mapping[str, _Rows],
    width: int,
    metadata: dict[str, str],
    room: int,
) -> None:
    """Write the labels and names, and the header."""
    tensors: dict[str, tuple[str, Shape]] = {}
    for split, rows in splits.items():
        tensors[f"{split}.features"] = ("F32", (rows.number, width))
    for split, rows in splits.items():
        if rows.labels:
            several = np.ndim(rows.labels[0]) == 1
            labels = np.array(rows.labels, np.uint8 if several else "<i8")
            tensors[f"{split}.labels"] = ("U8" if several else "I64", labels.shape)
            file.write(labels.data)
    for split, rows in splits.items():
        tensors[f"{split}.names"] = ("U8", (len(rows.names),))
        file.write(rows.names)
    left_out = {split: rows.left_out for split, rows in splits.items()}
    metadata[LEFT_OUT] = json.dumps(left_out)
    file.truncate()  # an earlier run may have written more
    text = header(tensors, metadata, room)
    assert len(text) == room
    file.seek(0)
    file.write(text)


def open_features(path: str | os.PathLike[str]) -> FeaturesFile:
    """Open a file of descriptors; no descriptor is read.

    Raises:
        VggspecError: the file cannot be opened, is damaged, or contains something else.
    """
    try:
        layout = read_layout(path)
        names = [name.removesuffix(".features") for name in layout.tensors]
        splits = [name for name in names if f"{name}.features" in layout.tensors]
        if not splits:
            raise _BadError("it has no tensor `train.features`")
        classes = _classes(layout)
        found = {name: _split(Path(path), layout, name, classes) for name in splits}
        settings = _settings(layout)
    except (BadTensorsError, BadFieldError, _BadError) as error:
        what = BadFeaturesFile(reason=str(error))
        raise VggspecError(report(what, path=str(path))) from error
    except (OSError, ValueError) as error:
        missing = NoSuchFile(kind="file of features", reason=reason(error))
        raise VggspecError(report(missing, path=str(path))) from error
    return FeaturesFile(path=str(path), splits=found, classes=classes, settings=settings)


def is_features(path: str | os.PathLike[str]) -> bool:
    """Whether a file of descriptors is there."""
    try:
        open_features(path)
    except VggspecError:
        return False
    return True


class _BadError(Exception):
    """A tensor has the wrong type, shape or content."""


def _split(
    path: Path, layout: Layout, name: str, classes: tuple[str, ...] | None
) -> DescribedSplit:
    tensor = layout.tensors[f"{name}.features"]
    if tensor.dtype != "F32":
        raise _BadError(f"`{name}.features` contains {tensor.dtype}, not F32")
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        raise _BadError(f"`{name}.features` is {_by(tensor.shape)}, not images × numbers")
    features = _mapped(path, tensor, "<f4")
    labels = names = None
    if f"{name}.labels" in layout.tensors:
        labels = _labels(path, layout.tensors[f"{name}.labels"], name, len(features), classes)
    if f"{name}.names" in layout.tensors:
        names = _names(path, layout.tensors[f"{name}.names"], name, len(features))
    return DescribedSplit(name=name, features=features, labels=labels, names=names)


def _labels(
    path: Path, tensor: Tensor, name: str, images: int, classes: tuple[str, ...] | None
) -> Labels:
    axes = {"I64": 1, "U8": 2}
    if axes.get(tensor.dtype) != len(tensor.shape) or tensor.shape[0] != images:
        has = f"{tensor.dtype} of {_by(tensor.shape)}"
        raise _BadError(f"`{name}.labels` is {has}, and there are {images} images")
    if tensor.dtype == "I64":
        numbers = np.array(_mapped(path, tensor, "<i8"))
        most = MAX_CLASSES if classes is None else len(classes)
        if numbers.min() < 0 or numbers.max() >= most:
            raise _BadError(f"`{name}.labels` has numbers that are not classes")
        return numbers
    flags: NDArray[np.uint8] = np.array(_mapped(path, tensor, "u1"))
    if flags.size == 0 or flags.max() > 1:
        raise _BadError(f"`{name}.labels` has numbers other than 0 and 1")
    if classes is not None and flags.shape[1] != len(classes):
        raise _BadError(f"`{name}.labels` has {flags.shape[1]} columns for {len(classes)} classes")
    return flags


def _names(path: Path, tensor: Tensor, name: str, images: int) -> tuple[str, ...]:
    data = bytes(_mapped(path, tensor, "u1")) if tensor.bytes else b""
    names = data.split(b"\0")
    if tensor.dtype != "U8" or names.pop() or len(names) != images:
        raise _BadError(f"`{name}.names` are not {images} names")
    return tuple(os.fsdecode(each) for each in names)


def _mapped(path: Path, tensor: Tensor, dtype: str) -> NDArray[Any]:
    return np.memmap(path, np.dtype(dtype), "r", offset=tensor.offset, shape=tensor.shape)


def _classes(layout: Layout) -> tuple[str, ...] | None:
    if CLASSES not in layout.metadata:
        return None
    names = _json(layout, CLASSES).texts(CLASSES, MAX_CLASSES)
    if len(set(names)) != len(names):
        raise _BadError("it names a class twice")
    return names


def _settings(layout: Layout) -> dict[str, Any]:
    if SETTINGS not in layout.metadata:
        return {}
    settings = _json(layout, SETTINGS).object(SETTINGS)
    return {key: settings.raw(key) for key in settings.names()}


def _json(layout: Layout, key: str) -> Fields:
    """A value of the metadata, by its name."""
    try:
        return Fields({key: parse(layout.metadata[key].encode())})
    except BadFieldError as error:
        raise _BadError(f"its metadata `{key}` is malformed: {error}") from error


def _by(shape: Shape) -> str:
    return " × ".join(map(str, shape))
