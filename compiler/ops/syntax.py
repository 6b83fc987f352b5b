"""How a layer is written: one pattern to recognise it, to read its numbers and to suggest it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from vggspec.base.catalogue import layers, maps
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.source import Span
from vggspec.base.wording import nearest
from vggspec.lang.ast import LayerItem, Option, Word

MAX_SIDE = 1 << 16  # pixels
MAX_CHANNELS = 1 << 20

#: The `2D` of a layer of another tool.
_OF_2D = r"[12]d(?=transpose|(?![a-z]))"

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
    """The text before each number of the rest, to write a suggestion from bare numbers."""

    def match(self, word: str) -> re.Match[str] | None:
        """The match of the whole word, or None; case does not matter."""
        return _pattern(self.stem, self.numbers).fullmatch(word)

    def spell(self, word: str) -> str:
        """A word that matches, in its canonical spelling."""
        return self.stem + word[len(self.stem) :].lower().replace("×", "x")

    def suggest(self, text: str) -> str:
        """The legal spelling nearest to ``text``, with the numbers that it holds."""
        if not self.template and re.search(r"\d", text):
            return self.example
        numbers = _numbers_as_meant(text, len(self.template))
        written = self.stem
        for before, number in zip(self.template, numbers, strict=False):
            written += before + number
        return written if self.match(written) else self.example

    @property
    def example(self) -> str:
        """The first spelling that ``form`` shows."""
        shown = re.search("`([^`]+)`", self.form)
        return shown[1] if shown else self.stem


@cache
def _pattern(stem: str, numbers: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(stem)}{numbers}", re.IGNORECASE)


def _numbers_as_meant(text: str, places: int) -> list[str]:
    """The numbers of a layer in their order: for a conv the receptive field, then the channels."""
    # The 2 of `Conv2d` is no number of the layer, and of `3x3` one side is enough.
    text = re.sub(rf"(?<=[a-z]){_OF_2D}", "", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<!\d)(\d+)[x×]\1(?!\d)", r"\1", text)
    numbers = re.findall(r"\d+", text)
    if places == 1:  # FC: inputs come first, if they are written
        return numbers[-1:]
    if places == 2 or not numbers:
        return numbers[:2]
    if len(numbers) == 1:
        only = numbers[0]
        return ["3", only] if int(only) > 11 else [only, "64"]
    if len(numbers) == 3 and int(numbers[0]) == int(numbers[2]) == 3:
        return ["3", numbers[1]]  # Conv2d(3, 64, 3)
    first, second, *stride = numbers[:3]
    if int(first) > int(second):
        # Channels first; of `Conv2d(64, 128, 3)` the last number is the receptive field.
        first, second = second, first
    elif int(first) > 11 and stride:
        return [stride[0], second]
    return [first, second, *stride]


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
        places: Mapping[str, Span] | None = None,
    ) -> None:
        self._word = word
        self._groups = groups
        self._options = options
        self._report = report
        self._owner = owner
        self._places = places or {}
        self._known: list[str] = []
        self._bare: str | None = None

    def integer(self, group: str, default: int, what: str, low: int, high: int) -> int:
        """A whole number that is part of the word."""
        text = self._groups.get(group)
        return default if text is None else self._integer(text, what, low, high, self._at(group))

    def size(
        self, group: str, default: tuple[int, int], what: str, low: int, high: int
    ) -> tuple[int, int]:
        """``3`` for both sides or ``1x7`` for rows and columns, part of the word."""
        text = self._groups.get(group)
        return default if text is None else self._size(text, what, low, high, self._at(group))

    def flag(self, word: str) -> bool:
        """An option without a value, such as ``linear``."""
        option = self._take(word)
        if option is not None and option.values:
            alone = layers.OptionValue(word=word, expected=f"`{word}` alone", suggestion=word)
            self._report(alone, option.values[0].span)
        return option is not None

    def option_integer(self, word: str, default: int, low: int, high: int) -> int:
        """An option with a whole number."""
        value = self._value(word, "a whole number")
        if value is None:
            return default
        if not value.text.isdecimal():
            self._report(layers.OptionValue(word=word, expected="a whole number"), value.span)
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
            self._report(layers.OptionValue(word=word, expected=expected), value.span)
            return default
        return self._size(value.text, f"`{word}`", low, high, value.span)

    def option_number(self, word: str, default: float, low: float, high: float) -> float:
        """An option with any number."""
        value = self._value(word, "a number")
        return default if value is None else self._number(word, value, default, low, high)

    def first_number(self, what: str, default: float, low: float, high: float) -> float:
        """The value of an option that has no name, such as the rate in ``dropout(0.5)``."""
        self._bare = f"a number from {low:g} to {high:g}"
        for i, option in enumerate(self._options):
            if option.name.text[:1] in "0123456789.-" and not option.values:
                self._options = self._options[:i] + self._options[i + 1 :]
                return self._number(what, option.name, default, low, high)
        return default

    def reference(self) -> str:
        """The name of a layer in brackets, after the options that the op knows have been read."""
        bare = [
            option
            for option in self._options
            if not option.values and option.name.text.casefold() not in self._known
        ]
        names = tuple(option.name.text for option in bare)
        is_name = len(names) == 1 and names[0][:1].isalpha()
        if not is_name:
            self._report(maps.NoReference(word=self._owner, names=names), self._word.span)
        self._options = tuple(option for option in self._options if option not in bare)
        return names[0] if is_name else ""

    def finish(self) -> None:
        """Report the options that were not read."""
        seen = set()
        for option in self._options:
            word = option.name.text.casefold()
            if word not in self._known:
                self._report(self._unknown_option(option), option.name.span)
            elif word in seen:
                self._report(layers.OptionTwice(word=option.name.text), option.name.span)
            seen.add(word)

    def _unknown_option(self, option: Option) -> Diagnostic:
        owner, word, known = self._owner, option.name.text, tuple(self._known)
        if not known and self._bare:
            return layers.OptionValue(word=word, expected=self._bare, suggestion=f"{owner}(0.5)")
        instead = suggestion = None
        stem, equals, value = word.partition("=")
        value = value or (option.values[0].text if option.values else "")
        meant = _OPTIONS.get(stem.casefold(), stem)
        if stem.casefold() in ("stride", "strides") and value.isdecimal():
            instead = f"{self._word.text.partition('/')[0]}/{value}"
        elif stem.casefold() == "bias" and meant in known:
            suggestion = meant if value.casefold() in ("", "false", "no", "off", "0") else None
        elif meant in _FLAGS and meant in known:
            suggestion = meant if value.casefold() in ("", "true", "yes", "on", "1") else None
        elif (equals or meant != stem) and meant in known:
            is_number = read_number(value) is not None or re.fullmatch(r"\d{1,9}x\d{1,9}", value)
            suggestion = f"{meant} {value}" if is_number else None
        else:
            suggestion = nearest(word, known)
        return layers.UnknownOption(
            owner=owner, word=word, known=known, suggestion=suggestion, instead=instead
        )

    def problem(self, what: Diagnostic, word: str | None = None) -> None:
        """Report what is wrong with the layer as a whole, or with one option."""
        for option in self._options:
            if word is not None and option.name.text.casefold() == word:
                self._report(what, option.span)
                return
        self._report(what, self._word.span)

    def _at(self, group: str) -> Span:
        return self._places.get(group, self._word.span)

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
            wanted = layers.OptionValue(word=word, expected=f"`{word}` and {expected}")
            self._report(wanted, option.span)
            return None
        return option.values[0]

    def _integer(self, text: str, what: str, low: int, high: int, span: Span) -> int:
        # Sixteen digits are beyond every limit, and bound the work on absurd ones.
        value = int(text) if len(text) <= 16 else 10**16
        if low <= value <= high:
            return value
        shown = text if len(text) <= 16 else f"{text[:12]}…"
        self._report(layers.OutOfRange(what=what, value=shown, low=str(low), high=str(high)), span)
        return low  # an odd number wherever that matters, so that nothing follows from it

    def _size(self, text: str, what: str, low: int, high: int, span: Span) -> tuple[int, int]:
        numbers = re.findall(r"\d+", text)
        sides = [self._integer(number, what, low, high, span) for number in numbers]
        return sides[0], sides[-1]

    def _number(self, what: str, value: Word, default: float, low: float, high: float) -> float:
        number = read_number(value.text)
        if number is None:
            self._report(layers.OptionValue(word=what, expected="a number"), value.span)
            return default
        if not low <= number <= high:
            self._report(
                layers.OutOfRange(
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


#: Options as other tools call them.
_OPTIONS = {
    "padding": "pad",
    "p": "pad",
    "group": "groups",
    "dilate": "dilation",
    "dilated": "dilation",
    "bias": "no-bias",
    "nobias": "no-bias",
    "ceil_mode": "ceil",
    "ceil-mode": "ceil",
    "count_include_pad": "count-pad",
    "countpad": "count-pad",
    "epsilon": "eps",
    "size": "n",
    "bias-k": "k",
    "percls": "per-class",
    "perclass": "per-class",
    "per_class": "per-class",
}

_FLAGS = ("linear", "no-bias", "ceil", "count-pad", "per-class", "shared")

#: Words other than layers with which a line may begin.
_KEYWORDS = ("net", "input", "like", "train:", "test:")

_ADDED = "write a bracket: `[conv3-64 conv3-64 + shortcut]` adds its branches"
_JOINED = "write a bracket: `[conv1-64 & conv3-64]` joins the channels of its branches"
_BRANCHED = "write `from` and a name at the start of a line, as in `from pool4`"
_NO_SUCH = "there is no such layer, and none that could take its place"
_NO_SUCH_ACTIVATION = (
    "the activations are ReLU, ReLU6 and SiLU; ReLU is implied after every conv and FC"
)

#: Words that need no layer of their own, and why.
_NEEDLESS = {
    "sigmoid": _NO_SUCH_ACTIVATION,
    "tanh": _NO_SUCH_ACTIVATION,
    "gelu": _NO_SUCH_ACTIVATION,
    "elu": _NO_SUCH_ACTIVATION,
    "prelu": _NO_SUCH_ACTIVATION,
    "leakyrelu": _NO_SUCH_ACTIVATION,
    "leaky": _NO_SUCH_ACTIVATION,
    "maxout": _NO_SUCH_ACTIVATION,
    "concat": _JOINED,
    "concatenate": _JOINED,
    "add": _ADDED,
    "eltwise": _ADDED,
    "residual": _ADDED,
    "skip": _ADDED,
    "route": _BRANCHED,
    "split": _BRANCHED,
    "slice": _BRANCHED,
    "inception": _JOINED,
    "layernorm": _NO_SUCH,
    "groupnorm": _NO_SUCH,
    "instancenorm": _NO_SUCH,
    "logsoftmax": "write `soft-max`, which gives posteriors",
    "linear": "write it in brackets, as in `conv3-64(linear)`; an FC layer is `FC-4096`",
    "=": "leave it out: a name comes after the layer, as in `conv3-64 as first`",
    "--": "write `#` before a comment",
    ";": "write `#` before a comment",
    "flatten": "leave it out: the first FC flattens the map",
    "output": "leave it out: the last layer gives the output",
    "->": "leave it out: layers follow each other without a sign",
    "=>": "leave it out: layers follow each other without a sign",
    "-": "leave it out: a layer has no bullet",
    "//": "write `#` before a comment",
    "%": "write `#` before a comment",
    "stride": "write the stride after a slash, as in `conv3-64/2`",
    "pad": "write it in brackets, as in `conv3-64(pad 1)`",
    "network": "write `net` and the name on a line of their own",
    "model": "write `net` and the name on a line of their own",
    "net": "it begins a line of its own, as in `net D`",
    "like": 'it begins a line of its own, as in `like "D.vgg" up to fc7`',
    "input": "it begins a line of its own, as in `input 224x224 RGB`",
    "x": "write how many times, as in `conv3-64 x2`",
}

#: Layers as other tools and papers call them, to the stem of theirs here.
_ALSO_CALLED = {
    "softmax": "soft-max",
    "maxpooling": "maxpool",
    "pool": "maxpool",
    "pooling": "maxpool",
    "averagepool": "avgpool",
    "averagepooling": "avgpool",
    "avgpooling": "avgpool",
    "meanpool": "avgpool",
    "globalaveragepool": "gap",
    "globalaveragepooling": "gap",
    "globalavgpool": "gap",
    "globalpool": "gap",
    "adaptiveavgpool": "gap",
    "batchnorm": "BN",
    "batchnormalization": "BN",
    "batchnormalisation": "BN",
    "localresponsenorm": "LRN",
    "localresponsenormalisation": "LRN",
    "localresponsenormalization": "LRN",
    "norm": "LRN",
    "rectification": "ReLU",
    "rectified": "ReLU",
    "swish": "SiLU",
    "depthwise": "dwconv",
    "depthwiseconv": "dwconv",
    "fullyconnected": "FC",
    "linear": "FC",
    "dense": "FC",
    "affine": "FC",
    "innerproduct": "FC",
    "convolution": "conv",
    "convolutional": "conv",
    "drop": "dropout",
    "deconv": "upconv",
    "deconvolution": "upconv",
    "convtranspose": "upconv",
    "transposedconv": "upconv",
    "transposeconv": "upconv",
    "upconvolution": "upconv",
    "tconv": "upconv",
    "upsample": "up",
    "upsampling": "up",
    "interpolate": "resize",
    "interp": "resize",
    "centercrop": "crop",
    "cropping": "crop",
    "box": "boxes",
    "bbox": "boxes",
}

#: Options of a call in another tool that are numbers of the word here.
_OF_A_CALL = r"\d{1,9}$|(?:filters|units|out_channels|out_features|kernel_size|pool_size|strides?)="
_MOST_OPTIONS = 8

#: How many words of a line may be one layer, as in `global average pool`.
_MOST_WORDS = 3


def find(item: LayerItem, syntaxes: dict[str, Syntax]) -> tuple[str, re.Match[str]] | Diagnostic:
    """Which op a word is and the match of its numbers, or what is wrong with the word."""
    word = item.word.text
    options = [" ".join(one.text for one in option.words) for option in item.options]
    is_call = bool(options) and all(re.fullmatch(r"\d{1,9}", text) for text in options)
    if not is_call and not re.search(r"\d", re.sub(r"[12]d$", "", word, flags=re.IGNORECASE)):
        is_call = any(re.match(_OF_A_CALL, text) for text in options)
    whole = f"{word}({', '.join(options)})" if is_call and len(options) <= _MOST_OPTIONS else word
    for keyword, syntax in syntaxes.items():
        match = syntax.match(word)
        if match is None:
            continue
        if whole != word and syntax.template and all(map(str.isdecimal, options)):
            meant = syntax.suggest(whole)
            return layers.MalformedLayer(word=whole, form=syntax.form, suggestion=meant)
        return keyword, match
    folded = word.casefold()
    stems = sorted(syntaxes.values(), key=lambda syntax: -len(syntax.stem))
    for syntax in stems:
        rest = folded.removeprefix(syntax.stem.casefold())
        if rest == folded:
            continue
        # A word that continues with letters is another word, unless a number comes first: `Conv2d`.
        if rest[:1].isalpha() and not re.match(r"(?:2d|pool|olution|x?\d)", rest):
            continue
        if "transpose" in rest:  # `Conv2DTranspose` is an upconv
            continue
        repeat = re.fullmatch(r"(.*\d)[x×](\d+)", word)
        if repeat and syntax.match(repeat[1]) and not re.fullmatch(r".*?(\d+)[x×]\1", word):
            meant = f"{syntax.spell(repeat[1])} x{repeat[2]}"
        else:
            bare_word = word.rstrip(";.")
            meant = bare_word if syntax.match(bare_word) else syntax.suggest(whole)
        return layers.MalformedLayer(word=whole, form=syntax.form, suggestion=meant)
    return _unknown(whole, stems)


def is_layer(word: str, syntaxes: dict[str, Syntax]) -> bool:
    """Whether a word is one of a layer as it should be."""
    return any(syntax.match(word) for syntax in syntaxes.values())


def join(items: Sequence[LayerItem]) -> LayerItem | None:
    """The first words of ``items`` as one, where a layer was written in several words."""
    for length in range(min(_MOST_WORDS, len(items)), 1, -1):
        words = items[:length]
        if any(one.options or one.repeat or one.alias for one in words[:-1]):
            continue
        if not all(one.word.text[0].isalpha() for one in words):
            continue
        letters = re.sub(r"[^a-z]", "", "".join(one.word.text for one in words).casefold())
        if letters in _ALSO_CALLED or letters in ("maxpool", "avgpool"):
            text = " ".join(one.word.text for one in words)
            span = words[0].word.span.to(words[-1].word.span)
            return replace(words[-1], word=Word(text, span), span=span.to(words[-1].span))
    return None


def _unknown(word: str, stems: list[Syntax]) -> layers.UnknownLayer:
    folded = word.casefold()
    called = re.sub(r"[12]d$|[-_]", "", folded.partition("(")[0])  # `UpSampling2D(2)`
    because = _NEEDLESS.get(folded) or (called != "linear" and _NEEDLESS.get(called))
    if because:
        return layers.UnknownLayer(word=word, because=because)
    if re.fullmatch(r"[x×]\d+", folded):
        before_as = f"write `{folded}` directly after the layer, before `as`"
        return layers.UnknownLayer(word=word, because=before_as)
    letters = re.match(r"\D*", re.sub(_OF_2D, "", folded))
    head = letters[0].rstrip("-/_(") if letters else folded
    plain = re.sub(r"[^a-z]", "", head)
    known = _ALSO_CALLED.get(plain)
    if known is None:
        near = {syntax.stem: syntax.stem for syntax in stems} | _ALSO_CALLED
        found = nearest(head, tuple(near)) if len(head) > 1 else None
        known = near[found] if found else None
    if known is None:
        return layers.UnknownLayer(word=word, suggestion=nearest(folded, _KEYWORDS))
    syntax = next(syntax for syntax in stems if syntax.stem == known)
    return layers.UnknownLayer(word=word, suggestion=syntax.suggest(word))
