"""The figure of a net: well-formed, complete, the same every time."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.strategies import net_texts
from vggspec.base.source import Source
from vggspec.compiler import figure
from vggspec.compiler.lower import Lowered, load_network, lower
from vggspec.compiler.outline import outline
from vggspec.lang.parser import parse

SVG = "{http://www.w3.org/2000/svg}"


def draw(net: Lowered) -> str:
    """The figure of a net as it is written."""
    return figure.draw(net.network, outline(net.network, net.steps))


def _net(text: str) -> Lowered:
    return lower(parse(Source("net.vgg", text)).specs[0])


def _texts(drawn: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(drawn).iter(f"{SVG}text")]


def test_golden(specs: Path, golden: Callable[[str, str], None]) -> None:
    golden("figure/D.svg", draw(load_network(str(specs / "D.vgg"))))


def test_what_a_figure_says(specs: Path) -> None:
    texts = _texts(draw(load_network(str(specs / "D.vgg"))))
    assert texts.count("conv3-512") == 6
    assert "relu1_1" not in texts
    for said in ("input 224 × 224 RGB", "14 × 14", "conv5_3", "pool5", "FC-4096", "soft-max", "D"):
        assert said in texts
    assert "16 weight layers · 138M parameters · 15.5G MACs" in texts


def test_every_spec_is_drawn_within_its_frame(specs: Path) -> None:
    for path in sorted(specs.glob("*.vgg")):
        for spec in parse(Source(str(path), path.read_text("utf-8"))).specs:
            root = ET.fromstring(draw(lower(spec)))
            width, height = float(root.attrib["width"]), float(root.attrib["height"])
            for rect in root.iter(f"{SVG}rect"):
                x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
                assert 0 <= x <= x + float(rect.attrib["width"]) <= width
                assert 0 <= y <= y + float(rect.attrib["height"]) <= height


GRAPH = """\
net skips
input 64x64 RGB
conv3-16 maxpool conv3-32 maxpool conv3-64 maxpool
conv1-21(linear) as score
[avgpool1/1 + from pool3 conv1-21(linear) + from conv3_1 conv1-21/2(linear)] as fuse
[conv1-16 & from pool2 maxpool conv1-8 & [conv3-8 + from pool3 conv3-8]] x2 as mix
[identity & conv1-128 conv3-32] x3
from mix_1
conv1-8 FC-5 as head
from pool1
[conv3-32 conv3-32 + shortcut] as last
outputs head last block3
"""


def test_brackets_of_a_residual_net(specs: Path, golden: Callable[[str, str], None]) -> None:
    drawn = draw(load_network(str(specs / "resnet50-v1.vgg")))
    golden("figure/resnet50-v1.svg", drawn)
    texts = _texts(drawn)
    assert texts.count("shortcut") == 4
    assert texts.count("ReLU") == drawn.count("<circle") == 8
    assert [text for text in texts if text.startswith("×")] == ["× 2", "× 3", "× 5", "× 2"]
    assert {"conv3_1", "conv3_2 … conv3_4"} <= set(texts)
    assert "BN" not in texts


def test_paths_that_begin_elsewhere_and_outputs() -> None:
    texts = _texts(draw(_net(GRAPH)))
    assert {"from mix_1", "from pool1", "pool3"} <= set(texts)
    outputs = [text for text in texts if text.endswith("output")]
    assert outputs == ["block3 · output", "head · output", "last · output"]


def test_an_output_is_not_drawn_with_its_like() -> None:
    layers = "conv3-64\n" * 60
    net = _net(f"input 8x8 gray\n{layers}FC-2\noutputs conv1_30 fc2")
    assert {"conv1_30 · output", "conv1_1 … conv1_29", "conv1_31 … conv1_60"} <= set(
        _texts(draw(net))
    )


def test_outputs_in_a_bracket_are_named_beside_it() -> None:
    net = _net("input 8x8 gray\n[conv1-8 conv3-1 + identity] as a\noutputs a_conv1 a")
    texts = _texts(draw(_net("input 8x8 gray\n[conv3-1 & conv3-8] as a\nFC-2")))
    assert not [text for text in texts if text.endswith("output")]
    texts = _texts(draw(net))
    assert {"a · output", "a_conv1 · output"} <= set(texts)


def test_a_shortcut_that_is_dropped_is_no_branch() -> None:
    net = _net("input 8x8 gray\n[conv1-8 conv3-8 + shortcut(drop)] x2\nFC-2")
    drawn = draw(net)
    assert drawn.count("<circle") == 1
    assert {"block1_conv1", "block2"} <= set(_texts(drawn))


@pytest.mark.parametrize(
    "name", ["resnet50-v1", "resnext50", "googlenet", "squeezenet", "repvgg-a0", "graph"]
)
def test_bars_lie_apart_and_hold_their_texts(specs: Path, name: str) -> None:
    net = _net(GRAPH) if name == "graph" else load_network(str(specs / f"{name}.vgg"))
    root = ET.fromstring(draw(net))
    frames = {figure.FRAME, "#ffffff"}
    boxes = [
        tuple(float(rect.get(key, 0)) for key in ("x", "y", "width", "height"))
        for rect in root.iter(f"{SVG}rect")
        if rect.get("fill") not in frames
    ]
    for i, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[:i]:
            apart = x2 >= x + width or x >= x2 + width2 or y2 >= y + height or y >= y2 + height2
            assert apart
    for element in root.iter(f"{SVG}text"):
        text, at = element.text or "", float(element.get("x", 0))
        half = 0.55 * float(element.get("font-size", 0)) * len(text) / 2
        left, right = at - half, at + half
        if element.get("text-anchor") == "start":
            left, right = at, at + 2 * half
        elif element.get("text-anchor") == "end":
            left, right = at - 2 * half, at
        assert 0 <= left <= right <= float(root.attrib["width"]), text
        if text.startswith(("conv", "shortcut", "FC")) and element.get("fill") == figure.INK:
            y = float(element.get("y", 0)) - 4
            assert any(
                x <= left and right <= x + width and top <= y <= top + height
                for x, top, width, height in boxes
            ), text


def test_a_long_net_draws_repeated_layers_once() -> None:
    blocks = "\nmaxpool\n".join(f"conv3-{width} BN\n" * 20 for width in (64, 128, 256))
    net = _net(f"input 64x96 gray\n{blocks}\ngap\nFC-10\nsoft-max")
    drawn = draw(net)
    texts = _texts(drawn)
    assert {"conv3-64 × 20", "conv3-128 × 20", "conv3-256 × 20"} <= set(texts)
    assert {"conv1_1 … conv1_20", "bn1_1 … bn1_20"} <= set(texts)
    assert float(ET.fromstring(drawn).attrib["height"]) < 800


def test_a_long_net_without_repetition_is_drawn_in_full() -> None:
    layers = "\n".join(f"conv3-{width}" for width in range(1, 61))
    assert {f"conv3-{width}" for width in range(1, 61)} <= set(
        _texts(draw(_net(f"input 8x8 gray\n{layers}")))
    )


@pytest.mark.parametrize("name", ["<script>&\"'", "x" * 1000])
def test_names_are_data(name: str) -> None:
    net = _net("input 8x8 gray\nconv3-4\nFC-2")
    net = replace(net, network=replace(net.network, name=name))
    root = ET.fromstring(draw(net))
    assert root.findtext(f"{SVG}title") == name
    assert not list(root.iter(f"{SVG}script"))
    assert all(len(text) < 60 for text in _texts(draw(net)))


@settings(max_examples=25, deadline=None)
@given(net_texts())
def test_any_net_can_be_drawn(text: str) -> None:
    drawn = draw(_net(text))
    ET.fromstring(drawn)
    assert drawn == draw(_net(text))


def test_a_branch_that_begins_elsewhere_stands_beside_the_line(specs: Path) -> None:
    """Else its name would lie on the line that leads to the other branch."""
    root = ET.fromstring(draw(load_network(specs / "unet.vgg")))
    at = {each.text: float(each.attrib["x"]) for each in root.iter(f"{SVG}text")}
    for name in ("conv1_2", "conv2_2", "conv3_2", "conv4_2"):
        inside = [
            float(each.attrib["x"])
            for each in root.iter(f"{SVG}text")
            if each.text == name and each.get("text-anchor") is None
        ]
        assert inside, name
        assert all(x > at["conv1-2"] + 20 for x in inside)
