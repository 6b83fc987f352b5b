"""The nets and blocks of a file from its lines: columns, tables, tables with a layer a row."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from vggspec.base.catalogue import files, layers, syntax
from vggspec.base.diagnostic import Diagnostic, Label, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source, Span
from vggspec.lang.ast import (
    Block,
    BlockHead,
    BlockLine,
    Branch,
    Cell,
    Claim,
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
    SectionHead,
    Setting,
    SizeClaim,
    Spec,
    Statement,
    Step,
    TableRow,
    Word,
)
from vggspec.lang.mistakes import Rule, corrected
from vggspec.lang.tables import Role, roles, spanning, spread, word_in

MAX_NETS = 64
MAX_CLAIMS = 16  # a net
MAX_SETTINGS = 64  # a section
MAX_BLOCKS = 64  # a file

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")

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
_BRACES = re.compile(r"\{[^{}]*\}")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_ROWS = re.compile(r"\s*\|\s*layer\s*\|", re.IGNORECASE)


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
        self.read: set[str] = set()
        self.is_complete = head.is_complete

    def block(self) -> Block:
        return Block(
            self.head.name,
            self.head.parameters,
            self.join,
            tuple(self.branches),
            self.head.span,
            self.is_complete,
            frozenset(self.read),
        )


class Assembly:
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
        for braced in _BRACES.findall(self._source.slice(line.span)):
            block.read.update(map(str.casefold, _PARAMETER.findall(braced)))
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
            self._report(syntax.FromWithin(where="branch"), line.span)
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
