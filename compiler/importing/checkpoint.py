"""Reads the tensors of other tools' checkpoints, without running code of a file.

The format is known by the first bytes of a file, not by its name. Its tensors are listed with their
shapes; the table is chosen, and its total size compared with the file's, before any number is read.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import checkpoint_files
from vggspec.base.catalogue.artefacts import NoSuchFile
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.fields import short
from vggspec.base.safetensors_header import BadTensorsError, Tensor, read_layout
from vggspec.base.wording import reason
from vggspec.bundle.manifest import MANIFEST, WEIGHTS
from vggspec.compiler.importing import (
    caffe_files,
    foreign_files,
    hdf5_files,
    keras_files,
    matconvnet_files,
    numpy_files,
    onnx_files,
    tables,
    torch_files,
    torchscript_files,
)
from vggspec.compiler.importing.archives import Archive
from vggspec.compiler.importing.pickles import Pickle, read_pickle
from vggspec.compiler.importing.stored import (
    BadFileError,
    Known,
    RefusedError,
    Stored,
    as_float32,
    check_growth,
)

Kind = Literal["pytorch", "safetensors", "npz", "keras", "caffe", "matconvnet", "onnx"]

#: Floating point types by their names in safetensors.
_TYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors and the metadata of a file."""

    path: str
    kind: Kind
    tensors: Mapping[str, NDArray[np.float32]]
    """Those of floating point numbers, in the order of the file; whether they are finite is not
    checked.
    """

    has_order: bool
    """Whether that order is the one in which the layers were defined. Writers of safetensors sort
    by number type and name.
    """

    key: str | None
    """The table that was taken, if the file contains more than one object."""

    others: tuple[str, ...]
    """Other tables of tensors, which could have been taken."""

    metadata: Mapping[str, str]
    """The metadata of a safetensors file: this one, or that with the numbers of an ONNX model."""

    skipped: tuple[str, ...] = ()
    """Tensors of the table that are not floating point, except counts of batches."""

    known: Known = field(default_factory=Known)
    """What the file says of the net beside its tensors."""


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of a file, before a table is chosen."""

    kind: Kind
    value: object
    metadata: Mapping[str, str]
    known: Known = field(default_factory=Known)
    bytes_beside: int = 0
    """The size of other files that have its numbers."""


def read_checkpoint(path: str | os.PathLike[str], key: str | None = None) -> Checkpoint:
    """Read the tensors of a file; ``key`` names the table to take.

    Raises:
        VggspecError: it cannot be read.
    """
    path = os.fspath(path)
    with refusals(path), ExitStack() as stack:
        content = _open(path, stack)
        taken, table, others = tables.choose(content.value, key)
        _check(table, os.path.getsize(path) + content.bytes_beside)
        tensors = {name: stored.read() for name, stored in table.items() if stored.is_float}
    return Checkpoint(
        path=path,
        kind=content.kind,
        tensors=tensors,
        has_order=content.kind != "safetensors",
        key=taken or None,
        others=others,
        metadata=content.metadata,
        skipped=tuple(
            name
            for name, stored in table.items()
            if not stored.is_float and not name.endswith("num_batches_tracked")
        ),
        known=content.known,
    )


@contextmanager
def refusals(path: str) -> Iterator[None]:
    """Convert what is raised while a file is read to a report.

    Raises:
        VggspecError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise _refuse(path, NoSuchFile(kind="checkpoint", reason=reason(error))) from error
    except MemoryError as error:
        why = "there is not enough memory for it"
        raise _refuse(path, NoSuchFile(kind="checkpoint", reason=why)) from error
    except ValueError as error:  # NumPy's, of shapes
        why = "its sizes contradict each other"
        raise _refuse(path, checkpoint_files.DamagedCheckpoint(reason=why)) from error
    except (BadFileError, BadTensorsError) as error:
        raise _refuse(path, checkpoint_files.DamagedCheckpoint(reason=str(error))) from error
    except RefusedError as error:
        raise _refuse(path, error.what) from error


def _refuse(path: str, what: Diagnostic) -> VggspecError:
    return VggspecError(report(what, path=path))


def _check(table: Mapping[str, Stored], size: int) -> None:
    """Make sure that the tensors can be read, and take no more memory than a file of that size may.

    Raises:
        RefusedError: they cannot.
    """
    for name, stored in table.items():
        if stored.oddity is not None:
            is_a, way = stored.oddity
            raise RefusedError(
                checkpoint_files.UnusableTensor(tensor=short(name), is_a=is_a, way=way)
            )
    check_growth(sum(stored.bytes for stored in table.values() if stored.is_float), size)


