"""JSON of unknown origin: read with types and bounds.

All JSON that is read from disk passes through here: manifests, records and states of runs,
journals, the headers and metadata of weights. Each reader checks its own types and bounds. The
following is always rejected:

- numbers that are not finite, and whole numbers beyond 64 bits: they fit no array and no file;
- half characters and NUL in texts, which no file, terminal or other program takes; but for the
  bytes of paths that are no UTF-8, which Python keeps as half characters of one kind;
- a duplicate name in an object: readers disagree on which one counts;
- more than 32 objects and lists within each other: ours have five.
"""

import dataclasses
import functools
import json
import math
from pathlib import PurePosixPath
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from vggspec.base.bounds import LARGEST, AtMost, Format, Range

MAX_DEPTH = 32

MAX_NUMBER = 1e30
"""Upper bound of numbers used in arithmetic, so that products are finite in double precision.
"""

MAX_TEXT = 1 << 12
"""Characters of a name, a label or a version."""

MAX_LIST = 1 << 20
"""Entries of a list; the largest of ours are classes."""

MAX_SIDE = 1 << 24
_SHOWN = 60
_Place = tuple[str | int, ...]
_HEX = frozenset("0123456789abcdef")
Read = TypeVar("Read")


class BadFieldError(Exception):
    """A text is not JSON, or a value has a wrong type or is out of bounds; the message names it."""


def parse(data: bytes, *, has_paths: bool = False) -> Any:
    """Parse a JSON text within the bounds of all texts; ``has_paths`` allows paths of this machine.

    Raises:
        BadFieldError: it is not JSON in UTF-8, or beyond the bounds.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise BadFieldError("it begins with a byte order mark, which JSON does not have")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadFieldError(f"byte {error.start} of it is not UTF-8 text") from error
    try:
        value = json.loads(text, object_pairs_hook=_table, parse_int=_integer)
    except RecursionError as error:
        raise BadFieldError("it is nested too deeply") from error
    except ValueError as error:
        raise BadFieldError(f"it is not JSON: {error}") from error
    _check(value, "surrogateescape" if has_paths else "strict")
    return value


def parse_object(data: bytes, *, has_paths: bool = False) -> "Fields":
    """Parse a JSON text that must be an object.

    Raises:
        BadFieldError: as ``parse``, or it is not an object.
    """
    value = parse(data, has_paths=has_paths)
    if not isinstance(value, dict):
        raise BadFieldError("it is not a JSON object")
    return Fields(cast("dict[str, Any]", value))


def short(text: str) -> str:
    """A text from a file, shortened for messages."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in pairs:
        if name in table:
            raise BadFieldError(f"`{short(name)}` stands twice in one object")
        table[name] = value
    return table


def _integer(text: str) -> int | float:
    # Refuse a longer one: converting a number of a million digits takes minutes.
    return int(text) if len(text) <= 20 else math.inf


def _check(value: Any, errors: str) -> None:
    """Check a value and everything in it against the bounds."""
    todo: list[tuple[Any, _Place]] = [([value], ())]
    while todo:
        holder, place = todo.pop()
        if len(place) > MAX_DEPTH:
            raise BadFieldError("it is nested too deeply")
        for key, each in holder.items() if isinstance(holder, dict) else enumerate(holder):
            wrong = None if isinstance(key, int) else _wrong_text(key, errors)
            if wrong is not None:
                raise BadFieldError(f"a name in it {wrong}")
            if isinstance(each, dict | list):
                if each:
                    todo.append((each, (*place, key)))
            elif isinstance(each, str):
                wrong = _wrong_text(each, errors)
            elif isinstance(each, float):
                wrong = None if math.isfinite(each) else "is no finite number of double precision"
            elif each is not None and not -LARGEST <= each < LARGEST:
                wrong = "is beyond 64 bits"
            if wrong is not None:
                raise BadFieldError(f"`{_in_words((*place, key))}` {wrong}")


def _in_words(place: _Place) -> str:
    """``outputs[0].channels``, for messages; the first step is into the value itself."""
    words = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place[1:])
    return short("".join(words).removeprefix("."))


def _wrong_text(text: str, errors: str) -> str | None:
    if "\0" in text:
        return "has a NUL character in it"
    try:
        text.encode(errors=errors)
    except UnicodeEncodeError:
        return "has half a character in it"
    return None


