"""docs/tables.md: its example is what the command prints, its table of layers is what is read."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vggspec.cli import run
from vggspec.lang.pasted.cells import read_cell
from vggspec.lang.pasted.text import inline

TEXT = (ROOT / "docs" / "tables.md").read_text("utf-8")


def test_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (table,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(
        r"^```console\n\$ vggspec fmt --from-table table1.txt\n(.*?)^```",
        TEXT,
        re.MULTILINE | re.DOTALL,
    )
    monkeypatch.chdir(tmp_path)
    Path("table1.txt").write_text(table, "utf-8")
    assert run(["fmt", "--from-table", "table1.txt"]) == 0
    captured = capsys.readouterr()
    assert captured.err + captured.out == shown


def _rows() -> list[tuple[str, str]]:
    rows = re.findall(r"^\| (`.*) \| `(.*)` \|$", TEXT.partition("## Layers")[2], re.MULTILINE)
    return [(written, meant) for cell, meant in rows for written in re.findall(r"`([^`]+)`", cell)]


def test_there_are_rows() -> None:
    assert len(_rows()) > 15


@pytest.mark.parametrize(("written", "meant"), _rows())
def test_a_row_of_layers(written: str, meant: str) -> None:
    read = read_cell(inline(written, 0))
    assert read.troubles == ()
    found = [item.written() for item in read.items]
    assert found == [meant] or (written == "average pool" and found == ["avgpool"])
