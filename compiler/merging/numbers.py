"""The weights of a merged net, a few rows of an array at a time, in float64."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.merging.plan import Folded, Identity, Normed, Plan, Sum, Weights
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import Array, WeightsFile, not_finite

CHUNK = 1 << 20  # numbers in memory at a time

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MergedNumbers:
    """The arrays of a merged net, made of those in a weights file."""

    file: WeightsFile
    network: Network
    """The net that the file is of."""

    def chunks(self, param: Param, layer: Layer, source: str, plan: Plan) -> Iterator[Array]:
        """An array of ``layer`` of the merged net, in flat pieces; ``source`` is the layer's name
        in the net of the plan.

        Raises:
            VggspecError: a number is not finite in float32.
        """
        if source not in plan.folded:
            return self.copied(source + param.name.removeprefix(layer.name))
        op = layer.op
        groups = layer.type.channels if isinstance(op, DepthwiseConv) else 1
        if isinstance(op, Conv):
            groups = op.groups
        return self.made(param, plan.folded[source], groups)

    def copied(self, name: str) -> Iterator[Array]:
        """An array as it is, in flat pieces."""
        flat = self.file.read(name).reshape(-1)
        for start in range(0, flat.size, CHUNK):
            yield flat[start : start + CHUNK]

    def made(self, param: Param, folded: Folded, groups: int) -> Iterator[Array]:
        """An array of a layer that is made of several, in flat pieces.

        Raises:
            VggspecError: a number is not finite in float32.
        """
        rows = param.shape[0]
        step = max(1, CHUNK // prod(param.shape[1:]))
        for start in range(0, rows, step):
            part = slice(start, min(start + step, rows))
            with np.errstate(all="ignore"):  # what is not finite is an error below
                if param.name.endswith(".bias"):
                    numbers = self._bias(folded, part)
                else:
                    numbers = self._kernel(folded, part, param.shape, groups)
                rounded = numbers.astype(np.float32).reshape(-1)
            flaw = not_finite({param.name: rounded})
            if flaw is not None:
                raise VggspecError(report(flaw, path=str(self.file.path)))
            yield rounded

    def _kernel(self, folded: Folded, rows: slice, shape: tuple[int, ...], groups: int) -> Numbers:
        """Some output channels of a kernel of ``shape``, or of an FC's matrix."""
        match folded:
            case Weights(layer=layer):
                own = self.file.read(f"{layer.name}.weight")[rows].astype(np.float64)
                margins = [
                    ((whole - part) // 2,) * 2
                    for whole, part in zip(shape[2:], own.shape[2:], strict=True)
                ]
                return np.pad(own, ((0, 0), (0, 0), *margins)) if margins else own
            case Identity():
                count = rows.stop - rows.start
                kernel = np.zeros((count, *shape[1:]))
                channels = np.arange(rows.start, rows.stop) % (shape[0] // groups)
                kernel[np.arange(count), channels, shape[2] // 2, shape[3] // 2] = 1
                return kernel
            case Normed(of=inner, norm=norm):
                factor = self._factor(norm, rows)
                kernel = self._kernel(inner, rows, shape, groups)
                kernel *= factor.reshape(-1, *(1 for _ in shape[1:]))
                return kernel
            case Sum(terms=terms):
                total = self._kernel(terms[0], rows, shape, groups)
                for term in terms[1:]:
                    total += self._kernel(term, rows, shape, groups)
                return total

    def _bias(self, folded: Folded, rows: slice) -> Numbers:
        match folded:
            case Weights(layer=layer):
                if len(layer.params) == 1:
                    return np.zeros(rows.stop - rows.start)
                return self._read(layer, "bias", rows)
            case Identity():
                return np.zeros(rows.stop - rows.start)
            case Normed(of=inner, norm=norm):
                centred: Numbers = self._bias(inner, rows) - self._read(norm, "running_mean", rows)
                return centred * self._factor(norm, rows) + self._read(norm, "bias", rows)
            case Sum(terms=terms):
                total: Numbers = np.sum([self._bias(term, rows) for term in terms], axis=0)
                return total

    def _factor(self, norm: Layer, rows: slice) -> Numbers:
        assert isinstance(norm.op, BatchNorm)
        deviation = np.sqrt(self._read(norm, "running_var", rows) + norm.op.eps)
        return self._read(norm, "weight", rows) / deviation

    def _read(self, layer: Layer, array: str, rows: slice) -> Numbers:
        found: Numbers = self.file.read(f"{layer.name}.{array}")[rows].astype(np.float64)
        return found
