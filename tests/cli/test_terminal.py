"""The terminal's width, ``-q`` and ``-v``, and completion in the shell."""

import os
import re
from pathlib import Path

import pytest

from tests.cli.run import vggspec
from vggspec.cli import COMMANDS, run
from vggspec.cli.table import aligned, fitted

Captured = pytest.CaptureFixture[str]

ROWS = [
    ("layer", "written", "numbers"),
    ("conv1_1", "one two three four five six seven", "12"),
    ("p", "", "3,456"),
]


def test_a_table_as_wide_as_it_is() -> None:
    assert aligned(ROWS, right=(2,)) == [
        "layer    written                            numbers",
        "conv1_1  one two three four five six seven       12",
        "p                                             3,456",
    ]
    assert fitted(ROWS, 51, right=(2,)).lines == aligned(ROWS, right=(2,))


def test_optional_columns_are_left_out_first() -> None:
    table = fitted(ROWS, 50, right=(2,), optional=(2, 1))
    assert table.dropped == ("numbers",)
    assert table.lines[1] == "conv1_1  one two three four five six seven"
    assert fitted(ROWS, 20, optional=(2, 1)).dropped == ("numbers", "written")


def test_the_widest_column_is_wrapped_at_words() -> None:
    table = fitted(ROWS, 40, right=(2,))
    assert not table.dropped
    assert table.rows[1] == (
        "conv1_1  one two three four           12",
        "         five six seven",
    )
    assert max(map(len, table.lines)) <= 40


def test_words_and_numbers_are_never_broken() -> None:
    (line,) = fitted([("a" * 30, "1,234,567,890")], 20, right=(1,)).lines
    assert line.split() == ["a" * 30, "1,234,567,890"]


def test_wide_characters_take_two_columns() -> None:
    assert aligned([("好", "x"), ("ab", "y")]) == ["好  x", "ab  y"]


@pytest.mark.parametrize(
    "args",
    [
        ["show", "D"],
        ["show", "D", "--all"],
        ["show", "D", "--dense"],
        ["show", "alexnet"],
        ["diff", "C", "vgg16-bn"],
        ["specs"],
        ["explain", "--list"],
        ["explain", "VGG231"],
        ["check", "bad.vgg"],
        ["fmt", "bad.vgg"],
        ["show", "bad.vgg"],
        ["show", "D", "--at", "384x512"],
        ["explain", "VGG2311"],
        *([name, "--help"] for name in ("check", "show", "specs", "diff", "fmt", "explain")),
        *([name, "--help"] for name in ("init", "import", "merge")),
    ],
    ids=" ".join,
)
def test_everything_fits_eighty_columns(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    wrong = "conv3-64 " * 12 + "maxpol conv3-64(pad 1, stride 2, groups 3, dilation 2, lineer)\n"
    Path("bad.vgg").write_text(f"{wrong}train:\n  lr 0.01\n  nothing 3\n")
    run(args)
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).splitlines()
    assert not [line for line in lines if len(line) > 80]


def test_a_note_names_the_columns_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["show", "alexnet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "note:   1 column left out: activation; see --wide\n"
    assert "activation " not in captured.out.split("\n\n")[1]
    assert run(["show", "alexnet", "--wide"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "activation" in captured.out
    assert run(["show", "alexnet", "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet_or_verbose(
    command: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"-q, --quiet ", text)
    assert re.search(r"-v, --verbose ", text)
    assert [line for line in text.splitlines() if len(line) > 80] == []


def test_quiet_and_verbose_contradict(capsys: Captured) -> None:
    assert run(["show", "D", "-q", "-v"]) == 2
    assert "--quiet and --verbose are both given" in capsys.readouterr().err


def test_a_quiet_run_does_not_outlast_itself(tmp_path: Path, capsys: Captured) -> None:
    assert run(["show", "digits", "-q", "--svg", str(tmp_path / "1.svg")]) == 0
    assert capsys.readouterr().err == ""
    assert run(["show", "digits", "-v", "--svg", str(tmp_path / "2.svg")]) == 0
    assert re.fullmatch(r"wrote .*2\.svg\ntime:   \d+\.\d s\n", capsys.readouterr().err)


def _completed(*words: str) -> list[str]:
    env = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = vggspec(env={**env, "_VGGSPEC_COMPLETE": "bash_complete"})
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_set_up_by_a_script(shell: str) -> None:
    if shell == "bash" and not os.path.exists("/bin/bash"):
        pytest.skip("click asks bash for its version")
    done = vggspec(env={"_VGGSPEC_COMPLETE": f"{shell}_source"})
    assert "_VGGSPEC_COMPLETE" in done.stdout
    assert done.returncode == 0


def test_completion() -> None:
    assert _completed("vggspec", "sh") == ["show"]
    assert "vgg16-bn" in _completed("vggspec", "show", "vgg1")
    assert _completed("vggspec", "specs", "tab") == ["table1"]
    assert "--wide" in _completed("vggspec", "show", "--w")
