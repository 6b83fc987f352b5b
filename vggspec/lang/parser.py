"""Text to syntax tree, line by line, so that all mistakes of a file are found in one run."""

import re
from functools import cache
from importlib import resources
from typing import Any, Literal, cast

from lark import Lark, Token, Transformer, Tree, UnexpectedCharacters, UnexpectedToken
from lark.utils import TextSlice

from vggspec.catalogue import names, nearest, syntax
from vggspec.diagnostic import Diagnostic, Label, Report, Reports, report
from vggspec.lang.ast import (
    Cell,
    Claim,
    Document,
    InputItem,
    Item,
    LayerItem,
    Layers,
    Like,
    Line,
    NetName,
    Option,
    Quoted,
    Row,
    SectionHead,
    Setting,
    Spec,
    Statement,
    Word,
)
from vggspec.lang.sections import section_of
from vggspec.source import Source, Span

MAX_NETS = 64

#: Dashes that stand for a hyphen in text pasted from elsewhere.
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u00ad"
_UNDASH = str.maketrans(dict.fromkeys(DASHES, "-"))

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
KEYWORDS = ("net", "input", "like", "train:", "test:")

#: Terminals of the grammar in the reader's words, in the order in which they are offered.
EXPECTED = {
    "NET": "`net`",
    "INPUT": "`input`",
    "LIKE": "`like`",
    "SECTION": "`train:` or `test:`",
    "WORD": "a word",
    "SIZE": "a size such as `224x224`",
    "NUMBER": "a number",
    "STRING": "a file name in quotation marks",
    "UP": "`up to` and a layer",
    "TO": "`to`",
    "WEIGHT": "`weight layers`",
    "LAYERS": "`layers`",
    "PARAMETERS": "`parameters`",
    "BAR": "`|`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "$END": "the end of the line",
}


def parse(source: Source) -> Document:
    """The syntax tree of a spec file.

    Raises:
        VggspecError: with every mistake of the text, not only the first.
    """
    document, reports = parse_leniently(source)
    reports.raise_if_any()
    return document


def parse_leniently(source: Source) -> tuple[Document, Reports]:
    """What could be read of a spec file, and the mistakes in the rest."""
    reports = Reports()
    lines: list[Line] = []
    section: SectionHead | None = None
    section_indent = 0
    for number in range(1, source.num_lines + 1):
        span = source.line_span(number)
        text = source.slice(span)
        code, comment = _split_comment(text)
        statement: Statement | None = None
        if code.strip():
            indent = _indent(text)
            if section is not None and indent <= section_indent:
                section = None
            rule: _Rule = "column"
            if section is not None:
                rule = "setting"
            elif code.lstrip().startswith("|"):
                rule = "row"
            start = span.start + len(code) - len(code.lstrip())
            end = span.start + len(code.rstrip())
            statement = _statement(source, Span(start, end), rule, reports)
            if isinstance(statement, SectionHead):
                section, section_indent = statement, indent
        lines.append(Line(statement, comment))
    specs = _Assembly(source, reports).specs(lines)
    return Document(tuple(lines), specs, source), reports


_Rule = Literal["column", "row", "setting"]


def _split_comment(text: str) -> tuple[str, str | None]:
    quoted = False
    for i, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "#" and not quoted:
            return text[:i], text[i + 1 :].strip()
    return text, None


def _indent(text: str) -> int:
    expanded = text.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


@cache
def _lark() -> Lark:
    grammar = resources.files("vggspec.lang").joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", start=["column", "row", "setting"])


def _statement(source: Source, span: Span, rule: _Rule, reports: Reports) -> Statement | None:
    """The statement that ``span`` holds, or None and a report."""
    text = source.slice(span)
    straight = text.translate(_UNDASH)
    if straight != text:
        reports.add(_pasted_dash(source, span, text, straight))
    whole = source.text[: span.start] + straight if straight != text else source.text
    try:
        tree = _lark().parse(TextSlice(whole, span.start, span.end), start=rule)
    except UnexpectedCharacters as error:
        reports.add(
            _misspelt_keyword(source, span, rule) or _unexpected_characters(source, span, error)
        )
        return None
    except UnexpectedToken as error:
        reports.add(_misspelt_keyword(source, span, rule) or _unexpected_token(source, span, error))
        return None
    return cast("Statement", _ToAst(span).transform(cast("Tree[Token]", tree)))


