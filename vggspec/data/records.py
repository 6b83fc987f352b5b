"""Images of one size, one after the other in a file: CIFAR's binary version, and MNIST's idx files.

Source: https://www.cs.toronto.edu/~kriz/cifar.html; http://yann.lecun.com/exdb/mnist (the end).

Axes: H rows, W columns, C channels.
"""

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggspec.base.catalogue.data import BadPacked
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import open_file, read_file
from vggspec.base.wording import reason
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.shards import read_classes
from vggspec.data.split import Split

#: Of a file, unpacked if it is compressed: it is then held in memory.
MAX_BYTES = 1 << 30

MAX_SIDE = 4096
MAX_NAMES_BYTES = 1 << 16


class Stored:
    """The bytes of a file, read where they are needed; those of a compressed one are in memory.

    Raises:
        VggspecError: it is too large, or damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unpacked = _unpacked(path) if path.suffix == ".gz" else None
        self.size = path.stat().st_size if self._unpacked is None else len(self._unpacked)
        if self.size > MAX_BYTES:
            raise bad(path, f"it has more than {MAX_BYTES >> 30} GiB")

    def read(self, start: int, size: int) -> bytes:
        """A part of it, shorter where it ends.

        Raises:
            OSError: it cannot be read.
        """
        if self._unpacked is not None:
            return self._unpacked[start : start + size]
        with open_file(self.path) as file:
            file.seek(start)
            return file.read(size)


def _unpacked(path: Path) -> bytes:
    try:
        with open_file(path) as file, gzip.open(file) as unpacked:
            found = io.BytesIO()  # Python allocates all that is requested at once
            while found.tell() <= MAX_BYTES and (some := unpacked.read(1 << 20)):
                found.write(some)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise bad(path, f"it cannot be unpacked: {error}") from error
    return found.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The images in one file."""

    file: Stored
    first: int
    """Where the pixels of the first one begin."""

    stride: int
    """From one to the next."""

    labels: NDArray[np.int32]


class RecordSplit:
    """The images of a split, file by file, in their order.

    ``arranged`` makes an image ``(H, W, C)`` or ``(H, W)`` of its bytes.
    """

    def __init__(
        self, parts: list[Part], size: int, arranged: Callable[[NDArray[np.uint8]], Image.Image]
    ) -> None:
        self.labels = np.concatenate([part.labels for part in parts])
        self._parts = parts
        self._firsts = np.cumsum([0, *(len(part.labels) for part in parts)])
        self._size = size
        self._arranged = arranged

    def __len__(self) -> int:
        return len(self.labels)

    def _place(self, index: int) -> tuple[Part, int]:
        part = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._parts[part], index - int(self._firsts[part])

    def name(self, index: int) -> str:
        """``DIR/data_batch_1.bin: 17``, counted from 0."""
        part, number = self._place(index)
        return f"{part.file.path}: {number}"

    def read(self, index: int) -> bytes:
        """The image as a PNG file.

        Raises:
            BadImageError: it cannot be read.
        """
        part, number = self._place(index)
        try:
            found = part.file.read(part.first + number * part.stride, self._size)
        except OSError as error:
            raise BadImageError(reason(error)) from error
        if len(found) < self._size:
            raise BadImageError("the file ends within it")
        png = io.BytesIO()
        self._arranged(np.frombuffer(found, np.uint8)).save(png, "PNG", compress_level=1)
        return png.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar:
    """CIFAR-10, or CIFAR-100 by its fine classes."""

    folder: Path
    files: dict[str, tuple[str, ...]]
    names: str
    """The file with the names of the classes."""

    classes: int
    before: int
    """Bytes before the pixels of an image; the last one is its class."""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def open(
        self, split: str, digest: Digest, outputs: int | None
    ) -> tuple[tuple[str, ...], Split]:
        del outputs
        classes = self._classes()
        stride = self.before + 3 * 32 * 32
        parts = []
        for name in self.files[split]:
            file = Stored(self.folder / name)
            if not file.size or file.size % stride:
                raise bad(file.path, f"its {file.size} bytes are not images of {stride} bytes")
            records = np.frombuffer(file.read(0, file.size), np.uint8).reshape(-1, stride)
            labels = records[:, self.before - 1].astype(np.int32)
            if len(labels) and labels.max() >= len(classes):
                raise bad(file.path, f"it has a class {labels.max()}, there are {len(classes)}")
            parts.append(Part(file=file, first=self.before, stride=stride, labels=labels))
            digest.add(f"{split}/{name}", file.path.stat(), labels.tobytes())
        return classes, RecordSplit(parts, 3 * 32 * 32, _planes)

    def _classes(self) -> tuple[str, ...]:
        path = self.folder / self.names
        try:
            text = read_file(path, MAX_NAMES_BYTES).decode()
        except UnicodeDecodeError as error:
            raise bad(path, "it is not text") from error
        names = tuple(line.strip() for line in text.splitlines() if line.strip())
        if len(names) != self.classes or len(set(names)) != len(names):
            raise bad(path, f"it does not have {self.classes} names, each once")
        return names


