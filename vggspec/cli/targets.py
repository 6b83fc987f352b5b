"""Checks of what a command reads and where it writes, before it computes."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import is_same_file, leads_to, refusals
from vggspec.base.render import shown
from vggspec.cli.terminal import say

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


def replaces(target: str) -> bool:
    """Whether writing it replaces a file, and not only adds to standard output or a device."""
    return isinstance(leads_to(target), Path) and Path(target).is_file()


def say_weights(found: "FoundWeights", word: str = "weights") -> None:
    """Say which weights are taken by default, with the notes about others."""
    say("", f"{word}: {shown(found.in_words())}")
    for note in found.notes:
        say("", f"note: {shown(note)}")


def check_folder(path: str) -> None:
    """Check that files can be written into a folder, which need not exist.

    Raises:
        VggspecError: they cannot.
    """
    with refusals(path):
        folder = Path(path).absolute()
        folder = next((each for each in (folder, *folder.parents) if each.exists()), folder)
        if not folder.is_dir():
            what = CannotWrite(reason=f"{shown(str(folder))} is not a folder")
            raise VggspecError(report(what, path=path))
        tempfile.TemporaryFile(dir=folder).close()
