"""The graph of a net as text for Graphviz, read back."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from vggspec.base.source import Source
from vggspec.compiler.dot import dot
from vggspec.compiler.lower import Lowered, load_network, lower
from vggspec.compiler.outline import outline
from vggspec.lang.parser import parse

NET = """\
net sums
input 8x8 gray
conv is conv(no-bias) BN ReLU
conv3-4
[conv3-8/2 conv3-8 + shortcut] as first
[conv1-8 & identity & from conv1_1 maxpool] as second
from first
gap FC-2 as head
outputs second head
"""


def _net(text: str) -> Lowered:
    return lower(parse(Source("net.vgg", text)).specs[0])


def _dot(net: Lowered) -> str:
    return dot(net.network, outline(net.network, net.steps))


@dataclass
class Graph:
    """A graph of Graphviz's language, as far as a net needs it."""

    name: str = ""
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    clusters: dict[str, list[str]] = field(default_factory=dict)
    """Nodes by the label of the innermost cluster."""


_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|(->|[\w]+|[\[\]{}=,;]))', re.DOTALL)


def _read(text: str) -> Graph:
    tokens = [
        (re.sub(r'\\(["\\])', r"\1", one[1]), True) if one[1] is not None else (one[2], False)
        for one in _TOKEN.finditer(text)
    ]
    assert "".join(_TOKEN.sub("", text).split()) == "", "all of the text is tokens"
    graph, labels = Graph(), [""]
    words = iter(tokens)

    def attributes() -> dict[str, str]:
        found = {}
        while (key := next(words)) != ("]", False):
            if key == (",", False):
                continue
            assert next(words) == ("=", False)
            found[key[0]] = next(words)[0]
        assert next(words) == (";", False)
        return found

    assert next(words) == ("digraph", False)
    graph.name = next(words)[0]
    assert next(words) == ("{", False)
    for word, is_quoted in words:
        if (word, is_quoted) == ("}", False):
            labels.pop()
        elif (word, is_quoted) == ("subgraph", False):
            next(words)
            assert [next(words)[0] for _ in range(3)] == ["{", "label", "="]
            labels.append(next(words)[0])
            graph.clusters[labels[-1]] = []
            assert next(words) == (";", False)
        else:
            mark = next(words)
            if mark == ("->", False):
                other = next(words)[0]
                assert next(words) == ("[", False)
                graph.edges[word, other] = attributes()["label"]
                continue
            assert mark == ("[", False)
            found = attributes()
            if is_quoted:
                graph.nodes[word] = found
                graph.clusters.setdefault(labels[-1], []).append(word)
    assert not labels
    return graph


def test_nodes_clusters_and_edges() -> None:
    graph = _read(_dot(_net(NET)))
    assert graph.name == "sums"
    assert {name: node["label"] for name, node in graph.nodes.items()} == {
        "image": "input 8 × 8 gray",
        "conv1_1": r"conv3-4\nconv1_1",
        "first_conv1": r"conv3-8/2\nfirst_conv1",
        "first_conv2": r"conv3-8\nfirst_conv2",
        "first_shortcut": r"shortcut\nfirst_shortcut",
        "first_add": "+",
        "second_conv1": r"conv1-8\nsecond_conv1",
        "second_pool1": r"maxpool\nsecond_pool1",
        "second_concat": "&",
        "gap": r"gap\ngap",
        "head": r"FC-2\nhead",
        "output second": "second",
        "output head": "head",
    }
    assert graph.clusters["first"] == ["first_conv1", "first_conv2", "first_shortcut", "first_add"]
    assert graph.clusters["second"] == ["second_conv1", "second_pool1", "second_concat"]
    assert graph.edges == {
        ("image", "conv1_1"): "8×8×1",
        ("conv1_1", "first_conv1"): "8×8×4",
        ("first_conv1", "first_conv2"): "4×4×8",
        ("conv1_1", "first_shortcut"): "8×8×4",
        ("first_conv2", "first_add"): "4×4×8",
        ("first_shortcut", "first_add"): "4×4×8",
        ("first_add", "second_conv1"): "4×4×8",
        ("conv1_1", "second_pool1"): "8×8×4",
        ("second_conv1", "second_concat"): "4×4×8",
        ("first_add", "second_concat"): "4×4×8",
        ("second_pool1", "second_concat"): "4×4×4",
        ("first_add", "gap"): "4×4×8",
        ("gap", "head"): "1×1×8",
        ("second_concat", "output second"): "4×4×20",
        ("head", "output head"): "2",
    }


def test_every_layer_of_a_column_has_a_node(specs: Path) -> None:
    net = load_network(str(specs / "D.vgg"))
    graph = _read(_dot(net))
    shown = [layer.name for layer in net.network.layers if not layer.op.is_implied]
    assert list(graph.nodes) == ["image", *shown, "output posteriors"]
    assert list(graph.edges) == list(zip(graph.nodes, list(graph.nodes)[1:], strict=False))


@pytest.mark.parametrize("name", ['a"; b -> c; "', "back\\", 'both\\"', "two\nlines"])
def test_names_are_data(name: str) -> None:
    net = _net(NET)
    net = replace(net, network=replace(net.network, name=name))
    graph = _read(_dot(net))
    assert graph.name == name.replace("\n", "\\n")
    assert len(graph.nodes) == 13


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
def test_graphviz_reads_it() -> None:
    net = _net(NET)
    net = replace(net, network=replace(net.network, name='a "name" \\'))
    done = subprocess.run(
        ["dot", "-Tplain"], input=_dot(net), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(line.startswith("node") for line in done.stdout.splitlines()) == 13
    assert sum(line.startswith("edge") for line in done.stdout.splitlines()) == 15


def test_what_is_read_for_its_size_is_dashed() -> None:
    text = "net t\ninput 8x8 gray\nconv3-2 as wide\nmaxpool conv3-2 up2 crop(wide)\n"
    lowered = _net(text)
    found = dot(lowered.network, outline(lowered.network, lowered.steps))
    dashed = [line.split()[0] for line in found.splitlines() if "dashed" in line]
    assert dashed == ['"wide"']
