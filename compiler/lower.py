"""Syntax tree to network: words become ops, what the paper leaves out is filled in.

ReLU after every conv and FC but the last weight layer (section 2.1), dropout on every FC but the
last (section 3.1), names as in the authors' released models: conv1_1 … conv5_3, pool1 …, fc6 ….
Every bad layer is reported; a shape that does not fit ends the work, since the rest would be
echoes of it. Claims are checked last.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar, cast

from vggspec.base.catalogue import files, names
from vggspec.base.diagnostic import Diagnostic, Label, Report, VggspecError, report
from vggspec.base.recipe import Experiment
from vggspec.base.reports import Reports
from vggspec.base.source import Span
from vggspec.base.wording import nearest
from vggspec.compiler.claims import falsehood
from vggspec.compiler.image_input import Report as Reporter
from vggspec.compiler.image_input import read_input
from vggspec.compiler.ir import (
    IMAGE,
    ImageInput,
    Network,
    Node,
    Origin,
    Output,
    build,
)
from vggspec.compiler.naming import Namer, implied_name, unusable
from vggspec.compiler.ops import OPS
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.syntax import Arguments, find, is_layer, join
from vggspec.lang.ast import Document, InputItem, LayerItem, Spec
from vggspec.lang.formatter import one_net, with_option
from vggspec.lang.loading import MAX_BYTES, find_spec, load, net_name, pick, read, split_target
from vggspec.lang.packaged import packaged
from vggspec.lang.parser import MAX_WORDS, count_words, parse_leniently
from vggspec.lang.sections import read_experiment, unindented

MAX_LAYERS = 4096
MAX_LAYERS_TOGETHER = 4 * MAX_LAYERS  # of all nets that are lowered in one run
MAX_LIKE = 16

#: Mistakes of a chain of nets as a whole, which are reported at its beginning too.
_CHAINED = (names.LikeCycle, names.LikeTooDeep, names.TooManyLayersTogether)

T = TypeVar("T")

_SYNTAXES = {op.keyword: op.syntax for op in OPS if op.syntax is not None}
_OPS = {op.keyword: op for op in OPS}


@dataclass(frozen=True, slots=True)
class Lowered:
    """A net ready to compile, and its recipes of training and testing."""

    network: Network
    experiment: Experiment
    spec: Spec
    text: str
    """The spec as in its file; ``like`` is replaced by the layers of the other net, so that the
    text is self-contained.
    """


@dataclass(frozen=True, slots=True)
class _Written:
    """A layer as written, its op read and its name decided."""

    op: Op
    name: str
    origin: Origin
    item: LayerItem
    has_relu: bool = False


@dataclass(frozen=True, slots=True)
class _Base:
    """A net's layers, for nets that are ``like`` it, and the mistakes in them."""

    spec: Spec
    layers: tuple[_Written, ...]
    image: ImageInput
    input: InputItem | None
    is_input_known: bool
    mistakes: tuple[Report, ...]


@dataclass(slots=True)
class Shared:
    """Shared results of the nets that are lowered in one run, each computed once. It also counts
    the work, so that a file cannot cause more than a second or two of it.
    """

    layers: int = 0
    """Of all nets so far, including layers taken over by ``like``."""

    _documents: dict[str, Document | VggspecError] = field(default_factory=dict)
    _bases: dict[tuple[str, str], _Base] = field(default_factory=dict)
    _pieces: dict[int, tuple[object, object]] = field(default_factory=dict)
    _bytes: int = 0
    _words: int = 0

    def document(self, path: str) -> Document:
        """Read another spec file.

        Raises:
            VggspecError: it cannot be read, has mistakes, or is one file too many.
        """
        real = os.path.realpath(path)
        if real not in self._documents:
            try:
                self._documents[real] = self._read(path)
            except VggspecError as error:
                self._documents[real] = error
        found = self._documents[real]
        if isinstance(found, VggspecError):
            raise found
        return found

    def _read(self, path: str) -> Document:
        source = read(path)
        self._bytes += len(source.text.encode())
        self._words += count_words(source)
        for found, limit, unit in (
            (self._bytes, MAX_BYTES, "bytes"),
            (self._words, MAX_WORDS, "words and marks"),
        ):
            if found > limit:
                what = names.LikeTooMuch(path=path, found=found, limit=limit, unit=unit)
                raise VggspecError(report(what, path=path))
        document, mistakes = parse_leniently(source)
        mistakes.raise_if_any()
        return document

    def base(self, spec: Spec, key: tuple[str, str]) -> _Base | None:
        """The layers of a net, where they are known."""
        found = self._bases.get(key)
        return found if found is not None and found.spec is spec else None

    def keep(self, key: tuple[str, str], base: _Base) -> None:
        """Cache the layers of a net, unless its mistakes depend on the net that refers to it."""
        if not any(isinstance(one.what, _CHAINED) for one in base.mistakes):
            self._bases[key] = base

    def once(self, owner: object, read: Callable[[], T]) -> T:
        """The cached result of ``read`` for a part of the text: a row of a table belongs to many
        nets.
        """
        if id(owner) not in self._pieces:
            self._pieces[id(owner)] = owner, read()
        return cast("T", self._pieces[id(owner)][1])


