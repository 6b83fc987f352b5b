"""The graph of a net from its written layers: edges, implied layers, shortcuts, shapes.

ReLU after every conv and FC but the last of each head (section 2.1 of the paper), or what the line
``conv is …`` says; dropout on every FC that another one follows (section 3.1). A sum takes over the
activation of its branches.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fractions import Fraction

from vggspec.base.catalogue import graphs, maps, shapes
from vggspec.compiler.geometry import Field, Number, field_of
from vggspec.compiler.ir import IMAGE, Builder, ImageInput, Node, Origin
from vggspec.compiler.naming import implied_name
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import AnyConv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Activation, Op
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.projection import Projection
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.written import (
    WrittenBranch,
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenShortcut,
    WrittenStep,
    layers_in,
)
from vggspec.lang.ast import SizeClaim


@dataclass(slots=True)
class Paths:
    """Which written layers are reached from which: the graph without what is implied."""

    order: list[str] = field(default_factory=list)
    ops: dict[str, Op] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)
    result: dict[str, str] = field(default_factory=dict)
    """Names of results to the layer or join that gives them."""

    end: str = IMAGE
    """What the last line of the net gives."""

    def add(self, name: str, op: Op | None, before: list[str]) -> None:
        """Add a layer, or a join without an op."""
        self.order.append(name)
        self.before[name] = before
        self.result[name] = name
        if op is not None:
            self.ops[name] = op

    def after(self) -> dict[str, list[str]]:
        """What reads each result."""
        found: dict[str, list[str]] = {name: [] for name in (IMAGE, *self.order)}
        for name in self.order:
            for source in self.before[name]:
                found[source].append(name)
        return found

    def ends(self) -> list[str]:
        """The layers and joins that nothing reads."""
        after = self.after()
        return [name for name in self.order if not after[name]]

    def without_following(self, kind: type[Op] | None = None) -> set[str]:
        """The weight layers, or those of a kind, from which no other one is reached."""
        after = self.after()
        reaches: set[str] = set()
        found = set()
        for name in reversed(self.order):
            op = self.ops.get(name)
            counts = op is not None and (
                op.is_weight_layer if kind is None else isinstance(op, kind)
            )
            if any(other in reaches for other in after[name]):
                reaches.add(name)
            elif counts:
                found.add(name)
            if counts:
                reaches.add(name)
        return found


def paths(steps: Sequence[WrittenStep]) -> Paths:
    """The graph of the written layers."""
    found = Paths()
    found.end = _trace(found, steps, IMAGE)
    return found


def _trace(found: Paths, steps: Sequence[WrittenStep], current: str) -> str:
    for step in steps:
        match step:
            case WrittenLayer(op=op, name=name):
                found.add(name, op, [current])
                current = name
            case WrittenFrom(name=name):
                current = found.result.get(name, IMAGE)
            case WrittenGroup(join=join, branches=branches):
                ends = []
                for branch in branches:
                    start = current
                    if branch.source is not None:
                        start = found.result.get(branch.source, IMAGE)
                    ends.append(_trace(found, branch.steps, start))
                current = ends[0]
                if join is not None:
                    current = step.name
                    found.add(current, None, list(dict.fromkeys(ends)))
                found.result.update((name, current) for name in step.called)
            case _:
                pass
    return current


@dataclass(frozen=True, slots=True)
class Wired:
    """The graph of a net whose outputs are still to be chosen."""

    builder: Builder
    results: Mapping[str, str]
    """Names of layers and brackets to the tensors that they mean: those after BN and activation."""

    end: str
    """The tensor that the last line of the net gives."""

    ends: Mapping[str, str]
    """The tensors that nothing reads, by the name to call each."""


def wire(
    name: str,
    image: ImageInput,
    steps: Sequence[WrittenStep],
    *,
    last: AbstractSet[str],
    dropout: float,
    report: Callable[..., None],
) -> Wired | None:
    """The graph of the written layers; None, and a report, where branches do not fit.

    ``last`` are the weight layers without activation, ``dropout`` the rate after hidden FC layers.

    Raises:
        VggspecError: a layer does not fit what it reads.
    """
    wiring = _Wiring(name, image, steps, last, dropout, report)
    try:
        end = wiring.path(steps, IMAGE)
    except _Stop:
        return None
    return Wired(wiring.builder, wiring.results, end, wiring.ends())


class _Stop(Exception):  # noqa: N818 -- it is no error: the mistake is reported
    """A shape does not fit; what follows would be an echo."""


class _Wiring:
    """The work on one net."""

    def __init__(
        self,
        name: str,
        image: ImageInput,
        steps: Sequence[WrittenStep],
        last: AbstractSet[str],
        dropout: float,
        report: Callable[..., None],
    ) -> None:
        self.builder = Builder(name, image)
        self.results: dict[str, str] = {}
        self.traced = paths(steps)
        self._last = last
        self._rate = dropout
        self._report = report
        self._taken = {layer.name for layer in layers_in(tuple(steps))}
        self._taken.update(self.traced.order)
        self._fields = {IMAGE: Field()}
        self._flat: dict[str, str] = {}
        self._last_fcs = self.traced.without_following(Linear)
        self._after = self.traced.after()
        self._moved: set[str] = set()

    def tensor(self, name: str) -> str:
        """The tensor that a layer or a bracket means."""
        return self.results.get(name, name)

    def ends(self) -> dict[str, str]:
        """The tensors that nothing reads, by the name of a layer or bracket that means each."""
        first: dict[str, str] = {}
        for name, tensor in self.results.items():
            first.setdefault(tensor, name)
        ends = dict.fromkeys(self.tensor(name) for name in self.traced.ends())
        return {first[tensor]: tensor for tensor in ends}

    # -- paths -----------------------------------------------------------------------------------

    def path(self, steps: Sequence[WrittenStep], current: str) -> str:
        """Add the layers of one path; the tensor at its end."""
        for i, step in enumerate(steps):
            following = steps[i + 1] if i + 1 < len(steps) else None
            match step:
                case WrittenLayer():
                    before = [*reversed(steps[max(0, i - 2) : i])]
                    current = self._layer(step, current, before, following)
                case WrittenFrom(name=name):
                    current = self.tensor(name)
                case WrittenGroup():
                    current = self._group(step, current)
                case SizeClaim():
                    self._check_size(step, current)
                case WrittenShortcut():
                    raise AssertionError("a shortcut is a branch of its own")
        return current

    def _layer(
        self,
        layer: WrittenLayer,
        current: str,
        previous: Sequence[WrittenStep],
        following: WrittenStep | None,
    ) -> str:
        """Add a layer and what it implies; ``previous`` are the two before it, the last first."""
        op = layer.op
        before = previous[0] if previous else None
        meant = self._ops_before(layer)
        for one in meant:
            current = self._implied(one, layer, current)
        if isinstance(op, Linear) and self.builder.type_of(current).is_map:
            current = self._flattened(layer, current)
        inputs: tuple[str, ...] = (current,)
        if layer.source is not None:
            inputs = (current, self.tensor(layer.source))
            op = self._placed(op, inputs, layer.origin) if isinstance(op, Crop) else op
        current = self._add(layer.name, op, inputs, layer.origin)
        self.results[layer.name] = current
        if op.is_weight_layer and _is_norm(following):
            return current
        weights = layer
        if isinstance(op, BatchNorm) and _is_weights(before):
            assert isinstance(before, WrittenLayer)
            weights = before
        elif isinstance(op, Activation):
            # Written directly after a weight layer, it is that one's activation.
            owners = previous[:2] if _is_norm(before) else previous[:1]
            if owners and _is_weights(owners[-1]):
                for owner in owners:
                    assert isinstance(owner, WrittenLayer)
                    self.results[owner.name] = current
                assert isinstance(owners[-1], WrittenLayer)
                return self._dropped(owners[-1], layer.name, current)
            return current
        elif not op.is_weight_layer:
            return current
        is_written = isinstance(following, WrittenLayer) and isinstance(following.op, Activation)
        for one in self._ops_after(weights):
            # The activation may be written, or belong to a sum.
            is_elsewhere = is_written or weights.name in self._moved
            if not (is_elsewhere and isinstance(one, Activation)):
                current = self._implied(one, weights, current)
        self.results[layer.name] = self.results[weights.name] = current
        return current if is_written else self._dropped(weights, layer.name, current)

    def _dropped(self, weights: WrittenLayer, name: str, current: str) -> str:
        """What follows a weight layer and its activation, ``name`` the last of both."""
        if isinstance(weights.op, Linear) and self._drops(weights, name):
            return self._implied(Dropout(rate=self._rate), weights, current)
        return current

    def _placed(self, crop: Crop, inputs: tuple[str, ...], origin: Origin) -> Crop:
        """The crop that begins where its second input lies."""
        if not all(self.builder.type_of(name).is_map for name in inputs):
            return crop  # it says so itself
        own, other = map(self._field, inputs)
        if own.stride != other.stride:
            i = 0 if own.stride[0] != other.stride[0] else 1
            what = maps.CropStride(name=crop.of, own=own.stride[i], other=other.stride[i])
            self._report(what, origin.span)
            raise _Stop
        rows, columns = (
            Fraction(other.place[i] - own.place[i]) / Fraction(own.stride[i]) for i in (0, 1)
        )
        if not rows.denominator == columns.denominator == 1:
            self._report(
                maps.CropBetween(name=crop.of, apart=(abs(rows), abs(columns))), origin.span
            )
            raise _Stop
        return replace(crop, offset=(int(rows), int(columns)))

    def _drops(self, weights: WrittenLayer, name: str) -> bool:
        """Whether dropout is implied after an FC: another follows, and no dropout before it."""
        if self._rate == 0 or weights.name in self._last_fcs:
            return False
        pending, seen = list(self._after[name]), set[str]()
        while pending:
            other = pending.pop()
            op = self.traced.ops.get(other)
            if isinstance(op, Dropout):
                return False
            if other not in seen and not (op is not None and op.is_weight_layer):
                seen.add(other)
                pending += self._after[other]
        return True

    def _ops_before(self, layer: WrittenLayer) -> tuple[Op, ...]:
        if layer.meaning is None or self._stands_alone(layer):
            return ()
        return layer.meaning.before

    def _ops_after(self, layer: WrittenLayer) -> tuple[Op, ...]:
        """The ops implied after a weight layer, its activation included."""
        is_linear = isinstance(layer.op, AnyConv | Linear) and layer.op.linear
        if self._stands_alone(layer) or isinstance(layer.op, UpConv):
            return ()
        ops: tuple[Op, ...] = (Relu(),) if layer.meaning is None else layer.meaning.after
        return tuple(op for op in ops if not (is_linear and isinstance(op, Activation)))

    def _stands_alone(self, layer: WrittenLayer) -> bool:
        """Whether nothing is implied before or after a weight layer."""
        if isinstance(layer.op, AnyConv | Linear) and layer.op.activated:
            return False
        return layer.name in self._last or _is_plain(layer)

    # -- brackets --------------------------------------------------------------------------------

    def _group(self, group: WrittenGroup, entering: str) -> str:
        if group.join == "+":
            activations = self._taken_over(group)
        ends: list[str] = []
        for i, branch in enumerate(group.branches):
            start = entering if branch.source is None else self.tensor(branch.source)
            special = branch.steps[0] if branch.steps else None
            if not isinstance(special, WrittenShortcut):
                ends.append(self.path(branch.steps, start))
            elif special.fit is None:
                ends.append(start)
            elif i > 0:
                end = self._shortcut(special, group.branches[i - 1], start, ends[-1])
                ends += [] if end is None else [end]
        current = ends[0]
        if group.join is not None and len(ends) > 1:
            current = self._join(group, ends)
        if group.join == "+":
            for one in activations:
                name = self._free(f"{group.name}_{_suffix(one)}")
                current = self._add(name, one, (current,), group.origin)
        for name in (group.name, *group.called):
            self.results[name] = current
        return current

    def _taken_over(self, group: WrittenGroup) -> tuple[Op, ...]:
        """The activation that a sum takes over from its branches, which do without."""
        found: list[tuple[Op, ...]] = []
        for branch in group.branches:
            weights = _ends_in(branch.steps)
            if weights is None:
                continue
            activations = tuple(op for op in self._ops_after(weights) if isinstance(op, Activation))
            self._moved.add(weights.name)
            if found and activations != found[0]:
                what = graphs.BranchesDisagree(
                    first=_in_words(found[0]), second=_in_words(activations)
                )
                self._report(what, branch.span)
                raise _Stop
            found.append(activations)
        return found[0] if found else ()

    def _join(self, group: WrittenGroup, ends: Sequence[str]) -> str:
        inputs = tuple(ends)
        strides = [self._stride(name) for name in inputs]
        types = [self.builder.type_of(name) for name in inputs]
        for i in range(1, len(inputs)):
            if group.join == "+" and (types[i] != types[0] or strides[i] != strides[0]):
                pair = (types[0].shape, types[i].shape)
                given: tuple[Number, Number] = (strides[0], strides[i])
                what = shapes.CannotAdd(shapes=pair, strides=given)
                self._report(what, group.branches[i].span)
                raise _Stop
            if group.join == "&" and types[i].shape[1:] != types[0].shape[1:]:
                joined = shapes.CannotJoin(shapes=(types[0].shape, types[i].shape))
                self._report(joined, group.branches[i].span)
                raise _Stop
        op = Add() if group.join == "+" else Concat()
        return self._add(group.name, op, inputs, group.origin)

    def _shortcut(
        self, shortcut: WrittenShortcut, fitted: WrittenBranch, entering: str, end: str
    ) -> str | None:
        """The tensor of a shortcut that fits the branch before it; None where it is dropped."""
        x, y = self.builder.type_of(entering), self.builder.type_of(end)
        stride = Fraction(self._stride(end)) / Fraction(self._stride(entering))
        if x == y and stride == 1 and shortcut.fit != "project":
            return entering
        if shortcut.fit == "drop":
            return None
        if not x.is_map or stride.denominator != 1:
            what = shapes.CannotAdd(shapes=(y.shape, x.shape))
            self._report(what, shortcut.origin.span)
            raise _Stop
        if shortcut.fit == "pad":
            if x.channels > y.channels:
                what = shapes.CannotAdd(shapes=(y.shape, x.shape))
                self._report(what, shortcut.origin.span)
                raise _Stop
            op: Op = PadShortcut(out_channels=y.channels, stride=int(stride))
            return self._add(shortcut.name, op, (entering,), shortcut.origin)
        norm, has_bias = self._norm_of(fitted)
        op = Projection(
            kernel_size=(1, 1), out_channels=y.channels, stride=int(stride), bias=has_bias
        )
        current = self._add(shortcut.name, op, (entering,), shortcut.origin)
        if norm is not None:
            name = self._free(f"{shortcut.name}_bn")
            current = self._add(name, norm, (current,), shortcut.origin)
        return current

    def _norm_of(self, branch: WrittenBranch) -> tuple[Op | None, bool]:
        """The batch normalisation of the conv that ends a branch, and whether it has a bias."""
        weights = _ends_in(branch.steps)
        if weights is None:
            return None, True
        has_bias = not isinstance(weights.op, AnyConv | Linear) or weights.op.bias
        last = branch.steps[-1]
        if isinstance(last, WrittenLayer) and isinstance(last.op, BatchNorm):
            return last.op, has_bias
        after = self._ops_after(weights)
        return next((op for op in after if isinstance(op, BatchNorm)), None), has_bias

    def _check_size(self, claim: SizeClaim, current: str) -> None:
        kind = self.builder.type_of(current)
        claimed = [int(word.text[:9]) for word in (claim.height, claim.width)]
        actual = list(kind.size)
        if claim.channels is not None:
            claimed.append(int(claim.channels.text[:9]))
            actual.append(kind.channels)
        if claimed != actual:
            sizes = [" × ".join(map(str, each)) for each in (actual, claimed)]
            written = "x".join(map(str, actual))
            what = graphs.FalseSize(actual=sizes[0], claimed=sizes[1], written=written)
            self._report(what, claim.span)

    # -- nodes -----------------------------------------------------------------------------------

    def _add(self, name: str, op: Op, inputs: tuple[str, ...], origin: Origin) -> str:
        self.builder.add(Node(name=name, op=op, inputs=inputs, origin=origin))
        return name

    def _stride(self, name: str) -> Number:
        """Pixels from one row of a tensor to the next."""
        return self._field(name).stride[0]

    def _field(self, name: str) -> Field:
        """Where a tensor lies; computed where branches meet alone."""
        pending = [name]
        while pending:
            one = pending[-1]
            if one not in self._fields:
                layer = self.builder[one]
                lacking = [each for each in layer.inputs if each not in self._fields]
                if lacking:
                    pending += lacking
                    continue
                types = tuple(map(self.builder.type_of, layer.inputs))
                self._fields[one] = field_of(layer, types, self._fields)
            pending.pop()
        return self._fields[name]

    def _implied(self, op: Op, layer: WrittenLayer, current: str) -> str:
        """Add an op implied by a layer."""
        suffix = _suffix(op)
        if layer.in_bracket:
            name = self._free(f"{layer.name}_{suffix}")
        else:
            name = implied_name(suffix, layer.name, self._taken)
        return self._add(name, op, (current,), layer.origin)

    def _flattened(self, layer: WrittenLayer, current: str) -> str:
        """A map as a vector, made once however many read it."""
        if current not in self._flat:
            name = "flatten"
            if name in self._taken:
                name = implied_name("flatten_", layer.name, self._taken)
            self._taken.add(name)
            self._flat[current] = self._add(name, Flatten(), (current,), layer.origin)
        return self._flat[current]

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _is_norm(step: WrittenStep | None) -> bool:
    return isinstance(step, WrittenLayer) and isinstance(step.op, BatchNorm)


def _is_weights(step: WrittenStep | None) -> bool:
    return isinstance(step, WrittenLayer) and step.op.is_weight_layer


def _is_plain(layer: WrittenLayer) -> bool:
    return isinstance(layer.op, AnyConv) and layer.op.plain


def _ends_in(steps: Sequence[WrittenStep]) -> WrittenLayer | None:
    """The conv or FC, with its batch normalisation, that ends a path; None for anything else, such
    as an upconv, which has no activation.
    """
    if not steps:
        return None
    last = steps[-1]
    if isinstance(last, WrittenGroup):
        return None if last.join is not None else _ends_in(last.branches[0].steps)
    if _is_norm(last) and len(steps) > 1:
        last = steps[-2]
    if not isinstance(last, WrittenLayer) or isinstance(last.op, UpConv):
        return None
    return last if last.op.is_weight_layer else None


def _in_words(ops: Sequence[Op]) -> str | None:
    return " ".join(_WORDS.get(op.keyword, op.keyword) for op in ops) or None


_WORDS = {"relu": "ReLU"}


def _suffix(op: Op) -> str:
    """How the name of an implied layer begins or ends."""
    return {"BN": "bn", "dropout": "drop", "ReLU6": "relu"}.get(op.keyword, op.keyword.casefold())
