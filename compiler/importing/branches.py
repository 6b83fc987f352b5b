"""Layers with weights on the branches of a net: their order, and whose norm is whose."""

import re

from vggspec.compiler.ir import Network

_WORD = re.compile(r"conv(olution)?|batch_?norm|norm(alization)?|bn", re.IGNORECASE)
_NORM = re.compile(r"[./_](batch_?norm|norm(alization)?|bn)", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})", re.DOTALL)


class Dependences:
    """Which layers of a net another layer depends on."""

    def __init__(self, network: Network) -> None:
        self._bits = {layer.name: 1 << i for i, layer in enumerate(network.layers)}
        self._before: dict[str, int] = {}
        for layer in network.layers:
            before = 0
            for name in layer.inputs:
                before |= self._before.get(name, 0) | self._bits.get(name, 0)
            self._before[layer.name] = before

    def are_apart(self, a: str, b: str) -> bool:
        """Whether neither of two layers depends on the other: they are on different branches."""
        return not (self._before[a] & self._bits[b] or self._before[b] & self._bits[a])


def normed_layer(network: Network, norm: str) -> str | None:
    """The layer whose numbers a batch normalisation alone reads; None where it reads others'."""
    (source,) = network[norm].inputs
    is_layer = source in network and network[source].op.is_weight_layer
    return source if is_layer and len(network.users(source)) == 1 else None


def is_called_after(norm: str, conv: str) -> bool:
    """Whether a batch normalisation is that of a conv by its name.

    As ``bn1`` is of ``conv1``, ``rbr_dense.bn`` of ``rbr_dense.conv``, ``downsample.1`` of
    ``downsample.0``, and ``conv1.norm`` of ``conv1``.
    """
    if norm.startswith(conv) and _NORM.fullmatch(norm, len(conv)):
        return True
    if _WORD.sub("conv", conv) == _WORD.sub("conv", norm):
        return True
    ours, theirs = _NUMBERED.fullmatch(conv), _NUMBERED.fullmatch(norm)
    if ours is None or theirs is None or ours[1] != theirs[1]:
        return False
    return int(theirs[2]) == int(ours[2]) + 1