def _pasted_dash(source: Source, span: Span, text: str, straight: str) -> Report:
    at = next(i for i, char in enumerate(text) if char in DASHES)
    start, end = at, at + 1
    while start > 0 and not text[start - 1].isspace() and text[start - 1] not in "|(,":
        start -= 1
    while end < len(text) and not text[end].isspace() and text[end] not in "|),":
        end += 1
    what = syntax.PastedDash(dash=text[at], mended=straight[start:end])
    return report(what, source, Span(span.start + at, span.start + at + 1))


def _misspelt_keyword(source: Source, line: Span, rule: _Rule) -> Report | None:
    """A line that no rule fits because its first word is almost a keyword."""
    match = re.match(r"[A-Za-z]+:?", source.slice(line))
    if rule != "column" or match is None:
        return None
    word = match[0]
    setting = re.match(r"[A-Za-z-]+", source.slice(line))
    section = section_of(setting[0]) if setting else None
    if setting and section:
        unindented = syntax.UnindentedSetting(setting=setting[0], section=section)
        return report(unindented, source, Span(line.start, line.start + len(setting[0])))
    known = nearest(word, KEYWORDS)
    if known is None or known.rstrip(":") == word.rstrip(":").casefold():
        return None
    what = names.UnknownLayer(word=word, suggestion=known)
    return report(what, source, Span(line.start, line.start + len(word)))


def _unexpected_characters(source: Source, line: Span, error: UnexpectedCharacters) -> Report:
    at = error.pos_in_stream
    span = Span(at, at + 1)
    char = source.text[at]
    if char == '"':
        return report(syntax.UnclosedQuote(), source, Span(at, line.end))
    if not char.isprintable() or char not in "()|,:*×":
        return report(syntax.StrayCharacter(character=char), source, span)
    return report(_unexpected(char, error.allowed or set()), source, span)


def _unexpected_token(source: Source, line: Span, error: UnexpectedToken) -> Report:
    token = error.token
    if token.type == "$END":
        if "BOLD" in error.accepts and source.slice(line).count("**") % 2:
            at = line.start + source.slice(line).rindex("**")
            return report(syntax.UnclosedBold(), source, Span(at, at + 2))
        return report(_unexpected("", error.accepts), source, Span(line.end, line.end))
    start = cast("int", token.start_pos)
    span = Span(start, start + len(token))
    if "BOLD" in error.accepts and token.type == "BAR":
        cell = source.text[source.text.rindex("|", line.start, start) + 1 : start]
        if cell.count("**") % 2:
            at = start - len(cell) + cell.rindex("**")
            return report(syntax.UnclosedBold(), source, Span(at, at + 2))
    return report(_unexpected(str(token), error.accepts), source, span)


def _unexpected(found: str, accepts: set[str]) -> syntax.Unexpected:
    words = tuple(text for terminal, text in EXPECTED.items() if terminal in accepts)
    return syntax.Unexpected(found=found, expected=words if len(words) <= 5 else ())


