"""For which image sizes the branches of a net meet, proven for all of them.

Rows and columns by themselves. Let ``f(n)`` be the rows of a tensor for an image of n rows, and J
its stride, the product of the strides on a path to it.

1. A conv or a pooling gives ``g(m) = floor((m + a) / s) + b`` rows for every m that it takes, and
   it takes all larger ones. Padding and ``ceil`` are in a and b; the special rules of poolings for
   small maps refuse them, and so change nothing for larger ones. Hence ``g(m + s q) = g(m) + q``.
   Activations and such have ``g(m) = m``, ``gap`` has ``g(m) = 1``. An upconv and ``up`` have
   ``g(m) = m s + b``, hence ``g(m + q) = g(m) + s q``, and divide the stride by s.
2. By induction along a path: if P is a multiple of all strides J on it, then
   ``f(n + P) = f(n) + P / J`` for every n that all its layers take.
3. A join of tensors of one stride J meets at n + P if and only if it meets at n, since both sides
   gain P / J. Its output has the rows of its first input wherever it meets; where it does not, what
   comes after it does not count. Tensors of different strides meet at a few sizes only: refused.

4. A crop takes the rows of the map that it names, which has its stride, wherever its input holds
   them: which ``f(n) - h(n)`` rows decide, and these have the period P by 2. So it meets or not, as
   a join does. ``resize`` takes the rows of the map that it names for every n.

So the P sizes from the least one on prove all, where P is the least common multiple of the strides
of all that joins and crops read. The ops' own ``infer`` is tried at each of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import lcm
from typing import TYPE_CHECKING

from vggspec.base.catalogue.dense import MeetsAtOneSize
from vggspec.base.catalogue.sizes import LongPeriod
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.bundle.sizes import MAX_PERIOD, FittingSizes, Remainders, Size, Sizes, above
from vggspec.compiler.ir import IMAGE, Layer, Network, smallest
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.geometry import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The image sizes that a fully convolutional net takes."""

    least: Size
    """The smallest of them, each axis by itself."""

    sizes: FittingSizes
    """Those of the larger ones at which its branches meet."""


def sizes(network: Network) -> Fitting:
    """The sizes that a fully convolutional network takes.

    Joins of vectors meet for every size.

    Raises:
        VggspecError: branches of different strides meet, or the period is too long to be tried.
    """
    layers = [layer for layer in network.layers if layer.type.is_map]
    read = _ancestors(network, joins_of_maps(network))
    first_row, rows = _along(network, layers, read, 0)
    first_column, columns = first_row, rows
    if not _is_square(network, layers):
        first_column, columns = _along(network, layers, read, 1)
    found: FittingSizes = Sizes(rows, columns)
    if rows.is_any and columns.is_any:
        found = "any"
    return Fitting(least=above(found, (first_row, first_column)), sizes=found)


def _is_square(network: Network, layers: Iterable[Layer]) -> bool:
    """Whether rows and columns are computed alike, and there are as many."""

    def is_same(pair: tuple[object, object]) -> bool:
        return pair[0] == pair[1]

    return is_same(network.input.type.size) and all(
        is_same(layer.type.size)
        and is_same(reach.size)
        and is_same(reach.stride)
        and is_same(reach.start)
        for layer in layers
        for reach in (layer.op.reach(network.types_of(layer)),)
    )


def joins_of_maps(network: Network) -> list[Layer]:
    """The layers whose inputs must have the same rows and columns, or hold those of the other."""
    return [layer for layer in network.layers if _meets_or_not(layer.op) and layer.type.is_map]


def _meets_or_not(op: Op) -> bool:
    return op.is_join or isinstance(op, Crop)


