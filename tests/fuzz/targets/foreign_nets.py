"""Nets of Caffe, MatConvNet and TorchScript: damaged, also below their compression and checksums,
and of messages, cells and structures at random.
"""

import io
import struct
import warnings
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import scipy.io
import torch
from torch import nn

from tests.compiler.importing.caffe import MESSAGES, blob
from tests.fuzz import mutate
from tests.fuzz.harness import answer
from vggspec.compiler.importing.checkpoint import read_checkpoint

NAMES = ("conv1", "conv1", "fc", "", "a/b", "\x1b[31m", "好", "n" * 5000, "layers")
TYPES = ("Convolution", "InnerProduct", "BatchNorm", "Scale", "PReLU", "", "conv", "bnorm")


def one(random: Random, folder: Path) -> str:
    """A file to ``read_checkpoint``."""
    make = random.choice((_caffe, _caffe, _matlab, _matlab, _packed, _script))
    path = folder / random.choice(("w.caffemodel", "w.mat", "w.pt", "w"))
    path.write_bytes(make(random))

    def read() -> None:
        found = read_checkpoint(path)
        assert found.tensors
        for array in found.tensors.values():
            assert array.dtype == np.float32

    return answer(read)


def _perhaps_damaged(random: Random, data: bytes) -> bytes:
    return mutate.damaged(random, data) if random.randrange(3) else data


def _caffe(random: Random) -> bytes:
    net = MESSAGES["NetParameter"](name=random.choice(NAMES[:2]))
    is_old = random.randrange(2)
    for _ in range(random.randrange(5)):
        layer = (net.layers if is_old else net.layer).add(name=random.choice(NAMES))
        layer.type = random.choice((4, 14, 39, 99)) if is_old else random.choice(TYPES)
        layer.bottom.append(random.choice(NAMES[:3]))
        layer.top.append(random.choice(NAMES[:3]))
        for _ in range(random.randrange(4)):
            shape = [random.choice((1, 1, 2, 3)) for _ in range(random.randrange(5))]
            kind = random.choice(("shape", "double", "half", *["legacy"] * (len(shape) <= 4)))
            layer.blobs.append(blob(np.ones(shape, np.float32), kind))
        if layer.blobs and random.randrange(6) == 0:
            layer.blobs[0].shape.dim.append(random.choice((0, -1, 2**40, 2**62)))
        if not is_old and random.randrange(3) == 0:
            layer.batch_norm_param.eps = random.choice((1e-3, 0.0, -1.0, float("nan")))
    return _perhaps_damaged(random, net.SerializeToString())


def _value(random: Random, depth: int) -> Any:
    kind = random.randrange(8)
    if depth and kind < 2:
        found = np.empty((1, random.randrange(4)), object)
        for i in range(found.size):
            found[0, i] = _value(random, depth - 1)
        return found
    if depth and kind < 4:
        keys = ("weights", "filters", "name", "type", "params", "value", "averageImage")
        return {key: _value(random, depth - 1) for key in random.sample(keys, 3)}
    if kind < 6:
        shape = [random.randrange(4) for _ in range(random.randrange(1, 5))]
        return np.ones(shape, random.choice(("f4", "f8", "u1", "c8")))
    return random.choice(("conv", "bnorm", "dagnn.Conv", "x", ""))


def _variables(random: Random) -> dict[str, Any]:
    kernel = np.ones((3, 3, 2, 4), np.float32)
    weights = np.empty((1, 2), object)
    weights[0, 0], weights[0, 1] = kernel, np.ones((1, 4))
    layers = np.empty((1, 2), object)
    layers[0, 0] = {"type": "conv", "name": "conv1", "weights": weights}
    layers[0, 1] = _value(random, 2)
    found = {"layers": layers, "meta": {"normalization": _value(random, 2), "classes": {}}}
    if random.randrange(3) == 0:
        found[random.choice(("layers", "params", "net", "meta"))] = _value(random, 4)
    return found


def _matlab(random: Random) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, _variables(random), do_compression=bool(random.randrange(2)))
    return _perhaps_damaged(random, file.getvalue())


def _packed(random: Random) -> bytes:
    """Variables that were damaged before they were compressed."""
    file = io.BytesIO()
    scipy.io.savemat(file, _variables(random))
    data = file.getvalue()
    compressed = zlib.compress(mutate.damaged(random, data[128:]))
    return data[:128] + struct.pack("<II", 15, len(compressed)) + compressed


def _script(random: Random) -> bytes:
    """An archive whose members are damaged, and its checksums right."""
    with zipfile.ZipFile(io.BytesIO(_scripted())) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    names = [i for i, (name, _) in enumerate(members) if name.endswith(".pkl") or "/data/" in name]
    at = random.choice(names)
    members[at] = members[at][0], mutate.damaged(random, members[at][1])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


@lru_cache
def _scripted() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(3, 2))), file)
    return file.getvalue()
