"""The lines of a graph as the text of a spec.

What the language implies is left out: activations after convs, batch normalisation where each conv
has it, the conv of a shortcut. What is repeated is written once.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vggspec.compiler.drafting.nodes import INPUT, Layer
from vggspec.compiler.drafting.structure import Bracket, Branch, Item, Line
from vggspec.compiler.ir import IMAGE
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import AnyConv, Conv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Activation, Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.tensor import TensorType

#: A layer with what belongs to it, as words.
Unit = tuple[str, ...]

_LONGEST_PERIOD = 4  # of layers that are repeated together
_MOST_UNITS = 1024  # among which repeats of several are looked for
_STRIDED = re.compile(r"(?<![\w-])((?:dw)?conv[\dx]+(?:-\d+)?)/(\d+)(?:\(([^()]*)\))?")


@dataclass(frozen=True, slots=True)
class Draft:
    """The layers of a net as text."""

    lines: tuple[str, ...]
    modules: tuple[str, ...]
    """What the checkpoint calls the layers with weights, in the order of the net."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What each conv stands for."""

    norm: BatchNorm | None
    activation: Activation
    bias: bool

    @property
    def line(self) -> str | None:
        """The statement that says it; None for what the language implies."""
        if self.norm is None and self.activation == Relu():
            return None
        norm = "" if self.norm is None else f" {self.norm.write()}"
        conv = "conv" if self.bias else "conv(no-bias)"
        return f"conv is {conv}{norm} {self.activation.write()}"


@dataclass(frozen=True, slots=True)
class _After:
    """What follows a conv or FC on its path."""

    norm: Layer | None
    activation: Layer | None
    is_written: bool
    """Whether the activation is written even where it is implied: a normalisation or another
    activation follows, or the sum of branches, which would be taken for its."""

    @property
    def count(self) -> int:
        """How many layers that are."""
        return (self.norm is not None) + (self.activation is not None)


def write(lines: Sequence[Line], layers: Sequence[Layer], image: TensorType) -> Draft:
    """The text of lines; ``layers`` are all layers in them, in topological order."""
    writer = _Writer(lines, layers, image)
    return writer.draft()