class _ToAst(Transformer[Token, Any]):
    """The parse tree of one line to its statement. A method is named after its rule."""

    def __init__(self, line: Span) -> None:
        super().__init__()
        self._line = line

    def column(self, found: list[Any]) -> Statement:
        return cast("Statement", found[0])

    def row(self, found: list[Any]) -> Row:
        cells: list[Cell] = []
        bar: Token | None = None
        cell: Cell | None = None
        for one in found:
            if isinstance(one, Cell):
                cell = one
                continue
            if bar is not None:
                between = Span(_span(bar).end, _span(one).start)
                cells.append(
                    Cell(cell.items, cell.rule, between) if cell else Cell((), False, between)
                )
            bar, cell = one, None
        return Row(tuple(cells), self._line)

    def cell(self, found: list[Any]) -> Cell:
        items: list[Item] = []
        is_rule = False
        bold = sum(isinstance(one, Token) for one in found) == 2
        for one in found:
            match one:
                case Layers():
                    items.extend(one.items)
                case Claim():
                    items.append(Claim(one.kind, one.number, bold, one.span))
                case InputItem():
                    items.append(one)
                case Tree():
                    is_rule = True
        return Cell(tuple(items), is_rule, Span(0, 0))

    def setting(self, found: list[Any]) -> Setting:
        words: list[Word | Quoted] = []
        for token in found:
            words.append(_quoted(token) if token.type == "STRING" else _word(token))
        return Setting(tuple(words), self._line)

    def net(self, found: list[Any]) -> NetName:
        return NetName(_word(found[0]), self._line)

    def input(self, found: list[Any]) -> InputItem:
        size, color = found[0]
        options = found[1] if len(found) > 1 else ()
        height, width = _sides(size)
        return InputItem(height, width, color, options, self._line)

    def size(self, found: list[Any]) -> tuple[Token, Word | None]:
        words = [_word(token) for token in found[1:] if token.type == "WORD"]
        return found[0], words[0] if words else None

    def like(self, found: list[Any]) -> Like:
        return Like(_quoted(found[0]), _word(found[1]) if len(found) > 1 else None, self._line)

    def weight_layers(self, found: list[Any]) -> Claim:
        return Claim("weight layers", _word(found[0]), False, _span(found[0]).to(_span(found[-1])))

    def parameters(self, found: list[Any]) -> Claim:
        return Claim("parameters", _word(found[0]), False, _span(found[0]).to(_span(found[-1])))

    def section(self, found: list[Any]) -> SectionHead:
        kind = cast("Literal['train', 'test']", found[0].rstrip(": \t").lower())
        return SectionHead(kind, self._line)

    def layers(self, found: list[Any]) -> Layers:
        items: list[LayerItem] = []
        for one in found:
            items.extend(one if isinstance(one, list) else [one])
        return Layers(tuple(items), self._line)

    def bold(self, found: list[Any]) -> list[LayerItem]:
        return [
            LayerItem(one.word, one.options, one.repeat, one.alias, True, one.span)
            for one in found
            if isinstance(one, LayerItem)
        ]

    def layer(self, found: list[Any]) -> LayerItem:
        word = _word(found[0])
        options: tuple[Option, ...] = ()
        repeat = alias = None
        span = word.span
        for one in found[1:]:
            if isinstance(one, tuple):
                options = one
                span = span.to(one[-1].span) if one else span
            elif one.type == "REPEAT":
                repeat = _word(one)
                span = span.to(repeat.span)
            else:
                alias = _word(one)
                span = span.to(alias.span)
        return LayerItem(word, options, repeat, alias, False, span)

    def options(self, found: list[Any]) -> tuple[Option, ...]:
        return tuple(found)

    def option(self, found: list[Any]) -> Option:
        words = tuple(_word(token) for token in found)
        return Option(words, words[0].span.to(words[-1].span))


def _span(token: Token) -> Span:
    start = cast("int", token.start_pos)
    return Span(start, start + len(token))


def _word(token: Token) -> Word:
    return Word(str(token), _span(token))


def _quoted(token: Token) -> Quoted:
    return Quoted(str(token)[1:-1], _span(token))


def _sides(size: Token) -> tuple[Word, Word]:
    """``224 × 256`` as two words with their own spans."""
    numbers = [
        Word(match[0], Span(_span(size).start + match.start(), _span(size).start + match.end()))
        for match in re.finditer(r"\d+", str(size))
    ]
    return numbers[0], numbers[1]


class _Draft:
    """A net while its lines are gathered."""

    def __init__(self, name: Word | None) -> None:
        self.name = name
        self.input: InputItem | None = None
        self.like: Like | None = None
        self.layers: list[LayerItem] = []
        self.claims: list[Claim] = []
        self.sections: dict[str, list[Setting]] = {}

    def spec(self, source: Source) -> Spec:
        return Spec(
            self.name,
            self.input,
            self.like,
            tuple(self.layers),
            tuple(self.claims),
            tuple(self.sections.get("train", ())),
            tuple(self.sections.get("test", ())),
            source,
        )


