"""Text of a cell that knows where each of its characters was pasted, and which are bold."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vggspec.base.source import Span

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_TIMES = "\u2715\u2716\u2a2f\u2a09\u00d7"
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_PLAIN = str.maketrans(
    {**dict.fromkeys(_DASHES, "-"), **dict.fromkeys(_TIMES, "×"), **dict.fromkeys(_INVISIBLE, "")}
)

_INLINE = re.compile(
    r"(?P<bold><(?P<close>/?)(?:b|strong)(?:\s[^<>]{0,1000})?>)"
    r"|(?P<stars>\*\*|__)"
    r"|(?P<br><br\s{0,9}/?>)"
    r"|(?P<raised><su[pb](?:\s[^<>]{0,1000})?>)"
    r"|(?P<tag></?(?:i|em|u|a|span|font|sup|sub|small|code|p|div|center|tt)(?:\s[^<>]{0,1000})?/?>)"
    r"|(?P<entity>&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});)"
    r"|(?P<times>\\times(?![A-Za-z]))"
    r"|(?P<escape>\\[_*|\#$%&\[\]])"
    r"|(?P<quiet>[`$])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Text:
    """Characters, and for each its place in the pasted text and whether it is bold."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    bold: Sequence[bool]

    def span(self, start: int, end: int) -> Span:
        """Where the characters from ``start`` to ``end`` were pasted."""
        if not self.text:
            return Span(0, 0)
        if start >= end:
            at = self.ends[-1] if start >= len(self.text) else self.starts[start]
            return Span(at, at)
        return Span(min(self.starts[start:end]), max(self.ends[start:end]))

    def part(self, start: int, end: int) -> "Text":
        """The characters from ``start`` to ``end``."""
        return Text(
            self.text[start:end], self.starts[start:end], self.ends[start:end], self.bold[start:end]
        )

    def stripped(self) -> "Text":
        """Without space at both ends."""
        start = len(self.text) - len(self.text.lstrip())
        return self.part(start, max(start, len(self.text.rstrip())))


class Building:
    """A text while it grows. Characters that only look like others are written as those."""

    def __init__(self) -> None:
        self._chars: list[str] = []
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._bold: list[bool] = []

    def __len__(self) -> int:
        return len(self._chars)

    def add(self, text: str, start: int, end: int, *, bold: bool) -> None:
        """Characters that stand for the pasted text from ``start`` to ``end``."""
        for char in text.translate(_PLAIN):
            self._chars.append(" " if char != "\n" and char.isspace() else char)
            self._starts.append(start)
            self._ends.append(end)
            self._bold.append(bold)

    def copy(self, text: str, start: int, *, bold: bool) -> None:
        """Characters as pasted from ``start`` on."""
        for i, char in enumerate(text):
            self.add(char, start + i, start + i + 1, bold=bold)

    def built(self) -> Text:
        """What has been added, without space at both ends."""
        return Text(
            "".join(self._chars), tuple(self._starts), tuple(self._ends), tuple(self._bold)
        ).stripped()


def inline(text: str, start: int) -> Text:
    """Text pasted at ``start`` with the markup that web pages and Markdown have inside a cell."""
    building = Building()
    bold = False
    at = 0
    for match in _INLINE.finditer(text):
        building.copy(text[at : match.start()], start + at, bold=bold)
        place = (start + match.start(), start + match.end())
        match match.lastgroup:
            case "bold":
                bold = not match["close"]
            case "stars":
                bold = not bold
            case "br":
                building.add("\n", *place, bold=bold)
            case "raised":
                building.add("^", *place, bold=bold)
            case "entity":
                building.add(entity(match["entity"]), *place, bold=bold)
            case "times":
                building.add("×", *place, bold=bold)
            case "escape":
                building.add(match["escape"][1], *place, bold=bold)
            case _:
                pass
        at = match.end()
    building.copy(text[at:], start + at, bold=bold)
    return building.built()


def entity(written: str) -> str:
    """The character that ``&times;`` stands for."""
    return html.unescape(written)


def joined(texts: Iterable[Text], between: str) -> Text:
    """Several texts as one, as lines of a cell."""
    building = Building()
    for text in texts:
        if not text.text:
            continue
        if len(building):
            building.add(between, text.starts[0], text.starts[0], bold=False)
        for char, start, end, bold in zip(
            text.text, text.starts, text.ends, text.bold, strict=True
        ):
            building.add(char, start, end, bold=bold)
    return building.built()


def look_alike(text: str) -> tuple[int, str] | None:
    """The first letter that is no Latin one, and its name in Unicode."""
    for i, char in enumerate(text):
        if char.isalpha() and not char.isascii():
            return i, unicodedata.name(char, f"U+{ord(char):04X}").lower()
    return None
