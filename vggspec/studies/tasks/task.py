"""What is to be found out about each of many images, as what shares and keeps it has to know it.

A pass over a data set takes hours. What implements ``Task`` can be shared among processes
(``processes.py``) and gone on with after an interruption (``journal.py``).

Axes: N images.
"""

from collections.abc import Generator, Iterable
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import Fields


class Result(Protocol):
    """What was found out about an image."""

    @property
    def index(self) -> int:
        """Of the image."""


R = TypeVar("R", bound=Result)


class Task(Protocol[R]):
    """Something to find out about each of many images; it can be pickled.

    What is found out about an image depends on that image alone and on what ``digest`` is about:
    not on the other images, their order, batches or threads.
    """

    @property
    def indices(self) -> NDArray[np.int64]:
        """``(N,)``: which images, in ascending order."""

    @property
    def threads(self) -> int | None:
        """CPU threads of a process; None for all cores."""

    def with_threads(self, threads: int) -> Self:
        """The same by so many threads."""

    def digest(self) -> str:
        """SHA-256 of all that changes a result, in hexadecimal."""

    def results(self, indices: Iterable[int]) -> Generator[R, None, None]:
        """What is found out about some of the images, in the order of ``indices``.

        Raises:
            VggspecError: a bundle is damaged or answers what is no number.
            MissingLibraryError: the device was asked for by name and cannot be had.
        """

    def as_data(self, result: R) -> dict[str, Any]:
        """A result for JSON."""

    def from_data(self, data: Fields) -> R:
        """The result that ``as_data`` has written.

        Raises:
            ValueError, TypeError, KeyError: it cannot be one of this task.
        """