def lower(spec: Spec) -> Lowered:
    """The network of a spec.

    Raises:
        VggspecError: with every independent mistake.
    """
    lowered, reports = lower_leniently(spec)
    reports.raise_if_any()
    assert lowered is not None, "a spec that was not read whole has reports of the parser"
    return lowered


def lower_leniently(spec: Spec, shared: Shared | None = None) -> tuple[Lowered | None, Reports]:
    """The network of a spec, or None, and the mistakes; the spec may miss lines.

    ``shared`` is for several nets of one file.
    """
    lowering = _Lowering(spec, shared or Shared(), ())
    return lowering.lower(), lowering.reports


def mistakes(specs: Iterable[Spec], reports: Reports) -> None:
    """Add the mistakes in the nets of a file to ``reports``."""
    shared = Shared()
    for spec in specs:
        if reports.is_full or shared.layers > MAX_LAYERS_TOGETHER:
            return
        reports.extend(lower_leniently(spec, shared)[1].sorted())


def load_network(target: str | os.PathLike[str]) -> Lowered:
    """Read a spec and lower it: ``D.vgg``, ``table1.vgg:D``, or the name of a packaged spec.

    Raises:
        VggspecError: it cannot be read or has mistakes.
    """
    return lower(load(os.fspath(target)))


def network(spec: str | os.PathLike[str]) -> Network:
    """The network of a spec: an immutable graph of layers with their shapes and parameters.

    ``spec`` is ``D.vgg``, ``table1.vgg:D``, or the name of a spec that comes with vggspec.

    Raises:
        VggspecError: the spec cannot be read or has mistakes.
    """
    return load_network(spec).network


