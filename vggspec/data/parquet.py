"""Images and classes in Parquet files, as data sets on the Hugging Face Hub have them.

DIR/data/train-00000-of-00002.parquet    DIR/train-00000-of-00001.parquet    DIR/train/0000.parquet

A column holds the images: the bytes of an image file, alone or as ``{bytes, path}``; another one
the classes: numbers, whose names are in the metadata of the ``datasets`` library or in
``classes.txt``, or names. Files are read whole, a group of rows at a time: they are compressed, so
that single images cannot be read, and the order of training is drawn anew for each epoch.
"""

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.data import BadPacked
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, parse
from vggspec.base.optional import require
from vggspec.base.regular_files import open_file
from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.folder import is_hidden
from vggspec.data.shards import read_classes
from vggspec.data.split import Split

#: Of the images of a split, which are held in memory.
MAX_BYTES = 2 << 30
MAX_ROWS = 50_000_000
MAX_CLASSES = 1 << 20

#: Names of columns where the metadata does not tell, the likeliest first.
IMAGES = ("image", "img", "jpg", "png", "webp")
LABELS = ("label", "labels", "class", "cls", "target", "fine_label")

#: Folders with the files of a split each.
FOLDERS = ("train", "val", "validation", "valid", "dev", "test")

_NAME = re.compile(r"(?P<split>[A-Za-z][A-Za-z0-9_.]*?)(-\d+-of-\d+(-\w+)?)?\.parquet")

_PART = re.compile(
    r"(?P<before>(.*-)?)(?P<number>\d+)-of-(?P<total>\d+)(?P<after>(-\w+)?)\.parquet"
)
"""Of several files; ``after`` is a digest, another one for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """The Parquet files of a data set, by split."""

    folder: Path
    files: dict[str, list[Path]]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def open(
        self, split: str, digest: Digest, outputs: int | None
    ) -> tuple[tuple[str, ...] | None, Split]:
        library = require("pyarrow.parquet", "reading Parquet", "parquet")
        arrow = require("pyarrow", "reading Parquet")
        errors = arrow.ArrowException, OSError, ValueError, KeyError
        parts: list[_Rows] = []
        room = MAX_BYTES
        columns = None
        _check_parts(self.files[split])
        for path in self.files[split]:
            with open_file(path) as file:
                try:
                    opened = library.ParquetFile(file)
                    if columns is None:
                        columns = _columns(opened.schema_arrow, path, outputs)
                    room -= _size(opened.metadata, columns, path)
                    if room < 0:
                        raise _too_large(path)
                    found = list(_rows(opened, columns, path))
                except errors as error:
                    first = (str(error).splitlines() or ["it is damaged"])[0]
                    raise _bad(path, f"it cannot be read: {first[:200]}") from error
            labels = json.dumps([rows.labels for rows in found]).encode()
            digest.add(f"{split}/{path.name}", path.stat(), labels)
            parts += found
        assert columns is not None, "a split has a file"
        return _numbered(parts, columns.names or read_classes(self.folder), self.files[split][0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    image: str
    label: str
    names: tuple[str, ...] | None
    """The names of the classes, if the metadata has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The rows of a group."""

    path: Path
    first: int
    images: Any
    """An Arrow array of bytes."""

    labels: list[int | str]


class ParquetSplit:
    """The images of a split, file by file, in their order."""

    def __init__(self, parts: list[_Rows], labels: NDArray[np.int32]) -> None:
        self.labels = labels
        self._parts = parts
        self._firsts = np.cumsum([0, *(len(part.labels) for part in parts)])

    def __len__(self) -> int:
        return len(self.labels)

    def _place(self, index: int) -> tuple[_Rows, int]:
        part = int(np.searchsorted(self._firsts, index, side="right")) - 1
        return self._parts[part], index - int(self._firsts[part])

    def name(self, index: int) -> str:
        """``DIR/train-00000-of-00001.parquet: 17``, the row of the file, counted from 0."""
        part, row = self._place(index)
        return f"{part.path}: {part.first + row}"

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            BadImageError: the row has none.
        """
        part, row = self._place(index)
        found = part.images[row].as_py()
        if not found:
            raise BadImageError("the row has no bytes of an image")
        return bytes(found)


