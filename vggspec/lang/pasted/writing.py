"""Nets of a pasted table as the text of a spec, and where each part of it was pasted."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from vggspec.base.diagnostic import Report
from vggspec.base.source import Source, Span
from vggspec.lang.pasted.cells import Bracket, Image, Item, Layer, Statement
from vggspec.lang.pasted.nets import Line, Nets


@dataclass(slots=True)
class Written:
    """The text of a spec while it is written; each part knows its place in the pasted text."""

    parts: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    places: list[Span] = field(default_factory=list)
    length: int = 0

    def add(self, text: str, place: Span | None = None) -> None:
        """Text that stands for what was pasted at ``place``."""
        if place is not None:
            self.starts.append(self.length)
            self.places.append(place)
        self.parts.append(text)
        self.length += len(text)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)

    def where(self, span: Span) -> Span:
        """Where the text at ``span`` was pasted."""
        at = bisect_right(self.starts, span.start)
        return self.places[max(at - 1, 0)] if self.places else Span(0, 0)

    def moved(self, found: Report, source: Source) -> Report:
        """The report of a mistake in the spec, at its place in the pasted text."""
        if found.span is None:
            return found
        others = tuple(replace(one, span=self.where(one.span)) for one in found.others)
        return replace(found, source=source, span=self.where(found.span), others=others)


def write(found: Nets) -> Written:
    """The spec: a table, or a column where there is one net without names and sizes of rows."""
    out = Written()
    if len(found.nets) == 1 and not any(line.name or line.output for line in found.lines):
        _column(found, out)
    else:
        _table(found, out)
    return out


def _column(found: Nets, out: Written) -> None:
    (net,) = found.nets
    if net.name is not None:
        out.add(f"net {net.name}\n", net.span)
    claims = list(net.claims)
    images: list[Image] = []
    layers: list[Line] = []
    for line in found.lines:
        items: list[Item] = []
        for item in line.cells[0]:
            match item:
                case Statement():
                    claims.append(item)
                case Image():
                    images.append(item)
                case _:
                    items.append(item)
        if items:
            layers.append(replace(line, cells=(tuple(items),)))
    for image in images:
        out.add(image.written(), image.span)
        out.add("\n")
    if net.name is not None or images:
        out.add("\n")
    for line in layers:
        _items(line.cells[0], out)
        out.add("\n")
    if claims:
        out.add("\n")
    for claim in claims:
        out.add(claim.written(), claim.span)
        out.add("\n")


def _table(found: Nets, out: Written) -> None:
    has_name = any(line.name for line in found.lines)
    has_output = any(line.output for line in found.lines)
    heads = ["name"] * has_name + ["output"] * has_output
    out.add("|")
    for head in heads:
        out.add(f" {head} |")
    for net in found.nets:
        out.add(" ")
        out.add(net.name or "", net.span)
        out.add(" |")
    out.add(f"\n|{'---|' * (len(heads) + len(found.nets))}\n")
    most = max((len(net.claims) for net in found.nets), default=0)
    for i in range(most):
        cells: list[tuple[Item, ...]] = [net.claims[i : i + 1] for net in found.nets]
        _row(Line(tuple(cells), found.nets[0].span), out, heads)
    for line in found.lines:
        for row in _apart(line):
            _row(row, out, heads)


def _apart(line: Line) -> Sequence[Line]:
    """A row for the layers and one for each claim or input, which have a cell of their own."""
    extra: list[Line] = []
    for wanted in (Image, Statement):
        ones = [tuple(one for one in cell if isinstance(one, wanted)) for cell in line.cells]
        rows = range(max(map(len, ones)))
        extra += [Line(tuple(cell[i : i + 1] for cell in ones), line.span) for i in rows]
    layers = [tuple(one for one in cell if isinstance(one, Layer | Bracket)) for cell in line.cells]
    if any(layers):
        return [*extra, replace(line, cells=tuple(layers))]
    return extra


def _row(line: Line, out: Written, heads: Sequence[str]) -> None:
    out.add("|")
    for head in heads:
        out.add(" ")
        out.add(line.name if head == "name" else line.output, line.span)
        out.add(" |")
    for cell in line.cells:
        out.add(" ")
        _items(cell, out)
        out.add(" |")
    out.add("\n")


def _items(items: Sequence[Item], out: Written) -> None:
    is_first = True
    for bold, group in groupby(items, key=lambda item: getattr(item, "bold", False)):
        if not is_first:
            out.add(" ")
        out.add("**" if bold else "")
        for i, item in enumerate(group):
            if i:
                out.add(" ")
            out.add(item.written(), item.span)
        out.add("**" if bold else "")
        is_first = False
