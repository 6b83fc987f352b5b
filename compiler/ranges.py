"""Whether the numbers of a net fit the number types in which it computes.

A layer in fp16 whose numbers pass 65504 gives infinities. A machine that computes fp16 in fp32, as
ONNX Runtime does on a CPU, does not show it; so the largest numbers of each layer are measured in
the fp32 reference and compared with the range of the layer's type. Partial sums inside a
convolution are not measured: hardware accumulates them in fp32 or fp16.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vggspec.bundle.options import Precision
from vggspec.compiler.ir import Network
from vggspec.compiler.ops.add import Add
from vggspec.compiler.precision import LARGEST, number_types, weight_types
from vggspec.compiler.weights import WeightsFile

#: The smallest normal number of a type; smaller ones lose digits.
LEAST_NORMAL: dict[Precision, float] = {"fp32": 2.0**-126, "fp16": 2.0**-14, "bf16": 2.0**-126}

READ_AT_A_TIME = 1 << 20  # numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfRange:
    """A layer whose numbers exceed the range of its number type."""

    layer: str
    what: Literal["output", "input", "weights"]
    largest: float
    """The largest of them in fp32, by its absolute value."""

    precision: Precision
    limit: float
    """The largest number of the type, or, where ``is_small``, the least with all its digits."""

    is_small: bool = False
    """Whether all of them are too small rather than one too large."""

    def in_words(self) -> str:
        """Which numbers, how large, and the bound of their type."""
        where = {"output": "", "input": "the input of ", "weights": "the weights of "}[self.what]
        does = "reach" if self.what == "weights" else "reaches"
        if self.is_small:
            return (
                f"{where}`{self.layer}` {does} {self.largest:.3g} only; below {self.limit:.3g}"
                f" {self.precision} loses digits"
            )
        return (
            f"{where}`{self.layer}` {does} {self.largest:.3g}, and {self.precision} ends at"
            f" {self.limit:.6g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """The result of the comparison."""

    beyond: tuple[OutOfRange, ...]
    """Layers with numbers that become infinite, in their order."""

    small: tuple[OutOfRange, ...]
    """Layers whose numbers all lose digits; the comparison shows whether that matters."""

    keep_fp32: tuple[str, ...]
    """The layers that must compute in fp32 so that nothing is out of range, including those that
        already do."""


def compare(
    network: Network,
    precision: Precision,
    keep_fp32: tuple[str, ...],
    activations: Mapping[str, float],
    weights: Mapping[str, float],
) -> Ranges:
    """The layers whose numbers are out of range.

    ``activations`` has the largest absolute number of each layer's output in fp32 and of the image,
    by name, ``weights`` that of each array. A number that is missing is not compared.
    """
    kept = list(keep_fp32)
    first = _out_of_range(network, precision, kept, activations, weights)
    found = first
    while more := [each.layer for each in found if not each.is_small and each.layer not in kept]:
        # One at a time: what follows a layer that is kept is kept with it, or has to be for that.
        kept.append(more[0])
        found = _out_of_range(network, precision, kept, activations, weights)
    return Ranges(
        beyond=tuple(each for each in first if not each.is_small),
        small=tuple(each for each in first if each.is_small),
        keep_fp32=tuple(kept),
    )


def _out_of_range(
    network: Network,
    precision: Precision,
    keep_fp32: Collection[str],
    activations: Mapping[str, float],
    weights: Mapping[str, float],
) -> list[OutOfRange]:
    types = number_types(network, precision, keep_fp32)
    used_as = weight_types(network, types)
    found = []
    for layer in network.layers:
        own = types[layer.name]
        sizes: list[tuple[Literal["output", "input", "weights"], float, Precision]] = [
            ("weights", weights[param.name], used_as[param.name])
            for param in layer.params
            # A bias may be arbitrarily small: it is added to larger numbers.
            if param.name.endswith(".weight") or weights.get(param.name, 0) > 1
            if param.name in weights
        ]
        sizes += [
            ("input", activations[source], own)
            for source in layer.inputs
            if types.get(source, "fp32") == "fp32" and source in activations
        ]
        if layer.name in activations:
            sizes.append(("output", activations[layer.name], own))
        before_last = layer.inputs[:-1]
        if (
            isinstance(layer.op, Add)
            and len(before_last) > 1
            and activations.keys() >= {*before_last}
        ):
            # What is added up before the last branch may be larger than the sum.
            sizes.append(("output", sum(activations[name] for name in before_last), own))
        of_layer = []
        for what, largest, kind in sizes:
            is_small = 0 < largest < LEAST_NORMAL[kind]
            is_beyond = not largest <= LARGEST[kind]  # a NaN is beyond any limit
            if kind != "fp32" and (is_small or is_beyond):
                limit = (LEAST_NORMAL if is_small else LARGEST)[kind]
                one = OutOfRange(
                    layer=layer.name,
                    what=what,
                    largest=largest,
                    precision=kind,
                    limit=limit,
                    is_small=is_small,
                )
                of_layer.append(one)
        found += sorted(of_layer, key=lambda one: one.is_small)[:1]  # one of a layer will do
    return found


def largest_weights(network: Network, weights: WeightsFile) -> dict[str, float]:
    """The largest absolute number of each array of weights, a piece in memory at a time."""
    found = {}
    for param in network.params():
        flat = weights.read(param.name).reshape(-1)
        parts = (flat[i : i + READ_AT_A_TIME] for i in range(0, flat.size, READ_AT_A_TIME))
        found[param.name] = max((float(np.abs(part).max()) for part in parts), default=0.0)
    return found
