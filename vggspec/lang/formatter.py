"""Syntax tree to canonical text: one spelling of every statement, comments kept.

Formatting does not change what a file means, and formatting twice is formatting once.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

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
from vggspec.lang.tables import Role, roles

INDENT = "  "
MAX_ALIGNED = 120  # columns; a longer cell or line is not aligned with, as all others would grow
COLORS = {"rgb": "RGB", "bgr": "BGR", "gray": "gray", "grey": "gray"}

#: A layer's word to its canonical spelling; any other word as it is.
Spell = Callable[[str], str]

_BRACES = re.compile(r"\{[^{}]*\}")
_STAND_IN = 8_100_001  # a number that nobody writes, in place of one in braces

#: Words whose arguments may be names of layers, which keep their case.
_TAKE_NAMES = frozenset(("crop", "resize"))


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How the layers of one file are spelled."""

    word: Spell
    uses: frozenset[str]
    """Words of the file whose arguments may be names: its blocks."""

    def layer(self, item: LayerItem) -> str:
        """A layer with its options."""
        word = _braced(item.word.text)
        takes_names = word.casefold() in self.uses
        return self._spelled(word) + _options(item.options, keep_case=takes_names)

    def _spelled(self, word: str) -> str:
        """A word in its canonical spelling, numbers in braces as they are."""
        braces = _BRACES.findall(word)
        if not braces:
            return self.word(word)
        stand_ins = iter(range(_STAND_IN, _STAND_IN + len(braces)))
        spelled = self.word(_BRACES.sub(lambda _: str(next(stand_ins)), word))
        for i, written in enumerate(braces):
            spelled = spelled.replace(str(_STAND_IN + i), written)
        return spelled


def _spelling(spell: Spell, blocks: Iterable[Block]) -> _Spelling:
    return _Spelling(spell, _TAKE_NAMES.union(block.name.text.casefold() for block in blocks))


@dataclass(frozen=True, slots=True)
class _Printed:
    """A line to be: its statement and its comment, as text."""

    code: str
    comment: str

    @property
    def has_both(self) -> bool:
        return bool(self.code and self.comment)


def format_document(document: Document, spell: Spell) -> str:
    """The canonical text of a file without mistakes."""
    lines: list[str] = []
    spelling = _spelling(spell, document.blocks)
    for trailing, group in groupby(_printed(document, spelling), key=lambda one: one.has_both):
        printed = list(group)
        width = _width(one.code for one in printed) if trailing else 0
        for one in printed:
            gap = INDENT if trailing else ""
            line = one.code.ljust(width) + gap + one.comment
            if line or (lines and lines[-1]):
                lines.append(line)
    if lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\n" for line in lines)


def one_net(spec: Spec, name: str, image: InputItem | None, layers: Sequence[Step]) -> str:
    """The text of a spec with another input and other layers, one a line, and not like any net."""
    spell = _spelling(str, spec.blocks)
    lines = [f"net {name}"]
    if image is not None:
        lines.append(_input(image))
    if spec.means is not None:
        lines.append(_means(spec.means, spell))
    for block in spec.blocks:
        lines += _block(block, spell)
    lines += [_layers((item,), spell) for item in layers if not isinstance(item, SizeClaim)]
    if spec.outputs is not None:
        lines.append(_outputs(spec.outputs))
    lines += [_claim(claim) for claim in spec.claims]
    for kind, settings in (("train", spec.train), ("test", spec.test)):
        if settings:
            lines += [f"{kind}:", *(INDENT + _setting(setting) for setting in settings)]
    return "".join(f"{line}\n" for line in lines)


_AS_WRITTEN = _Spelling(str, frozenset())


def _printed(document: Document, spell: _Spelling) -> Iterator[_Printed]:
    codes = _codes(document, spell)
    indented = _in_sections(document)
    for i, (code, line) in enumerate(zip(codes, document.lines, strict=True)):
        if line.comment is None:
            yield _Printed(code, "")
        elif code:
            yield _Printed(code, f"# {line.comment}".rstrip())
        else:
            comment = _own_line(document.source.line_text(i + 1).strip())
            yield _Printed("", INDENT + comment if i in indented else comment)


def _own_line(text: str) -> str:
    """A comment that fills a line, with a space after its sign; its own indentation stays."""
    rest = text[1:]
    return f"# {rest}" if rest and not rest[0].isspace() and rest[0] not in "#!" else text


def _in_sections(document: Document) -> set[int]:
    """Lines with only a comment in a section or block: above a line of it, or indented after."""
    found: set[int] = set()
    above: list[int] = []  # comments since the last statement
    head: int | None = None  # the indentation of the section's head
    for i, line in enumerate(document.lines):
        text = document.source.line_text(i + 1).expandtabs(8)
        indent = len(text) - len(text.lstrip())
        match line.statement:
            case None:
                if line.comment is not None:
                    above.append(i)
                    if head is not None and indent > head:
                        found.add(i)
                continue
            case Setting() | BlockLine():
                found.update(above)
            case SectionHead() | BlockHead():
                head = indent
            case _:
                head = None
        above.clear()
    return found


