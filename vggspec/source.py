"""Source text and places in it; how every file is opened that somebody else may have made.

A place is a half-open range of code points; lines and columns, both counted from 1, are
computed here and nowhere else.
"""

import errno
import os
import re
import stat
from bisect import bisect_right
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import accumulate
from pathlib import Path

from vggspec.catalogue import files
from vggspec.diagnostic import VggspecError, report

MAX_BYTES = 1 << 18  # a thousand lines take about 20 KB

#: What terminals obey: commands and titles that begin with ESC, or with its one-character forms.
_ESCAPE = re.compile(
    r"(?:\x1b[\]P_^X]|[\x9d\x90])[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]?"
)
_SENTENCE = re.compile(r"(?<=[.!?])(?= [A-Z])")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Code points ``start`` to ``end`` of a source's text, ``end`` excluded."""

    start: int
    end: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.end, (self.start, self.end)

    def __contains__(self, offset: int) -> bool:
        return self.start <= offset < self.end

    def to(self, other: "Span") -> "Span":
        """The smallest span that covers both."""
        return Span(min(self.start, other.start), max(self.end, other.end))


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A line and a column, both counted from 1; a tab is one column."""

    line: int
    column: int


@dataclass(frozen=True)
class Source:
    """The text of a spec and the name to show for it."""

    name: str
    text: str
    line_starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ends = accumulate(len(line) + 1 for line in self.text.split("\n"))
        starts = (0, *ends)[:-1]  # of the last line nothing begins after its end
        object.__setattr__(self, "line_starts", starts)

    @property
    def num_lines(self) -> int:
        """Lines of text; a final newline does not begin another one."""
        return len(self.line_starts) - (self.text.endswith("\n") or not self.text)

    def locate(self, offset: int) -> Location:
        """The line and column of ``offset``; past the end, the place just after the text."""
        offset = min(max(offset, 0), len(self.text))
        line = bisect_right(self.line_starts, offset)
        return Location(line, offset - self.line_starts[line - 1] + 1)

    def offset(self, location: Location) -> int:
        """The inverse of ``locate``."""
        return self.line_starts[location.line - 1] + location.column - 1

    def line_span(self, line: int) -> Span:
        """Line number ``line`` without its newline."""
        start = self.line_starts[line - 1]
        last = line == len(self.line_starts)
        return Span(start, len(self.text) if last else self.line_starts[line] - 1)

    def line_text(self, line: int) -> str:
        """The text of line number ``line`` without its newline."""
        return self.slice(self.line_span(line))

    def slice(self, span: Span) -> str:
        """The text that ``span`` covers."""
        return self.text[span.start : span.end]


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
        raise VggspecError(report(files.missing_spec(name), path=name)) from error
    except IsADirectoryError as error:
        specs = sorted(p.name for p in Path(name).glob("*.vgg"))
        raise VggspecError(report(files.IsDirectory(specs=tuple(specs)), path=name)) from error
    except NotRegularError as error:
        raise VggspecError(report(files.NotRegularFile(), path=name)) from error
    except OSError as error:
        raise VggspecError(report(files.Unreadable(reason=reason(error)), path=name)) from error
    return from_bytes(name, data)


class NotRegularError(OSError):
    """A pipe, a socket or a device stands where a file must be."""


_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading; links are followed, and nothing is waited for.

    Raises:
        OSError: there is none, the system refuses, or something else stands there.
    """
    try:
        return open(path, "rb", opener=regular)
    except ValueError as error:  # a NUL character, or half a character of another encoding
        raise OSError(errno.EINVAL, "no file can have this name") from error


def read_file(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises:
        OSError: as ``open_file``, or it is larger.
    """
    with open_file(path) as file:
        # So many bytes are allocated at once, so no more are asked for than there should be.
        size = os.fstat(file.fileno()).st_size
        data = (
            file.read(min(most, size) + 1) or b""
        )  # None where a file of the system has nothing yet
        if size < len(data) <= most:  # it has grown, or the system does not tell its size
            data += file.read(most + 1 - len(data)) or b""
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is too long: more than {most} bytes", os.fspath(path))
    return data


def regular(path: str | os.PathLike[str], flags: int) -> int:
    """Open a regular file, or make one: an ``opener`` for ``open``.

    A pipe without a writer keeps who opens it waiting forever, and opening a device may do
    something. So what stands there is looked at before, and again once it is open, since it may
    have been exchanged; that never waits.

    Raises:
        OSError: the system refuses, or something else stands there.
    """
    if not flags & os.O_CREAT or os.path.exists(path):
        _check_regular(os.stat(path), path)
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(found: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(found.st_mode)), "no file")
        raise NotRegularError(errno.EINVAL, f"it is {kind}, not a regular file", os.fspath(path))


def reason(error: OSError | ValueError) -> str:
    """What the system said, in lower case and without the path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def foreign(text: str, limit: int = 500) -> str:
    """What a library said, fit for a message of ours: one printable line, its first letter as
    within a sentence, no full stop. Cut after a sentence that ends near ``limit``, else after a
    word.
    """
    text = _ESCAPE.sub("", text[: 100 * limit])
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > limit:
        ends = [end.end() for end in _SENTENCE.finditer(text, limit // 2, limit)]
        words = text[: limit + 1].rpartition(" ")[0] or text[:limit]
        text = (text[: ends[-1]] if ends else words) + " …"
    text = text.rstrip(" .")
    is_word = text[:1].isupper() and text[1:2].islower()
    return text[:1].lower() + text[1:] if is_word else text
