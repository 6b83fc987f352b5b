"""The time of each layer of a net, from that of the nodes that an engine ran.

Engines fuse layers, rename what they fuse, and add nodes of their own. A node belongs to the layers
that it provably contains; the time of all others is counted as that of no layer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vggspec.bundle.manifest import BYTES
from vggspec.bundle.options import Precision
from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.runtime.fc_products import PART_OF_PRODUCT
from vggspec.runtime.node_times import NodeTime, NodeTimes

#: What engines write before and behind the name of a node that they rewrite.
REWRITTEN = re.compile(r"^InsertedPrecisionFreeCast_|(_nchwc|_token_\d+|/WithoutBiases)+$")

#: Nodes that change the type or the layout of numbers, whatever name they have.
CHANGES_FORM = re.compile("^(Cast|Convert|Reorder|Transpose|QuantizeLinear|DequantizeLinear|FakeQ)")

#: Nodes in which the products of a net with its weights are computed.
MULTIPLIES = re.compile("Conv|Gemm|MatMul|FullyConnected")

#: ONNX Runtime says so of a node that computes an activation too, or none because a clip does.
FUSED = re.compile("^Fused|^QLinear")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """What one node of an engine took, which is a layer or several fused ones."""

    layers: tuple[str, ...]
    """In the order of the net."""

    kind: str
    """The engine's word for the node."""

    seconds: float
    macs: int
    """Multiply-accumulates of the whole batch."""

    bytes: int
    """Numbers that are read and written at least: the inputs, weights and outputs of these layers,
    in the number types of the bundle. What is kept between fused layers does not count."""

    @property
    def flops_a_second(self) -> float:
        """Two for each multiply-accumulate; 0 where it took no time that could be measured."""
        return 2 * self.macs / self.seconds if self.seconds else 0.0

    @property
    def bytes_a_second(self) -> float:
        """0 where it took no time that could be measured."""
        return self.bytes / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """The times of all layers of a net at one shape."""

    layers: tuple[LayerTime, ...]
    others: dict[str, float]
    """Seconds of the nodes that belong to no layer, by the engine's words for them."""

    between_s: float
    """What the whole run took in addition to its nodes. Less than 0 where nodes ran at once."""

    run_s: float
    """The whole run, with the profiler, which makes it longer."""

    untimed: tuple[str, ...]
    """Layers of which the engine names no node: it fused or renamed them without a word."""


def layer_times(
    times: NodeTimes, network: Network, types: Mapping[str, Precision], batch: int
) -> LayerTimes:
    """Join the nodes of a run on ``batch`` images with the layers of a net at their size.

    ``types`` are the number types of the layers.
    """
    layers = {layer.name: layer for layer in network.layers}
    named = {name: name for name in layers}
    named |= {out.name: out.layer for out in network.outputs if out.name not in layers}
    owner: dict[str, int] = {}
    nodes = _with_products(times.nodes)
    for i, node in enumerate(nodes):
        for name in _layers_of(node, named):
            owner.setdefault(name, i)
    _add_fused(owner, nodes, network)
    found = []
    others: dict[str, float] = {}
    for i, node in enumerate(nodes):
        group = [layer for name, layer in layers.items() if owner.get(name) == i]
        if not group:
            others[node.kind] = others.get(node.kind, 0.0) + node.seconds
            continue
        found.append(
            LayerTime(
                layers=tuple(layer.name for layer in group),
                kind=node.kind,
                seconds=node.seconds,
                macs=batch * sum(_macs(network, layer) for layer in group),
                bytes=_moved(network, group, types, batch),
            )
        )
    return LayerTimes(
        layers=tuple(found),
        others={kind: seconds for kind, seconds in others.items() if seconds},
        between_s=times.run_s - sum(node.seconds for node in times.nodes),
        run_s=times.run_s,
        untimed=tuple(name for name in layers if name not in owner),
    )


def _with_products(nodes: Sequence[NodeTime]) -> list[NodeTime]:
    """The nodes, those that together compute an FC layer as a product (``fc_products``) as one."""
    parts: dict[str, list[NodeTime]] = {}
    for node in nodes:
        for name in node.names:
            layer, is_part, _ = name.partition(PART_OF_PRODUCT)
            if is_part:
                parts.setdefault(layer, []).append(node)
                break
    single = {layer: [n for n in nodes if layer in n.names] for layer in parts}
    merged = {id(node) for some in (*parts.values(), *single.values()) for node in some}
    whole = [
        NodeTime(
            names=(layer,),
            kind="Gemm",
            seconds=sum(node.seconds for node in (*parts[layer], *single[layer])),
        )
        for layer in parts
    ]
    return [*(node for node in nodes if id(node) not in merged), *whole]


def _layers_of(node: NodeTime, named: Mapping[str, str]) -> list[str]:
    """The layers that a node names."""
    if CHANGES_FORM.match(node.kind):
        return []
    names = [REWRITTEN.sub("", REWRITTEN.sub("", name)) for name in node.names]
    return [named[name] for name in names if name in named]


def _add_fused(owner: dict[str, int], nodes: Sequence[NodeTime], network: Network) -> None:
    """Add the layers that nodes contain without naming them.

    A product that has the name of a layer without weights, such as ``relu1_1``, contains the layers
    before it back to its own. A batch normalisation without a node is in the weights of the conv
    before it, and an activation in a node that says so.
    """
    for layer in network.layers:
        if layer.name in owner or not _macs(network, layer):
            continue
        chain, at = [layer.name], layer
        while at.name not in owner and len(network.users(at.name)) == 1:
            at = network.users(at.name)[0]
            chain.append(at.name)
        node = owner.get(at.name)
        if node is None or _macs(network, at) or not MULTIPLIES.search(nodes[node].kind):
            continue
        owner.update(dict.fromkeys(chain, node))
    for layer in network.layers:
        if layer.name in owner or _macs(network, layer) or len(layer.inputs) != 1:
            continue
        node = owner.get(layer.inputs[0])
        if node is not None and (layer.op.keyword == "BN" or FUSED.match(nodes[node].kind)):
            owner[layer.name] = node


def _macs(network: Network, layer: Layer) -> int:
    return layer.op.macs(network.types_of(layer), layer.type)


def _moved(
    network: Network, group: Sequence[Layer], types: Mapping[str, Precision], batch: int
) -> int:
    inside = {layer.name for layer in group}
    read_outside = {
        name for layer in network.layers if layer.name not in inside for name in layer.inputs
    } | {out.layer for out in network.outputs}
    inputs = {name for layer in group for name in layer.inputs} - inside
    written = inside & read_outside or {group[-1].name}
    numbers = sum(
        _bytes(types, name) * network.type_of(name).num_elements for name in inputs | written
    )
    weights = sum(
        _bytes(types, layer.name) * param.num_elements for layer in group for param in layer.params
    )
    return batch * numbers + weights


def _bytes(types: Mapping[str, Precision], name: str) -> int:
    return BYTES["fp32" if name == IMAGE else types[name]]
