"""The layers of a net one below the other, with the marks of the brackets that they stand in.

Read from top to bottom, the lines are the net as written: ``[`` begins a bracket, ``+`` or ``&`` a
branch, ``from NAME`` a path that begins elsewhere, ``]`` the join.
"""

from collections.abc import Callable, Sequence

from vggspec.compiler.ir import Layer
from vggspec.compiler.outline import Bracket, Leaf, Part, Path, Start

INDENT = "  "


def listing(parts: Sequence[Part], is_shown: Callable[[str], bool]) -> dict[str, str]:
    """What to print for each layer that is shown, by its name."""
    lines = _Lines(is_shown)
    lines.parts(parts, 0)
    return lines.found


class _Lines:
    """The work on one net."""

    def __init__(self, is_shown: Callable[[str], bool]) -> None:
        self.found: dict[str, str] = {}
        self._is_shown = is_shown
        self._marks = ""  # what the next line begins with
        self._depth = 0  # how far it is indented

    def parts(self, parts: Sequence[Part], depth: int) -> None:
        for part in parts:
            match part:
                case Leaf():
                    self._leaf(part, depth)
                case Start(source=source):
                    self._mark(f"from {source} ", depth)
                case Bracket():
                    self._bracket(part, depth)

    def _leaf(self, leaf: Leaf, depth: int) -> None:
        shown = [layer for layer in leaf.layers if self._is_shown(layer.name)]
        for layer in shown:
            self._line(layer, leaf.text if layer is leaf.layer else layer.op.write(), depth)
        if not shown and self._marks:
            self._marks += f"{leaf.text} "

    def _bracket(self, bracket: Bracket, depth: int) -> None:
        joint = bracket.joint
        if joint is None:
            for path in bracket.paths:
                self._path(path, depth)
        else:
            for i, path in enumerate(bracket.paths):
                self._mark(f"{bracket.join} " if i else "[ ", depth)
                self._path(path, depth + 1)
            self._mark("] ", depth)
            self._line(joint, joint.op.write(), depth)
        for layer in bracket.after:
            if self._is_shown(layer.name):
                self._line(layer, layer.op.write(), depth)

    def _path(self, path: Path, depth: int) -> None:
        if path.source is not None:
            self._mark(f"from {path.source} ", depth)
        elif not path.parts:
            self._mark("identity ", depth)
        self.parts(path.parts, depth)

    def _mark(self, mark: str, depth: int) -> None:
        if not self._marks:
            self._depth = depth
        self._marks += mark

    def _line(self, layer: Layer, text: str, depth: int) -> None:
        indent = self._depth if self._marks else depth
        self.found[layer.name] = f"{INDENT * indent}{self._marks}{text}"
        self._marks = ""
