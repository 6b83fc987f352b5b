"""What the command line shows while a library call works: one line of progress, and notes."""

import contextlib
from collections.abc import Iterator

from vggspec.base.watching import SILENT, Progress, Watcher
from vggspec.cli.pacing import Show, pacing
from vggspec.cli.terminal import is_quiet, say


class _Shown(Watcher):
    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._doing: str | None = None
        self._show: Show | None = None

    def progress(self, now: Progress) -> None:
        if self._show is None or self._doing != now.doing:
            self.close()
            self._show = self._stack.enter_context(
                pacing(now.doing, now.total, now.unit, before=now.before)
            )
            self._doing = now.doing
        self._show(now.done, *now.details)

    def note(self, text: str) -> None:
        say("note", text)

    def close(self) -> None:
        self._stack.close()
        self._show = None


@contextlib.contextmanager
def shown() -> Iterator[Watcher]:
    """A watcher that shows on standard error what it hears; nothing in a quiet command."""
    if is_quiet():
        yield SILENT
        return
    watcher = _Shown()
    with contextlib.closing(watcher):
        yield watcher
