"""A network as a figure: its column of Table 1, drawn.

A bar a layer. Its width follows the logarithm of the channels, its height that of the resolution,
its colour the kind of layer. What is implied, ReLU for instance, is left out, as in the paper.
The result is one SVG file without scripts, fonts or images of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, pairwise
from math import log2

from vggspec.compiler.ir import Layer, Network

WIDTH = 520
AXIS = 236
MARGIN = 24
TALL = 800
"""Above this height, layers that repeat are drawn once, with how often they occur."""

FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
INK, GREY, LINE = "#1f2933", "#75818d", "#c5ccd3"

#: Fill and outline of each kind of layer.
BLUE, ORANGE, RED, GREEN, PLAIN = (
    ("#dce8f6", "#6c97c8"),
    ("#fae6d0", "#d39a57"),
    ("#e9b4b0", "#c9716b"),
    ("#c3e2cc", "#6aa67c"),
    ("#ffffff", "#8a96a2"),
)
PAINTS = {
    "conv": BLUE,
    "FC": ORANGE,
    "maxpool": RED,
    "avgpool": RED,
    "gap": RED,
    "LRN": GREEN,
    "BN": GREEN,
}
POOLS = ("maxpool", "avgpool", "gap")
THIN = (*POOLS, "LRN", "BN")


@dataclass(frozen=True, slots=True)
class _Bar:
    """The drawing of a layer, or of several equal ones."""

    layer: Layer
    last: Layer
    times: int = 1

    @property
    def keyword(self) -> str:
        return self.layer.op.keyword

    @property
    def is_thin(self) -> bool:
        return self.keyword in THIN

    @property
    def width(self) -> float:
        return 48 + 17 * log2(min(self.layer.type.channels, 8192) + 1)

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
        if not self.layer.type.is_map or self.keyword in POOLS:
            return ""
        rows, columns = self.layer.type.size
        return f"{rows} × {columns}"

    @property
    def label(self) -> str:
        """The layer as written, without its options where they do not fit."""
        text = self.layer.op.write()
        if _text_width(text, 11) > self.width - 12:
            text = text.partition("(")[0]
        return f"{text} × {self.times}" if self.times > 1 else text

    @property
    def name(self) -> str:
        if self.times == 1:
            return _clipped(self.layer.name, 21)
        return f"{_clipped(self.layer.name, 9)} … {_clipped(self.last.name, 9)}"

    def gap(self, above: "_Bar") -> float:
        """Space to the bar above: little within a block, more around pools."""
        if POOLS.count(self.keyword) + POOLS.count(above.keyword):
            return 9
        return 3 if self.is_thin else 5


def draw(network: Network) -> str:
    """The figure of a network, as SVG."""
    layers = [layer for layer in network.layers if not layer.op.is_implied]
    bars = [_Bar(layer, layer) for layer in layers]
    if _height(bars) > TALL:
        bars = _folded(layers)
    image = network.input
    entry = MARGIN + 22
    y = entry + 10.0
    tops: list[float] = []
    for i, bar in enumerate(bars):
        y += bar.gap(bars[i - 1]) if i else 0
        tops.append(y)
        y += bar.height + bar.depth
    parts = [
        _rect(150, MARGIN, 22, PLAIN, 11),
        _text(AXIS, MARGIN + 15, f"input {image.height} × {image.width} {image.color}", 11),
        _line(AXIS, entry, tops[-1]),
    ]
    for bar, top in zip(bars, tops, strict=True):
        parts += _drawn(bar, top)
    parts += _sizes(bars, tops)
    name = _clipped(network.name, 48)
    parts.append(_text(AXIS, y + 40, name, 14, more=' font-weight="bold"'))
    parts.append(_text(AXIS, y + 59, _caption(network), 11.5, GREY))
    return _document(network, y + 59 + MARGIN, parts)


def _height(bars: Sequence[_Bar]) -> float:
    gaps = sum(bar.gap(above) for above, bar in pairwise(bars))
    return gaps + sum(bar.height for bar in bars)


def _folded(layers: Sequence[Layer]) -> list[_Bar]:
    """Bars with three or more repetitions in one; a layer takes its BN or LRN along."""
    groups: list[list[Layer]] = []
    for layer in layers:
        if groups and layer.op.keyword in ("BN", "LRN"):
            groups[-1].append(layer)
        else:
            groups.append([layer])
    bars: list[_Bar] = []
    for _, run in groupby(groups, key=lambda group: [(one.op, one.type) for one in group]):
        alike = list(run)
        if len(alike) >= 3:
            bars += (
                _Bar(first, last, len(alike))
                for first, last in zip(alike[0], alike[-1], strict=True)
            )
        else:
            bars += (_Bar(layer, layer) for group in alike for layer in group)
    return bars


def _drawn(bar: _Bar, y: float) -> list[str]:
    paint = PAINTS.get(bar.keyword, PLAIN)
    radius = 3.5 if bar.is_thin else bar.height / 2 if paint is PLAIN else 5
    parts = [
        _rect(bar.width - 2 * behind, y + behind, bar.height, paint, radius)
        for behind in ((6, 3, 0) if bar.depth else (0,))
    ]
    baseline = y + bar.height / 2 + 3.8
    if not bar.is_thin:
        parts.append(_text(AXIS, baseline, bar.label, 11))
    parts.append(_text(AXIS + 150, baseline, bar.name, 10.5, GREY, ' text-anchor="start"'))
    return parts


def _sizes(bars: Sequence[_Bar], tops: Sequence[float]) -> list[str]:
    """The resolutions at the left, each beside the bars that have it."""
    parts: list[str] = []
    placed = zip(bars, tops, strict=True)
    for size, run in groupby(placed, key=lambda pair: pair[0].size):
        group = list(run)
        last, last_top = group[-1]
        top, bottom = group[0][1], last_top + last.height + last.depth
        x, baseline = AXIS - 142, (top + bottom) / 2 + 3.8
        if size:
            parts.append(_line(x, top + 1, bottom - 1))
            parts.append(_text(x - 10, baseline, size, 11, more=' text-anchor="end"'))
    return parts


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


def _rect(width: float, y: float, height: float, paint: tuple[str, str], radius: float) -> str:
    fill, stroke = paint
    return (
        f'<rect x="{_n(AXIS - width / 2)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" '
        f'rx="{_n(radius)}" fill="{fill}" stroke="{stroke}"/>'
    )


def _text(x: float, y: float, text: str, size: float, color: str = INK, more: str = "") -> str:
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{size}" fill="{color}"{more}>'
        f"{escape(text)}</text>"
    )


def _line(x: float, top: float, bottom: float) -> str:
    return f'<path d="M{_n(x)} {_n(top)}V{_n(bottom)}" stroke="{LINE}"/>'


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _text_width(text: str, size: float) -> float:
    """A guess: no font is at hand, and letters are about this wide."""
    return 0.55 * size * len(text)


def _document(network: Network, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    name = escape(network.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_n(height)}" '
        f'width="{WIDTH}" height="{_n(height)}" font-family="{FONT}" text-anchor="middle" '
        f'role="img">\n<title>{name}</title>\n'
        f'<rect width="{WIDTH}" height="{_n(height)}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )
