"""MATLAB's files of version 5 to 7, which hold arrays, cells and structures; nothing is run.

``scipy.io.loadmat`` reads more, and crashes the process on cells within cells within cells.

Source: "MAT-File Format", The MathWorks, chapter 1.
"""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.compiler.importing.stored import BadFileError, check_growth

HEADER_BYTES = 128
_MAX_DEPTH = 16
_MAX_ELEMENTS = 200_000
_MAX_AXES = 16
_CHUNK = 1 << 20

_COMPRESSED, _MATRIX = 15, 14
_CELL, _STRUCT, _OBJECT, _CHARS, _FIRST_NUMBERS, _LAST_NUMBERS = 1, 2, 3, 4, 6, 15
_COMPLEX = 8
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {2: "latin-1", 1: "latin-1", 16: "utf-8", 4: "utf-16", 17: "utf-16", 18: "utf-32"}
_FLOATS = (6, 7)


@dataclass(frozen=True, slots=True)
class Array:
    """Numbers; the first axis is that of the rows, as MATLAB shows them."""

    shape: tuple[int, ...]
    is_float: bool
    _dtype: np.dtype[Any]
    _source: "_Source"
    _offset: int

    def read(self) -> NDArray[Any]:
        """The numbers, whose first axis varies fastest in the file."""
        data = self._source.bytes(self._offset, prod(self.shape) * self._dtype.itemsize)
        return np.frombuffer(data, self._dtype).reshape(self.shape, order="F")


@dataclass(frozen=True, slots=True)
class Cells:
    """A cell array, column by column."""

    values: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Structs:
    """An array of structures, column by column."""

    values: tuple[dict[str, "Value"], ...]


Value = Array | Cells | Structs | str | None
"""None is what is not read: functions, sparse arrays, objects of classes."""


def read_variables(path: str) -> dict[str, Value]:
    """The variables of a file, by name.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
        RefusedError: it would expand to far more than its size.
    """
    size = os.path.getsize(path)
    file = _File(path)
    head = file.bytes(0, HEADER_BYTES)
    order = {b"IM": "<", b"MI": ">"}.get(bytes(head[126:128]))
    if order is None:
        raise BadFileError("its header is cut off")
    found: dict[str, Value] = {}
    expanded = 0
    reader = _Reader(file, order, size)
    for kind, start, end in reader.elements(HEADER_BYTES, size, is_padded=False):
        if kind == _COMPRESSED:
            data = _inflated(file.bytes(start, end - start), size, expanded)
            expanded += len(data)
            inner = _Reader(_Memory(data), order, len(data))
            places = [(kind, a, b, inner) for kind, a, b in inner.elements(0, len(data))]
        else:
            places = [(kind, start, end, reader)]
        for of_kind, a, b, by in places:
            if of_kind == _MATRIX and a < b:
                name, value = by.matrix(a, b, 0)
                found[name] = value
    return found


class _Source(Protocol):
    """Where the bytes of elements are."""

    def bytes(self, offset: int, length: int) -> bytes | memoryview: ...


class _File:
    def __init__(self, path: str) -> None:
        self._path = path

    def bytes(self, offset: int, length: int) -> bytes | memoryview:
        data = np.fromfile(self._path, np.uint8, length, offset=offset)
        if len(data) < length:
            raise BadFileError("it is cut off")
        return data.data


class _Memory:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def bytes(self, offset: int, length: int) -> bytes | memoryview:
        return self._data[offset : offset + length]


def _inflated(data: bytes | memoryview, file_bytes: int, before: int) -> bytes:
    """What was compressed, unless it is more than a file of that size may give."""
    machine = zlib.decompressobj()
    found = bytearray()
    try:
        left: bytes | memoryview = data
        while not machine.eof:
            part = machine.decompress(left, _CHUNK)
            left = machine.unconsumed_tail
            if not part and not left:
                raise BadFileError("it is cut off within a compressed variable")
            found += part
            check_growth(before + len(found), file_bytes)
    except zlib.error as error:
        raise BadFileError("a compressed variable is damaged") from error
    return bytes(found)


