"""How every bundle is written: beside its place, then moved into place, whole or not at all.

What differs is the model and the manifest. A producer puts the files of the model into a
``Staging`` and returns the manifest; this module adds the list of files with their digests, labels
and the configurations of servers.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import onnx

from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.files import place, replacing_folder
from vggspec.base.short_repr import short_repr
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import MANIFEST, WEIGHTS, FileEntry, Manifest, read_manifest
from vggspec.compiler.bundling import deepstream, triton
from vggspec.compiler.input_contract import MeanFrom
from vggspec.compiler.weights import WeightsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedWeights:
    """How the weights file of a net came into a bundle, and what that cost."""

    by: Literal["link", "clone", "copy"]
    """A hard link is the user's own file, which ``onnx`` refuses to load. A clone is a file of its
    own that shares the blocks of the user's on disk. Links and clones take no space."""

    bytes: int
    """Size of the file."""

    seconds: float
    """Time that it took."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBundle:
    """A bundle that was written."""

    manifest: Manifest
    mean_from: tuple[MeanFrom, ...]
    """Where the mean of each net comes from."""

    weights: tuple[PlacedWeights, ...]
    """How the weights of each net came into the bundle; empty where the graph contains them."""

    notes: tuple[str, ...] = ()
    """Options without effect, and what else the user should know, in words."""


@dataclass(slots=True)
class Staging:
    """A bundle that is being written: its folder, and the entries of the files in it."""

    folder: Path
    files: list[FileEntry] = field(default_factory=list)
    weights: list[PlacedWeights] = field(default_factory=list)

    def add(self, path: str, *, is_needed: bool = True) -> None:
        """List a file that is in the folder."""
        self.files.append(file_entry(self.folder, path, is_needed=is_needed))

    def write_graph(self, path: str, model: onnx.ModelProto) -> Path:
        """Write an ONNX graph without listing it."""
        target = self.folder / path
        target.parent.mkdir(exist_ok=True)
        with open(target, "wb") as file:
            file.write(model.SerializeToString())
        return target

    def add_graph(self, path: str, model: onnx.ModelProto, *, is_needed: bool = True) -> None:
        """Write an ONNX graph and list it."""
        self.write_graph(path, model)
        self.add(path, is_needed=is_needed)

    def add_weights(
        self,
        weights: WeightsFile,
        *,
        link: bool,
        refer: bool = False,
        path: str = WEIGHTS,
        is_needed: bool = True,
    ) -> None:
        """Clone or copy the weights into the folder, or ``link`` them, and list them; with
        ``refer`` by a symbolic link, for a bundle that is removed before they are.
        """
        target = self.folder / path
        target.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        by = place(weights.path, target, link=link, refer=refer)
        seconds = time.monotonic() - began
        self.weights.append(PlacedWeights(by=by, bytes=weights.bytes, seconds=seconds))
        self.files.append(
            FileEntry(
                path=path,
                bytes=weights.bytes,
                sha256=weights.data_sha256(),
                from_byte=weights.data_start,
                is_needed=is_needed,
                is_stated=not weights.is_read,
            )
        )


def write(
    out: str | os.PathLike[str],
    produce: Callable[[Staging], Manifest],
    *,
    mean_from: tuple[MeanFrom, ...],
    notes: tuple[str, ...] = (),
) -> WrittenBundle:
    """Write the bundle whose files ``produce`` puts into the staging; a bundle at ``out`` is
    replaced.

    ``produce`` returns the manifest without its files. Call ``check_place`` first, before the work
    that the bundle takes.

    Raises:
        VggspecError: the system refuses, or as ``produce``.
    """
    with replacing_folder(Path(out)) as folder:
        staging = Staging(folder)
        manifest = produce(staging)
        manifest = replace(manifest, files=tuple(staging.files))
        _write_texts(folder, manifest)
    return WrittenBundle(
        manifest=manifest, mean_from=mean_from, weights=tuple(staging.weights), notes=notes
    )


def check_place(target: Path) -> None:
    """Make sure that nothing but a bundle would be replaced.

    Raises:
        VggspecError: something else is in the way.
    """
    if target.is_dir():
        if (target / MANIFEST).is_file() or not any(target.iterdir()):
            return
        what = "a folder that is not a bundle"
    elif target.exists():
        what = "a file"
    else:
        return
    raise VggspecError(report(artefacts.InTheWay(what=what), path=str(target)))


def check_outside(target: Path, weights: WeightsFile) -> None:
    """Make sure that weights which are embedded are not removed with the bundle that is replaced.

    Raises:
        VggspecError: they are inside of it.
    """
    if Path(os.path.realpath(weights.path)).is_relative_to(os.path.realpath(target)):
        what = artefacts.InTheWay(what="a bundle with the weights file that is read")
        raise VggspecError(report(what, path=str(target)))


def _write_texts(folder: Path, manifest: Manifest) -> None:
    """The manifest, and what servers read instead of it.

    The files for servers are not in the manifest's list: users edit them.
    """
    written = manifest.to_json()
    assert read_manifest(written, MANIFEST) == manifest, "what is written can be read"
    for name, text in (
        (MANIFEST, written),
        (triton.CONFIG, triton.config(manifest)),
        (triton.LABELS, triton.labels(manifest)),
        (deepstream.CONFIG, deepstream.config(manifest)),
        (deepstream.LABELS, deepstream.labels(manifest)),
    ):
        if text is not None:
            (folder / name).write_text(text, "utf-8", newline="\n")
