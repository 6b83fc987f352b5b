"""TorchScript's archives (``torch.jit.save``): read as data, by the attributes of their modules.

``data.pkl`` is a pickle of modules, whose classes are in ``code/`` as programs. Neither the classes
nor the programs are looked at: a module is the table of its attributes.

Source: ``torch/csrc/jit/serialization/import.cpp`` of PyTorch 2.13.
"""

from collections.abc import Iterable

from vggspec.base.catalogue.checkpoint_files import HoldsCode, NoTensors
from vggspec.base.fields import short
from vggspec.compiler.importing import torch_files
from vggspec.compiler.importing.archives import Archive
from vggspec.compiler.importing.pickles import Made
from vggspec.compiler.importing.stored import RefusedError, Stored
from vggspec.compiler.importing.tables import Table, text

_MAX_DEPTH = 64
_OWN = ("__torch__.", "torch.jit._pickle.")
_STATE = "where it was written, save its tensors: torch.save(module.state_dict(), 'w.pth')"
_FROZEN = (
    "its weights are constants of its program: save the module before `torch.jit.freeze` or"
    " `optimize_for_inference`, or its state_dict()"
)


def is_script(members: Iterable[str]) -> bool:
    """Whether an archive with a ``data.pkl`` is one of TorchScript."""
    return any(name.rpartition("/")[2] == "constants.pkl" for name in members)


def read(archive: Archive) -> Table:
    """The tensors by the way to them: ``features.0.weight``.

    Raises:
        BadFileError: it is damaged.
        RefusedError: its modules have no tensors, or it names functions of Python.
    """
    pickle = torch_files.read_archive(archive)
    others = tuple(name for name in pickle.names if not name.startswith(_OWN))
    if others:
        raise RefusedError(
            HoldsCode(names=tuple(f"`{short(name)}`" for name in others), way=_STATE)
        )
    found: Table = {}
    _collect(pickle.value, "", found, set())
    if not found:
        raise RefusedError(NoTensors(holds="a program without parameters", way=_FROZEN))
    return found


def _collect(value: object, prefix: str, found: Table, seen: set[int]) -> None:
    if not isinstance(value, Made) or not isinstance(value.state, dict):
        return
    if id(value) in seen or prefix.count(".") > _MAX_DEPTH:
        return
    seen.add(id(value))
    # A module lists its own tensors and its inner modules in the order of their definition.
    for key, each in value.state.items():
        name = f"{prefix}{text(key)}"
        if isinstance(each, Stored):
            found[name] = each
        else:
            _collect(each, f"{name}.", found, seen)