class _Reader:
    """Elements within elements, each checked against the one around it."""

    def __init__(self, source: _Source, order: str, size: int) -> None:
        self._source, self._order, self._size = source, order, size
        self._left = _MAX_ELEMENTS

    def elements(
        self, at: int, end: int, *, is_padded: bool = True
    ) -> Iterator[tuple[int, int, int]]:
        """The type, and the beginning and end of the data, of each element."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise BadFileError(f"it has more than {_MAX_ELEMENTS:,} elements")
            if end - at < 8:
                raise BadFileError("it is cut off within an element")
            kind, length = self._integers(at, 2, "u4")
            if kind >> 16:  # up to four bytes are in the tag
                kind, length, start, next_at = kind & 0xFFFF, kind >> 16, at + 4, at + 8
                is_bad = length > 4
            else:
                start = at + 8
                padding = 0 if kind == _COMPRESSED or not is_padded else -length % 8
                # The last element of a file may lack its padding.
                next_at = min(start + length + padding, max(end, start + length))
                is_bad = start + length > end
            if is_bad:
                raise BadFileError("it is cut off within an element")
            yield kind, start, start + length
            at = next_at

    def matrix(self, start: int, end: int, depth: int) -> tuple[str, Value]:
        """The name and the content of an array."""
        if depth > _MAX_DEPTH:
            raise BadFileError(f"it has more than {_MAX_DEPTH} cells within cells")
        inner = self.elements(start, end)
        flags = self._next(inner)
        if flags[2] - flags[1] != 8:
            raise BadFileError("an array has no flags")
        (flag,) = self._integers(flags[1], 1, "u4")
        kind = flag & 0xFF
        if not (_CELL <= kind <= _LAST_NUMBERS) or kind == 5:
            return "", None
        shape = self._shape(self._next(inner))
        _, at, to = self._next(inner)
        name = bytes(self._source.bytes(at, to - at)).decode("latin-1")
        if kind >= _FIRST_NUMBERS:
            return name, self._numbers(inner, kind, shape, is_complex=bool(flag >> 8 & _COMPLEX))
        if kind == _CHARS:
            return name, self._text(inner)
        if kind == _CELL:
            return name, Cells(tuple(self._values(inner, prod(shape), depth)))
        if kind == _OBJECT:
            self._next(inner)  # the name of its class
        return name, self._structs(inner, prod(shape), depth)

    def _structs(self, inner: Iterator[tuple[int, int, int]], number: int, depth: int) -> Structs:
        _, at, to = self._next(inner)
        (length,) = self._integers(at, 1, "i4") if to - at == 4 else (0,)
        _, at, to = self._next(inner)
        if length <= 0 or (to - at) % length:
            if to == at:
                return Structs(tuple({} for _ in range(min(number, 1))))
            raise BadFileError("a structure has no sound names")
        data = bytes(self._source.bytes(at, to - at))
        names = [
            data[i : i + length].partition(b"\0")[0].decode("latin-1")
            for i in range(0, len(data), length)
        ]
        values = self._values(inner, number * len(names), depth)
        rows = [values[i : i + len(names)] for i in range(0, len(values), len(names))]
        return Structs(tuple(dict(zip(names, row, strict=True)) for row in rows))

    def _values(
        self, inner: Iterator[tuple[int, int, int]], number: int, depth: int
    ) -> list[Value]:
        found: list[Value] = []
        for kind, start, end in inner:
            if kind != _MATRIX:
                raise BadFileError("a cell contains something else than an array")
            found.append(self.matrix(start, end, depth + 1)[1] if start < end else None)
        if len(found) != number:
            raise BadFileError("a cell or structure has another number of values than it says")
        return found

    def _numbers(
        self,
        inner: Iterator[tuple[int, int, int]],
        kind: int,
        shape: tuple[int, ...],
        *,
        is_complex: bool,
    ) -> Value:
        of, start, end = self._next(inner)
        if is_complex:
            return None
        if of not in _NUMBERS:
            raise BadFileError("an array has numbers of no known type")
        dtype = np.dtype(f"{self._order}{_NUMBERS[of]}")
        if prod(shape) * dtype.itemsize != end - start:
            raise BadFileError("an array has another size than it says")
        return Array(shape, kind in _FLOATS, dtype, self._source, start)

    def _text(self, inner: Iterator[tuple[int, int, int]]) -> str:
        kind, start, end = self._next(inner)
        if kind not in _TEXTS:
            raise BadFileError("a text has characters of no known type")
        encoding = _TEXTS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        return bytes(self._source.bytes(start, end - start)).decode(encoding, "replace")

    def _shape(self, element: tuple[int, int, int]) -> tuple[int, ...]:
        _, start, end = element
        if (end - start) % 4 or not 8 <= end - start <= 4 * _MAX_AXES:
            raise BadFileError("an array has no sound shape")
        shape = self._integers(start, (end - start) // 4, "i4")
        if min(shape) < 0:
            raise BadFileError("an array has no sound shape")
        return shape

    def _integers(self, at: int, number: int, kind: str) -> tuple[int, ...]:
        data = self._source.bytes(at, number * np.dtype(kind).itemsize)
        return tuple(np.frombuffer(data, f"{self._order}{kind}", number).tolist())

    @staticmethod
    def _next(inner: Iterator[tuple[int, int, int]]) -> tuple[int, int, int]:
        found = next(inner, None)
        if found is None:
            raise BadFileError("an array is cut off")
        return found
