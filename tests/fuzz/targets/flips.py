"""One bit flipped anywhere in a weights file, a checkpoint or a bundle: numbers are refused, or are
those that were written.
"""

from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tests.fuzz import seeds
from tests.fuzz.harness import answer
from tests.nets import net, random_weights
from vggspec.bundle.manifest import MANIFEST, MODEL, read_manifest
from vggspec.bundle.manifest import WEIGHTS as IN_BUNDLE
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.backends.torch.module import loaded
from vggspec.compiler.weights import WeightsFile, describe, for_net, open_weights
from vggspec.training.checkpoint import MOMENTUM, WEIGHTS, read_checkpoint, write_checkpoint
from vggspec.training.state import Plateau, TrainState


def one(random: Random, folder: Path) -> str:
    """A file with a flipped bit to whatever reads all of it."""
    kind = random.choice((_weights, _checkpoint, _bundle))
    return kind(random, folder)


def flip(random: Random, path: Path) -> None:
    """Flip a bit of a file, as often in its first kilobyte as in the rest."""
    data = bytearray(path.read_bytes())
    path.unlink()  # it may have other names
    data[random.randrange(min(len(data), random.choice((1200, len(data)))))] ^= (
        1 << random.randrange(8)
    )
    path.write_bytes(data)


def _weights(random: Random, folder: Path) -> str:
    lowered = net(seeds.TINY)
    path = folder / "tiny.safetensors"
    whole = _described(random_weights(lowered, path))
    flip(random, path)

    def read() -> None:
        weights = for_net(open_weights(path), lowered.network, is_read=True)
        assert _described(weights) == whole, "numbers or what goes with them were changed"
        state = loaded(lowered.network, weights).state_dict()
        assert all(torch.isfinite(tensor).all() for tensor in state.values())

    return f"weights {answer(read)}"


def _checkpoint(random: Random, folder: Path) -> str:
    network, run = net(seeds.TINY).network, folder / "run"
    given = {param.name: np.float32(_noise(param.stored)) for param in network.params()}
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    plateau = Plateau(rate=0.01, decay=10.0, decays_left=3, patience=2)
    state = TrainState(plateau=plateau, step=7, epoch=2, batches=3, loss=1.25, number=40)
    labels = ("a", "b", "c")
    described = describe(network, mean=(1.0, 2.0, 3.0), labels=labels)
    write_checkpoint(run, network, tensors, tensors, state, described=described)
    (checkpoint,) = (run / "checkpoints").iterdir()
    before = [_described(open_weights(checkpoint / name)) for name in (WEIGHTS, MOMENTUM)]
    flip(random, checkpoint / random.choice((WEIGHTS, MOMENTUM)))

    def read() -> None:
        found = read_checkpoint(run, network)
        assert found is not None
        assert [_described(found.weights), _described(found.momentum)] == before
        assert found.state == state, "another state of the run"

    return f"checkpoint {answer(read)}"


def _bundle(random: Random, folder: Path) -> str:
    path = seeds.bundle(folder)
    whole = _manifest(path)
    flip(random, path / random.choice((MANIFEST, MODEL, IN_BUNDLE)))

    def read() -> None:
        assert open_bundle(path, deep=True).manifest == whole, "another manifest"

    return f"bundle {answer(read)}"


def _manifest(path: Path) -> Any:
    return read_manifest((path / MANIFEST).read_text("utf-8"), MANIFEST)


def _described(weights: WeightsFile) -> Any:
    """All that a weights file gives, to be compared."""
    metadata = weights.metadata
    arrays = {name: weights.read(name).tobytes() for name in weights.tensors}
    known = metadata.net, metadata.layers_sha256, metadata.mean, metadata.labels
    return arrays, known, metadata.more.get("state")


@lru_cache
def _noise(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(0).standard_normal(shape)
