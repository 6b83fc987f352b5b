"""The arguments that public functions share, and their checks.

A type checker sees a wrong word in a call; a program that is not checked, or that reads the word
from a file, would get what another word means.
"""

import operator
import os
from collections.abc import Iterable
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

from vggspec.base.diagnostic import ArgumentError

StrPath = str | os.PathLike[str]
"""A path, as functions take it."""

Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
"""Where nets run."""

MAX_THREADS = 1024
"""More than any machine has cores; engines start as many as they are told to."""

MAX_SEED = (1 << 63) - 1

Entry = TypeVar("Entry")
Value = TypeVar("Value")
Given = TypeVar("Given", bound=StrPath)


def check_choice(name: str, value: object, choices: Any) -> None:
    """Make sure that an argument is None or one of the words of a ``Literal``.

    Raises:
        ArgumentError: it is something else.
    """
    words = get_args(choices)
    if value is not None and not (isinstance(value, str) and value in words):
        raise ArgumentError(f"`{name}` is {value!r}, not one of {', '.join(words)}")


def check_flag(name: str, value: object) -> None:
    """Make sure that an argument is None, True or False, those of numpy too.

    Raises:
        TypeError: it is something else, such as the word ``"no"``, which would count as True.
    """
    if value is not None and not _is_flag(value):
        raise TypeError(f"`{name}` is True or False, not {value!r}")


def plain(value: Value) -> Value:
    """A number or a flag that was checked, as Python has it and JSON takes it: numpy's by
    ``item``.
    """
    item = getattr(value, "item", None)
    return value if item is None else item()


def check_name(name: str, value: object) -> None:
    """Make sure that an argument is None or a text that is not empty.

    Raises:
        TypeError: it is no text.
        ArgumentError: it is empty.
    """
    if value is not None and not isinstance(value, str):
        raise TypeError(f"`{name}` is a text, not {value!r}")
    if value == "":
        raise ArgumentError(f"`{name}` is empty: leave it out, or give None")


def check_number(
    name: str,
    value: object,
    *,
    least: float,
    most: float | None = None,
    below: float | None = None,
) -> None:
    """Make sure that an argument is None or a number from ``least`` to ``most``, or less than
    ``below``.

    Raises:
        TypeError: it is no number.
        ArgumentError: it is out of its bounds, or NaN.
    """
    if value is None:
        return
    if not isinstance(value, Real) or _is_flag(value):
        raise TypeError(f"`{name}` is a number, not {value!r}")
    number: Any = value
    if below is not None and not least <= number < below:
        raise ArgumentError(f"`{name}` must be at least {least} and below {below}, not {value!r}")
    if most is not None and not least <= number <= most:
        raise ArgumentError(f"`{name}` must be from {least} to {most}, not {value!r}")
    if not number >= least:
        raise ArgumentError(f"`{name}` must be at least {least}, not {value!r}")


def check_whole(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Make sure that an argument is None or a whole number within its bounds.

    Raises:
        TypeError: it is no whole number.
        ArgumentError: it is out of its bounds.
    """
    if value is not None:
        check_number(name, as_whole(name, value), least=least, most=most)


def as_whole(name: str, value: object) -> int:
    """A whole number of any type as an ``int``, which JSON takes.

    Raises:
        TypeError: it is no whole number; True and False are none.
    """
    try:
        if _is_flag(value):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"`{name}` is a whole number, not {value!r}") from None


def check_threads(threads: object) -> None:
    """Make sure that a number of CPU threads is None or one that an engine may start.

    Raises:
        TypeError: it is no whole number.
        ArgumentError: it is not from 1 to ``MAX_THREADS``.
    """
    check_whole("threads", threads, least=1, most=MAX_THREADS)


def one_or_several(name: str, given: Given | Iterable[Given], *, least: int = 0) -> list[Given]:
    """The paths, or other texts, of an argument that is one of them or several.

    >>> one_or_several("images", "photo.jpg"), one_or_several("images", ("a.jpg", "b.jpg"))
    (['photo.jpg'], ['a.jpg', 'b.jpg'])

    Raises:
        TypeError: it is something else.
        ArgumentError: there are fewer than ``least``.
    """
    if isinstance(given, str | os.PathLike):
        return [given]  # a str is a sequence of letters
    found = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(one, str | os.PathLike) for one in found):
        raise TypeError(f"`{name}` is a path or a text, or several of them, not {given!r}")
    if len(found) < least:
        raise ArgumentError(f"`{name}` is empty: name {least} at least")
    return found


def entries(name: str, given: Iterable[Entry]) -> list[Entry]:
    """The entries of an argument that is a list of anything but texts.

    Raises:
        TypeError: it is no list, or a text, whose entries would be its letters.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"`{name}` is a list, not {given!r}")
    return list(given)


def _is_flag(value: object) -> bool:
    """Whether it is True or False; numpy is not imported for it."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
