"""What a notebook prints of a result."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from vggspec.base.short_repr import short_repr


@short_repr
@dataclass(frozen=True, slots=True)
class Result:
    """A result."""

    value: Any
    hidden: int = field(default=0, repr=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (np.float64(0.5), repr(np.float64(0.5))),
        ("cat", "'cat'"),
        (("cat", "dog"), "('cat', 'dog')"),
        ({}, "{}"),
        (("cat",) * 1000, "<tuple of 1000>"),
        ({"a": np.zeros(99)}, "<dict of 1>"),
        (np.zeros((2, 3), np.float32), "<float32 (2, 3)>"),
        (Result(1), "Result(value=1)"),
        (Result("a" * 60), "<Result>"),
        ("a" * 99, "'" + "a" * 57 + "…'"),
    ],
)
def test_long_values_are_described(value: object, text: str) -> None:
    assert repr(Result(value)) == f"Result(value={text})"


def test_many_fields_are_cut_off() -> None:
    names = {f"number{i}": 10**9 for i in range(40)}
    kind = type("Long", (), {"__annotations__": dict.fromkeys(names, int), **names})
    text = repr(short_repr(dataclass(kind))())
    assert text.startswith("Long(number0=1000000000, number1=1000000000, ")
    assert len(text) == 300
    assert text.endswith("…)")
