"""The files of pictures."""

from pathlib import Path

import pytest

from vggspec.base.diagnostic import ArgumentError
from vggspec.base.plotting import figure_file

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
