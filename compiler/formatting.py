"""Specs in canonical form."""

import os
from dataclasses import dataclass

from vggspec.base.catalogue.files import FormattedTooLarge
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.base.source import Source
from vggspec.compiler.ops import spell
from vggspec.lang.formatter import format_document
from vggspec.lang.loading import MAX_BYTES, find_spec, read_source
from vggspec.lang.parser import parse


@short_repr
@dataclass(frozen=True, slots=True)
class Formatted:
    """A spec before and after formatting."""

    path: str
    """The file that was read; ``-`` for standard input."""

    before: str
    after: str

    @property
    def is_changed(self) -> bool:
        """Whether formatting changes the text."""
        return self.before != self.after

    def write(self) -> None:
        """Replace the file by the formatted text; through a link, the file that it leads to.

        Raises:
            ArgumentError: it was read from standard input.
            VggspecError: the file cannot be written.
        """
        from vggspec.base.files import write_text

        if self.path == "-":
            raise ArgumentError("the spec is from standard input, and has no file to be written to")
        write_text(os.path.realpath(self.path), self.after)


def format_spec(path: str | os.PathLike[str]) -> Formatted:
    """Format a spec file, or standard input for ``-``; nothing is written.

    Raises:
        VggspecError: the file cannot be read or has mistakes of syntax.
    """
    given = os.fspath(path)
    path = given if given == "-" else find_spec(given)
    source = read_source(path)
    after = _format(source)
    size = len(after.encode())
    if size > MAX_BYTES and after != source.text:
        raise VggspecError(report(FormattedTooLarge(found=size, limit=MAX_BYTES), path=path))
    return Formatted(path, source.text, after)


def format_text(text: str) -> str:
    """The text of a spec in canonical form.

    Raises:
        VggspecError: it has mistakes of syntax.
    """
    return _format(Source("<text>", text))


def _format(source: Source) -> str:
    return format_document(parse(source), spell)