def _open(path: str, stack: ExitStack) -> _Content:
    """What a file is, and its tensors."""
    if os.path.isdir(path):
        raise RefusedError(NoSuchFile(kind="checkpoint", reason=_inside(Path(path))))
    if not os.path.isfile(path):
        why = "it is no regular file" if os.path.exists(path) else "no such file"
        raise RefusedError(NoSuchFile(kind="checkpoint", reason=why))
    sample = _sample(path)
    if sample.size and foreign_files.is_part(sample.name):
        raise _foreign(foreign_files.PART)
    if sample.head[8:9] == b"{" and int.from_bytes(sample.head[:8], "little") < 1 << 40:
        layout = read_layout(path)
        tensors = {
            name: _of_safetensors(path, tensor)
            for name, tensor in sorted(layout.tensors.items(), key=lambda item: item[1].offset)
        }
        return _Content("safetensors", tensors, layout.metadata)
    if sample.head.startswith(b"PK"):
        archive = stack.enter_context(Archive(path))
        if keras_files.WEIGHTS in archive.members:
            return _of_keras(keras_files.read_archive(archive, stack))
        if any(torch_files.is_pickle(name) for name in archive.members):
            if torchscript_files.is_script(archive.members):
                return _Content("pytorch", torchscript_files.read(archive), {})
            known = foreign_files.recognise_archive(archive.members)
            if foreign_files.is_program(known):
                raise _foreign(known)
            return _of_torch(path, torch_files.read_archive(archive))
        if any(name.endswith(".npy") for name in archive.members):
            return _Content("npz", _of_npz(archive, path), {})
        if not archive.members:
            raise RefusedError(checkpoint_files.NoTensors(holds="nothing"))
        raise _foreign(foreign_files.recognise_archive(archive.members))
    if sample.head.startswith(hdf5_files.SIGNATURE):
        return _of_keras(keras_files.read_file(path, stack))
    if torch_files.LEGACY.match(sample.head):
        return _of_torch(path, torch_files.read_legacy(path))
    if caffe_files.is_caffe(sample):
        table, known_of = caffe_files.read(path)
        return _Content("caffe", table, {}, known_of)
    if matconvnet_files.is_matlab(sample):
        table, known_of = matconvnet_files.read(path)
        return _Content("matconvnet", table, {}, known_of)
    if onnx_files.is_onnx(sample):
        model = onnx_files.read(path)
        return _Content("onnx", model.tensors, model.metadata, model.known, model.bytes_beside)
    known = foreign_files.recognise(sample)
    if known is foreign_files.PICKLE:
        raise RefusedError(_of_pickle(path))
    raise _foreign(known)


def _foreign(known: foreign_files.Format) -> RefusedError:
    return RefusedError(checkpoint_files.OtherFormat(is_a=known.is_a, way=known.way))


def _inside(folder: Path) -> str:
    """The message about a folder."""
    if (folder / MANIFEST).is_file():
        return f"it is a bundle; its weights are `{folder / WEIGHTS}`"
    if (folder / "saved_model.pb").is_file():
        return "it is a TensorFlow SavedModel; save its variables as npz"
    names = sorted(
        name for name in os.listdir(folder) if re.search(r"\.(safetensors|npz|pth?|bin)$", name)
    )
    return f"it is a folder; name a file in it: `{short(names[0])}`" if names else "it is a folder"


def _sample(path: str) -> foreign_files.Sample:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(foreign_files.SAMPLE_BYTES)
        file.seek(max(0, size - foreign_files.SAMPLE_BYTES))
        tail = file.read(foreign_files.SAMPLE_BYTES)
    return foreign_files.Sample(os.path.basename(path).lower(), size, head, tail)


def _of_safetensors(path: str, tensor: Tensor) -> Stored:
    def read() -> NDArray[np.float32]:
        data = np.fromfile(path, np.uint8, tensor.bytes, offset=tensor.offset)
        if len(data) < tensor.bytes:
            raise BadFileError("it was cut off while it was read")
        return as_float32(data.view(_TYPES[tensor.dtype]).reshape(tensor.shape))

    return Stored(tensor.shape, tensor.dtype in _TYPES, read)


def _of_npz(archive: Archive, path: str) -> dict[str, Stored]:
    try:
        return numpy_files.read_archive(archive)
    except numpy_files.HoldsObjectsError as error:
        name = str(error)
        way = (
            f"where you trust it: np.load({_shown(path)}, allow_pickle=True)[{name!r}].item() gives"
            " the object, np.savez('weights.npz', **{name: array}) saves its arrays"
        )
        held = (f"pickled objects in `{short(name)}`",)
        raise RefusedError(checkpoint_files.HoldsCode(names=held, way=way)) from error


def _of_keras(read: keras_files.Weights) -> _Content:
    names = ", ".join(f"`{short(name)}`" for name in read.computing[:4])
    notes = (f"the model also computes in {names}, which is not imported: the spec must say it",)
    return _Content(
        "keras",
        read.tensors,
        {},
        Known(layout="hwio", epsilons=read.epsilons, notes=notes if read.computing else ()),
    )


def _of_torch(path: str, pickle: Pickle) -> _Content:
    if not pickle.names:
        return _Content("pytorch", pickle.value, {})
    loaded = f"torch.load({_shown(path)}, weights_only=False){tables.way_in(pickle.value)}"
    way = f"where it was written, save its tensors alone: torch.save({loaded}, 'tensors.pth')"
    raise RefusedError(checkpoint_files.HoldsCode(names=_quoted(pickle.names), way=way))


def _of_pickle(path: str) -> Diagnostic:
    with open(path, "rb") as file:
        names = read_pickle(file, {}, lambda _: None).names
    known = foreign_files.PICKLE
    if not names:
        return checkpoint_files.OtherFormat(is_a=known.is_a, way=known.way)
    return checkpoint_files.HoldsCode(names=_quoted(names), way=known.way)


def _quoted(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"`{short(name)}`" for name in names)


def _shown(path: str) -> str:
    return repr(path) if len(path) <= 80 else "PATH"
