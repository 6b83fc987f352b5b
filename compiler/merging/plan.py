"""What of a net can be folded into convs, on its graph.

At inference a conv, a batch normalisation and a sum are affine, so that a batch normalisation which
alone reads a conv becomes a part of that conv, and a sum of convs of one tensor becomes one conv:

Given   x -> {conv3 -> bn, conv1 -> bn, bn} -> add -> relu
Result  x -> conv3 -> relu

Source: Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again", section 3.3.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from vggspec.compiler.ir import Layer, Network, Node
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import AnyConv, Conv
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.op import Op
from vggspec.compiler.passes.rewiring import replace_all_uses

MORE_THAN_A_CONV = "one of its branches is more than one conv"


@dataclass(frozen=True, slots=True)
class Weights:
    """The conv or FC of a layer."""

    layer: Layer


@dataclass(frozen=True, slots=True)
class Identity:
    """A branch without layers, as a conv."""


@dataclass(frozen=True, slots=True)
class Normed:
    """A batch normalisation after something."""

    of: "Folded"
    norm: Layer


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of branches."""

    terms: "tuple[Folded, ...]"


#: What one conv or FC of the result is made of.
Folded = Weights | Identity | Normed | Sum


@dataclass(frozen=True, slots=True)
class Left:
    """A sum, or a batch normalisation, that stays as it is."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is folded, and the net that results."""

    network: Network
    """The result. Its layers have their names in the original net, and a conv made of branches
    the name of one of them."""

    folded: Mapping[str, Folded]
    """For each layer of the result that is made of several: of what."""

    norms: frozenset[str]
    """The batch normalisations that are gone."""

    sums: Mapping[str, str]
    """The sums that are gone, each with the conv of the result in its place."""

    members: Mapping[str, frozenset[str]]
    """The convs that each sum of ``sums`` is made of."""

    left: tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class _Affine:
    """A tensor that is a conv or FC of ``base``."""

    base: str
    op: Op
    folded: Folded
    owner: str
    """The layer whose place and name it takes."""


