"""Signals that stop a run: the first lets it save a checkpoint, the second ends it."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from threading import Event
from types import FrameType
from typing import Any

from vggspec.base import interrupt


class Stop(Event):
    """Asks a run to save a checkpoint and return; set if ``other`` is."""

    number: int | None = None
    """The signal that set it, if a signal did."""

    def __init__(self, other: Event | None = None) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or (self._other is not None and self._other.is_set())


def handles_signals() -> bool:
    """Whether this thread may install signal handlers: only the main thread may."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def stop_on_signals(other: Event | None = None) -> Iterator[Stop]:
    """An event that Ctrl-C, SIGTERM or SIGHUP sets; the second time they interrupt as usual.

    Signals that are ignored when the block begins, or in it, stay ignored. Outside of the main
    thread no signal is handled.
    """
    stop, first_at = Stop(other), 0.0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal first_at
        if stop.number is None:
            stop.number, first_at = number, time.monotonic()
            stop.set()
        elif not interrupt.is_echo(first_at):
            usual = before[number]
            if not callable(usual):
                raise interrupt.Interrupted(number)
            usual(number, frame)

    if not handles_signals():
        yield stop
        return
    before: dict[int, Any] = {each: signal.getsignal(each) for each in interrupt.ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is on_signal:
                signal.signal(number, handler)