class _Assembly:
    """Lines to nets: what stands below a name belongs to it, a table is a net a column."""

    def __init__(self, source: Source, reports: Reports) -> None:
        self._source = source
        self._reports = reports
        self._drafts: list[_Draft] = []
        self._current: list[_Draft] = []  # the nets to which the next line belongs
        self._in_table = False

    def specs(self, lines: list[Line]) -> tuple[Spec, ...]:
        section: str | None = None
        unnamed: Statement | None = None  # the first statement of a net without a name
        for line in lines:
            statement = line.statement
            if statement is None:
                if line.comment is None:
                    self._in_table = False
                continue
            if isinstance(statement, Setting):
                if section is not None:
                    for draft in self._current:
                        draft.sections[section].append(statement)
                continue
            section = None
            if isinstance(statement, NetName | Row) and unnamed is not None:
                starts_net = isinstance(statement, NetName) or not self._in_table
                if starts_net:
                    self._report(syntax.BeforeFirstNet(), unnamed.span)
                    unnamed = None
            if isinstance(statement, Row):
                self._row(statement)
                continue
            self._in_table = False
            match statement:
                case NetName(name=name):
                    if not NAME.fullmatch(name.text):
                        self._report(syntax.NotANetName(), name.span)
                    self._begin([_Draft(name)])
                case SectionHead(kind=kind):
                    if not self._current:
                        self._report(syntax.SectionWithoutNet(section=kind), statement.span)
                        continue
                    for draft in self._current:
                        if kind in draft.sections:
                            self._report(syntax.Twice(what=f"{kind}:"), statement.span)
                        draft.sections[kind] = []
                    section = kind
                case _:
                    if not self._current:
                        unnamed = statement
                        self._begin([_Draft(None)])
                    items = statement.items if isinstance(statement, Layers) else (statement,)
                    for draft in self._current:
                        for item in items:
                            self._add(draft, item)
        if not self._drafts and not len(self._reports):
            what = syntax.NothingHere()
            self._reports.add(report(what, self._source, Span(0, 0)))
        self._check_names()
        return tuple(draft.spec(self._source) for draft in self._drafts)

    def _begin(self, drafts: list[_Draft]) -> None:
        if len(self._drafts) + len(drafts) > MAX_NETS:
            if len(self._drafts) <= MAX_NETS:
                last = drafts[-1].name
                span = last.span if last is not None else Span(0, 0)
                self._report(syntax.TooManyNets(limit=MAX_NETS), span)
            drafts = drafts[: max(0, MAX_NETS - len(self._drafts))]
        self._drafts.extend(drafts)
        self._current = drafts

    def _row(self, row: Row) -> None:
        if not self._in_table:
            self._in_table = True
            self._begin([_Draft(name) for name in self._header(row)])
            return
        if row.is_rule:
            return
        nets = self._current
        if len(row.cells) not in (1, len(nets)):
            if nets:
                what = syntax.RaggedRow(cells=len(row.cells), nets=len(nets))
                self._report(what, row.span)
            return
        for i, draft in enumerate(nets):
            cell = row.cells[0] if len(row.cells) == 1 else row.cells[i]
            for item in cell.items:
                self._add(draft, item)

    def _header(self, row: Row) -> list[Word]:
        found = []
        for cell in row.cells:
            match cell.items:
                case (LayerItem(word=word, options=(), repeat=None, alias=None),) if (
                    NAME.fullmatch(word.text)
                ):
                    found.append(word)
                case _:
                    self._report(syntax.NotANetName(), cell.span)
        return found

    def _add(self, draft: _Draft, item: Item | Like) -> None:
        match item:
            case InputItem():
                if draft.input is not None:
                    self._report(syntax.Twice(what="input"), item.span)
                draft.input = item
            case Like():
                if draft.like is not None:
                    self._report(syntax.Twice(what="like"), item.span)
                elif draft.layers:
                    self._report(names.LikeNotFirst(), item.span)
                draft.like = item
            case Claim():
                draft.claims.append(item)
            case LayerItem():
                draft.layers.append(item)

    def _check_names(self) -> None:
        seen: dict[str, Word] = {}
        for draft in self._drafts:
            if draft.name is None:
                continue
            first = seen.setdefault(draft.name.text.casefold(), draft.name)
            if first is not draft.name:
                self._reports.add(
                    report(
                        names.NetTwice(name=draft.name.text),
                        self._source,
                        draft.name.span,
                        Label(first.span, "the first one"),
                    )
                )

    def _report(self, what: Diagnostic, span: Span) -> None:
        self._reports.add(report(what, self._source, span))

