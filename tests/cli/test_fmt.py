"""``vggspec fmt``."""

import io
import os
import sys
from pathlib import Path

import pytest

from vggspec.base.diagnostic import ArgumentError
from vggspec.cli import run
from vggspec.compiler.formatting import format_spec

Captured = pytest.CaptureFixture[str]

ROUGH = "NET  X\nconv3-4   X2 #two\nfc-2\n\n\n"
CANONICAL = "net X\nconv3-4 x2  # two\nFC-2\n"


@pytest.fixture
def rough(tmp_path: Path) -> Path:
    path = tmp_path / "rough.vgg"
    path.write_text(ROUGH)
    return path


def test_a_file_is_formatted_in_place(rough: Path, capsys: Captured) -> None:
    assert run(["fmt", str(rough)]) == 0
    assert rough.read_text() == CANONICAL
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"formatted {rough}\n"
    assert [path.name for path in rough.parent.iterdir()] == ["rough.vgg"]


def test_a_bare_name_is_that_of_its_file(
    rough: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rough.parent)
    assert run(["fmt", "rough"]) == 0
    assert rough.read_text() == CANONICAL
    assert capsys.readouterr().err == "formatted rough.vgg\n"
    assert [path.name for path in rough.parent.iterdir()] == ["rough.vgg"]


def test_standard_input_has_no_file_to_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ROUGH.encode())))
    found = format_spec("-")
    with pytest.raises(ArgumentError, match="standard input"):
        found.write()


def test_a_canonical_file_is_not_touched(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "fine.vgg"
    path.write_text(CANONICAL)
    os.utime(path, ns=(1_000, 1_000))
    before = path.stat()
    assert run(["fmt", str(path)]) == 0
    after = path.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert capsys.readouterr().err == ""


def test_a_file_with_mistakes_is_left_and_the_others_are_not(
    rough: Path, tmp_path: Path, capsys: Captured
) -> None:
    bad = tmp_path / "bad.vgg"
    bad.write_text("NET X\nconv3-4 (\n)\n")
    missing = tmp_path / "missing.vgg"
    assert run(["fmt", str(bad), str(missing), str(rough)]) == 1
    assert bad.read_text() == "NET X\nconv3-4 (\n)\n"
    assert rough.read_text() == CANONICAL
    err = capsys.readouterr().err
    assert f"{bad}:2:" in err
    assert f"{bad}:3:" in err
    assert "VGG010" in err
    assert "3 mistakes" in err


def test_a_false_claim_is_no_mistake_of_form(tmp_path: Path) -> None:
    path = tmp_path / "unfinished.vgg"
    path.write_text("conv3-4  FC-2\n16 weight layers\n")
    assert run(["fmt", str(path)]) == 0
    assert path.read_text() == "conv3-4 FC-2\n16 weight layers\n"


def test_check_names_what_would_change(rough: Path, specs: Path, capsys: Captured) -> None:
    fine = sorted(map(str, specs.glob("*.vgg")))
    assert run(["fmt", "--check", *fine]) == 0
    assert run(["fmt", "--check", *fine, str(rough)]) == 1
    assert capsys.readouterr().out == f"{rough}\n"
    assert rough.read_text() == ROUGH


def test_diff_shows_what_would_change(rough: Path, capsys: Captured) -> None:
    assert run(["fmt", "--diff", str(rough)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"--- {rough}", f"+++ {rough}"]
    assert [line for line in lines[3:] if line[0] in "+-"] == [
        "-NET  X",
        "-conv3-4   X2 #two",
        "-fc-2",
        "-",
        "-",
        "+net X",
        "+conv3-4 x2  # two",
        "+FC-2",
    ]
    assert rough.read_text() == ROUGH
    assert run(["fmt", "--diff", "--check", str(rough)]) == 1


def test_a_missing_final_newline_shows_in_the_diff(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "short.vgg"
    path.write_text("FC-2")
    assert run(["fmt", "--diff", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == [
        "-FC-2",
        "\\ No newline at end of file",
        "+FC-2",
    ]


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ROUGH.encode())))
    assert run(["fmt", "-"]) == 0
    captured = capsys.readouterr()
    assert captured.out == CANONICAL
    assert captured.err == ""


def test_a_link_stays_a_link(rough: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.vgg"
    link.symlink_to(rough)
    assert run(["fmt", str(link)]) == 0
    assert link.is_symlink()
    assert rough.read_text() == CANONICAL


TABLE = "A\tB\n3×3, 4\t3×3, 4; 3×3, 4\nmax pool, 3×3\nFC-2\n"


def test_a_table_is_printed_as_a_spec(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "table.txt"
    path.write_text(TABLE)
    assert run(["fmt", "--from-table", str(path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == (
        "| A       | B               |\n"
        "|---------|-----------------|\n"
        "| conv3-4 | conv3-4 conv3-4 |\n"
        "|         maxpool3/2        |\n"
        "|            FC-2           |\n"
    )
    assert captured.err == (
        "note:   line 3: a 3 × 3 pooling without a stride: 2 is taken, as in all specs\n"
    )
    assert path.read_text() == TABLE


def test_a_table_comes_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("3×3, 4\nFC-2\n".encode())))
    assert run(["fmt", "-q", "--from-table", "-"]) == 0
    assert capsys.readouterr().out == "conv3-4\nFC-2\n"


def test_a_table_with_mistakes_prints_no_spec(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "table.txt"
    path.write_text("A\tB\nconv3-4\tconv3-l6\nFC-2\nmax\tpool\n")
    assert run(["fmt", "--from-table", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{path}:2:9" in captured.err
    assert "write `conv3-16`, if that is meant" in captured.err
    assert f"{path}:4:1" in captured.err
    assert "2 mistakes" in captured.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "t.txt"], "leave out --check"),
        (["--diff", "t.txt"], "leave out --diff"),
        (["t.txt", "u.txt"], "takes one file"),
    ],
)
def test_a_table_is_one_file(options: list[str], said: str, capsys: Captured) -> None:
    assert run(["fmt", "--from-table", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_table(tmp_path: Path, capsys: Captured) -> None:
    assert run(["fmt", "--from-table", str(tmp_path / "none.txt")]) == 1
    assert "VGG015" in capsys.readouterr().err
