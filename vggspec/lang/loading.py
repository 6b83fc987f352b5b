"""Specs by the name that a user gives.

``D.vgg`` is a file and ``table1.vgg:D`` one net of several in a file. A name without a suffix or a
folder, ``D`` or ``table1:D``, is the file of that name in the working folder, ``D`` or ``D.vgg``,
else the spec that comes with vggspec.
"""

import os
import re
import sys
from pathlib import Path

from vggspec.base.catalogue import files, layers
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import NotRegularError, open_file
from vggspec.base.source import Source
from vggspec.base.wording import nearest, reason
from vggspec.lang.ast import Document, Spec
from vggspec.lang.packaged import SUFFIX, find_packaged, packaged
from vggspec.lang.parser import parse

MAX_BYTES = 1 << 18  # a thousand lines take about 20 KB

_TARGET = re.compile(r"(?P<path>.*\.vgg|-):(?P<net>[^:/\\]+)")
_NAMED = re.compile(r"(?P<path>[A-Za-z][\w.-]*):(?P<net>[^:/\\]+)")
_NAME = re.compile(r"[A-Za-z][\w.-]*(?<!\.vgg)")


def split_target(target: str, folder: str = "") -> tuple[str, str | None]:
    """The file and, after a colon, the net."""
    match = _TARGET.fullmatch(target)
    if match is None and not os.path.exists(os.path.join(folder, target)):
        match = _NAMED.fullmatch(target)
    return (match["path"], match["net"]) if match else (target, None)


def find_spec(name: str, folder: str = "") -> str:
    """The path of the spec file that a name means, seen from a folder.

    Raises:
        VggspecError: two files of the folder have that name.
    """
    path = os.path.join(folder, name)
    if not _NAME.fullmatch(name):
        return path
    with_suffix = path + SUFFIX
    has_suffix = os.path.isfile(with_suffix)
    if os.path.isfile(path):
        if has_suffix:
            raise VggspecError(report(layers.WhichFile(name=name), path=path))
        return path
    return with_suffix if has_suffix else find_packaged(name) or path


def read_source(name: str) -> Source:
    """The text of a spec, by its name; of standard input for ``-``.

    Raises:
        VggspecError: it cannot be read.
    """
    if name == "-":
        return from_bytes("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1))
    return read(find_spec(name))


def read_packaged(name: str) -> Source:
    """The text of a spec that comes with vggspec.

    Raises:
        VggspecError: no packaged spec has that name.
    """
    path = find_packaged(name)
    if path is None:
        like = nearest(name, tuple(packaged()))
        what = files.MissingSpec(suggestion=like, is_packaged=True)
        raise VggspecError(report(what, path=name))
    return read(path)


def from_bytes(name: str, data: bytes) -> Source:
    """Decode a spec: UTF-8, with or without a byte order mark, any line ending.

    Raises:
        VggspecError: the bytes are not text.
    """
    if len(data) > MAX_BYTES:
        raise VggspecError(report(files.SpecTooLarge(limit=MAX_BYTES), path=name))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VggspecError(report(files.NotText(offset=error.start), path=name)) from error
    if "\0" in text:
        raise VggspecError(report(files.NotText(offset=text.index("\0")), path=name))
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"))


def read(path: str | os.PathLike[str]) -> Source:
    """Read a spec from a regular file, never more than ``MAX_BYTES`` of it.

    Raises:
        VggspecError: there is no such file, or it is not a text file.
    """
    name = os.fspath(path)
    try:
        with open_file(name) as file:
            data = file.read(MAX_BYTES + 1) or b""
    except FileNotFoundError as error:
        what = files.missing_spec(name, tuple(packaged()))
        raise VggspecError(report(what, path=name)) from error
    except IsADirectoryError as error:
        specs = sorted(p.name for p in Path(name).glob("*.vgg"))
        raise VggspecError(report(files.IsDirectory(specs=tuple(specs)), path=name)) from error
    except NotRegularError as error:
        raise VggspecError(report(files.NotRegularFile(), path=name)) from error
    except OSError as error:
        raise VggspecError(report(files.Unreadable(reason=reason(error)), path=name)) from error
    return from_bytes(name, data)


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
        VggspecError: no net has that name, or there are several and no name is given.
    """
    source = document.source
    specs = {net_name(spec): spec for spec in document.specs}
    if net is None:
        if len(specs) == 1:
            return document.specs[0]
        first = next(iter(specs))
        what = layers.WhichNet(nets=tuple(specs), example=f"{as_named(source.name)}:{first}")
        raise VggspecError(report(what, path=source.name))
    for name, spec in specs.items():
        if name.casefold() == net.casefold():
            return spec
    missing = layers.NoSuchNet(name=net, nets=tuple(specs), suggestion=nearest(net, tuple(specs)))
    raise VggspecError(report(missing, path=source.name))


def as_named(spec: str, net: str | None = None) -> str:
    """What to type for a spec's path: the name of a packaged one; ``net`` if it has several."""
    path, given = split_target(spec)
    name = next((each for each, place in packaged().items() if place == path), path)
    try:
        name = name if find_spec(name) == path else path
        has_several = len(parse(read(path)).specs) > 1
    except VggspecError:
        return spec
    net = given or (net if has_several else None)
    return f"{name}:{net}" if net else name


def net_name(spec: Spec) -> str:
    """The net's name: as written, or that of its file."""
    if spec.name is not None:
        return spec.name.text
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(spec.source.name).stem.strip("<>"))
    return stem if stem[:1].isalpha() else f"net_{stem}"
