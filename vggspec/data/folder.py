"""A split as a folder of class folders.

DIR/train/cat/1.jpg   DIR/train/dog/1.jpg

The images of a class may be in subfolders of any depth; links are followed. Images are recognised
by the suffix of the file name; other files are counted.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.data import ClassTwice
from vggspec.base.class_names import same
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import read_file
from vggspec.base.render import shown
from vggspec.base.wording import count, reason
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.read import ENDINGS, MAX_FILE_BYTES

#: Folders that systems and tools create.
SYSTEM = frozenset(
    ("__MACOSX", "@eaDir", "lost+found", "System Volume Information", "$RECYCLE.BIN")
)

#: The number of ignored names that a message shows.
NAMES = 4

#: The number of entries that are inspected to tell an empty class from one with images.
MOST_LOOKED_AT = 10_000

Identity = tuple[int, int]
"""Identifies a folder independently of its path: device and inode."""

Kind = Literal["file", "no shard", "link", "pipe", "again", "loose", "hidden"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "file": ("file without an image's ending", "files without an image's ending"),
    "no shard": ("file or folder beside the shards", "files and folders beside the shards"),
    "link": ("link that leads nowhere", "links that lead nowhere"),
    "pipe": ("device or pipe", "devices or pipes"),
    "again": ("link to a folder that is read anyway", "links to folders that are read anyway"),
    "loose": ("image outside of the class folders", "images outside of the class folders"),
    "hidden": ("hidden file or folder", "hidden files and folders"),
}


class FolderSplit:
    """The images of ``train`` or ``val``, class by class, in the order of their names."""

    def __init__(
        self, folder: Path, classes: tuple[str, ...], labels: NDArray[np.int32], names: list[str]
    ) -> None:
        self.labels = labels
        self._folders = [str(folder / name) for name in classes]
        # A million strings would take five times the memory, in each process that counts them.
        self._names = np.array([os.fsencode(name) for name in names])

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The path."""
        return os.path.join(self._folders[self.labels[index]], os.fsdecode(self._names[index]))

    def read(self, index: int) -> bytes:
        """The content of the file.

        Raises:
            BadImageError: it cannot be read.
        """
        try:
            return read_file(self.name(index), MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error


class Skipped:
    """The other contents of a folder of images, counted."""

    def __init__(self) -> None:
        self._counts: dict[Kind, int] = {}
        self._names: dict[Kind, dict[str, None]] = {}

    def add(self, kind: Kind, path: str) -> None:
        """Count a file or a folder; its path is seen from the folder of the split."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, {})
        if len(names) < NAMES:
            # Every folder of a Windows disk has a Thumbs.db.
            names[os.path.basename(path) if kind in ("file", "hidden") else path] = None

    def has(self, kind: Kind) -> bool:
        """Whether there is any of it."""
        return kind in self._counts

    @property
    def links(self) -> tuple[str, ...]:
        """The first of the links that lead nowhere."""
        return tuple(self._names.get("link", ()))

    def in_words(self) -> str:
        """A summary in words; empty if nothing was counted."""
        parts = []
        for kind, (one, many) in _WORDS.items():
            number = self._counts.get(kind, 0)
            if number:
                names = [shown(name) for name in self._names[kind]]
                more = ", …" if number > len(names) else ""
                parts.append(f"{number} {one if number == 1 else many} ({', '.join(names)}{more})")
        return "; ".join(parts)

    def notes(self, split: str) -> tuple[str, ...]:
        """The same as one note about a split, or none."""
        words = self.in_words()
        return (f"skipped in {shown(split)}: {words}",) if words else ()


def is_image(name: str) -> bool:
    """Whether a file is an image, by the ending of its name."""
    return name[name.rfind(".") :].lower() in ENDINGS


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or a system's."""
    return name.startswith(".") or name in SYSTEM


def by_stem(folder: Path) -> dict[str, str]:
    """The images of a folder by their names without the ending; hidden ones are none."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_image(entry.name) and entry.is_file()]
    visible = (name for name in sorted(names, reverse=True) if not is_hidden(name))
    return {stem_of(name): name for name in visible}


def stem_of(name: str) -> str:
    """A name without its ending."""
    return os.path.splitext(name)[0]


def subfolders(folder: Path, skipped: Skipped | None = None) -> tuple[str, ...]:
    """The names of class folders, sorted; what else there is goes to ``skipped``.

    Raises:
        OSError: the folder cannot be read, or a name is not UTF-8, as names of classes have to be.
        VggspecError: two folders are one class.
    """
    skipped = Skipped() if skipped is None else skipped
    names = []
    for entry in _entries(str(folder)):
        if is_hidden(entry.name):
            skipped.add("hidden", entry.name)
            continue
        mode = _mode(entry)
        if mode is not None and stat.S_ISDIR(mode):
            names.append(entry.name)
        elif mode is not None and stat.S_ISREG(mode) and is_image(entry.name):
            skipped.add("loose", entry.name)
        else:
            skipped.add(_kind(mode), entry.name)
    known: dict[str, str] = {}
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            readable = os.fsencode(name).decode(errors="backslashreplace")
            raise OSError(f"the name of folder `{readable}` is not UTF-8") from error
        other = known.setdefault(same(name).strip(), name)
        if other != name:
            what = ClassTwice(names=(other, name))
            raise VggspecError(report(what, path=str(folder)))
    return tuple(names)


def list_folder(
    folder: Path,
    classes: tuple[str, ...],
    digest: Digest,
    skipped: Skipped | None = None,
    called: str | None = None,
) -> FolderSplit:
    """The images of a split; a class may have none. The digest calls the folder by its name, or as
    it is ``called``.

    Raises:
        OSError: a folder cannot be read.
    """
    skipped = Skipped() if skipped is None else skipped
    names: list[str] = []
    counts = []
    here = {each: _identity(os.stat(folder / each)) for each in classes if (folder / each).is_dir()}
    others = set(here.values())
    again = _read_anyway(folder, here)
    for each in classes:
        before = len(names)
        if each in again:
            skipped.add("again", each)
        elif each in here:
            for name, entry in images_below(folder / each, skipped, each, others=others):
                names.append(name)
                digest.add(f"{called or folder.name}/{each}/{name}", entry.stat())
        counts.append(len(names) - before)
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FolderSplit(folder, classes, labels, names)


def _read_anyway(folder: Path, here: Mapping[str, Identity]) -> set[str]:
    """Classes whose folder is a link to that of another, for an image cannot be of both, or to one
    that holds them all.
    """
    first = dict.fromkeys(_holding(folder), "")
    for each in sorted(here, key=lambda name: (folder / name).is_symlink()):
        first.setdefault(here[each], each)
    return here.keys() - set(first.values())


def images_below(
    folder: Path,
    skipped: Skipped | None = None,
    shown_as: str = "",
    *,
    others: Iterable[Identity] = (),
    beside: str | None = None,
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """The images in a folder and in those below it, by their paths seen from it: first those of a
    folder, sorted, then those of its folders.

    Links are followed, but not to a folder that contains this one, nor to one of ``others``, and
    each folder is read once. Files that end in ``beside`` are ignored.

    Raises:
        OSError: a folder cannot be read.
    """
    skipped = Skipped() if skipped is None else skipped
    for name, entry in _walked(folder, skipped, shown_as, others):
        if entry is not None and is_image(entry.name):
            yield name, entry
        elif entry is not None and (beside is None or not name.endswith(beside)):
            skipped.add("file", os.path.join(shown_as, name))


def files_below(folder: Path, ending: str) -> Iterator[str]:
    """The paths of the visible files of that ending, in the same order.

    Raises:
        OSError: a folder cannot be read.
    """
    for name, entry in _walked(folder, Skipped()):
        if entry is not None and name.endswith(ending):
            yield name


def has_images(folder: Path) -> bool:
    """Whether there are images in a folder or below it; True also if it contains too many files to
    inspect.

    Raises:
        OSError: a folder cannot be read.
    """
    for number, (_, entry) in enumerate(_walked(folder, Skipped())):
        if (entry is not None and is_image(entry.name)) or number >= MOST_LOOKED_AT:
            return True
    return False


def in_words(names: tuple[str, ...] | list[str]) -> str:
    """Names for a note: the first ones, and how many more there are."""
    first = ", ".join(f"`{shown(name)}`" for name in names[:NAMES])
    return f"{first} and {len(names) - NAMES} more" if len(names) > NAMES else first


def without_images(split: str, classes: tuple[str, ...], labels: NDArray[np.int32]) -> list[str]:
    """A note about classes without images in a split, if any."""
    counts = np.bincount(labels, minlength=len(classes))
    empty = [name for name, number in zip(classes, counts.tolist(), strict=True) if not number]
    if not empty:
        return []
    return [f"{shown(split)} has no images of {count(len(empty), 'class')}: {in_words(empty)}"]


def _walked(
    folder: Path, skipped: Skipped, shown_as: str = "", others: Iterable[Identity] = ()
) -> Iterator[tuple[str, "os.DirEntry[str] | None"]]:
    """All files below a folder, and None for entries that are always ignored."""
    seen = _holding(folder).union(others)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folders = []
        for entry in _entries(os.path.join(folder, below)):
            name = f"{below}{entry.name}"
            if is_hidden(entry.name):
                skipped.add("hidden", os.path.join(shown_as, name))
                yield name, None
                continue
            mode = _mode(entry)
            if mode is not None and stat.S_ISDIR(mode):
                identity = _identity(os.stat(entry.path))
                if identity in seen:
                    skipped.add("again", os.path.join(shown_as, name))
                else:
                    seen.add(identity)
                    folders.append(f"{name}{os.sep}")
            elif mode is not None and stat.S_ISREG(mode):
                yield name, entry
            else:
                skipped.add(_kind(mode), os.path.join(shown_as, name))
                yield name, None
        waiting.extend(reversed(folders))


def _holding(folder: Path) -> set[Identity]:
    """A folder and its parents."""
    holding = {folder, *folder.absolute().parents, *folder.resolve().parents}
    return {_identity(os.stat(each)) for each in holding}


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _mode(entry: "os.DirEntry[str]") -> int | None:
    """The kind of a file or of a link's target; None for a broken link.

    Raises:
        OSError: that cannot be found out.
    """
    if not entry.is_symlink():
        if entry.is_file(follow_symlinks=False):
            return stat.S_IFREG  # known without asking the disk again
        return entry.stat(follow_symlinks=False).st_mode
    try:
        return entry.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _kind(mode: int | None) -> Kind:
    if mode is None:
        return "link"
    return "file" if stat.S_ISREG(mode) else "pipe"
