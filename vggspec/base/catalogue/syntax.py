"""Mistakes in the text of a spec (VGG001 to VGG009, VGG02x to VGG04x)."""

import unicodedata

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import either


class Unexpected(Diagnostic):
    """Something in the line is not expected at this place.

    A line is one of: ``net NAME``, ``input 224x224 RGB``, layers, a claim such as
    ``16 weight layers``, ``like "D.vgg" up to fc7``, ``train:``, ``test:``, a row of a table, or
    an indented setting below ``train:`` or ``test:``.

        conv3-64(pad 1      wrong: the bracket is not closed
        conv3-64(pad 1)     right
    """

    code = "VGG001"
    TITLE = ("`{found}` is not expected here", "the line ends too early")
    LABEL = "expected {expected:either}"
    HELP = "write `{suggestion}`"
    found: str
    expected: tuple[str, ...] = ()
    suggestion: str | None = None


class PastedDash(Diagnostic):
    """A dash looks like a hyphen but is another character, as in text pasted from a PDF.

    Type the hyphen of the keyboard:

        conv3–64     wrong: an en dash
        conv3-64     right
    """

    code = "VGG002"
    LABEL = "this dash comes from a PDF or a word processor"
    HELP = "write `{corrected}`"
    dash: str
    corrected: str

    def title(self) -> str:
        return f"U+{ord(self.dash):04X} is not the hyphen"


class StrayCharacter(Diagnostic):
    """The line contains an invisible character.

    A zero-width space, a control character or a mark of the writing direction often comes with
    pasted text. Delete it, or type the line again.
    """

    code = "VGG003"
    HELP = "delete it: it cannot be seen, and came with pasted text"
    character: str

    def title(self) -> str:
        return f"the character U+{ord(self.character):04X} is not allowed in a spec"

    def label(self) -> str:
        return unicodedata.name(self.character, "a control character").lower()


class UnclosedQuote(Diagnostic):
    """A quotation mark is not closed.

    A quoted file name ends on the line on which it begins:

        like "D.vgg       wrong
        like "D.vgg"      right
    """

    code = "VGG004"
    TITLE = "the quotation mark is not closed on this line"
    HELP = 'end the file name with `"`'


class UnclosedBold(Diagnostic):
    """A bold mark has no partner in its cell or on its line.

    Bold marks have no effect; the paper prints in bold what a net adds.

        **conv3-64       wrong
        **conv3-64**     right
    """

    code = "VGG005"
    TITLE = "the bold mark has no partner in its cell"
    HELP = "put `**` on both sides, or on none"


class RaggedRow(Diagnostic):
    """A row has neither one cell for each net of its table nor one cell that spans all.

    The columns ``name`` and ``output`` have cells of their own. An empty cell adds nothing:

        | A       | B       | C |
        | conv3-8 | conv3-8 |         wrong: which two of the three?
        | conv3-8 | conv3-8 |   |     right: A and B
        |        conv3-8        |     right: all three
    """

    code = "VGG006"
    TITLE = (
        "this row has {cells:count cell}, the table has {columns:count column}",
        "this row has {cells:count cell}, the table has {nets:count net}",
    )
    HELP = (
        "write {columns} cells, empty ones included, or {spanning}, one of which spans all nets",
        "write {columns:count cell}, empty ones included",
        "write {nets:count cell}, empty ones included, or one that spans all",
    )
    cells: int
    nets: int
    columns: int | None = None
    """For a table with other columns than nets, how many."""

    spanning: int | None = None
    """Cells of a row in which one spans all nets."""


