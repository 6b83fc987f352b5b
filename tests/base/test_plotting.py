"""The files of pictures."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vggspec.base.diagnostic import ArgumentError
from vggspec.base.plotting import figure_file, short

BEGINNINGS = {"a.png": b"\x89PNG", "a.PDF": b"%PDF", "a.svg": b"<?xml", "a": b"\x89PNG"}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_the_name_decides_the_format(name: str, tmp_path: Path) -> None:
    with figure_file(tmp_path / name, (2, 1), "a plot") as figure:
        figure.subplots().plot([0, 1])
    assert (tmp_path / name).read_bytes().startswith(BEGINNINGS[name])


def test_another_format_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ArgumentError, match=r"PNG, PDF or SVG: '.*a\.jpg' ends in \.jpg"),
        figure_file(tmp_path / "a.jpg", (2, 1), "a plot"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["caf\udce9", "a\x01b", "a\nb", "$x$ & <y>"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    for suffix in ("png", "pdf", "svg"):
        with figure_file(tmp_path / f"a.{suffix}", (2, 1), "a plot") as figure:
            figure.subplots().set_title(short(name))
    ET.parse(tmp_path / "a.svg")


def test_a_long_name_is_cut_once_it_is_escaped() -> None:
    assert short("\udce9" * 3, 8) == "\\udce9\\…"
    assert short("runs/one", 5, is_path=True) == "…/one"
