"""How many images may be unusable, and by which name each is counted."""

from pathlib import Path

import pytest

from tests.refusals import refused
from vggspec.base.catalogue.annotations import TooManyBadAnnotations
from vggspec.data.left_out import LeftOut


def test_one_in_a_hundred_may_be_bad(tmp_path: Path) -> None:
    left_out = LeftOut(200, root=tmp_path)
    left_out.add("a.png", "it is empty")
    left_out.add("b.png", "it is damaged")
    left_out.add("a.png", "it is empty")  # in the next epoch
    assert len(left_out) == 2
    assert left_out.first() == (
        f"{tmp_path}/a.png: it is empty",
        f"{tmp_path}/b.png: it is damaged",
    )
    with refused("3 of 200 images cannot be read"):
        left_out.add("c.png", "it is damaged")


def test_an_image_is_one_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    before = LeftOut(100, root=Path("data"))
    before.add("data/train/a.png", "it is empty")
    for root in ("data", "./link", "data/../data", str(tmp_path / "data")):
        left_out = LeftOut(100, root=Path(root))
        for name in before.reasons:
            left_out.add(name, "it is empty")
        left_out.add(str(Path(root) / "train/a.png"), "it is empty")
        left_out.add("data/train/a.png", "as an earlier version has written it down")
        assert left_out.reasons == {"train/a.png": "it is empty"}
        assert Path(left_out.first()[0].partition(": ")[0]) == Path(root) / "train/a.png"


def test_many_may_be_counted_before_they_are_too_many() -> None:
    left_out = LeftOut(100, "root", what=TooManyBadAnnotations)
    for name in ("a", "b", "c"):
        left_out.count(name, "it has an empty box")
    with refused("the annotations of 3 of 100 images cannot be used"):
        left_out.check()
