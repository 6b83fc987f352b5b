"""Opening a bundle: its manifest is read, and its files are compared with the manifest.

A file of a bundle may be a link to where the user keeps it: its content is compared.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import left_behind
from vggspec.base.regular_files import open_file, read_file
from vggspec.base.wording import reason
from vggspec.bundle.digests import digest_of, stated_sha256
from vggspec.bundle.manifest import MANIFEST, REFERENCE, WEIGHTS, FileEntry, Manifest, read_manifest

MAX_MANIFEST_BYTES = 16 << 20
"""A thousand labels take 50 KB; as values in memory JSON takes up to twenty times its size."""

HASHED_ON_OPEN_BYTES = 4 << 20

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose manifest has been read and whose files are there."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The graph or the plan to load."""
        return self.path / self.manifest.model

    def read_model(self) -> bytes:
        """The bytes of the model, which are those that the manifest digests.

        Raises:
            VggspecError: the file was changed, or cannot be read.
        """
        entry = next(entry for entry in self.manifest.files if entry.path == self.manifest.model)
        try:
            data = read_file(self.model, entry.bytes)
        except OSError as error:
            raise _differs(self.path, entry, f"cannot be read: {reason(error)}") from error
        if hashlib.sha256(data[entry.from_byte :]).hexdigest() != entry.sha256:
            raise _differs(self.path, entry, "was changed: its SHA-256 is another")
        return data

    def is_current(self) -> bool:
        """Whether files that are read by name now, such as weights, belong to this manifest."""
        try:
            return read_manifest(_manifest_data(self.path), str(self.path)) == self.manifest
        except VggspecError:
            return False

    @property
    def reference(self) -> Path | None:
        """The same net in fp32 for ONNX Runtime, where the bundle still has it and its weights."""
        needed = [self.path / REFERENCE]
        needed += [self.path / e.path for e in self.manifest.files if e.path == WEIGHTS]
        return needed[0] if all(path.is_file() for path in needed) else None


def open_bundle(path: str | os.PathLike[str], *, deep: bool = False) -> Bundle:
    """Read a bundle's manifest and compare its files with it.

    Sizes are compared always, and the digests of files up to 4 MiB; with ``deep`` those of all
    files, which reads the weights.

    Raises:
        VggspecError: it is not a bundle, or was changed.
    """
    folder = Path(path)
    while True:
        data = _manifest_data(folder)
        manifest = read_manifest(data, str(folder / MANIFEST))
        try:
            for entry in manifest.files:
                _compare(folder, entry, deep=deep)
        except VggspecError:
            if _manifest_data(folder) == data:
                raise
        else:
            return Bundle(folder, manifest)
        # It was replaced between its manifest and its files: they are compared with the new one.


def load_bundle(path: str | os.PathLike[str], load: Callable[[Bundle], Loaded]) -> Loaded:
    """What ``load`` makes of a bundle; if the bundle is replaced meanwhile, of the new one.

    Raises:
        VggspecError: it is not a bundle, was changed, or as ``load``.
    """
    while True:
        opened = open_bundle(path)
        try:
            loaded = load(opened)
        except VggspecError:
            if opened.is_current():
                raise
        else:
            if opened.is_current():
                return loaded


def _manifest_data(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        with open_file(path) as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        around = next((each for each in folder.parents if (each / MANIFEST).is_file()), None)
        left = [] if folder.exists() else left_behind(folder)
        what = artefacts.NotABundle(
            is_there=folder.exists(),
            is_folder=folder.is_dir(),
            bundle=None if around is None else str(around),
            left_behind=str(left[-1]) if left else None,
        )
        raise VggspecError(report(what, path=str(folder))) from error
    except OSError as error:
        unread = artefacts.NoSuchFile(kind="manifest", reason=reason(error))
        raise VggspecError(report(unread, path=str(path))) from error
    if len(data) > MAX_MANIFEST_BYTES:
        what_bad = artefacts.BadManifest(reason=f"it has more than {MAX_MANIFEST_BYTES} bytes")
        raise VggspecError(report(what_bad, path=str(path)))
    return data


def _differs(
    folder: Path, entry: FileEntry, how: str, *, contradicts_itself: bool = False
) -> VggspecError:
    what = artefacts.ChangedFile(file=entry.path, reason=how, contradicts_itself=contradicts_itself)
    return VggspecError(report(what, path=str(folder)))


def _compare(folder: Path, entry: FileEntry, *, deep: bool) -> None:
    def differs(how: str) -> VggspecError:
        return _differs(folder, entry, how)

    path = folder / entry.path
    if not entry.is_needed and not os.path.exists(path):
        return
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                raise differs(f"has {size} bytes, not {entry.bytes}")
            if deep or entry.bytes <= HASHED_ON_OPEN_BYTES:
                found = digest_of(file, entry.from_byte)
                if found != entry.sha256:
                    raise _differs(
                        folder,
                        entry,
                        "was changed: its SHA-256 is another",
                        contradicts_itself=entry.from_byte > 0 and stated_sha256(path) != found,
                    )
    except OSError as error:
        raise differs(f"cannot be read: {reason(error)}") from error
