"""Where in the image the positions of each tensor lie, and which pixels they see.

Each axis by itself: a tensor's first position sees the pixels from ``start`` to ``end``, its middle
lies at ``place``, and the next position lies ``stride`` pixels further. Where a map has become
finer, ``start`` and ``end`` hold what any position sees, and ``size`` is the largest window.
Padding counts as pixels outside of the image, so ``start`` may be negative. Where branches meet, a
position sees all that its inputs see: the hull of their fields, which may lie apart.

Source: Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, gcd, lcm

from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.ops.op import Reach
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.up import reach_of
from vggspec.compiler.tensor import Types

Number = int | Fraction

#: Rows, then columns.
Pair = tuple[Number, Number]

#: The first and the last pixels that positions see which follow each other.
Phases = tuple[Pair, ...]

MAX_PHASES = 4096
"""Of larger numbers what all of them see counts as what each sees."""

#: What an op sees that computes each position from the one in its place.
ITS_PLACE = Reach()


@dataclass(frozen=True, slots=True)
class Field:
    """The positions of a tensor in pixels of the image; pairs are (rows, columns)."""

    seen: tuple[Phases, Phases] = (((0, 0),), ((0, 0),))
    """The first and the last pixel that the first position sees, in rows and in columns. Where a
    map has become finer, not all positions see as much: then those of the first few, after which it
    is the same again.
    """

    stride: Pair = (1, 1)
    """Pixels from one position to the next; a fraction where a map is finer than the image."""

    place: Pair = (0, 0)
    """The middle of the first position, along the path of its first input."""

    @property
    def start(self) -> Pair:
        """The first pixel that a position sees, as seen from the first one."""
        rows, columns = (
            min([first - i * step for i, (first, _) in enumerate(phases)])
            for phases, step in zip(self.seen, self.stride, strict=True)
        )
        return rows, columns

    @property
    def end(self) -> Pair:
        """The last pixel that a position sees, as seen from the first one."""
        rows, columns = (
            max([last - i * step for i, (_, last) in enumerate(phases)])
            for phases, step in zip(self.seen, self.stride, strict=True)
        )
        return rows, columns

    @property
    def size(self) -> tuple[int, int]:
        """How many pixels a position sees at most, padding included."""
        rows, columns = (
            max([ceil(last - first + 1) for first, last in phases]) for phases in self.seen
        )
        return rows, columns

    def seen_by(self, reach: Reach) -> "Field":
        """The field of a tensor whose positions see ``reach`` of this one's."""
        if reach == ITS_PLACE:
            return self
        axes = [
            (
                self._seen_by(reach, i),
                self.stride[i] * reach.stride[i],
                self.place[i] + self.stride[i] * (reach.start[i] + _half(reach.size[i] - 1)),
            )
            for i in (0, 1)
        ]
        seen, stride, place = (pair for pair in zip(*axes, strict=True))
        return Field(seen, stride, place)

    def _seen_by(self, reach: Reach, axis: int) -> Phases:
        """The first and last pixels along an axis of positions that see ``reach``."""
        ratio = Fraction(reach.stride[axis])
        period = len(self.seen[axis])
        number = ratio.denominator * (period // gcd(ratio.numerator, period))
        start, end = reach.start[axis], reach.start[axis] + reach.size[axis] - 1
        if number > MAX_PHASES:
            step, origin = self.stride[axis], (self.start[axis], self.end[axis])
            return ((origin[0] + step * start, origin[1] + step * end),)
        return tuple(
            [
                (
                    self.pixels_of(ceil(start + i * ratio), axis)[0],
                    self.pixels_of(floor(end + i * ratio), axis)[1],
                )
                for i in range(number)
            ]
        )

    def pixels_of(self, position: int, axis: int) -> Pair:
        """The first and the last pixel that a position sees."""
        periods, phase = divmod(position, len(self.seen[axis]))
        first, last = self.seen[axis][phase]
        shift = periods * len(self.seen[axis]) * self.stride[axis]
        return first + shift, last + shift

    def hull(self, other: "Field") -> "Field":
        """The field of what is made of two tensors, position by position."""
        axes = []
        for i in (0, 1):
            number = lcm(len(self.seen[i]), len(other.seen[i]))
            pairs = [
                (self.pixels_of(k, i), other.pixels_of(k, i))
                for k in range(min(number, MAX_PHASES))
            ]
            axes.append(tuple([(min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs]))
        return Field(
            (axes[0], axes[1]),
            (max(self.stride[0], other.stride[0]), max(self.stride[1], other.stride[1])),
            self.place,
        )


def fields(network: Network) -> Mapping[str, Field]:
    """The field of each tensor, by the name of the layer that computes it."""
    found = {IMAGE: Field()}
    for layer in network.layers:
        found[layer.name] = field_of(layer, network.types_of(layer), found)
    return found


def field_of(layer: Layer, inputs: Types, found: Mapping[str, Field]) -> Field:
    """The field of a layer's output; ``inputs`` are the types of what it reads, ``found`` the
    fields.
    """
    seen = found[layer.inputs[0]]
    if isinstance(layer.op, Resize):
        return _resized(seen, found[layer.inputs[1]], bilinear=not layer.op.nearest)
    for name in layer.sources[1:]:
        seen = seen.hull(found[name])
    return seen.seen_by(layer.op.reach(inputs))


def _resized(seen: Field, other: Field, *, bilinear: bool) -> Field:
    """The field of a map that is interpolated to the size of another one.

    It lies where that one lies. What its positions see, they see where the sizes of both are to
    each other as their strides, as those of a net that halves and doubles are.
    """
    steps = [
        Fraction(wanted) / Fraction(own)
        for own, wanted in zip(seen.stride, other.stride, strict=True)
    ]
    rows, columns = (reach_of(1 / step, bilinear=bilinear) for step in steps)
    reach = Reach((rows[0], columns[0]), (steps[0], steps[1]), (rows[1], columns[1]))
    return replace(seen.seen_by(reach), place=other.place)


def apart(network: Network) -> dict[str, Number]:
    """The joins whose inputs lie in unequal places, and how many pixels they lie apart at most."""
    seen = network.once(fields)
    found: dict[str, Number] = {}
    for layer in network.layers:
        if layer.op.is_join:
            places = [seen[name].place for name in layer.inputs]
            distance = max(max(axis) - min(axis) for axis in zip(*places, strict=True))
            if distance:
                found[layer.name] = distance
    return found


def whole(number: Number) -> int | float:
    """A stride as a number of JSON."""
    return int(number) if number == int(number) else float(number)


def _half(number: Number) -> Number:
    return Fraction(number, 2) if number % 2 else number // 2
