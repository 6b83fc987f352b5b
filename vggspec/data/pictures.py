"""The images of a folder without class folders."""

import os
from pathlib import Path

from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.watching import SILENT, Watcher
from vggspec.base.wording import reason
from vggspec.data.folder import PassedOver, images_below


def list_images(folder: str | os.PathLike[str], watch: Watcher = SILENT) -> list[Path]:
    """The images in a folder and in its subfolders, sorted. ``watch`` hears which files are no
    images.

    Raises:
        VggspecError: a folder cannot be read.
    """
    passed = PassedOver()
    try:
        found = sorted(Path(folder, name) for name, _ in images_below(Path(folder), passed))
    except OSError as error:
        what = NoImages(tried=f"`{error.filename or folder}` cannot be read: {reason(error)}")
        raise VggspecError(report(what, path=os.fspath(folder))) from error
    for note in passed.notes(os.fspath(folder)):
        watch.note(note)
    return found