class _Writer:
    def __init__(self, lines: Sequence[Line], layers: Sequence[Layer], image: TensorType) -> None:
        self._lines = lines
        self._types = {INPUT: image} | {layer.name: layer.type for layer in layers}
        self._last = _without_following(layers)
        self._meaning = _meaning(lines, layers, self._last)
        read = [line.source for line in lines]
        read += [source for line in lines for source in _begun(line.items)]
        named = [line.name for line in lines if line.name in read]
        self._names = {INPUT: IMAGE} | {name: f"tap{i}" for i, name in enumerate(named, 1)}
        self._modules: list[str] = []

    def draft(self) -> Draft:
        """See ``write``."""
        found: list[str] = []
        means = self._meaning.line
        if means is not None:
            found += [means, ""]
        before = INPUT
        for line in self._lines:
            units = self._sequence(line.items)
            begin = f"from {self._names[line.source]} "
            first = line.items[0]
            belongs = isinstance(first, Layer) and isinstance(first.op, BatchNorm | Activation)
            if line.source == before and not (belongs and before != INPUT):
                begin = ""
            ended: list[Unit] = []
            if line.name in self._names:
                *units, (*words, last) = units
                ended = [(*words, f"{last} as {self._names[line.name]}")]
            texts = [" ".join(unit) for unit in [*_repeated(units, is_top=True), *ended]]
            found += [begin + texts[0], *texts[1:]]
            before = line.name
        return Draft(tuple(found), tuple(self._modules))

    # -- paths -----------------------------------------------------------------------------------

    def _sequence(
        self, items: Sequence[Item], *, is_added: bool = False, gives_away: bool = False
    ) -> list[Unit]:
        """The words of a path. Where it is a branch of a sum, the activation of a conv at its end
        is that of the sum, unless it is written; ``gives_away`` tells that the sum has it.
        """
        units: list[Unit] = []
        is_normed = False  # a normalisation written now would be taken for the conv's
        i = 0
        while i < len(items):
            item = items[i]
            i += 1
            was_normed, is_normed = is_normed, False
            if isinstance(item, Bracket):
                following = items[i] if i < len(items) else None
                text, is_taken = self._bracket(item, _activation(following))
                i += is_taken
                units.append((text,))
            elif item.op.is_weight_layer:
                after = _after(items, i)
                i += after.count
                is_end = i == len(items)
                if is_added and is_end and after.activation is not None:
                    after = replace(after, is_written=True)
                is_silent = gives_away and is_end and after.activation is None
                is_normed = after.activation is None
                units.append(self._weights(item, after, is_silent=is_silent))
            else:
                self._take(item)
                word = item.op.write()
                is_normed = isinstance(item.op, BatchNorm)
                units.append((f"[{word}]" if is_normed and was_normed else word,))
        return units

    def _weights(self, layer: Layer, after: _After, *, is_silent: bool) -> Unit:
        """A conv or FC with what follows it."""
        self._take(layer)
        op = layer.op
        norm = None if after.norm is None else after.norm.op
        if after.norm is not None:
            self._take(after.norm)
        implied, stands_alone = self._implied(layer, norm)
        activation = None if after.activation is None else after.activation.op
        words: list[str] = []
        if isinstance(op, AnyConv):
            bias = op.bias or not self._meaning.bias
            op = replace(op, bias=bias, plain=stands_alone)
            if norm is not None and (stands_alone or norm != self._meaning.norm):
                words.append(norm.write())
        elif norm is not None:
            words.append(norm.write())
        if activation is None and implied is not None and not is_silent:
            assert isinstance(op, AnyConv | Linear)
            op = replace(op, linear=True)
        if activation is not None and (activation != implied or after.is_written):
            words.append(activation.write())
        return (op.write(), *words)

    def _implied(self, layer: Layer, norm: Op | None) -> tuple[Activation | None, bool]:
        """The activation that the language implies after a conv or FC, and whether the conv must
        be ``plain``.
        """
        is_last = layer.name in self._last
        if not isinstance(layer.op, AnyConv):
            return (None if is_last else Relu()), False
        meant = self._meaning.norm
        if is_last:
            return None, meant is not None and norm is not None
        if meant is not None and norm != meant:
            return None, True
        return self._meaning.activation, False

    def _take(self, layer: Layer) -> None:
        if layer.module is not None:
            self._modules.append(layer.module)

    # -- brackets --------------------------------------------------------------------------------

    def _bracket(self, bracket: Bracket, following: Op | None) -> tuple[str, bool]:
        """A bracket, and whether it takes over the activation that follows it."""
        branches, shortcut = list(bracket.branches), ""
        is_taken = False
        if bracket.join == "+":
            branches, shortcut = self._with_shortcut(bracket)
            written = branches[:-1] if shortcut else branches
            implied = [
                self._implied(end, norm)[0]
                for end, norm in map(_bare_end, written)
                if end is not None
            ]
            if any(implied):
                is_taken = all(each == following for each in implied)
        texts = []
        for i, branch in enumerate(branches):
            if shortcut and i == len(branches) - 1:
                for item in branch.items:
                    assert isinstance(item, Layer)
                    self._take(item)
                texts.append(shortcut)
                continue
            units = self._sequence(branch.items, is_added=bracket.join == "+", gives_away=is_taken)
            words = [word for unit in _repeated(units, is_top=False) for word in unit]
            if branch.source is not None:
                words = ["from", self._names[branch.source], *words]
            texts.append(" ".join(words) or "identity")
        return f"[{f' {bracket.join} '.join(texts)}]", is_taken

    def _with_shortcut(self, bracket: Bracket) -> tuple[list[Branch], str]:
        """The branches of a sum, the shortcut last, and how that is written; empty for none."""
        branches = sorted(bracket.branches, key=lambda each: not each.items and each.source is None)
        if len(branches) != 2 or any(branch.source is not None for branch in branches):
            return branches, ""
        first, second = branches
        entering = self._types[bracket.entering]
        for main, other in ((first, second), (second, first)):
            stride = _stride(main.items)
            if not _has_weights(main.items) or stride is None:
                continue
            if not other.items:
                return [main, other], "shortcut"
            if self._is_projection(main, other, stride):
                is_needed = entering != bracket.result.type or stride != 1
                return [main, other], "shortcut" if is_needed else "shortcut(project)"
        return branches, ""

    def _is_projection(self, main: Branch, other: Branch, stride: int) -> bool:
        """Whether a branch is the conv that ``shortcut`` stands for beside another one."""
        conv, *norms = other.items
        if not isinstance(conv, Layer) or not isinstance(conv.op, Conv) or len(norms) > 1:
            return False
        norm = norms[0].op if norms and isinstance(norms[0], Layer) else None
        if norms and not isinstance(norm, BatchNorm):
            return False
        end, its_norm = _bare_end(main)
        has_bias = True
        if end is not None:
            assert isinstance(end.op, AnyConv | Linear)
            has_bias = end.op.bias
        meant = Conv(
            kernel_size=(1, 1), stride=stride, bias=has_bias, out_channels=conv.op.out_channels
        )
        return conv.op == meant and norm == its_norm


