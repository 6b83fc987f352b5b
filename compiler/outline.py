"""The layers of a net in the structure in which they are written: paths, brackets, branches.

The graph has what is computed; the steps that it was made of have what is written. A figure, a
listing and a comparison need both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vggspec.compiler.ir import Layer, Network, Origin
from vggspec.compiler.ops.conv import AnyConv
from vggspec.compiler.ops.op import Op
from vggspec.compiler.written import (
    WrittenBranch,
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenShortcut,
    WrittenStep,
    layers_in,
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A written layer, or the layers of a shortcut that is fitted."""

    layer: Layer
    written: Op
    """Its op without what ``conv is …`` says of every conv."""

    layers: tuple[Layer, ...]
    """The layer and those that it implies, in the order of the net."""

    @property
    def text(self) -> str:
        """The layer as one would write it in this net."""
        return self.written.write()


@dataclass(frozen=True, slots=True)
class Start:
    """A new path begins at the result called ``source``."""

    source: str


@dataclass(frozen=True, slots=True)
class Path:
    """A branch of a bracket; without parts it is ``identity``, or ``from`` alone."""

    source: str | None
    """The result that it begins at; None for what enters the bracket."""

    parts: "tuple[Part, ...]"


@dataclass(frozen=True, slots=True)
class Bracket:
    """One occurrence of a bracket or block: branches and their join, or a single path."""

    names: tuple[str, ...]
    """Of its result; none for a bracket that is only a part of a block."""

    paths: tuple[Path, ...]
    join: Literal["+", "&"] | None
    """None for a single path."""

    joint: Layer | None
    """The layer that adds or joins."""

    after: tuple[Layer, ...]
    """The activation that a sum takes over."""

    is_named: bool = False
    """Whether the spec gives it its name."""


Part = Leaf | Start | Bracket


def outline(network: Network, steps: Sequence[WrittenStep]) -> tuple[Part, ...]:
    """The structure of a net, from the steps that it was made of; passes may have changed it."""
    return _Outlining(network, steps).parts(steps)


def leaves(parts: Sequence[Part]) -> Iterator[Leaf]:
    """The layers as written, those in brackets too."""
    for part in parts:
        if isinstance(part, Leaf):
            yield part
        elif isinstance(part, Bracket):
            for path in part.paths:
                yield from leaves(path.parts)


class _Outlining:
    """The work on one net: a walk along its layers, whose order is that of the steps."""

    def __init__(self, network: Network, steps: Sequence[WrittenStep]) -> None:
        self._network = network
        self._written = {layer.name for layer in layers_in(tuple(steps))}
        self._places = {layer.name: i for i, layer in enumerate(network.layers)}
        self._next = 0

    def parts(self, steps: Sequence[WrittenStep]) -> tuple[Part, ...]:
        """What the steps have become."""
        found: list[Part] = []
        for step in steps:
            match step:
                case WrittenLayer(name=name):
                    leaf = self._leaf(name, step.origin, step)
                    found += [] if leaf is None else [leaf]
                case WrittenFrom(name=name):
                    found.append(Start(name))
                case WrittenGroup():
                    found.append(self._bracket(step))
                case _:
                    pass
        return tuple(found)

    def _leaf(self, name: str, origin: Origin, written: WrittenLayer | None) -> Leaf | None:
        if name not in self._places:
            return None
        layers = self._up_to(name) + self._implied(name, origin)
        layer = self._network[name]
        return Leaf(layer, _written(layer.op, written), layers)

    def _bracket(self, group: WrittenGroup) -> Bracket:
        joint = self._network[group.name] if group.name in self._places else None
        has_all = joint is not None and len(joint.inputs) == len(group.branches)
        paths = [self._path(branch) for branch in group.branches if has_all or not _drops(branch)]
        if joint is not None:
            self._up_to(joint.name)
        last = self._network.layers[self._next - 1].name if self._next else ""
        after = self._implied(last, group.origin)
        join = None if joint is None else group.join
        return Bracket(group.called, tuple(paths), join, joint, after, group.item.alias is not None)

    def _path(self, branch: WrittenBranch) -> Path:
        special = branch.steps[0] if branch.steps else None
        if not isinstance(special, WrittenShortcut):
            return Path(branch.source, self.parts(branch.steps))
        leaf = self._leaf(special.name, special.origin, None)
        return Path(branch.source, () if leaf is None else (leaf,))

    def _up_to(self, name: str) -> tuple[Layer, ...]:
        """The layers up to the one of that name that no step has had."""
        first, self._next = self._next, self._places[name] + 1
        return self._network.layers[first : self._next]

    def _implied(self, name: str, origin: Origin) -> tuple[Layer, ...]:
        """The following layers that come from the same text and continue the path."""
        first = self._next
        for layer in self._network.layers[first:]:
            if layer.origin != origin or layer.inputs != (name,) or layer.name in self._written:
                break
            name = layer.name
            self._next += 1
        return self._network.layers[first : self._next]


def _drops(branch: WrittenBranch) -> bool:
    special = branch.steps[0] if branch.steps else None
    return isinstance(special, WrittenShortcut) and special.fit == "drop"


def _written(op: Op, layer: WrittenLayer | None) -> Op:
    if layer is not None and layer.meaning is not None and isinstance(op, AnyConv):
        options = {option.name.text.casefold() for option in layer.meaning.item.options}
        if "no-bias" in options:
            return replace(op, bias=True)
    return op