def _codes(document: Document, spell: _Spelling) -> list[str]:
    """The statement of each line as text, rows of a table padded to its columns."""
    codes: list[str] = []
    table: dict[int, TableRow] = {}
    for i, line in enumerate(document.lines):
        statement = line.statement
        if isinstance(statement, TableRow):
            table[i] = statement
            codes.append("")
            continue
        if statement is not None or line.comment is None:
            _fill(codes, table, spell)
        codes.append("" if statement is None else _statement(statement, spell))
    _fill(codes, table, spell)
    return codes


def _fill(codes: list[str], table: dict[int, TableRow], spell: _Spelling) -> None:
    """Put the rows of a table that has ended in their lines."""
    for i, text in zip(table, _table(list(table.values()), spell), strict=True):
        codes[i] = text
    table.clear()


def _table(rows: Sequence[TableRow], spell: _Spelling) -> list[str]:
    if not rows:
        return []
    columns = roles(rows[0])
    cells = [_texts(row, columns, spell, is_head=i == 0) for i, row in enumerate(rows)]
    widths = [0] * len(columns)
    wide = 0
    for row, texts in zip(rows, cells, strict=True):
        if row.is_rule:
            continue
        is_spanning = len(texts) != len(columns)
        nets = [i for i, role in enumerate(columns) if role == "net"] if is_spanning else []
        if is_spanning:
            wide = max(wide, _width(texts[nets[0] : nets[0] + 1]))
            texts = [*texts[: nets[0]], *("" for _ in nets), *texts[nets[0] + 1 :]]
        lengths = [_width((text,)) for text in texts]
        widths = [max(pair) for pair in zip(widths, lengths, strict=True)]
    nets = [i for i, role in enumerate(columns) if role == "net"]
    missing = wide - (sum(widths[i] for i in nets) + 3 * (len(nets) - 1))
    if nets and missing > 0:
        share, rest = divmod(missing, len(nets))
        for at, i in enumerate(nets):
            widths[i] += share + (at < rest)
    return [_row(row, texts, columns, widths) for row, texts in zip(rows, cells, strict=True)]


def _texts(
    row: TableRow, columns: tuple[Role, ...], spell: _Spelling, *, is_head: bool
) -> list[str]:
    """The cells of a row. The first row names nets, and a net may be called as a layer is."""
    if row.is_rule:
        return ["---"]
    cells = row.cells
    if len(cells) != len(columns):  # one spans the nets
        first = columns.index("net")
        columns = (*columns[:first], "net", *columns[first + columns.count("net") :])
    texts = []
    for role, cell in zip(columns, cells, strict=True):
        is_name = is_head or role == "name"
        text = _cell(cell, _AS_WRITTEN if is_name else spell)
        texts.append(text.lower() if is_head and role in ("layer", "name", "output") else text)
    return texts


def _width(texts: Iterable[str]) -> int:
    """The width of the longest text that is short enough to be aligned."""
    lengths = (len(text) for text in texts)
    return max((length for length in lengths if length <= MAX_ALIGNED), default=0)


def _row(
    row: TableRow, texts: Sequence[str], columns: tuple[Role, ...], widths: Sequence[int]
) -> str:
    if row.is_rule:
        return "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    padded = []
    if len(texts) == len(widths):
        padded = [f" {text.ljust(width)} " for text, width in zip(texts, widths, strict=True)]
    else:
        first, count = columns.index("net"), columns.count("net")
        others = (*widths[:first], 0, *widths[first + count :])
        padded = [f" {text.ljust(width)} " for text, width in zip(texts, others, strict=True)]
        inner = sum(widths[first : first + count]) + 3 * count - 1
        padded[first] = texts[first].center(inner)
    return f"|{'|'.join(padded)}|"


def _cell(cell: Cell, spell: _Spelling) -> str:
    if cell.rule:
        return "---"
    match cell.items:
        case (InputItem() as image,):
            return _input(image)
        case (Claim() as claim,):
            return f"**{_claim(claim)}**" if claim.bold else _claim(claim)
        case items:
            return _layers(items, spell)


def _statement(statement: Statement, spell: _Spelling) -> str:
    match statement:
        case NetName(name=name):
            return f"net {name.text}"
        case InputItem():
            return _input(statement)
        case Like(path=path, up_to=up_to):
            return f'like "{path.text}"' + (f" up to {up_to.text}" if up_to else "")
        case Claim():
            return _claim(statement)
        case Layers(items=items):
            return _layers(items, spell)
        case Outputs():
            return _outputs(statement)
        case Means():
            return _means(statement, spell)
        case BlockHead(name=name, parameters=parameters):
            return _block_head(name, parameters)
        case BlockLine(join=join, branch=branch):
            return INDENT + _signed(join, branch, spell)
        case SectionHead(kind=kind):
            return f"{kind}:"
        case Setting():
            return INDENT + _setting(statement)
        case TableRow():
            raise AssertionError("rows are printed a table at a time")


