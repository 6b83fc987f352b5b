"""How a layer is written: one pattern to recognise it, to read its numbers and to suggest it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from vggspec.catalogue import names, nearest
from vggspec.diagnostic import Diagnostic
from vggspec.lang.ast import LayerItem, Option, Word
from vggspec.source import Span

MAX_SIDE = 1 << 16  # pixels
MAX_CHANNELS = 1 << 20

_FLOAT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Syntax:
    """The written form of an op: a stem and, after it, numbers."""

    stem: str
    """What the word begins with, in its canonical case."""

    numbers: str = ""
    """A regular expression for the rest of the word; its groups are named."""

    form: str = ""
    """The form in the reader's words."""

    template: tuple[str, ...] = ()
    """What stands before each number of the rest, to write a suggestion from bare numbers."""

    def match(self, word: str) -> re.Match[str] | None:
        """The match of the whole word, or None; case does not matter."""
        pattern = f"{re.escape(self.stem)}{self.numbers}"
        return re.fullmatch(pattern, word, re.IGNORECASE)

    def spell(self, word: str) -> str:
        """A word that matches, in its canonical spelling."""
        return self.stem + word[len(self.stem) :].lower().replace("×", "x")

    def suggest(self, word: str) -> str:
        """The legal spelling nearest to ``word``, with the numbers that it holds."""
        numbers = re.findall(r"\d+", word)
        text = self.stem
        for before, number in zip(self.template, numbers, strict=False):
            text += before + number
        if self.match(text):
            return text
        example = self.stem + "".join(
            before + number for before, number in zip(self.template, ("3", "64"), strict=False)
        )
        return example if self.match(example) else self.stem


class Arguments:
    """The numbers and options of one written layer, read by its op.

    Every reader returns a usable value whatever was written, and reports what was wrong.
    """

    def __init__(
        self,
        word: Word,
        groups: dict[str, str | None],
        options: tuple[Option, ...],
        report: Callable[[Diagnostic, Span], None],
        owner: str,
    ) -> None:
        self._word = word
        self._groups = groups
        self._options = options
        self._report = report
        self._owner = owner
        self._known: list[str] = []

    def integer(self, group: str, default: int, what: str, low: int, high: int) -> int:
        """A whole number that is part of the word."""
        text = self._groups.get(group)
        return default if text is None else self._integer(text, what, low, high, self._word.span)

    def size(
        self, group: str, default: tuple[int, int], what: str, low: int, high: int
    ) -> tuple[int, int]:
        """``3`` for both sides or ``1x7`` for rows and columns, part of the word."""
        text = self._groups.get(group)
        return default if text is None else self._size(text, what, low, high, self._word.span)

    def flag(self, word: str) -> bool:
        """An option without a value, such as ``linear``."""
        option = self._take(word)
        if option is not None and option.values:
            self._report(
                names.OptionValue(word=word, expected=f"`{word}` alone"), option.values[0].span
            )
        return option is not None

    def option_integer(self, word: str, default: int, low: int, high: int) -> int:
        """An option with a whole number."""
        value = self._value(word, "a whole number")
        if value is None:
            return default
        if not value.text.isdecimal():
            self._report(names.OptionValue(word=word, expected="a whole number"), value.span)
            return default
        return self._integer(value.text, f"`{word}`", low, high, value.span)

    def option_size(
        self, word: str, default: tuple[int, int] | None, low: int, high: int
    ) -> tuple[int, int] | None:
        """An option with a number for both sides or ``1x7``."""
        value = self._value(word, "a whole number")
        if value is None:
            return default
        if not re.fullmatch(r"\d+(\s*[x×]\s*\d+)?", value.text, re.IGNORECASE):
            expected = "a whole number, or two as in `1x2`"
            self._report(names.OptionValue(word=word, expected=expected), value.span)
            return default
        return self._size(value.text, f"`{word}`", low, high, value.span)

    def option_number(self, word: str, default: float, low: float, high: float) -> float:
        """An option with any number."""
        value = self._value(word, "a number")
        return default if value is None else self._number(word, value, default, low, high)

    def first_number(self, what: str, default: float, low: float, high: float) -> float:
        """The value of an option that has no name, such as the rate in ``dropout(0.5)``."""
        for i, option in enumerate(self._options):
            if option.name.text[:1].isdigit() and not option.values:
                self._options = self._options[:i] + self._options[i + 1 :]
                return self._number(what, option.name, default, low, high)
        return default

    def finish(self) -> None:
        """Report the options that nobody asked for."""
        seen = set()
        for option in self._options:
            word = option.name.text.casefold()
            if word not in self._known:
                known = tuple(self._known)
                what = names.UnknownOption(
                    owner=self._owner,
                    word=option.name.text,
                    known=known,
                    suggestion=nearest(word, known),
                )
                self._report(what, option.name.span)
            elif word in seen:
                self._report(names.OptionTwice(word=option.name.text), option.name.span)
            seen.add(word)

    def problem(self, what: Diagnostic, word: str | None = None) -> None:
        """Report what is wrong with the layer as a whole, or with one option."""
        for option in self._options:
            if word is not None and option.name.text.casefold() == word:
                self._report(what, option.span)
                return
        self._report(what, self._word.span)

    def _take(self, word: str) -> Option | None:
        self._known.append(word)
        for option in self._options:
            if option.name.text.casefold() == word:
                return option
        return None

    def _value(self, word: str, expected: str) -> Word | None:
        option = self._take(word)
        if option is None:
            return None
        if len(option.values) != 1:
            self._report(
                names.OptionValue(word=word, expected=f"`{word}` and {expected}"), option.span
            )
            return None
        return option.values[0]

    def _integer(self, text: str, what: str, low: int, high: int, span: Span) -> int:
        # Sixteen digits are beyond every limit, and bound the work on absurd ones.
        value = int(text) if len(text) <= 16 else 10**16
        if low <= value <= high:
            return value
        shown = text if len(text) <= 16 else f"{text[:12]}…"
        self._report(
            names.OutOfRange(what=what, value=shown, low=str(low), high=str(high)), span
        )
        return min(max(value, low), high)

    def _size(self, text: str, what: str, low: int, high: int, span: Span) -> tuple[int, int]:
        numbers = re.findall(r"\d+", text)
        sides = [self._integer(number, what, low, high, span) for number in numbers]
        return sides[0], sides[-1]

    def _number(self, what: str, value: Word, default: float, low: float, high: float) -> float:
        number = read_number(value.text)
        if number is None:
            self._report(names.OptionValue(word=what, expected="a number"), value.span)
            return default
        if not low <= number <= high:
            self._report(
                names.OutOfRange(
                    what=f"`{what}`", value=value.text, low=f"{low:g}", high=f"{high:g}"
                ),
                value.span,
            )
            return default
        return number