def _ancestors(network: Network, ends: Sequence[Layer]) -> list[Layer]:
    """These layers and all that they depend on, in order."""
    needed = {layer.name for layer in ends}
    for layer in reversed(network.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return [layer for layer in network.layers if layer.name in needed]


def _along(
    network: Network, layers: Sequence[Layer], read: Sequence[Layer], axis: int
) -> tuple[int, Remainders]:
    """The least size that all layers take, were there no joins, and those from it on at which all
    joins meet; ``read`` are the joins and what they depend on.
    """
    steps = _steps(network, layers, axis)
    first = _least(steps)
    period = _period(network, read, axis)
    numbers = range(first, first + period)
    names = {layer.name for layer in read}
    meets = _meets([step for step in steps if step.name in names], numbers)
    assert meets is not None, "larger maps are taken where smaller ones are"
    found = {n % period for n, meet in zip(numbers, meets, strict=True) if meet}
    for shorter in range(1, period + 1):
        if period % shorter == 0 and all((n + shorter) % period in found for n in found):
            return first, Remainders(shorter, tuple(sorted({n % shorter for n in found})))
    raise AssertionError("a period is a period of itself")


def _period(network: Network, layers: Sequence[Layer], axis: int) -> int:
    """The least common multiple of the strides of ``layers``.

    Raises:
        VggspecError: a join reads tensors of different strides, or it is too large.
    """
    strides: dict[str, Number | None] = {IMAGE: 1}  # None for a single position
    period = 1
    for layer in layers:
        before = tuple(dict.fromkeys(strides[name] for name in layer.inputs))
        if _meets_or_not(layer.op) and len(before) > 1:
            known = sorted(stride for stride in before if stride is not None)
            because = "one branch is averaged over the whole map, another is not"
            if len(known) == len(before):
                because = f"branches have a position every {known[0]} and every {known[-1]} pixels"
            raise _refused(network, layer, MeetsAtOneSize(layer=layer.name, because=because))
        stride = strides[layer.inputs[-1 if isinstance(layer.op, Resize) else 0]]
        if stride is not None and not layer.op.reads_size:
            stride *= layer.op.reach(network.types_of(layer)).stride[axis]
            period = lcm(period, stride.numerator)
        if period > MAX_PERIOD:
            raise _refused(network, layer, LongPeriod(period=period, limit=MAX_PERIOD))
        strides[layer.name] = None if isinstance(layer.op, GlobalAvgPool) else stride
    return period


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer that changes rows or columns, joins some, or takes those of another one."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    types: Types
    axis: int

    def after(self, given: tuple[int, ...]) -> int | None:
        """The rows or columns of the output; None where the op does not take these inputs."""
        types = []
        for x, n in zip(self.types, given, strict=True):
            channels, rows, columns = x.shape
            types.append(TensorType((channels, rows, n) if self.axis else (channels, n, columns)))
        try:
            return self.op.infer(tuple(types)).size[self.axis]
        except MisfitError:
            return None

    @property
    def sized_by(self) -> int:
        """The input whose rows and columns those of a join or a crop are."""
        return 1 if self.op.reads_size else 0

    def gives(self, least: int, n: int) -> bool:
        """Whether the output of a layer with one input of ``n`` has ``least`` or more."""
        found = self.after((n,))
        return found is not None and found >= least


def _steps(network: Network, layers: Iterable[Layer], axis: int) -> list[_Step]:
    """The layers without those that compute each position from the one in its place."""
    steps: list[_Step] = []
    same = {IMAGE: IMAGE}
    for layer in layers:
        types = network.types_of(layer)
        inputs = tuple(same[name] for name in layer.inputs)
        reach = layer.op.reach(types)
        is_same = (reach.size[axis], reach.stride[axis], reach.start[axis]) == (1, 1, 0) and (
            layer.type.size[axis] == types[0].size[axis]
        )
        is_alone = not layer.op.is_join and not layer.op.reads_size
        if is_same and is_alone and not isinstance(layer.op, GlobalAvgPool):
            same[layer.name] = inputs[0]
            continue
        same[layer.name] = layer.name
        steps.append(_Step(layer.name, layer.op, inputs, types, axis))
    return steps


def _least(steps: Sequence[_Step]) -> int:
    """The smallest image that all layers take, as if joins met: from the last layer to the first,
    the smallest input whose output those behind it take.
    """
    needed: dict[str, int] = {}
    for step in reversed(steps):
        least = needed.get(step.name, 1)
        if len(step.inputs) == 1:
            found = smallest(partial(step.gives, least))
            assert found is not None, "the net takes its own size"
            least = found
        source = step.inputs[step.sized_by]
        needed[source] = max(needed.get(source, 1), least)
    return needed.get(IMAGE, 1)


def _meets(steps: Iterable[_Step], numbers: Sequence[int]) -> list[bool] | None:
    """Whether all joins meet, for each size of the image; None where a size is too small."""
    found = {IMAGE: numbers}
    meets = [True] * len(numbers)
    for step in steps:
        given = list(zip(*(found[name] for name in step.inputs), strict=True))
        # Of many sizes the layers behind large strides see few.
        after = {each: step.after(each) for each in set(given)}
        if len(step.inputs) > 1:
            meets = [meet and after[n] is not None for meet, n in zip(meets, given, strict=True)]
            found[step.name] = [each[step.sized_by] for each in given]
            continue
        results = [n for n in map(after.__getitem__, given) if n is not None]
        if len(results) < len(given):
            return None
        found[step.name] = results
    return meets


def _refused(network: Network, layer: Layer, what: Diagnostic) -> VggspecError:
    if layer.origin is None:
        return VggspecError(report(what, path=f"net {network.name}"))
    return VggspecError(report(what, layer.origin.source, layer.origin.span))
