"""Assigns the tensors of a checkpoint to the layers of a net.

Shapes decide where they can. Between layers of one shape the order decides: that of the file,
if it has one, checked against the names if those have one. Ambiguous cases are refused: swapped
weights of one shape give wrong answers silently.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Literal, cast

import numpy as np

from vggspec.base.catalogue import artefacts, importing, onnx_models
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.fields import short
from vggspec.base.short_repr import short_repr
from vggspec.base.wording import nearest
from vggspec.compiler.importing.branches import Dependences, is_called_after, normed_layer
from vggspec.compiler.importing.checkpoint import Checkpoint
from vggspec.compiler.importing.collection_names import COLLECTIONS, NoNamesError, names_in
from vggspec.compiler.importing.layouts import (
    LAYOUTS,
    Change,
    Layout,
    Slot,
    change_for,
    slots_of,
    vector,
)
from vggspec.compiler.importing.modules import (
    Module,
    Role,
    UnclearError,
    best_order,
    in_order,
    is_of_classifier,
    modules_of,
    relation,
)
from vggspec.compiler.ir import IMAGE, Network
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.weights import Array
from vggspec.data.imagenet import CLASSES

Part = Literal["features"]

MAX_DEPTH = 12
"""Parts of a name that may be what a net's names share."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller knows about a checkpoint."""

    layout: Layout | None = None
    pairs: Mapping[str, str] = field(default_factory=dict)
    """Layers of ours, each with a layer of the checkpoint."""

    ignored: tuple[str, ...] = ()
    """Layers, groups of layers or tensors of the checkpoint that are no part of the net."""

    only: Part | None = None
    """The part of the net that takes weights; None is the whole."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of ours with its module."""

    slot: Slot
    module: Module
    change: Change

    @property
    def is_flattened(self) -> bool:
        """Whether it takes a map of several channels and positions as one row of numbers."""
        kernel = self.slot.kernel
        is_map = kernel is not None and kernel[1] > 1 and kernel[2] * kernel[3] > 1
        return is_map and self.module.weight.shape != self.change.apart

    def in_words(self) -> str:
        """``conv1_1 ← features.0 (64 × 3 × 3 × 3)``."""
        shape = self.module.tensors.get("weight", self.module.tensors.get("running_mean"))
        assert shape is not None
        return f"{self.slot.layer.name} ← {self.module.title} ({by(shape.shape)})"


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The net's parameters, by our names and in our shapes, and where they come from."""

    arrays: dict[str, Array]
    pairs: tuple[Pair, ...]
    layout: Layout
    is_layout_guessed: bool
    """Whether the shapes fit other layouts as well, and the names decided."""

    unused: tuple[str, ...]
    """Tensors that no layer takes."""

    by_place: tuple[str, ...] = ()
    """Layers on different branches that could have each other's weights: the place in the file
    decided, and no name says the same."""

    @property
    def num_parameters(self) -> int:
        """How many numbers were taken, without running statistics."""
        params = [param for pair in self.pairs for param in pair.slot.layer.params]
        return sum(param.num_elements for param in params if param.is_trained)


class _MisfitError(Exception):
    """The modules are not those of the net."""

    def __init__(self, what: Diagnostic, fitting: int = 0) -> None:
        super().__init__(what.title())
        self.what = what
        self.fitting = fitting


class _UnclearError(Exception):
    """The modules fit, but their assignment is ambiguous."""

    def __init__(self, what: Diagnostic) -> None:
        super().__init__(what.title())
        self.what = what


def match(network: Network, checkpoint: Checkpoint, hints: Hints) -> Matched:
    """The net's parameters, found among the tensors of a checkpoint.

    Raises:
        VggspecError: the checkpoint is another net's, the assignment is ambiguous, or a
            tensor that is used contains NaN or infinities.
    """
    try:
        return _Matching(network, checkpoint, hints).matched()
    except (_MisfitError, _UnclearError) as error:
        raise VggspecError(report(error.what, path=checkpoint.path)) from error