def read_number(text: str) -> float | None:
    """``0.5``, ``1e-4``, ``1/255``; None for anything else, infinite and absurd ones included."""
    if len(text) > 40:
        return None
    parts = text.split("/")
    if len(parts) > 2 or not all(_FLOAT.fullmatch(part) for part in parts):
        return None
    value = float(parts[0])
    if len(parts) == 2:
        if float(parts[1]) == 0:
            return None
        value /= float(parts[1])
    return value if abs(value) < 1e30 else None


def find(item: LayerItem, syntaxes: dict[str, Syntax]) -> tuple[str, re.Match[str]] | Diagnostic:
    """Which op a word is and the match of its numbers, or what is wrong with the word."""
    word = item.word.text
    for keyword, syntax in syntaxes.items():
        match = syntax.match(word)
        if match is not None:
            return keyword, match
    folded = word.casefold()
    stems = sorted(syntaxes.values(), key=lambda syntax: -len(syntax.stem))
    for syntax in stems:
        rest = folded.removeprefix(syntax.stem.casefold())
        if rest != folded and (not rest or not rest[0].isalpha() or syntax.numbers):
            repeat = re.fullmatch(r"(.*\d)[x×](\d+)", word)
            if repeat and syntax.match(repeat[1]):
                suggestion = f"{syntax.spell(repeat[1])} x{repeat[2]}"
            else:
                suggestion = syntax.suggest(word)
            if rest and not any(char.isdigit() for char in rest) and rest[0].isalpha():
                break
            return names.MalformedLayer(word=word, form=syntax.form, suggestion=suggestion)
    return _unknown(word, stems)


def _unknown(word: str, stems: list[Syntax]) -> names.UnknownLayer:
    if word.casefold() in ("relu", "rectification"):
        return names.UnknownLayer(
            word=word, because="leave it out: ReLU is implied after every conv and FC but the last"
        )
    if word.casefold() in ("flatten",):
        return names.UnknownLayer(word=word, because="leave it out: the first FC flattens the map")
    letters = re.match(r"[^\d]*", word)
    head = letters[0].rstrip("-/_") if letters else word
    known = nearest(head, tuple(syntax.stem for syntax in stems)) if head else None
    if known is None:
        known = {"pool": "maxpool", "fully-connected": "FC", "linear": "FC", "dense": "FC"}.get(
            head.casefold()
        )
    if known is None:
        return names.UnknownLayer(word=word)
    syntax = next(syntax for syntax in stems if syntax.stem == known)
    return names.UnknownLayer(word=word, suggestion=syntax.suggest(word))
