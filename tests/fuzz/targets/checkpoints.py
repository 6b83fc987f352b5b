"""Checkpoints: damaged files, damaged members under right checksums, hostile pickles and tables."""

import io
import pickletools
import zipfile
from argparse import Namespace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from vggspec.compiler.importing.checkpoint import read_checkpoint

WORDS = (
    "state_dict", "model", "model_ema", "ema", "net", "teacher", "student", "module", "weight",
    "features.0.weight", "param_groups", "_modules", "", "\0", "\x1b[31m", "\ud800", "a" * 5000,
    b"\xff", 0, -1, 2**80, None, 1e400,
)  # fmt: skip


def one(random: Random, folder: Path) -> str:
    """A checkpoint to ``read_checkpoint``."""
    make = random.choice((_damaged, _members, _pickle, _tables, _head))
    path = folder / random.choice(("w.pth", "w.npz", "w.safetensors", "w.caffemodel", "w"))
    path.write_bytes(make(random))
    key = random.choice((None, None, None, "model_ema", "\x1b[1m", "state_dict.", ""))

    def read() -> None:
        found = read_checkpoint(path, key)
        assert found.tensors
        assert all(array.dtype == np.float32 for array in found.tensors.values())

    return answer(read)


def _damaged(random: Random) -> bytes:
    return mutate.damaged(random, random.choice(_whole()))


def _head(random: Random) -> bytes:
    """The beginning of one format and the rest of another."""
    first, second = random.choice(_whole()), random.choice(_whole())
    return first[: random.choice((1, 2, 4, 8, 16, 300))] + second[random.randrange(300) :]


def _members(random: Random) -> bytes:
    """An archive whose members are damaged, and its checksums right."""
    with zipfile.ZipFile(io.BytesIO(random.choice(_archives()))) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = random.randrange(len(members))
    members[at] = members[at][0], mutate.damaged(random, members[at][1])
    if random.randrange(4) == 0:
        members.pop(random.randrange(len(members)))
    return _zip(members, random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _pickle(random: Random) -> bytes:
    """A pickle of operations at random, in a file of PyTorch, of today or before."""
    data = bytearray(b"\x80\x02")
    for _ in range(random.choice((3, 20, 200))):
        data += _operation(random)
    data += random.choice((b".", b"0.", b""))
    if random.randrange(2):
        return _zip([("a/data.pkl", bytes(data)), ("a/data/0", bytes(48))], zipfile.ZIP_STORED)
    head = _whole()[1]
    start = head.index(b".", head.index(b"type_sizes")) + 1  # after the number, version and system
    return head[:start] + data + random.choice((head[start:], b"\x80\x02]X\x01\0\0\x000a."))


def _operation(random: Random) -> bytes:
    names = (
        "torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_parameter", "torch\nSize",
        "torch._utils\n_rebuild_sparse_tensor", "torch._tensor\n_rebuild_from_type_v2",
        "torch\nFloatStorage", "collections\nOrderedDict", "builtins\nset", "builtins\nbytearray",
        "torch\nfloat32",
        "os\nsystem", "torch._utils\n_rebuild_tensor_v3", "torch.storage\nUntypedStorage",
    )  # fmt: skip
    text = str(random.choice(WORDS)).encode("utf-8", "surrogatepass")
    number = random.choice((0, 1, 3, 4, 12, 255, 2**31 - 1, 2**32 - 1))
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x0ctQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\0K\x04K\x03\x86K\x03K\x01\x86\x89}tR"
    )
    return random.choice((
        b"c" + random.choice(names).encode() + b"\n",
        b"X" + len(text).to_bytes(4, "little") + text,
        b"X" + number.to_bytes(4, "little"),
        b"J" + number.to_bytes(4, "little"),
        b"K" + random.randbytes(1),
        b"r" + number.to_bytes(4, "little"),
        b"q\0h\0", b"(", b"t", b"R", b"\x81", b"b", b"}", b"]", b"s", b"u", b"a", b"e", b"N",
        b"\x85", b"\x86", b"\x87", b"Q", b"2", b")", b"\x88", b"\x8a\x08" + b"\x7f" * 8,
        storage, tensor, tensor, b"(X\x06\0\0\0weight" + tensor + b"d",
        random.choice(pickletools.opcodes).code.encode("latin-1"),
    ))  # fmt: skip


def _tables(random: Random) -> bytes:
    """Tables within tables, by names that readers look for."""

    def value(depth: int) -> Any:
        kind = random.randrange(9)
        if depth and kind < 4:
            return {random.choice(WORDS): value(depth - 1) for _ in range(random.randrange(5))}
        if kind < 7:
            return torch.zeros([random.randrange(3) for _ in range(random.randrange(4))])
        return random.choice(
            (1, None, [torch.zeros(2)], torch.arange(3), torch.zeros(1).expand(1 << 40, 1 << 18),
             torch.zeros(1).expand(1 << 28), torch.eye(2).to_sparse(), Namespace(x=1), [[]])
        )  # fmt: skip

    file = io.BytesIO()
    table = value(4) if random.randrange(4) else {name: value(2) for name in WORDS[:9]}
    torch.save(table, file, _use_new_zipfile_serialization=bool(random.randrange(2)))
    return file.getvalue()


@lru_cache
def _whole() -> tuple[bytes, ...]:
    arrays = {
        "features.0.weight": np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3),
        "features.0.bias": np.arange(4, dtype=np.float32),
        "classifier.0.weight": np.asfortranarray(np.ones((3, 4), np.float64)),
        "num_batches_tracked": np.array(3),
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    found = []
    for is_zip in (True, False):
        file = io.BytesIO()
        content = {"epoch": 1, "state_dict": tensors, "model_ema": tensors}
        torch.save(content, file, _use_new_zipfile_serialization=is_zip)
        found.append(file.getvalue())
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        found.append(file.getvalue())
    file = io.BytesIO()
    np.save(file, arrays["features.0.weight"])
    return *found, file.getvalue(), safetensors.numpy.save(arrays, {"format": "pt"})


def _archives() -> tuple[bytes, ...]:
    whole = _whole()
    return whole[0], whole[2], whole[3]


def _zip(members: list[tuple[str, bytes]], packing: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()
