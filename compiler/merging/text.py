"""The spec of a merged net: the layers as they were written, without what is folded.

Repeats and blocks are written out, since their occurrences need not be alike any more. What a conv
implies is taken from the line ``conv is``, which is written anew.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vggspec.compiler.expand import Expansion
from vggspec.compiler.formatting import format_text
from vggspec.compiler.ir import Network
from vggspec.compiler.merging.plan import Plan
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import AnyConv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Activation, Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.wire import paths
from vggspec.compiler.written import (
    WrittenBranch,
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenShortcut,
    WrittenStep,
    layers_in,
)
from vggspec.lang.ast import Claim, Outputs, SizeClaim, Spec, Word
from vggspec.lang.formatter import one_net

#: The ops implied before and after a conv.
Implied = tuple[tuple[Op, ...], tuple[Op, ...]]

ENDS_A_BRANCH = "it ends a branch of another sum"

_RELU: Implied = ((), (Relu(),))
_NOTHING: Implied = ((), ())


@dataclass(frozen=True, slots=True)
class Written:
    """A net as written, and its graph."""

    spec: Spec
    """Not like any other."""

    network: Network
    steps: tuple[WrittenStep, ...]
    last: frozenset[str]
    """The weight layers that no other one follows."""


def written(spec: Spec, network: Network) -> Written:
    """The layers of a spec that lowers to ``network``."""

    def refuse(*_: object) -> None:
        raise AssertionError("the spec was lowered before")

    expansion = Expansion(
        spec.source, spec.blocks, refuse, lambda _, read: read(refuse), is_start_known=True
    )
    expansion.inherit((), network.input.channels)
    steps = expansion.steps(spec.layers, expansion.read_meaning(spec.means))
    return Written(spec, network, steps, frozenset(paths(steps).without_following()))


def must_stay(net: Written, plan: Plan) -> dict[str, str]:
    """Sums that no conv can be written for in their places, each with the reason."""
    found: dict[str, str] = {}
    named = Counter(output.layer for output in net.network.outputs)
    norms = {output.name for output in net.network.outputs}
    for layer in net.network.layers:
        if isinstance(layer.op, BatchNorm) and layer.name in norms:
            found[layer.name] = "it names an output"
    return found | dict(_must_stay(net, plan, net.steps, named, in_sum=False))


def _must_stay(
    net: Written,
    plan: Plan,
    steps: Sequence[WrittenStep],
    named: Mapping[str, int],
    *,
    in_sum: bool,
) -> Iterator[tuple[str, str]]:
    """``in_sum``: the steps are a branch of a sum that stays."""
    end = steps[-1] if steps else None
    has_norm = isinstance(end, WrittenLayer) and isinstance(end.op, BatchNorm)
    before = steps[-2] if len(steps) > 1 else None
    is_after_bracket = in_sum and isinstance(before, WrittenGroup)
    if is_after_bracket and isinstance(end, WrittenLayer) and end.name in plan.norms:
        yield end.name, ENDS_A_BRANCH  # without it the branch would end in a conv
    for i, step in enumerate(steps):
        if not isinstance(step, WrittenGroup):
            continue
        is_last = i + 1 == len(steps)
        following = steps[i + 1] if i + 1 < len(steps) else None
        if step.name in plan.sums:
            users = net.network.users(step.name)
            is_activated = any(isinstance(user.op, Activation) for user in users)
            ends = {step.name, *(user.name for user in users if isinstance(user.op, Activation))}
            is_followed = isinstance(following, WrittenLayer) and isinstance(
                following.op, BatchNorm | Activation
            )
            if not plan.members[step.name] <= _convs_in(step):
                yield step.name, "a conv of it stands elsewhere"
            elif sum(named[name] for name in ends) > 1:
                yield step.name, "two outputs are called after it"
            elif i + 1 + has_norm >= len(steps) and in_sum and not is_activated:
                yield step.name, ENDS_A_BRANCH
            elif is_followed and len(users) > 1:
                yield step.name, "it is read before and after what follows it"
            continue
        for branch in step.branches:
            stays = step.join == "+" or (step.join is None and is_last and in_sum)
            yield from _must_stay(net, plan, branch.steps, named, in_sum=stays)


def _convs_in(group: WrittenGroup) -> set[str]:
    """The convs in a bracket, those of shortcuts too."""
    found = {layer.name for layer in layers_in((group,))}
    for branch in group.branches:
        for step in branch.steps:
            if isinstance(step, WrittenShortcut):
                found.add(step.name)
            elif isinstance(step, WrittenGroup):
                found |= _convs_in(step)
    return found


@dataclass(slots=True)
class Writer:
    """The work on one text. ``called`` are layers whose names must be written."""

    net: Written
    plan: Plan
    called: Collection[str]
    renamed: dict[str, str] = field(default_factory=dict)
    """Names of results that are gone, to the names of what is in their place."""

    names: dict[str, str] = field(default_factory=dict)
    """Layers of the result by their names in the plan, to the names that they should have."""

    def text(self, name: str, claims: Sequence[Claim]) -> str:
        """The spec, in canonical form."""
        common = self._common()
        lines = list(self._lines(common))
        spec = self.net.spec
        outputs = spec.outputs
        if outputs is not None:
            words = tuple(Word(self._now(word.text), word.span) for word in outputs.names)
            outputs = Outputs(words, outputs.span)
        whole = replace(
            spec, means=None, blocks=(), outputs=outputs, claims=tuple(claims), train=()
        )
        head, *rest = one_net(whole, name, spec.input, ()).splitlines()
        if spec.input is not None:
            head += f"\n{rest.pop(0)}"
        means = []
        if common not in (None, _RELU):
            before, after = common
            means = ["conv is " + " ".join([*map(_word, before), "conv", *map(_word, after)])]
        return format_text("\n".join([head, *means, "", *lines, "", *rest, ""]))

    def _lines(self, common: Implied | None) -> Iterator[str]:
        start = ""
        for is_start, text in self._path(self.net.steps, None, "image", common, in_sum=False):
            if is_start:
                start = f"{text} "
            else:
                yield start + text
                start = ""

    def _path(
        self,
        steps: Sequence[WrittenStep],
        prefix: str | None,
        current: str,
        common: Implied | None,
        *,
        in_sum: bool,
    ) -> Iterator[tuple[bool, str]]:
        """The texts of steps, and whether each only says where the next begins."""
        for i, step in enumerate(steps):
            following = next((one for one in steps[i + 1 :] if not self._is_gone(one)), None)
            is_end = following is None
            match step:
                case WrittenLayer(name=name) if name in self.plan.norms:
                    self.renamed[name] = current
                case WrittenLayer(name=name):
                    words = self._layer(step, common, is_activated=_is_activation(following))
                    alias = self._alias(name, name, prefix)
                    for word, is_it in words:
                        yield False, word + alias * is_it
                    current = name
                case WrittenFrom(name=name):
                    current = self._now(name)
                    yield True, f"from {current}"
                case WrittenGroup():
                    current = self._name_group(step)
                    conv = self.plan.sums.get(step.name)
                    if conv is None:
                        is_inner = in_sum and is_end
                        own = step.called[0] if step.called else prefix
                        inner = self._bracket(step, own, common, in_sum=is_inner)
                        yield False, inner + self._group_alias(step, current, prefix)
                        continue
                    self.names[conv] = current
                    is_before = isinstance(following, WrittenLayer) and isinstance(
                        following.op, BatchNorm | Activation
                    )
                    apart = is_before or (is_end and in_sum)
                    alias = self._alias(conv, current, prefix)
                    for word, is_it in self._merged(step, conv, common, apart=apart):
                        yield False, word + alias * is_it
                case _:
                    pass

    def _is_gone(self, step: WrittenStep) -> bool:
        if isinstance(step, WrittenLayer):
            return step.name in self.plan.norms
        return isinstance(step, SizeClaim)

    # -- names -----------------------------------------------------------------------------------

    def _now(self, name: str) -> str:
        """What a result is called in the new text."""
        folded = {old.casefold(): new for old, new in self.renamed.items()}
        return folded.get(name.casefold(), name)

    def _name_group(self, group: WrittenGroup) -> str:
        """What the result of a bracket is called, and its other names for that one."""
        own = (*group.called, group.name)
        conv = self.plan.sums.get(group.name)
        outputs = {output.name for output in self.net.network.outputs}
        name = next((one for one in own if one in outputs), own[0])
        if conv is not None and name not in outputs and not group.called:
            name = conv
        if conv is None and group.called:
            name = next((one for one in group.called if one in outputs), own[0])
        for other in own:
            if other != name and not (conv is None and other == group.name):
                self.renamed[other] = name
        return name

    def _alias(self, key: str, name: str, prefix: str | None) -> str:
        return f" as {_local(name, prefix)}" if key in self.called else ""

    def _group_alias(self, group: WrittenGroup, name: str, prefix: str | None) -> str:
        return f" as {_local(name, prefix)}" if group.called else ""

    # -- layers ----------------------------------------------------------------------------------

    def _layer(
        self, layer: WrittenLayer, common: Implied | None, *, is_activated: bool
    ) -> list[tuple[str, bool]]:
        """The words of a layer, and which of them is the layer itself; ``is_activated``: its
        activation is written after it, in place of the implied one.
        """
        if isinstance(layer.op, Crop | Resize):
            return [(_word(replace(layer.op, of=self._now(layer.op.of))), True)]
        if not layer.op.is_weight_layer or isinstance(layer.op, UpConv):
            return [(_word(layer.op), True)]
        op = self.plan.network[layer.name].op
        is_last = layer.name in self.net.last
        return self._weights(
            op, self._implied(layer), common, is_last=is_last, is_activated=is_activated
        )

    def _merged(
        self, group: WrittenGroup, conv: str, common: Implied | None, *, apart: bool
    ) -> list[tuple[str, bool]]:
        """The conv in place of a sum; ``apart``: its activation must be written."""
        op = self.plan.network[conv].op
        activations = tuple(
            user.op
            for user in self.net.network.users(group.name)
            if isinstance(user.op, Activation) and user.origin == group.origin
        )
        is_last = all(
            layer.name in self.net.last for layer in layers_in((group,)) if layer.op.is_weight_layer
        )
        if not apart:
            return self._weights(op, ((), activations), common, is_last=is_last)
        words = self._weights(op, _NOTHING, common, is_last=is_last)
        return words + [(_word(one), False) for one in activations]

    def _implied(self, layer: WrittenLayer) -> Implied:
        """What is implied before and after a weight layer, but for what is folded."""
        op = layer.op
        assert isinstance(op, AnyConv | Linear)
        is_alone = layer.name in self.net.last or getattr(op, "plain", False)
        if is_alone and not op.activated:
            return _NOTHING
        before: tuple[Op, ...] = ()
        after: tuple[Op, ...] = (Relu(),)
        if layer.meaning is not None:
            before, after = layer.meaning.before, layer.meaning.after
        if op.linear:
            after = tuple(one for one in after if not isinstance(one, Activation))
        return self._unfolded_before(layer.name, before), self._unfolded_after(layer.name, after)

    def _unfolded_before(self, name: str, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        found: list[Op] = []
        for op in reversed(ops):
            (name,) = self.net.network[name].inputs
            if name not in self.plan.norms:
                found.insert(0, op)
        return tuple(found)

    def _unfolded_after(self, name: str, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        found: list[Op] = []
        for op in ops:
            nodes = [user for user in self.net.network.users(name) if user.op == op]
            if nodes:
                name = nodes[0].name
            if not isinstance(op, BatchNorm) or (nodes and name not in self.plan.norms):
                found.append(op)
        return tuple(found)

    def _common(self) -> Implied | None:
        """What most convs imply, which the line ``conv is`` says; None without convs."""
        if self.net.spec.means is None:
            return _RELU
        counted: Counter[Implied] = Counter()
        for layer in layers_in(self.net.steps):
            op = layer.op
            if isinstance(op, AnyConv) and not op.linear and not op.plain:
                if layer.name in self.net.last and not op.activated:
                    continue
                counted[self._implied(layer)] += 1
        return counted.most_common(1)[0][0] if counted else _RELU

    def _weights(
        self,
        op: Op,
        implied: Implied,
        common: Implied | None,
        *,
        is_last: bool,
        is_activated: bool = False,
    ) -> list[tuple[str, bool]]:
        assert isinstance(op, AnyConv | Linear)
        usual = _RELU if isinstance(op, Linear) or common is None else common
        if is_activated:
            implied, usual = _quiet(implied), _quiet(usual)
        flags: dict[str, bool] = {"linear": False, "activated": False}
        if not isinstance(op, Linear):
            flags["plain"] = False
        if implied == _NOTHING and is_last:
            around = _NOTHING
        elif implied == usual:
            around, flags["activated"] = _NOTHING, is_last
        elif implied == _quiet(usual):
            around, flags["linear"], flags["activated"] = _NOTHING, True, is_last
        else:
            around = implied
            flags["linear" if isinstance(op, Linear) else "plain"] = not is_last
        written_op = replace(op, **flags)  # type: ignore[arg-type]
        return [
            *((_word(one), False) for one in around[0]),
            (written_op.write(), True),
            *((_word(one), False) for one in around[1]),
        ]

    # -- brackets --------------------------------------------------------------------------------

    def _bracket(
        self, group: WrittenGroup, prefix: str | None, common: Implied | None, *, in_sum: bool
    ) -> str:
        stays = group.join == "+" or (group.join is None and in_sum)
        branches = [self._branch(one, prefix, common, in_sum=stays) for one in group.branches]
        return f"[{f' {group.join} '.join(branches)}]"

    def _branch(
        self, branch: WrittenBranch, prefix: str | None, common: Implied | None, *, in_sum: bool
    ) -> str:
        special = branch.steps[0] if branch.steps else None
        if isinstance(special, WrittenShortcut):
            fit = special.fit
            return {None: "identity", "fit": "shortcut"}.get(fit, f"shortcut({fit})")
        source = "" if branch.source is None else self._now(branch.source)
        texts = [
            text for _, text in self._path(branch.steps, prefix, source, common, in_sum=in_sum)
        ]
        if source:
            texts.insert(0, f"from {source}")
        return " ".join(texts) or "identity"


def _is_activation(step: WrittenStep | None) -> bool:
    return isinstance(step, WrittenLayer) and isinstance(step.op, Activation)


def _quiet(implied: Implied) -> Implied:
    """Without the activation."""
    before, after = implied
    return before, tuple(op for op in after if not isinstance(op, Activation))


def _local(name: str, prefix: str | None) -> str:
    return name.removeprefix(f"{prefix}_") if prefix is not None else name


def _word(op: Op) -> str:
    return op.write()
