"""Mistakes in the text of a spec (VGG001 to VGG009, VGG02x)."""

import unicodedata
from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import either


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class UnclosedQuote(Diagnostic):
    """A quotation mark is not closed.

    A quoted file name ends on the line on which it begins:

        like "D.vgg       wrong
        like "D.vgg"      right
    """

    code = "VGG004"
    TITLE = "the quotation mark is not closed on this line"
    HELP = 'end the file name with `"`'


@dataclass(frozen=True, kw_only=True)
class UnclosedBold(Diagnostic):
    """A bold mark has no partner in its cell or on its line.

    Bold marks have no effect; the paper prints in bold what a net adds.

        **conv3-64       wrong
        **conv3-64**     right
    """

    code = "VGG005"
    TITLE = "the bold mark has no partner in its cell"
    HELP = "put `**` on both sides, or on none"


@dataclass(frozen=True, kw_only=True)
class RaggedRow(Diagnostic):
    """A row has neither one cell for each net of its table nor one cell that spans all.

    An empty cell adds nothing:

        | A       | B       | C |
        | conv3-8 | conv3-8 |         wrong: which two of the three?
        | conv3-8 | conv3-8 |   |     right: A and B
        |        conv3-8        |     right: all three
    """

    code = "VGG006"
    TITLE = "this row has {cells:count cell}, the table has {nets:count net}"
    HELP = "write {nets:count cell}, empty ones included, or one that spans all"
    cells: int
    nets: int


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class NothingHere(Diagnostic):
    """The file contains no net: it is empty, or has only comments.

    The smallest net for ten classes is

        FC-10
        soft-max
    """

    code = "VGG008"
    TITLE = "there is no net in this file"
    HELP = "write layers, one a line, such as `conv3-64`, `maxpool`, `FC-1000`, `soft-max`"


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class Twice(Diagnostic):
    """Something that a net has once is written twice.

    A net has one input, one ``like``, one ``train:`` section and one ``test:`` section.

        input 224x224 RGB
        input 32x32 RGB       wrong
    """

    code = "VGG022"
    TITLE = "`{what}` is written twice for the same net"
    LABEL = "the second one"
    HELP = "keep one of them"
    what: str


@dataclass(frozen=True, kw_only=True)
class TooManyNets(Diagnostic):
    """A file has too many nets.

    The limit keeps a hostile file from taking all memory.
    """

    code = "VGG023"
    TITLE = "the file has {found} nets, more than {limit}"
    HELP = "split the file"
    found: int
    limit: int


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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
