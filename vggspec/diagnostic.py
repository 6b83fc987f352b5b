"""What can be wrong with what a user gave us, as data.

A ``Diagnostic`` is a kind of mistake with the facts of one case; a ``Report`` puts it at a place;
a ``VggspecError`` carries one or several reports out of the compiler. Nothing here prints:
``vggspec.render`` does. Errors of this family are the user's to mend; everything else that is
raised is ours.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from vggspec.source import Source, Span

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
        from vggspec.render import as_text

        return as_text(self.reports)


class MissingLibraryError(ImportError):
    """A library that this step needs is not installed; the message says how to get it."""


#: Mistakes that are kept; whoever has as many has one cause of all, and wants the first ones.
MAX_REPORTS = 1000


class Reports:
    """Collects reports, each once, so that one run tells everything; ``MAX_REPORTS`` at most."""

    def __init__(self, found: Iterable[Report] = ()) -> None:
        self._seen: dict[tuple[object, ...], Report] = {}
        self._beyond: Report | None = None
        self.extend(found)

    @property
    def is_full(self) -> bool:
        """Whether a report was turned away, so that nothing need be checked any more."""
        return self._beyond is not None

    def add(self, found: Report) -> None:
        """Keep ``found`` unless the same mistake at the same place is already kept."""
        source = found.source.name if found.source else found.path
        key = (type(found.what), source, found.span)
        if key in self._seen:
            return
        if len(self._seen) < MAX_REPORTS:
            self._seen[key] = found
        elif self._beyond is None:
            from vggspec.catalogue.files import TooManyMistakes

            what = TooManyMistakes(limit=MAX_REPORTS)
            self._beyond = Report(what, found.source, found.span, path=found.path)

    def extend(self, found: Iterable[Report]) -> None:
        """Keep several."""
        for one in found:
            self.add(one)

    def sorted(self) -> tuple[Report, ...]:
        """All reports, in the order of their places; that there are more of them comes last."""
        found = sorted(self._seen.values(), key=_place)
        return tuple(found if self._beyond is None else (*found, self._beyond))

    def __len__(self) -> int:
        return len(self._seen)

    def raise_if_any(self) -> None:
        """Raise what was collected, if anything was.

        Raises:
            VggspecError: something was collected.
        """
        if self._seen:
            raise VggspecError(*self.sorted())


def _place(one: Report) -> tuple[str, int]:
    name = one.source.name if one.source else one.path or ""
    return name, one.span.start if one.span else -1
