"""Syntax tree to network: words become ops, what the paper leaves out is filled in.

ReLU after every conv and FC but the last weight layer (section 2.1), dropout on every FC but the
last (section 3.1), names as in the authors' released models: conv1_1 … conv5_3, pool1 …, fc6 ….
Every bad layer is reported; a shape that does not fit ends the work, since the rest would be
echoes of it. Claims are checked last.
"""

import keyword
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

from vggspec.catalogue import files, names, nearest, syntax
from vggspec.compiler.ir import (
    IMAGE,
    Color,
    ImageInput,
    Network,
    Node,
    Origin,
    Output,
    build,
)
from vggspec.compiler.ops import OPS
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.syntax import MAX_SIDE, Arguments, find, is_layer, join, read_number
from vggspec.diagnostic import Diagnostic, Label, Report, Reports, VggspecError, report
from vggspec.lang.ast import Claim, Document, InputItem, LayerItem, Option, Spec
from vggspec.lang.loading import load, net_name, pick, split_target
from vggspec.lang.parser import parse_leniently
from vggspec.lang.sections import read_experiment, section_of
from vggspec.recipe import Experiment
from vggspec.source import Source, Span, read

MAX_LAYERS = 4096
MAX_LIKE = 16
MAX_NAME = 64

_SYNTAXES = {op.keyword: op.syntax for op in OPS if op.syntax is not None}
_OPS = {op.keyword: op for op in OPS}
_LAYER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_OF_MODULE = (
    "T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda "
    "double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter "
    "get_submodule half ipu load_state_dict modules mtia named_buffers named_children "
    "named_modules named_parameters parameters register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook "
    "register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ "
    "set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu "
    "zero_grad"
)
_OF_VGGSPEC = "image posteriors scores score_map average vector self torch nn"

#: Names that ``torch.nn.Module``, generated Python code and the graph need for themselves.
RESERVED = frozenset([*_OF_MODULE.split(), *_OF_VGGSPEC.split(), *keyword.kwlist, "match", "case"])


@dataclass(frozen=True, slots=True)
class Lowered:
    """A net ready to compile, and how it is to be trained and tested."""

    network: Network
    experiment: Experiment
    spec: Spec


@dataclass(frozen=True, slots=True)
class _Written:
    """A layer as written, its op read and its name decided."""

    op: Op
    name: str
    origin: Origin
    has_relu: bool = False


def lower(spec: Spec) -> Lowered:
    """The network of a spec.

    Raises:
        VggspecError: with every mistake that could be told apart.
    """
    lowered, reports = lower_leniently(spec)
    reports.raise_if_any()
    assert lowered is not None, "a spec that was not read whole has reports of the parser"
    return lowered


def lower_leniently(spec: Spec) -> tuple[Lowered | None, Reports]:
    """The network of a spec, or None, and the mistakes; the spec may miss lines."""
    reports = Reports()
    return _Lowering(spec, reports, ()).lower(), reports


def load_network(target: str) -> Lowered:
    """The network of ``D.vgg`` or ``table1.vgg:D``.

    Raises:
        VggspecError: it cannot be read or has mistakes.
    """
    return lower(load(target))