class Fields:
    """Typed access to a JSON object; a value of another type is an error that names it."""

    def __init__(self, data: dict[str, Any], at: str = "") -> None:
        self._data = data
        self._at = at

    def bad(self, key: str, what: str) -> BadFieldError:
        """The error that a value is, or has, ``what``."""
        return BadFieldError(f"`{self._at}{key}` {what}")

    def _get(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = self._data.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.bad(key, f"is not {what}")
        return value

    def _list(self, key: str, kind: type | tuple[type, ...], what: str, most: int) -> list[Any]:
        values = cast("list[Any]", self._get(key, list, "a list"))
        if len(values) > most:
            raise self.bad(key, f"has {len(values)} entries, more than {most}")
        for value in values:
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise self.bad(key, f"is not a list of {what}")
        return values

    def text(self, key: str, most: int = MAX_TEXT) -> str:
        """A text of limited length."""
        value = cast("str", self._get(key, str, "a text"))
        if len(value) > most:
            raise self.bad(key, f"has {len(value)} characters, more than {most}")
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        return cast("bool", self._get(key, bool, "true or false"))

    def flag(self, key: str, *, default: bool) -> bool:
        """As ``boolean``, of a key that files of earlier versions do not have."""
        return self.boolean(key) if key in self._data else default

    def integer(self, key: str, low: int = 0, high: int = LARGEST - 1) -> int:
        """A whole number from ``low`` to ``high``."""
        value = cast("int", self._get(key, int, "a whole number"))
        if not low <= value <= high:
            raise self.bad(key, "is out of range")
        return value

    def integers(
        self, key: str, low: int = 0, high: int = LARGEST - 1, most: int = MAX_LIST
    ) -> tuple[int, ...]:
        """Whole numbers from ``low`` to ``high``."""
        values = self._list(key, int, "whole numbers", most)
        if not all(low <= value <= high for value in values):
            raise self.bad(key, "has a number out of range")
        return tuple(values)

    def number(self, key: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER) -> float:
        """A number from ``low`` to ``high``."""
        value = self._get(key, (int, float), "a number")
        if not low <= value <= high:
            raise self.bad(key, "is out of range")
        return float(value)

    def numbers(
        self, key: str, most: int = MAX_LIST, high: float = MAX_NUMBER
    ) -> tuple[float, ...]:
        """Numbers from ``-high`` to ``high``."""
        values = self._list(key, (int, float), "numbers", most)
        if not all(abs(value) <= high for value in values):
            raise self.bad(key, "has a number out of range")
        return tuple(float(value) for value in values)

    def lists(self, key: str, length: int, most: int = MAX_LIST) -> list[list[Any]]:
        """Lists of a given number of values of any type."""
        values = self._list(key, list, "lists", most)
        if not all(len(value) == length for value in values):
            raise self.bad(key, f"has a list that is not of {length}")
        return values

    def choice(self, key: str, *choices: str) -> Any:
        """One of these texts."""
        value = self.text(key)
        if value not in choices:
            raise self.bad(key, f"is not one of {', '.join(choices)}")
        return value

    def object(self, key: str) -> "Fields":
        """An object in this one."""
        return Fields(self._get(key, dict, "an object"), f"{self._at}{key}.")

    def objects(self, key: str, most: int = MAX_LIST) -> "list[Fields]":
        """A list of objects."""
        values = self._list(key, dict, "objects", most)
        return [Fields(value, f"{self._at}{key}[{i}].") for i, value in enumerate(values)]

    def texts(self, key: str, most: int = MAX_LIST) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(key, str, "texts", most)
        longest = max(map(len, values), default=0)
        if longest > MAX_TEXT:
            raise self.bad(key, f"has a text of {longest} characters, more than {MAX_TEXT}")
        return tuple(values)

    def text_table(self, key: str) -> dict[str, str]:
        """An object of texts."""
        table = self.object(key)
        return {name: table.text(name) for name in table.names()}

    def number_table(self, key: str) -> dict[str, float]:
        """An object of numbers."""
        table = self.object(key)
        return {name: table.number(name) for name in table.names()}

    def pair(self, key: str, high: int = MAX_SIDE, low: int = 1) -> tuple[int, int]:
        """Two whole numbers, of rows and of columns."""
        values = self._list(key, int, "whole numbers", MAX_LIST)
        if len(values) != 2 or not all(low <= value <= high for value in values):
            raise self.bad(key, f"is not two whole numbers from {low} to {high}")
        return values[0], values[1]

    def point(self, key: str, high: float = MAX_SIDE) -> tuple[float, float]:
        """Two numbers from ``-high`` to ``high``, of rows and of columns."""
        values = self.numbers(key, high=high)
        if len(values) != 2:
            raise self.bad(key, "is not two numbers")
        return values[0], values[1]

    def shape(self, key: str, high: int = MAX_SIDE) -> tuple[int, int, int]:
        """Three sizes."""
        values = self._list(key, int, "whole numbers", MAX_LIST)
        if len(values) != 3 or not all(1 <= value <= high for value in values):
            raise self.bad(key, f"is not three whole numbers from 1 to {high}")
        return values[0], values[1], values[2]

    def sha256(self, key: str) -> str:
        """A digest in hexadecimal."""
        value = self.text(key)
        if len(value) != 64 or not _HEX.issuperset(value):
            raise self.bad(key, "is not a SHA-256")
        return value

    def path(self, key: str) -> str:
        """The path of a file below the folder that is read."""
        text = self.text(key, 1 << 10)
        path = PurePosixPath(text)
        is_below = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
        if not is_below or "\\" in text or ":" in text:
            raise self.bad(key, "is not a path inside the bundle")
        if any(len(part.encode()) > 255 for part in path.parts):
            raise self.bad(key, "has a name in it that is longer than any file's")
        return text

    def raw(self, key: str) -> Any:
        """A value of any type, or None."""
        return self._data.get(key)

    def names(self) -> tuple[str, ...]:
        """The keys."""
        return tuple(self._data)

    def is_null(self, key: str) -> bool:
        """Whether the value is missing or ``null``."""
        return self._data.get(key) is None


def read(kind: type[Read], data: Fields, **given: Any) -> Read:
    """A dataclass from a JSON object: every field by its type and its bounds.

    A field with a default may be missing, and one that may be None may be missing or null. Fields
    in ``given`` are not read.

    Raises:
        BadFieldError: a field is missing, of another type, or out of its bounds.
    """
    values = dict(given)
    for name, hint, has_default in _hints(cast("Any", kind)):
        if name not in given and not (has_default and name not in data.names()):
            values[name] = _value(hint, data, name)
    return kind(**values)


@functools.cache
def _hints(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """The fields of a dataclass: name, type with its bounds, and whether there is a default."""
    hints = get_type_hints(kind, include_extras=True)
    missing = dataclasses.MISSING
    return tuple(
        (each.name, hints[each.name], (each.default, each.default_factory) != (missing, missing))
        for each in dataclasses.fields(kind)
    )


def _value(hint: Any, data: Fields, key: str) -> Any:
    """The value of ``key``, which has the type ``hint``."""
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        marks = tuple(rest)
    if get_origin(hint) in (Union, UnionType):
        kinds = [each for each in get_args(hint) if each is not NoneType]
        if len(kinds) < len(get_args(hint)) and data.is_null(key):
            return None
        # Of two kinds, the first one is a word and the other one an object.
        is_word = isinstance(data.raw(key), str)
        return _value(kinds[0] if is_word else kinds[-1], data, key)
    bounds: dict[str, int] = {}
    most: dict[str, int] = {}
    for mark in marks:
        if isinstance(mark, Range):
            bounds = {"low": mark.low, "high": mark.high}
        elif isinstance(mark, AtMost):
            most = {"most": mark.number}
    inside = get_args(hint)
    if get_origin(hint) is tuple and inside[-1] is Ellipsis:
        return _tuple(inside[0], data, key, bounds, most)
    if get_origin(hint) is tuple:
        if inside == (float, float):
            return data.point(key)
        if len(inside) == 2:
            return data.pair(key, **bounds)
        return data.shape(key, **({"high": bounds["high"]} if bounds else {}))
    if get_origin(hint) is Literal:
        return data.choice(key, *inside)
    if get_origin(hint) is dict:
        return data.text_table(key)
    if dataclasses.is_dataclass(hint):
        return read(cast("type[Any]", hint), data.object(key))
    for mark in marks:
        if isinstance(mark, Format):
            return data.sha256(key) if mark.name == "sha256" else data.path(key)
    if hint is bool:
        return data.boolean(key)
    if hint is int:
        return data.integer(key, **bounds)
    if hint is float:
        return data.number(key, **bounds)
    assert hint is str, hint
    return data.text(key, **most)


def _tuple(
    hint: Any, data: Fields, key: str, bounds: dict[str, int], most: dict[str, int]
) -> tuple[Any, ...]:
    """A list of values of one type."""
    if hint is str:
        return data.texts(key, **most)
    if hint is int:
        return data.integers(key, **bounds, **most)
    if hint is float:
        return data.numbers(key, **most)
    return tuple(read(hint, each) for each in data.objects(key, **most))
