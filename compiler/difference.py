"""The difference of two nets, layer by layer, as bold type shows it in Table 1.

Layers are equal if they are written alike; their names do not matter.
"""

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from vggspec.base.recipe import TestProtocol, TrainRecipe
from vggspec.base.short_repr import short_repr
from vggspec.compiler.cost import NetworkCost, cost
from vggspec.compiler.ir import ImageInput, Layer, Network
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.ops.op import Op
from vggspec.compiler.summary import totals


@dataclass(frozen=True, slots=True)
class LayerPair:
    """A layer of the first net and its counterpart in the second; None where a net has none."""

    first: Op | None
    second: Op | None

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

    @property
    def is_empty(self) -> bool:
        """Whether the nets and their experiments are the same."""
        return not self.changes and all(row.is_same for row in self.rows)

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
        }


def diff(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Difference:
    """Compare two specs: the layers that the second adds and lacks, settings and costs.

    Raises:
        VggspecError: a spec cannot be read or has mistakes.
    """
    return difference(load_network(first), load_network(second))


def difference(first: Lowered, second: Lowered) -> Difference:
    """Compare the written layers, the inputs and the experiments of two nets."""
    ops = [
        [layer.op for layer in one.network.layers if _is_written(one.network, layer)]
        for one in (first, second)
    ]
    pairs = [
        ("", _input(first.network.input), _input(second.network.input)),
        ("train", _train(first.experiment.train), _train(second.experiment.train)),
        ("test", _test(first.experiment.test), _test(second.experiment.test)),
    ]
    changes = [
        Change(section, key, mine[key], other[key])
        for section, mine, other in pairs
        for key in mine
        if mine[key] != other[key]
    ]
    networks = first.network, second.network
    costs = cost(networks[0]), cost(networks[1])
    return Difference(networks, costs, tuple(_align(*ops)), tuple(changes))


def _is_written(network: Network, layer: Layer) -> bool:
    """Whether the spec contains the layer; a dropout may come from the recipe."""
    if not layer.op.is_implied:
        return True
    # An implied layer comes from the text of the layer that it follows.
    before = layer.inputs[0]
    follows = network[before].origin if before in network else None
    return layer.op.syntax is not None and layer.origin != follows


def _align(first: Sequence[Op], second: Sequence[Op]) -> list[LayerPair]:
    """The longest alignment of equal layers; a replacement is in the row of what it replaces.

    A layer goes to the first of several like it, so that what a net adds to a block comes last
    in the block, where Table 1 has it.
    """
    common = _common(first, second)
    rows: list[LayerPair] = []
    removed: list[Op] = []
    added: list[Op] = []

    def flush() -> None:
        rows.extend(LayerPair(*pair) for pair in zip_longest(removed, added))
        removed.clear()
        added.clear()

    i = j = 0
    while i < len(first) or j < len(second):
        if i < len(first) and j < len(second) and first[i] == second[j]:
            flush()
            rows.append(LayerPair(first[i], second[j]))
            i, j = i + 1, j + 1
        elif j == len(second) or (i < len(first) and common[i + 1][j] >= common[i][j + 1]):
            removed.append(first[i])
            i += 1
        else:
            added.append(second[j])
            j += 1
    flush()
    return rows


def _common(first: Sequence[Op], second: Sequence[Op]) -> list["array[int]"]:
    """How many layers ``first[i:]`` and ``second[j:]`` can have in common, for each i and j."""
    numbers: dict[Op, int] = {}
    mine = [numbers.setdefault(op, len(numbers)) for op in first]
    other = [numbers.setdefault(op, len(numbers)) for op in second]
    below = array("H", bytes(2 * (len(other) + 1)))
    table = [below]
    for number in reversed(mine):
        row = array("H", below)
        for j in range(len(other) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if number == other[j] else max(below[j], row[j + 1])
        table.append(row)
        below = row
    return table[::-1]


def _input(image: ImageInput) -> dict[str, str]:
    return {
        "input": f"{image.height}x{image.width} {image.color}",
        "mean": "measured" if image.mean is None else _numbers(image.mean),
        "std": "1" if image.std is None else _numbers(image.std),
        "scale": f"{image.scale:g}",
    }


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
        "decay": f"{recipe.decay:g} on plateau of {recipe.patience} epochs, {recipe.decays} times",
        "stop": f"after {stop}",
        "start": f"{recipe.start}{start}",
        "start from": "; ".join(each.write() for each in recipe.start_from) or "nothing",
        "data": recipe.data or "",
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
