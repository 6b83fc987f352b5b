"""``vggspec show``."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nets import SMALL
from vggspec.cli import run
from vggspec.compiler.lower import load_network

Golden = Callable[[str, str], None]
Captured = pytest.CaptureFixture[str]


def _json(capsys: Captured, *args: str) -> dict[str, object]:
    assert run(["show", *args, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_golden(
    specs: Path, capsys: Captured, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["show", str(specs / "D.vgg")]) == 0
    out = capsys.readouterr().out
    golden("show/D.txt", out)
    assert max(map(len, out.splitlines())) <= 80
    assert "\033" not in out


def test_one_net_of_a_table_is_shown_as_it_is_alone(specs: Path, capsys: Captured) -> None:
    run(["show", str(specs / "D.vgg")])
    alone = capsys.readouterr().out
    run(["show", f"{specs / 'table1.vgg'}:d"])
    assert capsys.readouterr().out == alone


def test_implied_layers_are_shown_on_demand(specs: Path, capsys: Captured) -> None:
    path = str(specs / "D.vgg")
    some, everything = _json(capsys, path), _json(capsys, path, "--all")
    assert isinstance(some["layers"], list)
    assert isinstance(everything["layers"], list)
    assert len(some["layers"]) == 13 + 5 + 3 + 1
    assert len(everything["layers"]) == 22 + 15 + 1 + 2
    run(["show", path, "--all"])
    assert "\nrelu1_1  relu " in capsys.readouterr().out


def test_json(tmp_path: Path, capsys: Captured) -> None:
    spec = tmp_path / "small.vgg"
    spec.write_text("input 12x20 gray\nconv1x3-4/2\nmaxpool\nFC-2\nsoft-max\n")
    assert _json(capsys, str(spec)) == {
        "name": "small",
        "input": [1, 12, 20],
        "weight_layers": 2,
        "parameters": 16 + 122,
        "macs": 720 + 120,
        "outputs": [
            {
                "name": "posteriors",
                "layer": "prob",
                "output": [2],
                "receptive_field": [11, 21],
                "stride": 4,
            }
        ],
        "layers": [
            _layer("conv1_1", "conv", "image", [4, 6, 10], 16, 720, [1, 3], 2),
            _layer("pool1", "maxpool", "conv1_1", [4, 3, 5], 0, 0, [3, 5], 4),
            _layer("fc2", "FC", "pool1", [2], 122, 120, [11, 21], 4),
            _layer("prob", "soft-max", "fc2", [2], 0, 0, [11, 21], 4),
        ],
    }


def _layer(
    name: str,
    op: str,
    source: str,
    output: list[int],
    parameters: int,
    macs: int,
    field: object,
    stride: object,
) -> dict[str, object]:
    return {
        "name": name,
        "op": op,
        "inputs": [source],
        "output": output,
        "parameters": parameters,
        "macs": macs,
        "receptive_field": field,
        "stride": stride,
    }


GRAPH = """\
net graph
input 32x32 RGB
conv is conv(no-bias) BN ReLU
conv3-16
[conv3-32/2 conv3-32 + avgpool conv1-32] as first
[identity & [conv1-8 + ReLU conv3-8] & from conv1_1 maxpool] as second
[dwconv3 conv1-8 + shortcut(drop)] x2
from first
gap FC-2 as head
outputs block2 head
"""


def test_the_structure_of_a_graph(
    tmp_path: Path, capsys: Captured, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    spec = tmp_path / "graph.vgg"
    spec.write_text(GRAPH)
    assert run(["show", str(spec)]) == 0
    out = capsys.readouterr().out
    golden("show/graph.txt", out)
    assert run(["show", str(spec), "--all"]) == 0
    everything = capsys.readouterr().out
    golden("show/graph-all.txt", everything)
    assert max(map(len, f"{out}{everything}".splitlines())) <= 80


def test_the_inputs_of_a_graph(tmp_path: Path, capsys: Captured) -> None:
    spec = tmp_path / "graph.vgg"
    spec.write_text(GRAPH)
    network = load_network(str(spec)).network
    everything = _json(capsys, str(spec), "--all")["layers"]
    assert isinstance(everything, list)
    assert {one["name"]: tuple(one["inputs"]) for one in everything} == {
        layer.name: layer.inputs for layer in network.layers
    }
    some = _json(capsys, str(spec))["layers"]
    assert isinstance(some, list)
    inputs = {one["name"]: one["inputs"] for one in some}
    assert inputs["first_add"] == ["first_conv2_bn", "first_conv3_bn"]
    assert inputs["second_concat"] == ["first_add", "second_add", "second_pool1"]
    assert inputs["second_pool1"] == ["bn1_1"]


def test_dense_at_another_size(specs: Path, capsys: Captured) -> None:
    found = _json(capsys, str(specs / "D.vgg"), "--dense", "--at", "384x512")
    assert found["input"] == [3, 384, 512]
    assert found["macs"] == 67_551_756_288
    assert found["parameters"] == 138_357_544
    run(["show", str(specs / "D.vgg"), "--dense", "--at", "384 × 512"])
    out = capsys.readouterr().out
    assert "conv7-4096(pad 0)" in out
    assert "6×10×4096" in out
    assert "training memory" not in out


def test_outputs_are_listed_where_they_are_no_plain_scores(
    specs: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["show", str(specs / "lpips.vgg")]) == 0
    out = capsys.readouterr().out
    listed = out.split("\noutput ")[1].split("\n\n")[0].splitlines()
    assert [line.split() for line in listed] == [
        ["layer", "shape", "field", "stride"],
        ["conv1_2", "relu1_2", "224×224×64", "5", "1"],
        ["conv2_2", "relu2_2", "112×112×128", "14", "2"],
        ["conv3_3", "relu3_3", "56×56×256", "40", "4"],
        ["conv4_3", "relu4_3", "28×28×512", "92", "8"],
        ["conv5_3", "relu5_3", "14×14×512", "196", "16"],
    ]
    (tmp_path / "map.vgg").write_text("input 16x16 RGB\nconv3-4/2 conv3-3\n")
    assert run(["show", str(tmp_path / "map.vgg")]) == 0
    assert "\noutput  layer    shape  field  stride\nscores  " in capsys.readouterr().out
    for name in ("D.vgg", "nin.vgg"):
        assert run(["show", str(specs / name)]) == 0
        assert "\noutput " not in capsys.readouterr().out
    assert run(["show", str(specs / "lpips.vgg"), "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["outputs"]
    assert first == {
        "name": "conv1_2", "layer": "relu1_2", "output": [64, 224, 224], "receptive_field": 5,
        "stride": 1,
    }  # fmt: skip


def test_a_net_for_crops_has_one_size(specs: Path, capsys: Captured) -> None:
    assert run(["show", str(specs / "D.vgg"), "--at", "384x512"]) == 1
    captured = capsys.readouterr()
    assert "VGG209" in captured.err
    assert not captured.out


@pytest.mark.parametrize("size", ["384", "384x", "x512", "0x5", "3.5x4", "1x1x1", "9999999x8", ""])
def test_a_size_that_is_none_is_wrong_usage(specs: Path, capsys: Captured, size: str) -> None:
    assert run(["show", str(specs / "D.vgg"), "--dense", "--at", size]) == 2
    assert "384x512" in capsys.readouterr().err


def test_several_nets_want_a_name(specs: Path, capsys: Captured) -> None:
    assert run(["show", str(specs / "table1.vgg")]) == 1
    assert "VGG123" in capsys.readouterr().err


def test_a_figure(specs: Path, tmp_path: Path, capsys: Captured) -> None:
    figure = tmp_path / "figures" / "A.svg"
    assert run(["show", str(specs / "A.vgg"), "--svg", str(figure)]) == 0
    assert ET.fromstring(figure.read_text("utf-8")).tag.endswith("svg")
    captured = capsys.readouterr()
    assert captured.err == f"wrote {figure}\n"
    assert captured.out.startswith("A, input")


def test_a_graph_for_graphviz(specs: Path, tmp_path: Path, capsys: Captured) -> None:
    graph = tmp_path / "A.dot"
    assert run(["show", str(specs / "A.vgg"), "--dot", str(graph)]) == 0
    assert graph.read_text("utf-8").startswith('digraph "A" {')
    assert capsys.readouterr().err == f"wrote {graph}\n"


@pytest.mark.parametrize("option", ["--svg", "--dot"])
def test_a_figure_does_not_replace_the_spec(option: str, tmp_path: Path, capsys: Captured) -> None:
    spec = tmp_path / "small.vgg"
    spec.write_text(SMALL)
    assert run(["show", f"{spec}:small", option, str(spec)]) == 2
    captured = capsys.readouterr()
    assert f"`{option} {spec}` is a file that is read" in captured.err
    assert not captured.out
    assert spec.read_text() == SMALL


def test_a_figure_that_cannot_be_written(specs: Path, tmp_path: Path, capsys: Captured) -> None:
    assert run(["show", str(specs / "A.vgg"), "--svg", str(tmp_path)]) == 1
    assert "VGG511" in capsys.readouterr().err


def test_a_file_that_is_replaced_is_told(tmp_path: Path, capsys: Captured) -> None:
    target = tmp_path / "net.svg"
    for said in (f"wrote {target}\n", f"note:   {target} existed and was replaced\n"):
        assert run(["show", "digits", "--svg", str(target)]) == 0
        assert capsys.readouterr().err.replace("\n        ", " ").endswith(said)
