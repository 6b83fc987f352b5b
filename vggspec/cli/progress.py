"""Progress and notes of library calls on the command line.

On a terminal the line moves, and is gone at the end; elsewhere a line is written now and then. All
commands show progress by this module; ``train_progress`` adds what a training run reports.

Work reports how far it is, often many times at once and then not for a while, so a thread shows
progress. It is started with the first report of a piece of work and ended with the last one, so
none runs when a process is forked afterwards, as PyTorch does for its workers: a lock that a thread
has taken would stay taken in the fork. Work that forks processes and reports meanwhile starts no
thread, see ``train_progress``.
"""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO, cast

import click

from vggspec.base import interrupt
from vggspec.base.quantities import duration, speed
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.cli.terminal import is_quiet, say

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

FIRST_LINE_S, EVERY_S = 10.0, 60.0  # where lines cannot move
LOOKS_S, MOVES_S = 0.5, 0.1
SETTLED_S = 3.0  # before that, most of the time is for loading and does not indicate the speed
REMOVED = b"\r\x1b[2K\x1b[?25h"  # the line is cleared, and the cursor is shown again
BAR_COLUMNS = (24, 16, 8, 4)  # the widest that fits: a bar should not change with the text


class Pace:
    """How fast a piece of work gets done, and when that was last shown."""

    def __init__(self, first: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.now = first
        self._clock = clock
        self._began = self._at = clock()
        self._shown: tuple[float, int] | None = None
        """When a line was last written, and how much was done then."""

    def take(self, now: Progress) -> None:
        """Take in a report."""
        self.now, self._at = now, self._clock()

    def is_due(self, first_s: float, every_s: float) -> bool:
        """Whether there is news, and it is time for a line; if so, it counts as written."""
        at, done = self._clock(), self.now.done
        if at - self._began < first_s or done == self.now.before:
            return False
        if self._shown is not None and (at - self._shown[0] < every_s or done == self._shown[1]):
            return False
        self._shown = at, done
        return True

    def text(self, width: int | None = None) -> str:
        """The progress in a line; the time left follows from the speed so far."""
        now, passed = self.now, self._at - self._began
        rate = (now.done - now.before) / passed if passed >= SETTLED_S else 0.0
        left = ""
        if rate:
            left_s = (now.total - now.done) / rate - (self._clock() - self._at)
            left = f"{duration(max(0.0, left_s))} left"
        parts = {
            "doing": now.doing,
            "done": f"{now.done}/{now.total} {now.unit}",
            "details": "  ".join(each for each in now.details if each),
            "speed": speed(rate, now.unit) if rate else "",
            "left": left,
        }
        return joined(parts, ("speed", "doing", "details"), width)


class Shown(Watcher):
    """Shows reports on standard error until it is closed."""

    def __init__(
        self, console: "Console | None" = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.last: Progress | None = None
        """The latest report."""

        self._console, self._clock = console, clock
        self._stack = contextlib.ExitStack()
        self._live: Live | None = None
        self._pace: Pace | None = None

    def progress(self, now: Progress) -> None:
        if is_quiet():
            self.last = now
            return
        if self._pace is None or self._pace.now.doing != now.doing:
            self.close()
            pace = self._pace = Pace(now, self._clock)
            is_moving = self.move(now.doing)
            if is_moving:
                show, every_s = self._show, MOVES_S
            else:
                show, every_s = self._say, LOOKS_S
            self._stack.enter_context(_repeating(lambda: show(pace), every_s))
        self._pace.take(now)
        self.last = now
        if now.done >= now.total:
            self.close()  # what follows may be a result, or fork processes

    def about(self, topic: str, text: str) -> None:
        say(topic, text)

    def note(self, text: str) -> None:
        if is_quiet():
            return
        first, *more = text.splitlines() or [""]
        say("note", first)
        for line in more:
            click.echo(line, err=True)

    def close(self) -> None:
        """End the line that moves, and the thread that shows it."""
        self._stack.close()
        self._live = self._pace = None

    def move(self, text: str) -> bool:
        """Begin a line that moves, unless there is one; False where no line can move."""
        if self._live is None:
            console = self._console or terminal()
            if console is None:
                return False
            self._live = self._stack.enter_context(_one_line(text, console))
        return True

    def draw(self, text_of: Callable[[int], str], done: int, total: int) -> None:
        """Write the line that moves again, with a bar; ``text_of`` a width fits into it."""
        if self._live is not None:
            width = self._live.console.width
            self._live.update(with_bar(text_of(width), done, total, width), refresh=True)

    def stay(self, text_of: Callable[[int | None], str]) -> None:
        """Write a line that stays; ``text_of`` a width fits into it."""
        if self._live is None:
            click.echo(text_of(None), err=True)
        else:
            console = self._live.console
            console.print(unwrapped(text_of(console.width)))

    def _show(self, pace: Pace) -> None:
        self.draw(pace.text, pace.now.done, pace.now.total)

    def _say(self, pace: Pace) -> None:
        if pace.is_due(FIRST_LINE_S, EVERY_S):
            click.echo(pace.text(), err=True)


@contextlib.contextmanager
def shown() -> Iterator[Watcher]:
    """A watcher that shows reports on standard error, unless the command is quiet."""
    if is_quiet():
        yield SILENT
        return
    with contextlib.closing(Shown()) as watcher:
        yield watcher


@contextlib.contextmanager
def resumable() -> Iterator[Watcher]:
    """The same for work that ``--resume`` resumes: an interruption also shows how far it came.

    Raises:
        Exit: with the exit code of the interruption.
    """
    watcher = Shown()
    try:
        with contextlib.closing(watcher):
            yield watcher
    except (KeyboardInterrupt, SystemExit) as leaving:
        now = watcher.last
        if now is None:
            raise
        code = 128 + signal.SIGINT if isinstance(leaving, KeyboardInterrupt) else leaving.code
        more = "; --resume continues" if now.can_resume and now.done else ""
        click.echo(f"interrupted after {now.done} of {now.total} {now.unit}{more}", err=True)
        raise click.exceptions.Exit(code if isinstance(code, int) else 1) from leaving


def terminal() -> "Console | None":
    """Standard error as a terminal on which lines can move; None if it is something else."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True)
    return console if console.is_interactive else None


def with_bar(text: str, completed: int, total: int, width: int) -> "RenderableType":
    """A bar before the text, as long as ``width`` leaves room for."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    room = width - len(text) - 1
    columns = next((columns for columns in BAR_COLUMNS if columns <= room), 0)
    if not columns:
        return unwrapped(text)
    bar = ProgressBar(total=total, completed=completed, width=columns)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, unwrapped(text))
    return line


def unwrapped(text: str) -> "RenderableType":
    """A line that is cut off where it does not fit."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")


def joined(parts: dict[str, str], dropped: Sequence[str], width: int | None) -> str:
    """The parts in a line; where it is too wide, without the first of ``dropped``, and so on."""
    left = {name: part for name, part in parts.items() if part}
    for name in dropped:
        if width is None or len("  ".join(left.values())) <= width:
            break
        left.pop(name, None)
    return "  ".join(left.values())


@contextlib.contextmanager
def _one_line(text: str, console: "Console") -> "Iterator[Live]":
    """A line that is rewritten in place, and removed at the end."""
    from rich.live import Live

    # It does not refresh itself: that would take a thread of its own.
    line = Live(text, console=console, auto_refresh=False, transient=True, redirect_stdout=False)
    before = sys.stderr
    sys.stderr = _above(console, before)
    interrupt.show_line(REMOVED)
    try:
        with line:
            yield line
    finally:
        interrupt.show_line(b"")
        sys.stderr = before


def _above(console: "Console", file: TextIO) -> TextIO:
    """Standard error while a line moves: a message is written above it."""
    from rich.file_proxy import FileProxy

    class Above(FileProxy):
        # Without an encoding, click would write to the file itself.
        encoding = file.encoding
        errors = file.errors

        def isatty(self) -> bool:
            return file.isatty()

    return cast("TextIO", Above(console, file))


@contextlib.contextmanager
def _repeating(act: Callable[[], None], every_s: float) -> Iterator[None]:
    """Call a function repeatedly during the block, and once after it."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.wait(every_s):
            act()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        act()
