"""Things that are measured take turns, so that a machine whose speed drifts favours none of them.

They run A B A B …; a ratio is taken round by round, and its median is what to quote.
"""

import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")


def rounds(turns: Mapping[Name, Callable[[], Result]]) -> Iterator[dict[Name, Result]]:
    """What each returns, round after round, without an end."""
    while True:
        yield {name: turn() for name, turn in turns.items()}


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of the ratios pair by pair."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


def medians(turns: Sequence[Sequence[float]]) -> list[float]:
    """The median of each turn."""
    return [statistics.median(turn) for turn in turns]
