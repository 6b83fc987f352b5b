"""A net as written, with repeats and blocks written out: what expanding gives and wiring takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from vggspec.base.source import Span
from vggspec.compiler.ir import Origin
from vggspec.compiler.ops.op import Op
from vggspec.lang.ast import Group, LayerItem, SizeClaim

Fit = Literal["fit", "pad", "project", "drop"]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What each conv stands for by the line ``conv is …``: the ops before it and after it."""

    before: tuple[Op, ...]
    after: tuple[Op, ...]
    item: LayerItem
    """The conv of the line, whose options are those of every conv."""


@dataclass(frozen=True, slots=True)
class WrittenLayer:
    """A layer, its op read and its name decided."""

    op: Op
    name: str
    origin: Origin
    item: LayerItem
    in_bracket: bool = False
    meaning: Meaning | None = None
    """For a conv of a net with ``conv is …``."""

    source: str | None = None
    """The result whose rows and columns it takes, for a layer that names one."""


@dataclass(frozen=True, slots=True)
class WrittenShortcut:
    """A branch without layers that is made to fit the one before it; ``None`` for ``identity``."""

    fit: Fit | None
    name: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class WrittenFrom:
    """A path begins at the result called ``name``."""

    name: str


@dataclass(frozen=True, slots=True)
class WrittenBranch:
    """One path through a bracket."""

    source: str | None
    """The result that it begins at; None for what enters the bracket."""

    steps: "tuple[WrittenStep, ...]"
    span: Span


@dataclass(frozen=True, slots=True)
class WrittenGroup:
    """One occurrence of a bracket or of a block."""

    name: str
    """The name of its join, or what results in its names begin with."""

    join: Literal["+", "&"] | None
    branches: tuple[WrittenBranch, ...]
    called: tuple[str, ...]
    """Names of its result."""

    origin: Origin
    item: Group | LayerItem


WrittenStep = WrittenLayer | WrittenShortcut | WrittenFrom | WrittenGroup | SizeClaim


def layers_in(steps: "tuple[WrittenStep, ...]") -> Iterator[WrittenLayer]:
    """All layers, those in brackets too, in the order in which they are written."""
    for step in steps:
        if isinstance(step, WrittenLayer):
            yield step
        elif isinstance(step, WrittenGroup):
            for branch in step.branches:
                yield from layers_in(branch.steps)
