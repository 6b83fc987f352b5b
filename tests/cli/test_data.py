"""``vggspec data``."""

import json
from pathlib import Path

import pytest

from tests.training.folders import TINY, write_folder
from vggspec.cli import run

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


def test_a_report_fits_the_terminal(
    here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    image = here / "images" / "train" / "red" / "0.png"
    image.with_name(f"{'long name ' * 9}.png").write_bytes(image.read_bytes())
    (here / "images" / "val" / "red" / "broken.png").write_bytes(b"x")
    assert run(["data", "images", "tiny.vgg", "--sheet", "sheet.png"]) == 1
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100  # a name is not broken
    assert "val/red/broken.png: it is not an image" in out
    assert "1 image is there more than once" in out
    assert "VGG426" in out
    assert (here / "sheet.png").stat().st_size > 1000


def test_good_data_are_called_good(here: Path, capsys: Captured) -> None:
    assert run(["data", "images", "tiny.vgg"]) == 0
    assert "nothing suspicious was found" in capsys.readouterr().out


def test_many_classes_are_not_all_listed(here: Path, capsys: Captured) -> None:
    for number in range(40):
        source = here / "images" / "train" / "red" / "0.png"
        folder = here / "many" / f"{number:02}"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(source.read_bytes())
    run(["data", "many"])
    out = capsys.readouterr().out
    assert "the largest and the smallest of 40 classes" in out
    assert "\n20 " not in out
    run(["data", "many", "--wide"])
    assert "\n20 " in capsys.readouterr().out


def test_json(here: Path, capsys: Captured) -> None:
    assert run(["data", "images", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"][0]["images"] == 30
