"""``vggspec export``: what it says, writes and refuses."""

from pathlib import Path

import pytest
import torch

from vggspec.cli import run

SPEC = """\
net small
input 224x224 RGB(mean 123.68 116.779 103.939)
conv3-2 x2 maxpool conv3-2 x2 maxpool conv3-2 x3 maxpool conv3-2 x3 maxpool conv3-2 x3 maxpool
FC-3 FC-3 FC-2 soft-max
"""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.vgg").write_text(SPEC)
    assert run(["init", "small.vgg"]) == 0
    capsys.readouterr()


def test_what_it_writes_and_says(capsys: Captured) -> None:
    for again in ("", "note:   small.weights.h5 existed and was replaced\n"):
        assert run(["export", "small.vgg", "small.safetensors", "--to", "keras"]) == 0
        said = capsys.readouterr()
        assert said.out == "small.weights.h5\n"
        assert said.err == (
            f"{again}conv1_1 → block1_conv1\n… 14 more; -v prints them\nfc8 → predictions\n"
            "input: BGR, x - (103.939 116.779 123.68)\n  the first layer was turned to BGR\n"
        )
    assert run(["export", "small.vgg", "small.safetensors", "--to", "keras", "-v"]) == 0
    assert "conv5_3 → block5_conv3\n" in capsys.readouterr().err


def test_another_input_is_refused_and_kept_on_request(capsys: Captured) -> None:
    args = ["export", "small.vgg", "small.safetensors", "--to", "timm", "-o", "x.pth"]
    assert run(args) == 1
    assert "error[VGG558]" in capsys.readouterr().err
    assert not Path("x.pth").exists()
    assert run([*args, "--keep-input"]) == 0
    assert "input: RGB, x - (123.68 116.779 103.939)\n" in capsys.readouterr().err
    state = torch.load("x.pth", weights_only=True)
    assert state["pre_logits.fc1.weight"].shape == (3, 2, 7, 7)
    assert state["pre_logits.fc2.weight"].shape == (3, 3, 1, 1)
    assert state["head.fc.weight"].shape == (2, 3)


def test_wrong_usage(capsys: Captured) -> None:
    given = ["export", "small.vgg", "small.safetensors"]
    assert run(given) == 2
    assert run([*given, "--to", "keras", "-o", "x.pth"]) == 2
    assert "`x.pth` must end in .weights.h5 or .h5 for keras" in capsys.readouterr().err
    assert run([*given, "--to", "timm", "-o", "small.safetensors"]) == 2
