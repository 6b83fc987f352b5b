"""The figure of a net: well-formed, complete, the same every time."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.strategies import net_texts
from vggspec.base.source import Source
from vggspec.compiler.figure import draw
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network, lower
from vggspec.lang.parser import parse

SVG = "{http://www.w3.org/2000/svg}"


def _net(text: str) -> Network:
    return lower(parse(Source("net.vgg", text)).specs[0]).network


def _texts(figure: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(figure).iter(f"{SVG}text")]


def test_golden(specs: Path, golden: Callable[[str, str], None]) -> None:
    golden("figure/D.svg", draw(load_network(str(specs / "D.vgg")).network))


def test_what_a_figure_says(specs: Path) -> None:
    texts = _texts(draw(load_network(str(specs / "D.vgg")).network))
    assert texts.count("conv3-512") == 6
    assert "relu1_1" not in texts
    for said in ("input 224 × 224 RGB", "14 × 14", "conv5_3", "pool5", "FC-4096", "soft-max", "D"):
        assert said in texts
    assert "16 weight layers · 138M parameters · 15.5G MACs" in texts


def test_every_spec_is_drawn_within_its_frame(specs: Path) -> None:
    for path in sorted(specs.glob("*.vgg")):
        for spec in parse(Source(str(path), path.read_text("utf-8"))).specs:
            root = ET.fromstring(draw(lower(spec).network))
            width, height = float(root.attrib["width"]), float(root.attrib["height"])
            for rect in root.iter(f"{SVG}rect"):
                x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
                assert 0 <= x <= x + float(rect.attrib["width"]) <= width
                assert 0 <= y <= y + float(rect.attrib["height"]) <= height


def test_a_long_net_draws_repeated_layers_once() -> None:
    blocks = "\nmaxpool\n".join(f"conv3-{width} BN\n" * 20 for width in (64, 128, 256))
    network = _net(f"input 64x96 gray\n{blocks}\ngap\nFC-10\nsoft-max")
    figure = draw(network)
    texts = _texts(figure)
    assert {"conv3-64 × 20", "conv3-128 × 20", "conv3-256 × 20"} <= set(texts)
    assert {"conv1_1 … conv1_20", "bn1_1 … bn1_20"} <= set(texts)
    assert float(ET.fromstring(figure).attrib["height"]) < 800


def test_a_long_net_without_repetition_is_drawn_in_full() -> None:
    layers = "\n".join(f"conv3-{width}" for width in range(1, 61))
    assert {f"conv3-{width}" for width in range(1, 61)} <= set(
        _texts(draw(_net(f"input 8x8 gray\n{layers}")))
    )


@pytest.mark.parametrize("name", ["<script>&\"'", "x" * 1000])
def test_names_are_data(name: str) -> None:
    network = replace(_net("input 8x8 gray\nconv3-4\nFC-2"), name=name)
    root = ET.fromstring(draw(network))
    assert root.findtext(f"{SVG}title") == name
    assert not list(root.iter(f"{SVG}script"))
    assert all(len(text) < 60 for text in _texts(draw(network)))


@settings(max_examples=25, deadline=None)
@given(net_texts())
def test_any_net_can_be_drawn(text: str) -> None:
    figure = draw(_net(text))
    ET.fromstring(figure)
    assert figure == draw(_net(text))
