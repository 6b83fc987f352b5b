"""The layers of a graph as lines of a spec: sequences of layers and brackets.

Where paths that part meet again, they are the branches of a bracket: the graph is reduced series
by series and bracket by bracket, which takes one pass in topological order. What is left where
paths cross is several lines, and branches that begin at the result of another line.

Source: Valdes, Tarjan & Lawler 1982, "The Recognition of Series Parallel Digraphs".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from vggspec.compiler.drafting.nodes import INPUT, Layer
from vggspec.compiler.ops.add import Add

Join = Literal["+", "&"]


@dataclass(frozen=True, slots=True)
class Branch:
    """One path through a bracket."""

    source: str | None
    """The line at whose result it begins; None for what enters the bracket."""

    items: "tuple[Item, ...]"


@dataclass(frozen=True, slots=True)
class Bracket:
    """Branches that are added or joined."""

    join: Join
    branches: tuple[Branch, ...]
    entering: str
    """The layer whose result enters it."""

    result: Layer
    """The join."""


Item = Layer | Bracket


@dataclass(frozen=True, slots=True)
class Line:
    """A sequence of layers and brackets that begins at the result of a line."""

    source: str
    """The name of that line, or ``INPUT``."""

    items: tuple[Item, ...]
    name: str
    """That of the last layer."""


@dataclass(slots=True)
class _Path:
    """A way from a tensor to where it is read."""

    source: str
    items: list[Item] = field(default_factory=list)


class _Reduction:
    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self._places = {INPUT: -1} | {layer.name: i for i, layer in enumerate(layers)}
        self._paths: dict[str, _Path] = {}
        self._readers = dict.fromkeys(self._places, 0)
        for layer in layers:
            for name in layer.inputs:
                self._readers[name] += 1
        self._begun: set[str] = set()  # branches begin at these

    def lines(self) -> list[Line]:
        """The lines of the spec, in their order."""
        for layer in self._layers:
            if not layer.op.is_join:
                path = self._followed(_Path(layer.inputs[0]))
                path.items.append(layer)
            else:
                path = self._followed(self._joined(layer))
            self._paths[layer.name] = path
        wanted = {self._layers[-1].name}
        found: list[Line] = []
        for layer in reversed(self._layers):
            if layer.name in wanted:
                path = self._paths[layer.name]
                wanted.add(path.source)
                wanted.update(_sources(path.items))
                found.append(Line(path.source, tuple(path.items), layer.name))
        return found[::-1]

    def _followed(self, path: _Path) -> _Path:
        """A path that begins where the one that nothing else reads begins."""
        while (
            path.source != INPUT
            and self._readers[path.source] == 1
            and path.source not in self._begun
        ):
            before = self._paths.pop(path.source)
            before.items += path.items
            path = before
        return path

    def _joined(self, layer: Layer) -> _Path:
        paths = [self._followed(_Path(name)) for name in layer.inputs]
        # What enters is the latest result, so that others are gone back to.
        entering = max((path.source for path in paths), key=self._places.__getitem__)
        join: Join = "+" if isinstance(layer.op, Add) else "&"
        branches: list[Branch] = []
        for path in paths:
            is_entering = path.source == entering
            if is_entering:
                self._readers[entering] -= 1
            else:
                self._begun.add(path.source)
            only = path.items[0] if len(path.items) == 1 else None
            if is_entering and isinstance(only, Bracket) and only.join == join:
                branches += only.branches  # [[a + b] + c]
                continue
            branches.append(Branch(None if is_entering else path.source, tuple(path.items)))
        self._readers[entering] += 1
        return _Path(entering, [Bracket(join, tuple(branches), entering, layer)])


def lines(layers: Sequence[Layer]) -> list[Line]:
    """The lines of a spec for layers in topological order, the last of which is the result."""
    return _Reduction(layers).lines()


def _sources(items: Sequence[Item]) -> list[str]:
    """The lines at whose results branches begin."""
    found: list[str] = []
    todo = list(items)
    while todo:
        item = todo.pop()
        if isinstance(item, Bracket):
            for branch in item.branches:
                found += [] if branch.source is None else [branch.source]
                todo += branch.items
    return found
