"""What the documents show is what happens: commands print it, and snippets are Python."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_markdown import DOCUMENTS
from vggspec.cli import COMMANDS

README = (ROOT / "README.md").read_text("utf-8")

#: ```console blocks: a prompt and a command, then exactly what it prints.
CONSOLE = [
    (command, output)
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for command, output in re.findall(r"^\$ (.*?)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[c for c, _ in CONSOLE])
def test_the_readme_shows_what_is_printed(command: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    (tmp_path / "small.vgg").write_text("input 24x24 RGB\n" + "conv3-8\nmaxpool\n" * 5 + "FC-10\n")
    program, *args = shlex.split(command)
    assert program == "vggspec"
    done = subprocess.run(
        [sys.executable, "-m", "vggspec", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = [line.rstrip() for line in output.strip().splitlines()]
    printed = [line.rstrip() for line in (done.stdout + done.stderr).strip().splitlines()]
    if "..." in shown:  # the middle is left out
        at = shown.index("...")
        after = len(shown) - at - 1
        assert printed[:at] == shown[:at]
        assert printed[len(printed) - after :] == shown[at + 1 :]
    else:
        assert printed == shown


def test_there_are_commands_to_run() -> None:
    assert len(CONSOLE) >= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    texts = [path.read_text("utf-8") for path in DOCUMENTS]
    assert any(f"vggspec {command}" in text for text in texts)


def test_python_snippets_are_python() -> None:
    for document in DOCUMENTS:
        for snippet in re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
            compile(snippet, str(document), "exec")


def test_the_readme_names_every_guide() -> None:
    for guide in (ROOT / "docs").glob("*.md"):
        assert f"docs/{guide.name}" in README, guide.name


def test_tests_that_the_guides_name_exist() -> None:
    for document in DOCUMENTS:
        text = document.read_text("utf-8")
        for path, _, word in re.findall(r"pytest (tests/[\w/.]+)( -k (\w+))?", text):
            assert (ROOT / path).is_file(), f"{document}: {path}"
            assert word in (ROOT / path).read_text("utf-8"), f"{document}: -k {word}"
