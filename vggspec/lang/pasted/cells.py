"""The text of a cell to layers, in the ways in which papers write them.

``3×3, 64, stride 2``, ``conv3-64``, ``3×3 conv (64)``, ``2×2 max pool``, ``1000-d fc``,
``[3×3, 64; 3×3, 64] ×2``. What is not understood is reported, and nothing is left out silently.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from vggspec.base.catalogue import pasting
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.source import Span
from vggspec.lang.pasted.grid import Desk
from vggspec.lang.pasted.text import Text

Kind = Literal[
    "conv", "maxpool", "avgpool", "gap", "FC-", "soft-max", "LRN", "BN", "dropout", "ReLU"
]

#: Kinds that close a net's column, or that all nets have in common: alone in a row they span it.
SHARED: tuple[Kind, ...] = ("maxpool", "avgpool", "gap", "FC-", "soft-max", "dropout")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it will be written."""

    kind: Kind
    numbers: str
    bold: bool
    span: Span
    stride: int | None = None
    options: tuple[str, ...] = ()
    repeat: int | None = None
    is_bare: bool = False
    """Whether a pooling has neither window nor stride: the average may be of the whole map."""

    def written(self) -> str:
        """In the words of a spec."""
        return (
            f"{self.kind}{self.numbers}"
            + (f"/{self.stride}" if self.stride is not None else "")
            + (f"({', '.join(self.options)})" if self.options else "")
            + (f" x{self.repeat}" if self.repeat is not None else "")
        )


@dataclass(frozen=True, slots=True)
class Bracket:
    """Several layers in brackets, and how often they follow each other."""

    layers: tuple[Layer, ...]
    repeat: int | None
    bold: bool
    span: Span

    def written(self) -> str:
        """In the words of a spec."""
        inside = " ".join(layer.written() for layer in self.layers)
        return f"[{inside}]" + (f" x{self.repeat}" if self.repeat is not None else "")


@dataclass(frozen=True, slots=True)
class Image:
    """The size and the colours of the input."""

    height: int
    width: int
    color: str
    span: Span

    def written(self) -> str:
        """In the words of a spec."""
        return f"input {self.height}x{self.width} {self.color}"


@dataclass(frozen=True, slots=True)
class Statement:
    """``16 weight layers`` or ``138M parameters``."""

    number: str
    kind: Literal["weight layers", "parameters"]
    span: Span

    def written(self) -> str:
        """In the words of a spec."""
        return f"{self.number} {self.kind}"


