"""Tables that are lines of text: tabs, bars as in Markdown, two or more spaces, or one column."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vggspec.base.catalogue import pasting
from vggspec.base.source import Source, Span
from vggspec.lang.pasted.cells import Layer, read_cell
from vggspec.lang.pasted.grid import MAX_COLUMNS, Cell, Desk, Grid, Row
from vggspec.lang.pasted.text import inline

Form = Literal["bars", "tabs", "spaces", "list"]

_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"(?=[^\n]*[-=])[\s|:+=-]+")
_GAP = re.compile(r"\S {2,}\S")
_SEGMENT = re.compile(r"\S+(?: \S+)*")
_BULLET = re.compile(r"\s{0,99}(?:[-*•]|\d{1,4}[.)])\s+")
#: What no cell of layers lacks; the search is cheap.
_LIKELY = re.compile(
    r"conv|pool|fc|dense|connected|max|norm|dropout|relu|[0-9]\s*[x×]", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """Lines without a blank one between them; the last one is included."""

    first: int
    last: int
    form: Form
    has_layers: bool


def read_lines(desk: Desk) -> Grid | None:
    """The only table of layers in the lines of a text, or None and a report."""
    paragraphs = list(_paragraphs(desk.source))
    tables = _tables(desk.source, paragraphs)
    if not tables:
        desk.report(pasting.NoTable(), Span(0, 0))
        return None
    if len(tables) > 1:
        lines = tuple(table[0] for table in tables)
        what = pasting.SeveralTables(found=len(tables), lines=lines[:8])
        desk.report(what, desk.source.line_span(lines[1]))
        return None
    ((first, last, form),) = tables
    for beside in (range(1, first), range(last + 1, desk.source.num_lines + 1)):
        if any(desk.source.line_text(number).strip() for number in beside):
            for number in beside:
                desk.notes.add("outside of the table: not read", desk.source.line_span(number))
    numbers = [n for n in range(first, last + 1) if desk.source.line_text(n).strip()]
    if form == "spaces":
        return _spaced(desk, numbers)
    rows = []
    for number in numbers:
        span = desk.source.line_span(number)
        if form == "bars" and _RULE.fullmatch(desk.source.slice(span)):
            continue
        row = _row(desk, span, form)
        if row is not None:
            rows.append(row)
    columns = max((cell.first + 1 for row in rows for cell in row.cells), default=0)
    return Grid(tuple(rows), columns, is_exact=False)


def _paragraphs(source: Source) -> Iterable[_Paragraph]:
    first: int | None = None
    for number in range(1, source.num_lines + 2):
        is_blank = number > source.num_lines or not source.line_text(number).strip()
        if not is_blank and first is None:
            first = number
        elif is_blank and first is not None:
            yield _paragraph(source, first, number - 1)
            first = None


def _paragraph(source: Source, first: int, last: int) -> _Paragraph:
    texts = [source.line_text(number) for number in range(first, last + 1)]
    form: Form = "list"
    if 2 * sum(bool(_BAR.search(text)) for text in texts) >= len(texts):
        form = "bars"
    elif any("\t" in text.strip() for text in texts):
        form = "tabs"
    elif 4 * sum(bool(_GAP.search(text)) for text in texts) >= len(texts):
        form = "spaces"
    if form == "list":
        return _Paragraph(first, last, form, all(map(_is_content, texts)))
    cells = (cell for text in texts for cell in _cut(text, form))
    return _Paragraph(first, last, form, any(map(_is_content, cells)))


def _cut(text: str, form: Form) -> list[str]:
    if form == "bars":
        return _BAR.split(text)
    return text.split("\t") if form == "tabs" else _SEGMENT.findall(text)


def _is_content(text: str) -> bool:
    """Whether a text says nothing but layers, one at least."""
    if len(text) > 1000 or not _LIKELY.search(text):
        return False
    bullet = _BULLET.match(text)
    read = read_cell(inline(text[bullet.end() if bullet else 0 :], 0))
    return not read.troubles and any(isinstance(item, Layer) for item in read.items)


def _tables(source: Source, paragraphs: Sequence[_Paragraph]) -> list[tuple[int, int, Form]]:
    """The first and last lines of each table; a blank line does not end one."""
    found: list[tuple[int, int, Form]] = []
    previous: _Paragraph | None = None
    for i, one in enumerate(paragraphs):
        before = paragraphs[i - 1] if i else None
        if one.has_layers and previous is not None and found and before is previous:
            first, _, form = found[-1]
            found[-1] = (first, one.last, one.form if form == "list" else form)
        elif one.has_layers:
            is_head = before is not None and before.form == one.form != "list"
            first = before.first if is_head and before is not None else one.first
            found.append((first, one.last, one.form))
        previous = one if one.has_layers else None
    tables = [one for one in found if one[2] != "list"]
    if tables:
        return tables
    content = [
        number
        for one in paragraphs
        if one.form == "list"
        for number in range(one.first, one.last + 1)
        if _is_content(source.line_text(number))
    ]
    if not content:
        return []
    first = content[0]
    while first > 1 and source.line_text(first - 1).strip():
        first -= 1
    return [(first, content[-1], "list")]


def _row(desk: Desk, span: Span, form: Form) -> Row | None:
    text = desk.source.slice(span)
    ends = [len(text)]
    starts = [0]
    if form == "tabs":
        cuts = [i for i, char in enumerate(text) if char == "\t"]
        starts, ends = [0, *(i + 1 for i in cuts)], [*cuts, len(text)]
    elif form == "bars":
        body = len(text.rstrip())
        cuts = [match.start() for match in _BAR.finditer(text)]
        starts, ends = [0, *(i + 1 for i in cuts)], [*cuts, body]
        if cuts and not text[: cuts[0]].strip():
            starts, ends = starts[1:], ends[1:]
        if cuts and cuts[-1] == body - 1:
            starts, ends = starts[:-1], ends[:-1]
    else:
        bullet = _BULLET.match(text)
        starts = [bullet.end() if bullet else 0]
        if bullet:
            desk.notes.add("the mark of the list is dropped", span)
    if len(starts) > MAX_COLUMNS:
        desk.report(pasting.TooMuch(most_columns=MAX_COLUMNS), span)
        return None
    cells = []
    for column, (start, end) in enumerate(zip(starts, ends, strict=True)):
        inner = inline(text[start:end], span.start + start)
        if inner.text:
            cells.append(Cell(inner, inner.span(0, len(inner.text)), column))
    return Row(tuple(cells), span, len(starts))


def _spaced(desk: Desk, numbers: Sequence[int]) -> Grid:
    """Columns by their places in the lines; those of the lines with most texts are the columns."""
    segments = {
        n: [match.span() for match in _SEGMENT.finditer(desk.source.line_text(n))] for n in numbers
    }
    columns = max(map(len, segments.values()))
    if columns > MAX_COLUMNS:
        span = desk.source.line_span(max(segments, key=lambda n: len(segments[n])))
        desk.report(pasting.TooMuch(most_columns=MAX_COLUMNS), span)
        return Grid((), 0, is_exact=False)
    full = [spans for spans in segments.values() if len(spans) == columns]
    places = [
        (min(spans[i][0] for spans in full), max(spans[i][1] for spans in full))
        for i in range(columns)
    ]
    rows = []
    for number, spans in segments.items():
        line = desk.source.line_span(number)
        text = desk.source.slice(line)
        under = [
            {i} if len(spans) == columns else _under(span, places) for i, span in enumerate(spans)
        ]
        cells = []
        for i, (start, end) in enumerate(spans):
            first, last = min(under[i], default=-1), max(under[i], default=-1)
            inner = inline(text[start:end], line.start + start)
            if len(under[i]) != 1:  # across columns: it takes all that its neighbours leave
                first = max(under[i - 1], default=columns) + 1 if i else 0
                last = min(under[i + 1], default=0) - 1 if i + 1 < len(spans) else columns - 1
                said = f"`{inner.text}` stands across columns: read as a cell of all free columns"
                desk.notes.add(said, line)
            if first > last or (i and first in under[i - 1]):
                what = "this text does not stand in a column of its own"
                desk.report(pasting.Markup(what=what), Span(line.start + start, line.start + end))
            elif inner.text:
                span = inner.span(0, len(inner.text))
                cells.append(Cell(inner, span, first, last - first + 1))
        rows.append(Row(tuple(cells), line, columns))
    return Grid(tuple(rows), columns, is_exact=False)


def _under(span: tuple[int, int], places: Sequence[tuple[int, int]]) -> set[int]:
    """The columns below which a text stands."""
    return {i for i, (start, end) in enumerate(places) if span[0] < end and start < span[1]}