class NotANetName(Diagnostic):
    """The name of a net was expected.

    A name is made of letters, digits, ``.``, ``_`` and ``-``, and begins with a letter. The first
    row of a table contains the names of its nets, one a cell; a blank line ends a table, so the row
    after it is the first of another.

        | conv3-64 | conv3-64 |      wrong: whose layers are these?

        | A        | B        |      right
        | conv3-64 | conv3-64 |
    """

    code = "VGG007"
    name: str
    columns: int = 0
    """For a table, how many cells its first row has; 0 for a ``net`` line."""

    is_one_of_several: bool = False
    """Whether other cells of the row contain names."""

    follows_table: bool = False

    def title(self) -> str:
        if not self.columns:
            return f"`{self.name}` is not the name of a net"
        return "the first row of a table contains the names of its nets"

    def label(self) -> str:
        if not self.columns:
            return "a name begins with a letter; digits, `.`, `_` and `-` may follow"
        return "this is no name" if self.name else "this cell is empty"

    def help(self) -> str | None:
        if self.follows_table:
            return "remove the blank line above it, which ended the table"
        if not self.columns:
            rest = "".join(
                c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in self.name
            )
            return f"write `net vgg-{rest.strip('-')}`"
        if self.is_one_of_several:
            return "write a name here too: each column is a net"
        if self.columns <= 8:
            cells = " | ".join("ABCDEFGH"[: self.columns])
            return f"write the names above it, as in `| {cells} |`"
        return "write the names above it, one a cell"


class NothingHere(Diagnostic):
    """The file contains no net: it is empty, or has only comments.

    The smallest net for ten classes is

        FC-10
        soft-max
    """

    code = "VGG008"
    TITLE = "there is no net in this file"
    HELP = "write layers, one a line, such as `conv3-64`, `maxpool`, `FC-1000`, `soft-max`"


class BeforeFirstNet(Diagnostic):
    """There is text before the first ``net`` line or table.

    Where a file names its nets, everything belongs to the net named last.

        conv3-64     wrong: whose is it?
        net D

        net D        right
        conv3-64
    """

    code = "VGG009"
    TITLE = "this comes before the first net"
    HELP = "give it a `net` line of its own, or move it below this one"


class UnindentedSetting(Diagnostic):
    """A setting is not indented below ``train:`` or ``test:``.

    A line that is not indented ends the section, and is read as layers.

        train:
        batch 256      wrong
          batch 256    right
    """

    code = "VGG020"
    TITLE = "`{setting}` is a setting, not a layer"
    setting: str
    sections: tuple[str, ...]

    def help(self) -> str | None:
        return f"indent it below {either([f'`{one}:`' for one in self.sections])}"


class SectionWithoutNet(Diagnostic):
    """A section comes before any net or table.

    It belongs to the one above it, so the net comes first:

        train:          wrong
          batch 64
        FC-10

        FC-10           right
        train:
          batch 64
    """

    code = "VGG021"
    TITLE = "`{section}:` comes before any net"
    HELP = "move it below the layers"
    section: str


class Twice(Diagnostic):
    """Something that a net has once is written twice.

    A net has one input, one ``like``, one ``outputs``, one ``conv is``, one ``train:`` section and
    one ``test:`` section.

        input 224x224 RGB
        input 32x32 RGB       wrong
    """

    code = "VGG022"
    TITLE = "`{what}` is written twice for the same net"
    LABEL = "the second one"
    HELP = "keep one of them"
    what: str


class TooManyNets(Diagnostic):
    """A file has too many nets.

    The limit keeps a hostile file from taking all memory.
    """

    code = "VGG023"
    TITLE = "the file has {found} nets, more than {limit}"
    HELP = "split the file"
    found: int
    limit: int


class WordTooLong(Diagnostic):
    """A word, a number or a file name is too long.

    The limit keeps a hostile file from taking all memory.
    """

    code = "VGG024"
    TITLE = "this word has {length} characters"
    LABEL = "expected at most {limit}"
    HELP = "check that this is the file you meant"
    length: int
    limit: int