class _Lowering:
    """The work on one spec; ``chain`` holds the specs that are like this one."""

    def __init__(self, spec: Spec, shared: Shared, chain: tuple[tuple[str, str], ...]) -> None:
        self.reports = Reports()
        self._spec = spec
        self._shared = shared
        self._name = net_name(spec)
        self._chain = (*chain, (os.path.realpath(spec.source.name), self._name))
        self._is_start_known = spec.is_complete

    def lower(self) -> Lowered | None:
        """The network, or None where there are reports."""
        spec = self._spec
        base = self.base()
        self.reports.extend(base.mistakes)
        written, image = base.layers, base.image
        size = (image.height, image.width) if base.is_input_known else None
        experiment = read_experiment(spec, size, self.reports)
        if len(self.reports) or not spec.is_complete:
            return None
        if not written:
            self._report(names.NoLayers(net=self._name), spec.span)
            return None
        nodes, outputs = self._nodes(written, experiment.train.dropout)
        try:
            network = build(self._name, image, nodes, outputs)
        except VggspecError as error:
            self.reports.extend(error.reports)
            return None
        for claim in spec.claims:
            false = falsehood(claim, network)
            if false is not None:
                self._report(*false)
        return Lowered(network, experiment, spec, self._text(base))

    def base(self) -> _Base:
        """The layers as written, those of the net that this one is like first."""
        key = self._chain[-1]
        found = self._shared.base(self._spec, key)
        if found is None:
            found = self._base()
            self._shared.keep(key, found)
        return found

    def _base(self) -> _Base:
        spec = self._spec
        inherited: tuple[_Written, ...] = ()
        image, item = ImageInput(height=224, width=224), spec.input
        other = self._like() if spec.like is not None else None
        if other is not None:
            inherited, image = other.layers, other.image
            item = item or other.input
        self._is_start_known = self._is_start_known and not len(self.reports)
        if spec.input is not None:
            image = self._once(spec.input, partial(read_input, spec.input))
        is_input_known = spec.is_complete and not len(self.reports)
        ops = self._read_layers(len(inherited))
        written: list[_Written] = []
        if ops is not None:
            if self._is_start_known:
                self._check_order(ops, inherited)
            written = [*inherited, *self._named(ops, inherited)]
        return _Base(spec, tuple(written), image, item, is_input_known, self.reports.sorted())

    def _once(self, owner: object, read: Callable[[Reporter], T]) -> T:
        """The result of ``read`` for a part of the text, and the mistakes in it."""

        def read_whole() -> tuple[T, tuple[Report, ...]]:
            wrong = Reports()
            value = read(lambda what, span: wrong.add(report(what, self._spec.source, span)))
            return value, wrong.sorted()

        value, wrong = self._shared.once(owner, read_whole)
        self.reports.extend(wrong)
        return value

    def _text(self, base: _Base) -> str:
        """The spec with all its layers; see ``Lowered``."""
        spec = self._spec
        if spec.like is None:
            return spec.source.text
        last = max((i for i, one in enumerate(base.layers) if one.op.is_weight_layer), default=0)
        items = []
        for i, layer in enumerate(base.layers):
            item = replace(layer.item, repeat=None)
            if layer.op.is_weight_layer and i != last and not layer.has_relu:
                item = with_option(item, "linear")  # the other net's last layer, which has no ReLU
            items.append(item)
        return one_net(spec, self._name, base.input, items)

    def _like(self) -> _Base | None:
        """The layers that the net takes over from another one, or None and a report."""
        like = self._spec.like
        assert like is not None
        folder = os.path.dirname(self._spec.source.name)
        path, net = split_target(like.path.text, folder)
        full = os.path.join(folder, path)
        try:
            full = find_spec(path, folder)
            other = pick(self._shared.document(full), net)
        except VggspecError as error:
            self._report(_not_like(error, path, self._spec.source.name, full), like.path.span)
            return None
        key = (os.path.realpath(full), net_name(other))
        if key in self._chain:
            start = self._chain.index(key)
            chain = tuple(name for _, name in (*self._chain[start:], key))
            self._report(names.LikeCycle(chain=chain), like.path.span)
            return None
        if len(self._chain) > MAX_LIKE:
            self._report(names.LikeTooDeep(limit=MAX_LIKE), like.path.span)
            return None
        base = _Lowering(other, self._shared, self._chain).base()
        if base.mistakes:
            found = [one.what for one in base.mistakes if isinstance(one.what, _CHAINED)]
            target = full if net is None else f"{full}:{net}"
            broken = names.LikeBroken(path=target, errors=len(base.mistakes))
            self._report(found[0] if found else broken, like.path.span)
            return None
        if like.up_to is None:
            return base
        written, wanted = base.layers, like.up_to.text
        at = next((i for i, w in enumerate(written) if w.name.casefold() == wanted.casefold()), -1)
        if at < 0:
            known = tuple(w.name for w in written)
            missing = names.UnknownLikeLayer(
                name=wanted,
                net=net_name(other),
                path=full if net is None else f"{full}:{net}",
                suggestion=nearest(wanted, known),
            )
            self._report(missing, like.up_to.span)
            return None
        if at + 1 < len(written) and isinstance(written[at + 1].op, BatchNorm):
            at += 1  # it belongs to the layer before it
        return replace(base, layers=written[: at + 1])

    def _read_layers(self, inherited: int) -> list[tuple[Op, LayerItem]] | None:
        """Ops in order, repeats written out; None where there are too many."""
        for item in self._spec.layers:
            if not isinstance(item, LayerItem):
                self._report(names.UnknownLayer(word="["), item.span)
                return None
        total = inherited + sum(map(_times, self._spec.layers))
        self._shared.layers += min(total, MAX_LAYERS)
        if self._shared.layers > MAX_LAYERS_TOGETHER:
            what = names.TooManyLayersTogether(found=self._shared.layers, limit=MAX_LAYERS_TOGETHER)
            self._report(what, self._spec.span)
            return None
        ops: list[tuple[Op, LayerItem]] = []
        is_too_many = False
        for number, item in enumerate(self._joined(self._spec.layers)):
            if number > MAX_LAYERS or self.reports.is_full:
                break  # later reports of so large a net are useless
            op = self._once(item, partial(self._read_layer, item))
            times = _times(item)
            if is_too_many:
                continue
            if inherited + len(ops) + times > MAX_LAYERS or number == MAX_LAYERS:
                place = item.repeat or item.word
                self._report(names.TooManyLayers(found=total, limit=MAX_LAYERS), place.span)
                is_too_many = True
            elif op is not None:
                ops.extend([(op, item)] * times)
        return None if is_too_many else ops

    def _joined(self, items: Sequence[LayerItem]) -> Iterator[LayerItem]:
        """The items, with a layer that was written in several words merged into one."""
        i = 0
        while i < len(items):
            following = items[i : i + 3]
            whole = self._shared.once(items[i].word, partial(self._join, following))
            yield whole or items[i]
            i += 1 if whole is None else len(whole.word.text.split())

    def _join(self, items: Sequence[LayerItem]) -> LayerItem | None:
        whole = None if is_layer(items[0].word.text, _SYNTAXES) else join(items)
        if whole is not None and "\n" in self._spec.source.slice(whole.span):
            return None
        return whole

    def _read_layer(self, item: LayerItem, report: Reporter) -> Op | None:
        if item.repeat is not None and _times(item) == 0:
            what = names.OutOfRange(what="a repeat of", value="0", low="1", high=str(MAX_LAYERS))
            report(what, item.repeat.span)
        if item.alias is not None:
            if item.repeat is not None:
                repeated = names.RepeatedName(word=item.word.text, name=item.alias.text)
                report(repeated, item.alias.span)
            bad = unusable(item.alias.text)
            if bad is not None:
                report(bad, item.alias.span)
        found = find(item, _SYNTAXES)
        if isinstance(found, Diagnostic):
            setting = unindented(item.word.text, self._spec.source, item.word.span.start)
            # `Dense(10)` is no setting.
            if setting is not None and isinstance(found, names.UnknownLayer) and not item.options:
                found = setting
            layer = names.MalformedLayer | names.UnknownLayer
            is_whole = isinstance(found, layer) and found.word != item.word.text
            report(found, item.span if is_whole else item.word.span)
            return None
        name, match = found
        start = item.word.span.start
        places = {
            group: Span(start + match.start(group), start + match.end(group))
            for group, text in match.groupdict().items()
            if text is not None
        }
        args = Arguments(item.word, match.groupdict(), item.options, report, name, places)
        op = _OPS[name].read(args)
        args.finish()
        return op

    def _check_order(self, ops: Sequence[tuple[Op, LayerItem]], before: Sequence[_Written]) -> None:
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
        namer = Namer()
        for written in before:
            namer.step(written.op, written.name)
        aliases = {item.alias.text: item.alias for _, item in ops if item.alias is not None}
        inherited = {written.name for written in before}
        namer.taken.update(inherited)
        named: list[_Written] = []
        used: dict[str, Span] = {}
        weights = [i for i, (op, _) in enumerate(ops) if op.is_weight_layer]
        last = weights[-1] if weights else None
        for i, (op, item) in enumerate(ops):
            span = item.span
            if item.alias is not None:
                name = item.alias.text
                is_repeat = name in used and used[name] == item.alias.span  # reported already
                if (name in inherited or name in used) and not is_repeat:
                    others = [Label(used[name], "taken here")] if name in used else []
                    self.reports.add(
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
                    self.reports.add(
                        report(
                            names.NameTaken(name=name),
                            self._spec.source,
                            aliases[name].span,
                            Label(span, f"this layer is called {name} by its place"),
                        )
                    )
                namer.taken.add(name)
            has_relu = i != last and isinstance(op, Conv | Linear) and not op.linear
            named.append(_Written(op, name, Origin(self._spec.source, span), item, has_relu))
        return named

    def _nodes(self, written: Sequence[_Written], rate: float) -> tuple[list[Node], list[Output]]:
        """The written layers with the implied ones between them."""
        taken = {layer.name for layer in written}
        nodes: list[Node] = []
        current = IMAGE
        is_flat = False

        def add(name: str, op: Op, origin: Origin) -> None:
            nonlocal current
            nodes.append(Node(name=name, op=op, inputs=(current,), origin=origin))
            current = name

        fcs = [layer.name for layer in written if isinstance(layer.op, Linear)]
        for i, layer in enumerate(written):
            op, origin = layer.op, layer.origin
            if isinstance(op, Linear) and not is_flat:
                name = "flatten"
                if name in taken:
                    name = implied_name("flatten_", layer.name, taken)
                taken.add(name)
                add(name, Flatten(), origin)
                is_flat = True
            add(layer.name, op, origin)
            following = written[i + 1].op if i + 1 < len(written) else None
            if isinstance(following, BatchNorm) and op.is_weight_layer:
                continue
            weights = layer
            if isinstance(op, BatchNorm):
                weights = written[i - 1]
            if weights.has_relu and (op.is_weight_layer or isinstance(op, BatchNorm)):
                add(implied_name("relu", weights.name, taken), Relu(), origin)
            is_hidden_fc = isinstance(weights.op, Linear) and weights.name != fcs[-1]
            if is_hidden_fc and rate > 0 and not _dropout_follows(written, i + 1):
                add(implied_name("drop", weights.name, taken), Dropout(rate=rate), origin)
        last = written[-1]
        kind = "scores"
        if isinstance(last.op, Softmax):
            kind = "posteriors"
        elif isinstance(last.op, Boxes):
            kind = "boxes"
        return nodes, [Output(kind, current)]

    def _report(self, what: Diagnostic, span: Span) -> None:
        self.reports.add(report(what, self._spec.source, span))


def _times(item: LayerItem) -> int:
    """How many layers an item is."""
    if item.repeat is None:
        return 1
    digits = re.sub(r"\D", "", item.repeat.text)
    return int(digits) if len(digits) <= 16 else 10**16


def _not_like(error: VggspecError, path: str, own: str, full: str) -> Diagnostic:
    """Why a net cannot be like the one in another file, at the place where it says so."""
    if isinstance(error.reports[0].what, names.LikeTooMuch):
        return error.reports[0].what
    if error.reports[0].source is not None:
        return names.LikeBroken(path=full, errors=len(error.reports))
    what = error.reports[0].what
    if isinstance(what, files.MissingSpec):
        what = files.missing_spec(full, tuple(packaged()), other_than=own)
    advice = what.help()
    if isinstance(what, files.MissingSpec) and what.is_packaged:
        advice = f'write `like "{what.suggestion}"`, which comes with vggspec'
    elif isinstance(what, files.MissingSpec) and what.suggestion is not None:
        # Seen from the spec, as `like` sees it.
        advice = f'write `like "{os.path.relpath(what.suggestion, os.path.dirname(own) or ".")}"`'
    elif isinstance(what, files.MissingSpec):
        advice = "write its path as seen from the folder of this spec"
        if what.beside:
            advice += f", such as `{what.beside[0]}`"
    elif isinstance(what, files.NotRegularFile):
        advice = "name a .vgg file"
    elif isinstance(what, names.WhichNet):
        advice = f'name one, as in `like "{path}:{what.nets[0]}"`'
    return names.LikeUnreadable(path=path, reason=what.title(), advice=advice)


def _dropout_follows(written: Sequence[_Written], start: int) -> bool:
    """Whether a written dropout comes before the next weight layer, from ``start`` on."""
    for layer in islice(written, start, None):
        if isinstance(layer.op, Dropout):
            return True
        if layer.op.is_weight_layer:
            return False
    return False


def base_folder(spec: Spec) -> Path:
    """The folder from which the paths in a spec are taken: its own, or the working folder
    for a spec that comes with vggspec.
    """
    name = spec.source.name
    return Path("." if name in packaged().values() else os.path.dirname(name) or ".")
