"""Checkpoints: everything that a run needs to be resumed, written whole or not at all.

    checkpoints/000012000/weights.safetensors
    checkpoints/000012000/momentum.safetensors    what the optimiser keeps; other state as text

The folder is written under another name and renamed atomically; only then is the previous one
removed. ``best`` and ``last.safetensors`` are second names of weights in it, so they cost nothing
and outlive it.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vggspec.base.catalogue.artefacts import ChangedWeights, NotFiniteWeights
from vggspec.base.catalogue.runs import BadCheckpoint
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, parse_object
from vggspec.base.files import replace_by_twin, replacing_folder
from vggspec.compiler.ir import Network
from vggspec.compiler.weights import (
    Array,
    Metadata,
    WeightsFile,
    checked,
    for_net,
    open_weights,
    save,
)
from vggspec.training.runs import BEST, CHECKPOINTS, LAST, epoch_file
from vggspec.training.state import TrainState

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights.safetensors"
MOMENTUM = "momentum.safetensors"
_STATE = "state"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that has been read; its arrays are mapped from the files."""

    folder: Path
    weights: WeightsFile
    momentum: WeightsFile
    state: TrainState

    def parameters(self, network: Network) -> Iterator[tuple[str, Array]]:
        """Every parameter of the net by name."""
        for param in network.params():
            yield param.name, np.array(self.weights.read(param.name))

    def kept(self, name: str, shape: tuple[int, ...]) -> Array:
        """A tensor that the optimiser keeps.

        Raises:
            VggspecError: it is not there, or has another shape.
        """
        tensor = self.momentum.tensors.get(name)
        if tensor is None or tensor.shape != shape:
            raise _bad(self.folder, f"it has no `{name}` of the optimiser")
        return np.array(self.momentum.read(name))


def write_checkpoint(
    run: Path,
    network: Network,
    weights: "Mapping[str, Tensor]",
    memory: "Mapping[str, Tensor]",
    state: TrainState,
    *,
    described: Metadata,
    keep_every: int | None = None,
) -> None:
    """Write a checkpoint, and let ``last``, and perhaps ``best``, be its weights.

    ``described`` is the metadata of the weights, such as the mean and the labels. The weights of
    every ``keep_every``-th epoch stay for good.

    Raises:
        VggspecError: the system refuses; the checkpoint before is still there.
    """
    root = run / CHECKPOINTS
    # After an epoch the same step has another state than within it.
    folder = root / f"{state.step:09}{'' if state.batches else '-epoch'}"
    with replacing_folder(folder) as scratch:
        arrays = {param.name: _array(weights[param.name]) for param in network.params()}
        digest = save(scratch / WEIGHTS, arrays, described)
        text = json.dumps({"weights": digest, "state": state.as_json()})
        kept = {name: _array(tensor) for name, tensor in memory.items()}
        save(scratch / MOMENTUM, kept, Metadata(net=network.name, more={_STATE: text}))
    publish(run, folder, state, keep_every)
    for other in root.iterdir():  # including incomplete ones
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


def publish(run: Path, folder: Path, state: TrainState, keep_every: int | None) -> None:
    """Give the weights of a checkpoint the names under which they are looked for.

    Raises:
        VggspecError: the system refuses.
    """
    names = [LAST]
    if state.batches == 0 and state.epoch > 1:
        done = state.epoch - 1
        if state.best is not None and state.best.epoch == done:
            names.append(BEST)
        if keep_every and done % keep_every == 0:
            names.append(epoch_file(done))
    for name in names:
        replace_by_twin(folder / WEIGHTS, run / name)


def read_checkpoint(run: Path, network: Network) -> Checkpoint | None:
    """The newest checkpoint of a run, checked against the net; None before the first one.

    Raises:
        VggspecError: it is damaged, or another net's.
    """
    folders = _folders(run / CHECKPOINTS)
    if not folders:
        return None
    folder = folders[-1]
    try:
        weights = for_net(open_weights(folder / WEIGHTS), network, is_read=True)
        momentum = open_weights(folder / MOMENTUM)
        momentum = checked(momentum, momentum.tensors, is_read=True)
    except VggspecError as error:
        (why,) = error.reports
        if not isinstance(why.what, ChangedWeights | NotFiniteWeights):
            raise
        raise _bad(folder, f"{Path(why.path or '').name}: {why.what.title()}") from error
    for param in network.params():
        tensor = momentum.tensors.get(param.name)
        if param.is_trained and (tensor is None or tensor.shape != param.stored):
            raise _bad(folder, f"it has no momentum for `{param.name}`")
    text = momentum.metadata.more.get(_STATE, "")
    try:
        found = parse_object(text.encode(), has_paths=True)
        state = TrainState.from_fields(found.object("state"))
        digest = found.sha256("weights")
    except BadFieldError as error:
        raise _bad(folder, f"its state cannot be understood: {error}") from error
    if digest != weights.metadata.data_sha256:
        raise _bad(folder, "weights and momentum are not from the same step")
    return Checkpoint(folder, weights, momentum, state)


def _folders(root: Path) -> list[Path]:
    """Whole checkpoints, from the oldest to the newest."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.name[:1].isdigit())


def _array(tensor: "Tensor") -> Array:
    array: Array = tensor.detach().cpu().contiguous().numpy()
    return array


def _bad(folder: Path, why: str) -> VggspecError:
    """The mistake in a checkpoint, with the intact weights of the run."""
    run = folder.parent.parent
    older = [str(other) for other in _folders(folder.parent) if other != folder]
    whole = [str(file) for file in sorted(run.glob("*.safetensors")) if _is_whole(file)]
    what = BadCheckpoint(reason=why, older=max(older, default=None), whole=tuple(whole))
    return VggspecError(report(what, path=str(folder)))


def _is_whole(path: Path) -> bool:
    """Whether a weights file is the one that was written."""
    try:
        weights = open_weights(path)
        checked(weights, weights.tensors, is_read=True)
    except VggspecError:
        return False
    return True