@dataclass(slots=True)
class _Work:
    network: Network
    kept: Mapping[str, str]
    results: AbstractSet[str]
    users: dict[str, list[str]] = field(default_factory=dict)
    affine: dict[str, _Affine] = field(default_factory=dict)
    norms: dict[str, Layer] = field(default_factory=dict)
    """Batch normalisations that follow no conv, as they may be branches."""

    gone: set[str] = field(default_factory=set)
    sums: dict[str, str] = field(default_factory=dict)
    members: dict[str, frozenset[str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def is_only_for(self, name: str, reader: Layer) -> bool:
        """Whether one layer alone reads a tensor, once."""
        return self.users[name] == [reader.name] and name not in self.results


def plan(network: Network, kept: Mapping[str, str]) -> Plan:
    """Fold all that can be folded; ``kept`` are sums and batch normalisations that must stay, each
    with the reason.
    """
    work = _Work(network, kept, {output.layer for output in network.outputs})
    work.users = {layer.name: [] for layer in network.layers}
    for layer in network.layers:
        for name in layer.inputs:
            work.users.setdefault(name, []).append(layer.name)
    for layer in network.layers:
        match layer.op:
            case Conv() | DepthwiseConv() | Linear():
                own = Weights(layer)
                work.affine[layer.name] = _Affine(layer.inputs[0], layer.op, own, layer.name)
            case BatchNorm():
                _fold_norm(work, layer)
            case Add():
                why = work.kept.get(layer.name) or _fold_sum(work, layer)
                if why is not None:
                    work.left[layer.name] = why
            case _:
                pass
    return _result(work)


def _fold_norm(work: _Work, norm: Layer) -> None:
    source = norm.inputs[0]
    before = work.affine.get(source)
    why = work.kept.get(norm.name)
    if why is None and before is None:
        work.norms[norm.name] = norm
        why = "it follows no conv"
    elif why is None and not work.is_only_for(source, norm):
        work.norms[norm.name] = norm
        why = f"`{source}` is also read without it"
    if why is not None or before is None:
        work.left[norm.name] = str(why)
        return
    work.gone.add(source)
    work.affine[norm.name] = replace(
        before, op=_with_bias(before.op), folded=Normed(before.folded, norm)
    )


def _fold_sum(work: _Work, add: Layer) -> str | None:
    """Fold a sum into one conv; the reason why that is impossible, or None."""
    convs = {
        name: work.affine[name]
        for name in add.inputs
        if name in work.affine
        and work.is_only_for(name, add)
        and not isinstance(work.affine[name].op, Linear)
    }
    if not convs:
        return "no branch of it is a conv"
    bases = {conv.base for conv in convs.values()}
    if len(bases) > 1:
        return MORE_THAN_A_CONV
    (base,) = bases
    terms: list[Folded] = []
    others = 0
    for name in add.inputs:
        norm = work.norms.get(name)
        if name in convs:
            terms.append(convs[name].folded)
        elif norm is not None and norm.inputs[0] == base and work.is_only_for(name, add):
            terms.append(Normed(Identity(), norm))
            others += 1
        elif name == base:
            terms.append(Identity())
            others += 1
        else:
            return MORE_THAN_A_CONV
    channels = work.network.type_of(base).channels
    merged = _merged([conv.op for conv in convs.values()], channels, has_identity=others > 0)
    if isinstance(merged, str):
        return merged
    owner = max(convs.values(), key=lambda conv: _area(conv.op)).owner
    work.affine[add.name] = _Affine(base, merged, Sum(tuple(terms)), owner)
    for name in add.inputs:
        if name != base:
            work.gone.add(name)
            work.left.pop(name, None)
    work.sums[add.name] = owner
    work.members[add.name] = frozenset(_members(work.affine[add.name].folded))
    return None


def _members(folded: Folded) -> Iterator[str]:
    match folded:
        case Weights(layer=layer):
            yield layer.name
        case Normed(of=inner):
            yield from _members(inner)
        case Sum(terms=terms):
            for term in terms:
                yield from _members(term)
        case Identity():
            pass


def _merged(ops: Sequence[Op], channels: int, *, has_identity: bool) -> Op | str:
    """The conv that is a sum of convs of one tensor, or the reason why there is none."""
    plain = [op.of(channels) if isinstance(op, DepthwiseConv) else op for op in ops]
    convs = [op for op in plain if isinstance(op, Conv)]
    assert len(convs) == len(ops), "an FC is no branch"
    first = convs[0]
    if any(conv.stride != first.stride for conv in convs) or (has_identity and first.stride != 1):
        return "its branches have several strides"
    if any(conv.groups != first.groups for conv in convs):
        return "its branches have several numbers of groups"
    dilations = {conv.dilation for conv in convs if conv.kernel_size != (1, 1)}
    if len(dilations) > 1:
        return "its branches have several dilations"
    kernels = [conv.kernel_size for conv in convs] + [(1, 1)] * has_identity
    kernel = max(k[0] for k in kernels), max(k[1] for k in kernels)
    # Windows that are longer by 2 have 1 more of padding: so their middles, and sizes, agree.
    middles = {_middle(conv) for conv in convs} | ({(0, 0)} if has_identity else set())
    if len(middles) > 1 or any((kernel[i] - k[i]) % 2 for k in kernels for i in (0, 1)):
        return "the middles of its windows lie apart"
    (middle,) = middles
    dilation = min(dilations, default=1)
    height, width = ((m + dilation * (k - 1)) // 2 for m, k in zip(middle, kernel, strict=True))
    named = {
        "kernel_size": kernel,
        "stride": first.stride,
        "padding": (height, width),
        "dilation": dilation,
    }
    if all(isinstance(op, DepthwiseConv) for op in ops):
        return DepthwiseConv(**named)  # type: ignore[arg-type]
    return Conv(**named, out_channels=first.out_channels, groups=first.groups)  # type: ignore[arg-type]


def _middle(conv: Conv) -> tuple[int, int]:
    """Twice the distance from the first position's middle to the middle of its window."""
    height, width = (
        2 * pad - conv.dilation * (k - 1)
        for pad, k in zip(conv.padding, conv.kernel_size, strict=True)
    )
    return height, width


def _area(op: Op) -> int:
    assert isinstance(op, AnyConv)
    return op.kernel_size[0] * op.kernel_size[1]


def _with_bias(op: Op) -> Op:
    assert isinstance(op, AnyConv | Linear)
    return replace(op, bias=True)


def _result(work: _Work) -> Plan:
    made: dict[str, _Affine] = {}
    instead: dict[str, str] = {}
    for name, affine in work.affine.items():
        if name not in work.gone and not isinstance(affine.folded, Weights):
            made[affine.owner] = affine
            if name != affine.owner:
                instead[name] = affine.owner
    nodes: list[Node] = []
    for layer in work.network.layers:
        if layer.name in made:
            one = made[layer.name]
            node = Node(name=layer.name, op=one.op, inputs=(one.base,), origin=layer.origin)
            nodes.append(node)
        elif layer.name not in work.gone and layer.name not in instead:
            nodes.append(layer)
    merged = replace_all_uses(work.network, nodes, instead)
    norms = {
        layer.name
        for layer in work.network.layers
        if isinstance(layer.op, BatchNorm) and layer.name not in merged
    }
    left = tuple(Left(name, why) for name, why in work.left.items() if name in merged)
    folded = {name: one.folded for name, one in made.items()}
    return Plan(merged, folded, frozenset(norms), work.sums, work.members, left)
