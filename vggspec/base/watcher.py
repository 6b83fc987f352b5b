"""Progress reports of long work to its caller.

A library call takes a ``Watcher`` and calls it from the thread that does the work; the command
line shows what it receives, a notebook may draw a bar of it. A watcher that raises ends the work.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a piece of work has come."""

    doing: str
    """What is being done, such as ``testing``."""

    done: int
    total: int
    unit: str
    """What is counted, in the plural: ``images``."""

    before: int = 0
    """How many of ``done`` an earlier run did; they do not count for the speed."""

    details: tuple[str, ...] = ()
    """An intermediate result, such as ``error 12.31%``."""

    can_resume: bool = False
    """Whether a later run can resume from here if this one is interrupted."""


class Watcher:
    """Receives progress, facts and notes and ignores them; subclasses override what they need."""

    def progress(self, now: Progress) -> None:
        """Work has come this far."""

    def about(self, topic: str, text: str) -> None:
        """A fact about the work, mostly before it begins: ``("cost", "15.5 GMAC an image")``."""

    def note(self, text: str) -> None:
        """Something the caller should know about the result, such as files that are not used."""

    def log(self, severity: int, text: str) -> None:
        """A library that does the work, such as TensorRT, logged a message: 0 internal error,
        1 error, 2 warning, 3 information, 4 verbose. Called from the library's threads.
        """


SILENT = Watcher()
