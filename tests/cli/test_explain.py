"""``vggspec explain``: the page of each code."""

import pytest

from tests.cli.run import vggspec
from vggspec.base.catalogue import by_code
from vggspec.cli import run


def test_page() -> None:
    result = vggspec("explain", "VGG231")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("VGG231\n\nThe pooling window is larger than the feature map")
    assert "\n    input 24x24 RGB\n" in result.stdout


@pytest.mark.parametrize("word", ["vgg231", "231"])
def test_spellings(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", word]) == 0
    assert capsys.readouterr().out.startswith("VGG231\n")


@pytest.mark.parametrize("code", by_code())
def test_every_code(
    code: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["explain", code]) == 0
    out = capsys.readouterr().out
    assert by_code()[code].page().split() == out.split()[1:]
    assert "``" not in out, "messages have single backticks"
    assert [line for line in out.splitlines() if len(line) > 80] == []


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(by_code())
    assert all(line.endswith((".", ":")) for line in lines)


def test_unknown_code() -> None:
    result = vggspec("explain", "VGG2311")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "there is no code VGG2311. Did you mean VGG231?" in result.stderr


def test_no_code() -> None:
    result = vggspec("explain")
    assert result.returncode == 2
    assert "--list" in result.stderr
