"""Syntax tree to network: words become ops, what the paper leaves out is filled in.

``expand`` writes repeats and blocks out and names the layers, ``wire`` adds the implied layers and
the edges; this module puts them together: nets that are like others, outputs, claims. Every bad
layer is reported; a shape that does not fit ends the work, since the rest would be echoes of it.
Claims are checked last.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TypeVar, cast

from vggspec.base.catalogue import files, graphs, layers
from vggspec.base.catalogue.label_maps import CropsOfLabelMap
from vggspec.base.diagnostic import Diagnostic, Label, Report, VggspecError, report
from vggspec.base.recipe import Experiment
from vggspec.base.reports import Reports
from vggspec.base.source import Span
from vggspec.base.wording import nearest
from vggspec.compiler.claims import falsehood
from vggspec.compiler.expand import MAX_LAYERS, Expansion
from vggspec.compiler.image_input import Report as Reporter
from vggspec.compiler.image_input import read_input
from vggspec.compiler.ir import IMAGE, POSTERIOR_MAP, ImageInput, Layer, Network, Output
from vggspec.compiler.naming import as_written
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.trained_layers import with_layers
from vggspec.compiler.wire import Wired, paths, wire
from vggspec.compiler.written import (
    Meaning,
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenStep,
    layers_in,
)
from vggspec.lang.ast import (
    Block,
    Branch,
    Document,
    From,
    Group,
    InputItem,
    LayerItem,
    Means,
    Spec,
    Step,
    Word,
    with_option,
)
from vggspec.lang.loading import MAX_BYTES, find_spec, load, net_name, pick, read, split_target
from vggspec.lang.packaged import packaged
from vggspec.lang.parser import MAX_WORDS, count_words, parse_leniently
from vggspec.lang.sections import read_experiment

MAX_LAYERS_TOGETHER = 4 * MAX_LAYERS  # of all nets that are lowered in one run
MAX_LIKE = 16

#: Mistakes of a chain of nets as a whole, which are reported at its beginning too.
_CHAINED = (layers.LikeCycle, layers.LikeTooDeep, layers.TooManyLayersTogether)

T = TypeVar("T")


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

    steps: tuple[WrittenStep, ...]
    """What the network was made of: its layers and brackets as written."""


@dataclass(frozen=True, slots=True)
class _Base:
    """A net's layers, for nets that are ``like`` it, and the mistakes in them."""

    spec: Spec
    steps: tuple[WrittenStep, ...]
    last: frozenset[str]
    """The weight layers without activation, because no other follows in their net."""

    meaning: Meaning | None
    means: Means | None
    blocks: tuple[Block, ...]
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
                what = layers.LikeTooMuch(path=path, found=found, limit=limit, unit=unit)
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

    def _check_test(self, network: Network, experiment: Experiment) -> None:
        """A net that labels positions is not tested by crops."""
        last = network[network.outputs[0].layer]
        has_crops = experiment.test.crops is not None
        if has_crops and _labels_positions(last) and last.origin is not None:
            self.reports.add(report(CropsOfLabelMap(), last.origin.source, last.origin.span))

    def lower(self) -> Lowered | None:
        """The network, or None where there are reports."""
        spec = self._spec
        base = self.base()
        self.reports.extend(base.mistakes)
        image = base.image
        size = (image.height, image.width) if base.is_input_known else None
        labels_pixels = bool(base.steps) and _labels_positions(base.steps[-1])
        experiment = read_experiment(spec, size, self.reports, labels_pixels=labels_pixels)
        if len(self.reports) or not spec.is_complete:
            return None
        if not base.steps:
            self._report(layers.NoLayers(net=self._name), spec.span)
            return None
        try:
            wired = wire(
                self._name,
                image,
                base.steps,
                last=base.last,
                dropout=experiment.train.dropout,
                report=self._report,
            )
        except VggspecError as error:
            self.reports.extend(error.reports)
            return None
        outputs = None if wired is None else self._outputs(wired)
        if wired is None or outputs is None:
            return None
        network = wired.builder.finish(outputs)
        for claim in spec.claims:
            false = falsehood(claim, network)
            if false is not None:
                self._report(*false)
        recipe = with_layers(experiment.train, spec, network, wired.results, self.reports)
        experiment = replace(experiment, train=recipe)
        self._check_test(network, experiment)
        text = self._text(base)
        return None if text is None else Lowered(network, experiment, spec, text, base.steps)

    def _outputs(self, wired: Wired) -> list[Output] | None:
        """The results of the net, as it says or as its only end gives them; None and a report."""
        spec = self._spec
        if spec.outputs is None:
            if len(wired.ends) == 1:
                (end,) = wired.ends.values()
                return [Output(_kind(wired.builder[end].op), end)]
            if not wired.ends:
                self._report(graphs.ImageAsOutput(named=None), spec.span)
                return None
            self._report(graphs.SeveralEnds(names=tuple(wired.ends)), spec.span)
            return None
        outputs: list[Output] = []
        for word in spec.outputs.names:
            folded = word.text.casefold()
            name = as_written(word.text, wired.results)
            if folded == IMAGE or wired.results.get(name or "") == IMAGE:
                self._report(graphs.ImageAsOutput(named=name or IMAGE), word.span)
            elif name is None:
                like = nearest(word.text, tuple(wired.results))
                what = graphs.UnknownOutput(
                    fact=f"the net has no layer `{word.text}`", suggestion=like
                )
                self._report(what, word.span)
            elif any(output.name == name for output in outputs):
                twice = graphs.UnknownOutput(fact=f"`{name}` is named twice", advice="name it once")
                self._report(twice, word.span)
            else:
                outputs.append(Output(name, wired.results[name]))
        given = {output.layer for output in outputs}
        for name, tensor in wired.ends.items():
            if tensor not in given and not len(self.reports):
                self._report(graphs.UnreadEnd(name=name), spec.outputs.span)
        return None if len(self.reports) else outputs

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
        image, item = ImageInput(height=224, width=224), spec.input
        other = self._like() if spec.like is not None else None
        if other is not None:
            image = other.image
            item = item or other.input
        self._is_start_known = self._is_start_known and not len(self.reports)
        if spec.input is not None:
            image = self._once(spec.input, partial(read_input, spec.input))
        is_input_known = spec.is_complete and not len(self.reports)
        expansion = Expansion(
            spec.source, self._blocks(other), self._report, self._once, self._is_start_known
        )
        inherited = () if other is None else other.steps
        expansion.inherit(inherited, image.channels)
        means, meaning = self._meaning(expansion, other)
        total = expansion.count(spec.layers)
        self._shared.layers += min(total, MAX_LAYERS)
        new: tuple[WrittenStep, ...] = ()
        if self._shared.layers > MAX_LAYERS_TOGETHER:
            what = layers.TooManyLayersTogether(
                found=self._shared.layers, limit=MAX_LAYERS_TOGETHER
            )
            self._report(what, spec.span)
        else:
            new = expansion.steps(spec.layers, meaning)
            expansion.read_unused(spec.blocks)
            if spec.is_complete:
                self._check_paths()
        steps = (*inherited, *new)
        last = frozenset() if other is None else other.last
        if not len(self.reports):
            own = {layer.name for layer in layers_in(new)}
            last |= paths(steps).without_following() & own
        return _Base(
            spec,
            steps,
            last,
            meaning,
            means,
            self._blocks(other),
            image,
            item,
            is_input_known,
            self.reports.sorted(),
        )

    def _check_paths(self) -> None:
        """Report each ``from`` that no layer follows."""
        steps = self._spec.layers
        for step, following in zip_longest(steps, steps[1:]):
            if isinstance(step, From) and not isinstance(following, LayerItem | Group):
                self._report(graphs.EmptyPath(name=step.name.text), step.span)

    def _blocks(self, other: _Base | None) -> tuple[Block, ...]:
        """The blocks of this file, and of the other one that its layers come from."""
        own = self._spec.blocks
        for block in own:
            for parameter in block.parameters if block.is_complete else ():
                word = parameter.name
                if word.text.casefold() not in block.read:
                    unread = graphs.UnreadParameter(block=block.name.text, name=word.text)
                    self._report(unread, word.span)
        if other is None:
            return own
        names_ = {block.name.text.casefold(): block for block in own}
        more = []
        for block in other.blocks:
            mine = names_.get(block.name.text.casefold())
            if mine is None:
                more.append(block)
            elif mine != block:
                net = net_name(other.spec)
                self._report(graphs.OtherBlock(net=net, block=block.name.text), mine.name.span)
        return (*more, *own)

    def _meaning(
        self, expansion: Expansion, other: _Base | None
    ) -> tuple[Means | None, Meaning | None]:
        """What a conv stands for: by this net's line, or by that of the net that it is like."""
        means = self._spec.means
        if other is None or other.means is None:
            return means, expansion.read_meaning(means)
        if means is not None:
            self._report(graphs.OtherMeaning(net=net_name(other.spec)), means.span)
        return other.means, other.meaning

    def _once(self, owner: object, read: Callable[[Reporter], T]) -> T:
        """The result of ``read`` for a part of the text, and the mistakes in it; read once for all
        nets that have the part, unless it is None.
        """

        def read_whole() -> tuple[T, tuple[Report, ...]]:
            wrong = Reports()
            value = read(lambda what, span: wrong.add(report(what, self._spec.source, span)))
            return value, wrong.sorted()

        value, wrong = read_whole() if owner is None else self._shared.once(owner, read_whole)
        self.reports.extend(wrong)
        return value

    def _text(self, base: _Base) -> str | None:
        """The spec with all its layers, see ``Lowered``; None, and a report, where that cannot be
        written.
        """
        spec = self._spec
        if spec.like is None:
            return spec.source.text
        natural = paths(base.steps).without_following()
        items: list[Step] = []
        edits: dict[int, str] = {}
        groups = groupby(base.steps, key=lambda step: id(getattr(step, "item", step)))
        for _, run in groups:
            alike = list(run)
            # What was last in the other net has no activation; what is last only here has one.
            words = {
                id(layer.item): word
                for layer in layers_in(tuple(alike))
                if (word := _said(layer, base.last, natural)) is not None
            }
            match alike[0]:
                case WrittenLayer():
                    for layer in alike:
                        assert isinstance(layer, WrittenLayer)
                        own = replace(layer.item, repeat=None)
                        word = _said(layer, base.last, natural)
                        items.append(own if word is None else with_option(own, word))
                case WrittenFrom(name=name):
                    items += [From(Word(name, spec.span), spec.span)] * len(alike)
                case WrittenGroup(item=item):
                    is_shared = item.repeat is not None or isinstance(item, LayerItem)
                    if is_shared and any(word != "activated" for word in words.values()):
                        assert spec.like is not None
                        net = spec.like.path.text
                        self._report(graphs.LikeRepeatedEnd(net=net), spec.like.span)
                        return None
                    edits |= words
                    if item.repeat is not None:
                        repeat = Word(f"x{len(alike)}", item.repeat.span)
                        item = replace(item, repeat=repeat)
                    items.append(_edited(item, words))
                case _:
                    pass  # claims of the other net's table are its own
        blocks = tuple(
            replace(block, branches=_edited_branches(block.branches, edits))
            for block in base.blocks
        )
        from vggspec.lang.formatter import one_net

        whole = replace(spec, means=base.means, blocks=blocks)
        return one_net(whole, self._name, base.input, items)

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
            self._report(layers.LikeCycle(chain=chain), like.path.span)
            return None
        if len(self._chain) > MAX_LIKE:
            self._report(layers.LikeTooDeep(limit=MAX_LIKE), like.path.span)
            return None
        base = _Lowering(other, self._shared, self._chain).base()
        if base.mistakes:
            found = [one.what for one in base.mistakes if isinstance(one.what, _CHAINED)]
            target = full if net is None else f"{full}:{net}"
            broken = layers.LikeBroken(path=target, errors=len(base.mistakes))
            self._report(found[0] if found else broken, like.path.span)
            return None
        if like.up_to is None:
            return base
        return self._cut(
            base, like.up_to, net_name(other), full if net is None else f"{full}:{net}"
        )

    def _cut(self, base: _Base, up_to: Word, net: str, path: str) -> _Base | None:
        """The other net up to a layer, a bracket or a repeat; None and a report."""
        names_ = [_names_of(step) for step in base.steps]
        name = as_written(up_to.text, [name for own in names_ for name in own])
        at = next((i for i, own in enumerate(names_) if name in own), None)
        if at is None:
            for step, own in zip(base.steps, names_, strict=True):
                if as_written(up_to.text, [layer.name for layer in layers_in((step,))]):
                    what = graphs.LikeInsideBracket(name=up_to.text, bracket=own[0])
                    self._report(what, up_to.span)
                    return None
            known = tuple(name for own in names_ for name in own)
            missing = layers.UnknownLikeLayer(
                name=up_to.text, net=net, path=path, suggestion=nearest(up_to.text, known)
            )
            self._report(missing, up_to.span)
            return None
        following = base.steps[at + 1] if at + 1 < len(base.steps) else None
        if isinstance(following, WrittenLayer) and isinstance(following.op, BatchNorm):
            at += 1  # it belongs to the layer before it
        return replace(base, steps=base.steps[: at + 1])

    def _report(self, what: Diagnostic, span: Span, *others: Label) -> None:
        self.reports.add(report(what, self._spec.source, span, *others))


