"""The ``train:`` and ``test:`` sections of a spec as recipe values.

Each setting is one small reader below; settings that are left out take the paper's value
(``vggspec.base.recipe``), with the training scale in proportion for inputs other than 224.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NoReturn, get_args

from vggspec.base.catalogue import recipes
from vggspec.base.catalogue.syntax import UnindentedSetting
from vggspec.base.diagnostic import Diagnostic, Label, report
from vggspec.base.recipe import (
    MAX_CROPS,
    MAX_SCALE,
    MAX_SCALES,
    Experiment,
    FrozenPart,
    ImportedFrom,
    LayersFrom,
    Resize,
    TestProtocol,
    TrainRecipe,
    percent,
)
from vggspec.base.reports import Reports
from vggspec.base.source import Source, Span
from vggspec.base.wording import count, either, nearest
from vggspec.lang import aliases
from vggspec.lang.ast import Quoted, Setting, Spec, Word

_LONGEST_MENDED = 100
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE)
#: Fields to which each line of a setting adds.
_SEVERAL = frozenset(("start_from", "rates_of", "frozen"))
#: Settings whose first word begins another one too, by a field that they set.
_NAMES = {"no_better": "stop when", "freeze_batch_norm": "freeze batch norm"}
#: Of the rate of a layer, and of the loss of a class.
MIN_FACTOR = 1e-6
#: The smallest share of an image's area that a crop may show.
MIN_AREA = 1e-3
#: Those of PyTorch's AdamW; the paper's are for gradient descent with momentum.
ADAMW_RATE, ADAMW_DECAY = 1e-3, 1e-2
_MAGNITUDES = {"": 1, "K": 10**3, "M": 10**6}


class _StopReadingError(Exception):
    """The setting cannot be parsed further; the mistake has been reported."""


class _Cursor:
    """Reads the words of one setting from left to right."""

    def __init__(
        self,
        setting: Setting,
        key: "_Key",
        source: Source,
        reports: Reports,
        *,
        is_guess: bool = False,
    ) -> None:
        self.words = setting.words
        self.at = 1
        self.end = setting.span.end
        self.key = setting.words[0].text
        self._key = key
        self._is_guess = is_guess
        self.example = key.example
        self._rest = source.slice(Span(setting.words[0].span.end, setting.span.end)).strip()
        self._source = source
        self._reports = reports

    def peek(self) -> Word | Quoted | None:
        """The next word."""
        return self.words[self.at] if self.at < len(self.words) else None

    def accept(self, *texts: str) -> bool:
        """Step over the next words if they are these."""
        following = self.words[self.at : self.at + len(texts)]
        found = [word.text.casefold() for word in following if isinstance(word, Word)]
        if found != list(texts):
            return False
        self.at += len(texts)
        return True

    def expect(self, *texts: str) -> None:
        """Step over these words, or report that they are missing."""
        for text in texts:
            if not self.accept(text):
                self.fail(f"`{text}`")

    def number(self, expected: str, low: float, high: float) -> float:
        """The next word as a number within bounds."""
        word = self._next(expected)
        if not _NUMBER.fullmatch(word.text):
            self.at -= 1
            self.fail(expected)
        value = float(word.text)
        if not low <= value <= high:
            self.out_of_range(word, f"{_plain(low)} to {_plain(high)}")
        return value

    def factor(self, expected: str) -> float:
        """The rest of the setting as a factor: ``x 10``, ``x10``, ``× 0.5``."""
        word = self.peek()
        written = " ".join(word.text for word in self.words[self.at :])
        match = re.fullmatch(rf"[x×]\s*({_NUMBER.pattern})", written, re.IGNORECASE)
        if match is None:
            self.fail(expected)
        self.at = len(self.words)
        value = float(match[1])
        if not MIN_FACTOR <= value <= 1 / MIN_FACTOR:
            assert isinstance(word, Word)
            self.out_of_range(word, f"x {MIN_FACTOR:g} to x {1 / MIN_FACTOR:g}")
        return value

    def integer(self, expected: str, low: int, high: int) -> int:
        """The next word as a whole number within bounds; ``370K`` is 370000."""
        word = self._next(expected)
        match = re.fullmatch(r"(\d{1,100})(?:\.(\d{1,6}))?([KkMm]?)", word.text)
        decimals = len(match[2] or "") if match else 0
        value, rest = 0, 1
        if match:
            digits = int(match[1] + (match[2] or ""))
            value, rest = divmod(digits * _MAGNITUDES[match[3].upper()], 10**decimals)
        if rest:  # no number, or a fraction
            self.at -= 1
            self.fail(expected)
        if not low <= value <= high:
            self.out_of_range(word, f"{low} to {high}")
        return value

    def quoted(self, expected: str) -> str:
        """The next word as a file name in quotation marks."""
        word = self.peek()
        if not isinstance(word, Quoted):
            self.fail(expected)
        self.at += 1
        return word.text

    def class_name(self) -> Word | Quoted:
        """The next word as the name of a class, in quotation marks or not."""
        word = self.peek()
        if word is None or (isinstance(word, Word) and word.text in (",", ":")):
            self.fail("the name of a class")
        self.at += 1
        return word

    def word(self, expected: str) -> Word:
        """The next word, of any kind."""
        return self._next(expected)

    def fail(self, expected: str) -> NoReturn:
        """Report an unexpected word, and stop."""
        word = self.peek()
        guess = None if self._is_guess else _guess(f"{self.key} {self._rest}", self._key)
        what = recipes.MalformedSetting(
            setting=self.key,
            found=word.text if word else "",
            expected=expected,
            example=guess or self.example,
            is_guess=guess is not None,
        )
        self.report(what, word.span if word else Span(self.end, self.end))
        raise _StopReadingError

    def out_of_range(self, word: Word, expected: str) -> NoReturn:
        """Report that a number is out of bounds, and stop."""
        what = recipes.SettingRange(
            setting=self.key,
            value=word.text if len(word.text) <= 16 else f"{word.text[:12]}…",
            expected=expected,
        )
        self.report(what, word.span)
        raise _StopReadingError

    def report(self, what: Diagnostic, span: Span) -> None:
        """Keep a report at ``span``."""
        self._reports.add(report(what, self._source, span))

    def finish(self) -> None:
        """Report words after the end of the setting."""
        if self.peek() is not None:
            self.fail("")

    def _next(self, expected: str) -> Word:
        word = self.peek()
        if not isinstance(word, Word):
            self.fail(expected)
        self.at += 1
        return word


@dataclass(frozen=True, slots=True)
class _Key:
    """A setting: its syntax, and the fields that it sets."""

    example: str
    read: Callable[[_Cursor], dict[str, object]]


def _plain(value: float) -> str:
    return f"{value:g}" if value < 1e5 else f"{value:.0f}"


def _on_off(field: str) -> Callable[[_Cursor], dict[str, object]]:
    def read(cursor: _Cursor) -> dict[str, object]:
        if cursor.accept("off"):
            return {field: False}
        cursor.accept("on")
        return {field: True}

    return read


def _number(field: str, low: float, high: float) -> Callable[[_Cursor], dict[str, object]]:
    return lambda cursor: {field: cursor.number("a number", low, high)}


def _integer(field: str, low: int, high: int) -> Callable[[_Cursor], dict[str, object]]:
    return lambda cursor: {field: cursor.integer("a whole number", low, high)}


_PERCENT = r"(\d{1,3}(?:\.\d{1,6})?)%"


def _train_scale(cursor: _Cursor) -> dict[str, object]:
    word = cursor.word("a number of pixels, or a range such as `256..512`")
    if "%" in word.text:
        return _area(cursor, word)
    match = re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", word.text)
    if match is None:
        cursor.at -= 1
        cursor.fail("a number of pixels, or a range such as `256..512`")
    low, high = int(match[1]), int(match[2] or match[1])
    if not 1 <= low <= high <= MAX_SCALE:
        cursor.out_of_range(word, f"1 to {MAX_SCALE} pixels, the smaller number first")
    return {"scale": (low, high)}


def _area(cursor: _Cursor, word: Word) -> dict[str, object]:
    cursor.example = "scale 8%..100% of area"
    match = re.fullmatch(rf"{_PERCENT}(?:\.\.{_PERCENT})?", word.text)
    if match is None:
        cursor.at -= 1
        cursor.fail("a share of the area, or a range such as `8%..100%`")
    low, high = float(match[1]), float(match[2] or match[1])
    if not MIN_AREA * 100 <= low <= high <= 100:
        cursor.out_of_range(word, f"{percent(MIN_AREA)} to 100%, the smaller number first")
    cursor.expect("of", "area")
    return {"area": (low / 100, high / 100)}


def _crop(cursor: _Cursor) -> dict[str, object]:
    found: dict[str, object] = {}
    if not cursor.accept("pad"):
        found["crop"] = cursor.integer("a whole number, or `pad`", 1, MAX_SCALE)
        if cursor.peek() is None:
            return found
        cursor.example = f"crop {found['crop']} pad 4"
        cursor.expect("pad")
    found["crop_pad"] = cursor.integer("a number of pixels", 0, MAX_SCALE)
    return found


def _validate(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("off"):
        return {"validate_on": None}
    cursor.expect("on")
    word = cursor.word("a share such as `10%`")
    match = re.fullmatch(_PERCENT, word.text)
    if match is None:
        cursor.at -= 1
        cursor.fail("a share such as `10%`")
    if not 0 < (share := float(match[1])) < 100:
        cursor.out_of_range(word, "more than 0% and less than 100%")
    return {"validate_on": share / 100}


def _classes(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("off"):
        return {"classes_balanced": False}
    cursor.expect("balanced")
    return {"classes_balanced": True}


def _class(cursor: _Cursor) -> dict[str, object]:
    cursor.expect("weights")
    if cursor.accept("off"):
        return {"class_weights": ()}
    if cursor.accept("balanced"):
        return {"class_weights": "balanced"}
    cursor.example = "class weights cat 2, dog 0.5"
    found: dict[str, float] = {}
    while True:
        name = cursor.class_name()
        if name.text in found:
            what = recipes.SettingTwice(setting=f"class weights {name.text}")
            cursor.report(what, name.span)
        found[name.text] = cursor.number("a weight", MIN_FACTOR, 1 / MIN_FACTOR)
        if not cursor.accept(","):
            return {"class_weights": tuple(found.items())}


def class_words(spec: Spec) -> Iterator[Word | Quoted]:
    """The names of classes in the ``train:`` section."""
    for setting in spec.train:
        texts = [word.text.casefold() for word in setting.words[:2]]
        if texts == ["class", "weights"]:
            for before, word in pairwise(setting.words[1:]):
                is_name = not isinstance(before, Quoted) and before.text.casefold() in (
                    "weights",
                    ",",
                )
                if is_name:
                    yield word


def _randaugment(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("off"):
        return {"randaugment": None}
    changes = cursor.integer("how many changes to make", 1, 16)
    cursor.expect("magnitude")
    return {"randaugment": (changes, cursor.integer("a magnitude", 0, 30))}


def _decay(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("cosine"):
        cursor.example = "decay cosine"
        return {"schedule": "cosine"}
    found: dict[str, object] = {"decay": cursor.number("a divisor", 1.0, 1e6)}
    if cursor.accept("at"):
        cursor.example = "decay 10 at 30, 60, 80 epochs"
        return {**found, "schedule": "epochs", "decay_at": _ends(cursor)}
    found["schedule"] = "plateau"
    if cursor.accept("on", "plateau"):
        if cursor.accept("of"):
            found["patience"] = _epochs(cursor)
        cursor.accept(",")
    if cursor.peek() is not None:
        found["decays"] = cursor.integer("how many times", 0, 1000)
        if not cursor.accept("time"):
            cursor.expect("times")
    return found


def _ends(cursor: _Cursor) -> tuple[int, ...]:
    """Numbers of epochs, each larger than the one before."""
    found: list[int] = []
    while True:
        word = cursor.peek()
        found.append(cursor.integer("a number of epochs", 1, 10**6))
        if found[-1:] <= found[-2:-1] and isinstance(word, Word):
            cursor.out_of_range(word, f"more than {found[-2]}")
        if not cursor.accept(","):
            break
    if not cursor.accept("epoch"):
        cursor.expect("epochs")
    return tuple(found)


def _epochs(cursor: _Cursor) -> int:
    number = cursor.integer("a number of epochs", 1, 10**6)
    if not cursor.accept("epoch"):
        cursor.expect("epochs")
    return number


def _warm(cursor: _Cursor) -> dict[str, object]:
    cursor.expect("up")
    return {"warm_up": _epochs(cursor)}


def _optimiser(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("sgd"):
        return {"optimiser": "sgd"}
    if not cursor.accept("adamw"):
        cursor.fail("`sgd` or `adamw`")
    found: dict[str, object] = {"optimiser": "adamw"}
    if cursor.accept(",") or cursor.peek() is not None:
        cursor.example = "optimiser adamw, betas 0.9 0.999"
        cursor.expect("betas")
        found["betas"] = tuple(cursor.number("a number below 1", 0.0, 0.999999) for _ in range(2))
    return found


def _of(noun: str, field: str, low: float, high: float) -> Callable[[_Cursor], dict[str, object]]:
    """A setting of two words and a number: ``clip gradients 1``."""

    def read(cursor: _Cursor) -> dict[str, object]:
        cursor.expect(noun)
        return {field: cursor.number("a number", low, high)}

    return read


def _freeze(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("batch"):
        cursor.expect("norm")
        return {"freeze_batch_norm": True}
    return {"frozen": (FrozenPart(after=0, up_to=_last_frozen(cursor)),)}


def _last_frozen(cursor: _Cursor) -> str:
    cursor.expect("up", "to")
    return cursor.word("the name of a layer").text


def _after(cursor: _Cursor) -> dict[str, object]:
    epochs = _epochs(cursor)
    cursor.expect(":")
    if cursor.accept("free"):
        cursor.expect("all")
        return {"frozen": (FrozenPart(after=epochs, up_to=None),)}
    cursor.expect("freeze")
    return {"frozen": (FrozenPart(after=epochs, up_to=_last_frozen(cursor)),)}


def _rate(cursor: _Cursor) -> dict[str, object]:
    if not cursor.accept("of"):
        return {"rate": cursor.number("a number", 1e-12, 1e3)}
    cursor.example = "rate of fc8 x 10"
    names = [cursor.word("the name of a layer").text]
    while cursor.accept(","):
        names.append(cursor.word("the name of a layer").text)
    by = cursor.factor("`x` and a number")
    return {"rates_of": tuple((name, by) for name in names)}


def layer_words(spec: Spec) -> Iterator[Word]:
    """The names of layers in the ``train:`` section."""
    for setting in spec.train:
        words = [word for word in setting.words if isinstance(word, Word)]
        texts = [word.text.casefold() for word in words]
        if texts[:2] == ["rate", "of"]:
            for comma, word in pairwise(words[1:]):
                if comma.text.casefold() in ("of", ","):
                    yield word
        elif texts[0] in ("freeze", "after") and "to" in texts[:-1]:
            yield words[texts.index("to") + 1]


def _stop(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("when"):
        cursor.example = "stop when no better for 10 epochs"
        cursor.expect("no", "better", "for")
        return {"no_better": _epochs(cursor)}
    cursor.expect("after")
    number = cursor.integer("a number of iterations or epochs", 1, 10**12)
    for word in ("iterations", "iteration", "epochs", "epoch"):
        if cursor.accept(word):
            if word.startswith("epoch"):
                return {"epochs": number, "iterations": None}
            return {"iterations": number, "epochs": None}
    return cursor.fail("`iterations` or `epochs`")


def _start(cursor: _Cursor) -> dict[str, object]:
    if cursor.accept("from"):
        cursor.example = 'start from "A.vgg": first 4 conv, last 3 FC'
        path = cursor.quoted("a spec in quotation marks")
        source = _imported_from(cursor, path)
        if cursor.peek() is None:
            return {"start_from": (LayersFrom(path=path, source=source),)}
        cursor.expect(":")
        first = last = None
        if cursor.accept("all"):
            cursor.expect("but", "last")
            is_one = isinstance(word := cursor.peek(), Word) and word.text.casefold() == "fc"
            number = 1 if is_one else cursor.integer("a number of FC layers", 1, 4096)
            cursor.expect("fc")
            return {"start_from": (LayersFrom(path=path, but_last_fc=number, source=source),)}
        while True:
            if cursor.accept("first"):
                first = cursor.integer("a number of conv layers", 1, 4096)
                cursor.expect("conv")
            elif cursor.accept("last"):
                last = cursor.integer("a number of FC layers", 1, 4096)
                cursor.expect("fc")
            else:
                cursor.fail("`first 4 conv`, `last 3 FC` or `all but last FC`")
            if not cursor.accept(","):
                break
        layers = LayersFrom(path=path, first_conv=first, last_fc=last, source=source)
        return {"start_from": (layers,)}
    if cursor.accept("normal"):
        if cursor.peek() is None:
            return {"start": "normal"}
        return {"start": "normal", "start_std": cursor.number("a standard deviation", 1e-9, 1e3)}
    for kind in ("glorot", "he"):
        if cursor.accept(kind):
            return {"start": kind}
    return cursor.fail("`normal 0.1`, `glorot`, `he` or `from`")


def _imported_from(cursor: _Cursor, path: str) -> ImportedFrom | None:
    """The collection whose weights are meant, if one is named."""
    known: tuple[ImportedFrom, ...] = get_args(ImportedFrom)
    for name in known:
        if cursor.accept(name):
            return name
    word = cursor.peek()
    if isinstance(word, Word) and word.text.casefold() not in (":", "all", "first", "last"):
        like = nearest(word.text, known) or known[0]
        cursor.example = f'start from "{path}" {like}: all but last FC'
        cursor.fail(f"`:`, or the source of its weights: {either(known[:2])}, say")
    return None


def _test_scales(cursor: _Cursor) -> dict[str, object]:
    scales = [cursor.integer("a number of pixels", 1, MAX_SCALE)]
    while cursor.accept(","):
        if len(scales) == MAX_SCALES:
            cursor.at -= 1
            cursor.fail(f"the end of the line after {MAX_SCALES} scales")
        scales.append(cursor.integer("a number of pixels", 1, MAX_SCALE))
    return {"scales": tuple(scales)}


def _crops(cursor: _Cursor) -> dict[str, object]:
    word = cursor.word("a grid such as `5x5`")
    sides = re.findall(r"\d{1,9}", word.text)
    form = re.fullmatch(r"\d+\s*[x×]\s*\d+", word.text, re.IGNORECASE)
    if form is None or len(set(map(int, sides))) != 1:
        cursor.at -= 1
        cursor.fail("a square grid such as `5x5`")
    if not 1 <= int(sides[0]) <= MAX_CROPS:
        cursor.out_of_range(word, f"1x1 to {MAX_CROPS}x{MAX_CROPS}")
    return {"crops": int(sides[0])}


def _average(cursor: _Cursor) -> dict[str, object]:
    for kind in ("scores", "posteriors"):
        if cursor.accept(kind):
            return {"average": kind}
    return cursor.fail("`scores` or `posteriors`")


def _resize(cursor: _Cursor) -> dict[str, object]:
    for kind in get_args(Resize):
        if cursor.accept(kind):
            return {"resize": kind}
    return cursor.fail("`torchvision` or `rounded`; Q is set by `scale`")


TRAIN: dict[str, _Key] = {
    "scale": _Key("scale 256..512", _train_scale),
    "crop": _Key("crop 224", _crop),
    "flip": _Key("flip", _on_off("flip")),
    "randaugment": _Key("randaugment 2 magnitude 9", _randaugment),
    "erase": _Key("erase 0.25", _number("erase", 0.0, 1.0)),
    "mixup": _Key("mixup 0.2", _number("mixup", 0.0, 100.0)),
    "cutmix": _Key("cutmix 1.0", _number("cutmix", 0.0, 100.0)),
    "colour-shift": _Key("colour-shift 0.1", _number("colour_shift", 0.0, 100.0)),
    "batch": _Key("batch 256", _integer("batch", 1, 10**6)),
    "optimiser": _Key("optimiser adamw", _optimiser),
    "momentum": _Key("momentum 0.9", _number("momentum", 0.0, 0.9999)),
    "nesterov": _Key("nesterov", _on_off("nesterov")),
    "weight-decay": _Key("weight-decay 5e-4", _number("weight_decay", 0.0, 10.0)),
    "clip": _Key("clip gradients 1.0", _of("gradients", "clip_gradients", 1e-9, 1e9)),
    "average": _Key("average weights 0.999", _of("weights", "average_weights", 0.0, 0.9999999)),
    "smooth": _Key("smooth labels 0.1", _of("labels", "smooth_labels", 0.0, 0.99)),
    "dropout": _Key("dropout 0.5", _number("dropout", 0.0, 0.99)),
    "rate": _Key("rate 1e-2", _rate),
    "warm": _Key("warm up 5 epochs", _warm),
    "decay": _Key("decay 10 on plateau, 3 times", _decay),
    "stop": _Key("stop after 370K iterations", _stop),
    "start": _Key("start normal 0.1", _start),
    "freeze": _Key("freeze up to pool5", _freeze),
    "after": _Key("after 5 epochs: free all", _after),
    "data": _Key('data "images"', lambda cursor: {"data": cursor.quoted("a folder in quotes")}),
    "validate": _Key("validate on 10%", _validate),
    "classes": _Key("classes balanced", _classes),
    "class": _Key("class weights balanced", _class),
}
TEST: dict[str, _Key] = {
    "scale": _Key("scale 256, 384, 512", _test_scales),
    "dense": _Key("dense", _on_off("dense")),
    "crops": _Key("crops 5x5", _crops),
    "flip": _Key("flip", _on_off("flip")),
    "average": _Key("average scores", _average),
    "resize": _Key("resize torchvision", _resize),
}
SECTIONS: dict[str, dict[str, _Key]] = {"train": TRAIN, "test": TEST}


def _names(keys: dict[str, _Key]) -> tuple[str, ...]:
    """The settings as they are called: ``clip gradients``, where its first word would be odd."""
    two = {"clip": "clip gradients", "average": "average weights", "smooth": "smooth labels"}
    two |= {"warm": "warm up", "validate": "validate on", "class": "class weights"}
    return tuple(two.get(key, key) if keys is TRAIN else key for key in keys)


def _guess(text: str, key: _Key) -> str | None:
    """The setting, with values of other tools translated where needed, if it can be read."""
    if len(text) > _LONGEST_MENDED:
        return None
    words = text.split()
    translated = " ".join(aliases.VALUES.get(word.casefold(), word) for word in words)
    return next((one for one in (" ".join(words), translated) if _is_read(one, key)), None)


def _is_read(text: str, key: _Key) -> bool:
    words: list[Word | Quoted] = []
    for match in re.finditer(r'"(?P<quoted>[^"]*)"|[,:]|[^\s,:"]+', text):
        span = Span(match.start(), match.end())
        quoted = match["quoted"]
        words.append(Word(match[0], span) if quoted is None else Quoted(quoted, span))
    setting = Setting(tuple(words), Span(0, len(text)))
    cursor = _Cursor(setting, key, Source("", text), Reports(), is_guess=True)
    try:
        key.read(cursor)
        cursor.finish()
    except _StopReadingError:
        return False
    return True


def _canonical(word: str) -> str:
    return word.casefold().replace("color", "colour")


#: Characters above a line in which the section that it may belong to is searched.
_ABOVE = 2000
_HEAD = re.compile(r"^\s*(train|test)\s*:", re.IGNORECASE | re.MULTILINE)


def sections_of(word: str) -> tuple[str, ...]:
    """The sections that have a setting of this name, or of one that other tools call so."""
    key = _canonical(word)
    exact = tuple(name for name, keys in SECTIONS.items() if key in keys)
    if exact or len(key) == 1:  # `q` and `s` may be slips of the keyboard
        return exact
    return tuple(name for name in SECTIONS if key in aliases.ALIASES[name])


def unindented(word: str, source: Source, start: int) -> UnindentedSetting | None:
    """The mistake of a line at ``start`` that begins with the name of a setting, or None."""
    sections = sections_of(word)
    if not sections:
        return None
    above = _HEAD.findall(source.text, max(0, start - _ABOVE), start)
    if above and above[-1].casefold() in sections:
        sections = (above[-1].casefold(),)
    return UnindentedSetting(setting=word, sections=sections)


def likely(text: str) -> str | None:
    """The setting that a line probably means, or an example of the setting that it names."""
    word, _, rest = text.partition(" ")
    key = _canonical(word)
    found = next((keys[key] for keys in SECTIONS.values() if key in keys), None)
    if found is None:
        return None
    return _guess(f"{key} {rest.strip(' ()[]')}", found) or found.example


def read_experiment(
    spec: Spec,
    size: tuple[int, int] | None,
    reports: Reports,
    *,
    is_whole: bool = True,
    labels_pixels: bool = False,
) -> Experiment:
    """Both sections of a spec, for a net whose input is ``size``, rows and columns.

    Without ``size``, where the input could not be read, nothing is compared with it. Settings that
    are not ``is_whole``, as they change others, are not compared with each other. A net that
    ``labels_pixels`` has S and Q of its input's smallest side by default, and is tested on images
    of any size; another one leaves room for crops in the paper's proportion, of its longer side.
    """
    train = _read(spec.train, "train", spec.source, reports)
    test = _read(spec.test, "test", spec.source, reports)
    side = min(size) if size else 224
    crop, crop_span = train.pop("crop", (None, None))
    if size and crop is not None and crop_span is not None and (crop, crop) != size:
        what = recipes.CropNotInput(crop=crop, input=size, pad=train.get("crop_pad", (0, None))[0])
        reports.add(report(what, spec.source, crop_span))
    pad, pad_span = train.get("crop_pad", (0, None))
    if size and pad >= side and pad_span is not None:
        what_pad = recipes.SettingRange(
            setting="crop pad", value=str(pad), expected=f"0 to {side - 1}, less than the input"
        )
        reports.add(report(what_pad, spec.source, pad_span))
    longer = max(size) if size else 224  # fits into every image whose smallest side is as long
    default = side if labels_pixels else longer if pad else round(longer * 256 / 224)
    scale, scale_span = train.pop("scale", ((default, default), None))
    if size and scale_span is not None and scale[0] < side:
        what_scale = recipes.ScaleTooSmall(scale=scale[0], input=side, section="train")
        reports.add(report(what_scale, spec.source, scale_span))
    # Section 4.1 of the paper: Q is S, or the middle of the range when S is jittered.
    scales, scales_span = test.pop("scales", ((round((scale[0] + scale[1]) / 2),), None))
    if size and scales_span is not None and min(scales) < side and not labels_pixels:
        what_scale = recipes.ScaleTooSmall(scale=min(scales), input=side, section="test")
        reports.add(report(what_scale, spec.source, scales_span))
    if "frozen" in train:
        parts, place = train["frozen"]
        train["frozen"] = tuple(sorted(parts, key=lambda part: part.after)), place
    if is_whole:
        _report_conflicts(train, spec.source, reports)
    if train.get("optimiser", ("sgd", None))[0] == "adamw":
        train = {"rate": (ADAMW_RATE, None), "weight_decay": (ADAMW_DECAY, None), **train}
    if "crops" in test and "dense" not in test:
        test["dense"] = (False, None)
    recipe = replace(TrainRecipe(), scale=scale, **_values(train))
    protocol = replace(TestProtocol(), scales=scales, **_values(test))
    return Experiment(train=recipe, test=protocol)


def _report_conflicts(
    train: dict[str, tuple[Any, Span | None]], source: Source, reports: Reports
) -> None:
    def value(field: str) -> Any:
        return train.get(field, (None, None))[0]

    def add(field: str, other: str, why: str, way: str) -> None:
        spans = train[field][1], train[other][1]
        later, earlier = sorted((span for span in spans if span), key=lambda s: -s.start)
        what = recipes.ConflictingSettings(why=why, way=way)
        reports.add(report(what, source, later, Label(earlier, "this excludes it")))

    if value("optimiser") == "adamw":
        betas = "write `optimiser adamw, betas 0.9 0.999`, whose first number is its momentum"
        if "momentum" in train:
            add("momentum", "optimiser", "`adamw` has no `momentum`", betas)
        if value("nesterov"):
            add("nesterov", "optimiser", "`nesterov` is of `sgd`, not of `adamw`", "leave one out")
    elif value("nesterov") and value("momentum") == 0:
        add("nesterov", "momentum", "`nesterov` needs a momentum", "write `momentum 0.9`")
    if value("area") and value("crop_pad"):
        why = "crops of a share of the area are of the image, which has no padding"
        add("area", "crop_pad", why, "leave one out")
    if value("classes_balanced") and value("class_weights") == "balanced":
        why = "`classes balanced` already draws each class equally often"
        add("classes_balanced", "class_weights", why, "leave one out")
    frozen = value("frozen") or ()
    ends = [part.after for part in frozen]
    if ends and (ends[0] or len(set(ends)) < len(ends)):
        what = recipes.ConflictingSettings(
            why="`after` needs a `freeze up to` line, and each `after` epochs of its own",
            way="write `freeze up to pool5`, say, for the first epochs",
        )
        reports.add(report(what, source, train["frozen"][1]))
    warm_up, epochs = value("warm_up"), value("epochs")
    if warm_up is not None and epochs is not None and warm_up >= epochs:
        add(
            "warm_up",
            "epochs",
            f"the rate grows for {count(warm_up, 'epoch')}, the training has {epochs}",
            "write a shorter `warm up`",
        )


def _values(found: dict[str, tuple[Any, Span | None]]) -> dict[str, Any]:
    return {field: value for field, (value, _) in found.items()}


def _read(
    settings: tuple[Setting, ...], section: str, source: Source, reports: Reports
) -> dict[str, tuple[Any, Span | None]]:
    """Fields and where they were set."""
    keys = SECTIONS[section]
    found: dict[str, tuple[Any, Span | None]] = {}
    seen: dict[str, Span] = {}
    for setting in settings:
        word = setting.words[0]
        key = _canonical(word.text)
        if key not in keys:
            _report_unknown(setting, section, source, reports)
            continue
        cursor = _Cursor(setting, keys[key], source, reports)
        try:
            values = keys[key].read(cursor)
            cursor.finish()
        except _StopReadingError:
            continue
        (more,) = [*(values.keys() & _SEVERAL), None][:1]
        is_more = more is not None and (more != "frozen" or key == "after")
        key = _NAMES.get(next(iter(values)), key)
        if key in seen and not is_more:
            twice = report(
                recipes.SettingTwice(setting=key),
                source,
                setting.span,
                Label(seen[key], "the first one"),
            )
            reports.add(twice)
        if not is_more:
            seen.setdefault(key, setting.span)
        place = Span(setting.words[1].span.start, setting.span.end) if cursor.at > 1 else word.span
        for field, value in values.items():
            if field in _SEVERAL and field in found:
                value = (*found[field][0], *value)  # type: ignore[misc]
            found[field] = (value, place)
    return found


def _report_unknown(setting: Setting, section: str, source: Source, reports: Reports) -> None:
    """Report an unknown setting, with its name here and its values."""
    keys = SECTIONS[section]
    words = setting.words
    key, known, used = _canonical(words[0].text), None, 1
    if len(words) > 1:  # `learning rate 0.01`
        both = f"{key}-{_canonical(words[1].text)}"
        known = both if both in keys else aliases.ALIASES[section].get(both)
        used = 2 if known else 1
    known = known or aliases.ALIASES[section].get(key) or nearest(key, tuple(keys))
    span = words[0].span.to(words[used - 1].span)
    rest = source.slice(Span(span.end, setting.span.end)).strip()
    written = source.slice(span)
    suggestion = because = None
    if known is not None:
        guess = aliases.FORMS.get(key, f"{known} {{}}").format(rest)
        suggestion = _guess(guess, keys[known]) or keys[known].example
    other = next((name for name in SECTIONS if name != section and key in SECTIONS[name]), None)
    if other is not None:
        because = f"it is a setting of `{other}:`: move it there"
    elif key in aliases.NEEDLESS:
        because = aliases.NEEDLESS[key]
    what = recipes.UnknownSetting(
        word=written, section=section, known=_names(keys), suggestion=suggestion, because=because
    )
    reports.add(report(what, source, span))
