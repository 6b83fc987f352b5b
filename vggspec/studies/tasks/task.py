"""A computation for each of many images, as the code that shares and keeps it sees it.

A pass over a data set takes hours. A ``Task`` can be shared among processes (``processes.py``) and
resumed after an interruption (``journal.py``); ``work.py`` does both.

Axes: N images.
"""

import hashlib
import json
import os
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import Fields
from vggspec.base.version import __version__


class Result(Protocol):
    """The result for an image."""

    @property
    def index(self) -> int:
        """The number of the image."""


R = TypeVar("R", bound=Result)


class Images(Protocol):
    """A list of image files."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The path of an image."""


class Task(Protocol[R]):
    """A computation for each of many images. It can be pickled.

    The result for an image depends only on that image and on what ``digest`` covers: not on other
    images, their order, batches or threads.
    """

    @property
    def indices(self) -> NDArray[np.int64]:
        """``(N,)``: the images, in ascending order."""

    @property
    def threads(self) -> int | None:
        """CPU threads of each process; None uses all cores."""

    def with_threads(self, threads: int) -> Self:
        """The same task with that many threads for each process."""

    def digest(self) -> str:
        """SHA-256 of everything that changes a result, in hexadecimal."""

    def identity(self) -> dict[str, str]:
        """Everything that must be the same on all machines that share the task: digests by the name
        of what they cover. Unlike ``digest``, it names no folder and no time of a file.
        """

    def results(self, indices: Iterable[int]) -> Generator[R, None, None]:
        """The results for some of the images, in the order of ``indices``.

        Raises:
            VggspecError: a bundle is damaged or returns NaN or infinity.
            MissingLibraryError: the device was requested by name and is not available.
        """

    def as_data(self, result: R) -> dict[str, Any]:
        """A result for JSON."""

    def from_data(self, data: Fields) -> R:
        """The result that ``as_data`` returned as JSON.

        Raises:
            ValueError, TypeError, KeyError: it cannot be a result of this task.
        """


def identified(
    facts: Mapping[str, object], images: Images, folder: str | os.PathLike[str]
) -> dict[str, str]:
    """A task's ``identity`` from facts that JSON can represent, and from the names of images below
    their folder.
    """
    names = hashlib.sha256()
    for index in range(len(images)):
        name = os.path.relpath(images.name(index), folder).replace(os.sep, "/")
        names.update(name.encode(errors="surrogateescape") + b"\0")
    found = {
        name: hashlib.sha256(json.dumps(fact).encode()).hexdigest() for name, fact in facts.items()
    }
    return {"version": __version__, **found, "images": names.hexdigest()}
