"""Weights files and files of features: headers that lie, and metadata that is none."""

import json
import struct
import tempfile
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from tests.fuzz.seeds import TINY
from tests.nets import net
from vggspec.compiler.input_contract import settled
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import check_fits, describe, open_weights, save
from vggspec.studies.features.file import open_features, writing


def one(random: Random, folder: Path) -> str:
    """A header to whoever reads headers."""
    lowered, weights, features = _seeds()
    is_features = not random.randrange(3)
    data = features if is_features else weights
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    kind = random.randrange(4)
    if kind == 0:
        data = mutate.damaged(random, data)
    else:
        table = json.loads(header)
        texts = table["__metadata__"]
        key = random.choice(sorted(texts))
        if kind == 1 and key.startswith("vggspec."):
            value = _value(texts[key])
            texts[key] = mutate.as_json(mutate.twisted(random, {"": value})).decode()[5:-1]
        else:
            table = mutate.twisted(random, table)
        header = mutate.as_json(table)
        data = struct.pack("<Q", len(header)) + header + rest
    path = folder / "file.safetensors"
    path.write_bytes(data)
    return answer(lambda: _use_features(path) if is_features else _use_weights(lowered, path))


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _use_weights(lowered: Lowered, path: Path) -> None:
    found = open_weights(path)
    check_fits(found, lowered.network)
    settled(lowered, found)
    for name in found.tensors:
        found.read(name).tobytes()
    str(found.metadata.labels).encode()


def _use_features(path: Path) -> None:
    found = open_features(path)
    for split in found.splits.values():
        split.features.tobytes()
    json.dumps(dict(found.settings))


@lru_cache
def _seeds() -> tuple[Lowered, bytes, bytes]:
    folder = Path(tempfile.mkdtemp(prefix="vggspec-seeds-"))
    lowered = net(TINY)
    rng = np.random.default_rng(0)
    arrays = {
        param.name: rng.normal(size=param.stored).astype(np.float32)
        for param in lowered.network.params()
    }
    metadata = describe(lowered.network, mean=(1.0, 2.0, 3.0), labels=("a", "ß", "c"))
    save(folder / "w", arrays, metadata)
    with writing(folder / "f", {"train": 2}, 3, ("a", "b"), {"nets": [{"net": "D"}]}) as writer:
        writer.begin("train")
        for i in range(2):
            writer.add(f"{i}.png", np.ones(3, np.float32), i)
    return lowered, (folder / "w").read_bytes(), (folder / "f").read_bytes()
