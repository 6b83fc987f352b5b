"""Checks of what a command reads and where it writes, before it computes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from vggspec.base.files import is_same_file
from vggspec.base.render import shown
from vggspec.cli.terminal import tell

if TYPE_CHECKING:
    from vggspec.training.runs import FoundWeights


def check_spared(
    targets: Iterable[str], sources: Iterable[str | None], *, option: str = "-o"
) -> None:
    """Check that no file is both read and written, by whatever name or link.

    Raises:
        click.UsageError: one of ``targets``, which ``option`` names, is one of ``sources``.
    """
    read = [source for source in sources if source is not None]
    for target in targets:
        if any(is_same_file(target, source) for source in read):
            raise click.UsageError(
                f"`{option} {shown(target)}` is a file that is read; name another one."
            )


def say_weights(found: "FoundWeights", word: str = "weights") -> None:
    """Print which weights are taken by default, with the notes about others."""
    tell(f"{word}: {shown(found.in_words())}")
    for note in found.notes:
        tell(f"note: {shown(note)}")
