"""The terminal: its width and colours, and the notes that a command writes in addition to its
results.

``-q`` and ``-v`` are options of every command and take effect here: a quiet command writes its
results and its errors, a verbose one also details. ``--wide`` belongs to the commands with tables.
"""

import os
import sys
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

import click

from vggspec.base.wording import wrapped

WIDTH = 80  # columns, where nothing says how many there are
NARROWEST = 40

Command = TypeVar("Command", bound=Any)  # a function, or the click command made of it


@dataclass(slots=True)
class _Options:
    """The options of this run that all commands share."""

    is_quiet: bool = False
    is_verbose: bool = False
    is_wide: bool = False


_options = _Options()


def reset() -> None:
    """Begin a run: neither quiet nor verbose nor wide."""
    _options.is_quiet = _options.is_verbose = _options.is_wide = False


def is_quiet() -> bool:
    """Whether the command writes neither notes nor progress."""
    return _options.is_quiet


def is_verbose() -> bool:
    """Whether the command writes details."""
    return _options.is_verbose


def add_options(command: click.Command) -> None:
    """Give a command ``-q`` and ``-v``; a ``-v`` of its own keeps its meaning."""
    given = {opt: param for param in command.params for opt in param.opts}
    if "-q" in given:
        return
    if "-v" in given:
        given["-v"].callback = _set_verbose
    else:
        command.params.append(_flag("-v", "--verbose", "Print details.", _set_verbose))
    text = "Print no notes and no progress."
    command.params.append(_flag("-q", "--quiet", text, _set_quiet))


def _flag(short: str, long: str, text: str, callback: Any) -> click.Option:
    return click.Option(
        [short, long], is_flag=True, expose_value=False, help=text, callback=callback
    )


def _set_verbose(_context: click.Context, _param: click.Parameter, value: Any) -> Any:
    _options.is_verbose = bool(value)
    if value:
        _show_log()
    return _checked(value)


def _set_quiet(_context: click.Context, _param: click.Parameter, value: Any) -> Any:
    _options.is_quiet = bool(value)
    return _checked(value)


def _set_wide(_context: click.Context, _param: click.Parameter, value: Any) -> None:
    _options.is_wide = bool(value)


def _checked(value: Any) -> Any:
    if _options.is_quiet and _options.is_verbose:
        message = "--quiet and --verbose are both given; keep one."
        raise click.UsageError(message)
    return value


def wide_option(command: Command) -> Command:
    """The decorator that gives a command with tables the option ``--wide``."""
    option = click.option(
        "--wide",
        is_flag=True,
        expose_value=False,
        callback=_set_wide,
        help="Print tables with all columns, however wide.",
    )
    return option(command)


def width(stream: TextIO) -> int:
    """The columns of a line on ``stream``: ``$COLUMNS``, the terminal's, or 80."""
    text = os.environ.get("COLUMNS", "")
    if text.isdecimal() and int(text):
        return max(int(text), NARROWEST)
    try:
        found = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        found = 0
    return max(found, NARROWEST) if found else WIDTH


def table_width() -> int | None:
    """The columns of a table on standard output; None for any number."""
    return None if _options.is_wide else width(sys.stdout)


def use_color(stream: TextIO) -> bool:
    """Whether to colour what is written to ``stream``: a terminal, and no ``NO_COLOR``."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def say_written(path: str) -> None:
    """Print the path of a written file as the result; on stderr if the file went to stdout."""
    from vggspec.base.files import leads_to

    click.echo(path, err=leads_to(path) == 1)


def say(word: str, text: str) -> None:
    """Write a note to standard error, such as ``note: ...``, unless the command is quiet.

    Without a word, the text stands alone.
    """
    if not _options.is_quiet:
        _write(f"{word + ':':8}" if word else "", text)


def _show_log() -> None:
    """Write what the runtime logs about its choice of an engine as details."""
    import logging

    class Details(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            detail("note", record.getMessage())

    log = logging.getLogger("vggspec.runtime.open_session")
    log.setLevel(logging.INFO)
    log.handlers = [Details()]


def detail(word: str, text: str) -> None:
    """Write a note that only a verbose command writes."""
    if _options.is_verbose:
        say(word, text)


def tell(text: str) -> None:
    """Write a message about the result to standard error, also where the command is quiet."""
    _write("", text)


def complain(text: str, word: str = "error") -> None:
    """Write an error that has no code to standard error."""
    _write(f"{word}: ", text)


def _write(head: str, text: str) -> None:
    lines = wrapped(text, width(sys.stderr) - len(head))
    for i, line in enumerate(lines):
        click.echo(f"{' ' * len(head) if i else head}{line}".rstrip(), err=True)
