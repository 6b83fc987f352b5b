"""The images of a data set that could not be read: counted, named, and bounded."""

from collections.abc import Mapping

from vggspec.base.catalogue.data import TooManyBadImages
from vggspec.base.diagnostic import VggspecError, report

#: The share of unreadable images that ends the work.
MAX_SHARE = 0.01

#: How many of them an error names.
FIRST = 5


class LeftOut:
    """Unreadable images with reasons, of ``total`` images in all; too many are an error.

    ``place`` is the folder or file that the error names.
    """

    def __init__(self, total: int, place: str | None = None) -> None:
        self.total = total
        self.place = place
        self._reasons: dict[str, str] = {}

    def add(self, name: str, why: str) -> None:
        """Count an image, once.

        Raises:
            VggspecError: more than ``MAX_SHARE`` of all images are unreadable.
        """
        self._reasons.setdefault(name, why)
        if len(self) > MAX_SHARE * self.total:
            what = TooManyBadImages(bad=len(self), total=self.total, first=self.first())
            raise VggspecError(report(what, path=self.place))

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why each image could not be read, by its name, in the order in which they were met."""
        return dict(self._reasons)

    def first(self, number: int = FIRST) -> tuple[str, ...]:
        """The first names, each with its reason."""
        return tuple(f"{name}: {why}" for name, why in list(self._reasons.items())[:number])

    def __len__(self) -> int:
        return len(self._reasons)
