"""Standard output and standard error that take any text, and report a full disk."""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """A stream that remembers why writing failed."""

    failure: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write as many bytes as fit."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


class Notes(io.FileIO):
    """A stream for notes: the command continues if they cannot be written."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write as many bytes as fit."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            return memoryview(data).nbytes


def standard_streams() -> Output:
    """Replace ``sys.stdout`` and ``sys.stderr``; returns the raw end of the first.

    A character that their encoding lacks is written as a backslash and its number, and so is a byte
    of a path that is no text.
    """
    _replace_closed()
    output = Output(1, "wb", closefd=False)
    if sys.platform != "win32":  # consoles there have their own streams
        sys.stdout = _text(output, sys.stdout)
        sys.stderr = _text(Notes(2, "wb", closefd=False), sys.stderr)
    else:
        for stream in (sys.stdout, sys.stderr):
            cast("io.TextIOWrapper", stream).reconfigure(errors="backslashreplace")
    return output


def _text(raw: io.FileIO, like: TextIO) -> io.TextIOWrapper:
    like.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding,
        errors="backslashreplace",
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )


def _replace_closed() -> None:
    """Discard what is written to a standard stream that was closed (``2>&-``).

    Else the next file that is opened takes its number, and what a library warns of goes into that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (to the end)
