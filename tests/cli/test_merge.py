"""``vggspec merge``: what it writes, says and refuses."""

from pathlib import Path

import pytest

from vggspec.cli import run

SPEC = """\
net rep
input 8x8 RGB
conv3-4 BN
[conv3-4 BN + conv1-4 BN + BN] x2 as rep
[conv3-4 conv3-4 + identity]
FC-3
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rep.vgg").write_text(SPEC)
    assert run(["init", "rep.vgg"]) == 0
    capsys.readouterr()
    return tmp_path


def test_what_it_writes_and_says(here: Path, capsys: Captured) -> None:
    assert run(["merge", "rep.vgg", "--weights", "rep.safetensors"]) == 0
    said = capsys.readouterr()
    assert said.out == "rep-merged.vgg\nrep-merged.safetensors\n"
    assert said.err == (
        "merged: 2 sums, 7 batch normalisations\n"
        "parameters: 1,571 before, 1,475 after\n"
        "left as they are: 1 sum, 0 batch normalisations\n"
        "  block1_add: one of its branches is more than one conv\n"
    )
    assert Path("rep-merged.vgg").read_text() == (
        "net rep-merged\n"
        "input 8x8 RGB\n\n"
        "conv3-4\n"
        "conv3-4 as rep_1\n"
        "conv3-4 as rep_2\n"
        "[conv3-4 conv3-4 + identity] as block1\n"
        "FC-3\n"
    )
    assert run(["compile", "rep-merged.vgg", "--weights", "rep-merged.safetensors"]) == 0
    capsys.readouterr()
    assert run(["merge", "rep.vgg", "--weights", "rep.safetensors"]) == 0
    assert "note:   rep-merged.vgg existed and was replaced\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["rep.vgg"], 2, "Missing option '--weights'"),
        (["rep.vgg", "--weights", "rep.safetensors", "-o", "out"], 2, "must end in `.vgg`"),
        (["rep.vgg", "--weights", "rep.safetensors", "-o", "rep.vgg"], 2, "is a file that is read"),
        (["D", "--weights", "rep.safetensors"], 1, "VGG503"),
        (["rep.vgg", "--weights", "nothing"], 1, "VGG510"),
        (["nothing.vgg", "--weights", "rep.safetensors"], 1, "VGG010"),
        (["rep.vgg", "--weights", "rep.safetensors", "-o", "rep.safetensors/x.vgg"], 1, "VGG"),
    ],
)
def test_what_is_refused(
    args: list[str], code: int, words: str, here: Path, capsys: Captured
) -> None:
    assert run(["merge", *args]) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""
    assert sorted(path.name for path in here.iterdir()) == ["rep.safetensors", "rep.vgg"]


def test_nothing_to_merge(here: Path, capsys: Captured) -> None:
    Path("plain.vgg").write_text("input 8x8 RGB\nconv3-4\n[conv3-4 conv3-4 + identity]\nFC-3\n")
    assert run(["init", "plain.vgg"]) == 0
    assert run(["merge", "plain.vgg", "--weights", "plain.safetensors"]) == 1
    said = capsys.readouterr().err
    assert "error[VGG160]: nothing in net `plain` can be merged" in said
    assert "= note: `block1_add`: one of its branches is more than one conv" in said
