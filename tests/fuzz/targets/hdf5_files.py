"""Keras's files: damaged ones, trees and attributes at random, links and storage of every kind."""

import io
import json
import zipfile
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from vggspec.compiler.importing.checkpoint import read_checkpoint

NAMES = (
    "layers", "vars", "model_weights", "conv2d", "conv2d_1", "dense", "batch_normalization",
    "layer_names", "weight_names", "layer_names0", "0", "1", "2", "3", "kernel", "bias",
    "_layer_checkpoint_dependencies", "optimizer", "a" * 300, "\x1b[31m", "ä",
)  # fmt: skip
TEXTS = ("conv2d", "conv2d/kernel:0", "", "a" * 300, "../x", b"\xff", '{"config": 1}')


def one(random: Random, folder: Path) -> str:
    """A file of Keras to ``read_checkpoint``."""
    path = folder / random.choice(("w.h5", "w.weights.h5", "w.keras", "w"))
    data = random.choice((_damaged, _damaged, _tree))(random)
    path.write_bytes(_archive(random, data) if random.randrange(4) == 0 else data)

    def read() -> None:
        found = read_checkpoint(path)
        assert found.tensors
        assert sum(array.nbytes for array in found.tensors.values()) < 16 * len(data) + (64 << 20)

    return answer(read)


def _damaged(random: Random) -> bytes:
    return mutate.damaged(random, random.choice(_whole()))


def _tree(random: Random) -> bytes:
    """Groups, blocks, links and attributes, as HDF5 allows them."""
    file = io.BytesIO()
    with h5py.File(file, "w", libver=random.choice(("earliest", "latest"))) as h5:
        groups: list[Any] = [h5]
        for _ in range(random.choice((3, 20, 60))):
            group, name = random.choice(groups), random.choice(NAMES)
            if name in group:
                continue
            match random.randrange(9):
                case 0 | 1 | 2:
                    groups.append(group.create_group(name))
                case 3:
                    group[name] = random.choice(
                        (h5py.SoftLink("/layers"), h5py.ExternalLink("/etc/passwd", "/"), h5)
                    )
                case 4:
                    _block(random, group, name)
                case _:
                    texts = [random.choice(TEXTS[:4]) for _ in range(random.randrange(4))]
                    value = random.choice((texts, 3, np.zeros(4), h5.ref, *TEXTS))
                    group.attrs[random.choice(NAMES)] = value
    return file.getvalue()


def _block(random: Random, group: Any, name: str) -> None:
    shape = random.choice(((), (0,), (4,), (3, 3, 3, 4), (2, 3), (1 << 20, 1 << 20)))
    dtype = random.choice(("f4", "f8", ">f2", "i1", "V2", h5py.string_dtype(), "c8"))
    match random.randrange(4):
        case 0:
            group.create_dataset(
                name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
            )
        case 1:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
            group.create_virtual_dataset(name, layout)
        case 2:
            group.create_dataset(name, (8, 8), "f4", chunks=(4, 4), compression="gzip")
        case _:
            group.create_dataset(name, shape, dtype)


def _archive(random: Random, data: bytes) -> bytes:
    config: Any = {"config": {"layers": [_layer(random) for _ in range(random.randrange(4))]}}
    text = json.dumps(config).encode()
    text = mutate.damaged(random, text) if random.randrange(3) == 0 else text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as z:
        z.writestr("config.json", text)
        z.writestr("model.weights.h5", data)
    return file.getvalue()


def _layer(random: Random) -> object:
    settings = {"name": random.choice(NAMES), "epsilon": random.choice((1e-3, "x", None, 1e400))}
    settings["layers"] = random.choice(([], 3, {}, [{}])) if random.randrange(3) == 0 else []
    return random.choice(
        (
            {"class_name": random.choice(("Conv2D", "BatchNormalization", 3)), "config": settings},
            {"class_name": "Dense", "config": []},
            "Conv2D",
        )
    )


@lru_cache
def _whole() -> list[bytes]:
    """Sound files of each form."""
    numbers = np.ones((3, 3, 3, 4), np.float32)
    files = []
    for form in ("legacy", "whole", "numbered"):
        file = io.BytesIO()
        with h5py.File(file, "w") as h5:
            if form == "numbered":
                for place in range(3):
                    group = h5.create_group(f"layers/conv2d{f'_{place}' if place else ''}/vars")
                    group["0"], group["1"] = numbers, np.ones(4, np.float32)
                    group.attrs["name"] = f"c{place}"
            else:
                root = h5 if form == "legacy" else h5.create_group("model_weights")
                root.attrs["layer_names"] = [b"a", b"b"]
                root.attrs["keras_version"] = "2.4.0"
                if form == "whole":
                    h5.attrs["model_config"] = json.dumps({"config": {"layers": []}})
                for layer in "ab":
                    group = root.create_group(layer)
                    group.attrs["weight_names"] = [f"{layer}/kernel:0", f"{layer}/bias:0"]
                    group[f"{layer}/kernel:0"], group[f"{layer}/bias:0"] = numbers, numbers[0, 0, 0]
        files.append(file.getvalue())
    return files
