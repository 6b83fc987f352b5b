"""The images of a data set that cannot be used: counted, named, and bounded."""

import os
from collections.abc import Mapping
from pathlib import Path

from vggspec.base.catalogue.annotations import TooManyBadAnnotations
from vggspec.base.catalogue.data import TooManyBadImages
from vggspec.base.catalogue.masks import TooManyBadMasks
from vggspec.base.diagnostic import VggspecError, report

#: The share of unusable images that ends the work.
MAX_SHARE = 0.01

#: How many of them an error names.
FIRST = 5


class LeftOut:
    """Unusable images with reasons, of ``total`` images in all; too many are an error.

    ``place`` is the folder or file that the error names, and ``what`` the error. With ``root`` an
    image is counted by its path relative to that folder, whichever of the folder's paths ``add``
    receives, and ``first`` returns paths that start with ``root``.
    """

    def __init__(
        self,
        total: int,
        place: str | None = None,
        *,
        root: Path | None = None,
        what: type[TooManyBadImages | TooManyBadAnnotations | TooManyBadMasks] = TooManyBadImages,
    ) -> None:
        self.total = total
        self.place = place if root is None or place is not None else str(root)
        self._what = what
        self._root = root
        self._real_root = None if root is None else root.resolve()
        self._reasons: dict[str, str] = {}

    def add(self, name: str, why: str) -> None:
        """Count an image, once.

        Raises:
            VggspecError: more than ``MAX_SHARE`` of all images are unusable.
        """
        self.count(name, why)
        self.check()

    def count(self, name: str, why: str) -> None:
        """Count an image, once, and leave it to the caller to ``check``."""
        self._reasons.setdefault(self._relative(name), why)

    def check(self) -> None:
        """Make sure that few images are unusable.

        Raises:
            VggspecError: more than ``MAX_SHARE`` of all images are.
        """
        if len(self) > MAX_SHARE * self.total:
            what = self._what(bad=len(self), total=self.total, first=self.first())
            raise VggspecError(report(what, path=self.place))

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each image cannot be used, by its name, in the order in which they were added."""
        return dict(self._reasons)

    def first(self, number: int = FIRST) -> tuple[str, ...]:
        """The first names, each with its reason."""
        first = list(self._reasons.items())[:number]
        return tuple(
            f"{name if self._root is None else self._root / name}: {why}" for name, why in first
        )

    def _relative(self, name: str) -> str:
        """The path relative to the root; checkpoints of earlier versions contain whole paths."""
        if self._root is None or name in self._reasons:
            return name
        for path, root in ((name, self._root), (os.path.realpath(name), self._real_root)):
            if path.startswith(f"{root}{os.sep}"):
                return path.removeprefix(f"{root}{os.sep}")
        return name

    def __len__(self) -> int:
        return len(self._reasons)
