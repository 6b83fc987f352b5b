"""The images of a split, decoded and perhaps kept, and a count of those that cannot be read.

An image that cannot be read is left out; more than one in a hundred end the work.
"""

import os
from pathlib import Path

from vggspec.base.catalogue import data
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.ir import Color
from vggspec.data.decode import BadImageError, Pixels, decode, decoded_size
from vggspec.data.split import MAX_BAD_SHARE, Split
from vggspec.train.dataset import DataSet

#: Decoded images up to this size are kept: reading them again would take longer than training on
#: them, and a worker longer to hand one over than to cut it.
KEPT_BYTES = 256 << 20


class Images:
    """The images of a split, decoded when they are asked for and perhaps kept from then on.

    ``scale`` is the smallest and the largest size that they will be rescaled to, by which JPEG may
    be decoded at a fraction of its size; None for images as they are. Whether they are kept changes
    no pixel.
    """

    def __init__(
        self, split: Split, color: Color, scale: tuple[int, int] | None, *, are_kept: bool
    ) -> None:
        self.split = split
        self._color = color
        self._at_least = scale[1] if scale else None
        self._kept: dict[int, Pixels] | None = {} if are_kept else None

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int) -> Pixels:
        """An image ``(H, W, C)``.

        Raises:
            BadImageError: it cannot be read.
        """
        if self._kept is None:
            return self._decoded(index)
        if index not in self._kept:
            self._kept[index] = self._decoded(index)
        return self._kept[index]

    def _decoded(self, index: int) -> Pixels:
        return decode(self.split.read(index), self._color, self._at_least)


class LeftOut:
    """The images that could not be read, with reasons; too many of them are an error.

    An image is known by its path seen from the data set's folder, however this is written: a run
    may be begun with one path to it and resumed with another.
    """

    def __init__(self, total: int, root: Path) -> None:
        self._total = total
        self._root = root
        self._real_root = root.resolve()
        self._reasons: dict[str, str] = {}

    def add(self, name: str, why: str) -> None:
        """Count an image, once.

        Raises:
            VggspecError: these are too many.
        """
        self._reasons.setdefault(self._below_root(name), why)
        if len(self) > MAX_BAD_SHARE * self._total:
            what = data.TooManyBadImages(bad=len(self), total=self._total, first=self.first())
            raise VggspecError(report(what, path=str(self._root)))

    @property
    def reasons(self) -> dict[str, str]:
        """Why each of them could not be read, by its path seen from the data set's folder."""
        return dict(self._reasons)

    def first(self, number: int = 5) -> tuple[str, ...]:
        """The first paths, each with its reason."""
        first = list(self._reasons.items())[:number]
        return tuple(f"{self._root / name}: {why}" for name, why in first)

    def _below_root(self, name: str) -> str:
        """The path seen from the root, which checkpoints of earlier versions have in it."""
        if name in self._reasons:
            return name
        for path, root in ((name, self._root), (os.path.realpath(name), self._real_root)):
            if path.startswith(f"{root}{os.sep}"):
                return path.removeprefix(f"{root}{os.sep}")
        return name

    def __len__(self) -> int:
        return len(self._reasons)


def fit_in_memory(
    data: DataSet,
    color: Color,
    train_scale: tuple[int, int],
    val_scale: tuple[int, int] | None,
) -> bool:
    """Whether the decoded images of a data set are few enough to be kept."""
    sizes = (
        _decoded_bytes(split, color, scale)
        for split, scale in ((data.train, train_scale), (data.val, val_scale))
    )
    return sum(sizes) <= KEPT_BYTES


def _decoded_bytes(split: Split, color: Color, scale: tuple[int, int] | None) -> int:
    """About how much memory the decoded images of a split take, from the headers of a few."""
    total = number = 0
    for index in range(0, len(split), max(1, len(split) // 64)):
        try:
            height, width = decoded_size(split.read(index), scale[1] if scale else None)
        except BadImageError:
            continue  # whoever decodes it will say so
        total += height * width * (1 if color == "gray" else 3)
        number += 1
    return total * len(split) // max(number, 1)