class AfterHead(Diagnostic):
    """``train:`` or ``test:`` is not on a line of its own.

    The settings follow below it, indented, one a line.

        train: batch 256      wrong

        train:                right
          batch 256
    """

    code = "VGG025"
    TITLE = "`{found}` is on the line of its section's name"
    LABEL = "expected the end of the line"
    found: str
    setting: str | None

    def help(self) -> str | None:
        what = f"`{self.setting}`" if self.setting else "it"
        return f"write {what} on the next line, indented"


class OpenRow(Diagnostic):
    """A row of a table does not end with a bar.

    Each cell is between two bars; a comment comes after the last one.

        | A | B          wrong
        | A | B |        right
    """

    code = "VGG026"
    TITLE = "the row does not end with a bar"
    LABEL = "expected `|`"
    is_hidden: bool
    """Whether the last bar is in the comment."""

    def help(self) -> str | None:
        if self.is_hidden:
            return "write the comment after the last `|`"
        return "write `|` at the end of the row"


class CommaInBracket(Diagnostic):
    """A comma separates layers in a bracket.

    Layers that follow each other have nothing between them. The branches of a bracket are separated
    by ``+``, which adds their results, or by ``&``, which joins their channels.

        [conv1-64, conv3-64]       wrong: one after the other, or side by side?
        [conv1-64 conv3-64]        right: one after the other
        [conv1-64 & conv3-64]      right: side by side, their channels joined
    """

    code = "VGG030"
    TITLE = "a comma separates the layers of this bracket"
    LABEL = "layers that follow each other have nothing between them"
    HELP = "leave it out, or write `&` to join the channels of branches"


class MixedJoins(Diagnostic):
    """One bracket or block both adds its branches and joins their channels.

    Put one of the two into a bracket of its own:

        [conv3-64 + conv1-64 & identity]        wrong
        [[conv3-64 + conv1-64] & identity]      right
    """

    code = "VGG031"
    TITLE = "one {where} adds branches with `+` and joins them with `&`"
    LABEL = "the first sign is `{first}`"
    HELP = "put one of the two into a bracket of its own"
    where: str
    first: str


class EmptyBranch(Diagnostic):
    """A branch has no layers.

    A branch that does nothing is ``identity``:

        [conv3-64 + ]            wrong
        [conv3-64 + identity]    right
    """

    code = "VGG032"
    TITLE = "a branch of this {where} is empty"
    LABEL = "expected a layer"
    HELP = "write `identity` for a branch that does nothing"
    where: str


class OpenBracket(Diagnostic):
    """A bracket is not closed on its line, or in its cell.

    A bracket ends on the line on which it begins; what is longer is a ``block``.

        [conv3-64 conv3-64 + shortcut        wrong
        [conv3-64 conv3-64 + shortcut]       right
    """

    code = "VGG033"
    TITLE = "the bracket is not closed {where}"
    HELP = "close it with `]`; what is longer than a line is a `block`"
    where: str


class StrayBracket(Diagnostic):
    """A bracket is closed that was not opened.

    A bracket begins and ends on one line, and in a table in one cell:

        conv3-64 conv3-64 + shortcut]        wrong
        [conv3-64 conv3-64 + shortcut]       right
    """

    code = "VGG034"
    TITLE = "no bracket is open here"
    HELP = "write `[` where the bracket begins, or leave this one out"


class RepeatBefore(Diagnostic):
    """A repeat stands before its bracket.

    As for a layer, it follows:

        3x [conv3-64 conv3-64 + shortcut]      wrong
        [conv3-64 conv3-64 + shortcut] x3      right
    """

    code = "VGG035"
    TITLE = "`{found}` stands before the bracket"
    HELP = "write `x{times}` behind the bracket"
    found: str
    times: str


