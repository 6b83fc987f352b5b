"""A network as a figure: its column of Table 1, drawn.

A bar a layer. Its width follows the logarithm of the channels, its height that of the resolution,
its colour the kind of layer. What is implied, ReLU for instance, is left out, as in the paper.
The branches of a bracket stand side by side between a fork and a join: a plus in a circle, or a bar
where channels are joined. A path that begins elsewhere has a line from there at the left.
The result is one SVG file without scripts, fonts or images of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from itertools import groupby, pairwise
from math import log2

from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.outline import Bracket, Leaf, Part, Path, Start, leaves

WIDTH = 520
AXIS = 236
MARGIN = 24
TALL = 800
"""Above this height, what repeats is drawn once, with how often it occurs."""

PAD = 10
"""Space between what stands side by side, and inside the frame of a bracket."""

FORK = 16
"""From the top of a bracket to its branches."""

LANE = 9
"""Between the lines of paths that begin elsewhere."""

RADIUS = 7
"""Of the circle of a sum."""

THICK = 6
"""The height of the bar that joins channels."""

FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
INK, GREY, LINE, FRAME = "#1f2933", "#75818d", "#c5ccd3", "#f6f8fa"

#: Fill and outline of each kind of layer.
BLUE, ORANGE, RED, GREEN, VIOLET, PLAIN = (
    ("#dce8f6", "#6c97c8"),
    ("#fae6d0", "#d39a57"),
    ("#e9b4b0", "#c9716b"),
    ("#c3e2cc", "#6aa67c"),
    ("#e4def2", "#9283bf"),
    ("#ffffff", "#8a96a2"),
)
PAINTS = {
    "conv": BLUE,
    "dwconv": BLUE,
    "shortcut": BLUE,
    "FC": ORANGE,
    "maxpool": RED,
    "avgpool": RED,
    "gap": RED,
    "LRN": GREEN,
    "BN": GREEN,
    "upconv": VIOLET,
    "up": VIOLET,
    "resize": VIOLET,
}
POOLS = ("maxpool", "avgpool", "gap")
THIN = (*POOLS, "LRN", "BN")


@dataclass(frozen=True)
class _Bar:
    """The drawing of a layer, or of several equal ones."""

    leaf: Leaf
    last: Leaf
    times: int = 1
    is_inner: bool = False
    """Whether it is in a bracket, where there is less room."""

    names: frozenset[str] = frozenset()
    """Of the results that it stands for."""

    @property
    def layer(self) -> Layer:
        return self.leaf.layer

    @property
    def keyword(self) -> str:
        return self.layer.op.keyword

    @property
    def is_thin(self) -> bool:
        return self.keyword in THIN

    @cached_property
    def width(self) -> float:
        channels = log2(min(self.layer.type.channels, 8192) + 1)
        if not self.is_inner:
            return 48 + 17 * channels
        bare = _text_width(self.label, 11) + 10
        return 26 + 8 * channels if self.is_thin else max(26 + 8 * channels, bare)

    @property
    def left(self) -> float:
        return self.width / 2

    @property
    def right(self) -> float:
        return self.width / 2

    @property
    def full_height(self) -> float:
        return self.height + self.depth

    @property
    def height(self) -> float:
        return 7 if self.is_thin else 15 + 1.3 * log2(max(self.layer.type.size))

    @property
    def depth(self) -> float:
        """How far the bars behind this one look out below it."""
        return 0 if self.times == 1 or self.is_thin else 6

    @property
    def size(self) -> str:
        """The resolution; pools lie between two of them."""
        return "" if self.keyword in POOLS else _size(self.layer)

    @cached_property
    def label(self) -> str:
        """The layer as written, without its options where they do not fit."""
        text = self.leaf.text
        if self.is_inner or _text_width(text, 11) > self.width - 12:
            text = text.partition("(")[0]
        return f"{text} × {self.times}" if self.times > 1 else text

    @property
    def name(self) -> str:
        return _from_to(self.layer.name, self.last.layer.name, self.times)

    def draw(self, page: "_Page", x: float, y: float) -> None:
        paint = PAINTS.get(self.keyword, PLAIN)
        radius = 3.5 if self.is_thin else self.height / 2 if paint is PLAIN else 5
        for behind in (6, 3, 0) if self.depth else (0,):
            page.add(_rect(x, self.width - 2 * behind, y + behind, self.height, paint, radius))
        if not self.is_thin:
            page.add(_text(x, y + self.height / 2 + 3.8, self.label, 11))
        page.ends |= dict.fromkeys(self.names, (x, y + self.full_height))


@dataclass(frozen=True)
class _Origin:
    """The beginning of a path that does not continue the one above."""

    source: str
    left: float = 0
    right: float = 0
    full_height: float = 4
    height: float = 0
    size: str = ""
    names: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return f"from {_clipped(self.source, 18)}"

    def draw(self, page: "_Page", x: float, y: float) -> None:
        page.join(self.source, x, y, y + self.full_height)


@dataclass(frozen=True)
class _Fork:
    """The drawing of a bracket or block, or of several equal ones."""

    bracket: Bracket
    last: Bracket
    stacks: "tuple[_Stack, ...]"
    times: int = 1
    is_framed: bool = False
    is_inner: bool = False
    names: frozenset[str] = frozenset()

    @property
    def is_joined(self) -> bool:
        return self.bracket.join is not None

    @cached_property
    def offsets(self) -> tuple[float, ...]:
        """Where the branches stand, from the middle. If one of two begins elsewhere, the other one
        stands there; of two that are added, or of which one is a line, the longer one.
        """
        widths = [stack.left + stack.right for stack in self.stacks]
        places = [0.0]
        for one, other in pairwise(self.stacks):
            places.append(places[-1] + one.right + PAD + other.left)
        shift = (sum(widths) + PAD * (len(widths) - 1)) / 2 - self.stacks[0].left
        if len(self.stacks) == 1:
            shift = 0.0
        elif len(self.stacks) == 2:
            lines = [i for i, stack in enumerate(self.stacks) if not stack.boxes]
            going_on = [i for i, path in enumerate(self.bracket.paths) if path.source is None]
            if len(going_on) == 1:
                shift = places[going_on[0]]
            elif len(lines) == 1 or self.bracket.join == "+":
                shift = places[1] if lines == [0] else places[0]
        return tuple(place - shift for place in places)

    @cached_property
    def left(self) -> float:
        pairs = zip(self.stacks, self.offsets, strict=True)
        return max(stack.left - place for stack, place in pairs) + self._margin

    @cached_property
    def right(self) -> float:
        pairs = zip(self.stacks, self.offsets, strict=True)
        times = 30 if self.times > 1 else 0
        return max(stack.right + place for stack, place in pairs) + self._margin + times

    @property
    def _margin(self) -> float:
        return PAD if self.is_framed else 0

    @cached_property
    def height(self) -> float:
        inside = max(stack.height for stack in self.stacks)
        if self.is_joined:
            inside += FORK + PAD + (2 * RADIUS if self.bracket.join == "+" else THICK)
            return inside + (8 if self.is_framed else 0)
        return inside + (2 * PAD if self.is_framed else 0)

    @property
    def full_height(self) -> float:
        return self.height + (6 if self.times > 1 else 0)

    @property
    def size(self) -> str:
        if self.bracket.joint is not None:
            return _size(self.bracket.joint)
        return self.stacks[0].boxes[-1].size if self.stacks[0].boxes else ""

    @property
    def name(self) -> str:
        first, last = (one.names[0] if one.names else "" for one in (self.bracket, self.last))
        return _from_to(first, last, self.times)

    def draw(self, page: "_Page", x: float, y: float) -> None:
        frame = self.left + self.right - (30 if self.times > 1 else 0)
        middle = x - self.left + frame / 2
        if self.is_framed:
            for behind in (6, 3, 0) if self.times > 1 else (0,):
                page.add(
                    _rect(middle, frame - 2 * behind, y + behind, self.height, (FRAME, LINE), 7)
                )
        if self.times > 1:
            baseline = y + self.height / 2 + 3.8
            said = f"× {self.times}"
            page.add(_text(middle + frame / 2 + 7, baseline, said, more=' text-anchor="start"'))
        if not self.is_joined:
            top = y + (PAD if self.is_framed else 0)
            self.stacks[0].draw(page, x, top, y, y + self.height)
        else:
            self._draw_branches(page, x, y)
        page.ends |= dict.fromkeys(self.names, (x, y + self.full_height))

    def _draw_branches(self, page: "_Page", x: float, y: float) -> None:
        top, bottom = y + FORK, y + FORK + max(stack.height for stack in self.stacks) + PAD
        is_sum = self.bracket.join == "+"
        fork, join = y + 8, bottom + (RADIUS if is_sum else 0)
        xs = [x + place for place in self.offsets]
        inside = [
            one for one, path in zip(xs, self.bracket.paths, strict=True) if path.source is None
        ]
        if inside:
            page.add(_line(x, y, fork))
            page.add(_level(min(x, *inside), max(x, *inside), fork))
        for place, stack, path in zip(xs, self.stacks, self.bracket.paths, strict=True):
            if path.source is not None:
                self._draw_source(page, path.source, place, y)
            start = fork if path.source is None else top
            stack.draw(page, place, top, start, join)
        left, right = min(x, *xs), max(x, *xs)
        end = y + self.full_height
        if is_sum:
            page.add(_level(left, right, join))
            page.add(_line(x, join, end))
            page.add(_plus(x, join))
        else:
            page.add(_line(x, join, end))
            width = right - left + 16
            page.add(_rect((left + right) / 2, width, bottom, THICK, PLAIN, THICK / 2))
        said = " ".join(_WORDS.get(one.op.keyword, one.op.keyword) for one in self.bracket.after)
        if said:
            page.add(_text(x + 10, join + 11, said, 9, GREY, ' text-anchor="start"'))

    def _draw_source(self, page: "_Page", source: str, x: float, y: float) -> None:
        """The line to a branch that begins elsewhere; in a bracket in a bracket a name alone."""
        if not self.is_inner:
            page.join(source, x, y + 3, y + FORK)
            return
        text = _clipped(source, 14)
        page.add(_rect(x, _text_width(text, 9), y - 1, 12, (FRAME, FRAME), 0))
        page.add(_text(x, y + 8, text, 9, GREY))
        page.add(_line(x, y + 11, y + FORK))


_Box = _Bar | _Origin | _Fork


def _gap(above: _Box, below: _Box) -> float:
    """Space between two: little within a block, more around pools and brackets."""
    if isinstance(above, _Origin) or isinstance(below, _Origin):
        return 26 if isinstance(below, _Origin) else 8
    if isinstance(above, _Bar) and isinstance(below, _Bar):
        if POOLS.count(above.keyword) + POOLS.count(below.keyword):
            return 9
        return 3 if below.is_thin else 5
    return 9 if any(isinstance(box, _Fork) and box.is_framed for box in (above, below)) else 6


_WORDS = {"relu": "ReLU"}


@dataclass(frozen=True)
class _Stack:
    """What stands on one line, from top to bottom."""

    boxes: tuple[_Box, ...]

    @cached_property
    def left(self) -> float:
        return max((box.left for box in self.boxes), default=4)

    @cached_property
    def right(self) -> float:
        return max((box.right for box in self.boxes), default=4)

    @cached_property
    def height(self) -> float:
        gaps = sum(_gap(above, box) for above, box in pairwise(self.boxes))
        return gaps + sum(box.full_height for box in self.boxes)

    def tops(self, y: float) -> list[float]:
        """Where each box begins."""
        found: list[float] = []
        for i, box in enumerate(self.boxes):
            y += _gap(self.boxes[i - 1], box) if i else 0
            found.append(y)
            y += box.full_height
        return found

    def draw(
        self,
        page: "_Page",
        x: float,
        y: float,
        start: float,
        end: float | None,
        names: float | None = None,
    ) -> None:
        """The boxes from ``y`` on, before the line from ``start`` to ``end``, and their names at
        ``names``; without an end the line stops at the last box.
        """
        tops = self.tops(y)
        for i, (box, top) in enumerate(zip(self.boxes, tops, strict=True)):
            if isinstance(box, _Bar):
                continue
            stop = top if isinstance(box, _Fork) else tops[i - 1] if i else start
            if stop > start:
                page.add(_line(x, start, stop))
            start = top + box.full_height
        if end is None:
            end = tops[-1]
        if end > start:
            page.add(_line(x, start, end))
        for box, top in zip(self.boxes, tops, strict=True):
            box.draw(page, x, top)
            if names is not None:
                baseline = top + box.height / 2 + 3.8
                color = GREY if page.outputs.isdisjoint(box.names) else INK
                name = box.name if color == GREY else f"{box.name} · output"
                page.add(_text(names, baseline, name, 10.5, color, ' text-anchor="start"'))
                inside = _inside([box.bracket]) if isinstance(box, _Fork) else ()
                for inner in inside:
                    if inner in page.outputs - box.names:
                        baseline += 13
                        name = f"{_clipped(inner, 21)} · output"
                        more = ' text-anchor="start"'
                        page.add(_text(names, baseline, name, 10.5, INK, more))


@dataclass
class _Page:
    """What is drawn, and the lines that are still to be."""

    parts: list[str] = field(default_factory=list)
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Below what each result is drawn: x and y."""

    outputs: frozenset[str] = frozenset()
    """The results whose names stand out."""

    joins: list[tuple[str, float, float, float]] = field(default_factory=list)

    def add(self, part: str) -> None:
        self.parts.append(part)

    def join(self, source: str, x: float, y: float, end: float) -> None:
        """Draw a line from a result to ``x``, along ``y`` and down to ``end``."""
        self.joins.append((source, x, y, end))

    def draw_joins(self, side: float) -> None:
        """The lines from results to where paths begin, at the left of ``side``."""
        joins = [(*self.ends[source], *to) for source, *to in self.joins if source in self.ends]
        lanes: list[list[tuple[float, float]]] = []
        for x, y, to, level, end in sorted(joins, key=lambda join: join[3] - join[1]):
            free = (
                lane for lane in lanes if all(level < other or last < y for other, last in lane)
            )
            lane = next(free, None)
            if lane is None:
                lanes.append(lane := [])
            lane.append((y, level))
            at = side - LANE * (lanes.index(lane) + 0.5)
            d = f"M{_n(x)} {_n(y + 2)}H{_n(at)}V{_n(level)}H{_n(to)}V{_n(end)}"
            self.add(f'<path d="{d}" fill="none" stroke="{LINE}"/>')