def find_parquet(folder: Path) -> Parquet | None:
    """The Parquet files of a folder, of ``data`` in it, or of folders called like splits.

    Raises:
        OSError: a folder cannot be read.
    """
    for where in (folder, folder / "data"):
        files: dict[str, list[Path]] = {}
        for path in _parquet_files(where):
            match = _NAME.fullmatch(path.name)
            if match is not None:
                files.setdefault(match["split"], []).append(path)
        if files:
            return Parquet(folder=folder, files=files)
    by_folder = {name: list(_parquet_files(folder / name)) for name in FOLDERS}
    files = {name: found for name, found in by_folder.items() if found}
    return Parquet(folder=folder, files=files) if files else None


def _parquet_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".parquet"))
    for name in names:
        if not is_hidden(name) and (folder / name).is_file():
            yield folder / name


def _check_parts(paths: list[Path]) -> None:
    """Check that the files of a split are all of them, where their names say how many there are.

    Raises:
        VggspecError: one is missing, or they belong to several versions of the data.
    """
    named: dict[str, list[tuple[Path, re.Match[str]]]] = {}
    for path in paths:
        match = _PART.fullmatch(path.name)
        if match is not None:
            named.setdefault(match["before"], []).append((path, match))
    for parts in named.values():
        _check_numbers(parts)


def _check_numbers(parts: "list[tuple[Path, re.Match[str]]]") -> None:
    """Check one set of files, whose numbers begin with 0 or with 1."""
    first, shape = parts[0]
    total = int(shape["total"])
    numbers = {int(match["number"]) for _, match in parts}
    begin = 1 if total in numbers and 0 not in numbers else 0
    seen = set[int]()
    mixed = "keep the files of one version of the data set"
    for path, match in parts:
        number = int(match["number"])
        if int(match["total"]) != total or number - begin >= total:
            why = f"it does not belong to the {count(total, 'file')} of `{shown(first.name)}`"
            raise _bad(path, why, mixed)
        if number in seen:
            raise _bad(path, f"number {number} of {count(total, 'file')} is there twice", mixed)
        seen.add(number)
    if len(seen) < total:
        lacking = next(number for number in itertools.count(begin) if number not in seen)
        digits = f"{lacking:0{len(shape['number'])}}-of-{shape['total']}"
        name = f"{shape['before']}{digits}{shape['after'] and '-*'}.parquet"
        more = f", and {total - len(seen) - 1} more" if total - len(seen) > 1 else ""
        why = f"`{shown(name)}` is not beside it{more}, and the images in it would be missing"
        raise _bad(first, why, "download all files of the split")


def _columns(schema: Any, path: Path, outputs: int | None) -> _Columns:
    """Which columns hold images and classes.

    By the features that ``datasets`` writes into the metadata, else by their names.
    """
    features = _features(schema.metadata or {}, path)
    kinds = {name: feature.get("_type") for name, feature in features.items()}
    in_file = [name for name in schema.names if _is_image(schema.field(name).type)]
    images = [name for name in in_file if kinds.get(name, "Image") == "Image"]
    if len(images) > 1:
        images = [name for name in IMAGES if name in images][:1] or images
    if len(images) != 1:
        raise _bad(path, _which("images", images, schema.names))
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel" and name in schema.names]
    labels = labels or [name for name in LABELS if name in schema.names][:1]
    names = {name: _names(features.get(name, {}), path) for name in labels}
    if len(labels) > 1:
        fitting = [name for name in labels if outputs == len(names[name] or ())]
        labels = fitting if len(fitting) == 1 else [name for name in labels if name == "label"]
    if len(labels) != 1:
        raise _bad(path, _which("classes", list(names), schema.names))
    return _Columns(image=images[0], label=labels[0], names=names[labels[0]])


