"""The interface of a list of images with classes, wherever they are stored."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.data.left_out import MAX_SHARE

MAX_BAD_SHARE = MAX_SHARE


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
