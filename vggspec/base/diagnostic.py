"""What can be wrong with what a user gave us, as data.

A ``Diagnostic`` is a kind of mistake with the facts of one case; a ``Report`` puts it at a place;
a ``VggspecError`` carries one or several reports out of the compiler. Nothing here prints:
``vggspec.base.render`` does. Errors of this family are the user's to mend; everything else that is
raised is ours.
"""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from vggspec.base.source import Source, Span

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Diagnostic(ABC):
    """A kind of mistake. The docstring of a subclass is its page in ``vggspec explain``."""

    code: ClassVar[str]
    severity: ClassVar[Severity] = "error"

    @abstractmethod
    def title(self) -> str:
        """The fact, in lower case, without a full stop."""

    def label(self) -> str:
        """What is at the place, or nothing."""
        return ""

    def help(self) -> str | None:
        """What to do about it, as an imperative, in the writer's own numbers."""
        return None

    def note(self) -> str | None:
        """Why the rule exists."""
        return None

    @classmethod
    def page(cls) -> str:
        """The long explanation, as ``vggspec explain`` prints it."""
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the page."""
        paragraph = " ".join(cls.page().partition("\n\n")[0].split())
        sentence, _, more = paragraph.partition(". ")
        return f"{sentence}." if more else paragraph


@dataclass(frozen=True, slots=True)
class Label:
    """A second place of a report, and what is there."""

    span: "Span"
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """A diagnostic at its place: a span of a source, a file, or neither."""

    what: Diagnostic
    source: "Source | None" = None
    span: "Span | None" = None
    others: tuple[Label, ...] = ()
    path: str | None = None

    def __str__(self) -> str:
        """One plain line, such as ``D.vgg:3:5: error[VGG101]: unknown layer `convv3-64```."""
        place = self.path or ""
        if self.source is not None:
            place = self.source.name
            if self.span is not None:
                location = self.source.locate(self.span.start)
                place += f":{location.line}:{location.column}"
        title = " ".join(self.what.title().split())
        return f"{place}{': ' if place else ''}{self.what.severity}[{self.what.code}]: {title}"


def report(
    what: Diagnostic,
    source: "Source | None" = None,
    span: "Span | None" = None,
    *others: Label,
    path: str | None = None,
) -> Report:
    """A report; ``path`` names a file that is not a spec."""
    return Report(what, source, span, others, path)


class VggspecError(Exception):
    """The user's input is wrong; ``reports`` say how, each with its place."""

    def __init__(self, *reports: Report) -> None:
        assert reports
        super().__init__(reports)
        self.reports = reports

    def __str__(self) -> str:
        """One plain line: the first report, and how many more there are.

        ``vggspec.base.render.as_text(error.reports)`` shows all of them with their source lines.
        """
        more = len(self.reports) - 1
        return f"{self.reports[0]}{f' (and {more} more)' if more else ''}"


class MissingLibraryError(ImportError):
    """A library that this step needs is not installed; the message says how to get it."""
