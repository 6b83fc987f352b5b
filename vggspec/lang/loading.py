"""Specs by the name a user gives: ``D.vgg``, or ``table1.vgg:D`` for one net of several."""

import re
import sys
from pathlib import Path

from vggspec.catalogue import names, nearest
from vggspec.diagnostic import VggspecError, report
from vggspec.lang.ast import Document, Spec
from vggspec.lang.parser import parse
from vggspec.source import MAX_BYTES, Source, from_bytes, read

_TARGET = re.compile(r"(?P<path>.*\.vgg|-):(?P<net>[^:/\\]+)")


def split_target(target: str) -> tuple[str, str | None]:
    """The path and, after a colon, the net."""
    match = _TARGET.fullmatch(target)
    return (match["path"], match["net"]) if match else (target, None)


def read_source(path: str) -> Source:
    """The text of a spec file, or of standard input for ``-``.

    Raises:
        VggspecError: it cannot be read.
    """
    if path == "-":
        return from_bytes("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1))
    return read(path)


def load(target: str) -> Spec:
    """The one net that ``target`` names.

    Raises:
        VggspecError: it cannot be read, has mistakes, or does not say which of several nets.
    """
    path, net = split_target(target)
    return pick(parse(read_source(path)), net)


def pick(document: Document, net: str | None) -> Spec:
    """The net of that name, or the only one.

    Raises:
        VggspecError: there is none, or several and no name.
    """
    source = document.source
    specs = {net_name(spec): spec for spec in document.specs}
    if net is None:
        if len(specs) == 1:
            return document.specs[0]
        first = next(iter(specs))
        what = names.WhichNet(nets=tuple(specs), example=f"{source.name}:{first}")
        raise VggspecError(report(what, path=source.name))
    for name, spec in specs.items():
        if name.casefold() == net.casefold():
            return spec
    missing = names.NoSuchNet(name=net, nets=tuple(specs), suggestion=nearest(net, tuple(specs)))
    raise VggspecError(report(missing, path=source.name))


def net_name(spec: Spec) -> str:
    """The net's name: as written, or that of its file."""
    if spec.name is not None:
        return spec.name.text
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(spec.source.name).stem.strip("<>"))
    return stem if stem[:1].isalpha() else f"net_{stem}"
