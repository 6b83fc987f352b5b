"""The spec that comes with vggspec and whose layers a checkpoint has, found by their shapes."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vggspec.base.catalogue.importing import NoPackagedSpec, SeveralSpecs
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.importing.checkpoint import Checkpoint
from vggspec.compiler.importing.layouts import slots_of
from vggspec.compiler.importing.matching import Hints, Matched, match
from vggspec.compiler.importing.modules import Module, modules_of
from vggspec.compiler.importing.sources import source_of
from vggspec.compiler.ir import Network
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.summary import packaged_specs

#: Collections whose nets have no local response normalisation.
_WITHOUT_LRN = frozenset({"torchvision", "timm", "mmpretrain", "keras", "tf-slim"})

Sizes = Counter[tuple[bool, int]]
"""How many layers have so many weights, batch normalisations apart; the same in each layout."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    network: Network
    sizes: Sizes


def closest(checkpoint: Checkpoint, hints: Hints) -> tuple[str, Matched]:
    """The name of the spec, and its layers with their tensors.

    Raises:
        VggspecError: no spec has these layers, or several have, or which tensor belongs to which
            layer is open.
    """
    modules = [
        module
        for module in modules_of(checkpoint.tensors)
        if not any(module.is_within(ignored) for ignored in hints.ignored)
    ]
    whole = _sizes_of(modules)
    candidates = list(_candidates())
    found: dict[str, Matched] = {}
    errors: list[VggspecError] = []
    for candidate in candidates:
        if candidate.sizes == whole:
            try:
                found[candidate.name] = match(candidate.network, checkpoint, hints)
            except VggspecError as error:
                errors.append(error)
    if errors and not found:
        raise errors[0]
    found = _likely(found, {each.name: each.network for each in candidates}, checkpoint)
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        raise VggspecError(report(SeveralSpecs(names=tuple(found)), path=checkpoint.path))
    nearest = max(candidates, key=lambda each: _likeness(each.sizes, whole))
    try:
        match(nearest.network, checkpoint, hints)
        reason = "some of its layers have other sizes"
    except VggspecError as error:
        reason = error.reports[0].what.title()
    what = NoPackagedSpec(closest=nearest.name, reason=reason)
    raise VggspecError(report(what, path=checkpoint.path))


def _candidates() -> Iterator[_Candidate]:
    """The packaged nets, each once: those of Table 1 are in files of their own, too."""
    seen = set()
    for spec in packaged_specs():
        for network in spec.nets:
            layers = tuple((layer.name, layer.op, layer.inputs) for layer in network.layers)
            if layers in seen:
                continue
            seen.add(layers)
            name = spec.name if len(spec.nets) == 1 else f"{spec.name}:{network.name}"
            sizes = Counter((slot.is_norm, slot.weight.num_elements) for slot in slots_of(network))
            yield _Candidate(name, network, sizes)


def _likely(
    found: dict[str, Matched], networks: dict[str, Network], checkpoint: Checkpoint
) -> dict[str, Matched]:
    """Without nets that the collection does not have."""
    return {
        name: matched
        for name, matched in found.items()
        if len(found) == 1
        or source_of(matched, checkpoint) not in _WITHOUT_LRN
        or not any(isinstance(layer.op, Lrn) for layer in networks[name].layers)
    }


def _sizes_of(modules: list[Module]) -> Sizes:
    return Counter(
        (module.is_norm, module.tensors["running_mean" if module.is_norm else "weight"].size)
        for module in modules
        if module.is_norm or module.is_weighted
    )


def _likeness(ours: Sizes, theirs: Sizes) -> float:
    """The part of the layers that both have."""
    return (ours & theirs).total() / max((ours | theirs).total(), 1)
