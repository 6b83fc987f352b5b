"""Checks of what a command reads and where it writes, before it computes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggspec.base.files import leads_to
from vggspec.base.render import shown
from vggspec.cli.terminal import say

if TYPE_CHECKING:
    from vggspec.training.runs import FoundWeights


def check_spared(
    targets: Iterable[str], sources: Iterable[str | None], *, option: str = "-o"
) -> None:
    """Check that no file is both read and written, by whatever name or link. A source that is a
    folder, such as a bundle, is all files below it.

    Raises:
        click.UsageError: one of ``targets``, which ``option`` names, is one of ``sources``.
    """
    written = {found: target for target in targets if (found := _identity(target)) is not None}
    if not written:
        return  # no folder need be walked
    for source in sources:
        for found in map(_identity, () if source is None else _files(source)):
            if found is not None and found in written:
                raise click.UsageError(
                    f"`{option} {shown(written[found])}` is a file that is read; name another one."
                )


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from others, with links resolved; None if it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _files(source: str) -> Iterator[str]:
    """A file, or all below a folder; a folder to which several links lead is walked once."""
    yield source
    seen = {_identity(source)}
    for folder, below, names in os.walk(source, followlinks=True):
        yield from (os.path.join(folder, name) for name in names)
        found = {name: _identity(os.path.join(folder, name)) for name in below}
        below[:] = [name for name in below if found[name] not in seen]
        seen.update(found.values())


def replaces(target: str) -> bool:
    """Whether writing it replaces a file, and not only adds to standard output or a device."""
    return isinstance(leads_to(target), Path) and Path(target).is_file()


def say_weights(found: "FoundWeights", word: str = "weights") -> None:
    """Say which weights are taken by default, with the notes about others."""
    say("", f"{word}: {shown(found.in_words())}")
    for note in found.notes:
        say("", f"note: {shown(note)}")
