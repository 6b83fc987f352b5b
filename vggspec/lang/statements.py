"""The parse tree of a line to a node of the syntax tree."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from lark import Token, Transformer, Tree

from vggspec.base.catalogue import syntax
from vggspec.base.source import Span
from vggspec.lang.ast import (
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
    Means,
    NetName,
    Option,
    Outputs,
    Parameter,
    Quoted,
    SectionHead,
    Setting,
    SizeClaim,
    Statement,
    TableRow,
    Word,
)

if TYPE_CHECKING:
    from vggspec.base.diagnostic import Diagnostic


class ToAst(Transformer[Token, Any]):
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
                    if isinstance(one.items[0], From):
                        self._refuse_sources(one.items[:1], "line")
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
        self._refuse_sources(found[1:], "line")
        return Layers(tuple(_flat(found)), self._line)

    def source(self, found: list[Any]) -> From:
        name = self._word(found[1])
        return From(name, self._span(found[0]).to(name.span))

    def layers(self, found: list[Any]) -> Layers:
        self._refuse_sources(found, "line")
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
        source = found[0].name if found and isinstance(found[0], From) else None
        items = tuple(_flat(found if source is None else found[1:]))
        self._refuse_sources(items, "branch")
        spans = [one.span for one in (source, *items) if one is not None]
        return Branch(source, items, spans[0].to(spans[-1]) if spans else self._line)

    def _refuse_sources(self, items: Sequence[Any], where: Literal["line", "branch"]) -> None:
        """Report a `from` after the beginning of a line or of a branch, or in a cell."""
        self.mistakes += [
            (syntax.FromWithin(where=where), one.span) for one in items if isinstance(one, From)
        ]

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


def _flat(found: Sequence[Any]) -> list[Any]:
    """Layers and brackets, those between bold marks with the others."""
    items: list[Any] = []
    for one in found:
        items.extend(one if isinstance(one, list) else [one])
    return items
