"""The image sizes that a net with branches takes.

Where the strides of a net's branches divide a size without a remainder in one branch and not in
another, their maps have different rows or columns and cannot be added or joined. Whether they meet
depends on the remainder of the size (``vggspec.compiler.sizes`` proves it).

Sizes are (rows, columns).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from vggspec.base.bounds import AtMost, Range
from vggspec.base.catalogue.sizes import ProfileHasGaps
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.wording import either
from vggspec.bundle.profile import Profile

MAX_PERIOD = 4096
"""Sizes that are tried to prove all; the strides of real nets divide 64."""

MOST_SAID = 4
"""Remainders, or ranges of them, that are named in words."""

MOST_EXAMPLES = 3
"""Profiles that an error suggests."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Remainders:
    """The numbers that leave one of ``remainders`` when they are divided by ``period``."""

    period: Annotated[int, Range(1, MAX_PERIOD)]
    remainders: Annotated[tuple[int, ...], Range(0, MAX_PERIOD - 1), AtMost(MAX_PERIOD)]
    """Ascending, at least one."""

    @property
    def is_any(self) -> bool:
        """Whether all numbers do."""
        return len(self.remainders) == self.period

    def holds(self, n: int) -> bool:
        """Whether ``n`` is one of them."""
        return n % self.period in self.remainders

    def holds_all(self, low: int, high: int) -> bool:
        """Whether all numbers from ``low`` to ``high`` are."""
        return self.is_any or (
            high - low < self.period and all(self.holds(n) for n in range(low, high + 1))
        )

    def below(self, n: int) -> int:
        """The largest one up to ``n``; of a small ``n`` it may be negative."""
        return next(m for m in range(n, n - self.period, -1) if self.holds(m))

    def above(self, n: int) -> int:
        """The smallest one from ``n`` on."""
        return next(m for m in range(n, n + self.period) if self.holds(m))

    def __str__(self) -> str:
        """``any``, ``multiples of 32``, ``multiples of 32 or 32 k + 1``."""
        if self.is_any:
            return "any"
        said = [self._words(*run) for run in _runs(self.remainders)]
        if len(said) <= MOST_SAID:
            return either(tuple(said))
        kept = ", ".join(said[: MOST_SAID - 1])
        return f"{kept}, …, {len(self.remainders)} of {self.period} remainders"

    def _words(self, first: int, last: int) -> str:
        if first == last == 0:
            return f"multiples of {self.period}"
        ends = [f"{self.period} k" + (f" + {n}" if n else "") for n in (first, last)]
        return ends[0] if first == last else " to ".join(ends)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes at which all branches meet."""

    rows: Remainders
    columns: Remainders

    @property
    def axes(self) -> tuple[Remainders, Remainders]:
        """Rows, then columns."""
        return self.rows, self.columns

    def __str__(self) -> str:
        """``multiples of 32``, or ``rows any, columns multiples of 4``."""
        if self.rows == self.columns:
            return str(self.rows)
        return f"rows {self.rows}, columns {self.columns}"


#: All sizes from the least on, or some of them.
FittingSizes = Literal["any"] | Sizes


def fits(sizes: FittingSizes, size: Size) -> bool:
    """Whether all branches meet for an image of ``size``."""
    return sizes == "any" or all(axis.holds(n) for axis, n in zip(sizes.axes, size, strict=True))


def all_fit(sizes: FittingSizes, low: Size, high: Size) -> bool:
    """Whether they meet for all sizes from ``low`` to ``high``, each axis by itself."""
    return sizes == "any" or all(
        axis.holds_all(*ends) for axis, *ends in zip(sizes.axes, low, high, strict=True)
    )


def check_ranges(
    profiles: Iterable[Profile],
    sizes: FittingSizes,
    *,
    path: str,
    is_derived: bool = False,
    is_writable: bool = True,
) -> None:
    """Make sure that branches meet for all sizes in every profile.

    ``is_derived``: they follow from the scales of ``test:``; ``is_writable``: the user can write
    others.

    Raises:
        VggspecError: one has sizes for which they do not.
    """
    profiles = tuple(profiles)
    for profile in profiles:
        low, high = profile.min[1:], profile.max[1:]
        if sizes == "any" or all_fit(sizes, low, high):
            continue
        shapes = [profile.opt[1:]]
        if is_derived:  # the square image of a scale, then the usual ones
            shapes = [size for each in profiles for size in (each.min[1:], each.opt[1:])]
        fitting = dict.fromkeys(above(sizes, size) for size in shapes)
        examples = tuple(_of_one_size(profile, size) for size in fitting)
        what = ProfileHasGaps(
            profile=str(profile),
            fits=str(sizes),
            is_derived=is_derived,
            examples=examples[:MOST_EXAMPLES] if is_writable else (),
        )
        raise VggspecError(report(what, path=path))


def _of_one_size(profile: Profile, size: Size) -> str:
    """A profile for as many images of one size, as ``--profile`` takes it."""
    shapes = [(shape[0], *size) for shape in (profile.min, profile.opt, profile.max)]
    return str(Profile(*shapes))


def above(sizes: FittingSizes, size: Size) -> Size:
    """The smallest size from ``size`` on, each axis by itself, for which they meet."""
    if sizes == "any":
        return size
    return sizes.rows.above(size[0]), sizes.columns.above(size[1])


def continued(size: Size, *, margin: Size, least: Size, sizes: FittingSizes) -> Size:
    """The size of an image of ``size`` that has been continued: by ``margin`` at each edge, and
    then to a size that the net takes.
    """
    rows, columns = (max(n + 2 * m, low) for n, m, low in zip(size, margin, least, strict=True))
    return above(sizes, (rows, columns))


def below(sizes: FittingSizes, size: Size) -> Size:
    """The largest size up to ``size``, each axis by itself, for which they meet."""
    if sizes == "any":
        return size
    return sizes.rows.below(size[0]), sizes.columns.below(size[1])


def nearest(sizes: FittingSizes, size: Size, least: Size) -> tuple[Size, ...]:
    """The nearest sizes that fit and are no smaller than ``least``: a smaller and a larger one."""
    larger = above(sizes, (max(size[0], least[0]), max(size[1], least[1])))
    rows, columns = (
        low if low >= at_least else high
        for low, high, at_least in zip(below(sizes, size), larger, least, strict=True)
    )
    return tuple(dict.fromkeys(((rows, columns), larger)))


def _runs(numbers: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The first and the last of every three or more that follow each other; others alone."""
    start = 0
    for i, n in enumerate(numbers):
        if i + 1 < len(numbers) and numbers[i + 1] == n + 1:
            continue
        if i - start >= 2:
            yield numbers[start], n
        else:
            yield from ((m, m) for m in numbers[start : i + 1])
        start = i + 1