# -- what follows what ---------------------------------------------------------------------------


def _after(items: Sequence[Item], at: int) -> _After:
    """What follows the conv or FC before that place."""
    rest = [item if isinstance(item, Layer) else None for item in items[at : at + 3]]
    norm = activation = None
    if rest and rest[0] is not None and isinstance(rest[0].op, BatchNorm):
        norm = rest.pop(0)
    if rest and rest[0] is not None and isinstance(rest[0].op, Activation):
        activation = rest.pop(0)
    is_written = bool(rest) and rest[0] is not None and isinstance(rest[0].op, _OF_CONVS)
    return _After(norm, activation, is_written)


_OF_CONVS = (BatchNorm, Activation)


def _activation(item: Item | None) -> Op | None:
    is_activation = isinstance(item, Layer) and isinstance(item.op, Activation)
    return item.op if is_activation and isinstance(item, Layer) else None


def _bare_end(branch: Branch) -> tuple[Layer | None, Op | None]:
    """The conv or FC, and its batch normalisation, that ends a branch without an activation."""
    rest = list(branch.items[-2:])
    norm = None
    if len(rest) > 1 and isinstance(rest[1], Layer) and isinstance(rest[1].op, BatchNorm):
        norm = rest.pop().op  # type: ignore[union-attr]
    end = rest[-1] if rest else None
    if isinstance(end, Layer) and end.op.is_weight_layer:
        return end, norm
    return None, None


def _has_weights(items: Sequence[Item]) -> bool:
    return any(isinstance(item, Layer) and item.op.is_weight_layer for item in items)


def _stride(items: Sequence[Item]) -> int | None:
    """Positions of what enters a path for one of what leaves it; None where that is not known."""
    found = 1
    for item in items:
        if isinstance(item, Bracket):
            inner = item.branches[0]
            stride = None if inner.source is not None else _stride(inner.items)
            if stride is None:
                return None
            found *= stride
        elif isinstance(item.op, AnyConv | MaxPool):
            found *= item.op.stride
        elif not isinstance(item.op, _OF_CONVS):
            return None
    return found


def _begun(items: Sequence[Item]) -> list[str]:
    """The lines at whose results branches begin."""
    return [
        source
        for item in _brackets(items)
        for source in (branch.source for branch in item.branches)
        if source is not None
    ]


def _brackets(items: Sequence[Item]) -> list[Bracket]:
    """All brackets in a path."""
    found: list[Bracket] = []
    todo = list(items)
    while todo:
        item = todo.pop()
        if isinstance(item, Bracket):
            found.append(item)
            todo += [inner for branch in item.branches for inner in branch.items]
    return found


def _without_following(layers: Sequence[Layer]) -> frozenset[str]:
    """The weight layers from which no other one is reached."""
    reaches: set[str] = set()
    found = set()
    for layer in reversed(layers):
        if layer.op.is_weight_layer and layer.name not in reaches:
            found.add(layer.name)
        if layer.op.is_weight_layer or layer.name in reaches:
            reaches.update(layer.inputs)
    return frozenset(found)