class _Matching:
    def __init__(self, network: Network, checkpoint: Checkpoint, hints: Hints) -> None:
        self._network, self._checkpoint, self._hints = network, checkpoint, hints
        self._slots = _in_part(slots_of(network), hints.only)
        self._dependences = Dependences(network)
        self._named = list(_named(network))
        names = list(checkpoint.tensors)
        # A file sorted by name does not record the order of layers.
        self._by_file = checkpoint.has_order and names != sorted(names)
        self._modules = modules_of(checkpoint.tensors)
        for ignored in hints.ignored:
            left = [module for module in self._modules if not module.is_within(ignored)]
            if len(left) == len(self._modules) and ignored not in checkpoint.tensors:
                reason = "the checkpoint has no layer or tensor of this name"
                raise _MisfitError(importing.BadName(option=f"--ignore {ignored}", reason=reason))
            self._modules = left
        self._chosen = self._read_pairs(hints.pairs)

    def _read_pairs(self, pairs: Mapping[str, str]) -> dict[str, Module]:
        """``--map``: layers of ours with modules, which may be named without what all share."""
        ours = {slot.layer.name for slot in self._slots}
        found: dict[str, Module] = {}
        taken: set[int] = set()
        by_name: dict[str, list[Module]] = {}
        for module in self._modules:
            for name in {module.name, *module.names.values()}:
                by_name.setdefault(name, []).append(module)
        for layer, theirs in pairs.items():
            option = f"--map {layer}={theirs}"
            if layer not in ours:
                likely = nearest(layer, sorted(ours))
                raise _MisfitError(
                    importing.BadName(
                        option=option,
                        reason=f"net {self._network.name} has no layer `{layer}` with weights",
                        suggestion=f"--map {likely}={theirs}" if likely else None,
                    )
                )
            named = by_name.get(theirs) or [
                m for m in self._modules if m.name.endswith((f".{theirs}", f"/{theirs}"))
            ]
            if len(named) != 1:
                likely = nearest(theirs, [m.name for m in self._modules])
                raise _MisfitError(
                    importing.BadName(
                        option=option,
                        reason=f"the checkpoint has {'several' if named else 'no'} `{theirs}`",
                        suggestion=f"--map {layer}={likely}" if likely and not named else None,
                    )
                )
            if id(named[0]) in taken:
                reason = f"`{theirs}` is another layer's already"
                raise _MisfitError(importing.BadName(option=option, reason=reason))
            found[layer] = named[0]
            taken.add(id(named[0]))
        return found

    def matched(self) -> Matched:
        certain, given = self._checkpoint.known.layout, self._hints.layout
        if certain is not None and given not in (None, certain):
            reason = f"the kernels of this format are {certain}"
            raise _MisfitError(importing.BadName(option=f"--layout {given}", reason=reason))
        known = given or certain
        layouts = LAYOUTS if known is None else (known,)
        fitting: dict[Layout, tuple[Pair, ...]] = {}
        misfits: list[tuple[Layout, _MisfitError]] = []
        for layout in layouts:
            try:
                fitting[layout] = self._in_layout(layout)
            except _MisfitError as error:
                misfits.append((layout, error))
        if not fitting:
            # The layout in which most layers fit is the likeliest.
            raise max(misfits, key=lambda misfit: misfit[1].fitting)[1]
        is_summed = self._checkpoint.known.is_epsilon_in_variance
        arrays = {layout: _arrays(pairs, is_summed=is_summed) for layout, pairs in fitting.items()}
        layout = next(iter(fitting))
        is_clear = all(_equal(arrays[layout], other) for other in arrays.values())
        if not is_clear:
            likely = self._likely_layout(fitting[layout])
            if likely not in fitting:
                raise _UnclearError(importing.UnclearLayout(layouts=tuple(fitting)))
            layout = likely
        pairs = fitting[layout]
        _check_finite(pairs)
        used = {name for pair in pairs for name in pair.module.names.values()}
        return Matched(
            arrays=arrays[layout],
            pairs=pairs,
            layout=layout,
            is_layout_guessed=not is_clear,
            unused=tuple(name for name in self._checkpoint.tensors if name not in used),
            by_place=self._by_place(pairs, layout),
        )

    def _likely_layout(self, pairs: Sequence[Pair]) -> Layout | None:
        """The layout that the kind of file or the names suggest, where shapes leave it open."""
        writer = self._checkpoint.metadata.get("format")
        of_writers: dict[str | None, Layout] = {
            "pt": "oihw", "mlx": "ohwi", "tf": "hwio", "flax": "hwio", "keras": "hwio",
        }  # fmt: skip
        if writer in of_writers:
            return of_writers[writer]
        if any(pair.module.is_of_tensorflow for pair in pairs):
            return "hwio"
        return "oihw" if self._checkpoint.kind == "pytorch" else None

    def _in_layout(self, layout: Layout) -> tuple[Pair, ...]:
        """The layers with their modules, which are all of the checkpoint or a group of them."""
        try:
            return self._in_group(self._modules, layout)
        except _MisfitError as error:
            misfits = [error]
        found: dict[str, tuple[Pair, ...]] = {}
        taken: list[Module] = []
        for prefix, modules in self._groups():
            try:
                found[prefix] = self._in_group(modules, layout)
            except _MisfitError as error:
                misfits.append(error)
            else:
                taken = modules
        nets = tuple(found)
        if len(nets) == 1:
            nets = tuple(dict.fromkeys((*nets, *self._twins(taken))))
        if len(nets) > 1:
            raise _UnclearError(importing.SeveralNets(prefixes=tuple(map(short, nets))))
        if not found:
            raise max(misfits, key=lambda misfit: misfit.fitting)
        return next(iter(found.values()))

    def _twins(self, group: Sequence[Module]) -> list[str]:
        """Other prefixes in the file under which the layers of a group occur, perhaps with more
        layers; may be empty.
        """
        inside = {module.place for module in group}
        others = {m.name: m for m in self._modules if m.place not in inside and m.is_weighted}
        weighted = [module for module in group if module.is_weighted]
        shared = os.path.commonprefix([m.name for m in weighted])  # noqa: RUF071 (no path)
        length = 1 + max(shared.rfind(mark) for mark in "./")
        ours = {module.name[length:]: module.weight.shape for module in weighted}
        first = next(iter(ours), "")
        begins = [name.removesuffix(first) for name in others if name.endswith(first)]
        return [
            begin[:-1]
            for begin in begins
            if begin[-1:] in ("", ".", "/")
            and all(
                (other := others.get(begin + name)) is not None and other.weight.shape == shape
                for name, shape in ours.items()
            )
        ]

    def _groups(self) -> Iterator[tuple[str, list[Module]]]:
        """Modules whose names begin alike, where these may be the whole net."""
        groups: dict[str, list[Module]] = {}
        for module in self._modules:
            length = 0
            for part in module.path[:MAX_DEPTH][:-1]:
                length += len(part) + 1
                groups.setdefault(module.name[:length], []).append(module)
        needed = sum(not slot.is_norm for slot in self._slots)
        seen = {tuple(module.place for module in self._modules)}
        for prefix, modules in groups.items():
            key = tuple(module.place for module in modules)
            if sum(module.is_weighted for module in modules) >= needed and key not in seen:
                seen.add(key)
                yield prefix[:-1], modules

    def _in_group(self, group: Sequence[Module], layout: Layout) -> tuple[Pair, ...]:
        pairs = {
            name: self._chosen_pair(name, module, layout) for name, module in self._chosen.items()
        }
        taken = {id(module) for module in self._chosen.values()}
        slots = [slot for slot in self._slots if slot.layer.name not in pairs]
        modules = [m for m in group if slots and id(m) not in taken]
        if not any(isinstance(slot.layer.op, Linear) for slot in self._slots):
            modules = _without_classifier(modules, sum(not slot.is_norm for slot in slots))
        by_name = _of_our_names(slots, modules) or self._of_a_collection(slots, modules)
        for is_norm, kind in ((False, "weight layers"), (True, "batch normalisations")):
            ours = [slot for slot in slots if slot.is_norm is is_norm]
            theirs = [m for m in modules if (m.is_norm if is_norm else m.is_weighted)]
            if len(ours) != len(theirs):
                chosen = sum(slot.is_norm is is_norm for slot in self._slots) - len(ours)
                has, needs = len(theirs) + chosen, len(ours) + chosen
                if is_norm and has < needs and self._checkpoint.kind == "onnx":
                    what = onnx_models.FoldedNorms(net=self._network.name, needs=needs, has=has)
                    raise _MisfitError(what, len(pairs))
                why = f"it has {has} {kind}, net {self._network.name} {needs}"
                raise _MisfitError(_unlike(why), len(pairs))
            if by_name:
                pairs |= _pairs(ours, by_name, layout)
                continue
            if is_norm and self._are_on_branches(ours):
                pairs |= self._followers(ours, modules, pairs, layout)
                used = {id(pair.module) for pair in pairs.values()}
                ours = [slot for slot in ours if slot.layer.name not in pairs]
                theirs = [module for module in theirs if id(module) not in used]
            pairs |= self._assigned(ours, theirs, layout)
            listed = slots if is_norm else ours
            self._check_branches(ours, pairs, listed, layout)
        self._check_rest(modules, pairs)
        ordered = tuple(pairs[slot.layer.name] for slot in self._slots)
        self._check_norms(ordered)
        return ordered

    def _of_a_collection(
        self, slots: Sequence[Slot], modules: Sequence[Module]
    ) -> dict[str, Module]:
        """The modules by the names that a collection gives the layers of such a net, where each is
        called so, perhaps behind one prefix; else nothing.
        """
        found = {module.name: module for module in modules}
        for theirs in self._named:
            names = {slot.layer.name: theirs[slot.layer.name] for slot in slots}
            first = next(iter(names.values()), "")
            begins = [name.removesuffix(first) for name in found if name.endswith(first)]
            fitting = [
                begin
                for begin in begins
                if begin[-1:] in ("", ".", "/")
                and all(begin + name in found for name in names.values())
            ]
            if len(fitting) == 1:
                return {layer: found[fitting[0] + name] for layer, name in names.items()}
        return {}

    def _chosen_pair(self, layer: str, module: Module, layout: Layout) -> Pair:
        slot = next(slot for slot in self._slots if slot.layer.name == layer)
        if slot.is_norm != module.is_norm or not (module.is_norm or module.is_weighted):
            what = "batch normalisation" if slot.is_norm else "a conv or FC layer"
            raise _MisfitError(_unlike(f"`{module.title}` is not {what}, as `{layer}` is"))
        return _pair(slot, module, layout)

    def _assigned(
        self, slots: Sequence[Slot], modules: Sequence[Module], layout: Layout
    ) -> dict[str, Pair]:
        """Layers and modules of one kind, as many of these as of those."""
        fits = {
            (i, j): change
            for i, slot in enumerate(slots)
            for j, module in enumerate(modules)
            if (change := _change(slot, module, layout)) is not None
        }
        found: dict[int, int] = {}
        open_slots, open_modules = set(range(len(slots))), set(range(len(modules)))

        def settle() -> bool:
            """Pair one layer or module that only one fits."""
            for i in open_slots:
                at = [j for j in open_modules if (i, j) in fits]
                if not at:
                    raise self._misfit(slots, modules, fits)
                if len(at) == 1:
                    return take(i, at[0])
            for j in open_modules:
                at = [i for i in open_slots if (i, j) in fits]
                if not at:
                    raise self._misfit(slots, modules, fits)
                if len(at) == 1:
                    return take(at[0], j)
            return False

        def take(i: int, j: int) -> bool:
            found[i] = j
            open_slots.remove(i)
            open_modules.remove(j)
            return True

        while open_slots:
            if settle():
                continue
            # The layers that share modules with the first one, and those modules.
            some, theirs = {min(open_slots)}, set[int]()
            while True:
                theirs = {j for j in open_modules if any((i, j) in fits for i in some)}
                more = {i for i in open_slots if any((i, j) in fits for j in theirs)}
                if more == some:
                    break
                some = more
            if len(some) != len(theirs):
                raise self._misfit(slots, modules, fits)
            ours = sorted(some)
            listed = [modules[j] for j in sorted(theirs)]
            try:
                ordered = in_order(listed, by_file=self._by_file)
            except UnclearError as error:
                guess = best_order(listed, by_file=self._by_file)
                raise _unclear(slots, ours, guess, str(error)) from error
            at_place = {id(modules[j]): j for j in theirs}
            for i, module in zip(ours, ordered, strict=True):
                j = at_place[id(module)]
                if (i, j) not in fits:
                    why = f"by their order `{slots[i].layer.name}` takes `{module.title}`, of"
                    raise _unclear(slots, ours, ordered, f"{why} another shape")
                take(i, j)
        return {
            slots[i].layer.name: Pair(slots[i], modules[j], fits[i, j]) for i, j in found.items()
        }

    def _followers(
        self,
        slots: Sequence[Slot],
        modules: Sequence[Module],
        pairs: Mapping[str, Pair],
        layout: Layout,
    ) -> dict[str, Pair]:
        """Batch normalisations that each read one layer alone, with the module that follows, or is
        called after, that layer's; nothing unless there is one for each.
        """
        following = {id(a): b for a, b in pairwise(best_order(self._modules, by_file=True))}
        norms = [module for module in modules if module.is_norm]
        found: dict[str, Pair] = {}
        for slot in slots:
            layer = normed_layer(self._network, slot.layer.name)
            if layer is None:
                continue
            of = pairs[layer].module
            if self._by_file:
                likely = [following[id(of)]] if id(of) in following else []
            else:
                likely = [module for module in norms if is_called_after(module.name, of.name)]
            fitting = [
                module
                for module in likely
                if any(module is norm for norm in norms) and _change(slot, module, layout)
            ]
            if len(fitting) != 1:
                return {}
            found[slot.layer.name] = _pair(slot, fitting[0], layout)
        are_apart = len({id(pair.module) for pair in found.values()}) == len(found)
        return found if are_apart else {}

    def _are_on_branches(self, slots: Sequence[Slot]) -> bool:
        """Whether two batch normalisations of one shape are on different branches."""
        return any(
            a.weight.stored == b.weight.stored
            and self._dependences.are_apart(a.layer.name, b.layer.name)
            for a, b in combinations(slots, 2)
        )

    def _check_branches(
        self,
        slots: Sequence[Slot],
        pairs: Mapping[str, Pair],
        before: Sequence[Slot],
        layout: Layout,
    ) -> None:
        """Refuse layers that took their modules by the order alone, on different branches, unless
        all layers are in the order of the net: authors do not agree which branch is first.

        ``before`` are all layers that took theirs by order, in the order of the net.
        """
        apart = self._apart(slots, pairs, layout)
        if not apart:
            return
        listed = [pairs[slot.layer.name].module for slot in before]
        if self._by_file:
            are_in_order = all(a.place < b.place for a, b in pairwise(listed))
        else:
            are_in_order = all(relation(a.name, b.name) < 0 for a, b in pairwise(listed))
        if not are_in_order:
            theirs = tuple(pairs[slot.layer.name].module.title for slot in apart)
            layers = tuple(slot.layer.name for slot in apart)
            has_order = self._by_file
            raise _UnclearError(
                importing.UnclearBranches(layers=layers, theirs=theirs, has_order=has_order)
            )

    def _apart(
        self, slots: Sequence[Slot], pairs: Mapping[str, Pair], layout: Layout
    ) -> list[Slot]:
        """Layers that each could take the module of another one, on another branch."""
        found = {slot.layer.name for both in self._alike(slots, pairs, layout) for slot in both}
        return [slot for slot in slots if slot.layer.name in found]

    def _alike(
        self, slots: Sequence[Slot], pairs: Mapping[str, Pair], layout: Layout
    ) -> Iterator[tuple[Slot, Slot]]:
        """Two layers on different branches that each could take the module of the other."""
        for a, b in combinations(slots, 2):
            if self._dependences.are_apart(a.layer.name, b.layer.name):
                of_a, of_b = pairs[a.layer.name].module, pairs[b.layer.name].module
                if _change(a, of_b, layout) is not None and _change(b, of_a, layout) is not None:
                    yield a, b

    def _by_place(self, found: Sequence[Pair], layout: Layout) -> tuple[str, ...]:
        """See ``Matched.by_place``; batch normalisations go with the layers that they follow."""
        pairs = {pair.slot.layer.name: pair for pair in found}
        slots = [
            pair.slot
            for name, pair in pairs.items()
            if not pair.slot.is_norm and name not in self._chosen and pair.module.path[-1] != name
        ]
        unsaid = {
            slot.layer.name
            for both in self._alike(slots, pairs, layout)
            if relation(*(pairs[slot.layer.name].module.name for slot in both)) == 0
            for slot in both
        }
        return tuple(name for name in pairs if name in unsaid)

    def _misfit(
        self,
        slots: Sequence[Slot],
        modules: Sequence[Module],
        fits: Mapping[tuple[int, int], Change],
    ) -> _MisfitError:
        """The first layer, in the likeliest order, whose module has another shape."""
        places = {id(module): j for j, module in enumerate(modules)}
        ordered = best_order(modules, by_file=self._by_file)
        fitting = sum((i, places[id(m)]) in fits for i, m in enumerate(ordered))
        for i, module in enumerate(ordered):
            if (i, places[id(module)]) not in fits:
                return _MisfitError(_other_shape(slots[i], module), fitting)
        why = "its layers have the shapes of the net's, in other numbers"
        return _MisfitError(_unlike(why), fitting)

    def _check_rest(self, modules: Sequence[Module], pairs: Mapping[str, Pair]) -> None:
        """Refuse learned tensors that no layer takes."""
        used = {id(pair.module) for pair in pairs.values()}
        unused = [m for m in modules if id(m) not in used and m.is_learned]
        if unused:
            names = tuple(short(name) for module in unused for name in module.names.values())
            what = importing.UnusedWeights(net=self._network.name, tensors=names)
            raise _MisfitError(what, len(pairs))

    def _check_norms(self, pairs: Sequence[Pair]) -> None:
        """Compare batch normalisations with the layers that they follow, if known."""
        modules = best_order([pair.module for pair in pairs], by_file=self._by_file)
        before = list(pairwise(modules))
        if not modules or modules[0].is_norm or any(a.is_norm and b.is_norm for a, b in before):
            return
        if not self._by_file and any(relation(a.name, b.name) == 0 for a, b in before):
            return
        ordered = [id(pair.module) for pair in pairs if not pair.slot.is_norm]
        if ordered != [id(module) for module in modules if not module.is_norm]:
            return  # an order other than the net's does not show which layer follows which
        followed = {id(b): a for a, b in before}
        by_names = {id(b): a for a, b in pairwise(best_order(modules, by_file=False))}
        ours = {pair.slot.layer.name: pair.module for pair in pairs}
        outputs = {id(pair.module): pair.slot.outputs for pair in pairs}
        for pair in pairs:
            name, owner = pair.slot.layer.name, pair.slot.layer.inputs[0]
            while owner in self._network and owner not in ours:
                inputs = self._network[owner].inputs
                owner = inputs[0] if len(inputs) == 1 else IMAGE  # a join has no one before it
            theirs = followed.get(id(pair.module))
            is_other = (
                pair.module.path[-1] != name  # else it is called as ours is
                and owner in ours
                and not (  # the names know better than a file that lists one kind after the other
                    by_names.get(id(pair.module)) is ours[owner]
                    and relation(ours[owner].name, pair.module.name) != 0
                )
                and theirs is not None
                and ours[owner] is not theirs
                and outputs[id(theirs)] == outputs[id(pair.module)]
            )
            if pair.slot.is_norm and is_other and name not in self._chosen:
                assert theirs is not None
                why = (
                    f"there `{pair.module.title}` follows `{theirs.title}`; in the net `{name}`"
                    f" follows `{owner}`, which is `{ours[owner].title}`"
                )
                raise _MisfitError(_unlike(why), len(pairs))