def _is_image(kind: Any) -> bool:
    """Bytes, or ``{bytes, path}``."""
    arrow = require("pyarrow", "reading Parquet")

    def is_bytes(kind: Any) -> bool:
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    if arrow.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and is_bytes(kind.field(index).type)
    return is_bytes(kind)


def _features(metadata: dict[bytes, bytes], path: Path) -> dict[str, dict[str, Any]]:
    if b"huggingface" not in metadata:
        return {}
    try:
        found = parse(metadata[b"huggingface"])
        features = found["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (BadFieldError, KeyError, TypeError, AttributeError) as error:
        raise _bad(path, "the metadata `huggingface` does not describe its columns") from error


def _names(feature: dict[str, Any], path: Path) -> tuple[str, ...] | None:
    names = feature.get("names")
    if names is None:
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not names or len(set(names)) != len(names) or len(names) > MAX_CLASSES:
        raise _bad(path, f"the names of the classes are not a list of words: {_short(names)}")
    return tuple(names)


def _short(value: object) -> str:
    return shown(json.dumps(value)[:80])


def _which(kind: str, found: list[str], names: list[str]) -> str:
    listed = ", ".join(f"`{shown(name)}`" for name in (found or names)[:8])
    if found:
        return f"several columns may hold the {kind}: {listed}"
    return f"no column holds {kind}, of {listed}"


def _size(metadata: Any, columns: _Columns, path: Path) -> int:
    """How many bytes the columns take once they are unpacked, as the end of the file says."""
    if metadata.num_rows > MAX_ROWS:
        raise _too_large(path)
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            if column.path_in_schema.split(".")[0] in (columns.image, columns.label):
                total += max(0, column.total_uncompressed_size)
    return total


def _rows(opened: Any, columns: _Columns, path: Path) -> Iterator[_Rows]:
    first = 0
    left = MAX_BYTES
    for group in range(opened.metadata.num_row_groups):
        table = opened.read_row_group(group, columns=[columns.image, columns.label])
        left -= table.nbytes
        if left < 0:
            raise _too_large(path)
        for batch in table.to_batches():
            images = batch.column(columns.image)
            if hasattr(images, "field"):
                images = images.field("bytes")
            labels = batch.column(columns.label).to_pylist()
            for row, label in enumerate(labels):
                if not isinstance(label, int | str) or isinstance(label, bool):
                    raise _bad(path, f"row {first + row} has no class, but {_short(str(label))}")
            yield _Rows(path=path, first=first, images=images, labels=labels)
            first += len(labels)


def _numbered(
    parts: list[_Rows], names: tuple[str, ...] | None, path: Path
) -> tuple[tuple[str, ...] | None, ParquetSplit]:
    found = [label for part in parts for label in part.labels]
    if not found:
        raise _bad(path, "it has no rows")
    if all(isinstance(label, str) for label in found):
        names = names or tuple(sorted({str(label) for label in found}))
        numbers = {name: number for number, name in enumerate(names)}
        unknown = next((label for label in found if str(label) not in numbers), None)
        if unknown is not None:
            raise _bad(path, f"class `{shown(str(unknown))}` is not in `classes.txt`")
        return names, ParquetSplit(parts, np.array([numbers[str(n)] for n in found], np.int32))
    most = len(names) if names else MAX_CLASSES
    wrong = next((n for n in found if isinstance(n, str) or not 0 <= n < most), None)
    if wrong is not None:
        raise _bad(path, f"a class is {_short(wrong)}, there are 0 to {most - 1}")
    return names, ParquetSplit(parts, np.array(found, np.int32))


def _too_large(path: Path) -> VggspecError:
    return _bad(
        path,
        f"the split has more than {MAX_BYTES >> 30} GiB of images, which would be held in memory",
        "write them to WebDataset shards, which are read from disk: docs/training.md has a program",
    )


def _bad(path: Path, why: str, advice: str | None = None) -> VggspecError:
    what = BadPacked(why=why) if advice is None else BadPacked(why=why, advice=advice)
    return VggspecError(report(what, path=str(path)))
