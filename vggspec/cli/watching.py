"""What one sees of a training run: lines that stay, and on a terminal one that moves."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.quantities import duration as duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from vggspec.train.progress import Epoch, Step, Watch

SILENT_S = 600.0  # so long at most is there nothing new in a log file
BAR_COLUMNS = (24, 16, 8, 4)  # the widest that fits: a bar should not twitch with the text


Remark = Callable[["Epoch"], str | None]
"""What there is to say of an epoch besides, if anything."""


def _nothing(_now: "Epoch") -> None:
    return None


@contextlib.contextmanager
def watching(remark: Remark = _nothing) -> Iterator["Watch"]:
    """On a terminal a line that moves below the epochs, else the epochs and a line now and then;
    and below an epoch what there is to ``remark``.
    """
    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        if console.is_interactive:
            with moving(console, remark) as watch:
                yield watch
            return
    yield Lines(remark=remark)


@contextlib.contextmanager
def moving(console: "Console", remark: Remark = _nothing) -> Iterator["Watch"]:
    """A line an epoch, and below them one that moves, never wider than the terminal."""
    with one_line("starting", console) as live:
        yield _Moving(live, remark)


def one_line(text: str, console: "Console") -> "Live":
    """A line that is written anew in its place, and gone in the end."""
    from rich.live import Live

    # No refresh of its own: that takes a thread, and processes that read images are yet to start.
    return Live(text, console=console, auto_refresh=False, transient=True, redirect_stdout=False)


class Lines:
    """A line an epoch, and one after ten minutes without any."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, remark: Remark = _nothing
    ) -> None:
        self._clock, self._remark = clock, remark
        self._said = clock()
        self._error: float | None = None

    def step(self, now: "Step") -> None:
        if self._clock() - self._said >= SILENT_S:
            self._say(step_line(now, self._error))

    def epoch(self, now: "Epoch") -> None:
        self._error = now.validation.error
        self._say(epoch_line(now))
        text = self._remark(now)
        if text is not None:
            self._say(text)

    def _say(self, line: str) -> None:
        click.echo(line, err=True)
        self._said = self._clock()


class _Moving:
    def __init__(self, live: "Live", remark: Remark) -> None:
        self._live, self._remark = live, remark
        self._error: float | None = None

    def step(self, now: "Step") -> None:
        self._show(now)

    def epoch(self, now: "Epoch") -> None:
        self._error = now.validation.error
        console = self._live.console
        console.print(unwrapped(epoch_line(now, console.width)))
        text = self._remark(now)
        if text is not None:
            console.print(text, markup=False, highlight=False)
        self._show(now)

    def _show(self, now: "Step | Epoch") -> None:
        width = self._live.console.width
        text = step_line(now, self._error, width)
        self._live.update(with_bar(text, now.step, now.last_step, width), refresh=True)


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


def step_line(now: "Step | Epoch", error: float | None, width: int | None = None) -> str:
    """How a run stands, in a line; ``error`` is that of the last validation, if there was any."""
    parts = {
        "epoch": f"epoch {now.epoch}",
        "step": f"step {now.step}/{now.last_step}",
        "loss": f"loss {now.loss:.3f}",
        "error": "" if error is None else f"error {error:.2%}",
        "rate": f"rate {now.rate:g}",
        "speed": f"{now.images_per_s:.0f} images/s",
        "left": f"{duration(now.left_s)} left",
    }
    return joined(parts, ("step", "rate", "speed", "error"), width)


def epoch_line(now: "Epoch", width: int | None = None) -> str:
    """How an epoch went, in a line; a star marks the best so far."""
    validation = now.validation
    # Of fewer classes, five say little.
    has_many = "top-5" in validation.errors and len(validation.class_errors) > 20
    parts = {
        "epoch": f"epoch {now.epoch:3}",
        "loss": f"loss {now.loss:6.3f}",
        "error": f"error {validation.error:6.2%}",
        "top-5": f"top-5 {validation.errors['top-5']:6.2%}" if has_many else "",
        "rate": f"rate {now.rate:g}",
        "speed": f"{now.images_per_s:.0f} images/s",
        "left": f"{duration(now.left_s)} left",
    }
    parts["top-5" if has_many else "error"] += " *" if now.is_best else "  "
    return joined(parts, ("left", "speed", "rate"), width)


def joined(parts: dict[str, str], dropped: Sequence[str], width: int | None) -> str:
    """The parts in a line; where it is too wide, without the first of ``dropped``, and so on."""
    left = {name: part for name, part in parts.items() if part}
    for name in dropped:
        if width is None or len("  ".join(left.values())) <= width:
            break
        left.pop(name, None)
    return "  ".join(left.values())