def draw(network: Network, parts: Sequence[Part]) -> str:
    """The figure of a network with its outline, as SVG."""
    several = len(network.outputs) > 1
    outputs = frozenset(output.name for output in network.outputs if several)
    stack = _Layout(outputs).stack(parts)
    if stack.height > TALL:
        stack = _Layout(outputs, is_folded=True).stack(parts)
    lanes = sum(isinstance(part, Start) for part in parts) + sum(
        path.source is not None for bracket in _brackets(parts) for path in bracket.paths
    )
    side = max(0.0, stack.left + 10 - 142) + (LANE * lanes + 5 if lanes else 0)
    beyond = max(0.0, stack.right + 14 - 150)
    axis, width = AXIS + side, WIDTH + side + beyond
    if several:
        width += 45
    image = network.input
    entry = MARGIN + 22
    page = _Page(
        [
            _rect(axis, 150, MARGIN, 22, PLAIN, 11),
            _text(axis, MARGIN + 15, f"input {image.height} × {image.width} {image.color}"),
        ],
        {IMAGE: (axis, float(entry))},
        outputs,
    )
    stack.draw(page, axis, entry + 10.0, entry, None, axis + 150 + beyond)
    tops = stack.tops(entry + 10.0)
    page.draw_joins(axis - max(142.0, stack.left + 10))
    y = tops[-1] + stack.boxes[-1].full_height
    page.parts += _sizes(stack.boxes, tops, axis - 142 - side)
    name = _clipped(network.name, 48)
    page.parts.append(_text(axis, y + 40, name, 14, more=' font-weight="bold"'))
    page.parts.append(_text(axis, y + 59, _caption(network), 11.5, GREY))
    return _document(network, width, y + 59 + MARGIN, page.parts)


