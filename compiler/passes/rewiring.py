"""Removes layers from a network and reconnects their neighbours."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace

from vggspec.compiler.ir import Network, Node, Output


def without(network: Network, nodes: Iterable[Node], dropped: AbstractSet[str]) -> Network:
    """``network`` rebuilt from ``nodes`` without the dropped ones. Each dropped node has one input,
    which replaces it in the nodes that read it.
    """
    stands_for: dict[str, str] = {}
    kept: list[Node] = []
    for node in nodes:
        inputs = tuple(stands_for.get(name, name) for name in node.inputs)
        if node.name in dropped:
            stands_for[node.name] = inputs[0]
        else:
            kept.append(replace(node, inputs=inputs))
    outputs = [Output(out.name, stands_for.get(out.layer, out.layer)) for out in network.outputs]
    return network.rebuild(kept, outputs)
