"""Mistakes that concern a spec file as a whole (VGG01x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class MissingSpec(Diagnostic):
    """There is no spec of that name.

    Name a spec by its path, and one net of a file with several by ``path:NET``. The specs that
    come with vggspec have names without a path, which ``vggspec specs`` lists:

        vggspec check specs/mine.vgg
        vggspec show D
        vggspec show table1:D
    """

    code = "VGG010"
    TITLE = "no such spec file"
    HELP = (
        "did you mean `{shipped}`, which comes with vggspec?",
        "did you mean `{suggestion}`?",
        "name a file, or a spec that `vggspec specs` lists",
    )
    suggestion: str | None = None
    is_packaged: bool = False
    """Whether the suggestion comes with vggspec, and so has no path."""

    beside: tuple[str, ...] = ()
    """Specs of the same folder."""

    @property
    def shipped(self) -> str | None:
        """The suggestion, if it comes with vggspec."""
        return self.suggestion if self.is_packaged else None


def missing_spec(
    name: str, packaged: tuple[str, ...], *, other_than: str | None = None
) -> MissingSpec:
    """With the most similar name: of a file in the same folder, or of the ``packaged`` specs.

    ``other_than`` is a file that is not suggested, as it is the one that refers to ``name``.
    """
    import os
    from itertools import islice
    from pathlib import Path

    from vggspec.base.wording import nearest

    path = Path(name)
    try:
        found = islice(path.parent.glob("*.vgg"), 1000)
        own = other_than and os.path.realpath(other_than)
        beside = sorted(p.name for p in found if os.path.realpath(p) != own)
    except OSError:
        beside = []
    some = tuple(beside[:3])
    stems = {Path(one).stem: one for one in beside}
    stem = path.stem if path.suffix == ".vgg" else path.name
    like = nearest(stem, tuple(stems))
    shipped = nearest(stem, packaged)
    if shipped is not None and (like is None or stem.casefold() == shipped.casefold() != like):
        return MissingSpec(suggestion=shipped, is_packaged=True, beside=some)
    return MissingSpec(suggestion=str(path.parent / stems[like]) if like else None, beside=some)


class IsDirectory(Diagnostic):
    """A folder was given in place of a spec file.

    Name the files in it:

        vggspec check specs           wrong
        vggspec check specs/*.vgg     right
    """

    code = "VGG011"
    TITLE = "this is a directory, not a spec file"
    specs: tuple[str, ...] = ()

    def help(self) -> str | None:
        if not self.specs:
            return "name a .vgg file"
        return f"name a file in it, such as `{self.specs[0]}`"


class NotText(Diagnostic):
    """The file is not UTF-8 text, so it cannot be a spec.

    Perhaps it is a weights file or a picture, or a spec that an editor saved in another encoding:
    save it as UTF-8.
    """

    code = "VGG012"
    TITLE = "this is not a text file: byte {offset} is not UTF-8 text"
    HELP = "a spec is plain text, saved as UTF-8"
    offset: int


class SpecTooLarge(Diagnostic):
    """The file is larger than any spec.

    A net of a thousand layers takes about 20 KB; the limit is many times that.
    """

    code = "VGG013"
    TITLE = "the file has more than {limit} bytes, too many for a spec"
    HELP = "check that this is the file you meant"
    limit: int


class NotRegularFile(Diagnostic):
    """A device, a pipe or a socket was given in place of a spec file.

    To check a spec that another program writes, give ``-`` and pipe it in:

        generate | vggspec check -
    """

    code = "VGG014"
    TITLE = "this is not a regular file"
    HELP = "name a .vgg file, or `-` for standard input"


class Unreadable(Diagnostic):
    """The system cannot open the file, for the reason shown."""

    code = "VGG015"
    TITLE = "the file cannot be read: {reason}"
    reason: str


class TooManyWords(Diagnostic):
    """The file has more words than any spec.

    Words, numbers, brackets, bars and other marks are counted, comments are not. The widest table
    with a hundred layers in each column has a few thousand.
    """

    code = "VGG016"
    TITLE = "the file has {found} words and marks, more than {limit}"
    LABEL = "up to here"
    HELP = "split the file, or check that this is the file you meant"
    found: int
    limit: int


class TooManyMistakes(Diagnostic):
    """The file has too many mistakes; the rest was not checked.

    Most of them probably have one cause: the file is something else, or a bracket or a section is
    missing near its beginning. Correct the first ones and check the file again.
    """

    code = "VGG017"
    TITLE = "more than {limit} mistakes: what follows was not checked"
    HELP = "correct the first ones and check the file again"
    limit: int


class TooManyOf(Diagnostic):
    """A net has too many claims, or a section too many settings.

    Each claim and each setting is needed once, and there are few of them.
    """

    code = "VGG018"
    LABEL = "up to here"
    HELP = "keep {limit} at most"
    what: str
    found: int
    limit: int

    def title(self) -> str:
        return f"{count(self.found, self.what)} in one place, more than {self.limit}"


class FormattedTooLarge(Diagnostic):
    """The formatted text would be larger than a spec may be, so the file was left as it is.

    Formatting adds spaces. Near the limit the result could no longer be read.
    """

    code = "VGG019"
    TITLE = "formatted, the file would have {found} bytes, more than {limit}"
    HELP = "split the file"
    found: int
    limit: int