Item = Layer | Bracket | Image | Statement


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part of a cell that is not understood, by its place in the text of the cell."""

    what: Diagnostic
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Read:
    """What a cell says: its items, what is wrong with it, and what is worth a word."""

    items: tuple[Item, ...]
    troubles: tuple[Trouble, ...]
    notes: tuple[str, ...]

    def tell(self, text: Text, desk: Desk, column: str | None) -> None:
        """Report the troubles, and note the rest."""
        for trouble in self.troubles:
            what = trouble.what
            if isinstance(what, pasting.NotALayer):
                what = replace(what, column=column)
            desk.report(what, text.span(trouble.start, trouble.end))
        if not self.troubles:
            for note in self.notes:
                desk.notes.add(note, text.span(0, len(text.text)))


_N = r"[0-9]{1,9}"
_SIZE = rf"{_N}\s{{0,9}}[x×]\s{{0,9}}{_N}"
_MARK = r"[†‡§¶*]"
_END = rf"(?![\w×.%]|\^(?!{_MARK}))"
_GAP = r"\s{0,9}"
_CONV = r"conv(?:olutions?|olutional)?(?:\.|\b)(?:\s{1,9}layers?\b)?"
_WIDE = r"(?:[\s-]{0,9}(?:filters?|channels?|kernels?|maps?|feature\s{1,9}maps?|d))?"


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_SEPARATORS = re.compile(r"(?:[\s,;→]|->)+")
_LABEL = _compile(r"(?P<label>[a-z]\w{0,30})\s{0,9}:\s")

_CONVS = (
    _compile(
        rf"conv(?P<kernel>{_N}(?:[x×]{_N})?)-(?P<channels>{_N})(?:/(?P<stride>{_N}))?"
        rf"(?=[\s,;)\](]|\^?{_MARK}|$)"
    ),
    _compile(
        rf"{_CONV}{_GAP}[(,]?{_GAP}(?P<kernel>{_SIZE}){_GAP}"
        rf"(?P<open>[-,(]|\s){_GAP}(?P<channels>{_N}){_WIDE}{_GAP}\)?{_END}"
    ),
    _compile(
        rf"(?P<kernel>{_SIZE}){_GAP},?{_GAP}{_CONV}{_GAP}"
        rf"(?P<open>[-,(]|\s){_GAP}(?P<channels>{_N}){_WIDE}{_GAP}\)?{_END}"
    ),
    _compile(rf"(?P<kernel>{_SIZE}){_GAP},{_GAP}(?P<channels>{_N}){_WIDE}{_END}"),
)
_CONV_WITHOUT = _compile(rf"(?:(?:{_SIZE}){_GAP}{_CONV}|{_CONV}{_GAP}(?:{_SIZE})?)")
_POOL = _compile(
    rf"(?:(?P<before>{_SIZE}){_GAP},?{_GAP})?"
    rf"(?:(?P<word>maxpool|avgpool)(?P<window>{_N})?(?:/(?P<stride>{_N}))?(?=[\s,;)\](]|$)"
    rf"|(?P<kind>max|avg|average|mean|ave)[\s.-]{{0,9}}pool(?:ing)?(?:\s{{1,9}}layer)?\b)"
)
_POOL_WITHOUT = _compile(rf"(?:(?:{_SIZE}){_GAP},?{_GAP})?pool(?:ing)?\b")
_GLOBAL = _compile(
    rf"(?:(?:{_SIZE}){_GAP},?{_GAP})?(?:global[\s-]{{1,9}}(?:average|avg)[\s-]{{0,9}}pool(?:ing)?"
    rf"|gap)\b"
)
_DENSE = r"(?:fc|fully[\s-]{0,9}connected|dense|linear|inner[\s-]{1,9}product)"
_FCS = (
    _compile(
        rf"(?P<outputs>{_N})[\s-]{{0,9}}(?:d|dim|way|outputs|units|neurons)?[\s,-]{{0,9}}"
        rf"{_DENSE}\b(?:\s{{1,9}}layer)?(?!{_GAP}[-(]?{_GAP}[0-9])"
    ),
    _compile(
        rf"{_DENSE}(?P<label>[0-9])?(?:\s{{1,9}}layer)?(?:{_GAP}[-,:(]{_GAP}|\s{{1,9}})"
        rf"(?P<outputs>{_N})"
        rf"[\s-]{{0,9}}(?:d|dim|way|outputs?|units|neurons)?{_GAP}\)?{_END}"
    ),
)
_FC_WITHOUT = _compile(rf"{_DENSE}[0-9]?\b")
_DROPOUT = _compile(
    rf"drop[\s-]?out(?:{_GAP}[(=:,]?{_GAP}(?:p{_GAP}={_GAP})?(?P<rate>0?\.[0-9]{{1,9}}){_GAP}\)?)?"
    rf"{_END}"
)
_LRN = _compile(r"(?:lrn|local\s{1,9}response\s{1,9}norm(?:ali[sz]ation)?)\b")
_NATIVE = _compile(rf"{_GAP}\((?P<options>[a-z][\w .,/-]{{0,100}})\)")
_WORDS: tuple[tuple[re.Pattern[str], Kind | None], ...] = (
    (_compile(r"soft[\s-]?max\b(?:\s{1,9}layer)?"), "soft-max"),
    (_compile(r"(?:bn|batch[\s-]{0,9}norm(?:ali[sz]ation)?)\b"), "BN"),
    (_compile(r"relu\b"), "ReLU"),
    (_compile(r"flatten\b"), None),
)
_IMAGE = _compile(
    rf"(?:(?P<word>input|image)\b{_GAP}(?:image|size)?{_GAP}:?{_GAP}\(?{_GAP})?(?P<size>{_SIZE})"
    rf"(?:{_GAP}[x×]{_GAP}(?P<channels>[13])(?![0-9]))?"
    rf"{_GAP}(?P<color>rgb|bgr|gr[ae]y)?(?:scale)?{_GAP}(?P<after>images?|input|pixels?)?{_GAP}\)?"
    rf"(?=[\s,;]|$)"
)
_INPUT = _compile(r"(?:input|image|data)\b(?:\s{1,9}(?:image|data|layer))?(?=\s*$)")
_WEIGHT_LAYERS = _compile(rf"(?P<number>{_N})\s{{1,9}}weight\s{{1,9}}layers?\b")
_PARAMETERS = _compile(
    rf"(?P<number>{_N}(?:\.[0-9]{{1,9}})?){_GAP}(?P<unit>k|m|g|b|thousand|million|billion)?\s{{0,9}}"
    rf"(?:parameters?|params?|weights)\b"
)
_UNITS = {"thousand": "K", "million": "M", "billion": "G"}

_TAIL = r"\s{0,9},?\s{0,9}"
_OPEN, _SHUT = r"(?P<open>\(\s{0,9})?", r"(?(open)\s{0,9}\))"
_SET = r"\s{0,9}(?:of\b|[=:])?\s{0,9}"
_STRIDE = _compile(
    rf"{_TAIL}{_OPEN}(?:stride|s){_SET}(?P<stride>{_N})"
    rf"(?:\s{{0,9}}[x×]\s{{0,9}}(?P<other>{_N}))?{_SHUT}{_END}"
)
_SLASH = _compile(rf"{_TAIL}{_OPEN}/\s{{0,9}}(?P<stride>{_N}){_SHUT}{_END}")
_PAD = _compile(rf"{_TAIL}{_OPEN}(?:pad(?:ding)?|p){_SET}(?P<pad>{_N}(?:[x×]{_N})?){_SHUT}{_END}")
_SAME = _compile(rf"{_TAIL}{_OPEN}(?P<word>same|valid)(?:\s{{1,9}}padding)?\b{_SHUT}")
_GROUPS = _compile(
    rf"{_TAIL}{_OPEN}(?:groups?{_SET}|(?P<letter>C)\s{{0,9}}=\s{{0,9}})(?P<groups>{_N}){_SHUT}{_END}"
)
_DILATION = _compile(rf"{_TAIL}{_OPEN}dilat(?:ion|ed){_SET}(?P<dilation>{_N}){_SHUT}{_END}")
_WINDOW = _compile(
    rf"{_TAIL}{_OPEN}(?P<window>{_SIZE}){_SHUT}{_END}(?!{_GAP},{_GAP}[0-9]|{_GAP}(?:conv|max|av))"
)
#: After a pooling without a window: is it the window, or the next conv?
_UNCLEAR = _compile(rf"[ ]{{0,9}},?[ ]{{0,9}}\(?(?:{_SIZE}){_GAP},{_GAP}[0-9]{{1,9}}")
_REPEAT = _compile(
    rf"(?P<space>\s{{0,9}}){_OPEN}[x×](?P<inner>\s{{0,9}})(?P<repeat>{_N}){_SHUT}{_END}"
)
_OPTION = _compile(
    r"(?:(?:pad|groups|dilation) [0-9]{1,9}(?:x[0-9]{1,9})?|linear|no-bias|plain|once|ceil)"
)
_JUNK = re.compile(r"[^\s,;\[\]]+(?: [^\s,;\[\]]+)*|[\[\]]")
_SETTING = _compile(
    r"(?P<name>stride|s|pad(?:ding)?|p|groups?|dilation)(?:\s{0,9}=\s{0,9}|\s{1,9})(?P<value>[0-9]{1,9})"
)
_DASHES_ONLY = re.compile(r"-{1,9}")
_MARKS = re.compile(rf"\^?{_MARK}+")
_REST = re.compile(r"[^\n;\[\]]*")

MAX_TROUBLES = 50  # a cell; more of them have one cause
MAX_ITEMS = 4096  # a cell


def read_cell(text: Text, *, is_inner: bool = False) -> Read:
    """The items of a cell, in their order; in a bracket there is no bracket."""
    if _DASHES_ONLY.fullmatch(text.text):
        return Read((), (), (f"`{text.text}` is read as an empty cell",))
    return _Reader(text, is_inner=is_inner).read()


class _Reader:
    def __init__(self, text: Text, *, is_inner: bool) -> None:
        self._text = text
        self._is_inner = is_inner
        self._string = text.text
        self._at = 0
        self._items: list[Item] = []
        self._troubles: list[Trouble] = []
        self._notes: list[str] = []

    def read(self) -> Read:
        while not self._skip_to(len(self._string)):
            if len(self._troubles) >= MAX_TROUBLES:
                break
            if len(self._items) >= MAX_ITEMS:
                what = pasting.Markup(what=f"a cell has more than {MAX_ITEMS} layers")
                self._trouble(what, self._at, self._at + 1)
                break
            self._one()
        if self._string and not (self._items or self._troubles or self._notes):
            only_marks = pasting.NotALayer(found=self._string)
            self._trouble(only_marks, 0, len(self._string))
        return Read(tuple(self._items), tuple(self._troubles), tuple(self._notes))

    def _skip_to(self, end: int) -> bool:
        match = _SEPARATORS.match(self._string, self._at)
        if match:
            self._at = match.end()
        return self._at >= end

    def _one(self) -> None:
        marks = _MARKS.match(self._string, self._at)
        if marks:
            self._notes.append(f"the mark `{marks[0]}` is dropped")
            self._at = marks.end()
            return
        if self._string[self._at] in "[(" and self._bracket():
            return
        label = _LABEL.match(self._string, self._at)
        if label and label["label"].casefold() not in ("input", "image"):
            self._notes.append(f"the label `{label['label']}` is dropped")
            self._at = label.end()
            return
        for reader in _READERS:
            if reader(self):
                return
        self._not_understood()

    def _not_understood(self) -> None:
        match = _JUNK.match(self._string, self._at)
        end = match.end() if match else self._at + 1
        for one in (_CONV_WITHOUT, _POOL_WITHOUT, _FC_WITHOUT):
            known = one.match(self._string, self._at)
            if known is None:
                continue
            if one is _POOL_WITHOUT:
                rest = _REST.match(self._string, known.end())
                end = max(end, rest.end() if rest else 0)
            missing = _missing(one, known[0], self._string[self._at : end].rstrip())
            if missing is not None:
                self._trouble(missing, self._at, end)
                return
        found = self._string[self._at : end]
        self._trouble(pasting.NotALayer(found=found, suggestion=_suggestion(found)), self._at, end)

    def _trouble(self, what: Diagnostic, start: int, end: int) -> None:
        self._troubles.append(Trouble(what, start, end))
        self._at = max(end, self._at + 1)

    def _match(self, *patterns: re.Pattern[str]) -> re.Match[str] | None:
        """The first of the patterns that is next, and what it matches is read."""
        for pattern in patterns:
            match = pattern.match(self._string, self._at)
            if match:
                self._at = match.end()
                return match
        return None

    def _add(self, layer: Layer, start: int) -> None:
        self._items.append(replace(layer, span=self._text.span(start, self._at)))

    def _is_bold(self, start: int) -> bool:
        return self._text.bold[start]

    def _layer(self, kind: Kind, numbers: str, start: int) -> Layer:
        return Layer(kind, numbers, self._is_bold(start), Span(0, 0))

    def conv(self) -> bool:
        start = self._at
        match = self._match(*_CONVS)
        if match is None:
            return False
        groups = match.groupdict()
        is_word = match.re is _CONVS[0]
        stride = groups.get("stride")
        layer = replace(
            self._layer("conv", f"{_side(match['kernel'])}-{match['channels']}", start),
            stride=int(stride) if stride else None,
        )
        self._finish(layer, start, may_follow_a_number=is_word or match[0].endswith(")"))
        return True

    def pool(self) -> bool:
        start = self._at
        match = self._match(_POOL)
        if match is None:
            return False
        word = (match["word"] or match["kind"]).casefold()
        kind: Kind = "maxpool" if word.startswith("max") else "avgpool"
        window = match["window"] or (match["before"] and _side(match["before"])) or ""
        layer = replace(
            self._layer(kind, window, start),
            stride=int(match["stride"]) if match["stride"] else None,
        )
        self._finish(layer, start, may_follow_a_number=False)
        return True

    def _finish(self, layer: Layer, start: int, *, may_follow_a_number: bool) -> None:
        """What follows a conv or a pooling: stride, padding, options, a repeat."""
        options = list(layer.options)
        kernel = layer.numbers
        while True:
            if not options and (native := self._options(layer)):
                layer, options = native
            elif match := self._match(_STRIDE, _SLASH):
                groups = match.groupdict()
                if layer.stride is not None or groups.get("other") not in (None, match["stride"]):
                    self._once_more(match, start)
                    return
                layer = replace(layer, stride=int(match["stride"]))
            elif match := self._match(_PAD):
                options.append(f"pad {match['pad'].replace('×', 'x')}")
            elif layer.kind == "conv" and (match := self._match(_GROUPS)):
                if match["letter"]:
                    self._notes.append(f"`C={match['groups']}` is read as {match['groups']} groups")
                options.append(f"groups {match['groups']}")
            elif layer.kind == "conv" and (match := self._match(_DILATION)):
                options.append(f"dilation {match['dilation']}")
            elif match := self._match(_SAME):
                if match["word"].casefold() == "valid":
                    options.append("pad 0")
                elif layer.kind != "conv" or layer.stride not in (None, 1):
                    self._once_more(match, start)
                    return
            elif layer.kind != "conv" and not kernel and (match := self._match(_WINDOW)):
                kernel = _side(match["window"])
            else:
                break
        if layer.kind != "conv":
            unclear = None if kernel else _UNCLEAR.match(self._string, self._at)
            if unclear is not None:
                self._once_more(unclear, start)
                return
            layer = self._window(layer, kernel)
        layer = replace(layer, options=tuple(options))
        self._repeated(layer, start, may_follow_a_number=may_follow_a_number)

    def _options(self, layer: Layer) -> tuple[Layer, list[str]] | None:
        """``(stride 4, pad 0)`` or ``(linear)``, where all of it is known."""
        match = _NATIVE.match(self._string, self._at)
        if match is None:
            return None
        options = []
        for word in match["options"].split(","):
            setting = _SETTING.fullmatch(word.strip())
            if setting is not None and setting["name"].startswith("s"):
                if layer.stride is not None:
                    return None
                layer = replace(layer, stride=int(setting["value"]))
            elif setting is not None:
                name = {"p": "pad", "g": "groups", "d": "dilation"}[setting["name"][0].lower()]
                options.append(f"{name} {setting['value']}")
            elif _OPTION.fullmatch(" ".join(word.split())):
                options.append(" ".join(word.split()).lower())
            else:
                return None
        self._at = match.end()
        return layer, options

    def _once_more(self, match: re.Match[str], start: int) -> None:
        found = self._string[start : match.end()]
        self._trouble(pasting.NotALayer(found=found), start, match.end())

    def _window(self, layer: Layer, kernel: str) -> Layer:
        layer = replace(layer, is_bare=not kernel and layer.stride is None)
        if "x" in kernel:
            return replace(layer, numbers=kernel)  # which no pooling has: the spec's reader says so
        if not kernel and layer.stride not in (None, 2):
            self._notes.append(
                f"a {layer.kind} of stride {layer.stride} without a window: 2 × 2 is taken"
            )
            kernel = "2"
        elif not kernel and layer.stride is not None:
            self._notes.append("a pooling of stride 2 without a window: 2 × 2 is taken")
            kernel = "2"
        elif kernel and layer.stride is None and kernel != "2":
            self._notes.append(
                f"a {kernel} × {kernel} pooling without a stride: 2 is taken, as in all specs"
            )
            layer = replace(layer, stride=2)
        if kernel == "2" and layer.stride in (None, 2):
            return replace(layer, numbers="", stride=None)
        return replace(layer, numbers=kernel)

    def _repeated(self, layer: Layer, start: int, *, may_follow_a_number: bool) -> None:
        match = _REPEAT.match(self._string, self._at)
        if match is not None:
            follows_number = self._string[self._at - 1].isdigit() and not may_follow_a_number
            if follows_number and (not match["space"] or match["inner"]):
                found = self._string[start : match.end()]
                suggestion = f"[{self._string[start : self._at]}] ×{match['repeat']}"
                what = pasting.NotALayer(found=found, suggestion=suggestion)
                self._trouble(what, start, match.end())
                return
            self._at = match.end()
            layer = replace(layer, repeat=int(match["repeat"]))
        self._add(layer, start)

    def average_of_all(self) -> bool:
        start = self._at
        if self._match(_GLOBAL) is None:
            return False
        self._add(self._layer("gap", "", start), start)
        return True

    def dense(self) -> bool:
        start = self._at
        match = self._match(*_FCS)
        if match is None:
            return False
        layer = self._layer("FC-", match["outputs"], start)
        if match.groupdict().get("label"):
            self._notes.append(f"the label `fc{match['label']}` is dropped")
        native = _NATIVE.match(self._string, self._at)
        if native is not None and native["options"] in ("linear", "no-bias", "linear, no-bias"):
            self._at = native.end()
            layer = replace(layer, options=(native["options"],))
        self._repeated(layer, start, may_follow_a_number=match.re is _FCS[1])
        return True

    def dropout(self) -> bool:
        start = self._at
        match = self._match(_DROPOUT)
        if match is None:
            return False
        rate = (f"0{match['rate'].removeprefix('0')}",) if match["rate"] else ()
        self._add(replace(self._layer("dropout", "", start), options=rate), start)
        return True

    def lrn(self) -> bool:
        start = self._at
        if self._match(_LRN) is None:
            return False
        layer = self._layer("LRN", "", start)
        native = self._match(_NATIVE)
        if native is not None:
            layer = replace(layer, options=(" ".join(native["options"].split()),))
        self._add(layer, start)
        return True

    def word(self) -> bool:
        start = self._at
        for pattern, kind in _WORDS:
            if self._match(pattern) is None:
                continue
            if kind is None:
                self._notes.append("flattening is implied: not written")
            else:
                self._add(self._layer(kind, "", start), start)
            return True
        return False

    def image(self) -> bool:
        start = self._at
        match = self._match(_IMAGE)
        if match is not None:
            if not (match["word"] or match["color"] or match["after"] or match["channels"]):
                self._at = start
                return False
            height, width = re.findall(_N, match["size"])
            gray = (match["color"] or "").casefold() in ("gray", "grey") or match["channels"] == "1"
            color = "gray" if gray else (match["color"] or "RGB").upper()
            if not match["color"] and not match["channels"]:
                self._notes.append("the colours of the input are not given: RGB is taken")
            span = self._text.span(start, self._at)
            self._items.append(Image(int(height), int(width), color, span))
            return True
        match = self._match(_INPUT)
        if match is None:
            return False
        self._notes.append("the size of the input is not given: 224 × 224 RGB is the default")
        return True

    def claim(self) -> bool:
        start = self._at
        match = self._match(_WEIGHT_LAYERS)
        if match is not None:
            span = self._text.span(start, self._at)
            self._items.append(Statement(match["number"], "weight layers", span))
            return True
        match = self._match(_PARAMETERS)
        if match is None:
            return False
        unit = (match["unit"] or "").casefold()
        number = match["number"] + _UNITS.get(unit, unit.upper())
        self._items.append(Statement(number, "parameters", self._text.span(start, self._at)))
        return True

    def _bracket(self) -> bool:
        start = self._at
        opening = self._string[start]
        closing = "]" if opening == "[" else ")"
        end = self._string.find(closing, start)
        if self._is_inner:
            self._trouble(pasting.Markup(what="a bracket is in a bracket"), start, start + 1)
            return True
        if end < 0:
            if opening == "(":
                return False
            self._trouble(pasting.Markup(what="the bracket is not closed"), start, start + 1)
            self._at = len(self._string)
            return True
        inner = read_cell(self._text.part(start + 1, end), is_inner=True)
        self._troubles += [
            Trouble(one.what, one.start + start + 1, one.end + start + 1) for one in inner.troubles
        ]
        self._notes += inner.notes
        self._at = end + 1
        match = self._match(_REPEAT)
        if inner.troubles:
            return True
        layers = tuple(one for one in inner.items if isinstance(one, Layer))
        if len(layers) < len(inner.items) or not layers:
            found = self._string[start : self._at]
            self._trouble(pasting.NotALayer(found=found), start, self._at)
            return True
        repeat = int(match["repeat"]) if match else None
        span = self._text.span(start, self._at)
        if len(layers) == 1 and (repeat is None or layers[0].repeat is None):
            self._items.append(replace(layers[0], repeat=repeat or layers[0].repeat, span=span))
        else:
            self._items.append(Bracket(layers, repeat, self._is_bold(start), span))
        return True


_READERS: tuple[Callable[[_Reader], bool], ...] = (
    _Reader.claim,
    _Reader.conv,
    _Reader.average_of_all,
    _Reader.pool,
    _Reader.dense,
    _Reader.dropout,
    _Reader.lrn,
    _Reader.word,
    _Reader.image,
)


def _side(size: str) -> str:
    """``3`` of ``3 × 3``, ``1x7`` of ``1 × 7``."""
    sides = re.findall(_N, size)
    return sides[0] if len(set(sides)) == 1 else "x".join(sides)


def _missing(pattern: re.Pattern[str], found: str, whole: str) -> Diagnostic | None:
    """What is wrong with a layer that lacks something; None where it has another mistake."""
    rest = whole[len(found) :].strip()
    size = re.search(_SIZE, found)
    if pattern is _POOL_WITHOUT:
        window = f", {size[0]}" if size else ""
        return pasting.MissingNumber(
            found=whole,
            missing="whether it is the maximum or the average",
            suggestion=f"max pool{window}",
        )
    if rest and re.search(r"[0-9]", rest):
        return None
    if pattern is _CONV_WITHOUT:
        return pasting.MissingNumber(
            found=whole,
            missing="how many channels it has" if size else "its receptive field and channels",
            suggestion=f"{size[0] if size else '3×3'}, 64",
        )
    return pasting.MissingNumber(
        found=whole, missing="how many outputs it has", suggestion="FC-1000"
    )


def _suggestion(found: str) -> str | None:
    """What was probably written, of a text that is not understood."""
    if re.fullmatch(r"[0-9]{2,6}", found):
        return f"FC-{found}"
    digits = found.translate(str.maketrans("lIOo", "1100"))
    fixed = re.fullmatch(r"[ck][o0]nv(\d+)[-\s]+(\d+)", digits, re.IGNORECASE)
    if fixed and found.casefold() != f"conv{fixed[1]}-{fixed[2]}":
        return f"conv{fixed[1]}-{fixed[2]}"
    if re.fullmatch(r"1nput.*|lnput.*", found, re.IGNORECASE):
        return "input"
    return None
