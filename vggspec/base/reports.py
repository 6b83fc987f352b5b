"""Mistakes collected, so that one run reports all of them."""

from collections.abc import Iterable

from vggspec.base.catalogue.files import TooManyMistakes
from vggspec.base.diagnostic import Report, VggspecError

#: Mistakes that are kept; more of them usually have one cause, which the first ones show.
MAX_REPORTS = 1000


class Reports:
    """Collects reports, each once, ``MAX_REPORTS`` at most."""

    def __init__(self, found: Iterable[Report] = ()) -> None:
        self._seen: dict[tuple[object, ...], Report] = {}
        self._beyond: Report | None = None
        self.extend(found)

    @property
    def is_full(self) -> bool:
        """Whether a report was dropped, so that further checks are useless."""
        return self._beyond is not None

    def add(self, found: Report) -> None:
        """Keep ``found`` unless the same mistake at the same place is already kept."""
        source = found.source.name if found.source else found.path
        key = (type(found.what), source, found.span)
        if key in self._seen:
            return
        if len(self._seen) < MAX_REPORTS:
            self._seen[key] = found
        elif self._beyond is None:
            what = TooManyMistakes(limit=MAX_REPORTS)
            self._beyond = Report(what, found.source, found.span, path=found.path)

    def extend(self, found: Iterable[Report]) -> None:
        """Keep several."""
        for one in found:
            self.add(one)

    def sorted(self) -> tuple[Report, ...]:
        """All reports in the order of their places; last, a report that there are more."""
        found = sorted(self._seen.values(), key=_place)
        return tuple(found if self._beyond is None else (*found, self._beyond))

    def __len__(self) -> int:
        return len(self._seen)

    def raise_if_any(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            VggspecError: something was collected.
        """
        if self._seen:
            raise VggspecError(*self.sorted())


def _place(one: Report) -> tuple[str, int]:
    name = one.source.name if one.source else one.path or ""
    return name, one.span.start if one.span else -1
