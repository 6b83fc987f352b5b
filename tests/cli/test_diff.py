"""``vggspec diff``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vggspec.cli import run

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize("pair", ["A D", "C D", "D vgg16-bn"])
def test_golden(
    pair: str, specs: Path, capsys: Captured, golden: Callable[[str, str], None]
) -> None:
    first, second = pair.split()
    assert run(["diff", str(specs / f"{first}.vgg"), str(specs / f"{second}.vgg")]) == 0
    out = capsys.readouterr().out
    golden(f"diff/{first}-{second}.txt", out)
    assert "\033" not in out


def test_json(specs: Path, capsys: Captured) -> None:
    table = specs / "table1.vgg"
    assert run(["diff", f"{table}:C", str(specs / "vgg16-bn.vgg"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"] == {
        "name": "C",
        "input": [3, 224, 224],
        "weight_layers": 16,
        "parameters": 133_638_952,
        "macs": 11_770_888_192,
    }
    assert found["second"]["name"] == "vgg16-bn"
    assert found["layers"][:2] == [
        {"first": "conv3-64", "second": "conv3-64", "same": True},
        {"first": None, "second": "BN", "same": False},
    ]
    assert {"section": "train", "key": "rate", "first": "0.01", "second": "0.1"} in found[
        "settings"
    ]
    assert found["settings"][0]["section"] is None


def test_the_same_net_twice(specs: Path, capsys: Captured) -> None:
    assert run(["diff", str(specs / "D.vgg"), f"{specs / 'table1.vgg'}:D"]) == 0
    assert capsys.readouterr().out.endswith("\nno difference\n")


def test_graphs(
    tmp_path: Path, capsys: Captured, golden: Callable[[str, str], None], specs: Path
) -> None:
    other = tmp_path / "other.vgg"
    text = (specs / "resnet50-v1.vgg").read_text("utf-8")
    for old, new in (("x4", "x3"), ("x6", "x7"), ("conv3-{c}", "conv3-{c}(groups 32)")):
        assert old in text
        text = text.replace(old, new)
    lines = text.splitlines()
    other.write_text("\n".join(line for line in lines if not line[:1].isdigit()))
    assert run(["diff", str(specs / "resnet50-v1.vgg"), str(other)]) == 0
    golden("diff/resnet50-v1-other.txt", capsys.readouterr().out)


def test_what_cannot_be_read(specs: Path, capsys: Captured) -> None:
    assert run(["diff", str(specs / "D.vgg"), str(specs / "missing.vgg")]) == 1
    assert "VGG010" in capsys.readouterr().err
    assert run(["diff", str(specs / "D.vgg")]) == 2


def test_names_are_told_where_nothing_else_differs(tmp_path: Path, capsys: Captured) -> None:
    text = "input 8x8 RGB\nconv3-4 as {}\nconv3-4 as {}\nFC-2\n"
    (tmp_path / "x.vgg").write_text(text.format("a", "b"))
    (tmp_path / "y.vgg").write_text(text.format("b", "a"))
    x, y = str(tmp_path / "x.vgg"), str(tmp_path / "y.vgg")
    assert run(["diff", x, y]) == 0
    out = capsys.readouterr().out
    assert out.endswith("weights files go by names:\n\n  x  y\n  a  b\n  b  a\n")
    assert "no difference" not in out
    assert run(["diff", x, y, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["renamed"] == [["a", "b"], ["b", "a"]]
    assert run(["diff", x, x]) == 0
    assert capsys.readouterr().out.endswith("\nno difference\n")