def _input(image: InputItem) -> str:
    text = f"input {image.height.text}x{image.width.text}"
    if image.color is not None:
        color = image.color.text
        text += f" {COLORS.get(color.casefold(), color)}"
    return text + _options(image.options)


def _claim(claim: Claim) -> str:
    number = claim.number.text.upper()
    kind = re.sub(r"(?<=r)s\b", "", claim.kind) if number == "1" else claim.kind
    return f"{number} {kind}"


def _outputs(outputs: Outputs) -> str:
    return f"outputs {' '.join(name.text for name in outputs.names)}"


def _means(means: Means, spell: _Spelling) -> str:
    return f"conv is {_layers(means.items, spell)}"


def _block(block: Block, spell: _Spelling) -> list[str]:
    """The lines of a block, one a branch."""
    lines = [_block_head(block.name, block.parameters)]
    for i, branch in enumerate(block.branches):
        lines.append(INDENT + _signed(block.join if i else None, branch, spell))
    return lines


def _block_head(name: Word, parameters: Sequence[Parameter]) -> str:
    written = (
        one.name.text + (f" = {one.default.text}" if one.default else "") for one in parameters
    )
    return f"block {name.text}" + (f"({', '.join(written)})" if parameters else "") + ":"


def _signed(join: str | None, branch: Branch, spell: _Spelling) -> str:
    text = _branch(branch, spell)
    return text if join is None else f"{join} {text}"


def _branch(branch: Branch, spell: _Spelling) -> str:
    parts = [] if branch.source is None else [f"from {_braced(branch.source.text)}"]
    if branch.items:
        parts.append(_layers(branch.items, spell))
    return " ".join(parts)


def _layers(items: Sequence[Item | Step], spell: _Spelling) -> str:
    parts = []
    for bold, group in groupby(items, key=lambda item: getattr(item, "bold", False)):
        text = " ".join(_item(item, spell) for item in group)
        parts.append(f"**{text}**" if bold else text)
    return " ".join(parts)


def _item(item: Item | Step, spell: _Spelling) -> str:
    match item:
        case LayerItem():
            text = spell.layer(item)
        case Group(join=join, branches=branches):
            inner = (_branch(branch, spell) for branch in branches)
            text = f"[{f' {join} '.join(inner)}]"
        case From(name=name):
            return f"from {_braced(name.text)}"
        case SizeClaim(height=height, width=width, channels=channels):
            return "x".join(one.text for one in (height, width, channels) if one is not None)
        case InputItem():
            return _input(item)
        case Claim():
            return _claim(item)
        case Word(text=number):
            return number
    if item.repeat is not None:
        text += f" {_plain(item.repeat)}"
    if item.alias is not None:
        text += f" as {item.alias.text}"
    return text


def _with_braces_of(text: str, changed: str) -> str:
    """A changed text with its braces as they were."""
    braces = iter(_BRACES.findall(text))
    return _BRACES.sub(lambda match: next(braces, match[0]), changed)


def _braced(text: str) -> str:
    """A word without the spaces in its braces."""
    return _BRACES.sub(lambda match: "".join(match[0].split()), text)


def _options(options: Sequence[Option], *, keep_case: bool = False) -> str:
    plain = _unspaced if keep_case else _plain
    written = (" ".join(plain(word) for word in option.words) for option in options)
    return f"({', '.join(written)})" if options else ""


def _unspaced(word: Word) -> str:
    """``5 × 5``, ``× 2`` and ``{4 * c}`` as ``5x5``, ``x2`` and ``{4*c}``."""
    return "".join(word.text.split()).replace("×", "x")


def _plain(word: Word) -> str:
    """The same in lower case; parameters in braces keep theirs."""
    text = _unspaced(word)
    return _with_braces_of(text, text.lower())


def _setting(setting: Setting) -> str:
    text = setting.words[0].text.lower().replace("color", "colour")
    names_classes = [word.text.lower() for word in setting.words[:2]] == ["class", "weights"]
    for number, word in enumerate(setting.words[1:], start=1):
        match word:
            case Quoted(text=path):
                text += f' "{path}"'
            case Word(text="," | ":" as mark):
                text += mark
            case Word(text=name) if names_classes and number > 1:
                text += f" {name}"
            case Word():
                text += f" {_value(word)}"
    return text


def _value(word: Word) -> str:
    """As in the paper, ``370K`` iterations and the ``FC`` layers; all else in lower case."""
    text = _plain(word)
    is_capital = text == "fc" or (text[:-1].isdecimal() and text[-1] in "km")
    return text.upper() if is_capital else text
