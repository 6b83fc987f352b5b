"""Tables as they are copied from a PDF, a web page, Markdown or LaTeX, to the text of a spec."""

from dataclasses import dataclass

from vggspec.base.catalogue import pasting
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.reports import Reports
from vggspec.base.source import Source
from vggspec.lang.pasted.grid import Desk, Notes
from vggspec.lang.pasted.lines import read_lines
from vggspec.lang.pasted.nets import read_nets
from vggspec.lang.pasted.tex import has_tabular, read_tabular
from vggspec.lang.pasted.web import has_table, read_page
from vggspec.lang.pasted.writing import Written, write

MAX_LINES = 1 << 13


@dataclass(frozen=True, slots=True)
class Draft:
    """A spec that was not yet parsed, and what was dropped or guessed for it."""

    written: Written
    notes: tuple[str, ...]


def draft(source: Source) -> Draft:
    """The spec of the only table of layers in a pasted text.

    Raises:
        VggspecError: with every part of the table that is not understood.
    """
    desk = Desk(source, Reports(), Notes(source))
    if source.num_lines > MAX_LINES:
        what = pasting.TooMuch(most_lines=MAX_LINES)
        raise VggspecError(report(what, source, source.line_span(MAX_LINES + 1)))
    if has_table(source.text):
        grid = read_page(desk)
    elif has_tabular(source.text):
        grid = read_tabular(desk)
    else:
        grid = read_lines(desk)
    nets = None if grid is None else read_nets(grid, desk)
    desk.reports.raise_if_any()
    assert nets is not None
    return Draft(write(nets), desk.notes.lines())
