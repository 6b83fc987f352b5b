"""``vggspec.merge``: a trained net with its branches and batch normalisations folded into convs."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vggspec.base.arguments import StrPath
from vggspec.base.catalogue.graphs import FalseDepth, FalseMacs
from vggspec.base.catalogue.layers import FalseParameters, FalseWeightLayers
from vggspec.base.catalogue.merging import NothingToMerge, NotWritable
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.files import is_same_file, replacing_file, restored_on_failure
from vggspec.base.render import shown
from vggspec.base.short_repr import short_repr
from vggspec.base.source import Source
from vggspec.base.watcher import SILENT, Watcher
from vggspec.compiler.claims import falsehood
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network, lower
from vggspec.compiler.merging.numbers import MergedNumbers
from vggspec.compiler.merging.pairing import pairs
from vggspec.compiler.merging.plan import Left, Plan, plan
from vggspec.compiler.merging.text import Writer, Written, must_stay, written
from vggspec.compiler.ops.op import Activation
from vggspec.compiler.passes.drop_training_ops import DropTrainingOps
from vggspec.compiler.weights import Array, for_net, layers_sha256, open_weights, write
from vggspec.compiler.written import (
    WrittenFrom,
    WrittenGroup,
    WrittenLayer,
    WrittenStep,
    layers_in,
)
from vggspec.lang.ast import Claim, Word
from vggspec.lang.loading import net_name, pick
from vggspec.lang.packaged import SUFFIX
from vggspec.lang.parser import parse


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A net of which branches and batch normalisations were folded into convs."""

    spec: str
    """The file of the merged net."""

    weights: str
    """The file of its weights."""

    before: Network
    network: Network
    """The merged net."""

    sums: tuple[str, ...]
    """The sums that became convs."""

    norms: tuple[str, ...]
    """The batch normalisations that became a part of convs."""

    left: tuple[Left, ...]
    """The sums and batch normalisations that stay, each with the reason."""


def merge(
    spec: StrPath, weights: StrPath, *, out: StrPath | None = None, watch: Watcher = SILENT
) -> Merged:
    """Fold branches and batch normalisations of a trained net into convs, as for RepVGG.

    A batch normalisation that alone reads a conv or FC becomes a part of it. A sum whose branches
    are each a conv, a batch normalisation, both or nothing becomes one conv of the largest window.
    What the result computes at inference is the same. The rest stays as it is.

    ``out`` is the spec of the result, ``<net>-merged.vgg`` in the working folder by default; its
    weights are beside it, in a file that ends in ``.safetensors``. Files there are replaced, with a
    note to ``watch``. Both are written, or neither is.

    Raises:
        VggspecError: the spec has mistakes, nothing of it can be folded, the weights are another
            net's or not finite, or the files cannot be written.
        ArgumentError: ``out`` does not end in ``.vgg``, or is a file that is read.
    """
    lowered = load_network(spec)
    name = f"{net_name(lowered.spec)}-merged"
    path = f"{name}{SUFFIX}" if out is None else os.fspath(out)
    if not path.endswith(SUFFIX):
        message = f"`{shown(path)}` is no name of a spec; it must end in `{SUFFIX}`."
        raise ArgumentError(message)
    weights_path = path.removesuffix(SUFFIX) + ".safetensors"
    given = (lowered.spec.source.name, os.fspath(weights))
    for target in (path, weights_path):
        if any(is_same_file(target, read) for read in given):
            message = f"`{shown(target)}` is a file that is read; name another one."
            raise ArgumentError(message)
    own = pick(parse(Source(lowered.spec.source.name, lowered.text)), net_name(lowered.spec))
    net = written(own, lower(own).network)
    file = for_net(open_weights(weights), net.network, is_read=True)
    planned = _planned(net)
    if not planned.folded:
        why = tuple(f"`{one.name}`: {one.why}" for one in planned.left)
        what = NothingToMerge(net=net.network.name, left=why)
        raise VggspecError(report(what, path=lowered.spec.source.name))
    text, merged, same = _as_text(net, planned, name)
    numbers = MergedNumbers(file, net.network)
    params = {param.name: (param, layer) for layer in merged.layers for param in layer.params}

    def chunks(array: str) -> Iterator[Array]:
        param, layer = params[array]
        return numbers.chunks(param, layer, same[layer.name], planned)

    metadata = replace(file.metadata, net=merged.name, layers_sha256=layers_sha256(merged))
    existed = [target for target in (path, weights_path) if os.path.isfile(target)]
    with restored_on_failure(weights_path), replacing_file(path) as spec_file:
        spec_file.write(text.encode())
        shapes = {array: param.stored for array, (param, _) in params.items()}
        write(weights_path, shapes, chunks, metadata)
    for target in existed:
        watch.note(f"{shown(target)} existed and was replaced")
    return Merged(
        spec=path,
        weights=weights_path,
        before=net.network,
        network=merged,
        sums=tuple(planned.sums),
        norms=tuple(layer.name for layer in net.network.layers if layer.name in planned.norms),
        left=planned.left,
    )


