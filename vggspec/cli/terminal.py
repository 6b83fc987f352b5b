"""What is known of the terminal, and how commands speak on it besides their results."""

import os
import textwrap
from typing import TextIO

import click

LINE = 92  # columns, after the word that says what a line is about


def use_color(stream: TextIO) -> bool:
    """Whether to colour what is written to ``stream``: a terminal, and no ``NO_COLOR``."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def say_written(path: str) -> None:
    """The path of what was written, as the result; beside it, where it went to standard output."""
    from vggspec.base.files import leads_to

    click.echo(path, err=leads_to(path) == 1)


def say(word: str, text: str) -> None:
    """A line about what is going on, or several."""
    lines = textwrap.wrap(text, LINE, break_on_hyphens=False, break_long_words=False)
    for i, line in enumerate(lines):
        click.echo(f"{'' if i else word + ':':8}{line}", err=True)
