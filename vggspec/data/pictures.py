"""The images of a folder without class folders."""

import os
from collections.abc import Iterable
from pathlib import Path

from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.render import shown
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import reason
from vggspec.data.folder import Skipped, images_below


def list_images(folder: str | os.PathLike[str], watch: Watcher = SILENT) -> list[Path]:
    """The images in a folder and in its subfolders, sorted. ``watch`` receives a note about
    the files that are not images.

    Raises:
        VggspecError: a folder cannot be read.
    """
    skipped = Skipped()
    try:
        found = sorted(Path(folder, name) for name, _ in images_below(Path(folder), skipped))
    except OSError as error:
        tried = f"`{error.filename or folder}` cannot be read: {reason(error)}"
        what = NoImages(tried=tried, has_classes=False)
        raise VggspecError(report(what, path=os.fspath(folder))) from error
    for note in skipped.notes(os.fspath(folder)):
        watch.note(note)
    return found


def named_images(names: Iterable[str | os.PathLike[str]], watch: Watcher = SILENT) -> list[str]:
    """The paths of images that are named one by one or by folders, whose images come sorted.

    Raises:
        VggspecError: a folder cannot be read.
    """
    found: list[str] = []
    for each in names:
        name = os.fspath(each)
        below = [str(path) for path in list_images(name, watch)] if os.path.isdir(name) else [name]
        if not below:
            watch.note(f"no images in {shown(name)}")
        found += below
    return found