def _meaning(lines: Sequence[Line], layers: Sequence[Layer], last: frozenset[str]) -> _Meaning:
    """What most convs stand for."""
    convs = [layer for layer in layers if isinstance(layer.op, AnyConv)]
    norms: Counter[BatchNorm] = Counter()
    activations: Counter[Activation] = Counter()
    paths = [line.items for line in lines]
    for bracket in [one for line in lines for one in _brackets(line.items)]:
        paths += [branch.items for branch in bracket.branches]
    for items in paths:
        for i, item in enumerate(items):
            if isinstance(item, Bracket) and item.join == "+":
                following = _activation(items[i + 1] if i + 1 < len(items) else None)
                if isinstance(following, Activation):
                    activations[following] += 1
            if not isinstance(item, Layer) or not isinstance(item.op, AnyConv):
                continue
            after = _after(items, i + 1)
            if after.norm is not None and isinstance(after.norm.op, BatchNorm):
                norms[after.norm.op] += 1
            if after.activation is not None and isinstance(after.activation.op, Activation):
                activations[after.activation.op] += item.name not in last
    usual = _Meaning(None, Relu(), bias=True)
    if len(convs) < 2:
        return usual
    norm, times = next(iter(norms.most_common(1)), (None, 0))
    activation, _ = next(iter(activations.most_common(1)), (Relu(), 0))
    bias = any(isinstance(conv.op, AnyConv) and conv.op.bias for conv in convs)
    found = _Meaning(norm if 2 * times > len(convs) else None, activation, bias)
    return usual if found.line is None else found


# -- repeats -------------------------------------------------------------------------------------


def _repeated(units: Sequence[Unit], *, is_top: bool) -> list[Unit]:
    """The same, with what is repeated written once. Within a bracket two convs are two words."""
    units = _same_brackets(units) if is_top else list(units)
    found: list[Unit] = []
    i = 0
    while i < len(units):
        period, times = _repeat_at(units, i, is_top=is_top)
        words = tuple(word for unit in units[i : i + period] for word in unit)
        if times < (2 if is_top else 3):
            found.append(units[i])
            i += 1
            continue
        whole = words[0] if len(words) == 1 else f"[{' '.join(words)}]"
        found.append((f"{whole} x{times}",))
        i += period * times
    return found


def _repeat_at(units: Sequence[Unit], at: int, *, is_top: bool) -> tuple[int, int]:
    """How many units are repeated from a place on, and how often."""
    best = (1, 1)
    longest = _LONGEST_PERIOD if is_top and len(units) <= _MOST_UNITS else 1
    for period in range(1, longest + 1):
        first = units[at : at + period]
        # A pooling counts blocks in the names of layers, in a bracket it would not.
        if period > 1 and any("pool" in word for unit in first for word in unit):
            break
        if any(" x" in unit[-1] for unit in first):
            break
        times = 1
        while list(units[at + period * times : at + period * (times + 1)]) == list(first):
            times += 1
        if times > 1 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _same_brackets(units: Sequence[Unit]) -> list[Unit]:
    """Brackets that differ from those after them in their strides alone have those ``once``."""
    found = list(units)
    for i, (unit, following) in enumerate(pairwise(units)):
        text = unit[0]
        if len(unit) == 1 and text.startswith("[") and _STRIDED.search(text):
            plain = _STRIDED.sub(lambda m: m[1] + (f"({m[3]})" if m[3] else ""), text)
            if following == (plain,):
                found[i] = (_STRIDED.sub(_once, text),)
    return _merged(found)


def _merged(units: list[Unit]) -> list[Unit]:
    """With each bracket that has strides ``once`` and those after it as one."""
    found: list[Unit] = []
    i = 0
    while i < len(units):
        text = units[i][0]
        i += 1
        if "(once" not in text or len(units[i - 1]) > 1:
            found.append(units[i - 1])
            continue
        times, following = 1, units[i]
        while i < len(units) and units[i] == following:
            times += 1
            i += 1
        found.append((f"{text} x{times}",))
    return found


def _once(match: "re.Match[str]") -> str:
    options = f"once, {match[3]}" if match[3] else "once"
    return f"{match[1]}/{match[2]}({options})"
