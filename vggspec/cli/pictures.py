"""Folders of pictures without classes, as commands are given them."""

from pathlib import Path

from vggspec.base.diagnostic import VggspecError, report
from vggspec.cli.terminal import say


def pictures_below(folder: str) -> list[Path]:
    """The images in a folder and in those below it, sorted; what else there is is said.

    Raises:
        VggspecError: a folder cannot be read.
    """
    from vggspec.base.catalogue.evaluating import NoImages
    from vggspec.base.wording import reason
    from vggspec.data.folder import PassedOver, images_below

    passed = PassedOver()
    try:
        found = sorted(Path(folder, name) for name, _ in images_below(Path(folder), passed))
    except OSError as error:
        what = NoImages(tried=f"`{error.filename or folder}` cannot be read: {reason(error)}")
        raise VggspecError(report(what, path=folder)) from error
    for note in passed.notes(folder):
        say("note", note)
    return found