def _planned(net: Written) -> Plan:
    kept: dict[str, str] = {}
    while True:
        found = plan(net.network, kept)
        more = must_stay(net, found)
        if more.keys() <= kept.keys():
            return found
        kept = more | kept


def _as_text(net: Written, planned: Plan, name: str) -> tuple[str, Network, dict[str, str]]:
    """The text of the result, its net, and for each layer the one of the plan's net.

    Names are written only where a layer would be called otherwise, which the text without them
    shows.

    Raises:
        VggspecError: no text was found that has the graph of the plan.
    """
    expected = DropTrainingOps()(planned.network)
    sums = set(planned.sums.values())
    nameable = {layer.name for layer in layers_in(net.steps)} | sums
    activations = {layer.name for layer in layers_in(net.steps) if isinstance(layer.op, Activation)}
    called = set(sums)
    referred = set(_referred(net.steps)) | {output.name for output in net.network.outputs}
    claims: Sequence[Claim] = ()
    while True:
        writer = Writer(net, planned, called)
        text = writer.text(name, claims)
        try:
            merged = lower(parse(Source(f"{name}{SUFFIX}", text)).specs[0]).network
        except VggspecError:
            same = None
        else:
            same = pairs(expected, DropTrainingOps()(merged))
        if same is None:
            # It refers to a layer that is called otherwise here, or two would have one name.
            more = referred & nameable
            if more <= called:
                more = nameable - activations
            if more <= called:
                raise VggspecError(
                    report(NotWritable(net=net.network.name), path=net.spec.source.name)
                )
            called |= more
            continue
        unlike = {old for new, old in same.items() if new != writer.names.get(old, old)}
        unlike &= nameable - activations
        if not unlike <= called:
            called |= unlike
        elif claims or not net.spec.claims:
            return text, merged, same
        else:
            claims = [_true(claim, merged) for claim in net.spec.claims]


def _referred(steps: Sequence[WrittenStep]) -> Iterator[str]:
    """The names that paths begin at, and of which sizes are read."""
    for step in steps:
        if isinstance(step, WrittenLayer) and step.source is not None:
            yield step.source
        if isinstance(step, WrittenFrom):
            yield step.name
        elif isinstance(step, WrittenGroup):
            for branch in step.branches:
                if branch.source is not None:
                    yield branch.source
                yield from _referred(branch.steps)


def _true(claim: Claim, network: Network) -> Claim:
    """The claim with the number that the net has, in as many digits."""
    false = falsehood(claim, network)
    match None if false is None else false[0]:
        case FalseParameters(rounded=number) | FalseMacs(rounded=number):
            text = number
        case FalseWeightLayers(actual=actual) | FalseDepth(actual=actual):
            text = str(actual)
        case _:
            return claim
    return replace(claim, number=Word(text, claim.number.span))
