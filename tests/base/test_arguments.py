"""What is taken as a number, a flag, one path or several."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vggspec.base.arguments import (
    as_whole,
    check_flag,
    check_number,
    check_threads,
    check_whole,
    one_or_several,
)
from vggspec.base.diagnostic import ArgumentError


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        ("a.jpg", ["a.jpg"]),
        (Path("a.jpg"), [Path("a.jpg")]),
        (("a.jpg", Path("b.jpg")), ["a.jpg", Path("b.jpg")]),
        ((name for name in ("a", "b")), ["a", "b"]),
        ((), []),
    ],
)
def test_one_path_or_several(given: object, listed: list[object]) -> None:
    assert one_or_several("images", given) == listed  # type: ignore[type-var]


def test_numbers_of_numpy_are_numbers() -> None:
    check_flag("x", np.bool_(False))
    check_number("x", np.float32(0.5), least=0, below=1)
    check_whole("x", np.int64(3), least=1)
    check_threads(np.uint8(1))
    assert type(as_whole("x", np.int64(3))) is int


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_number("x", np.nan, least=0),
        lambda: check_number("x", 1.0, least=0, below=1),
        lambda: check_whole("x", 1 << 63, least=0, most=(1 << 63) - 1),
        lambda: check_threads(1025),
        lambda: one_or_several("x", [], least=1),
    ],
)
def test_out_of_bounds(check: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError):
        check()


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_flag("x", 1),
        lambda: check_number("x", True, least=0),
        lambda: check_number("x", "1", least=0),
        lambda: check_whole("x", np.bool_(True), least=0),
        lambda: check_whole("x", 2.0, least=0),
        lambda: one_or_several("x", b"a.jpg"),  # type: ignore[type-var]
    ],
)
def test_another_type(check: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"^`x` is "):
        check()
