"""Another name for ``vggspec.cli.progress``, for commands that do not use a watcher yet."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from vggspec.base.watching import Progress
from vggspec.cli.progress import EVERY_S, FIRST_LINE_S, MOVES_S, shown, speed

__all__ = ["EVERY_S", "FIRST_LINE_S", "MOVES_S", "Show", "pacing", "speed"]


class Show(Protocol):
    """Takes how many are done, and what else is known of them."""

    def __call__(self, done: int, /, *more: str) -> None: ...


@contextlib.contextmanager
def pacing(doing: str, total: int, nouns: str, *, before: int = 0) -> Iterator[Show]:
    """Something to be called with how many are done, those of an earlier time among them."""
    with shown() as watch:

        def show(done: int, /, *more: str) -> None:
            watch.progress(
                Progress(
                    doing=doing, done=done, total=total, unit=nouns, before=before, details=more
                )
            )

        show(before)
        yield show
