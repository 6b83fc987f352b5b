"""What a command reads and where it is to write, looked at before it computes."""

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import refusals
from vggspec.base.render import shown

if TYPE_CHECKING:
    from vggspec.train.runs import FoundWeights


def check_spared(
    targets: Iterable[str], sources: Iterable[str | None], *, option: str = "-o"
) -> None:
    """Make sure that no file is written that is read as well, by whatever name or link.

    Raises:
        click.UsageError: one of ``targets``, which ``option`` names, is one of ``sources``.
    """
    read = {_file(source) for source in sources if source is not None} - {None}
    for target in targets:
        if _file(target) in read:
            raise click.UsageError(
                f"`{option} {shown(target)}` is a file that is read; name another one."
            )


def say_weights(found: "FoundWeights", word: str = "weights") -> None:
    """Which weights are taken where none were named, and why others perhaps should be."""
    click.echo(f"{word}: {shown(found.in_words())}", err=True)
    for note in found.notes:
        click.echo(f"note: {shown(note)}", err=True)


def _file(path: str) -> tuple[int, int] | None:
    """What is the same for all names of a file; None where there is none."""
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def check_folder(path: str) -> None:
    """Make sure that files can be written into a folder, which need not be there yet.

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
