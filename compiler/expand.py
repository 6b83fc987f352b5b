"""Repeats, brackets and blocks of a spec written out: each layer once, with its op and its name.

What a step is called is decided here, and how many channels leave it, which ``{in}`` asks for.
Shapes are not known yet; ``wire`` finds them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from vggspec.base.catalogue import graphs, layers
from vggspec.base.diagnostic import Diagnostic, Label
from vggspec.base.source import Source, Span
from vggspec.base.wording import nearest
from vggspec.compiler.expressions import BRACES, IN, ExpressionError, filled
from vggspec.compiler.image_input import Report as Reporter
from vggspec.compiler.ir import IMAGE, Origin
from vggspec.compiler.naming import LocalNamer, Namer, as_written, unusable
from vggspec.compiler.ops import OPS
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.conv import AnyConv, Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.syntax import Arguments, find, is_layer, join
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.written import (
    Fit,
    Meaning,
    WrittenBranch,
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenShortcut,
    WrittenStep,
)
from vggspec.lang.ast import (
    Block,
    Branch,
    From,
    Group,
    LayerItem,
    Means,
    Option,
    SizeClaim,
    Step,
    Word,
)
from vggspec.lang.sections import unindented

MAX_LAYERS = 4096

T = TypeVar("T")

Values = Mapping[str, int | str | None]

_SYNTAXES = {op.keyword: op.syntax for op in OPS if op.syntax is not None}
_OPS = {op.keyword: op for op in OPS}
_NO_WHOLE_NUMBER = re.compile(r"[-+]\d+|[-+]?\d*\.\d*|\d{17,}")
_FITS: dict[str, Fit] = {"pad": "pad", "project": "project", "drop": "drop"}


@dataclass(slots=True)
class _Scope:
    """Where a step stands: the names around it, and the values of its block's parameters."""

    prefix: str | None = None
    """What names here begin with; None at the top level."""

    namer: LocalNamer = field(default_factory=LocalNamer)
    local: dict[str, str] = field(default_factory=dict)
    """Names in this bracket or block to the names in the net."""

    outer: "_Scope | None" = None
    values: Values = field(default_factory=dict)
    number: int | None = None
    """Which of the repeats of the innermost repeated thing this is, from 0; None for none."""

    blocks: tuple[str, ...] = ()
    """The blocks that this is a part of, the outermost first."""

    def full(self, name: str) -> str:
        """The name in the net of a name in this place."""
        return name if self.prefix is None else f"{self.prefix}_{name}"