class _Lowering:
    """The work on one spec; ``chain`` holds the specs that are like this one."""

    def __init__(self, spec: Spec, reports: Reports, chain: tuple[tuple[str, str], ...]) -> None:
        self._spec = spec
        self._reports = reports
        self._name = net_name(spec)
        self._chain = (*chain, (os.path.realpath(spec.source.name), self._name))
        self._is_input_known = spec.is_complete
        self._is_start_known = spec.is_complete

    def lower(self) -> Lowered | None:
        """The network, or None where there are reports."""
        spec = self._spec
        written, image = self.layers()
        size = (image.height, image.width) if self._is_input_known else None
        experiment = read_experiment(spec, size, self._reports)
        if len(self._reports) or not spec.is_complete:
            return None
        if not written:
            self._report(names.NoLayers(net=self._name), spec.span)
            return None
        nodes, outputs = self._nodes(written, experiment.train.dropout)
        try:
            network = build(self._name, image, nodes, outputs)
        except VggspecError as error:
            self._reports.extend(error.reports)
            return None
        for claim in spec.claims:
            self._check(claim, network)
        return Lowered(network, experiment, spec)

    def layers(self) -> tuple[list[_Written], ImageInput]:
        """The layers as written, those of the net that this one is like first."""
        written: list[_Written] = []
        image = ImageInput(height=224, width=224)
        before = len(self._reports)
        if self._spec.like is not None:
            written, image = self._like()
            self._is_start_known = self._is_start_known and len(self._reports) == before
        if self._spec.input is not None:
            image = self._input(self._spec.input)
        self._is_input_known = self._is_input_known and len(self._reports) == before
        inherited = len(written)
        ops = self._read_layers(inherited)
        if ops is None:
            return [], image
        if self._is_start_known:
            self._check_order(ops, written)
        written.extend(self._named(ops, written))
        weights = [i for i, layer in enumerate(written) if layer.op.is_weight_layer]
        for i in weights:
            if i >= inherited:
                linear = cast("Conv | Linear", written[i].op).linear
                written[i] = replace(written[i], has_relu=not linear and i != weights[-1])
        return written, image

    def _like(self) -> tuple[list[_Written], ImageInput]:
        like = self._spec.like
        assert like is not None
        nothing: tuple[list[_Written], ImageInput] = [], ImageInput(height=224, width=224)
        path, net = split_target(like.path.text)
        folder = os.path.dirname(self._spec.source.name)
        full = os.path.join(folder, path)
        try:
            document, mistakes = _parsed(read(full))
            if mistakes:
                raise VggspecError(*mistakes)
            other = pick(document, net)
        except VggspecError as error:
            self._report(_not_like(error, path, folder, full), like.path.span)
            return nothing
        key = (os.path.realpath(full), net_name(other))
        if key in self._chain:
            start = self._chain.index(key)
            chain = tuple(name for _, name in (*self._chain[start:], key))
            self._report(names.LikeCycle(chain=chain), like.path.span)
            return nothing
        if len(self._chain) > MAX_LIKE:
            self._report(names.LikeTooDeep(limit=MAX_LIKE), like.path.span)
            return nothing
        reports = Reports()
        written, image = _Lowering(other, reports, self._chain).layers()
        if len(reports):
            # What is wrong with the chain as a whole is said where it begins, too.
            chained = (names.LikeCycle, names.LikeTooDeep)
            found = [one.what for one in reports.sorted() if isinstance(one.what, chained)]
            target = full if net is None else f"{full}:{net}"
            broken = names.LikeBroken(path=target, errors=len(reports))
            self._report(found[0] if found else broken, like.path.span)
            return nothing
        if like.up_to is None:
            return written, image
        wanted = like.up_to.text
        at = next((i for i, w in enumerate(written) if w.name.casefold() == wanted.casefold()), -1)
        if at < 0:
            known = tuple(w.name for w in written)
            missing = names.NoSuchLayer(
                name=wanted,
                net=net_name(other),
                path=full if net is None else f"{full}:{net}",
                suggestion=nearest(wanted, known),
            )
            self._report(missing, like.up_to.span)
            return nothing
        if at + 1 < len(written) and isinstance(written[at + 1].op, BatchNorm):
            at += 1  # it belongs to the layer before it
        return written[: at + 1], image

    def _input(self, item: InputItem) -> ImageInput:
        color: Color = "RGB"
        if item.color is not None:
            colors: dict[str, Color] = {"rgb": "RGB", "bgr": "BGR", "gray": "gray", "grey": "gray"}
            found = colors.get(item.color.text.casefold())
            if found is None:
                likely = nearest(item.color.text, tuple(colors))
                size = f"{item.height.text}x{item.width.text}"
                what_color = names.UnknownColour(
                    word=item.color.text,
                    suggestion=f"input {size} {colors[likely]}" if likely else None,
                )
                self._report(what_color, item.color.span)
            color = found or "RGB"
        image = ImageInput(
            height=self._side(item.height.text, item.height.span),
            width=self._side(item.width.text, item.width.span),
            color=color,
        )
        options: dict[str, Option] = {}
        for option in _split_options(item.options, ("mean", "std", "scale")):
            word = option.name.text.casefold()
            if word not in ("mean", "std", "scale"):
                known = ("mean", "std", "scale")
                what = names.UnknownOption(
                    owner="input",
                    word=option.name.text,
                    known=known,
                    suggestion=nearest(word, known),
                )
                self._report(what, option.name.span)
            elif word in options:
                self._report(names.OptionTwice(word=word), option.name.span)
            else:
                options[word] = option
        if "std" in options and "scale" in options:
            later = max(options["std"], options["scale"], key=lambda option: option.span)
            self._report(names.ScaleAndStd(), later.span)
        if "mean" in options:
            mean = self._channel_numbers(options["mean"], image.channels, -1e6, 1e6)
            image = replace(image, mean=mean)
        if "std" in options:
            std = self._channel_numbers(options["std"], image.channels, 1e-6, 1e6)
            image = replace(image, std=std)
        if "scale" in options:
            scale = self._channel_numbers(options["scale"], 1, 1e-9, 1e6)
            image = replace(image, scale=scale[0])
        return image

    def _side(self, text: str, span: Span) -> int:
        value = int(text) if len(text) <= 16 else 10**16
        if 1 <= value <= MAX_SIDE:
            return value
        shown = text if len(text) <= 16 else f"{text[:12]}…"
        what = names.OutOfRange(what="an input of", value=shown, low="1", high=str(MAX_SIDE))
        self._report(what, span)
        return min(max(value, 1), MAX_SIDE)

    def _channel_numbers(
        self, option: Option, channels: int, low: float, high: float
    ) -> tuple[float, ...]:
        word = option.name.text.casefold()
        numbers = []
        for value in option.values:
            number = read_number(value.text)
            if number is None:
                self._report(names.OptionValue(word=word, expected="a number"), value.span)
                return (1.0,) * channels
            if not low <= number <= high:
                what = names.OutOfRange(
                    what=f"`{word}`", value=value.text, low=f"{low:g}", high=f"{high:g}"
                )
                self._report(what, value.span)
                return (1.0,) * channels
            numbers.append(number)
        if len(numbers) == 1:
            return tuple(numbers * channels)
        if len(numbers) != channels:
            count = names.ChannelCount(word=word, found=len(numbers), channels=channels)
            self._report(count, option.span)
            return (1.0,) * channels
        return tuple(numbers)

    def _read_layers(self, inherited: int) -> list[tuple[Op, LayerItem]] | None:
        """Ops in order, repeats written out; None where there are too many."""
        ops: list[tuple[Op, LayerItem]] = []
        is_too_many = False
        for number, item in enumerate(self._joined(self._spec.layers)):
            if number > MAX_LAYERS:
                break  # nobody reads on in a net of so many
            op = self._read_layer(item)
            times = 1
            if item.repeat is not None:
                digits = re.sub(r"\D", "", item.repeat.text)
                times = int(digits) if len(digits) <= 16 else 10**16
                if times == 0:
                    what = names.OutOfRange(
                        what="a repeat of", value="0", low="1", high=str(MAX_LAYERS)
                    )
                    self._report(what, item.repeat.span)
            if is_too_many:
                continue
            if inherited + len(ops) + times > MAX_LAYERS or number == MAX_LAYERS:
                place = item.repeat or item.word
                self._report(names.TooManyLayers(limit=MAX_LAYERS), place.span)
                is_too_many = True
            elif op is not None:
                ops.extend([(op, item)] * times)
        return None if is_too_many else ops

    def _joined(self, items: Sequence[LayerItem]) -> Iterator[LayerItem]:
        """The items, those that were meant as one layer in several words as one."""
        i = 0
        while i < len(items):
            whole = None if is_layer(items[i].word.text, _SYNTAXES) else join(items[i : i + 3])
            if whole is not None and "\n" in self._spec.source.slice(whole.span):
                whole = None
            yield whole or items[i]
            i += 1 if whole is None else len(whole.word.text.split())

    def _read_layer(self, item: LayerItem) -> Op | None:
        if item.alias is not None:
            if item.repeat is not None:
                repeated = names.RepeatedName(word=item.word.text, name=item.alias.text)
                self._report(repeated, item.alias.span)
            self._check_alias(item.alias.text, item.alias.span)
        found = find(item, _SYNTAXES)
        if isinstance(found, Diagnostic):
            section = section_of(item.word.text)
            if section is not None and isinstance(found, names.UnknownLayer):
                found = syntax.UnindentedSetting(setting=item.word.text, section=section)
            layer = names.MalformedLayer | names.UnknownLayer
            is_whole = isinstance(found, layer) and found.word != item.word.text
            self._report(found, item.span if is_whole else item.word.span)
            return None
        name, match = found
        start = item.word.span.start
        places = {
            group: Span(start + match.start(group), start + match.end(group))
            for group, text in match.groupdict().items()
            if text is not None
        }
        args = Arguments(item.word, match.groupdict(), item.options, self._report, name, places)
        op = _OPS[name].read(args)
        args.finish()
        return op

    def _check_alias(self, name: str, span: Span) -> None:
        because = None
        if not _LAYER_NAME.fullmatch(name):
            because = "it must begin with a letter and hold letters, digits and `_` alone"
        elif name in RESERVED:
            because = "this name is reserved"
        elif len(name) > MAX_NAME:
            because = f"it has {len(name)} characters, more than {MAX_NAME}"
        if because is not None:
            usable = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[: MAX_NAME - 8]
            if not usable[:1].isalpha():
                usable = f"layer_{usable}"
            elif usable in RESERVED:
                usable = f"{usable}_layer"
            what = names.UnusableName(name=name, because=because, suggestion=usable)
            self._report(what, span)

    def _check_order(self, ops: Sequence[tuple[Op, LayerItem]], before: list[_Written]) -> None:
        previous = before[-1].op if before else None
        last: str | None = None
        inherited: list[tuple[Op, LayerItem | None]] = [(written.op, None) for written in before]
        for op, item in (*inherited, *ops):
            if item is not None:
                if last is not None:
                    self._report(names.AfterTheEnd(last=last), item.span)
                    return
                if isinstance(op, BatchNorm) and not isinstance(previous, Conv | Linear):
                    self._report(names.NormWithoutConv(), item.span)
            if isinstance(op, Softmax | Boxes):
                last = op.keyword
            previous = op

    def _named(
        self, ops: Sequence[tuple[Op, LayerItem]], before: Sequence[_Written]
    ) -> list[_Written]:
        """Names for the new layers: as written, or made from their places."""
        namer = _Namer()
        for written in before:
            namer.step(written.op, written.name)
        aliases = {item.alias.text: item.alias for _, item in ops if item.alias is not None}
        inherited = {written.name for written in before}
        namer.taken.update(inherited)
        named: list[_Written] = []
        used: dict[str, Span] = {}
        for op, item in ops:
            span = item.span
            if item.alias is not None:
                name = item.alias.text
                is_repeat = name in used and used[name] == item.alias.span  # reported already
                if (name in inherited or name in used) and not is_repeat:
                    others = [Label(used[name], "taken here")] if name in used else []
                    self._reports.add(
                        report(
                            names.NameTaken(name=name),
                            self._spec.source,
                            item.alias.span,
                            *others,
                        )
                    )
                namer.step(op, name)
                used[name] = item.alias.span
            else:
                name = namer.automatic(op)
                if name in aliases:
                    self._reports.add(
                        report(
                            names.NameTaken(name=name),
                            self._spec.source,
                            aliases[name].span,
                            Label(span, f"this layer is called {name} by its place"),
                        )
                    )
                namer.taken.add(name)
            named.append(_Written(op, name, Origin(self._spec.source, span)))
        return named

    def _nodes(self, written: Sequence[_Written], rate: float) -> tuple[list[Node], list[Output]]:
        """What is written and, between it, what is implied."""
        taken = {layer.name for layer in written}
        nodes: list[Node] = []
        current = IMAGE
        is_flat = False

        def add(name: str, op: Op, origin: Origin) -> None:
            nonlocal current
            nodes.append(Node(name=name, op=op, inputs=(current,), origin=origin))
            current = name

        def implied(prefix: str, of: str) -> str:
            name = prefix + re.sub(r"^(conv|fc)(?=\d)", "", of, flags=re.IGNORECASE)
            if not re.match(r"(conv|fc)\d", of, re.IGNORECASE):
                name = f"{prefix}_{of}"
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        fcs = [layer.name for layer in written if isinstance(layer.op, Linear)]
        for i, layer in enumerate(written):
            op, origin = layer.op, layer.origin
            if isinstance(op, Linear) and not is_flat:
                add(
                    implied("flatten_", layer.name) if "flatten" in taken else "flatten",
                    Flatten(),
                    origin,
                )
                taken.add("flatten")
                is_flat = True
            add(layer.name, op, origin)
            following = written[i + 1].op if i + 1 < len(written) else None
            if isinstance(following, BatchNorm) and op.is_weight_layer:
                continue
            weights = layer
            if isinstance(op, BatchNorm):
                weights = written[i - 1]
            if weights.has_relu and (op.is_weight_layer or isinstance(op, BatchNorm)):
                add(implied("relu", weights.name), Relu(), origin)
            is_hidden_fc = isinstance(weights.op, Linear) and weights.name != fcs[-1]
            if is_hidden_fc and rate > 0 and not _dropout_follows(written[i + 1 :]):
                add(implied("drop", weights.name), Dropout(rate=rate), origin)
        last = written[-1]
        kind = "scores"
        if isinstance(last.op, Softmax):
            kind = "posteriors"
        elif isinstance(last.op, Boxes):
            kind = "boxes"
        return nodes, [Output(kind, current)]

    def _check(self, claim: Claim, network: Network) -> None:
        text = claim.number.text
        if claim.kind == "weight layers":
            convs = sum(isinstance(layer.op, Conv) for layer in network.layers)
            fcs = sum(isinstance(layer.op, Linear) for layer in network.layers)
            if not re.fullmatch(r"\d{1,9}", text):
                what: Diagnostic = names.OptionValue(word=text[:40], expected="a whole number")
                self._report(what, claim.number.span)
            elif int(text) != convs + fcs:
                what = names.FalseWeightLayers(
                    net=self._name,
                    claimed=int(text),
                    actual=convs + fcs,
                    breakdown=f"{convs} conv and {fcs} FC",
                )
                self._report(what, claim.span)
            return
        match = re.fullmatch(r"(\d{1,15})(?:\.(\d{1,6}))?([KMGB]?)", text, re.IGNORECASE)
        if match is None:
            expected = "a number such as `138M` or `138357544`"
            self._report(names.OptionValue(word=text[:40], expected=expected), claim.number.span)
            return
        letter, decimals = match[3], len(match[2] or "")
        claimed = int(match[1] + (match[2] or ""))
        rounded = _rounded(network.parameters, letter, decimals)
        if rounded == claimed:
            return
        if rounded == 0:  # `138M` for a net of thousands: the digits that there are
            letter, decimals = ("K" if network.parameters >= 1000 else ""), 0
            rounded = _rounded(network.parameters, letter, decimals)
        digits = str(rounded).rjust(decimals + 1, "0")
        shown = digits if not decimals else f"{digits[:-decimals]}.{digits[-decimals:]}"
        false = names.FalseParameters(
            net=self._name, claimed=text, actual=network.parameters, rounded=f"{shown}{letter}"
        )
        self._report(false, claim.span)

    def _report(self, what: Diagnostic, span: Span) -> None:
        self._reports.add(report(what, self._spec.source, span))


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9}


