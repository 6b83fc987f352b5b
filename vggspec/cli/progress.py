"""What the command line shows while a library call works: one line of progress, facts and notes."""

import contextlib
import signal
from collections.abc import Iterator

import click

from vggspec.base.watching import SILENT, Progress, Watcher
from vggspec.cli.pacing import Show, pacing
from vggspec.cli.terminal import is_quiet, say


class _Shown(Watcher):
    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._show: Show | None = None
        self.last: Progress | None = None

    def progress(self, now: Progress) -> None:
        if is_quiet():
            self.last = now
            return
        if self._show is None or self.last is None or self.last.doing != now.doing:
            self.close()
            self._show = self._stack.enter_context(
                pacing(now.doing, now.total, now.unit, before=now.before)
            )
        self.last = now
        self._show(now.done, *now.details)
        if now.done >= now.total:
            self.close()  # what follows may print a result

    def about(self, topic: str, text: str) -> None:
        say(topic, text)

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


@contextlib.contextmanager
def resumable() -> Iterator[Watcher]:
    """The same for work that ``--resume`` resumes: an interruption also shows how far it came.

    Raises:
        Exit: with the exit code of the interruption.
    """
    watcher = _Shown()
    try:
        with contextlib.closing(watcher):
            yield watcher
    except (KeyboardInterrupt, SystemExit) as leaving:
        now = watcher.last
        if now is None:
            raise
        code = 128 + signal.SIGINT if isinstance(leaving, KeyboardInterrupt) else leaving.code
        more = "; --resume goes on" if now.can_resume and now.done else ""
        click.echo(f"interrupted after {now.done} of {now.total} {now.unit}{more}", err=True)
        raise click.exceptions.Exit(code if isinstance(code, int) else 1) from leaving