class Expansion:
    """The work on the layers of one net.

    ``once`` reads a part of the text once for all nets that it belongs to.
    """

    def __init__(
        self,
        source: Source,
        blocks: Iterable[Block],
        report: Callable[..., None],
        once: Callable[[object, Callable[[Reporter], Op | None]], Op | None],
        is_start_known: bool,  # noqa: FBT001
    ) -> None:
        self.is_too_many = False
        self._is_start_known = is_start_known
        self._source = source
        self._blocks = {block.name.text.casefold(): block for block in blocks}
        self._sizes: dict[str, int] = {}  # of blocks
        self._known_words = {"identity", "shortcut", *self._blocks}  # besides those of layers
        self._report = report
        self._once = once
        self._namer = Namer()
        self._top = _Scope()
        self._channels: dict[str, int | None] = {IMAGE: None}
        self._aliases: dict[str, Word] = {}
        self._used: dict[str, Span] = {}
        self._inherited: set[str] = set()
        self._taken_over: Sequence[WrittenStep] = ()
        self._unknown: list[tuple[Word, str]] = []
        self._layers = 0
        self._last: int | None = None  # channels that leave the last step
        self._is_broken = not is_start_known  # so that names may be missing
        self._total = 0
        self._meaning: Meaning | None = None

    # -- the whole net ---------------------------------------------------------------------------

    def inherit(self, steps: Sequence[WrittenStep], channels: int | None) -> None:
        """Take over the first steps of another net."""
        self._channels[IMAGE] = self._last = channels
        self._taken_over = steps
        for step in steps:
            if isinstance(step, WrittenLayer):
                self._namer.step(step.op, step.name)
                self._top.local[step.name] = step.name
            self._remember(step)
        self._namer.taken.update(self._inherited)
        self._layers = sum(1 for _ in self._inherited)

    def _remember(self, step: WrittenStep) -> None:
        """The names of an inherited step, and the channels that leave it."""
        match step:
            case WrittenLayer(op=op, name=name):
                self._inherited.add(name)
                self._last = self._channels[name] = _after(op, self._last)
            case WrittenGroup():
                entering = self._last
                found: list[int | None] = []
                for branch in step.branches:
                    self._last = (
                        entering if branch.source is None else self._channels.get(branch.source)
                    )
                    for one in branch.steps:
                        self._remember(one)
                    found.append(self._last)
                self._last = _joined(step.join, found)
                for name in step.called:
                    self._inherited.add(name)
                    self._channels[name] = self._last
                    self._top.local[name] = name
            case WrittenFrom(name=name):
                self._last = self._channels.get(name)
            case _:
                pass

    def read_meaning(self, means: Means | None) -> Meaning | None:
        """What a conv stands for, from the line ``conv is …``."""
        if means is None:
            return None
        before: list[Op] = []
        after: list[Op] = []
        conv: LayerItem | None = None
        for item in means.items:
            op = self._once(item, partial(self._read_op, item))
            if isinstance(op, Conv) or _is_bare_conv(item):
                conv = item
            elif op is not None:
                (before if conv is None else after).append(op)
        return None if conv is None else Meaning(tuple(before), tuple(after), conv)

    def count(self, steps: Sequence[Step]) -> int:
        """How many layers there are, those taken over included; repeats in braces count once."""
        self._total = self._layers + self._counted(steps, ())
        return self._total

    def _counted(self, steps: Sequence[Step], inside: tuple[str, ...]) -> int:
        total = 0
        for step in steps:
            if isinstance(step, From | SizeClaim):
                continue
            times = 1
            if step.repeat is not None and "{" not in step.repeat.text:
                times = times_of(step.repeat.text)
            if isinstance(step, Group):
                one = self._counted_in(step.branches, inside)
            else:
                one = self._counted_of(step.word.text.casefold(), inside)
            total += times * one
        return total

    def _counted_in(self, branches: Sequence[Branch], inside: tuple[str, ...]) -> int:
        return sum(self._counted(branch.items, inside) or 1 for branch in branches)

    def _counted_of(self, name: str, inside: tuple[str, ...]) -> int:
        """The layers of one use of a block, which is counted once; 1 for any other word, and for a
        block in itself, which is a mistake.
        """
        if name not in self._blocks or name in inside:
            return 1
        if name not in self._sizes:
            self._sizes[name] = self._counted_in(self._blocks[name].branches, (*inside, name))
        return self._sizes[name]

    def steps(self, written: Sequence[Step], meaning: Meaning | None) -> tuple[WrittenStep, ...]:
        """The steps of the net, written out; mistakes are reported."""
        self._meaning = meaning
        self._aliases = {alias.text: alias for alias in _aliases(written)}
        found, _ = self._walk(written, self._top, self._last, self._taken_over[-1:])
        for word, name in self._unknown:
            self._report_unknown(word, name)
        return tuple(found)

    def read_unused(self, blocks: Iterable[Block]) -> None:
        """Report the mistakes in words of blocks of this file that no layer of the net uses."""
        for block in blocks:
            if block.name.text.casefold() not in self._sizes:
                for branch in block.branches:
                    self._read_unused(branch.items)

    def known(self) -> tuple[str, ...]:
        """The names of all results."""
        return tuple(name for name in self._channels if name != IMAGE)

    # -- steps -----------------------------------------------------------------------------------

    def _walk(
        self,
        items: Sequence[Step],
        scope: _Scope,
        channels: int | None,
        before: Sequence[WrittenStep] = (),
    ) -> tuple[list[WrittenStep], int | None]:
        """The steps of one path that follows ``before``, and the channels that leave it."""
        steps: list[WrittenStep] = []
        for item in self._joined(items):
            if self.is_too_many:
                self._only_read(item, scope)
                continue
            match item:
                case From(name=word):
                    source = self._source_of(word, scope)
                    channels = self._channels.get(source) if source is not None else None
                    if source is not None:
                        steps.append(WrittenFrom(source))
                case SizeClaim():
                    steps.append(item)
                case Group():
                    found, channels = self._repeated(item, item, scope, channels)
                    steps += found
                case LayerItem():
                    block = self._blocks.get(item.word.text.casefold())
                    if block is not None:
                        found, channels = self._use(item, block, scope, channels)
                        steps += found
                        continue
                    of_layer, channels = self._layer(item, scope, channels)
                    self._check_order(_last_of(steps) or _last_of(before), item, of_layer)
                    steps += of_layer
        return steps, channels

    def _only_read(self, item: Step, scope: _Scope) -> None:
        """Report the mistakes in words after too many layers."""
        if isinstance(item, LayerItem) and item.word.text.casefold() not in self._known_words:
            self._op(item, scope)
        elif isinstance(item, Group):
            for branch in item.branches:
                for one in self._joined(branch.items):
                    self._only_read(one, scope)

    def _read_unused(self, items: Sequence[Step]) -> None:
        """Report the mistakes in words of a block whose parameters have no values."""
        for item in self._joined(items):
            if isinstance(item, Group):
                for branch in item.branches:
                    self._read_unused(branch.items)
            elif isinstance(item, LayerItem) and "{" not in self._source.slice(item.span):
                self._only_read(item, self._top)

    def _joined(self, items: Sequence[Step]) -> Iterator[Step]:
        """The items, with a layer that was written in several words merged into one."""
        i = 0
        while i < len(items):
            first = items[i]
            whole = None
            if isinstance(first, LayerItem) and not is_layer(first.word.text, _SYNTAXES):
                following = []
                for other in items[i : i + 3]:
                    if not isinstance(other, LayerItem):
                        break
                    following.append(other)
                whole = join(following)
                if whole is not None and "\n" in self._source.slice(whole.span):
                    whole = None
            yield whole or first
            i += 1 if whole is None else len(whole.word.text.split())

    def _layer(
        self, item: LayerItem, scope: _Scope, channels: int | None
    ) -> tuple[list[WrittenStep], int | None]:
        word = item.word.text.casefold()
        if word in ("identity", "shortcut"):
            what = graphs.MisplacedBranch(
                fact=f"`{word}` is a branch of its own",
                advice="write it alone between `[`, `+` or `&` and `]`, or leave it out",
            )
            self._report(what, item.word.span)
            return [], channels
        times = self._times(item.repeat, scope)
        self._check_alias(item)
        steps: list[WrittenStep] = []
        for number in range(times):
            if not self._count(1, item.repeat or item.word):
                break
            own = _numbered(scope, number, item.repeat)
            op = self._op(item, own)
            if op is None:
                self._is_broken = True
                return steps, channels
            source = None
            if isinstance(op, Crop | Resize):
                source = self._named_in(op, item, own)
                op = op if source is None else replace(op, of=source)
            name = self._name(op, item, scope)
            channels = self._channels[name] = _after(op, channels)
            is_conv = isinstance(op, AnyConv)
            steps.append(
                WrittenLayer(
                    op,
                    name,
                    Origin(self._source, item.span),
                    item,
                    in_bracket=scope.prefix is not None,
                    meaning=self._meaning if is_conv else None,
                    source=source,
                )
            )
        return steps, channels

    def _use(
        self, item: LayerItem, block: Block, scope: _Scope, channels: int | None
    ) -> tuple[list[WrittenStep], int | None]:
        """One use of a block, with its repeats."""
        if not block.is_complete:
            self._is_broken = True
            return [], None
        folded = block.name.text.casefold()
        if folded in scope.blocks:
            chain = (*scope.blocks[scope.blocks.index(folded) :], folded)
            self._report(graphs.BlockCircle(chain=chain), item.word.span)
            self._is_broken = True
            return [], None
        values = self._arguments(item, block, scope)
        if values is None:
            self._is_broken = True
            return [], None
        group = Group(block.join, block.branches, item.repeat, item.alias, item.bold, item.span)
        return self._repeated(group, item, scope, channels, block=block, values=values)

    def _arguments(self, item: LayerItem, block: Block, scope: _Scope) -> Values | None:
        """The values of a block's parameters, by place or by name; None and a report."""
        parameters = {one.name.text.casefold(): one for one in block.parameters}
        written = [one.name.text for one in block.parameters]
        form = f"{block.name.text}({', '.join(written)})" if written else block.name.text

        def refuse(fact: str, span: Span) -> None:
            self._report(graphs.BlockArguments(fact=fact, form=form), span)

        values: dict[str, int | str | None] = {}
        free = list(parameters)
        for option in item.options:
            own = option.name.text.casefold()
            if len(option.words) == 2 and own in parameters:
                name, word = own, option.words[1]
            elif len(option.words) == 1 and free:
                name, word = free[0], option.name
            elif len(option.words) == 1:
                refuse(f"`{block.name.text}` takes {_listed(written)}", option.span)
                return None
            else:
                fact = f"`{block.name.text}` has no parameter `{option.name.text}`"
                refuse(fact, option.name.span)
                return None
            called = parameters[name].name.text
            if name in values:
                refuse(f"`{called}` is given twice", option.span)
                return None
            free = [one for one in free if one != name]
            text = self._fill(word, scope)
            if text is None:
                values[name] = None
                continue
            if _NO_WHOLE_NUMBER.fullmatch(text):
                refuse(f"`{called}` is {text}, and not a whole number or a name", word.span)
                return None
            values[name] = int(text) if text.isdecimal() else text
        for name in free:
            default = parameters[name].default
            if default is None:
                refuse(f"`{block.name.text}` lacks `{parameters[name].name.text}`", item.span)
                return None
            values[name] = int(default.text) if default.text.isdecimal() else default.text
        return values

    # -- brackets --------------------------------------------------------------------------------

    def _repeated(
        self,
        group: Group,
        item: Group | LayerItem,
        scope: _Scope,
        channels: int | None,
        *,
        block: Block | None = None,
        values: Values | None = None,
    ) -> tuple[list[WrittenStep], int | None]:
        """A bracket or block use, as often as it is repeated."""
        times = self._times(group.repeat, scope)
        self._check_alias(item, is_bracket=True)
        found: list[WrittenStep] = []
        for number in range(times):
            if self.is_too_many:
                break
            inner, called = self._inside(group, scope, block, number, is_last=number == times - 1)
            if values is not None and block is not None:
                inner.values = {**values, IN: channels}
                inner.blocks = (*scope.blocks, block.name.text.casefold())
            else:
                inner.values = {**scope.values, IN: channels}
            step, channels = self._group(group, item, inner, called, channels)
            found.append(step)
            for name in called:
                self._channels[name] = channels
        return found, channels

    def _inside(
        self,
        group: Group,
        scope: _Scope,
        block: Block | None,
        number: int,
        *,
        is_last: bool,
    ) -> tuple[_Scope, tuple[str, ...]]:
        """The scope in one occurrence of a bracket, and the names of its result."""
        repeat = group.repeat
        count = scope.number if repeat is None else number
        if block is not None and repeat is None:
            count = scope.number
        common = {"outer": scope, "number": count, "blocks": scope.blocks}
        is_plain = block is None and group.alias is None and repeat is None
        if is_plain and scope.prefix is not None:
            inner = _Scope(scope.prefix, scope.namer, scope.local, **common)  # type: ignore[arg-type]
            return inner, ()
        namer = self._namer if scope.prefix is None else scope.namer
        if group.alias is not None:
            base = group.alias.text
            own = base if repeat is None else f"{base}_{number + 1}"
            called = [own] if repeat is None or not is_last else [own, base]
        else:
            kind = "block" if block is None else block.name.text
            own = namer.group_name(kind)
            called = [own]
        prefix = scope.full(own)
        for name in called:
            scope.local[name] = scope.full(name)
            if scope.prefix is None:
                self._check_taken(name, group)
        return _Scope(prefix, **common), tuple(scope.full(name) for name in called)  # type: ignore[arg-type]

    def _group(
        self,
        group: Group,
        item: Group | LayerItem,
        scope: _Scope,
        called: tuple[str, ...],
        entering: int | None,
    ) -> tuple[WrittenGroup, int | None]:
        branches: list[WrittenBranch] = []
        found: list[int | None] = []
        for i, branch in enumerate(group.branches):
            channels = entering
            source = None
            scope.namer.begin()
            if branch.source is not None:
                source = self._source_of(branch.source, scope)
                channels = None if source is None else self._channels.get(source)
            special = self._special(branch, group, scope)
            if special is not None:
                steps: list[WrittenStep] = [special]
                if special.fit is not None:
                    channels = next((n for n in reversed(found) if n is not None), None)
                    if i == 0:
                        self._report(graphs.ShortcutFirst(), branch.span)
                self._count(1, branch)
            else:
                if not branch.items:
                    self._count(1, branch)
                steps, channels = self._walk(branch.items, scope, channels)
            branches.append(WrittenBranch(source, tuple(steps), branch.span))
            found.append(channels)
        kind = {"+": "add", "&": "concat", None: "end"}[group.join]
        prefix = scope.prefix
        assert prefix is not None
        name = scope.full(scope.namer.unique(kind)) if group.join is not None else prefix
        step = WrittenGroup(
            name, group.join, tuple(branches), called, Origin(self._source, item.span), item
        )
        return step, _joined(group.join, found)

    def _special(self, branch: Branch, group: Group, scope: _Scope) -> WrittenShortcut | None:
        """A branch that is ``identity`` or a shortcut, or None."""
        if len(branch.items) != 1 or not isinstance(branch.items[0], LayerItem):
            return None
        item = branch.items[0]
        word = item.word.text.casefold()
        if word not in ("identity", "shortcut"):
            return None
        origin = Origin(self._source, item.span)
        name = scope.full(scope.namer.unique(word))
        fit: Fit | None = None
        if word == "shortcut":
            fit = "fit"
            if group.join != "+":
                what = graphs.MisplacedBranch(
                    fact="a shortcut is added", advice="write `identity` to join it"
                )
                self._report(what, item.word.span)
        for option in item.options:
            chosen = _FITS.get(option.name.text.casefold())
            if word == "identity" or chosen is None or option.values or fit != "fit":
                known = tuple(_FITS) if word == "shortcut" else ()
                text = option.name.text
                like = nearest(text, known)
                unknown = layers.UnknownOption(
                    owner=word, word=text, known=known, suggestion=like, instead=None
                )
                self._report(unknown, option.span)
                continue
            fit = chosen
        if item.repeat is not None or item.alias is not None:
            what = graphs.MisplacedBranch(
                fact=f"`{word}` has neither a repeat nor a name",
                advice="name or repeat the bracket instead",
            )
            self._report(what, item.span)
        return WrittenShortcut(fit, name, origin)

    # -- words -----------------------------------------------------------------------------------

    def _op(self, item: LayerItem, scope: _Scope) -> Op | None:
        plain = self._filled_item(item, scope)
        if plain is None:
            return None
        once = [option for option in plain.options if option.name.text.casefold() == "once"]
        options = tuple(option for option in plain.options if option not in once)
        is_conv = _conv_like(plain.word.text)
        if self._meaning is not None and is_conv:
            own = {option.name.text.casefold() for option in options}
            options += tuple(
                option
                for option in self._meaning.item.options
                if option.name.text.casefold() not in own
            )
        stripped = replace(plain, options=options) if options != item.options else plain
        read = partial(self._read_op, stripped, is_filled=plain is not item)
        op = self._once(item, read) if plain is item else self._once(None, read)
        if op is None or not once:
            return op
        if not isinstance(op, AnyConv | MaxPool):
            fact = f"`{plain.word.text}` has no stride"
            self._report(graphs.OnceInVain(fact=fact, advice="remove `once`"), once[0].span)
        elif scope.number is None:
            fact = "nothing is repeated here"
            advice = "remove `once`, or repeat the bracket"
            self._report(graphs.OnceInVain(fact=fact, advice=advice), once[0].span)
        elif op.stride == 1 and not BRACES.search(item.word.text):
            fact = "the stride is 1 in all repeats"
            advice = "write the stride, as in `/2(once)`, or remove `once`"
            self._report(graphs.OnceInVain(fact=fact, advice=advice), once[0].span)
        elif scope.number > 0:
            return replace(op, stride=1)
        return op

    def _filled_item(self, item: LayerItem, scope: _Scope) -> LayerItem | None:
        """The item with numbers in place of braces; the item itself where there are none."""
        words = [item.word, *(word for option in item.options for word in option.words)]
        if not any("{" in word.text for word in words):
            return item

        def fill(word: Word) -> Word | None:
            text = self._fill(word, scope)
            return None if text is None else Word(text, word.span)

        head = fill(item.word)
        options = []
        for option in item.options:
            filled_words = [fill(word) for word in option.words]
            if None in filled_words:
                return None
            options.append(Option(tuple(word for word in filled_words if word), option.span))
        return None if head is None else replace(item, word=head, options=tuple(options))

    def _fill(self, word: Word, scope: _Scope) -> str | None:
        if "{" not in word.text:
            return word.text
        try:
            return filled(word.text, scope.values)
        except ExpressionError as error:
            self._report(error.what, word.span)
            return None

    def _read_op(self, item: LayerItem, report: Reporter, *, is_filled: bool = False) -> Op | None:
        if _is_bare_conv(item):
            return None  # the `conv` of `conv is …`
        found = find(item, _SYNTAXES)
        if isinstance(found, layers.UnknownLayer) and not (found.because or found.suggestion):
            # The word of no kind of layer: a branch or a block may be meant.
            branches = ("identity", "shortcut")
            known = (*branches, *(block.name.text for block in self._blocks.values()))
            found = replace(found, suggestion=nearest(item.word.text, known))
        if isinstance(found, Diagnostic):
            setting = unindented(item.word.text, self._source, item.word.span.start)
            # `Dense(10)` is no setting.
            if setting is not None and isinstance(found, layers.UnknownLayer) and not item.options:
                found = setting
            layer = layers.MalformedLayer | layers.UnknownLayer
            is_whole = isinstance(found, layer) and found.word != item.word.text
            report(found, item.span if is_whole else item.word.span)
            return None
        name, match = found
        start = item.word.span.start
        if name == "resize" and not item.options:  # it is a setting of `test:` too
            rest = self._source.text[item.word.span.end :].partition("\n")[0].split()
            setting = unindented(item.word.text, self._source, start)
            if setting is not None and rest and not is_layer(rest[0], _SYNTAXES):
                report(setting, item.word.span)
                return None
        places = {
            group: Span(start + match.start(group), start + match.end(group))
            for group, text in match.groupdict().items()
            if text is not None and not is_filled
        }
        args = Arguments(item.word, match.groupdict(), item.options, report, name, places)
        op = _OPS[name].read(args)
        args.finish()
        return op

    def _times(self, repeat: Word | None, scope: _Scope) -> int:
        if repeat is None:
            return 1
        text = self._fill(repeat, scope)
        if text is None:
            return 0
        times = times_of(text)
        if times == 0:
            what = layers.OutOfRange(what="a repeat of", value="0", low="1", high=str(MAX_LAYERS))
            self._report(what, repeat.span)
        return times

    def _count(self, more: int, place: Word | Branch) -> bool:
        """Count layers; False, and a report, where there are too many."""
        self._layers += more
        if self._layers > MAX_LAYERS and not self.is_too_many:
            found = max(self._total, self._layers)
            self._report(layers.TooManyLayers(found=found, limit=MAX_LAYERS), place.span)
            self.is_too_many = True
        return not self.is_too_many

    def _check_order(
        self, previous: WrittenStep | None, item: LayerItem, found: Sequence[WrittenStep]
    ) -> None:
        if not self._is_start_known:
            return
        for step in found:
            if isinstance(step, WrittenLayer) and isinstance(previous, WrittenLayer):
                if isinstance(previous.op, Softmax | Boxes):
                    self._report(layers.AfterTheEnd(last=previous.op.keyword), item.span)
                    return
                if isinstance(step.op, BatchNorm):
                    if isinstance(previous.op, BatchNorm):
                        self._report(layers.NormAfterNorm(), item.span)
                        return
                    meaning = previous.meaning
                    has_norm = meaning is not None and any(
                        isinstance(op, BatchNorm) for op in (*meaning.before, *meaning.after)
                    )
                    if has_norm and not (isinstance(previous.op, AnyConv) and previous.op.plain):
                        self._report(graphs.NormBesideMeaning(), item.span)
            previous = step

    # -- names -----------------------------------------------------------------------------------

    def _check_alias(self, item: Group | LayerItem, *, is_bracket: bool = False) -> None:
        if item.alias is None:
            return
        if item.repeat is not None and not is_bracket and isinstance(item, LayerItem):
            repeated = layers.RepeatedName(word=item.word.text, name=item.alias.text)
            self._report(repeated, item.alias.span)
        bad = unusable(item.alias.text)
        if bad is not None:
            self._report(bad, item.alias.span)

    def _check_taken(self, name: str, group: Group) -> None:
        """Report a bracket's name that something above has."""
        place = group.alias.span if group.alias is not None else group.span
        first = self._used.get(name)
        if name in self._inherited or (first is not None and first != place):
            others = [Label(first, "taken here")] if first is not None else []
            self._report(layers.NameTaken(name=name), place, *others)
        self._used[name] = place
        self._namer.taken.add(name)

    def _name(self, op: Op, item: LayerItem, scope: _Scope) -> str:
        if scope.prefix is not None:
            return self._name_in_bracket(op, item, scope)
        namer = self._namer
        if item.alias is not None:
            name = item.alias.text
            is_repeat = name in self._used and self._used[name] == item.alias.span
            if (name in self._inherited or name in self._used) and not is_repeat:
                others = [Label(self._used[name], "taken here")] if name in self._used else []
                self._report(layers.NameTaken(name=name), item.alias.span, *others)
            namer.step(op, name)
            self._used[name] = item.alias.span
        else:
            name = namer.automatic(op)
            if name in self._aliases:
                label = Label(item.span, f"this layer is called {name} by its place")
                self._report(layers.NameTaken(name=name), self._aliases[name].span, label)
            namer.taken.add(name)
        scope.local[name] = name
        return name

    def _name_in_bracket(self, op: Op, item: LayerItem, scope: _Scope) -> str:
        namer = scope.namer
        if item.alias is not None:
            name = item.alias.text
            if name in namer.taken and item.repeat is None:
                self._report(layers.NameTaken(name=name), item.alias.span)
            namer.step(op, name)
        else:
            name = namer.automatic(op)
        scope.local[name] = scope.full(name)
        return scope.full(name)

    def _source_of(self, word: Word, scope: _Scope) -> str | None:
        """The result that ``from`` names; None, and a report at the end, where there is none."""
        name = self._fill(word, scope)
        if name is None:
            return None
        found = self._resolve(name, scope)
        if found is None:
            self._unknown.append((word, name))
        return found

    def _named_in(self, op: Crop | Resize, item: LayerItem, scope: _Scope) -> str | None:
        """The result whose size an op takes, as the net calls it; None and a report."""
        for option in item.options:
            if not op.of or self._fill(option.name, scope) != op.of:
                continue
            return self._source_of(option.name, scope)
        self._is_broken = True
        return None

    def _resolve(self, name: str, scope: _Scope) -> str | None:
        inner: _Scope | None = scope
        while inner is not None:
            known = {one: full for one, full in inner.local.items() if full in self._channels}
            local = as_written(name, known)
            if local is not None:
                return known[local]
            inner = inner.outer
        return as_written(name, self._channels)

    def _report_unknown(self, word: Word, name: str) -> None:
        later = self._resolve(name, self._top)
        if later is None and self._is_broken:
            return  # it may be the name of what could not be read
        what = graphs.UnknownSource(
            name=name, suggestion=nearest(name, self.known()), is_below=later is not None
        )
        self._report(what, word.span)