@dataclass(frozen=True)
class _Layout:
    """How the parts of a net are drawn."""

    outputs: frozenset[str]
    """Names of several results, which are never drawn as one."""

    is_folded: bool = False
    """Whether what repeats is drawn once."""

    def stack(self, parts: Sequence[Part], *, is_inner: bool = False) -> _Stack:
        """The drawing of a path."""
        boxes: list[_Box] = []
        for _, run in groupby(_units(parts), key=self._key):
            units = list(run)
            brackets = [unit for unit in units if isinstance(unit, Bracket)]
            layers = [unit for unit in units if isinstance(unit, tuple)]
            if self.is_folded and len(brackets) >= 2:
                boxes.append(self._fork(brackets, is_inner=is_inner))
            elif self.is_folded and len(layers) >= 3:
                for alike in zip(*layers, strict=True):
                    names = frozenset(leaf.layer.name for leaf in alike)
                    boxes.append(_Bar(alike[0], alike[-1], len(alike), is_inner, names))
            else:
                for unit in units:
                    boxes += self._alone(unit, is_inner=is_inner)
        return _Stack(tuple(boxes))

    def _alone(self, unit: "_Unit", *, is_inner: bool) -> Sequence[_Box]:
        if isinstance(unit, Start):
            return [_Origin(unit.source)]
        if isinstance(unit, tuple):
            return [_Bar(leaf, leaf, 1, is_inner, frozenset({leaf.layer.name})) for leaf in unit]
        path = unit.paths[0]
        if unit.join is None and (is_inner or not _has_join(path.parts)):
            return self._branch(path, is_inner=is_inner, has_source=True).boxes
        return [self._fork([unit], is_inner=is_inner)]

    def _fork(self, alike: Sequence[Bracket], *, is_inner: bool) -> _Fork:
        first, *others = alike
        names = _names(alike) | {leaf.layer.name for leaf in leaves(others)}
        has_source = first.join is None
        stacks = [self._branch(path, is_inner=True, has_source=has_source) for path in first.paths]
        return _Fork(
            first,
            alike[-1],
            tuple(stacks),
            len(alike),
            is_framed=not is_inner or len(alike) > 1,
            is_inner=is_inner,
            names=frozenset(names),
        )

    def _branch(self, path: Path, *, is_inner: bool, has_source: bool) -> _Stack:
        stack = self.stack(path.parts, is_inner=is_inner)
        if path.source is None or not has_source:
            return stack
        return _Stack((_Origin(path.source), *stack.boxes))

    def _key(self, unit: "_Unit") -> object:
        """What is equal for units that may be drawn once."""
        if isinstance(unit, Start):
            return unit
        if isinstance(unit, Bracket):
            names = {*_names([unit]), *_inside([unit])}
            return (_form(unit), names & self.outputs)
        names = {leaf.layer.name for leaf in unit}
        return ([(leaf.layer.op, leaf.layer.type) for leaf in unit], names & self.outputs)


