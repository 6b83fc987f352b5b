"""How far long work has come: a line that moves on a terminal, else one now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import click

from vggspec.cli.watching import duration, joined, one_line, with_bar

FIRST_LINE_S, EVERY_S = 10.0, 60.0  # where lines cannot move
MOVES_S = 0.1
SETTLED_S = 3.0  # until then loading is most of it, and tells nothing of the pace


class Show(Protocol):
    """Takes how many are done, and what else is known of them."""

    def __call__(self, done: int, /, *more: str) -> None: ...


@dataclass(slots=True, kw_only=True)
class Pace:
    """How fast things get done, and when it was last said."""

    doing: str
    total: int
    nouns: str
    """What is counted, in the plural."""

    before: int = 0
    """How many were done at an earlier time, and so tell nothing of the pace."""

    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _said: float | None = None

    def __post_init__(self) -> None:
        self._began = self.clock()

    def is_due(self, first_s: float, every_s: float) -> bool:
        """Whether it is time to say something; if so, it counts as said."""
        now = self.clock()
        if now - self._began < first_s or (self._said is not None and now - self._said < every_s):
            return False
        self._said = now
        return True

    def text(self, done: int, *more: str, width: int | None = None) -> str:
        """How it stands, in a line; the time left follows from the pace so far."""
        passed = self.clock() - self._began
        rate = (done - self.before) / passed if passed >= SETTLED_S else 0.0
        parts = {
            "doing": self.doing,
            "done": f"{done}/{self.total} {self.nouns}",
            "more": "  ".join(each for each in more if each),
            "speed": speed(rate, self.nouns) if rate else "",
            "left": f"{duration((self.total - done) / rate)} left" if rate else "",
        }
        return joined(parts, ("speed", "doing", "more"), width)


def speed(rate: float, nouns: str) -> str:
    """About three digits, of fast work and slow: ``135 images/s``, ``0.825 images/s``."""
    digits = 0 if rate >= 100 else 1 if rate >= 1 else 3
    return f"{rate:.{digits}f} {nouns}/s"


@contextlib.contextmanager
def pacing(doing: str, total: int, nouns: str, *, before: int = 0) -> Iterator[Show]:
    """Something to be called with how many are done, those of an earlier time among them."""
    pace = Pace(doing=doing, total=total, nouns=nouns, before=before)
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_interactive:
            with one_line(doing, console) as live:

                def move(done: int, /, *more: str) -> None:
                    if pace.is_due(0, MOVES_S):
                        text = pace.text(done, *more, width=console.width)
                        live.update(with_bar(text, done, total, console.width), refresh=True)

                yield move
            return

    def say(done: int, /, *more: str) -> None:
        if pace.is_due(FIRST_LINE_S, EVERY_S):
            click.echo(pace.text(done, *more), err=True)

    yield say
