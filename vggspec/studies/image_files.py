"""Images that are named one by one, without classes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason
from vggspec.data.decode import BadImageError
from vggspec.data.read import MAX_FILE_BYTES


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """A list of image files. A ``vggspec.data.classed.Images``."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, paths: Iterable[str | os.PathLike[str]]) -> Self:
        """The files at these paths."""
        return cls(tuple(os.fspath(path) for path in paths))

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image."""
        return self.paths[index]

    def read(self, index: int) -> bytes:
        """The content of an image file.

        Raises:
            BadImageError: it cannot be read.
        """
        try:
            return read_file(self.paths[index], MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error
