"""A tensor of a checkpoint that is not read yet, what its file says of the net, and how a
checkpoint is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import checkpoint_files
from vggspec.base.diagnostic import Diagnostic
from vggspec.compiler.importing.layouts import Layout

#: The memory that a checkpoint may take: a constant plus a multiple of the file's size. From 8 bits
#: to 32 is 4 times; the rest is for compressed archives.
_FREE_BYTES, _GROWTH = 64 << 20, 16


class BadFileError(Exception):
    """The file is truncated, damaged, or contradicts itself; the message says how."""


class RefusedError(Exception):
    """The file is intact but not supported; ``what`` says why."""

    def __init__(self, what: Diagnostic) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor: its shape, and how to read its numbers."""

    shape: tuple[int, ...]
    is_float: bool
    read: Callable[[], NDArray[np.float32]]
    """Raises BadFileError."""

    oddity: tuple[str, str] | None = None
    """What it is where it is no plain block of numbers, and what to do about it."""

    @property
    def bytes(self) -> int:
        """What it takes as float32."""
        return 4 * prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a format, or a file in it, says of the net beside its tensors."""

    source: str | None = None
    """The collection whose images are normalised as this net's, one of ``SOURCES``."""

    layout: Layout | None = None
    """The axes of the kernels."""

    mean: tuple[float, ...] | None = None
    """Mean of the training images: red, green, blue, 0 to 255."""

    labels: tuple[str, ...] | None = None
    """The names of the classes."""

    epsilons: Mapping[str, float] = field(default_factory=dict)
    """What batch normalisations add to their variance, by layer, where the file says it."""

    is_epsilon_in_variance: bool = False
    """Whether the variances are sums with what batch normalisation adds to them."""

    notes: tuple[str, ...] = ()
    """Decisions made while the file was read that the caller may want to know."""


def check_growth(needed: int, file_bytes: int) -> None:
    """Make sure that numbers take no more memory than a file of that size may ask for.

    Raises:
        RefusedError: they take more.
    """
    if needed > _FREE_BYTES + _GROWTH * file_bytes:
        raise RefusedError(checkpoint_files.OutOfProportion(bytes=needed, file_bytes=file_bytes))


def as_float32(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """The numbers as a flat float32 array; those beyond its range become infinite."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array, np.float32).reshape(array.shape)