def _names_of(step: WrittenStep) -> tuple[str, ...]:
    """What a step at the top level is called."""
    match step:
        case WrittenLayer(name=name):
            return (name,)
        case WrittenGroup(called=called):
            return called
        case _:
            return ()


def _said(layer: WrittenLayer, last: AbstractSet[str], natural: AbstractSet[str]) -> str | None:
    """The option that says of a layer what its place in the net does not, or None."""
    is_activated = layer.op.is_weight_layer and not isinstance(layer.op, UpConv)
    if not is_activated or (layer.name in last) == (layer.name in natural):
        return None
    if layer.name in natural:
        return "activated"
    return "linear" if layer.meaning is None else "plain"


def _edited(item: Group | LayerItem, words: Mapping[int, str]) -> Group | LayerItem:
    """A step with more options, by the identity of the items that get them."""
    if isinstance(item, LayerItem):
        return with_option(item, words[id(item)]) if id(item) in words else item
    return replace(item, branches=_edited_branches(item.branches, words))


def _edited_branches(branches: tuple[Branch, ...], words: Mapping[int, str]) -> tuple[Branch, ...]:
    return tuple(
        replace(branch, items=tuple(_edited(one, words) for one in branch.items))
        for branch in branches
    )


def _labels_positions(step: WrittenStep | Layer) -> bool:
    """Whether it is the ``soft-max(map)`` that ends a net which labels positions."""
    op = getattr(step, "op", None)
    return isinstance(op, Softmax) and op.per_position


def _kind(op: Op) -> str:
    """The name of a net's only output, by the layer that ends it."""
    if isinstance(op, Softmax):
        return POSTERIOR_MAP if op.per_position else "posteriors"
    return "boxes" if isinstance(op, Boxes) else "scores"


def _not_like(error: VggspecError, path: str, own: str, full: str) -> Diagnostic:
    """Why a net cannot be like the one in another file, at the place where it says so."""
    if isinstance(error.reports[0].what, layers.LikeTooMuch):
        return error.reports[0].what
    if error.reports[0].source is not None:
        return layers.LikeBroken(path=full, errors=len(error.reports))
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
    elif isinstance(what, layers.WhichNet):
        advice = f'name one, as in `like "{path}:{what.nets[0]}"`'
    return layers.LikeUnreadable(path=path, reason=what.title(), advice=advice)


def base_folder(spec: Spec) -> Path:
    """The folder from which the paths in a spec are taken: its own, or the working folder
    for a spec that comes with vggspec.
    """
    name = spec.source.name
    return Path("." if name in packaged().values() else os.path.dirname(name) or ".")
