"""The wire format of protocol buffers, read field by field.

Nothing is allocated for what is not asked for: a field that is longer than a number is the place of
its bytes in the file, checked against its end.

Source: https://protobuf.dev/programming-guides/encoding.
"""

import os
from collections.abc import Iterator
from typing import IO

from vggspec.compiler.importing.stored import BadFileError

MAX_FIELDS = 200_000
_MAX_TEXT = 4096

Place = tuple[int, int]
"""Where bytes begin and end in the file."""

Value = int | Place


class Fields:
    """The fields of the messages in a file, of at most ``MAX_FIELDS``.

    All methods raise BadFileError where the file is damaged.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = MAX_FIELDS
        self.whole: Place = 0, os.fstat(file.fileno()).st_size

    def fields(self, place: Place) -> Iterator[tuple[int, Value]]:
        """Each field with its number, or with the place of its bytes."""
        at, end = place
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise BadFileError(f"it has more than {MAX_FIELDS:,} fields")
            tag, at = self.varint(at, end)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                value, at = self.varint(at, end)
                yield number, value
                continue
            if wire == 2:
                length, at = self.varint(at, end)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise BadFileError("it has a field of no known type")
            if length > end - at:
                raise BadFileError("it is cut off within a field")
            if wire == 5:
                yield number, int.from_bytes(self._bytes(at, 4), "little")
            else:
                yield number, (at, at + length)
            at += length

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """A number, and where it ends."""
        data = self._bytes(at, min(10, end - at))
        value = 0
        for i, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value, at + i + 1
        raise BadFileError("it is cut off within a field")

    def _bytes(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(length)

    def text(self, value: Value) -> str:
        """A text of at most 4096 bytes."""
        start, end = place_of(value)
        if end - start > _MAX_TEXT:
            raise BadFileError("it has a name of more than 4096 bytes")
        return self._bytes(start, end - start).decode("utf-8", "replace")


def place_of(value: Value) -> Place:
    """The place of a message, a text or packed numbers."""
    if isinstance(value, int):
        raise BadFileError("it has a number where a message is due")
    return value


def number_of(value: Value) -> int:
    """A number without sign."""
    if not isinstance(value, int):
        raise BadFileError("it has a message where a number is due")
    return value & ((1 << 64) - 1)
