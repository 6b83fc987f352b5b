"""A short ``repr`` for results, which a notebook or an interactive session prints.

A dataclass prints all that it contains: the arrays of a net, a thousand labels, the text of a spec.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type[Any])

LONGEST = 300  # characters
LONGEST_VALUE = 60


def short_repr(kind: Class) -> Class:
    """A decorator for a dataclass: long values are described instead of printed.

    >>> @short_repr
    ... @dataclasses.dataclass
    ... class Names:
    ...     path: str
    ...     names: tuple[str, ...]
    >>> Names("a.txt", ("b", "c")), Names("a.txt", tuple("abcdefghijklmnop"))
    (Names(path='a.txt', names=('b', 'c')), Names(path='a.txt', names=<tuple of 16>))
    """
    kind.__repr__ = _repr  # type: ignore[assignment]
    return kind


def _repr(self: Any) -> str:
    shown = ", ".join(
        f"{field.name}={_value(getattr(self, field.name))}"
        for field in dataclasses.fields(self)
        if field.repr
    )
    text = f"{type(self).__name__}({shown})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…)"


def _value(value: Any) -> str:
    name = type(value).__name__
    if hasattr(value, "dtype") and getattr(value, "shape", None):
        return f"<{value.dtype} {tuple(value.shape)}>"
    if isinstance(value, tuple | list | set | frozenset | Mapping):
        text = repr(value) if len(value) <= 8 else ""
        return text if 0 < len(text) <= LONGEST_VALUE else f"<{name} of {len(value)}>"
    text = repr(value)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 2]}…{text[-1]}" if isinstance(value, str) else f"<{name}>"
