"""Text to syntax tree, line by line, so that all mistakes of a file are found in one run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import Any, Literal, cast

from lark import Lark, Token, Transformer, Tree, UnexpectedInput

from vggspec.base.catalogue import files, layers, syntax
from vggspec.base.diagnostic import Diagnostic, Label, Report, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source, Span
from vggspec.lang.ast import (
    Block,
    BlockHead,
    BlockLine,
    Branch,
    Cell,
    Claim,
    Document,
    From,
    Group,
    InputItem,
    Item,
    LayerItem,
    Layers,
    Like,
    Line,
    Means,
    NetName,
    Option,
    Outputs,
    Parameter,
    Quoted,
    SectionHead,
    Setting,
    SizeClaim,
    Spec,
    Statement,
    Step,
    TableRow,
    Word,
)
from vggspec.lang.mistakes import (
    Rule,
    almost_a_block,
    almost_a_head,
    brackets,
    corrected,
    unreadable,
)
from vggspec.lang.tables import Role, roles, spanning, spread, word_in

MAX_NETS = 64
MAX_WORDS = 1 << 14  # and marks; a file of more takes more than a second
MAX_CLAIMS = 16  # a net
MAX_SETTINGS = 64  # a section
MAX_BLOCKS = 64  # a file

#: Dashes in place of a hyphen, in pasted text.
DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d\u00ad"
_UNDASH = str.maketrans(dict.fromkeys(DASHES, "-"))

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")

MAX_WORD = 200
MAX_PATH = 1024
_LONG_WORD = re.compile(
    rf'"[^"]*"|\{{[^{{}}|"]{{{MAX_WORD + 1},}}'
    rf'|(?<![^\s|(),:#"*\[\]+&])[^\s|(),:#"*\[\]+&]{{{MAX_WORD + 1},}}'
)
_COUNTED = re.compile(r'#.*|(?P<word>"[^"\n]*"?|\*\*?|[|(),:\[\]+&]|[^\s|(),:#"*\[\]+&]+)')

#: A first row of these has no names of nets in it, though they would do as names.
_LAYER_LIKE = re.compile(r"conv\d.*|fc-?\d.*|(max|avg)pool.*|soft-?max", re.IGNORECASE)
#: Words that a block may not be called, because layers and keywords are written so.
_NO_BLOCK = re.compile(
    r"(dw|up)?conv(\d.*)?|fc(\d.*)?|(max|avg)pool.*|up\d.*|soft_?max|gap|bn|lrn|l2norm|dropout|boxes"
    r"|relu6?|silu|crop|resize|identity|shortcut|x\d*|net|input|like|from|as|outputs|block|train|test",
    re.IGNORECASE,
)
_BLOCK_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_PARAMETER = re.compile(r"[^\W\d]\w*")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_BLOCK = re.compile(r"\s*block\s", re.IGNORECASE)
_ROWS = re.compile(r"\s*\|\s*layer\s*\|", re.IGNORECASE)
_FOREIGN_COMMENT = re.compile(r"(?<!\S)//")


def parse(source: Source) -> Document:
    """The syntax tree of a spec file.

    Raises:
        VggspecError: with every mistake of the text, not only the first.
    """
    document, reports = parse_leniently(source)
    reports.raise_if_any()
    return document


def parse_leniently(source: Source) -> tuple[Document, Reports]:
    """The readable part of a spec file, and the mistakes in the rest."""
    document, found = _parsed(source)
    return document, Reports(found)


def count_words(source: Source) -> int:
    """Words, numbers and marks outside comments, to which the time of reading is proportional."""
    return sum(1 for _ in _words(source))


def _words(source: Source) -> Iterator[re.Match[str]]:
    return (match for match in _COUNTED.finditer(source.text) if match["word"])


@lru_cache(maxsize=8)  # nets are often like nets of the same file
def _parsed(source: Source) -> tuple[Document, tuple[Report, ...]]:
    reports = Reports()
    lines: list[Line] = []
    number_of_words = count_words(source)
    if number_of_words > MAX_WORDS:
        last = next(islice(_words(source), MAX_WORDS, None))
        what = files.TooManyWords(found=number_of_words, limit=MAX_WORDS)
        reports.add(report(what, source, Span(*last.span())))
        return Document((), (), source), reports.sorted()
    broken: dict[int, Rule] = {}
    section: SectionHead | BlockHead | None = None
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
            rule: Rule = "column"
            if section is not None:
                rule = "setting" if isinstance(section, SectionHead) else "body"
            elif code.lstrip().startswith("|"):
                rule = "row"
            start = span.start + len(code) - len(code.lstrip())
            end = span.start + len(code.rstrip())
            statement = _statement(source, Span(start, end), rule, reports)
            if isinstance(statement, SectionHead | BlockHead):
                section, section_indent = statement, indent
            if statement is None and rule == "column" and _BLOCK.match(code):
                # Its lines are not to be read as layers of a net.
                statement = BlockHead(Word("", span), (), span, is_complete=False)
                section, section_indent = statement, indent
            if statement is None:
                broken[number - 1] = rule
        if reports.is_full:
            return Document(tuple(lines), (), source), reports.sorted()
        lines.append(_BLANK if statement is None and comment is None else Line(statement, comment))
    specs, blocks = _Assembly(source, reports).specs(lines, broken)
    if reports.is_full:
        specs = ()
    return Document(tuple(lines), specs, source, blocks), reports.sorted()


_BLANK = Line(None, None)


def _split_comment(text: str) -> tuple[str, str | None]:
    if "#" not in text:
        return text, None
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
    return Lark(grammar, parser="lalr", start=["column", "row", "body", "setting"])


def _statement(source: Source, span: Span, rule: Rule, reports: Reports) -> Statement | None:
    """The statement in ``span``, or None and a report."""
    text = _without_dashes(source, span, rule, reports)
    if _has_unusable(source, span, text, reports):
        return None
    if rule == "column":
        head = almost_a_head(text)
        if head is not None:
            kind, what, start, end = head
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            return SectionHead(kind, span)
    slashes = _FOREIGN_COMMENT.search(text) if rule == "column" else None
    if slashes is not None:
        at = span.start + slashes.start()
        foreign = syntax.Unexpected(found="//", suggestion="#")
        reports.add(report(foreign, source, Span(at, at + 2)))
        text = text[: slashes.start()].rstrip()
        if not text:
            return None
    if rule != "setting":
        wrong = brackets(text, rule)
        if wrong is not None:
            what, start, end = wrong
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            return None
    if rule == "row" and not text.endswith("|"):
        # The row is read as if its last bar were there, so that its cells are checked too.
        is_hidden = (
            "|" in source.text[span.end : source.line_span(source.locate(span.start).line).end]
        )
        reports.add(report(syntax.OpenRow(is_hidden=is_hidden), source, Span(span.end, span.end)))
        text += "|"
    try:
        # The line alone, not a slice of the file: positions are moved when the tree is read.
        tree = _lark().parse(text, start=rule)
    except UnexpectedInput as error:
        block = almost_a_block(text, error) if rule == "column" else None
        if block is not None:
            name, what, start, end = block
            reports.add(report(what, source, Span(span.start + start, span.start + end)))
            word = Word(name, Span(span.start, span.end))
            return BlockHead(word, (), span, is_complete=False)
        reports.add(unreadable(source, span, text, rule, error))
        return None
    reader = _ToAst(span)
    statement = cast("Statement", reader.transform(tree))
    for what, place in reader.mistakes:
        reports.add(report(what, source, place))
    return None if reader.mistakes else statement


def _without_dashes(source: Source, span: Span, rule: Rule, reports: Reports) -> str:
    """The text with a hyphen for each dash that looks like one, and the words that contain them."""
    text = source.slice(span)
    straight = text.translate(_UNDASH)
    if straight == text:
        return text
    for word in re.finditer(r"[^\s|(),]+", text):
        dash = next((char for char in word[0] if char in DASHES), None)
        if dash is None:
            continue
        if rule == "setting" and re.fullmatch(r"\d+\D\d+", word[0]):
            continue  # `256–512` is meant as a range, which the section says better
        what = syntax.PastedDash(dash=dash, corrected=word[0].translate(_UNDASH))
        at = span.start + word.start() + word[0].index(dash)
        reports.add(report(what, source, Span(at, at + 1)))
    return straight


def _has_unusable(source: Source, span: Span, text: str, reports: Reports) -> bool:
    """Report words and characters that no line may contain."""
    found = False
    for word in _LONG_WORD.finditer(text):
        limit = MAX_PATH if word[0].startswith('"') else MAX_WORD
        if len(word[0]) <= limit:
            continue
        what = syntax.WordTooLong(length=len(word[0]), limit=limit)
        at = Span(span.start + word.start(), span.start + word.end())
        reports.add(report(what, source, at))
        found = True
    if text.isprintable():
        return found
    for i, char in enumerate(text):
        if not char.isprintable() and not char.isspace():
            at = Span(span.start + i, span.start + i + 1)
            reports.add(report(syntax.StrayCharacter(character=char), source, at))
            return True
    return found


class _ToAst(Transformer[Token, Any]):
    """The parse tree of one line to its statement. A method is named after its rule."""

    def __init__(self, line: Span) -> None:
        super().__init__()
        self._line = line
        self.mistakes: list[tuple[Diagnostic, Span]] = []

    def column(self, found: list[Any]) -> Statement:
        return cast("Statement", found[0])

    def row(self, found: list[Any]) -> TableRow:
        cells: list[Cell] = []
        bar: Token | None = None
        cell: Cell | None = None
        for one in found:
            if isinstance(one, Cell):
                cell = one
                continue
            if bar is not None:
                between = Span(self._span(bar).end, self._span(one).start)
                cells.append(
                    Cell(cell.items, cell.rule, between) if cell else Cell((), False, between)
                )
            bar, cell = one, None
        return TableRow(tuple(cells), self._line)

    def cell(self, found: list[Any]) -> Cell:
        items: list[Item] = []
        is_rule = False
        bold = sum(isinstance(one, Token) and one.type == "BOLD" for one in found) == 2
        for one in found:
            match one:
                case Layers():
                    items.extend(item for item in one.items if not isinstance(item, From))
                case Claim():
                    items.append(Claim(one.kind, one.number, bold, one.span))
                case InputItem():
                    items.append(one)
                case Token(type="NUMBER"):
                    items.append(self._word(one))
                case Token(type="SIZE" | "VOLUME"):
                    height, width, *channels = self._numbers(one)
                    items.append(
                        SizeClaim(height, width, channels[0] if channels else None, self._span(one))
                    )
                case Tree():
                    is_rule = True
        return Cell(tuple(items), is_rule, Span(0, 0))

    def setting(self, found: list[Any]) -> Setting:
        words = (self._quoted(one) if one.type == "STRING" else self._word(one) for one in found)
        return Setting(tuple(words), self._line)

    def net(self, found: list[Any]) -> NetName:
        return NetName(self._word(found[0]), self._line)

    def input(self, found: list[Any]) -> InputItem:
        size, color = found[0]
        options = found[1] if len(found) > 1 else ()
        height, width = self._sides(size)
        return InputItem(height, width, color, options, self._line)

    def size(self, found: list[Any]) -> tuple[Token, Word | None]:
        words = [self._word(token) for token in found[1:] if token.type == "WORD"]
        return found[0], words[0] if words else None

    def like(self, found: list[Any]) -> Like:
        return Like(
            self._quoted(found[0]), self._word(found[1]) if len(found) > 1 else None, self._line
        )

    def weight_layers(self, found: list[Any]) -> Claim:
        deep = found[-1].type == "DEEP"
        return self._claim("weight layers deep" if deep else "weight layers", found)

    def parameters(self, found: list[Any]) -> Claim:
        return self._claim("parameters", found)

    def macs(self, found: list[Any]) -> Claim:
        return self._claim("MACs", found)

    def _claim(
        self,
        kind: Literal["weight layers", "weight layers deep", "parameters", "MACs"],
        found: list[Token],
    ) -> Claim:
        span = self._span(found[0]).to(self._span(found[-1]))
        return Claim(kind, self._word(found[0]), False, span)

    def section(self, found: list[Any]) -> SectionHead:
        kind = cast("Literal['train', 'test']", found[0].rstrip(": \t").lower())
        return SectionHead(kind, self._line)

    def block(self, found: list[Any]) -> BlockHead:
        return BlockHead(self._word(found[0]), tuple(found[1:]), self._line)

    def parameter(self, found: list[Any]) -> Parameter:
        name = self._word(found[0])
        default = self._word(found[1]) if len(found) > 1 else None
        return Parameter(
            name, default, name.span if default is None else name.span.to(default.span)
        )

    def body(self, found: list[Any]) -> BlockLine:
        join = None
        if isinstance(found[0], Token):
            join = cast('Literal["+", "&"]', str(found[0]))
        branch = cast("Branch", found[-1])
        if not branch.items and branch.source is None:
            after = self._line.end
            self.mistakes.append((syntax.EmptyBranch(where="block"), Span(after, after)))
        return BlockLine(join, branch, self._line)

    def outputs(self, found: list[Any]) -> Outputs:
        return Outputs(tuple(map(self._word, found)), self._line)

    def means(self, found: list[Any]) -> Means:
        convs = [one for one in found if one.word.text.casefold() == "conv"]
        if len(convs) != 1:
            where = convs[1].span if convs else self._line
            self.mistakes.append((syntax.MeansOneConv(convs=len(convs)), where))
        return Means(tuple(found), self._line)

    def path(self, found: list[Any]) -> Layers:
        source = self._word(found[0])
        return Layers((From(source, source.span), *_flat(found[1:])), self._line)

    def layers(self, found: list[Any]) -> Layers:
        return Layers(tuple(_flat(found)), self._line)

    def bold(self, found: list[Any]) -> list[LayerItem | Group]:
        return [replace(one, bold=True) for one in found if not isinstance(one, Token)]

    def group(self, found: list[Any]) -> Group:
        close = next(i for i in reversed(range(len(found))) if _is(found[i], "CLOSE"))
        span = self._span(found[0]).to(self._span(found[close]))
        repeat, alias, end = self._tail(found[close + 1 :])
        whole = span if end is None else span.to(end)
        signs = found[2:close:2]
        branches: list[Branch] = found[1:close:2]
        kinds = dict.fromkeys(map(str, signs))
        comma = next((one for one in signs if _is(one, "COMMA")), None)
        empty = [i for i, one in enumerate(branches) if not one.items and one.source is None]
        if comma is not None:
            self.mistakes.append((syntax.CommaInBracket(), self._span(comma)))
        elif len(kinds) > 1:
            other = next(one for one in signs if str(one) != str(signs[0]))
            mixed = syntax.MixedJoins(where="bracket", first=str(signs[0]))
            self.mistakes.append((mixed, self._span(other)))
        elif empty:
            after = self._span(found[2 * empty[0] + 2])  # the next sign, or the end
            self.mistakes.append((syntax.EmptyBranch(where="bracket"), after))
        join = cast('Literal["+", "&"] | None', str(signs[0]) if signs else None)
        return Group(join, tuple(branches), repeat, alias, False, whole)

    def branch(self, found: list[Any]) -> Branch:
        source = self._word(found[0]) if found and isinstance(found[0], Token) else None
        items = tuple(_flat(found if source is None else found[1:]))
        spans = [one.span for one in (source, *items) if one is not None]
        return Branch(source, items, spans[0].to(spans[-1]) if spans else self._line)

    def layer(self, found: list[Any]) -> LayerItem:
        word = self._word(found[0])
        options: tuple[Option, ...] = ()
        span = word.span
        rest = found[1:]
        if rest and isinstance(rest[0], tuple):
            options = rest.pop(0)
            span = span.to(options[-1].span) if options else span
        repeat, alias, end = self._tail(rest)
        return LayerItem(word, options, repeat, alias, False, span if end is None else span.to(end))

    def _tail(self, found: list[Token]) -> tuple[Word | None, Word | None, Span | None]:
        """A repeat and a name after a layer or a bracket, and the place of the last of them."""
        repeat = alias = end = None
        for one in found:
            end = self._span(one)
            if one.type == "REPEAT":
                repeat = self._word(one)
            else:
                alias = self._word(one)
        return repeat, alias, end

    def options(self, found: list[Any]) -> tuple[Option, ...]:
        return tuple(found)

    def option(self, found: list[Any]) -> Option:
        words = tuple(self._word(token) for token in found)
        return Option(words, words[0].span.to(words[-1].span))

    def _span(self, token: Token) -> Span:
        start = self._line.start + cast("int", token.start_pos)
        return Span(start, min(start + len(token), self._line.end))

    def _word(self, token: Token) -> Word:
        return Word(str(token), self._span(token))

    def _quoted(self, token: Token) -> Quoted:
        return Quoted(str(token)[1:-1], self._span(token))

    def _sides(self, size: Token) -> tuple[Word, Word]:
        """``224 × 256`` as two words with their own spans."""
        height, width = self._numbers(size)
        return height, width

    def _numbers(self, size: Token) -> list[Word]:
        start = self._span(size).start
        return [
            Word(match[0], Span(start + match.start(), start + match.end()))
            for match in re.finditer(r"\d+", str(size))
        ]


def _is(one: object, kind: str) -> bool:
    return isinstance(one, Token) and one.type == kind


def _flat(found: Sequence[Any]) -> list[LayerItem | Group]:
    """Layers and brackets, those between bold marks with the others."""
    items: list[LayerItem | Group] = []
    for one in found:
        items.extend(one if isinstance(one, list) else [one])
    return items


class _Draft:
    """A net while its lines are gathered."""

    def __init__(self, name: Word | None, *, is_complete: bool = True) -> None:
        self.name = name
        self.input: InputItem | None = None
        self.like: Like | None = None
        self.layers: list[Step] = []
        self.outputs: Outputs | None = None
        self.means: Means | None = None
        self.claims: list[Claim] = []
        self.sections: dict[str, list[Setting]] = {}
        self.heads: dict[str, Span] = {}
        self.is_complete = is_complete

    def spec(self, source: Source, blocks: tuple[Block, ...]) -> Spec:
        return Spec(
            self.name,
            self.input,
            self.like,
            tuple(self.layers),
            self.outputs,
            self.means,
            tuple(self.claims),
            tuple(self.sections.get("train", ())),
            tuple(self.sections.get("test", ())),
            blocks,
            source,
            self.is_complete,
        )


class _BlockDraft:
    """A block while its lines are gathered."""

    def __init__(self, head: BlockHead) -> None:
        self.head = head
        self.join: Literal["+", "&"] | None = None
        self.branches: list[Branch] = []
        self.is_complete = head.is_complete

    def block(self) -> Block:
        return Block(
            self.head.name,
            self.head.parameters,
            self.join,
            tuple(self.branches),
            self.head.span,
            self.is_complete,
        )


class _Assembly:
    """Lines to nets: lines below a name belong to it, and each column of a table is a net."""

    def __init__(self, source: Source, reports: Reports) -> None:
        self._source = source
        self._reports = reports
        self._drafts: list[_Draft] = []
        self._current: list[_Draft] = []  # the nets to which the next line belongs
        self._in_table = False
        self._columns: tuple[Role, ...] = ()  # of the table
        self._parameters: tuple[Word | None, ...] = ()  # of a table of rows, by column
        self._after_table = False  # nothing but blank lines since a table
        self._unnamed: Statement | None = None  # the first statement of a net without a name
        self._section: str | None = None
        self._blocks: list[_BlockDraft] = []
        self._number_of_nets = 0
        self._too_many: Span | None = None  # where there are more nets than there may be
        self._is_full = False  # no more nets are kept
        self._is_lost = False  # a line before the first net could not be read

    def specs(
        self, lines: list[Line], broken: dict[int, Rule]
    ) -> tuple[tuple[Spec, ...], tuple[Block, ...]]:
        """The nets of the file, and its blocks."""
        for i, line in enumerate(lines):
            if i in broken:
                self._skip(i + 1, broken[i])
            elif line.statement is not None:
                self._statement(line.statement)
            elif line.comment is None:
                self._after_table = self._in_table or self._after_table
                self._in_table = False
        if not self._drafts and not len(self._reports):
            self._report(syntax.NothingHere(), Span(0, 0))
        if self._too_many is not None:
            too_many = syntax.TooManyNets(found=self._number_of_nets, limit=MAX_NETS)
            self._report(too_many, self._too_many)
        self._check_names()
        for draft in self._drafts:
            self._limit(draft.claims, MAX_CLAIMS, "claim")
            for kind, settings in draft.sections.items():
                self._limit(settings, MAX_SETTINGS, f"{kind} setting")
        self._limit_blocks()
        blocks = tuple(draft.block() for draft in self._blocks)
        for draft in self._drafts:
            draft.is_complete = draft.is_complete and all(block.is_complete for block in blocks)
        return tuple(draft.spec(self._source, blocks) for draft in self._drafts), blocks

    def _limit_blocks(self) -> None:
        seen: dict[str, Word] = {}
        for draft in self._blocks:
            name = draft.head.name
            first = seen.setdefault(name.text.casefold(), name)
            if first is not name and name.text:
                what = syntax.BlockTwice(name=name.text)
                self._report(what, name.span, Label(first.span, "the first one"))
            if not draft.branches and draft.is_complete:
                self._report(syntax.EmptyBlock(name=name.text), draft.head.span)
                draft.is_complete = False
        if len(self._blocks) > MAX_BLOCKS:
            too_many = files.TooManyOf(what="block", found=len(self._blocks), limit=MAX_BLOCKS)
            self._report(too_many, self._blocks[MAX_BLOCKS].head.span)
            del self._blocks[MAX_BLOCKS:]

    def _limit(self, items: list[Any], limit: int, what: str) -> None:
        """Keep no more of the items than there may be."""
        if len(items) > limit:
            too_many = files.TooManyOf(what=what, found=len(items), limit=limit)
            self._report(too_many, items[limit].span)
            del items[limit:]

    def _skip(self, line: int, rule: Rule) -> None:
        """Continue after a line that could not be read, without reporting consequences."""
        if rule == "setting":
            return
        if rule == "body":
            self._blocks[-1].is_complete = False
            return
        self._section = None
        if rule == "row" and not self._in_table:
            self._in_table = True  # its first row, so the nets of the other rows are unknown
            self._columns = ()
            if not _ROWS.match(self._source.line_text(line)):
                self._current = []
        elif re.match(r"\s*net\b", self._source.line_text(line), re.IGNORECASE):
            self._begin([_Draft(None, is_complete=False)])
        elif not self._current:
            self._is_lost = True
        for draft in self._current:
            draft.is_complete = False

    def _statement(self, statement: Statement) -> None:
        if isinstance(statement, Setting):
            if self._section is not None:
                for draft in self._current:
                    draft.sections[self._section].append(statement)
            return
        if isinstance(statement, BlockLine):
            self._block_line(statement)
            return
        self._section = None
        if isinstance(statement, TableRow):
            self._row(statement)
            return
        if isinstance(statement, BlockHead):
            self._in_table = self._after_table = False
            self._block_head(statement)
            return
        if self._is_full and not isinstance(statement, NetName):
            return
        self._in_table = self._after_table = False
        match statement:
            case NetName(name=name):
                self._name_others(statement.span)
                if not NAME.fullmatch(name.text):
                    self._report(syntax.NotANetName(name=name.text), name.span)
                self._begin([_Draft(name)])
            case SectionHead(kind=kind):
                self._head(kind, statement.span)
            case _:
                if not self._current:
                    self._unnamed = statement
                    self._begin([_Draft(None)])
                items = statement.items if isinstance(statement, Layers) else (statement,)
                for draft in self._current:
                    for item in items:
                        self._add(draft, item)

    def _block_head(self, head: BlockHead) -> None:
        self._blocks.append(_BlockDraft(head))
        if not head.is_complete:
            return
        name = head.name
        is_taken = _NO_BLOCK.fullmatch(name.text) is not None
        if is_taken or not _BLOCK_NAME.fullmatch(name.text):
            what = syntax.NotABlockName(name=name.text, is_taken=is_taken)
            self._report(what, name.span)
            self._blocks[-1].is_complete = False
        seen: dict[str, Word] = {}
        for parameter in head.parameters:
            word = parameter.name
            first = seen.setdefault(word.text.casefold(), word)
            if first is not word:
                twice = syntax.NotAParameter(name=word.text, is_second=True)
                self._report(twice, word.span, Label(first.span, "the first one"))
            elif word.text.casefold() == "in":
                self._report(syntax.NotAParameter(name=word.text), word.span)
            else:
                continue
            self._blocks[-1].is_complete = False

    def _block_line(self, line: BlockLine) -> None:
        block = self._blocks[-1]
        branch = line.branch
        if line.join is not None:
            block.join = block.join or line.join
            if line.join != block.join:
                self._report(syntax.MixedJoins(where="block", first=block.join), line.span)
                block.is_complete = False
            if not block.branches and block.is_complete:
                before = Span(line.span.start, line.span.start)
                self._report(syntax.EmptyBranch(where="block"), before)
                block.is_complete = False
            block.branches.append(branch)
        elif not block.branches:
            block.branches.append(branch)
        elif branch.source is not None:
            self._report(syntax.FromInBranch(), line.span)
            block.is_complete = False
        else:
            last = block.branches[-1]
            items = (*last.items, *branch.items)
            block.branches[-1] = Branch(last.source, items, last.span.to(branch.span))

    def _name_others(self, span: Span) -> None:
        """A named net begins: a net before it must have a name too."""
        if self._unnamed is not None:
            first = Label(span, "the first net begins here")
            self._report(syntax.BeforeFirstNet(), self._unnamed.span, first)
            self._unnamed = None

    def _head(self, kind: Literal["train", "test"], span: Span) -> None:
        if not self._current:
            if not self._is_lost:
                self._report(syntax.SectionWithoutNet(section=kind), span)
            return
        for draft in self._current:
            first = draft.heads.setdefault(kind, span)
            if first is not span:
                self._report(syntax.Twice(what=f"{kind}:"), span, Label(first, "the first one"))
            draft.sections[kind] = []
        self._section = kind

    def _begin(self, drafts: list[_Draft]) -> None:
        self._number_of_nets += len(drafts)
        if self._number_of_nets > MAX_NETS:
            last = drafts[-1].name
            self._too_many = self._too_many or (last.span if last is not None else Span(0, 0))
            drafts = drafts[: max(0, MAX_NETS - len(self._drafts))]
            self._is_full = not drafts
        for draft in drafts:
            draft.is_complete = draft.is_complete and not self._is_lost
        self._is_lost = False
        self._drafts.extend(drafts)
        self._current = drafts

    def _row(self, row: TableRow) -> None:
        if not self._in_table:
            self._in_table = True
            self._columns = roles(row)
            if self._columns[0] == "layer":
                self._parameters = self._argument_names(row)
                if not self._current and not self._is_full:
                    self._unnamed = row
                    self._begin([_Draft(None)])
            else:
                self._name_others(row.span)
                self._begin(self._header(row))
            return
        if row.is_rule:
            return
        nets = self._current
        if not nets:
            return
        cells = spread(self._columns, row)
        if cells is None:
            if self._columns:
                self._report(self._ragged(row), row.span)
            for draft in nets:
                draft.is_complete = False
            return
        name = size = None
        for role, cell in zip(self._columns, cells, strict=True):
            if role == "name":
                name = self._row_name(cell)
            elif role == "output":
                size = self._row_size(cell)
        if self._columns[0] == "layer":
            items = self._with_arguments(cells)
            if items is None:
                for draft in nets:
                    draft.is_complete = False
                return
            named = [self._named(items, name)] * len(nets)
        else:
            once: dict[int, Sequence[Item]] = {}  # a cell that spans nets is one for all
            for role, cell in zip(self._columns, cells, strict=True):
                if role == "net" and id(cell) not in once:
                    once[id(cell)] = self._named(cell.items, name)
            pairs = zip(self._columns, cells, strict=True)
            named = [once[id(cell)] for role, cell in pairs if role == "net"]
        if name is not None and not any(_steps(items) for items in named):
            self._report(syntax.NamedRow(name=name.text), name.span)
        for draft, items in zip(nets, named, strict=False):
            if draft.name is None and "net" in self._columns:
                continue  # its column has no name, which is reported
            for item in items:
                self._add(draft, item)
            if size is not None:
                draft.layers.append(size)

    def _ragged(self, row: TableRow) -> syntax.RaggedRow:
        nets, columns = self._columns.count("net"), len(self._columns)
        if nets == columns:
            return syntax.RaggedRow(cells=len(row.cells), nets=nets)
        return syntax.RaggedRow(
            cells=len(row.cells),
            nets=nets,
            columns=columns,
            spanning=spanning(self._columns),
        )

    def _argument_names(self, row: TableRow) -> tuple[Word | None, ...]:
        """The parameters that head the columns of a table of rows, None where there is none."""
        found: list[Word | None] = []
        seen: dict[str, Word] = {}
        for role, cell in zip(self._columns, row.cells, strict=True):
            word = word_in(cell)
            is_name = word is not None and _PARAMETER.fullmatch(word.text)
            if word is None or not is_name:
                text, span = self._written(cell)
                self._report(syntax.NotAParameter(name=text, in_table=True), span)
                found.append(None)
                continue
            first = seen.setdefault(word.text.casefold(), word)
            if first is not word:
                twice = syntax.NotAParameter(name=word.text, in_table=True, is_second=True)
                self._report(twice, word.span, Label(first.span, "the first one"))
            found.append(word if role == "argument" and first is word else None)
        return tuple(found)

    def _with_arguments(self, cells: tuple[Cell, ...]) -> Sequence[Item] | None:
        """The layers of a row, its arguments among the options of the only one; None for a row
        whose arguments are not known.
        """
        options: list[Option] = []
        is_known = True
        for role, word, cell in zip(self._columns, self._parameters, cells, strict=True):
            if role != "argument" or not cell.items:
                continue
            match cell.items:
                case (Word(span=span) as value,) if _NUMBER.fullmatch(value.text):
                    if word is not None:
                        options.append(Option((word, value), span))
                    is_known = is_known and word is not None
                case _:
                    self._wrong_cell(cell, "a number")
                    is_known = False
        items = cells[0].items
        match items:
            case (LayerItem() as layer,):
                items = (replace(layer, options=(*layer.options, *options)),)
            case _ if options:
                self._report(syntax.ArgumentsOfSeveral(), options[0].span)
                is_known = False
        return items if is_known else None

    def _row_name(self, cell: Cell) -> Word | None:
        word = word_in(cell)
        if word is None and cell.items:
            self._wrong_cell(cell, "a name")
        return word

    def _row_size(self, cell: Cell) -> SizeClaim | None:
        match cell.items:
            case (SizeClaim() as size,):
                return size
            case ():
                return None
            case _:
                self._wrong_cell(cell, "a size such as `56x56` or `56x56x256`")
                return None

    def _wrong_cell(self, cell: Cell, expected: str) -> None:
        text, span = self._written(cell)
        self._report(syntax.WrongCell(found=text, expected=expected), span)

    def _written(self, cell: Cell) -> tuple[str, Span]:
        """The text of a cell and its place; of an empty cell, all of it."""
        text = self._source.slice(cell.span)
        start = cell.span.start + len(text) - len(text.lstrip())
        text = text.strip()
        return text, Span(start, start + len(text)) if text else cell.span

    def _named(self, items: Sequence[Item], name: Word | None) -> Sequence[Item]:
        """The layers of a row as one thing with a name."""
        steps = _steps(items)
        if name is None or not steps:
            return items
        (first, *others) = steps
        if others:
            span = first.span.to(others[-1].span)
            return (Group(None, (Branch(None, steps, span),), None, name, bold=False, span=span),)
        if first.alias is not None:
            what = syntax.NamedRow(name=name.text, other=first.alias.text)
            self._report(what, name.span, Label(first.alias.span, "named here"))
            return items
        return (replace(first, alias=name),)

    def _header(self, row: TableRow) -> list[_Draft]:
        """A net for each name; for a cell without a name, one whose mistakes are not reported."""
        drafts = []
        bad: list[Cell] = []
        for role, cell in zip(self._columns, row.cells, strict=True):
            if role != "net":
                continue
            word = word_in(cell)
            if word and NAME.fullmatch(word.text) and not _LAYER_LIKE.fullmatch(word.text):
                drafts.append(_Draft(word))
            else:
                drafts.append(_Draft(None, is_complete=False))
                bad.append(cell)
        self._check_columns(row)
        if not drafts:
            bad.append(row.cells[0])
        if bad:
            text, span = self._written(bad[0])
            what = syntax.NotANetName(
                name=text,
                columns=len(row.cells),
                is_one_of_several=len(bad) < len(drafts),
                follows_table=self._after_table and len(bad) == len(drafts),
            )
            if what.follows_table:
                for draft in self._current:  # the rows that follow are theirs
                    draft.is_complete = False
            self._report(what, span)
        return drafts if len(bad) < len(drafts) else []

    def _check_columns(self, row: TableRow) -> None:
        """Report a second column of names or of sizes."""
        seen: dict[Role, Word] = {}
        for role, cell in zip(self._columns, row.cells, strict=True):
            word = word_in(cell)
            if word is None or role == "net":
                continue
            first = seen.setdefault(role, word)
            if first is not word:
                twice = syntax.NotAParameter(name=word.text, in_table=True, is_second=True)
                self._report(twice, word.span, Label(first.span, "the first one"))

    def _add(self, draft: _Draft, item: Item | Like | Outputs | Means | From) -> None:
        match item:
            case InputItem():
                if draft.input is not None:
                    first = Label(draft.input.span, "the first one")
                    self._report(syntax.Twice(what="input"), item.span, first)
                draft.input = item
            case Like():
                if draft.like is not None:
                    first = Label(draft.like.span, "the first one")
                    self._report(syntax.Twice(what="like"), item.span, first)
                elif draft.layers:
                    self._report(layers.LikeNotFirst(), item.span)
                draft.like = item
            case Claim():
                draft.claims.append(item)
            case Outputs():
                if draft.outputs is not None:
                    first = Label(draft.outputs.span, "the first one")
                    self._report(syntax.Twice(what="outputs"), item.span, first)
                draft.outputs = item
            case Means():
                if draft.means is not None:
                    first = Label(draft.means.span, "the first one")
                    self._report(syntax.Twice(what="conv is"), item.span, first)
                draft.means = item
            case LayerItem() | Group() | From():
                draft.layers.append(item)
            case Word() | SizeClaim():
                text = self._source.slice(item.span)
                what = syntax.Unexpected(
                    found=text,
                    expected=("layers", "an input", "a claim"),
                    suggestion=corrected(text, len(text)),
                )
                self._report(what, item.span)

    def _check_names(self) -> None:
        seen: dict[str, Word] = {}
        for draft in self._drafts:
            if draft.name is None:
                continue
            first = seen.setdefault(draft.name.text.casefold(), draft.name)
            if first is not draft.name:
                what = layers.NetTwice(name=draft.name.text)
                self._report(what, draft.name.span, Label(first.span, "the first one"))

    def _report(self, what: Diagnostic, span: Span, *others: Label) -> None:
        self._reports.add(report(what, self._source, span, *others))


def _steps(items: Sequence[Item]) -> tuple[LayerItem | Group, ...]:
    return tuple(item for item in items if isinstance(item, LayerItem | Group))