class JoinOutsideBracket(Diagnostic):
    """A ``+`` or ``&`` is not between the branches of a bracket.

    Inside a bracket it separates branches, and in a block it begins a line. Layers that follow each
    other have nothing between them.

        conv3-64 + shortcut        wrong
        [conv3-64 + shortcut]      right
    """

    code = "VGG036"
    TITLE = "`{sign}` is not in a bracket"
    sign: str
    in_block: bool = False
    """Whether the line belongs to a block, where the sign would begin it."""

    def help(self) -> str | None:
        if self.in_block:
            return f"begin a line of the block with `{self.sign}`, or use a bracket"
        other = "shortcut" if self.sign == "+" else "identity"
        return f"put the branches into a bracket, as in `[conv3-64 {self.sign} {other}]`"


class BracketsTooDeep(Diagnostic):
    """Brackets are nested too deeply.

    The limit keeps a hostile file from taking all memory. A ``block`` gives a part of a bracket a
    name, so that it can be written apart:

        block part(c):
          conv1-{c} & conv3-{c}
    """

    code = "VGG037"
    TITLE = "brackets are nested more than {limit} deep"
    HELP = "write the inner ones as a `block`"
    limit: int


class MeansOneConv(Diagnostic):
    """The line ``conv is`` has no conv or several.

    The line says what stands around each conv of the net, so that it contains one:

        conv is BN ReLU                     wrong
        conv is BN ReLU conv(no-bias)       right
    """

    code = "VGG038"
    HELP = "write one, as in `conv is conv(no-bias) BN ReLU`"
    convs: int

    def title(self) -> str:
        return f"`conv is` contains {'no' if not self.convs else self.convs} `conv`"


class OpenBrace(Diagnostic):
    """A brace is not closed.

    What is in braces is a number, worked out from the parameters of a block:

        conv1-{4*c        wrong
        conv1-{4*c}       right
    """

    code = "VGG039"
    TITLE = "the brace is not closed"
    HELP = "close it with `}}` directly after the number"


class FromWithin(Diagnostic):
    """``from`` stands where a line or a branch goes on.

    A path begins at one place, which stands first on its line:

        from pool4 conv1-64 from pool3 conv1-64      wrong

        from pool4 conv1-64
        from pool3 conv1-64                          right

    In a bracket and in a block it is the beginning of a branch; a cell of a table has no `from`:

        block part:
          conv3-64
          from pool4 conv1-64          wrong

        block part:
          conv3-64
          + from pool4 conv1-64        right: a branch of its own
    """

    code = "VGG040"
    TITLE = "`from` begins in the middle of a {where}"
    where: str

    def help(self) -> str | None:
        if self.where == "line":
            return "begin a line of its own with it, outside of tables"
        return "write `+` or `&` before it, or leave it out"


class EmptyBlock(Diagnostic):
    """A block has no lines.

    Its layers stand below its name, indented:

        block part:
        conv3-64          wrong
          conv3-64        right
    """

    code = "VGG041"
    TITLE = "the block `{name}` has no layers"
    HELP = "indent them below this line"
    name: str


class BlockTwice(Diagnostic):
    """Two blocks of a file have the same name.

    A block belongs to the file, whatever net it stands in; case is ignored.

        block part(c):
          conv3-{c}
        block part(c):        wrong
          conv1-{c}
    """

    code = "VGG042"
    TITLE = "the block `{name}` is written twice"
    LABEL = "the second one"
    HELP = "give it another name"
    name: str


class NotABlockName(Diagnostic):
    """A block is called as a layer or a keyword is, or by something that is no name.

    A block is used as a layer is, so that its name must be another one. It contains letters, digits
    and ``_``, and begins with a letter.

        block conv3:         wrong
        block separable:     right
    """

    code = "VGG043"
    TITLE = "`{name}` is not a name for a block"
    name: str
    is_taken: bool
    """Whether a layer or a keyword is called so."""

    def label(self) -> str:
        if self.is_taken:
            return "a layer or a keyword is written so"
        return "a name begins with a letter; digits and `_` may follow"

    def help(self) -> str | None:
        rest = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in self.name)
        rest = rest.strip("_") + ("_block" if self.is_taken else "")
        return f"write another name, such as `{rest}`" if rest[:1].isalpha() else None


