"""A session runs a compiled net on arrays; it does not know images, classes or protocols.

``Session`` is its interface. The model of the bundle and the device decide which engine implements
it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name, its number type, and its shape with None for open axes."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def fits(self, other: "Port") -> bool:
        """Whether ``other`` takes everything that this one takes: it fixes no further axes."""
        return (
            (self.name, self.dtype, len(self.shape)) == (other.name, other.dtype, len(other.shape))
        ) and all(
            theirs is None or theirs == ours
            for ours, theirs in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        axes = ", ".join("any" if axis is None else str(axis) for axis in self.shape)
        return f"{self.dtype} ({axes})"


class Session(Protocol):
    """A loaded net.

    Several threads may call ``run``. The caller owns the arrays that it passes and gets.
    """

    @property
    def inputs(self) -> tuple[Port, ...]: ...

    @property
    def outputs(self) -> tuple[Port, ...]: ...

    @property
    def device(self) -> Literal["cpu", "cuda"]: ...

    @property
    def is_slow_to_change_shape(self) -> bool:
        """Whether a run takes much longer where its shape differs from that of the last one."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class KnowsItsArithmetic(Protocol):
    """A session that says in which number types it computed."""

    def computed_in(self) -> Counter[str]: ...


def check_feeds(inputs: tuple[Port, ...], feeds: Mapping[str, NDArray[Any]]) -> None:
    """Compare the feeds with the inputs of a session.

    Raises:
        ValueError: a name, a number type, a rank or a fixed axis differs.
    """
    names = [port.name for port in inputs]
    if set(feeds) != set(names):
        raise ValueError(f"the inputs are {', '.join(names)}; got {', '.join(feeds) or 'none'}")
    for port in inputs:
        array = feeds[port.name]
        fed = Port(port.name, array.dtype, array.shape)
        if not fed.fits(port):
            raise ValueError(f"input `{port.name}` is {port}; got {fed}")