def _numbered(scope: _Scope, number: int, repeat: Word | None) -> _Scope:
    """The scope of one of a layer's own repeats."""
    return scope if repeat is None else replace(scope, number=number)


def _last_of(steps: Sequence[WrittenStep]) -> WrittenStep | None:
    return next((one for one in reversed(steps) if not isinstance(one, SizeClaim)), None)


def times_of(text: str) -> int:
    """How often ``x3`` or ``× 3`` says."""
    digits = re.sub(r"\D", "", text)
    return int(digits) if len(digits) <= 16 else 10**16


def _aliases(steps: Sequence[Step]) -> Iterator[Word]:
    """The names given to layers at the top level."""
    for step in steps:
        if isinstance(step, LayerItem | Group) and step.alias is not None:
            yield step.alias


def _conv_like(word: str) -> bool:
    return any(
        (syntax := op.syntax) is not None and syntax.match(word) for op in (Conv, DepthwiseConv)
    )


def _is_bare_conv(item: LayerItem) -> bool:
    return item.word.text.casefold() == "conv"


def _after(op: Op, channels: int | None) -> int | None:
    """The channels that leave an op."""
    return op.out_channels if isinstance(op, Conv | UpConv | Linear) else channels


def _joined(join: str | None, channels: Sequence[int | None]) -> int | None:
    """The channels that leave a bracket."""
    if join == "&":
        known = [one for one in channels if one is not None]
        return sum(known) if len(known) == len(channels) else None
    return next((one for one in channels if one is not None), None)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no arguments"