class MalformedBlock(Diagnostic):
    """The first line of a block is not its name, its parameters and a colon.

    The layers of the block stand below it, indented.

        block part(c, s = 1)             wrong: the colon is missing
          conv3-{c}/{s}

        block part: conv3-64             wrong: on the next line

        block part(c, s = 1):            right: s is 1 where a use does not give it
          conv3-{c}/{s}
    """

    code = "VGG044"
    TITLE = ("`{found}` is not expected here", "the first line of the block ends too early")
    found: str
    expected: str
    suggestion: str | None
    is_body: bool
    """Whether the layers of the block stand on its first line."""

    def label(self) -> str:
        return f"expected {'the end of the line' if self.is_body else self.expected}"

    def help(self) -> str | None:
        if self.is_body:
            return "write the layers on the next lines, indented"
        if self.suggestion is not None:
            return f"write `{self.suggestion}`"
        return (
            "write a name, parameters if there are any, and a colon, as in `block part(c, s = 1):`"
        )


class NotAParameter(Diagnostic):
    """A parameter has no usable name, or the name of another one.

    A parameter is made of letters, digits and ``_`` and begins with a letter; ``in`` is how many
    channels enter the block. The first row of a table that begins with ``layer`` contains
    parameters, ``name`` and ``output``, each once.

        | layer | 3x3 |      wrong
        | fire  | 64  |

        | layer | e3  |      right
        | fire  | 64  |
    """

    code = "VGG045"
    name: str
    in_table: bool = False
    is_second: bool = False

    def title(self) -> str:
        if self.is_second:
            where = "columns of the table" if self.in_table else "parameters of the block"
            return f"two {where} are called `{self.name}`"
        if not self.name:
            return "a column of the table has no name"
        return f"`{self.name}` is not a name for a parameter"

    def label(self) -> str:
        if self.is_second:
            return "the second one"
        if self.name.casefold() == "in":
            return "it stands for the channels that enter the block"
        return "a name begins with a letter; digits and `_` may follow"

    def help(self) -> str | None:
        if self.in_table and not self.is_second:
            return "write the name of a parameter, `name` or `output`"
        return "give it another name"


class ArgumentsOfSeveral(Diagnostic):
    """A row of a table has arguments, and not one layer to take them.

        | layer            | e1 |
        | conv3-64 maxpool | 64 |      wrong: for which of the two?

        | layer            | e1 |
        | conv3-64 maxpool |    |      right
        | expand           | 64 |

    Only a layer or the use of a block takes arguments.
    """

    code = "VGG046"
    TITLE = "this row has arguments, and not one layer to take them"
    LABEL = "the first argument"
    HELP = "give the layer that takes them a row of its own"


class WrongCell(Diagnostic):
    """A cell holds something else than the head of its column says.

    The column ``name`` holds names, ``output`` sizes, and a column with the name of a parameter
    numbers:

        | layer    | name  | output     |
        | conv3-64 | conv1 | 224, 224   |      wrong
        | conv3-64 | conv1 | 224x224x64 |      right
    """

    code = "VGG047"
    TITLE = "`{found}` is not expected in this column"
    LABEL = "expected {expected}"
    found: str
    expected: str


class NamedRow(Diagnostic):
    """The column ``name`` names a row that has no layers, or a layer that has a name.

        | layer             | name  |
        | conv3-64 as first | conv1 |      wrong: two names
        | conv3-64          | conv1 |      right

    A name in this column has the meaning of ``as``.
    """

    code = "VGG048"
    TITLE = (
        "the row is called `{name}`, its layer `{other}`",
        "the row called `{name}` has no layers",
    )
    name: str
    other: str | None = None

    def help(self) -> str | None:
        return "keep one of the names" if self.other is not None else "leave the name out"