_Unit = tuple[Leaf, ...] | Start | Bracket


def _inside(parts: Sequence[Part]) -> list[str]:
    """The names of results in brackets, and of the brackets."""
    layers = [leaf.layer.name for leaf in leaves(parts)]
    return [*layers, *(name for one in _brackets(parts) for name in one.names)]


def _names(brackets: Sequence[Bracket]) -> set[str]:
    """What the results of brackets are called."""
    joints = {one.joint.name for one in brackets if one.joint is not None}
    return joints | {name for one in brackets for name in one.names}


def _units(parts: Sequence[Part]) -> list[_Unit]:
    """The parts that are drawn; a layer takes its BN or LRN along."""
    units: list[_Unit] = []
    for part in parts:
        if not isinstance(part, Leaf):
            units.append(part)
        elif not part.layer.op.is_implied:
            follows = part.layer.op.keyword in ("BN", "LRN")
            if follows and units and isinstance(units[-1], tuple):
                units[-1] += (part,)
            else:
                units.append((part,))
    return units


def _form(part: Part) -> object:
    """What is drawn of a part: the channels of a join and of a BN are not."""
    if isinstance(part, Leaf):
        ops = [layer.op for layer in part.layers]
        return (part.text, ops, part.layer.type.shape[1:])
    if isinstance(part, Start):
        return part
    paths = [(path.source, [_form(one) for one in path.parts]) for path in part.paths]
    after = [layer.op for layer in part.after]
    return (part.join, paths, after)


