"""The difference of two nets, layer by layer, as bold type shows it in Table 1.

Layers are equal if they are written alike; their names do not matter. Brackets are compared with
brackets, those of one name first, and then what is left of them layer by layer, so that a shortcut
around layers is all that differs where one was added.

The alignment has the most in common that one can have, up to ``EXACT``. Of larger nets those
brackets and layers are aligned first that are the same or have one name; what lies between, where
it is larger still, is compared in pieces, and ``Difference.in_pieces`` counts it.
"""

import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from vggspec.base.recipe import TestProtocol, TrainRecipe
from vggspec.base.short_repr import short_repr
from vggspec.compiler.cost import NetworkCost, cost
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.ops.op import Op
from vggspec.compiler.outline import Bracket, Leaf, Part, Path, Start, outline
from vggspec.compiler.summary import totals
from vggspec.compiler.written import layers_in

NAMED = 7
"""What a name that both specs give to a bracket counts; a layer counts 2."""

EXACT = 1 << 18
"""Up to this product of unlike lines, and 16 times that of layers and brackets, each is compared
with all of the other net: half a second or so.
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a bracket is written with: ``[``, ``+ shortcut``, ``]``; or ``from pool4``."""

    text: str
    is_edge: bool = field(default=False, compare=False)
    """Whether it is indented as its bracket is, and not as the layers in it."""

    def write(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer or mark of the first net and its counterpart in the second; None where a net has
    none.
    """

    first: Op | Mark | None
    second: Op | Mark | None
    depths: tuple[int, int] = (0, 0)
    """In how many brackets each stands."""

    @property
    def is_same(self) -> bool:
        """Whether both nets have the layer."""
        return self.first == self.second


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs: of the input, or a setting of a section."""

    section: str
    key: str
    first: str
    second: str


@short_repr
@dataclass(frozen=True, slots=True)
class Difference:
    """Two nets side by side."""

    networks: tuple[Network, Network]
    costs: tuple[NetworkCost, NetworkCost]
    rows: tuple[LayerPair, ...]
    changes: tuple[Change, ...]
    in_pieces: int = 0
    """How many brackets and layers in a row, none of which is in the other net, were compared in
    pieces, in their order: others of them may have more in common. 0 for an exact comparison.
    """

    @property
    def is_empty(self) -> bool:
        """Whether the nets and their experiments are the same."""
        return not self.changes and all(row.is_same for row in self.rows)

    @property
    def renamed(self) -> tuple[tuple[str, str], ...]:
        """Where the layers are the same: weight layers whose names differ, by which weights files
        go.
        """
        if not all(row.is_same for row in self.rows):
            return ()
        first, second = ([each.name for each in one.weight_layers] for one in self.networks)
        pairs = zip(first, second, strict=False)
        return tuple(pair for pair in pairs if pair[0] != pair[1])

    def as_data(self) -> dict[str, object]:
        """The comparison for JSON."""
        first, second = map(totals, self.networks, self.costs)
        return {
            "first": first,
            "second": second,
            "layers": [
                {
                    "first": row.first.write() if row.first else None,
                    "second": row.second.write() if row.second else None,
                    "same": row.is_same,
                }
                for row in self.rows
            ],
            "settings": [
                {
                    "section": change.section or None,
                    "key": change.key,
                    "first": change.first,
                    "second": change.second,
                }
                for change in self.changes
            ],
            "renamed": [list(pair) for pair in self.renamed],
        }


def diff(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Difference:
    """Compare two specs: the layers that the second adds and lacks, settings and costs.

    Raises:
        VggspecError: a spec cannot be read or has mistakes.
    """
    return difference(load_network(first), load_network(second))


def difference(first: Lowered, second: Lowered) -> Difference:
    """Compare the written layers, the inputs and the experiments of two nets."""
    codes = _Codes()
    mine, other = (_elements(outline(one.network, one.steps), codes) for one in (first, second))
    pairs = [
        ("", _input(first), _input(second)),
        ("train", _train(first.experiment.train), _train(second.experiment.train)),
        ("test", _test(first.experiment.test), _test(second.experiment.test)),
    ]
    changes = [
        Change(section, key, values[key], others[key])
        for section, values, others in pairs
        for key in values
        if values[key] != others[key]
    ]
    networks = first.network, second.network
    costs = cost(networks[0]), cost(networks[1])
    cut: list[int] = []
    rows = tuple(_align(mine, other, cut))
    return Difference(networks, costs, rows, tuple(changes), max(cut, default=0))


@dataclass(frozen=True, slots=True)
class _Group:
    """A bracket with branches."""

    join: str
    paths: "tuple[tuple[_Element, ...], ...]"
    names: tuple[str, ...] = field(compare=False)
    is_named: bool = field(compare=False)
    codes: tuple[tuple[int, ...], ...] = field(compare=False)
    """The paths in numbers: hundreds of brackets are compared with as many others."""

    is_nested: bool = field(compare=False)
    """Whether there are brackets in it."""

    size: int = field(compare=False)
    """How many lines it takes."""


_Element = Op | Mark | _Group
_Line = tuple[Op | Mark, int]


class _Codes(dict[_Element, int]):
    """A number for each element that is unlike the others."""

    def __missing__(self, element: _Element) -> int:
        self[element] = len(self)
        return self[element]


def _elements(parts: Sequence[Part], codes: _Codes) -> tuple[_Element, ...]:
    """What is compared of a path; a bracket without branches is a part of it."""
    found: list[_Element] = []
    for part in parts:
        match part:
            case Leaf(written=op):
                found.append(op if op.syntax is not None else Mark(op.write()))
            case Start(source=source):
                found.append(Mark(f"from {source}"))
            case Bracket(join=None, paths=paths):
                for path in paths:
                    found += _of_path(path, codes)
            case Bracket(join=join, paths=paths):
                first, *others = (_of_path(path, codes) for path in paths)
                branches = [first]
                for branch in others:
                    mark, *rest = branch
                    if isinstance(mark, Mark):
                        branches.append((Mark(f"{join} {mark.text}", is_edge=True), *rest))
                    else:
                        branches.append((Mark(f"{join}", is_edge=True), *branch))
                group = _Group(
                    f"{join}",
                    tuple(branches),
                    part.names,
                    part.is_named,
                    tuple(tuple(map(codes.__getitem__, branch)) for branch in branches),
                    any(isinstance(one, _Group) for branch in branches for one in branch),
                    2 + sum(map(_size, branches)),
                )
                found.append(group)
    return tuple(found)


def _of_path(path: Path, codes: _Codes) -> tuple[_Element, ...]:
    parts = _elements(path.parts, codes)
    if path.source is not None:
        return (Mark(f"from {path.source}"), *parts)
    return parts or (Mark("identity"),)


def _size(elements: Iterable[_Element]) -> int:
    """How many lines they take."""
    return sum(one.size if isinstance(one, _Group) else 1 for one in elements)


def _align(
    first: Sequence[_Element], second: Sequence[_Element], cut: list[int], depth: int = 0
) -> list[LayerPair]:
    """The longest alignment of equal layers; a replacement is in the row of what it replaces.

    A layer goes to the first of several like it, so that what a net adds to a block comes last
    in the block, where Table 1 has it. The lengths of what is compared in pieces are added to
    ``cut``.
    """
    rows: list[LayerPair] = []
    removed: list[_Line] = []
    added: list[_Line] = []
    for one, other in _pairs(first, second, cut):
        if one is None or other is None:
            removed += [] if one is None else _lines(one, depth)
            added += [] if other is None else _lines(other, depth)
            continue
        rows += _left(removed, added)
        removed, added = [], []
        if isinstance(one, _Group) and isinstance(other, _Group):
            rows.append(LayerPair(Mark("["), Mark("["), (depth, depth)))
            for mine, others in zip_longest(one.paths, other.paths, fillvalue=()):
                rows += _align(mine, others, cut, depth + 1)
            rows.append(LayerPair(Mark("]"), Mark("]"), (depth, depth)))
        else:
            [(line, at)] = _lines(one, depth)
            rows.append(LayerPair(line, line, (at, at)))
    return rows + _left(removed, added)


def _left(removed: Sequence[_Line], added: Sequence[_Line]) -> list[LayerPair]:
    """The rows of what is not in both: a layer may be, where one net alone has a bracket."""
    rows: list[LayerPair] = []
    some: list[tuple[_Line | None, _Line | None]] = []
    mine, others = [line for line, _ in removed], [line for line, _ in added]
    i = j = 0

    def flush() -> None:
        only = [one for one, _ in some if one], [other for _, other in some if other]
        for one, other in zip_longest(*only):
            depths = (one[1] if one else 0, other[1] if other else 0)
            rows.append(LayerPair(one and one[0], other and other[0], depths))
        some.clear()

    for one, other in _pairs_of_layers(mine, others, are_marks_equal=False):
        before = removed[i] if one is not None else None
        after = added[j] if other is not None else None
        i, j = i + (one is not None), j + (other is not None)
        if before is None or after is None:
            some.append((before, after))
            continue
        flush()
        rows.append(LayerPair(before[0], after[0], (before[1], after[1])))
    flush()
    return rows


def _lines(element: _Element, depth: int) -> list[_Line]:
    """An element as lines, each with how far it is indented."""
    if isinstance(element, _Group):
        inner = [line for path in element.paths for one in path for line in _lines(one, depth + 1)]
        return [(Mark("["), depth), *inner, (Mark("]"), depth)]
    is_edge = isinstance(element, Mark) and element.is_edge
    return [(element, depth - is_edge)]


_Pair = tuple[_Element | None, _Element | None]


def _pairs(
    first: Sequence[_Element], second: Sequence[_Element], cut: list[int]
) -> Iterator[_Pair]:
    """The elements of both in order: pairs, and those that only one has."""
    if not all(any(isinstance(one, _Group) for one in each) for each in (first, second)):
        yield from _pairs_of_layers(first, second)
    elif _pieces(first, second) == 1:
        yield from _best_pairs(first, second)
    else:
        some: list[_Pair] = []
        for one, other in _anchors(first, second):
            if one is None or other is None:
                some.append((one, other))
                continue
            yield from _between(some, cut)
            some.clear()
            yield one, other
        yield from _between(some, cut)


def _anchors(first: Sequence[_Element], second: Sequence[_Element]) -> Iterator[_Pair]:
    """The pairs of elements that are the same, or brackets to which both specs give one name."""
    places: dict[_Element | tuple[str, str], int] = {}
    for j, one in enumerate(second):
        for key in _keys(one):
            places[key] = places.get(key, 0) | 1 << (len(second) - 1 - j)

    def matches(element: _Element) -> int:
        found = 0
        for key in _keys(element):
            found |= places.get(key, 0)
        return found

    return _longest(first, second, [matches(one) for one in first])


def _keys(element: _Element) -> list[_Element | tuple[str, str]]:
    """What elements have in common that are paired before others."""
    if not isinstance(element, _Group) or not element.is_named:
        return [element]
    return [element, *((element.join, name) for name in element.names)]


def _between(some: Sequence[_Pair], cut: list[int]) -> Iterator[_Pair]:
    """The pairs of what lies between two anchors, of which nothing is the same in both nets."""
    first = [one for one, _ in some if one is not None]
    second = [other for _, other in some if other is not None]
    pieces = min(_pieces(first, second), max(len(first), len(second), 1))
    if pieces > 1:
        cut.append(max(len(first), len(second)))
    for k in range(pieces):
        mine, others = (
            each[k * len(each) // pieces : (k + 1) * len(each) // pieces]
            for each in (first, second)
        )
        yield from _best_pairs(mine, others)


def _pieces(first: Sequence[_Element], second: Sequence[_Element]) -> int:
    """Into how many pieces to cut both, so that comparing all in each takes no longer than that."""
    unlike = _size(set(first)) * _size(set(second)) // EXACT
    return 1 + max(math.isqrt(unlike), math.isqrt(len(first) * len(second) // (16 * EXACT)))


def _pairs_of_layers(
    first: Sequence[_Element], second: Sequence[_Element], *, are_marks_equal: bool = True
) -> Iterator[_Pair]:
    """As ``_pairs``, where no brackets are compared: elements are equal or not."""
    places: dict[_Element, int] = {}
    for j, one in enumerate(second):
        if are_marks_equal or not isinstance(one, Mark):
            places[one] = places.get(one, 0) | 1 << (len(second) - 1 - j)
    return _longest(first, second, [places.get(one, 0) for one in first])


def _longest(
    first: Sequence[_Element], second: Sequence[_Element], matches: Sequence[int]
) -> Iterator[_Pair]:
    """The longest common subsequence, where bit ``len(second) - 1 - j`` of ``matches[i]`` says that
    ``first[i]`` and ``second[j]`` match. A row of its table is a number, whose zeros are the steps
    of the row (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
    """
    width = len(second)
    row = (1 << width) - 1
    rows = [row]
    for match in reversed(matches):
        step = row & match
        row = ((row + step) | (row - step)) & rows[0]
        rows.append(row)
    rows.reverse()

    def length(i: int, j: int) -> int:
        """Of the longest common subsequence from ``i`` and ``j`` on."""
        return width - j - (rows[i] & ((1 << (width - j)) - 1)).bit_count()

    i = j = 0
    while i < len(first) or j < width:
        if i < len(first) and j < width and matches[i] >> (width - 1 - j) & 1:
            yield first[i], second[j]
            i, j = i + 1, j + 1
        elif j == width or (i < len(first) and length(i + 1, j) >= length(i, j + 1)):
            yield first[i], None
            i += 1
        else:
            yield None, second[j]
            j += 1


def _best_pairs(first: Sequence[_Element], second: Sequence[_Element]) -> Iterator[_Pair]:
    """As ``_pairs``: those that have the most in common altogether."""
    table = _common(first, second)
    i = j = 0
    while i < len(first) or j < len(second):
        both = i < len(first) and j < len(second)
        alike = _weight(first[i], second[j]) if both else 0
        if alike and table[i][j] == alike + table[i + 1][j + 1]:
            yield first[i], second[j]
            i, j = i + 1, j + 1
        elif j == len(second) or (i < len(first) and table[i + 1][j] >= table[i][j + 1]):
            yield first[i], None
            i += 1
        else:
            yield None, second[j]
            j += 1


def _weight(first: _Element, second: _Element) -> int:
    """How much two elements have in common: 2 a layer, and more for the name of a bracket,
    most for one that the spec gives.
    """
    if isinstance(first, _Group) and isinstance(second, _Group):
        inside = _inside(first, second)
        return inside and inside + _of_names(first, second)
    return 2 * (first == second)


def _inside(first: _Group, second: _Group) -> int:
    """How much two brackets have in common but for their names; 0 for a sum and a join."""
    if first.join != second.join:
        return 0
    if first.is_nested and second.is_nested and first.size * second.size <= EXACT:
        paths = zip(first.paths, second.paths, strict=False)
        return 2 + sum(_common(mine, others)[0][0] for mine, others in paths)
    codes = zip(first.codes, second.codes, strict=False)
    return 2 + sum(_common_codes(mine, others) for mine, others in codes)


def _common_codes(first: Sequence[int], second: Sequence[int]) -> int:
    """How much two paths have in common that do not both have brackets in them."""
    shared = set(first).intersection(second)
    if not shared:
        return 0
    mine, others = ([code for code in codes if code in shared] for codes in (first, second))
    if mine == others or len(shared) == 1:
        return 2 * min(len(mine), len(others))
    rows = ([2 * (code == other) for other in others] for code in reversed(mine))
    return _table(rows, len(others))[0][0]


def _of_names(first: _Group, second: _Group) -> int:
    if set(first.names).isdisjoint(second.names):
        return 0
    return NAMED if first.is_named and second.is_named else 1


def _common(first: Sequence[_Element], second: Sequence[_Element]) -> list["array[int]"]:
    """How much ``first[i:]`` and ``second[j:]`` can have in common, for each i and j."""
    codes = _Codes()
    others = [codes[one] for one in second]
    groups = {codes[one]: one for one in second if isinstance(one, _Group)}
    named: dict[str, list[int]] = {}
    for j, one in enumerate(second):
        for name in one.names if isinstance(one, _Group) else ():
            named.setdefault(name, []).append(j)
    alike: dict[int, list[int]] = {}  # the names of brackets apart

    def row(element: _Element) -> list[int]:
        """How much an element has in common with each of ``second``."""
        code = codes[element]
        if code not in alike:
            weights = {code: 2}
            if isinstance(element, _Group):
                weights = {code: _inside(element, group) for code, group in groups.items()}
            alike[code] = [weights.get(other, 0) for other in others]
        if not isinstance(element, _Group):
            return alike[code]
        found = alike[code].copy()
        for j in {j for name in element.names for j in named.get(name, ()) if found[j]}:
            other = second[j]
            assert isinstance(other, _Group)
            found[j] += _of_names(element, other)
        return found

    return _table(map(row, reversed(first)), len(second))


def _table(rows: Iterable[Sequence[int]], width: int) -> list["array[int]"]:
    """The sums of the best pairs of two sequences from each i and j on, by the weight of each pair;
    ``rows`` come from the last to the first.
    """
    below = [0] * (width + 1)
    table = [array("H", below)]
    for weights in rows:
        best = 0
        row = [0] * (width + 1)
        for j in range(width - 1, -1, -1):
            if below[j] > best:
                best = below[j]
            if weights[j] and weights[j] + below[j + 1] > best:
                best = weights[j] + below[j + 1]
            row[j] = best
        table.append(array("H", row))
        below = row
    return table[::-1]


def _input(net: Lowered) -> dict[str, str]:
    image = net.network.input
    return {
        "input": f"{image.height}x{image.width} {image.color}",
        "mean": "measured" if image.mean is None else _numbers(image.mean),
        "std": "1" if image.std is None else _numbers(image.std),
        "scale": f"{image.scale:g}",
        "conv is": _meaning(net),
        "outputs": "" if net.spec.outputs is None else _names(net),
    }


def _names(net: Lowered) -> str:
    return " ".join(output.name for output in net.network.outputs)


def _meaning(net: Lowered) -> str:
    """What each conv stands for."""
    meanings = (layer.meaning for layer in layers_in(net.steps) if layer.meaning is not None)
    meaning = next(meanings, None)
    if meaning is None:
        return "conv ReLU"
    options = ", ".join(
        " ".join(word.text for word in option.words) for option in meaning.item.options
    )
    conv = f"conv({options})" if options else "conv"
    words = [*(op.write() for op in meaning.before), conv, *(op.write() for op in meaning.after)]
    return " ".join("ReLU" if word == "relu" else word for word in words)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _train(recipe: TrainRecipe) -> dict[str, str]:
    low, high = recipe.scale
    stop = (
        f"{recipe.epochs} epochs"
        if recipe.epochs is not None
        else f"{recipe.iterations} iterations"
    )
    start = f" {recipe.start_std:g}" if recipe.start == "normal" else ""
    return {
        "scale": str(low) if low == high else f"{low}..{high}",
        "flip": _on_off(recipe.flip),
        "colour-shift": f"{recipe.colour_shift:g}",
        "batch": str(recipe.batch),
        "momentum": f"{recipe.momentum:g}",
        "weight-decay": f"{recipe.weight_decay:g}",
        "dropout": f"{recipe.dropout:g}",
        "rate": f"{recipe.rate:g}",
        "decay": recipe.decays_in_words(),
        "stop": f"after {stop}",
        "start": f"{recipe.start}{start}",
        "start from": "; ".join(each.write() for each in recipe.start_from) or "nothing",
        "data": recipe.data or "",
        **recipe.additions_in_words(),
    }


def _test(protocol: TestProtocol) -> dict[str, str]:
    return {
        "scale": ", ".join(map(str, protocol.scales)),
        "dense": _on_off(protocol.dense),
        "crops": "off" if protocol.crops is None else f"{protocol.crops}x{protocol.crops}",
        "flip": _on_off(protocol.flip),
        "average": protocol.average,
        "resize": protocol.resize,
    }


def _on_off(value: bool) -> str:  # noqa: FBT001
    return "on" if value else "off"
