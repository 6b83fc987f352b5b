"""``vggspec compare``."""

import json
from pathlib import Path

import pytest

from tests.training.folders import TINY, write_folder
from vggspec.cli import run
from vggspec.training.train import train

Captured = pytest.CaptureFixture[str]


def test_two_runs(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    for name, rate in (("one", "0.01"), ("a very long name of a run", "0.02")):
        settings = [f"rate={rate}", "stop=after 1 epochs"]
        train("tiny.vgg", data="images", run=name, settings=settings)
    args = ["compare", "one", "a very long name of a run"]
    assert run([*args, "-o", "both.png"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "train rate" in out
    assert Path("both.png").exists()
    assert run([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"train rate": [0.01, 0.02]}
    assert run(["compare", "one"]) == 2
    assert run(["compare", "one", "images"]) == 1
    assert "VGG471" in capsys.readouterr().err