def _brackets(parts: Sequence[Part]) -> Iterator[Bracket]:
    """All brackets, those in brackets too."""
    for part in parts:
        if isinstance(part, Bracket):
            yield part
            for path in part.paths:
                yield from _brackets(path.parts)


def _has_join(parts: Sequence[Part]) -> bool:
    return any(bracket.join is not None for bracket in _brackets(parts))


def _sizes(boxes: Sequence[_Box], tops: Sequence[float], x: float) -> list[str]:
    """The resolutions at the left, each beside the boxes that have it."""
    parts: list[str] = []
    placed = zip(boxes, tops, strict=True)
    for size, run in groupby(placed, key=lambda pair: pair[0].size):
        group = list(run)
        last, last_top = group[-1]
        top, bottom = group[0][1], last_top + last.full_height
        baseline = (top + bottom) / 2 + 3.8
        if size:
            parts.append(_line(x, top + 1, bottom - 1))
            parts.append(_text(x - 10, baseline, size, 11, more=' text-anchor="end"'))
    return parts


def _size(layer: Layer) -> str:
    if not layer.type.is_map:
        return ""
    rows, columns = layer.type.size
    return f"{rows} × {columns}"


def _from_to(first: str, last: str, times: int) -> str:
    """The name, or the names of the first and the last."""
    if times == 1:
        return _clipped(first, 21)
    return f"{_clipped(first, 9)} … {_clipped(last, 9)}"


