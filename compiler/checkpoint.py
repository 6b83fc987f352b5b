"""Checkpoints of other tools, read: their tensors, and nothing that a file asks to be run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue import artefacts
from vggspec.diagnostic import VggspecError, report
from vggspec.optional import require
from vggspec.source import foreign, reason

Kind = Literal["pytorch", "safetensors", "npz"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The tensors of a file, and what else it says."""

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
    """The table that was taken, where the file holds several things; None where it is the table."""

    others: tuple[str, ...]
    """Other tables of tensors, which could have been taken."""

    metadata: Mapping[str, str]
    """What a safetensors file says beside its tensors."""


def read_checkpoint(path: str | os.PathLike[str], key: str | None = None) -> Checkpoint:
    """Read a ``.safetensors``, ``.npz`` or PyTorch file; ``key`` names the table to take.

    Raises:
        VggspecError: it cannot be read.
        MissingLibraryError: a PyTorch file, and PyTorch is not installed.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        what = artefacts.NoSuchFile(kind="checkpoint", reason="no such file")
        raise VggspecError(report(what, path=path))
    kind: Kind
    taken = None
    others: tuple[str, ...] = ()
    try:
        if path.endswith(".safetensors"):
            kind, tensors = "safetensors", _read_safetensors(path)
        elif path.endswith(".npz"):
            with np.load(path, allow_pickle=False) as archive:
                kind, tensors = "npz", {name: archive[name] for name in archive.files}
        else:
            kind = "pytorch"
            tensors, taken, others = _read_torch(path, key)
    except OSError as error:
        what = artefacts.NoSuchFile(kind="checkpoint", reason=reason(error))
        raise VggspecError(report(what, path=path)) from error
    except _BadCheckpointError as error:
        raise _refuse(path, str(error)) from error
    except ValueError as error:
        raise _refuse(path, f"it is damaged ({foreign(str(error))})") from error
    found = {
        name: np.ascontiguousarray(tensor, np.float32)
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f"
    }
    if not found:
        raise _refuse(path, "it holds no tensors")
    return Checkpoint(
        path=path,
        kind=kind,
        tensors=found,
        has_order=kind != "safetensors",
        key=taken,
        others=others,
        metadata={},
    )


class _BadCheckpointError(Exception):
    """The file is not a checkpoint that can be read."""


def _read_safetensors(path: str) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _BadCheckpointError(f"it is damaged ({foreign(str(error))})") from error
    except TypeError:  # numpy has no bfloat16
        require("torch", "a checkpoint in bfloat16")
        from safetensors.torch import load_file as load_torch

        return {name: tensor.float().numpy() for name, tensor in load_torch(path).items()}


def _read_torch(
    path: str, key: str | None
) -> tuple[Mapping[str, NDArray[Any]], str | None, tuple[str, ...]]:
    import pickle

    torch = require("torch", "a PyTorch checkpoint")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        why = foreign(str(error)) or "it is damaged"
        raise _BadCheckpointError(f"PyTorch refuses it ({why})") from error
    taken = None
    for wrapper in (key,) if key else ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded, taken = loaded[wrapper], wrapper
    if not isinstance(loaded, Mapping):
        raise _BadCheckpointError("it holds no table of tensors")
    tensors = {
        str(name): tensor.detach().to(torch.float32).numpy()
        for name, tensor in loaded.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }
    return tensors, taken, ()


def _refuse(path: str, why: str) -> VggspecError:
    return VggspecError(report(artefacts.UnknownCheckpoint(reason=why), path=path))