def _rounded(number: int, letter: str, decimals: int) -> int:
    """``number`` in units of the last digit written, rounded half up."""
    unit = _UNITS[letter.upper()]
    return (2 * number * int(10**decimals) + unit) // (2 * unit)


class _Namer:
    """Names from places: block by block, FC layers counting on after the last block."""

    def __init__(self) -> None:
        self.block = 1
        self.place = 0
        self.fc: int | None = None
        self.suffix = ""
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}

    def step(self, op: Op, name: str) -> None:
        """Count a layer that has its name."""
        self._place(op)
        if op.is_weight_layer:
            self.suffix = re.sub(r"^(conv|fc)(?=\d)", "", name, flags=re.IGNORECASE)
            if self.suffix == name:
                self.suffix = f"_{name}"

    def automatic(self, op: Op) -> str:
        """Count a layer and name it; of several with one place the later ones get a number."""
        name = self._place(op)
        if op.is_weight_layer:
            self.suffix = name.removeprefix("conv").removeprefix("fc")
        unique = name
        while unique in self.taken:
            number = self.numbers.get(name, 1) + 1
            self.numbers[name] = number
            unique = f"{name}_{number}"
        return unique

    def _place(self, op: Op) -> str:
        match op:
            case Conv():
                self.place += 1
                return f"conv{self.block}_{self.place}"
            case MaxPool():
                name = f"pool{self.block}"
                self.block += 1
                self.place = 0
                return name
            case Linear():
                if self.fc is None:
                    self.fc = self.block if self.place else self.block - 1
                self.fc += 1
                return f"fc{self.fc}"
            case BatchNorm():
                return f"bn{self.suffix}"
            case Lrn():
                return f"norm{self.suffix}"
            case Dropout():
                return f"drop{self.suffix}"
            case Softmax():
                return "prob"
            case _:
                return op.keyword