def _planes(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.reshape(3, 32, 32).transpose(1, 2, 0)))


def find_cifar(folder: Path) -> Cifar | None:
    """CIFAR's binary version, if the folder holds it."""
    ten = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
    if (folder / ten[0]).is_file():
        return Cifar(
            folder=folder,
            files={"train": ten, "test": ("test_batch.bin",)},
            names="batches.meta.txt",
            classes=10,
            before=1,
        )
    if (folder / "train.bin").is_file() and (folder / "fine_label_names.txt").is_file():
        return Cifar(
            folder=folder,
            files={"train": ("train.bin",), "test": ("test.bin",)},
            names="fine_label_names.txt",
            classes=100,
            before=2,
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idx:
    """MNIST's format. Its files do not name the classes; a ``classes.txt`` may."""

    folder: Path
    files: dict[str, tuple[str, str]]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def open(
        self, split: str, digest: Digest, outputs: int | None
    ) -> tuple[tuple[str, ...] | None, Split]:
        del outputs
        images, labels = (Stored(self.folder / name) for name in self.files[split])
        number, rows, columns = _sizes(images, 3)
        (found,) = _sizes(labels, 1)
        if found != number:
            raise bad(labels.path, f"it has {found} classes, for {number} images")
        classes = np.frombuffer(labels.read(8, number), np.uint8).astype(np.int32)
        for file in (images, labels):
            digest.add(f"{split}/{file.path.name}", file.path.stat(), classes.tobytes())
        part = Part(file=images, first=16, stride=rows * columns, labels=classes)

        def arranged(pixels: NDArray[np.uint8]) -> Image.Image:
            return Image.fromarray(pixels.reshape(rows, columns))

        return read_classes(self.folder), RecordSplit([part], rows * columns, arranged)


def _sizes(file: Stored, dimensions: int) -> list[int]:
    """What the head of an idx file of bytes says, compared with how long the file is."""
    head = file.read(0, 4 + 4 * dimensions)
    kind, *sizes = (int.from_bytes(head[i : i + 4]) for i in range(0, 4 + 4 * dimensions, 4))
    if kind != 0x800 + dimensions:
        raise bad(file.path, f"it is no idx file of bytes in {dimensions} dimensions")
    if not all(sizes) or any(side > MAX_SIDE for side in sizes[1:]):
        raise bad(file.path, f"it has {' × '.join(map(str, sizes))} values")
    size = 4 + 4 * dimensions + int(np.prod(sizes, dtype=object))
    if file.size != size:
        raise bad(file.path, f"it has {file.size} bytes, and says that it has {size}")
    return sizes


def find_idx(folder: Path) -> Idx | None:
    """Images and classes as idx files, if the folder holds them."""
    files = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        pair = [_existing(folder, f"{stem}-{kind}") for kind in ("images", "labels")]
        images, labels = pair
        if images and labels:
            files[split] = images, labels
    return Idx(folder=folder, files=files) if files else None


def _existing(folder: Path, stem: str) -> str | None:
    dimensions = 3 if stem.endswith("images") else 1
    names = (f"{stem}{mark}idx{dimensions}-ubyte{end}" for end in ("", ".gz") for mark in "-.")
    return next((name for name in names if (folder / name).is_file()), None)


def bad(path: Path, why: str) -> VggspecError:
    """The error that a file is damaged."""
    return VggspecError(report(BadPacked(why=why), path=str(path)))
