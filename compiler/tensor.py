"""Tensors of the IR: types, parameters, and mismatches."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.shape import Shape


@dataclass(frozen=True, slots=True)
class TensorType:
    """The shape of one image's tensor: ``(C, H, W)`` or ``(C,)``."""

    shape: Shape

    @property
    def is_map(self) -> bool:
        """Whether it has rows and columns."""
        return len(self.shape) == 3

    @property
    def channels(self) -> int:
        """Channels of a map, numbers of a vector."""
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns; 1 and 1 for a vector."""
        return (self.shape[1], self.shape[2]) if self.is_map else (1, 1)

    @property
    def num_elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


#: The types of all that an op reads, in the order of the layer's inputs.
Types = tuple[TensorType, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """An array of numbers that a layer owns.

    The array is in the weights file under ``name`` with the shape ``stored``; a backend sees it as
    ``shape``. The two differ after FC-to-conv, the bytes never do.
    """

    name: str
    shape: Shape
    stored: Shape
    start: Literal["random", "zero", "one", "bilinear"]
    """The initial values; ``bilinear`` are those that interpolate each channel."""

    incoming: int | None = None
    """How many numbers one number of the output is made of, for random ones; None where all axes of
    the shape but the first say it."""

    is_trained: bool = True
    """False for running statistics, which are not counted as parameters."""

    @property
    def num_elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


class MisfitError(Exception):
    """An op does not take this input; the network adds the place and reports it."""

    def __init__(self, what: Diagnostic) -> None:
        super().__init__(what.title())
        self.what = what