@lru_cache(maxsize=32)
def _parsed(source: Source) -> tuple[Document, tuple[Report, ...]]:
    """What another spec says, and its mistakes; nets of one file are often like the same net."""
    document, reports = parse_leniently(source)
    return document, reports.sorted()


def _not_like(error: VggspecError, path: str, folder: str, full: str) -> Diagnostic:
    """Why a net cannot be like the one in another file, at the place where it says so."""
    if error.reports[0].source is not None:
        return names.LikeBroken(path=full, errors=len(error.reports))
    what = error.reports[0].what
    advice = what.help()
    if isinstance(what, files.MissingSpec) and what.suggestion is not None:
        # Seen from the spec, as `like` sees it.
        advice = f'write `like "{os.path.relpath(what.suggestion, folder or ".")}"`'
    elif isinstance(what, files.MissingSpec):
        advice = "write its path as seen from the folder of this spec"
    elif isinstance(what, names.WhichNet):
        advice = f'name one, as in `like "{path}:{what.nets[0]}"`'
    return names.LikeUnreadable(path=path, reason=what.title(), advice=advice)


def _dropout_follows(written: Sequence[_Written]) -> bool:
    """Whether a written dropout comes before the next weight layer."""
    for layer in written:
        if isinstance(layer.op, Dropout):
            return True
        if layer.op.is_weight_layer:
            return False
    return False


def _split_options(options: Sequence[Option], known: tuple[str, ...]) -> list[Option]:
    """Options whose comma was left out, as in ``mean 1 2 3 std 4 5 6``, as two."""
    split: list[Option] = []
    for option in options:
        start = 0
        for i, word in enumerate(option.words):
            if i > start and word.text.casefold() in known:
                split.append(_part(option, start, i))
                start = i
        split.append(_part(option, start, len(option.words)))
    return split


def _part(option: Option, start: int, end: int) -> Option:
    words = option.words[start:end]
    return Option(words, words[0].span.to(words[-1].span))


def base_folder(spec: Spec) -> Path:
    """The folder from which the paths in a spec are taken."""
    return Path(os.path.dirname(spec.source.name) or ".")
