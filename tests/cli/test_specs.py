"""``vggspec specs``."""

import json
from pathlib import Path

import pytest

from vggspec.cli import run
from vggspec.lang.packaged import packaged

Captured = pytest.CaptureFixture[str]


def test_each_spec_has_a_line(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["specs"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "layers", "parameters", "net"]
    assert [line.split()[0] for line in lines if line[0] != " "] == list(packaged())
    assert any(line.split()[:3] == ["D", "16", "138,357,544"] for line in lines)


def test_json(capsys: Captured) -> None:
    assert run(["specs", "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["D"]["nets"][0]["parameters"] == 138_357_544
    assert [net["name"] for net in found["table1"]["nets"]] == ["A", "A-LRN", "B", "C", "D", "E"]


def test_a_copy_is_the_file(specs: Path, capsys: Captured) -> None:
    assert run(["specs", "D"]) == 0
    assert capsys.readouterr().out == (specs / "D.vgg").read_text()


def test_an_unknown_name(capsys: Captured) -> None:
    assert run(["specs", "tabel1"]) == 1
    assert "did you mean `table1`" in capsys.readouterr().err