def _named(network: Network) -> Iterator[dict[str, str]]:
    """What the collections that have such a net call its layers."""
    for collection in COLLECTIONS:
        with suppress(NoNamesError):
            yield names_in(network, collection)


def _in_part(slots: list[Slot], part: Part | None) -> list[Slot]:
    """The layers of the features, which end before the first FC layer."""
    ends = [i for i, slot in enumerate(slots) if isinstance(slot.layer.op, Linear)]
    return slots[: ends[0]] if part == "features" and ends else slots


def _arrays(pairs: Iterable[Pair], *, is_summed: bool) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for pair in pairs:
        arrays |= (
            _norm_arrays(pair, is_summed=is_summed) if pair.slot.is_norm else _weight_arrays(pair)
        )
    return arrays


def _check_finite(pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        for role, tensor in pair.module.tensors.items():
            if not np.isfinite(tensor).all():
                name = short(pair.module.names[role])
                what = importing.NotFiniteTensor(layer=pair.slot.layer.name, tensor=name)
                raise _UnclearError(what)


def _pair(slot: Slot, module: Module, layout: Layout) -> Pair:
    change = _change(slot, module, layout)
    if change is None:
        raise _MisfitError(_other_shape(slot, module))
    return Pair(slot, module, change)


def _pairs(slots: Sequence[Slot], modules: Mapping[str, Module], layout: Layout) -> dict[str, Pair]:
    """Each layer with the module of its name."""
    found: dict[str, Pair] = {}
    misfits: list[Diagnostic] = []
    for slot in slots:
        module = modules[slot.layer.name]
        change = _change(slot, module, layout)
        if change is None:
            misfits.append(_other_shape(slot, module))
        else:
            found[slot.layer.name] = Pair(slot, module, change)
    if misfits:
        raise _MisfitError(misfits[0], len(found))
    return found


def _change(slot: Slot, module: Module, layout: Layout) -> Change | None:
    """How the module's weight becomes the slot's; None where it does not, or its bias not."""
    bias = module.tensors.get("bias")
    if bias is not None and vector(bias, slot.outputs) is None:
        return None
    return change_for(slot, _shape(module), layout)


def _unclear(
    slots: Sequence[Slot], ours: Sequence[int], modules: Sequence[Module], why: str
) -> _UnclearError:
    layers = tuple(slots[i].layer.name for i in ours)
    theirs = tuple(module.title for module in modules)
    return _UnclearError(importing.UnclearOrder(layers=layers, theirs=theirs, reason=why))


def _without_classifier(modules: list[Module], needed: int) -> list[Module]:
    """Modules without the FC layers at the end of a net, where these are what is too many."""
    weighted = [module for module in modules if module.is_weighted]
    matrices = [module for module in weighted if module.weight.ndim == 2]
    named = [module for module in weighted if is_of_classifier(module.name)]
    for classifier in (matrices, named):
        if classifier and len(weighted) - len(classifier) == needed:
            left_out = {id(module) for module in classifier}
            return [module for module in modules if id(module) not in left_out]
    return modules


def _of_our_names(slots: Sequence[Slot], modules: Sequence[Module]) -> dict[str, Module]:
    """The modules by our layers' names, where each is called as ours is; else nothing."""
    by_name: dict[str, list[Module]] = {}
    for module in modules:
        by_name.setdefault(module.path[-1], []).append(module)
    names = [slot.layer.name for slot in slots]
    if any(len(by_name.get(name, ())) != 1 for name in names):
        return {}
    return {name: by_name[name][0] for name in names}


def _shape(module: Module) -> tuple[int, ...]:
    if module.is_norm:
        return (module.tensors["running_mean"].size,)
    return module.weight.shape


def _weight_arrays(pair: Pair) -> dict[str, Array]:
    layer, module = pair.slot.layer, pair.module
    weight, *biases = layer.params
    found = {weight.name: pair.change.apply(module.weight, weight.stored)}
    bias = module.tensors.get("bias")
    if not biases:
        if bias is not None and bias.any():
            why = f"`{module.title}` has a bias, and `{layer.name}` none: leave out `no-bias`"
            raise _MisfitError(_unlike(why))
        return found
    if bias is None:
        why = f"`{module.title}` has no bias, which `{layer.name}` needs, unless it is `no-bias`"
        raise _MisfitError(_unlike(why))
    found[biases[0].name] = _vector(bias, pair, "bias", biases[0].stored[0])
    return found


def _norm_arrays(pair: Pair, *, is_summed: bool) -> dict[str, Array]:
    """Batch normalisation; a factor that is not there is 1, an offset that is not there 0. Where
    the file has the sum of the variance and what is added to it, ours is subtracted.
    """
    found = {}
    for param in pair.slot.layer.params:
        role = cast("Role", param.name.rpartition(".")[2])
        tensor = pair.module.tensors.get(role)
        found[param.name] = (
            np.full(param.stored, 1 if role == "weight" else 0, np.float32)
            if tensor is None
            else _vector(tensor, pair, role, param.stored[0])
        )
        if role == "running_var" and is_summed:
            found[param.name] = _without_epsilon(found[param.name], pair)
    return found


def _without_epsilon(summed: Array, pair: Pair) -> Array:
    op = pair.slot.layer.op
    assert isinstance(op, BatchNorm)
    found = (summed.astype(np.float64) - op.eps).astype(np.float32)
    if found.size and not found.min() >= 0:
        name = pair.slot.layer.name
        why = f"`{name}` adds {op.eps:g} to the variance, more than `{pair.module.title}`"
        raise _MisfitError(_unlike(f"{why} does: write `BN(eps 1e-5)`, or less"))
    return found


def _vector(tensor: Array, pair: Pair, role: str, length: int) -> Array:
    found = vector(tensor, length)
    if found is None:
        name, layer = pair.module.title, pair.slot.layer.name
        why = f"the {role} of `{name}` is {by(tensor.shape)}, that of `{layer}` has {length}"
        raise _MisfitError(_unlike(f"{why} numbers"))
    return found


def _equal(some: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    return all(np.array_equal(array, others[name], equal_nan=True) for name, array in some.items())


def _other_shape(slot: Slot, module: Module) -> Diagnostic:
    name = short(module.names.get("weight", module.name))
    if any(change_for(slot, _shape(module), layout) for layout in LAYOUTS):
        bias = module.tensors.get("bias")
        if bias is not None and vector(bias, slot.outputs) is None:
            name = short(module.names["bias"])
            needed = slot.outputs
            return _unlike(f"`{name}` is {by(bias.shape)}, `{slot.layer.name}` needs {needed}")
    shape = _shape(module)
    why = f"`{name}` is {by(shape)}, `{slot.layer.name}` needs {by(slot.takes)}"
    if CLASSES + 1 in shape and slot.takes[0] == CLASSES:
        why += (
            "; 1001 classes are ImageNet's after a background class, as some nets of TensorFlow"
            " have them: write FC-1001"
        )
    return _unlike(why)


def _unlike(why: str) -> Diagnostic:
    return artefacts.UnknownCheckpoint(reason=why)


def by(shape: Iterable[int]) -> str:
    """``64 × 3 × 3 × 3``."""
    return " × ".join(map(str, shape))
