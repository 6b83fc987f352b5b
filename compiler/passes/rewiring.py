"""What passes share: every use of a tensor becomes a use of another; names; places of mistakes."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from vggspec.base.diagnostic import Diagnostic, Report, report
from vggspec.compiler.ir import Layer, Network, Node, Output


def replace_all_uses(
    network: Network,
    nodes: Iterable[Node],
    instead: Mapping[str, str],
    outputs: Sequence[Output] | None = None,
) -> Network:
    """``network`` rebuilt from ``nodes``, which read ``instead[name]`` where they read ``name``.

    So do its outputs, unless others are given. A tensor that replaces another may be replaced too.

    Given   conv1 -> relu1 -> {pool1, output}    instead = {relu1: conv1}
    Result  conv1 -> {pool1, output}
    """

    def found(name: str) -> str:
        while name in instead:
            name = instead[name]
        return name

    rewired = [replace(node, inputs=tuple(map(found, node.inputs))) for node in nodes]
    read = network.outputs if outputs is None else outputs
    return network.rebuild(rewired, [Output(out.name, found(out.layer)) for out in read])


def without(network: Network, nodes: Iterable[Node], dropped: AbstractSet[str]) -> Network:
    """``network`` rebuilt from ``nodes`` without the dropped ones. Each dropped node has one input,
    which replaces it wherever it is read.

    Given   relu6 -> drop6 -> fc7    dropped = {drop6}
    Result  relu6 -> fc7
    """
    nodes = list(nodes)
    instead = {}
    for node in nodes:
        if node.name in dropped:
            (instead[node.name],) = node.inputs
    kept = [node for node in nodes if node.name not in dropped]
    return replace_all_uses(network, kept, instead)


def fresh(name: str, taken: set[str]) -> str:
    """The name, or with a number where it is taken; it is taken from then on."""
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    taken.add(unique)
    return unique


def at(layer: Layer, what: Diagnostic, network: Network) -> Report:
    """A mistake at the text that a layer came from."""
    if layer.origin is None:
        return report(what, path=f"net {network.name}")
    return report(what, layer.origin.source, layer.origin.span)
