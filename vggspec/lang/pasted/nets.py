"""Rows of cells to the layers of nets: whose each cell is, and what the rows say besides layers."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vggspec.base.catalogue import pasting
from vggspec.base.source import Span
from vggspec.lang.pasted.cells import (
    SHARED,
    Bracket,
    Image,
    Item,
    Layer,
    Read,
    Statement,
    read_cell,
)
from vggspec.lang.pasted.grid import Cell, Desk, Grid, Row
from vggspec.lang.pasted.heads import Head, Net, read_head
from vggspec.lang.pasted.text import Text, joined

MAX_LINES_OF_A_BRACKET = 8

_PARAMETERS = re.compile(
    r"(?:number\s+of\s+|no\.?\s+of\s+|#\s*)?(?:learned\s+)?(?:param(?:eter)?s?|weights)\b\.?\s*(?P<unit>.*)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"(?P<number>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12}(?:\.[0-9]{1,6})?)\s*"
    r"(?P<unit>k|m|g|b|thousand|million|billion)?",
    re.IGNORECASE,
)
_NOT_READ = re.compile(
    r"(?:flops|macs|m(?:ult-?)?-?adds?|top-?\s*[15]|error|accuracy|memory|time|depth|speed|year"
    r"|receptive\s+field)\b.{0,60}",
    re.IGNORECASE,
)
_FOOTNOTE = re.compile(r"[†‡§¶*^]|(?:note|table|figure|fig\.|source)\b", re.IGNORECASE)
_HALF = re.compile(r"[0-9]{1,4}\s+weight", re.IGNORECASE)
_LAYERS = re.compile(r"layers?", re.IGNORECASE)
_OUTPUT = re.compile(r"([0-9]{1,6})\s*[x×]\s*([0-9]{1,6})(?:\s*[x×]\s*([0-9]{1,6}))?")
_TALL = "⎡⎢⎣⎤⎥⎦"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Line:
    """A row as it will be written."""

    cells: tuple[tuple[Item, ...], ...]
    """For each net; or one, for all."""

    span: Span
    name: str = ""
    output: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether all nets have the same."""
        return len(self.cells) == 1


@dataclass(frozen=True, slots=True)
class Nets:
    """The nets of a table, and its rows."""

    nets: tuple[Net, ...]
    lines: tuple[Line, ...]


def read_nets(grid: Grid, desk: Desk) -> Nets:
    """The nets of a table; mistakes are reported."""
    filled = [row for row in grid.rows if row.cells]
    if not filled:
        desk.report(pasting.NoTable(), Span(0, 0))
        return Nets((), ())
    grid = replace(grid, rows=tuple(_closed(filled)))
    head = read_head(grid, desk)
    if not head.nets:
        return Nets((), ())
    body = _Body(grid, head, desk)
    lines = body.lines()
    lines = _without_relu(lines, len(head.nets), desk)
    lines = _averages(lines, desk)
    lines = _sized(lines, desk)
    _tell_brackets(lines, desk)
    return Nets(head.nets, tuple(lines))


