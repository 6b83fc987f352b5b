"""``<table>`` of a web page."""

import re
from html.parser import HTMLParser

from vggspec.base.catalogue import pasting
from vggspec.base.source import Span
from vggspec.lang.pasted.cells import Layer, read_cell
from vggspec.lang.pasted.grid import MAX_COLUMNS, Desk, Grid, Row, place
from vggspec.lang.pasted.text import Building, Text, entity

MAX_TAGS = 1 << 14  # html.parser looks for the end of each anew

_ENTITY = re.compile(r"&#?[A-Za-z0-9]{1,32};?")
_Cell = tuple[Text, Span, int, int]  # with its columns and its rows


def has_table(text: str) -> bool:
    """Whether the text is a web page with a table, or the part of one."""
    return re.search(r"<(?:table|tr|td)[\s>]", text, re.IGNORECASE) is not None


def read_page(desk: Desk) -> Grid | None:
    """The only table of layers of the page, or None and a report."""
    if desk.source.text.count("<") > MAX_TAGS:
        at = -1
        for _ in range(MAX_TAGS + 1):
            at = desk.source.text.index("<", at + 1)
        too_many = pasting.Markup(what=f"there are more than {MAX_TAGS} tags")
        desk.report(too_many, Span(at, at + 1))
        return None
    page = _Page(desk)
    page.feed(desk.source.text)
    page.close()
    page.end_table()
    tables = [table for table in page.tables if _has_layers(table)]
    if not tables:
        desk.report(pasting.NoTable(), Span(0, 0))
        return None
    if len(tables) > 1:
        lines = tuple(desk.source.locate(table[0][1]).line for table in tables)
        what = pasting.SeveralTables(found=len(tables), lines=lines[:8])
        desk.report(what, desk.source.line_span(lines[1]))
        return None
    if page.has_more or len(page.tables) > 1:
        desk.notes.add("what is outside of the table is not read")
    return _grid(tables[0], desk)


_Table = list[tuple[list[_Cell], int]]


def _has_layers(table: _Table) -> bool:
    for row, _ in table:
        for text, *_ in row:
            read = read_cell(text)
            if not read.troubles and any(isinstance(item, Layer) for item in read.items):
                return True
    return False


def _grid(table: _Table, desk: Desk) -> Grid:
    rows: list[Row] = []
    below: dict[int, int] = {}  # columns that a cell above spans, and for how many rows
    is_exact = False
    for written, start in table:
        taken = {column for column, left in below.items() if left > 0}
        cells = place([cell[:3] for cell in written], desk, taken)
        below = {column: left - 1 for column, left in below.items() if left > 1}
        for cell, (_, _, _, height) in zip(cells, written, strict=False):
            if height > 1:
                below.update(dict.fromkeys(cell.columns, height - 1))
            is_exact = is_exact or cell.width > 1
        end = max((cell.span.end for cell in cells), default=start)
        filled = tuple(cell for cell in cells if cell.text.text)
        given = len(cells) + len(taken)
        rows.append(Row(filled, Span(start, max(start, end)), given))
    columns = max((cell.first + cell.width for row in rows for cell in row.cells), default=0)
    return Grid(tuple(rows), columns, is_exact)


class _Page(HTMLParser):
    """Collects the tables of a page, and whether there is text beside them."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(convert_charrefs=False)
        self._desk = desk
        self.tables: list[_Table] = []
        self.has_more = False
        self._depth = 0
        self._table: _Table = []
        self._row: list[_Cell] | None = None
        self._cell: Building | None = None
        self._cell_at = 0
        self._spans = (1, 1)
        self._bold = 0
        self._is_quiet = False

    def _here(self) -> int:
        line, column = self.getpos()
        return self._desk.source.line_starts[line - 1] + column

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        here = self._here()
        match tag:
            case "table":
                self._depth += 1
                if self._depth > 1:
                    what = pasting.Markup(what="a table is in a table")
                    self._desk.report(what, Span(here, here + 6))
            case "tr":
                self._end_row()
                self._row = []
                self._table.append((self._row, here))
            case "td" | "th":
                self._end_cell()
                if self._row is None:
                    self._row = []
                    self._table.append((self._row, here))
                given = dict(attrs)
                self._cell, self._cell_at = Building(), here
                self._spans = (self._number(given, "colspan"), self._number(given, "rowspan"))
            case "b" | "strong":
                self._bold += 1
            case "sup" | "sub":
                self._add("^", here, here + 1)
            case "br" | "p" | "div" | "li":
                self._add("\n", here, here + 1)
            case "script" | "style" | "annotation" | "caption":
                self._is_quiet = True
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "table":
                self._depth = max(0, self._depth - 1)
                if self._depth == 0:
                    self.end_table()
            case "tr":
                self._end_row()
            case "td" | "th":
                self._end_cell()
            case "b" | "strong":
                self._bold = max(0, self._bold - 1)
            case "p" | "div" | "li":
                self._add("\n", self._here(), self._here() + 1)
            case "script" | "style" | "annotation" | "caption":
                self._is_quiet = False
            case _:
                pass

    def handle_data(self, data: str) -> None:
        here = self._here()
        if self._is_quiet:
            return
        if self._cell is None:
            self.has_more = self.has_more or bool(data.strip())
            return
        for i, char in enumerate(data):
            self._add(" " if char.isspace() else char, here + i, here + i + 1)

    def handle_entityref(self, name: str) -> None:
        self._reference(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._reference(f"&#{name};")

    def _reference(self, written: str) -> None:
        here = self._here()
        match = _ENTITY.match(self._desk.source.text, here)
        text = entity(written)
        self._add(" " if text.isspace() else text, here, match.end() if match else here + 1)

    def _add(self, text: str, start: int, end: int) -> None:
        if self._cell is not None and not self._is_quiet:
            end = min(end, len(self._desk.source.text))
            self._cell.add(text, start, end, bold=self._bold > 0)

    def _number(self, attrs: dict[str, str | None], name: str) -> int:
        written = (attrs.get(name) or "1").strip()
        here = self._here()
        if not re.fullmatch(r"[0-9]{1,4}", written) or not 1 <= int(written) <= 1000:
            what = pasting.Markup(what=f"`{name}` is a number from 1 to 1000")
            self._desk.report(what, Span(here, here + 3))
            return 1
        return min(int(written), MAX_COLUMNS + 1) if name == "colspan" else int(written)

    def _end_cell(self) -> None:
        if self._cell is not None and self._row is not None:
            text = self._cell.built()
            span = text.span(0, len(text.text)) if text.text else Span(self._cell_at, self._cell_at)
            self._row.append((text, span, *self._spans))
        self._cell, self._bold = None, 0

    def _end_row(self) -> None:
        self._end_cell()
        self._row = None

    def end_table(self) -> None:
        """Keep what has been read as a table."""
        self._end_row()
        if self._table:
            self.tables.append(self._table)
        self._table = []
