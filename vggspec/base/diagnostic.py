"""Mistakes in the user's input, as data.

A ``Diagnostic`` is a kind of mistake with the facts of one case; a ``Report`` adds its place;
a ``VggspecError`` carries one or several reports to the caller. Nothing here prints:
``vggspec.base.render`` does.

A ``VggspecError`` is about what the user wrote: specs, data, weights. An argument of a call that is
invalid whatever the files contain, or that contradicts another argument, is an ``ArgumentError``;
what the machine lacks is a ``MissingLibraryError``. The user can correct these three; every other
exception of a command is a bug in vggspec.
"""

import inspect
from dataclasses import dataclass
from string import Formatter
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, dataclass_transform

from vggspec.base.short_repr import short_repr
from vggspec.base.wording import count, either

if TYPE_CHECKING:
    from vggspec.base.source import Source, Span

Severity = Literal["error", "warning"]


#: A sentence with ``{fields}``, or several: the first one whose fields are all given counts.
Template = str | tuple[str, ...] | None


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Diagnostic:
    """A kind of mistake. The docstring of a subclass is its page in ``vggspec explain``.

    A subclass is a frozen dataclass of the facts (``completed``), with a code and templates. In a
    template ``{name}`` stands for a field or a property. In addition to Python's format
    specifications there are ``{names:either}`` (``a, b or c``), ``{names:join}`` (``a, b, c``) and
    ``{number:count layer}`` (``2 layers``). A template that names an empty field or None is left
    out, so a tuple of templates is an if-else. Where the words depend on more than that, override
    the method.

        class UnknownLayer(Diagnostic):
            '''A layer has a name that no kind of layer has.'''

            code = "VGG101"
            TITLE = "unknown layer `{word}`"
            HELP = ("write `{suggestion}`", "the layers are {known:join}")
            word: str
            known: tuple[str, ...]
            suggestion: str | None = None
    """

    code: ClassVar[str]
    severity: ClassVar[Severity] = "error"

    TITLE: ClassVar[Template]
    """The fact, in lower case, without a full stop."""

    LABEL: ClassVar[Template] = None
    """Words for the marked place."""

    HELP: ClassVar[Template] = None
    """How to correct it, as an imperative, with the user's own numbers."""

    NOTE: ClassVar[Template] = None
    """The reason of the rule."""

    def __new__(cls, **_facts: object) -> Self:
        completed(cls)
        return super().__new__(cls)

    def title(self) -> str:
        """The fact: ``TITLE``, filled in; the last alternative has no condition."""
        return self._filled(self.TITLE) or _Filled(self).format(templates(self.TITLE)[-1])

    def label(self) -> str:
        """The words for the marked place, or an empty string."""
        return self._filled(self.LABEL) or ""

    def help(self) -> str | None:
        """How to correct it, or None."""
        return self._filled(self.HELP)

    def note(self) -> str | None:
        """The reason of the rule, or None."""
        return self._filled(self.NOTE)

    def _filled(self, template: Template) -> str | None:
        for text in templates(template):
            given = [getattr(self, name) for name in names_in(text)]
            if not any(value in (None, "", ()) for value in given):
                return _Filled(self).format(text)
        return None

    @classmethod
    def page(cls) -> str:
        """The long explanation, as ``vggspec explain`` prints it: code between single backticks."""
        return inspect.cleandoc(cls.__doc__ or "").replace("``", "`")

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the page."""
        paragraph = " ".join(cls.page().partition("\n\n")[0].split())
        sentence, _, more = paragraph.partition(". ")
        return f"{sentence}." if more else paragraph


_COMPLETING = Lock()


def completed(kind: type[Diagnostic]) -> type[Diagnostic]:
    """A kind with the methods of a dataclass, which it gets when its first case is found.

    To make a dataclass takes most of a millisecond, there are hundreds of kinds, and a run that
    goes well meets none of them.
    """
    with _COMPLETING:
        for each in reversed(kind.__mro__):
            if issubclass(each, Diagnostic) and "__dataclass_fields__" not in vars(each):
                dataclass(frozen=True, kw_only=True)(each)
    return kind


class _Filled(Formatter):
    """Fills templates with the fields and properties of a diagnostic."""

    def __init__(self, what: Diagnostic) -> None:
        self._what = what

    def get_value(self, key: int | str, args: object, kwargs: object) -> object:
        return getattr(self._what, str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "either":
            return either(value)
        if format_spec == "join":
            return ", ".join(map(str, value))
        if format_spec.startswith("count "):
            return count(value, format_spec.removeprefix("count "))
        return format(value, format_spec)


def templates(template: Template) -> tuple[str, ...]:
    """The alternatives in a template."""
    return (template,) if isinstance(template, str) else template or ()


def names_in(text: str) -> list[str]:
    """The fields and properties that a text names."""
    return [name for _, name, _, _ in Formatter().parse(text) if name is not None]


@dataclass(frozen=True, slots=True)
class Label:
    """A second place of a report, and what is there."""

    span: "Span"
    text: str


@short_repr
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


class ArgumentError(ValueError):
    """An argument is invalid or contradicts another one. The command line reports the same as wrong
    usage, with exit code 2.
    """


class MissingLibraryError(ImportError):
    """A library that this step needs is not installed; the message says how to get it."""
