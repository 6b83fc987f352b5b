"""Specs from tables that were copied from a paper."""

import os
from dataclasses import dataclass

from vggspec.base.catalogue import files
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source
from vggspec.compiler.ops import spell
from vggspec.lang.formatter import format_document
from vggspec.lang.loading import read, read_source
from vggspec.lang.parser import parse
from vggspec.lang.pasted import draft


@dataclass(frozen=True, slots=True)
class Pasted:
    """A spec that was read from a table."""

    spec: str
    """Its text, in canonical form."""

    notes: tuple[str, ...]
    """What was dropped or guessed, with the lines of the table."""


def from_table(text: str) -> Pasted:
    """The spec of a table as it is copied from a PDF, a web page, Markdown or LaTeX.

    Nothing is guessed silently: see ``notes``. The spec is checked, claims included.

    Raises:
        VggspecError: the text has no table of layers or several, a part of the table is not
            understood, or its nets have mistakes; each with its place in ``text``.
    """
    return _read(Source("<text>", text))


def read_table(path: str | os.PathLike[str]) -> Pasted:
    """The same for the text of a file, or of standard input for ``-``.

    Raises:
        VggspecError: as ``from_table``, or the file cannot be read.
    """
    path = os.fspath(path)
    if path != "-" and not os.path.exists(path):  # as no spec has this name, none is suggested
        raise VggspecError(report(files.Unreadable(reason="there is no such file"), path=path))
    return _read(read_source("-") if path == "-" else read(path))


def _read(source: Source) -> Pasted:
    found = draft(source)
    written = Source(source.name, found.written.text)
    reports = Reports(found.written.moved(one, source) for one in check_source(written).reports)
    reports.raise_if_any()
    return Pasted(format_document(parse(written), spell), found.notes)
