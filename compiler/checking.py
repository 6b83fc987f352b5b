"""All mistakes of a spec: in its syntax, names, shapes, claims and recipes."""

import os
from dataclasses import dataclass

from vggspec.base.diagnostic import Report, VggspecError
from vggspec.base.source import Source
from vggspec.compiler.lower import mistakes
from vggspec.lang.loading import net_name, pick, read_source, split_target
from vggspec.lang.parser import parse_leniently


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking a file, a text, or one net of it."""

    reports: tuple[Report, ...]
    """Every mistake, in the order of their places; none if the spec is right."""

    nets: tuple[str, ...] = ()
    """The names of the nets that were checked."""


def check(spec: str | os.PathLike[str], *, text: str | None = None) -> tuple[Report, ...]:
    """Every mistake of a spec: none if it is right.

    ``spec`` is ``D.vgg``, ``table1.vgg:D`` or the name of a spec that comes with vggspec. With
    ``text``, that text is checked, and ``spec`` is the name that its reports show.
    """
    name = os.fspath(spec)
    if text is None:
        return check_target(name).reports
    return check_source(Source(name, text.removeprefix("\ufeff"))).reports  # as in a file


def check_target(target: str) -> Checked:
    """The same for a file, or for one net of it; a file that cannot be read is a mistake too."""
    path, net = split_target(target)
    try:
        return check_source(read_source(path), net)
    except VggspecError as error:
        return Checked(error.reports)


def check_source(source: Source, net: str | None = None) -> Checked:
    """The same for a text, or for one net of it."""
    document, reports = parse_leniently(source)
    try:
        specs = document.specs if net is None else (pick(document, net),)
    except VggspecError as error:
        # The net may be in the part that could not be read.
        return Checked(reports.sorted() or error.reports)
    mistakes(specs, reports)
    return Checked(reports.sorted(), tuple(net_name(spec) for spec in specs))