def _caption(network: Network) -> str:
    macs = sum(layer.op.macs(network.types_of(layer), layer.type) for layer in network.layers)
    number = len(network.weight_layers)
    layers = f"{number} weight layer{'' if number == 1 else 's'}"
    return f"{layers} · {_rounded(network.parameters)} parameters · {_rounded(macs)} MACs"


def _rounded(number: int) -> str:
    """``138M``, as Table 2 of the paper has it, with at least two digits."""
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:.{1 if number < 100 * unit else 0}f}{letter}"
    return str(number)


def _rect(
    x: float, width: float, y: float, height: float, paint: tuple[str, str], radius: float
) -> str:
    fill, stroke = paint
    return (
        f'<rect x="{_n(x - width / 2)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
        f'rx="{_n(radius)}" fill="{fill}" stroke="{stroke}"/>'
    )


def _text(x: float, y: float, text: str, size: float = 11, color: str = INK, more: str = "") -> str:
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" fill="{color}"{more}>'
        f"{escape(text)}</text>"
    )


def _line(x: float, top: float, bottom: float) -> str:
    return f'<path d="M{_n(x)} {_n(top)}V{_n(bottom)}" stroke="{LINE}"/>'


def _level(left: float, right: float, y: float) -> str:
    return f'<path d="M{_n(left)} {_n(y)}H{_n(right)}" stroke="{LINE}"/>'


def _plus(x: float, y: float) -> str:
    fill, stroke = PLAIN
    size = RADIUS - 3.5
    d = f"M{_n(x - size)} {_n(y)}h{_n(2 * size)}M{_n(x)} {_n(y - size)}v{_n(2 * size)}"
    return (
        f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{RADIUS}" fill="{fill}" stroke="{stroke}"/>'
        f'<path d="{d}" stroke="{INK}"/>'
    )


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _text_width(text: str, size: float) -> float:
    """A guess: no font is at hand, and letters are about this wide."""
    return 0.55 * size * len(text)


def _document(network: Network, width: float, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    name = escape(network.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'width="{_n(width)}" height="{_n(height)}" font-family="{FONT}" text-anchor="middle" '
        f'role="img">\n<title>{name}</title>\n'
        f'<rect width="{_n(width)}" height="{_n(height)}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
