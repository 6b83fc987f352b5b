"""The words of a diagnostic come from templates filled with its fields."""

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import ROOT
from vggspec.base.catalogue import by_code
from vggspec.base.diagnostic import Diagnostic, completed, names_in, templates

CATALOGUE = by_code()


class Missing(Diagnostic):
    """Something is missing."""

    TITLE = "{parts:count layer} of `{net}` {{missing}}"
    LABEL = "expected {expected:either}"
    HELP = ("write `{suggestion}`", "remove `{net}`")
    NOTE = "{share:.1%} of {bound}; {expected:join}"
    net: str
    parts: int
    expected: tuple[str, ...] = ()
    suggestion: str | None = None
    share: float = 0.125

    @property
    def bound(self) -> int:
        return 2 * self.parts


def test_templates_are_filled() -> None:
    what = Missing(net="D", parts=2, expected=("a", "b", "c"), suggestion="FC-10")
    assert what.title() == "2 layers of `D` {missing}"
    assert what.label() == "expected a, b or c"
    assert what.help() == "write `FC-10`"
    assert what.note() == "12.5% of 4; a, b, c"


def test_what_names_an_empty_field_is_left_out() -> None:
    what = Missing(net="", parts=0)
    assert what.title() == "0 layers of `` {missing}"
    assert (what.label(), what.help(), what.note()) == ("", None, None)
    assert Missing(net="D", parts=0).help() == "remove `D`"


@pytest.mark.parametrize("code", CATALOGUE)
def test_templates_name_fields(code: str) -> None:
    kind = CATALOGUE[code]
    known = {field.name for field in dataclasses.fields(completed(kind))}
    known |= {name for name in dir(kind) if isinstance(getattr(kind, name), property)}
    for part in ("TITLE", "LABEL", "HELP", "NOTE"):
        for text in templates(getattr(kind, part, None)):
            assert set(names_in(text)) <= known
        method = part.lower()
        is_written = part in vars(kind)
        assert not (is_written and method in vars(kind)), f"{part} and {method}() are both given"
    assert hasattr(kind, "TITLE") or kind.title is not Diagnostic.title


def test_no_kind_of_the_catalogue_is_a_dataclass_from_the_start() -> None:
    """``Diagnostic`` makes each of them one when its first case is found."""
    for path in (ROOT / "vggspec/base/catalogue").glob("*.py"):
        assert "@dataclass" not in path.read_text("utf-8"), path


def test_a_kind_is_completed_once_by_its_first_cases() -> None:
    class Late(Missing):
        __doc__ = "Something comes late."

        hours: int

    def made(hours: int) -> Missing:
        return Late(net="D", parts=1, hours=hours)

    assert "__dataclass_fields__" not in vars(Late)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(made, range(64)))
    assert found == [made(hours) for hours in range(64)]
    assert made(1) != made(2)
    assert len({made(1), made(1), made(2)}) == 2
    assert copy.deepcopy(made(3)) == made(3)
    assert dataclasses.replace(made(3), parts=2).title().startswith("2 layers")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made(1).net = "E"  # type: ignore[misc]
    with pytest.raises(TypeError, match="hours"):
        Late(net="D", parts=1)  # type: ignore[call-arg]