def _closed(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows where a bracket that is open at the end of one is closed in it."""
    i = 0
    while i < len(rows):
        row = rows[i]
        i += 1
        until = i + MAX_LINES_OF_A_BRACKET
        while any(map(_is_open, row.cells)) and i < min(len(rows), until):
            row = _merged(row, rows[i])
            i += 1
        yield replace(row, cells=tuple(replace(c, text=_flat(c.text)) for c in row.cells))


def _is_open(cell: Cell) -> bool:
    text = cell.text.text
    if "⎡" in text and "⎦" not in text:
        return True
    return text.count("[") > text.count("]")


def _merged(row: Row, other: Row) -> Row:
    below = {cell.first: cell for cell in other.cells}
    cells = []
    for cell in row.cells:
        more = below.pop(cell.first, None)
        if more is not None:
            cell = replace(
                cell, text=joined((cell.text, more.text), "\n"), span=cell.span.to(more.span)
            )
        cells.append(cell)
    cells = sorted((*cells, *below.values()), key=lambda cell: cell.first)
    return Row(
        tuple(cells), row.span.to(other.span), max(row.number_of_cells, other.number_of_cells)
    )


def _flat(text: Text) -> Text:
    """A bracket of three signs above each other as one; what is right of it comes after it."""
    if not any(char in text.text for char in _TALL):
        return text
    lefts = [i for i, char in enumerate(text.text) if char in "⎡⎢⎣"]
    rights = [i for i, char in enumerate(text.text) if char in "⎤⎥⎦"]
    if not lefts or not rights:
        return text
    inside: list[Text] = []
    after: list[Text] = []
    start = 0
    for line in text.text.split("\n"):
        part = text.part(start, start + len(line))
        start += len(line) + 1
        ends = [i for i, char in enumerate(part.text) if char in "⎤⎥⎦"]
        cut = ends[-1] + 1 if ends else len(part.text)
        inside.append(_without_tall(part.part(0, cut)))
        after.append(part.part(cut, len(part.text)).stripped())
    opening, closing = text.part(lefts[0], lefts[0] + 1), text.part(rights[-1], rights[-1] + 1)
    return joined(
        (
            replace(opening, text="["),
            joined(inside, "\n"),
            replace(closing, text="]"),
            joined(after, " "),
        ),
        " ",
    )


def _without_tall(text: Text) -> Text:
    return replace(
        text, text="".join(" " if char in _TALL else char for char in text.text)
    ).stripped()


class _Body:
    """The rows below the names."""

    def __init__(self, grid: Grid, head: Head, desk: Desk) -> None:
        self._grid = grid
        self._head = head
        self._desk = desk
        self._names = head.columns("name")
        self._outputs = head.columns("output")
        self._labels = head.columns("label")
        self._is_partial = any(map(self._leaves_nets_out, head.rows))

    def lines(self) -> list[Line]:
        lines: list[Line] = []
        rows = list(_stitched(self._head.rows, self._desk))
        while rows and self._is_footnote(rows[-1]):
            row = rows.pop()
            self._desk.notes.add("the footnote is not read", row.span)
        for row in rows:
            if self._desk.reports.is_full:
                break
            if not row.cells or self._is_labelled(row, lines):
                continue
            self._row(row, lines)
        return lines

    def _is_footnote(self, row: Row) -> bool:
        if len(row.cells) != 1:
            return False
        read = read_cell(row.cells[0].text)
        return bool(read.troubles) and _FOOTNOTE.match(row.cells[0].text.text) is not None

    def _nets_of(self, cell: Cell) -> list[int]:
        return [i for i, net in enumerate(self._head.nets) if net.column in cell.columns]

    def _leaves_nets_out(self, row: Row) -> bool:
        """Whether an empty cell of the row means that a net has nothing there."""
        number = len(self._head.nets)
        cells = [cell for cell in row.cells if self._nets_of(cell)]
        if len(cells) == 1 and cells[0].width == 1 and row.number_of_cells > 1:
            is_last = self._nets_of(cells[0]) == [number - 1]
            return is_last and not _is_shared(read_cell(cells[0].text)) and number > 1
        covered = {net for cell in cells for net in self._nets_of(cell)}
        return len(cells) > 1 and len(covered) < number

    def _is_labelled(self, row: Row, lines: list[Line]) -> bool:
        """Whether the row is one of claims or of what is no part of a net, by its first cell."""
        if len(row.cells) < 2:
            return False
        label = " ".join(row.cells[0].text.text.split())
        if _NOT_READ.fullmatch(label):
            self._desk.notes.add(f"the row `{label}` is not read", row.span)
            return True
        match = _PARAMETERS.fullmatch(label)
        if match is None:
            return False
        unit = _unit(match["unit"])
        cells: list[tuple[Item, ...]] = [()] * len(self._head.nets)
        for cell in row.cells[1:]:
            text = cell.text.text
            value = _VALUE.fullmatch(text)
            if value is None:
                read_cell(cell.text)
                self._desk.report(
                    pasting.NotALayer(found=text, column=self._column(cell)), cell.span
                )
                continue
            number = value["number"].replace(",", "")
            own = _unit(value["unit"] or "") or unit
            if not own and float(number) < 10_000:
                own = "M"
                self._desk.notes.add("numbers of parameters are read as millions", row.span)
            claim = Statement(f"{number}{own}", "parameters", cell.span)
            for net in self._nets_of(cell):
                cells[net] = (claim,)
        lines.append(Line(tuple(cells), row.span))
        return True

    def _column(self, cell: Cell) -> str | None:
        nets = self._nets_of(cell)
        return self._head.nets[nets[0]].name if len(nets) == 1 else None

    def _row(self, row: Row, lines: list[Line]) -> None:
        nets = self._head.nets
        name = output = ""
        is_alone = row.number_of_cells == 1 and len(row.cells) == 1
        cells: list[Cell] = []
        for cell in row.cells:
            if is_alone or self._nets_of(cell):
                cells.append(cell)
            elif cell.first in self._names:
                name = " ".join(cell.text.text.split())
            elif cell.first in self._outputs:
                output = self._size(cell)
            elif cell.first in self._labels:
                self._desk.notes.add("the first column is not read", cell.span)
            else:
                self._desk.report(pasting.NoHead(), cell.span)
        reads = [read_cell(cell.text) for cell in cells]
        reported = self._report_cut(cells, reads)
        for i, (cell, read) in enumerate(zip(cells, reads, strict=True)):
            if i not in reported:
                read.tell(cell.text, self._desk, None if is_alone else self._column(cell))
        if any(read.troubles for read in reads):
            return
        if not cells:
            if name or output:
                lines.append(Line(((),), row.span, name, output))
            return
        if len(cells) == 1 and self._is_for_all(cells[0], reads[0], row, is_alone=is_alone):
            lines.append(Line((reads[0].items,), row.span, name, output))
            return
        found: list[tuple[Item, ...]] = [()] * len(nets)
        for cell, read in zip(cells, reads, strict=True):
            for net in self._nets_of(cell):
                found[net] += read.items
        lines.append(Line(tuple(found), row.span, name, output))

    def _size(self, cell: Cell) -> str:
        match = _OUTPUT.fullmatch(cell.text.text)
        if match is None:
            self._desk.notes.add(f"the size `{cell.text.text}` is not read", cell.span)
            return ""
        return "x".join(number for number in match.groups() if number)

    def _is_for_all(self, cell: Cell, read: Read, row: Row, *, is_alone: bool) -> bool:
        """Whether the only cell of a row belongs to all nets; reports where that is not clear."""
        number = len(self._head.nets)
        if is_alone or number == 1:
            return True
        mine = self._nets_of(cell)
        shown = _short(cell.text.text)
        if cell.width > 1 or self._grid.is_exact:
            is_guess = not self._grid.is_exact and self._is_partial and not _is_shared(read)
            if is_guess:
                net = self._head.nets[mine[0]].name or ""
                self._desk.report(pasting.UnclearColumns(found=shown, net=net), cell.span)
            return len(mine) == number
        everyone = f"`{shown}` is alone in its row: read as a cell of all nets"
        if _is_shared(read):
            self._desk.notes.add(everyone, cell.span)
            return True
        net = self._head.nets[mine[0]].name or ""
        if mine == [number - 1]:
            said = f"`{shown}` is alone in its row, in the last column: read as a cell of {net}"
            self._desk.notes.add(said, cell.span)
            return False
        if self._is_partial:
            self._desk.report(pasting.UnclearColumns(found=shown, net=net), cell.span)
            return False
        self._desk.notes.add(everyone, cell.span)
        return True

    def _report_cut(self, cells: Sequence[Cell], reads: Sequence[Read]) -> set[int]:
        """Report neighbours that are one text, cut in two or more; returns which."""
        done: set[int] = set()
        if self._grid.is_exact or not any(read.troubles for read in reads):
            return done
        for i in range(len(cells)):
            if i in done:
                continue
            for j in range(min(len(cells), i + 8), i + 1, -1):
                run = cells[i:j]
                if not any(read.troubles for read in reads[i:j]) or any(
                    k in done for k in range(i, j)
                ):
                    continue
                if sum(len(cell.text.text) for cell in run) > 60:
                    continue
                texts = [" ".join(cell.text.text.split()) for cell in run]
                whole = next((t for t in ("".join(texts), " ".join(texts)) if _is_one(t)), None)
                if whole is None:
                    continue
                if whole.casefold().startswith("input"):  # its numbers are cut, too
                    run, j = cells[i:], len(cells)
                    whole = "".join(" ".join(cell.text.text.split()) for cell in run)
                what = pasting.CutCell(cells=len(run), together=whole)
                self._desk.report(what, run[0].span.to(run[-1].span))
                done.update(range(i, j))
                break
        return done


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:40]}…"


def _is_one(text: str) -> bool:
    """Whether a text says one thing, and says it well."""
    if not text[:1].isalnum() and text[:1] not in "[(":
        return False
    places = range(len(text))
    read = read_cell(Text(text, places, places, [False] * len(text)))
    return not read.troubles and len(read.items) == 1


def _is_shared(read: Read) -> bool:
    return all(
        isinstance(item, Image) or (isinstance(item, Layer) and item.kind in SHARED)
        for item in read.items
    )


def _unit(text: str) -> str:
    text = text.casefold()
    for sign, words in (("M", ("million", "10^6", "106")), ("K", ("thousand", "10^3"))):
        if any(word in text for word in words):
            return sign
    letter = re.search(r"(?<![a-z])([kmgb])(?![a-z])", text)
    return letter[1].upper() if letter else ""


def _stitched(rows: Sequence[Row], desk: Desk) -> Iterator[Row]:
    """Rows where ``11 weight`` and ``layers`` below it are one."""
    i = 0
    while i < len(rows):
        row = rows[i]
        i += 1
        if i < len(rows) and row.cells and len(row.cells) == len(rows[i].cells):
            halves = all(_HALF.fullmatch(cell.text.text) for cell in row.cells)
            if halves and all(_LAYERS.fullmatch(cell.text.text) for cell in rows[i].cells):
                text = joined((row.cells[0].text, rows[i].cells[0].text), " ").text
                desk.notes.add(f"`{text}` is read from two rows", row.span)
                cells = tuple(
                    replace(cell, text=joined((cell.text, more.text), " "))
                    for cell, more in zip(row.cells, rows[i].cells, strict=True)
                )
                row = replace(row, cells=cells)
                i += 1
        yield row


_Bound = Literal["[", "]"]


def _columns(lines: Sequence[Line], number: int) -> Iterator[list[Layer | _Bound]]:
    """The layers of each net, and where brackets begin and end."""
    for net in range(number):
        found: list[Layer | _Bound] = []
        for line in lines:
            for item in line.cells[0 if line.is_shared else net]:
                if isinstance(item, Layer):
                    found.append(item)
                elif isinstance(item, Bracket):
                    found += ["[", *item.layers, "]"]
        yield found


def _implies_relu(before: Sequence[Layer | _Bound]) -> bool:
    """Whether a ReLU is implied after these: after a conv or an FC layer, and after a BN of it.

    A bracket that ends in one has its ReLU inside, or after its sum. A BN after a bracket belongs
    to none.
    """
    kinds = [each.kind if isinstance(each, Layer) else each for each in before]
    skipped = 1 if kinds[-1:] in (["]"], ["BN"]) else 0
    found = before[-1 - skipped] if len(before) > skipped else None
    if not isinstance(found, Layer) or found.kind not in ("conv", "FC-"):
        return False
    return "linear" not in found.options


def _without_relu(lines: list[Line], number: int, desk: Desk) -> list[Line]:
    """ReLU is implied after a conv and an FC layer, except the last one."""
    kept: set[Span] = set()
    seen: set[Span] = set()
    for layers in _columns(lines, number):
        kinds = [layer.kind if isinstance(layer, Layer) else layer for layer in layers]
        weights = [i for i, kind in enumerate(kinds) if kind in ("conv", "FC-")]
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer) or layer.kind != "ReLU":
                continue
            seen.add(layer.span)
            is_last = not weights or i > weights[-1]
            # The one that is implied follows a BN.
            is_before_norm = kinds[i + 1 : i + 2] == ["BN"]
            if is_last or is_before_norm or not _implies_relu(layers[:i]):
                kept.add(layer.span)
                said = "a ReLU that is not implied is written as a layer"
                desk.notes.add(said, layer.span)
        if "ReLU" in kinds:
            for i in weights[:-1]:
                layer = layers[i]
                assert isinstance(layer, Layer)
                at = i + 1
                for skipped in ("BN", "]"):
                    at += kinds[at] == skipped
                if kinds[at] != "ReLU" and "linear" not in layer.options:
                    said = (
                        "no ReLU is written here, and one is implied: add `(linear)` if it is none"
                    )
                    desk.notes.add(said, layer.span)
    for span in seen - kept:
        desk.notes.add("a ReLU after a conv or FC layer is implied: not written", span)

    def change(item: Item) -> Item | None:
        if isinstance(item, Layer) and item.kind == "ReLU" and item.span not in kept:
            return None
        if isinstance(item, Bracket):
            inner = (one for one in item.layers if one.kind != "ReLU" or one.span in kept)
            return replace(item, layers=tuple(inner))
        return item

    return _changed(lines, change) if seen else lines


def _changed(lines: Iterable[Line], change: Callable[[Item], Item | None]) -> list[Line]:
    return [
        replace(
            line,
            cells=tuple(
                tuple(new for item in cell if (new := change(item)) is not None)
                for cell in line.cells
            ),
        )
        for line in lines
    ]


def _averages(lines: list[Line], desk: Desk) -> list[Line]:
    """An average pooling without a window: of the whole map before the last layer, else 2 × 2."""
    after: list[Item] = []
    found: list[Line] = []
    for line in reversed(lines):
        cells = []
        for cell in line.cells:
            items: list[Item] = []
            for i, item in enumerate(cell):
                if isinstance(item, Layer) and item.kind == "avgpool" and item.is_bare:
                    item = _average(item, (*cell[i + 1 :], *after), desk)
                items.append(item)
            cells.append(tuple(items))
        for cell in cells:
            after += cell
        found.append(replace(line, cells=tuple(cells)))
    return found[::-1]


def _average(layer: Layer, after: Sequence[Item], desk: Desk) -> Layer:
    layers = [item for item in after if not isinstance(item, Image | Statement)]
    is_last = all(
        isinstance(one, Layer) and one.kind in ("FC-", "soft-max", "dropout", "ReLU")
        for one in layers
    )
    if is_last and sum(isinstance(one, Layer) and one.kind == "FC-" for one in layers) <= 1:
        desk.notes.add("the average pooling is read as one over the whole map, `gap`", layer.span)
        return replace(layer, kind="gap")
    desk.notes.add("an average pooling without a window: 2 × 2 is taken", layer.span)
    return layer


def _groups(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Lines from one with a name or a size to the next."""
    group: list[Line] = []
    for line in lines:
        if group and (line.name or line.output):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _sized(lines: list[Line], desk: Desk) -> list[Line]:
    """Names and sizes at the rows to which they belong, and what follows from the sizes."""
    if not any(line.name or line.output for line in lines):
        return lines
    size: tuple[int, ...] | None = (224, 224)
    found: list[Line] = []
    for group in _groups(lines):
        images = [i for line in group for cell in line.cells for i in cell if isinstance(i, Image)]
        if images:
            size = (images[0].height, images[0].width)
        name, output = group[0].name, group[0].output
        group = [replace(line, name="", output="") for line in group if any(line.cells)]
        leaves = tuple(int(n) for n in output.split("x")[:2]) if output else None
        if size and leaves and group:
            group = _fitted(group, size, leaves, desk)
        if output:
            group = _with_output(group, output, desk)
        if name:
            group = _with_name(group, name, desk)
        found += group
        size = leaves
    return found


def _layers_of(line: Line) -> Iterator[Layer]:
    for cell in line.cells:
        for item in cell:
            if isinstance(item, Layer):
                yield item
            elif isinstance(item, Bracket):
                yield from item.layers


def _fitted(
    group: list[Line], enters: tuple[int, ...], leaves: tuple[int, ...], desk: Desk
) -> list[Line]:
    """Strides and padding that the table leaves out, from the sizes before and after."""
    layers = [layer for line in group for layer in _layers_of(line)]
    pools = [layer for layer in layers if layer.kind in ("maxpool", "avgpool")]
    strided = [layer for layer in layers if layer.stride not in (None, 1) or layer in pools]
    place = group[0].span
    if len(set(map(Layer.written, strided))) == 1 and len(pools) == len(strided):
        pool = pools[0]
        window, stride = int(pool.numbers or 2), pool.stride or 2
        plain = tuple((n - window) // stride + 1 for n in enters)
        padded = tuple((n + 2 * (window // 2) - window) // stride + 1 for n in enters)
        if plain != leaves and padded == leaves and not pool.options:
            pad = f"pad {window // 2}"

            def padding(item: Item) -> Item:
                if isinstance(item, Layer) and item in pools:
                    return replace(item, options=(pad,))
                return item

            desk.notes.add(f"`{pad}` of the pooling follows from the output size", pool.span)
            return _changed(group, padding)
        return group
    if strided or tuple(2 * n for n in leaves) != enters:
        return group
    brackets = [i for line in group for cell in line.cells for i in cell if isinstance(i, Bracket)]
    if not brackets:
        return group
    done: list[str] = []

    def striding(item: Item) -> Item:
        if not isinstance(item, Bracket):
            return item
        convs = [i for i, layer in enumerate(item.layers) if layer.kind == "conv"]
        wide = [i for i in convs if not item.layers[i].numbers.startswith("1-")]
        if not convs:
            return item
        at = (wide or convs)[0]
        layer = item.layers[at]
        options = ("once", *layer.options) if item.repeat is not None else layer.options
        changed = replace(layer, stride=2, options=options)
        done.append(changed.written())
        return replace(item, layers=(*item.layers[:at], changed, *item.layers[at + 1 :]))

    group = [_with_first(line, striding) for line in group]
    said = "stride 2 follows from the output size; its place is guessed: the first 3 × 3 conv"
    desk.notes.add(said, place)
    return group


def _with_first(line: Line, change: Callable[[Item], Item]) -> Line:
    """The line with the first bracket of each cell changed."""
    cells = []
    for cell in line.cells:
        at = next((i for i, item in enumerate(cell) if isinstance(item, Bracket)), None)
        if at is not None:
            cell = (*cell[:at], change(cell[at]), *cell[at + 1 :])
        cells.append(cell)
    return replace(line, cells=tuple(cells))


def _with_output(group: list[Line], output: str, desk: Desk) -> list[Line]:
    """The size at the last row that still is a map."""
    if not group:
        return group
    *before, last = group
    flat = [_first_flat(cell) for cell in last.cells]
    if all(at is None for at in flat):
        return [*before, replace(last, output=output)]
    if last.is_shared and flat[0]:
        at = flat[0]
        (cell,) = last.cells
        return [
            *before,
            replace(last, cells=(cell[:at],), output=output),
            replace(last, cells=(cell[at:],)),
        ]
    desk.notes.add(f"the size `{output}` after an FC layer is not written", last.span)
    return group


def _first_flat(cell: Sequence[Item]) -> int | None:
    kinds = [item.kind if isinstance(item, Layer) else "" for item in cell]
    return next((i for i, kind in enumerate(kinds) if kind in ("FC-", "soft-max")), None)


def _with_name(group: list[Line], name: str, desk: Desk) -> list[Line]:
    """The name at the only row of one layer or bracket that it can mean."""
    valid = name.removesuffix("_x")
    with_brackets = [i for i, line in enumerate(group) if _single(line, Bracket)]
    single = with_brackets or [i for i, line in enumerate(group) if _single(line, Layer)]
    place = group[0].span if group else None
    if len(single) != 1 or (len(group) > 1 and not with_brackets) or not _NAME.fullmatch(valid):
        desk.notes.add(f"the name `{name}` is not written", place)
        return group
    if valid != name:
        desk.notes.add("`_x` at the end of the name of a row is left out", place)
    at = single[0]
    return [*group[:at], replace(group[at], name=valid), *group[at + 1 :]]


def _single(line: Line, kind: type[Item]) -> bool:
    """Whether each net has one such item in the line, which a name can be given to."""
    return all(
        len(cell) == 1
        and isinstance(cell[0], kind)
        and (isinstance(cell[0], Bracket) or getattr(cell[0], "repeat", None) is None)
        for cell in line.cells
    )


def _tell_brackets(lines: Sequence[Line], desk: Desk) -> None:
    for line in lines:
        for cell in line.cells:
            for item in cell:
                if isinstance(item, Bracket):
                    said = "no shortcut is written: add `+ shortcut` to the bracket if there is one"
                    desk.notes.add(said, item.span)
