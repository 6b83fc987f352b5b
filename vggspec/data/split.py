"""The interface of a list of images with classes, wherever they are stored."""

import hashlib
import math
import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Split(Protocol):
    """The images of ``train`` or ``val``, in an order of their own."""

    labels: NDArray[np.int32]
    """``(N,)``: for each image the number of its class."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """A name by which a person finds the image."""

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            BadImageError: they cannot be read.
        """


class Part:
    """Some of the images of a split."""

    def __init__(self, whole: Split, indices: NDArray[np.intp]) -> None:
        self.labels = whole.labels[indices]
        self._whole = whole
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        """A name by which a person finds the image."""
        return self._whole.name(int(self._indices[index]))

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            BadImageError: they cannot be read.
        """
        return self._whole.read(int(self._indices[index]))


def hold_out(whole: Split, share: float, root: Path) -> tuple[Part, Part]:
    """A split in two: the rest, and ``share`` of the images of each class, at least one.

    Which ones depends on their names below ``root`` alone: on nothing that another run or process
    might have otherwise, and images that are added later move few others.
    """
    keys = [_key(os.path.relpath(whole.name(index), root)) for index in range(len(whole))]
    is_apart = np.zeros(len(whole), bool)
    for label in np.unique(whole.labels).tolist():
        images = np.flatnonzero(whole.labels == label).tolist()
        number = max(1, math.floor(share * len(images) + 0.5))
        is_apart[sorted(images, key=keys.__getitem__)[:number]] = True
    return Part(whole, np.flatnonzero(~is_apart)), Part(whole, np.flatnonzero(is_apart))


def _key(name: str) -> bytes:
    return hashlib.sha256(name.replace(os.sep, "/").encode(errors="surrogateescape")).digest()
