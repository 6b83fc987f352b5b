"""A split as a folder of class folders.

DIR/train/cat/1.jpg   DIR/train/dog/1.jpg
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.read import MAX_FILE_BYTES
from vggspec.source import read_file, reason


class FolderSplit:
    """The images of ``train`` or ``val``, class by class, in the order of their names."""

    def __init__(
        self, folder: Path, classes: tuple[str, ...], labels: NDArray[np.int32], names: list[str]
    ) -> None:
        self.labels = labels
        self._folders = [str(folder / name) for name in classes]
        # A million strings would take five times the memory, in each process that counts them.
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The path."""
        return os.path.join(self._folders[self.labels[index]], os.fsdecode(self._names[index]))

    def read(self, index: int) -> bytes:
        """The content of the file.

        Raises:
            BadImageError: it cannot be read.
        """
        try:
            return read_file(self.name(index), MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error


def subfolders(folder: Path) -> tuple[str, ...]:
    """Their names, sorted, but for hidden ones.

    Raises:
        OSError: the folder cannot be read, or a name is not UTF-8, as names of classes have to be.
    """
    names = sorted(entry.name for entry in _visible(folder) if entry.is_dir())
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors="backslashreplace")
            raise OSError(f"the name of folder `{shown}` is not UTF-8") from error
    return tuple(names)


def list_folder(folder: Path, classes: tuple[str, ...], digest: Digest) -> FolderSplit:
    """The images of a split; hidden files are none, all others are.

    Raises:
        OSError: a folder cannot be read.
    """
    names: list[str] = []
    counts = []
    for each in classes:
        files = []
        if (folder / each).is_dir():
            files = [entry for entry in _visible(folder / each) if entry.is_file()]
            files.sort(key=lambda entry: entry.name)
        for entry in files:
            names.append(entry.name)
            digest.add(f"{folder.name}/{each}/{entry.name}", entry.stat())
        counts.append(len(files))
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FolderSplit(folder, classes, labels, names)


def _visible(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))
