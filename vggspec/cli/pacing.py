"""How far long work has come: a line that moves on a terminal, else one now and then.

Work is told of where it gets done, often much of it at once and then none for a while; a thread of
its own shows how it stands.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import click

from vggspec.base.quantities import duration, speed
from vggspec.cli.watching import joined, one_line, with_bar

FIRST_LINE_S, EVERY_S = 10.0, 60.0  # where lines cannot move
LOOKS_S, MOVES_S = 0.5, 0.1
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
    _now: tuple[float, int, tuple[str, ...]] = field(init=False)
    """When something was last done, how much that made, and what else was known then."""

    _said: tuple[float, int] | None = None
    """When it was last said, and how many were done."""

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._now = self._began, self.before, ()

    @property
    def done(self) -> int:
        """How many are done."""
        return self._now[1]

    def note(self, done: int, /, *more: str) -> None:
        """So many are done now, and that is what else is known."""
        self._now = self.clock(), done, more

    def is_due(self, first_s: float, every_s: float) -> bool:
        """Whether there is something new, and it is time to say it; if so, it counts as said."""
        now = self.clock()
        if now - self._began < first_s or self.done == self.before:
            return False
        if self._said is not None and (now - self._said[0] < every_s or self.done == self._said[1]):
            return False
        self._said = now, self.done
        return True

    def text(self, width: int | None = None) -> str:
        """How it stands, in a line; the time left follows from the pace so far."""
        at, done, more = self._now
        passed = at - self._began
        rate = (done - self.before) / passed if passed >= SETTLED_S else 0.0
        left = ""
        if rate:
            left_s = (self.total - done) / rate - (self.clock() - at)
            left = f"{duration(max(0.0, left_s))} left"
        parts = {
            "doing": self.doing,
            "done": f"{done}/{self.total} {self.nouns}",
            "more": "  ".join(each for each in more if each),
            "speed": speed(rate, self.nouns) if rate else "",
            "left": left,
        }
        return joined(parts, ("speed", "doing", "more"), width)


@contextlib.contextmanager
def pacing(doing: str, total: int, nouns: str, *, before: int = 0) -> Iterator[Show]:
    """Something to be called with how many are done, those of an earlier time among them."""
    pace = Pace(doing=doing, total=total, nouns=nouns, before=before)
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_interactive:
            with one_line(doing, console) as live:

                def move() -> None:
                    text = pace.text(console.width)
                    line = with_bar(text, pace.done, total, console.width)
                    live.update(line, refresh=True)

                with _repeating(move, MOVES_S):
                    yield pace.note
            return

    def say() -> None:
        if pace.is_due(FIRST_LINE_S, EVERY_S):
            click.echo(pace.text(), err=True)

    with _repeating(say, LOOKS_S):
        yield pace.note


@contextlib.contextmanager
def _repeating(act: Callable[[], None], every_s: float) -> Iterator[None]:
    """Do something again and again beside the block, and once more after it."""
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.wait(every_s):
            act()

    thread = threading.Thread(target=go_on, name="pacing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        act()
