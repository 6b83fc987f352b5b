"""Mistakes about the spec file itself (VGG01x)."""

from dataclasses import dataclass

from vggspec.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class MissingSpec(Diagnostic):
    """There is no file of that name.

    A spec is named by its path, and one net of a file with several by ``path:NET``:

        vggspec check specs/D.vgg
        vggspec show specs/table1.vgg:D
    """

    code = "VGG010"
    suggestion: str | None = None

    def title(self) -> str:
        return "no such spec file"

    def help(self) -> str | None:
        return f"did you mean `{self.suggestion}`?" if self.suggestion else None


def missing_spec(name: str) -> MissingSpec:
    """With the file of the same folder whose name is most like ``name``."""
    from pathlib import Path

    from vggspec.catalogue import nearest

    path = Path(name)
    try:
        beside = [p.name for p in path.parent.glob("*.vgg")]
    except OSError:
        beside = []
    if path.name + ".vgg" in beside:
        return MissingSpec(suggestion=str(path.parent / (path.name + ".vgg")))
    like = nearest(path.name, beside)
    return MissingSpec(suggestion=str(path.parent / like) if like else None)


@dataclass(frozen=True, kw_only=True)
class IsDirectory(Diagnostic):
    """A folder was given where a spec file is wanted.

    Name the files in it:

        vggspec check specs           wrong
        vggspec check specs/*.vgg     right
    """

    code = "VGG011"
    specs: tuple[str, ...] = ()

    def title(self) -> str:
        return "this is a directory, not a spec file"

    def help(self) -> str | None:
        if not self.specs:
            return "name a .vgg file"
        return f"name a file in it, such as `{self.specs[0]}`"


@dataclass(frozen=True, kw_only=True)
class NotText(Diagnostic):
    """The file is not UTF-8 text, so it cannot be a spec.

    Perhaps it is a weights file or a picture, or a spec that an editor saved in another encoding:
    save it as UTF-8.
    """

    code = "VGG012"
    offset: int

    def title(self) -> str:
        return f"this is not a text file: byte {self.offset} is not UTF-8 text"

    def help(self) -> str | None:
        return "a spec is plain text, saved as UTF-8"


@dataclass(frozen=True, kw_only=True)
class SpecTooLarge(Diagnostic):
    """The file is larger than any spec.

    A net of a thousand layers takes about 20 KB; the limit is many times that.
    """

    code = "VGG013"
    limit: int

    def title(self) -> str:
        return f"the file has more than {self.limit} bytes, too many for a spec"

    def help(self) -> str | None:
        return "check that this is the file you meant"


@dataclass(frozen=True, kw_only=True)
class NotRegularFile(Diagnostic):
    """A device, a pipe or a socket was given where a spec file is wanted.

    To check a spec that another program writes, give ``-`` and pipe it in:

        generate | vggspec check -
    """

    code = "VGG014"

    def title(self) -> str:
        return "this is not a regular file"

    def help(self) -> str | None:
        return "name a .vgg file, or `-` for standard input"


@dataclass(frozen=True, kw_only=True)
class Unreadable(Diagnostic):
    """The system refuses to open the file; it says why."""

    code = "VGG015"
    reason: str

    def title(self) -> str:
        return f"the file cannot be read: {self.reason}"
