"""Standard output and standard error, fit for what a command writes: any text, and no room."""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Output(io.FileIO):
    """A stream that remembers why it could not be written."""

    failure: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write what there is room for."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


class Notes(io.FileIO):
    """A stream of what need not be read: where it cannot be written, the command goes on."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write what there is room for."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            return memoryview(data).nbytes


def standard_streams() -> Output:
    """Put in order what ``sys.stdout`` and ``sys.stderr`` are; the first one's end.

    A character that their encoding lacks is written as a backslash and its number, and so is a byte
    of a path that is no text.
    """
    _replace_closed()
    output = Output(1, "wb", closefd=False)
    if sys.platform != "win32":  # whose consoles have streams of their own
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
    """Let nothing come of what is written to a standard stream that was closed (``2>&-``).

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
