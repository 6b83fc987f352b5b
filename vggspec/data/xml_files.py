"""Many XML files: what was read of them is kept, and only those that changed are read again.

Half a million files take a minute to read, and several where they are not in memory. To ask for
their sizes and times takes seconds.
"""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.data.annotation import BadAnnotationError, Written
from vggspec.data.cache import recall_arrays, remember_arrays
from vggspec.data.voc import read_voc

FORMAT = 1  # of what is kept
MANY = 10_000
"""Fewer are read in a second or two, and not kept."""

Stamp = tuple[int, int]
"""The bytes of a file, and when it changed, in nanoseconds."""


def read_files(folder: str, names: Sequence[str], split: str) -> Iterator[Written | str]:
    """What is in each of the files of a split, in their order, or why that is not known."""
    if len(names) < MANY:
        yield from (_read(f"{folder}/{name}") for name in names)
        return
    key = [FORMAT, os.path.abspath(folder), split]
    old, new, is_other = _Kept(recall_arrays("annotations", key)), _Kept({}), False
    for name in names:
        path = f"{folder}/{name}"
        stamp = _stamp(path)
        what: Written | str | None = old.get(name, stamp)
        if what is None:
            what = _read(path)
            is_other |= isinstance(what, Written)
        if stamp is not None and isinstance(what, Written):
            new.add(name, stamp, what)
        yield what
    if is_other:
        remember_arrays("annotations", key, new.arrays())


def _read(path: str) -> Written | str:
    try:
        return read_voc(path)
    except BadAnnotationError as error:
        return f"{os.path.basename(path)}: {error}"


def _stamp(path: str) -> Stamp | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


class _Kept:
    """What files say, by their names, in few bytes each."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """From what ``arrays`` gave; empty where it is something else."""
        self._rows: dict[str, int] = {}
        self._classes: dict[str, int] = {}
        self._files = array("q")
        """Six numbers each: bytes, time, rows and columns or two zeros, first object and last."""

        self._labels = array("q")
        self._boxes = array("d")
        if _is_whole(arrays):
            self._rows = {name: row for row, name in enumerate(_texts(arrays["names"]))}
            self._classes = {name: label for label, name in enumerate(_texts(arrays["classes"]))}
            self._files.frombytes(arrays["files"].tobytes())
            self._labels.frombytes(arrays["labels"].tobytes())
            self._boxes.frombytes(arrays["boxes"].tobytes())
        self._names = list(self._classes)

    def get(self, name: str, stamp: Stamp | None) -> Written | None:
        """What a file says, if that is known and the file is still the same."""
        row = self._rows.get(name)
        if row is None:
            return None
        size_bytes, time, rows, columns, first, end = self._files[6 * row : 6 * row + 6]
        if stamp != (size_bytes, time):
            return None
        objects = []
        for i in range(first, end):
            left, top, right, bottom = self._boxes[4 * i : 4 * i + 4]
            objects.append((self._names[self._labels[i]], (left, top, right, bottom)))
        return Written((rows, columns) if rows or columns else None, objects)

    def add(self, name: str, stamp: Stamp, what: Written) -> None:
        """Take in a file that is not known yet."""
        self._rows[name] = len(self._rows)
        first = len(self._labels)
        for each, box in what.objects:
            self._labels.append(self._classes.setdefault(each, len(self._classes)))
            self._boxes.extend(box)
        self._files.extend((*stamp, *(what.size or (0, 0)), first, len(self._labels)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it."""
        return {
            "names": _bytes(self._rows),
            "classes": _bytes(self._classes),
            "files": np.array(self._files, np.int64).reshape(-1, 6),
            "labels": np.array(self._labels, np.int64),
            "boxes": np.array(self._boxes, np.float64).reshape(-1, 4),
        }


def _bytes(names: Mapping[str, int]) -> NDArray[np.uint8]:
    return np.frombuffer(os.fsencode("\0".join(names)), np.uint8)


def _texts(names: NDArray[Any]) -> list[str]:
    return os.fsdecode(names.tobytes()).split("\0")


def _is_whole(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether that can be ours, and nothing of it leads out of it."""
    wanted = {"names": "u1", "classes": "u1", "files": "i8", "labels": "i8", "boxes": "f8"}
    if {key: each.dtype.str[1:] for key, each in arrays.items()} != wanted:
        return False
    files, labels, boxes = (arrays[key] for key in ("files", "labels", "boxes"))
    if files.ndim != 2 or files.shape[1] != 6 or boxes.shape != (len(labels), 4):
        return False
    return (
        len(_texts(arrays["names"])) == len(files)
        and bool(((labels >= 0) & (labels < len(_texts(arrays["classes"])))).all())
        and bool(((files[:, 4] >= 0) & (files[:, 5] <= len(labels))).all())
    )
