"""What the columns of a pasted table are: nets, names of rows, sizes; found in its head."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vggspec.base.catalogue import pasting
from vggspec.base.source import Span
from vggspec.lang.assembly import NAME
from vggspec.lang.pasted.cells import Statement, read_cell
from vggspec.lang.pasted.grid import Cell, Desk, Grid, Row
from vggspec.lang.pasted.text import Text, joined, look_alike

Role = Literal["net", "name", "output", "label", "none"]

_NAMES = re.compile(
    r"(?:layer|stage|block|group|module|row)s?(?:\s*names?)?|names?|layer\s*names?", re.IGNORECASE
)
_OUTPUTS = re.compile(
    r"(?:output|feature\s*maps?|map)(?:\s*(?:map|feature\s*map))?(?:\s*(?:size|shape|dim\w*))?s?",
    re.IGNORECASE,
)
_PROPERTIES = re.compile(
    r"(?:layer\s+)?(?:types?|kinds?|operators?|patch(?:\s*size)?|filters?|kernels?|channels?|strides?"
    r"|pad(?:ding)?|params?|parameters|activations?|ops|input(?:\s*(?:size|shape))?|sizes?"
    r"|(?:filter|kernel|window)\s*(?:size|shape)s?|type\s*/\s*stride|patch\s*size\s*/\s*stride"
    r"|#\s*\w[\w ]{0,20}|number\s+of\s+\w+|neurons|units)\W*(?:/\s*\w+)?",
    re.IGNORECASE,
)
_HALF_CLAIM = re.compile(r"[0-9]{1,4}\s+weight(?:\s+layers?)?", re.IGNORECASE)
_DEPTH = re.compile(r"([0-9]{1,4})[\s-]layers?", re.IGNORECASE)
_MAX_NAME = 60
#: What no name and no title of a table has in it.
_LIKE_LAYERS = re.compile(
    r"conv[\s-]*[0-9]|[0-9]\s*[x×*]\s*[0-9]+(?![0-9d])|[0-9]\s*[x×*]\s*conv|pool|soft-?max|dropout",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Net:
    """A column with layers."""

    name: str | None
    column: int
    span: Span
    claims: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The columns of a table, and its rows below their names."""

    nets: tuple[Net, ...]
    roles: tuple[Role, ...]
    rows: tuple[Row, ...]

    def columns(self, role: Role) -> list[int]:
        """The columns of that role."""
        return [i for i, one in enumerate(self.roles) if one == role]


def read_head(grid: Grid, desk: Desk) -> Head:
    """The names above the columns; what is above them is dropped with a note."""
    rows = grid.rows
    first = next((i for i, row in enumerate(rows) if _is_content(row)), len(rows))
    if grid.columns == 1:
        return _of_a_list(rows, first, desk)
    head = next((i for i in reversed(range(first)) if len(rows[i].cells) > 1), None)
    if head is None:
        start = rows[first].span if first < len(rows) else rows[0].span
        desk.report(pasting.NoHead(), start)
        return Head((), (), ())
    for row in (*rows[:head], *rows[head + 1 : first]):
        desk.notes.add(f"`{_shown(row)}` is not read", row.span)
    above: dict[int, Cell] = {}
    for row in rows[: head + 1]:
        for cell in row.cells:
            if cell.width == 1 or row is rows[head]:
                above[cell.first] = cell
    return _roles(grid, rows[head], above, rows[first:], desk)


def _of_a_list(rows: Sequence[Row], first: int, desk: Desk) -> Head:
    """One column: the line above the layers names the net, unless it is a sentence."""
    name: Net = Net(None, 0, Span(0, 0), ())
    titles = list(rows[:first])
    if titles:
        text = titles[-1].cells[0].text
        if len(text.text) <= _MAX_NAME and len(text.text.split("\n")[0].split()) <= 3:
            name = _net(titles.pop().cells[0], desk)
    for row in titles:
        desk.notes.add(f"`{_shown(row)}` is not read", row.span)
    return Head((name,), ("net",), tuple(rows[first:]))


def _is_content(row: Row) -> bool:
    for cell in row.cells:
        if _HALF_CLAIM.fullmatch(cell.text.text) or _LIKE_LAYERS.search(cell.text.text):
            return True  # even if it is not understood: then it is reported, not dropped
        read = read_cell(cell.text)
        if read.items and not read.troubles:
            return True
        if any(isinstance(one.what, pasting.MissingNumber) for one in read.troubles):
            return True
    return False


def _shown(row: Row) -> str:
    text = " ".join(" ".join(cell.text.text.split()) for cell in row.cells)
    return text if len(text) <= 50 else f"{text[:50]}…"


