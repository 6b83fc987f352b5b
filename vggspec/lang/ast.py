"""The syntax tree of a spec file: what was written and where, nothing decided yet.

A file is a list of lines, each with its statement and its comment, so that the formatter can
print every line again; ``Spec`` is the view of one net, a column or a column of a table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from vggspec.base.source import Source, Span


@dataclass(frozen=True, slots=True)
class Word:
    """A word, a number or a punctuation mark, as written."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Quoted:
    """A file name in quotation marks; ``text`` is without them."""

    text: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Option:
    """``pad 2``, ``linear``, ``mean 123.68 116.779 103.939``: a word and its values."""

    words: tuple[Word, ...]
    span: Span = field(compare=False)

    @property
    def name(self) -> Word:
        """What is set."""
        return self.words[0]

    @property
    def values(self) -> tuple[Word, ...]:
        """What it is set to."""
        return self.words[1:]


@dataclass(frozen=True, slots=True)
class LayerItem:
    """``conv3-64(pad 1) x2 as conv1``, bold or not."""

    word: Word
    options: tuple[Option, ...]
    repeat: Word | None
    alias: Word | None
    bold: bool
    span: Span = field(compare=False)


def with_option(item: LayerItem, word: str) -> LayerItem:
    """The layer with one more option of one word, unless it has that."""
    if any(option.name.text.casefold() == word for option in item.options):
        return item
    option = Option(words=(Word(word, item.span),), span=item.span)
    return replace(item, options=(*item.options, option))


@dataclass(frozen=True, slots=True)
class Branch:
    """One path through a bracket: ``from pool4 conv1-21`` or ``conv3-64 conv3-64``."""

    source: Word | None
    """Where it begins; None for what enters the bracket."""

    items: "tuple[LayerItem | Group, ...]"
    """Empty for a branch that is ``from NAME`` alone."""

    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """A bracket: ``[conv3-64 conv3-64 + shortcut] x2 as conv2``, bold or not."""

    join: Literal["+", "&"] | None
    """How the results of several branches become one: a sum, or their channels joined."""

    branches: tuple[Branch, ...]
    repeat: Word | None
    alias: Word | None
    bold: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class From:
    """``from pool4`` at the start of a line: the layers after it begin there."""

    name: Word
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SizeClaim:
    """``56x56x256`` in the column ``output`` of a table: what leaves the layers before it."""

    height: Word
    width: Word
    channels: Word | None
    span: Span = field(compare=False)


#: What the lines of a net hold, in their order.
Step = LayerItem | Group | From | SizeClaim


@dataclass(frozen=True, slots=True)
class InputItem:
    """``input 224x224 RGB(mean 123.68 116.779 103.939)``."""

    height: Word
    width: Word
    color: Word | None
    options: tuple[Option, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """``16 weight layers``, ``22 weight layers deep``, ``138M parameters`` or ``1.8G MACs``."""

    kind: Literal["weight layers", "weight layers deep", "parameters", "MACs"]
    number: Word
    bold: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Like:
    """``like "D.vgg" up to fc7``."""

    path: Quoted
    up_to: Word | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class NetName:
    """``net D``."""

    name: Word
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Outputs:
    """``outputs conv1_2 conv2_2``: the results, in this order."""

    names: tuple[Word, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Means:
    """``conv is conv(no-bias) BN ReLU``: what each written conv stands for."""

    items: tuple[LayerItem, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """``c``, or ``s = 1`` with its default, of a block."""

    name: Word
    default: Word | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class BlockHead:
    """``block bottleneck(c, s = 1):``; the lines of its body follow, indented."""

    name: Word
    parameters: tuple[Parameter, ...]
    span: Span = field(compare=False)
    is_complete: bool = field(default=True, compare=False)
    """False where it could not be read whole; then its name may be empty."""


@dataclass(frozen=True, slots=True)
class BlockLine:
    """A line of a block: ``+ shortcut`` begins one more branch, ``conv3-{c}`` continues one."""

    join: Literal["+", "&"] | None
    branch: Branch
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Block:
    """A bracket with a name and parameters, used as a layer is."""

    name: Word
    parameters: tuple[Parameter, ...]
    join: Literal["+", "&"] | None
    branches: tuple[Branch, ...]
    span: Span = field(compare=False)
    """The head."""

    is_complete: bool = field(default=True, compare=False)
    """False where a line of it could not be read: what it is used for is not checked."""

    read: frozenset[str] = field(default=frozenset(), compare=False)
    """The names in the braces of its lines."""


@dataclass(frozen=True, slots=True)
class SectionHead:
    """``train:`` or ``test:``."""

    kind: Literal["train", "test"]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Setting:
    """``batch 256``: an indented line below a section's head."""

    words: tuple[Word | Quoted, ...]
    span: Span = field(compare=False)


#: What a cell of a table holds. A number is an argument of the row's layer, a word its name.
Item = LayerItem | Group | InputItem | Claim | SizeClaim | Word


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers on one line, from the end of the line before or from a layer that is named."""

    items: tuple[LayerItem | Group | From, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """The text between two bars; ``rule`` for the dashes below a table's first row."""

    items: tuple[Item, ...]
    rule: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of a table."""

    cells: tuple[Cell, ...]
    span: Span = field(compare=False)

    @property
    def is_rule(self) -> bool:
        """Whether the row only separates the names from the layers."""
        return bool(self.cells) and all(cell.rule for cell in self.cells)


Statement = (
    NetName
    | InputItem
    | Like
    | Claim
    | Layers
    | Outputs
    | Means
    | BlockHead
    | BlockLine
    | SectionHead
    | Setting
    | TableRow
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file: a statement, a comment, both or neither."""

    statement: Statement | None
    comment: str | None
    """The text after ``#``, without the space around it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One net as written."""

    name: Word | None
    """None where the file does not name its only net: then the file's name is the net's."""

    input: InputItem | None
    like: Like | None
    layers: tuple[Step, ...]
    outputs: Outputs | None
    means: Means | None
    claims: tuple[Claim, ...]
    train: tuple[Setting, ...]
    test: tuple[Setting, ...]
    blocks: tuple[Block, ...]
    """Of the file: blocks belong to all of its nets."""

    source: Source = field(compare=False, repr=False)
    is_complete: bool = field(default=True, compare=False)
    """False where a line of it could not be read: what depends on all lines is not checked."""

    @property
    def span(self) -> Span:
        """Where to report what concerns the whole net."""
        if self.name is not None:
            return self.name.span
        first = self.layers[0] if self.layers else self.input or self.like
        return first.span if first is not None else Span(0, 0)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file."""

    lines: tuple[Line, ...]
    specs: tuple[Spec, ...]
    source: Source = field(compare=False, repr=False)
    blocks: tuple[Block, ...] = ()

    def statements(self) -> Iterator[Statement]:
        """What is written, comments left out."""
        for line in self.lines:
            if line.statement is not None:
                yield line.statement
