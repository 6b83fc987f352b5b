"""A network as text for Graphviz: a node a written layer, a cluster a bracket.

What a layer implies, ReLU for instance, is part of its node. Edges are labelled with the shape of
the tensor that is read: rows, columns, channels.
"""

from collections.abc import Iterator, Sequence

from vggspec.base.catalogue import shapes
from vggspec.compiler.figure import PAINTS, PLAIN
from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.outline import Bracket, Leaf, Part

_HEAD = """\
  graph [fontname="Helvetica", label={label}];
  node [fontname="Helvetica", shape="box", style="rounded,filled", fillcolor="#ffffff"];
  edge [fontname="Helvetica", fontsize="9"];
"""


def dot(network: Network, parts: Sequence[Part]) -> str:
    """The graph of a network with its outline, in Graphviz's language."""
    image = network.input
    said = f"input {image.height} × {image.width} {image.color}"
    lines = [f"digraph {_quoted(network.name)} {{"]
    lines.append(_HEAD.format(label=_quoted(network.name)) + _node(IMAGE, said))
    lines += _nodes(parts, "  ", iter(range(len(network.layers))))
    owners = {IMAGE: IMAGE}
    for node, layers in _owned(parts):
        for layer in layers:
            owners[layer.name] = node
    # What belongs to no written layer is left out; it continues what it reads.
    for layer in network.layers:
        owners.setdefault(layer.name, owners[layer.inputs[0]])
    for layer in network.layers:
        for name in layer.inputs:
            edge = owners[name], owners[layer.name]
            if edge[0] != edge[1]:
                # Of an input that is read for its size alone no numbers go there.
                style = "" if name in layer.sources else ', style="dashed"'
                lines.append(_edge(*edge, _shape(network, name), style))
    for output in network.outputs:
        node = f"output {output.name}"
        lines.append(_node(node, output.name, 'shape="plaintext", style=""'))
        lines.append(_edge(owners[output.layer], node, _shape(network, output.layer)))
    return "\n".join([*lines, "}", ""])


def _nodes(parts: Sequence[Part], indent: str, numbers: Iterator[int]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Leaf):
            fill, stroke = PAINTS.get(part.layer.op.keyword, PLAIN)
            more = f'fillcolor="{fill}", color="{stroke}"'
            yield indent + _node(part.layer.name, f"{part.text}\n{part.layer.name}", more).lstrip()
        elif isinstance(part, Bracket):
            yield f"{indent}subgraph {_quoted(f'cluster_{next(numbers)}')} {{"
            yield f"{indent}  label={_quoted(part.names[0] if part.names else '')};"
            for path in part.paths:
                yield from _nodes(path.parts, f"{indent}  ", numbers)
            if part.joint is not None and part.join is not None:
                form = "circle" if part.join == "+" else "box"
                more = f'shape="{form}", style="filled"'
                yield f"{indent}  " + _node(part.joint.name, part.join, more).lstrip()
            yield f"{indent}}}"


def _owned(parts: Sequence[Part]) -> Iterator[tuple[str, tuple[Layer, ...]]]:
    """The nodes, and the layers that each stands for."""
    for part in parts:
        if isinstance(part, Leaf):
            yield part.layer.name, part.layers
        elif isinstance(part, Bracket):
            for path in part.paths:
                yield from _owned(path.parts)
            if part.joint is not None:
                yield part.joint.name, (part.joint, *part.after)


def _shape(network: Network, name: str) -> str:
    return shapes.chw(network.type_of(name).shape).replace(" ", "")


def _node(name: str, label: str, more: str = "") -> str:
    attributes = f"label={_quoted(label)}" + (f", {more}" if more else "")
    return f"  {_quoted(name)} [{attributes}];"


def _edge(first: str, second: str, label: str, more: str = "") -> str:
    return f"  {_quoted(first)} -> {_quoted(second)} [label={_quoted(label)}{more}];"


def _quoted(text: str) -> str:
    """A string of Graphviz's language, in which it reads no escapes but ours."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