def _roles(grid: Grid, row: Row, above: dict[int, Cell], body: Sequence[Row], desk: Desk) -> Head:
    roles: list[Role] = []
    nets: list[Net] = []
    columns = max(cell.first + cell.width for cell in row.cells)
    if columns < grid.columns:
        body = [_shifted(one, columns, desk) for one in body]
    filled = {column for one in body for cell in one.cells for column in cell.columns}
    for column in range(columns):
        cell = above.get(column)
        role: Role = "net"
        if cell is None or not cell.text.text:
            if column not in filled:
                role = "none"
            elif not nets and not _has_layers(body, column):
                role = "label"
            else:
                where = next(c.span for one in body for c in one.cells if column in c.columns)
                desk.report(pasting.NoHead(), where)
                role = "none"
        else:
            text = " ".join(cell.text.text.split())
            if _NAMES.fullmatch(text) and "name" not in roles:
                role = "name"
            elif _OUTPUTS.fullmatch(text) and "output" not in roles:
                role = "output"
            elif _PROPERTIES.fullmatch(text):
                desk.report(pasting.ColumnOfNumbers(head=text), cell.span)
                role = "none"
            else:
                nets.append(_net(cell, desk))
        roles.append(role)
    _check_names(nets, desk)
    if not nets and not len(desk.reports):
        desk.report(pasting.NoHead(), row.span)
    return Head(tuple(nets), tuple(roles), tuple(body))


def _has_layers(rows: Sequence[Row], column: int) -> bool:
    for row in rows:
        for cell in row.cells:
            if cell.first == column and cell.width == 1:
                read = read_cell(cell.text)
                if read.items and not read.troubles:
                    return True
    return False


_LABELLED = re.compile(
    r".{0,40}\b(?:param(?:eter)?s?|flops|macs|m(?:ult-?)?-?adds?|top-?[15]|error|accuracy)\b.{0,40}",
    re.IGNORECASE,
)


def _shifted(row: Row, columns: int, desk: Desk) -> Row:
    """A row with a label before its cells, where the table has no column for labels."""
    last = max((cell.first + cell.width for cell in row.cells), default=0)
    if last <= columns:
        return row
    first = row.cells[0]
    if last == columns + 1 and first.first == 0 and _LABELLED.fullmatch(first.text.text):
        moved = (Cell(c.text, c.span, c.first - 1, c.width) for c in row.cells[1:])
        return Row((first, *moved), row.span, columns)
    what = pasting.TooMuch(found=len(row.cells), columns=columns)
    desk.report(what, row.span)
    return Row((), row.span, columns)


def _line(text: Text, number: int) -> Text:
    start = 0
    for i, line in enumerate(text.text.split("\n")):
        if i == number:
            return text.part(start, start + len(line)).stripped()
        start += len(line) + 1
    return text.part(0, 0)


def _net(cell: Cell, desk: Desk) -> Net:
    """The net that a cell of the head names, and what is claimed below its name.

    Its name is None after a report, so that its layers are checked as well.
    """
    name = _line(cell.text, 0)
    lines = cell.text.text.count("\n") + 1
    claims: list[Statement] = []
    if lines > 1:
        rest = joined((_line(cell.text, i) for i in range(1, lines)), " ")
        read = read_cell(rest)
        found = [item for item in read.items if isinstance(item, Statement)]
        if read.troubles or len(found) < len(read.items):
            desk.notes.add(f"`{rest.text}` in the head is not read", cell.span)
        else:
            claims += found
    if any(cell.text.bold):
        desk.notes.add("bold marks of names are dropped", cell.span)
    text = name.text.strip("*†‡ ")
    foreign = look_alike(text)
    if foreign is not None:
        at, letter = foreign
        at += name.text.index(text)
        desk.report(pasting.NoHead(name=text, letter=letter), name.span(at, at + 1))
        return Net(None, cell.first, cell.span, ())
    depth = _DEPTH.fullmatch(text)
    if depth is not None:
        span = name.span(0, len(name.text))
        claims.append(Statement(depth[1], "weight layers", span))
        said = "`N-layer` is read as N weight layers, which is checked"
        desk.notes.add(said, cell.span)
    valid = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_MAX_NAME]
    has_prefix = bool(valid) and not valid[0].isalpha()
    if has_prefix:
        desk.notes.add("a name that begins with a digit gets `net-` in front of it", cell.span)
        valid = f"net-{valid}"
    if not NAME.fullmatch(valid):
        desk.report(pasting.NoHead(), cell.span)
        return Net(None, cell.first, cell.span, ())
    if valid != f"{'net-' * has_prefix}{name.text}":
        desk.notes.add(f"the net `{name.text}` is called `{valid}`", cell.span)
    return Net(valid, cell.first, cell.span, tuple(claims))


def _check_names(nets: Sequence[Net], desk: Desk) -> None:
    seen: set[str] = set()
    for net in nets:
        name = (net.name or "").casefold()
        if name and name in seen:
            desk.report(pasting.NoHead(name=net.name), net.span)
        seen.add(name)
