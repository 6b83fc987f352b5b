"""Weights files: named float32 arrays in the safetensors format, laid out to be used in place.

The header is padded so that the data begins at a multiple of 256 bytes, and tensors whose size is
a multiple of 256 come first: GPU libraries and vector units want them aligned, and the format
allows no gaps. The metadata holds what goes with the weights: the net, a hash of its layers, the
mean of the training images, the labels, and the SHA-256 of the tensor data, so that nothing that
only points at the weights has to read them.

Source: the safetensors format, https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vggspec.bundle import digest
from vggspec.catalogue import artefacts
from vggspec.compiler.ir import Network, Shape
from vggspec.diagnostic import VggspecError, report
from vggspec.files import replacing_file
from vggspec.source import reason

ALIGNMENT = 256
MAX_HEADER_BYTES = 16 << 20
_DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What goes with the weights."""

    net: str | None = None
    layers_sha256: str | None = None
    """Hash of the names and shapes of the net's parameters."""

    mean: tuple[float, ...] | None = None
    """Mean of the training images, a number a channel, 0 to 255; None where not measured."""

    labels: tuple[str, ...] | None = None
    data_sha256: str | None = None
    """SHA-256 of the tensor data, which is everything after the header."""

    more: Mapping[str, str] = field(default_factory=dict)
    """Whatever else the file says."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in a weights file."""

    dtype: str
    shape: Shape
    offset: int
    """From the beginning of the file."""

    bytes: int


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file whose header has been read and checked; the data has not."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: Metadata
    data_start: int
    bytes: int

    def read(self, name: str) -> NDArray[Any]:
        """A tensor, mapped from the file rather than read."""
        tensor = self.tensors[name]
        mapped = np.memmap(
            self.path,
            dtype=np.dtype("<f4"),
            mode="r",
            offset=tensor.offset,
            shape=tensor.shape or (1,),
        )
        return mapped.reshape(tensor.shape)

    def data_sha256(self) -> str:
        """The digest of the tensor data: from the metadata, or, where a stranger wrote the file,
        computed, which reads all of it.
        """
        return self.metadata.data_sha256 or digest(self.path, self.data_start)


def layers_sha256(network: Network) -> str:
    """Hash of what the net asks of a weights file: names and stored shapes."""
    wanted = [[param.name, list(param.stored)] for param in network.params()]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Read and check the header of a weights file.

    Raises:
        VggspecError: it cannot be opened, is cut off, or its header is not to be believed.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if length > MAX_HEADER_BYTES:
                raise _bad(path, f"its header would be {length} bytes long")
            if len(start) < 8 or 8 + length > size:
                raise _bad(path, f"it ends after {size} bytes, within its header")
            header = file.read(length)
    except (OSError, ValueError) as error:
        what = artefacts.NoSuchFile(kind="weights file", reason=reason(error))
        raise VggspecError(report(what, path=str(path))) from error
    entries = _parse_header(path, header)
    text = entries.pop("__metadata__", {})
    if not isinstance(text, dict) or not all(isinstance(v, str) for v in text.values()):
        raise _bad(path, "its metadata is not a table of texts")
    data_start = 8 + length
    tensors = {
        name: _tensor(path, name, entry, data_start, size) for name, entry in entries.items()
    }
    end = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset != end:
            raise _bad(path, f"`{_short(name)}` does not begin where the tensor before it ends")
        end += tensor.bytes
    if end != size:
        raise _bad(path, f"it has {size} bytes, its header says {end}")
    return WeightsFile(Path(path), tensors, _metadata(text), data_start, size)


def check_fits(weights: WeightsFile, network: Network) -> None:
    """Make sure that the file holds the parameters of the net, all of them and no others.

    Raises:
        VggspecError: it is another net's, or of another number type.
    """
    path = str(weights.path)
    wanted = {param.name: param for param in network.params()}
    missing = tuple(name for name in wanted if name not in weights.tensors)
    unknown = tuple(
        _short(name)
        for name in weights.tensors
        if name not in wanted and not name.endswith(".num_batches_tracked")
    )
    unlike = tuple(
        f"{name}: {_by(weights.tensors[name].shape)} in the file, {_by(param.stored)} in the net"
        for name, param in wanted.items()
        if name in weights.tensors and weights.tensors[name].shape != param.stored
    )
    if missing or unknown or unlike:
        what = artefacts.OtherWeights(
            net=network.name,
            missing=missing,
            unlike=unlike,
            unknown=unknown,
            made_for=weights.metadata.net,
        )
        raise VggspecError(report(what, path=path))
    for name in wanted:
        dtype = weights.tensors[name].dtype
        if dtype != "F32":
            raise VggspecError(
                report(artefacts.WrongNumberType(tensor=name, dtype=dtype), path=path)
            )


def write(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Shape],
    chunks: Callable[[str], Iterator[Array]],
    metadata: Metadata,
) -> str:
    """Write a weights file, whole or not at all; the SHA-256 of its data.

    ``chunks`` gives a tensor's numbers in flat pieces, so that no more than a piece is in memory.

    Raises:
        VggspecError: the system refuses.
    """
    order = sorted(shapes, key=lambda name: (4 * prod(shapes[name])) % ALIGNMENT != 0)
    entries: dict[str, object] = {}
    end = 0
    for name in order:
        size = 4 * prod(shapes[name])
        entries[name] = {
            "dtype": "F32",
            "shape": list(shapes[name]),
            "data_offsets": [end, end + size],
        }
        end += size
    sha256 = hashlib.sha256()
    with replacing_file(path) as file:
        file.write(_header(entries, metadata, "0" * 64))
        for name in order:
            written = 0
            for chunk in chunks(name):
                data = np.ascontiguousarray(chunk, dtype="<f4").data.cast("B")
                sha256.update(data)
                file.write(data)
                written += data.nbytes
            assert written == 4 * prod(shapes[name]), name
        file.seek(0)
        file.write(_header(entries, metadata, sha256.hexdigest()))
    return sha256.hexdigest()


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Metadata) -> str:
    """Write arrays that are in memory; the SHA-256 of the data.

    Raises:
        VggspecError: the system refuses.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    return write(path, shapes, lambda name: iter((arrays[name].reshape(-1),)), metadata)


def describe(network: Network, **more: Any) -> Metadata:
    """Metadata for the weights of a net."""
    return Metadata(net=network.name, layers_sha256=layers_sha256(network), **more)


def _header(entries: Mapping[str, object], metadata: Metadata, data_sha256: str) -> bytes:
    text = dict(metadata.more)
    text["format"] = "pt"  # what transformers and others look for
    text["vggspec.data_sha256"] = data_sha256
    if metadata.net is not None:
        text["vggspec.net"] = metadata.net
    if metadata.layers_sha256 is not None:
        text["vggspec.layers_sha256"] = metadata.layers_sha256
    if metadata.mean is not None:
        text["vggspec.mean"] = json.dumps(metadata.mean)
    if metadata.labels is not None:
        text["vggspec.labels"] = json.dumps(metadata.labels, ensure_ascii=False)
    header = {"__metadata__": dict(sorted(text.items())), **entries}
    body = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    body += b" " * (-(8 + len(body)) % ALIGNMENT)
    return struct.pack("<Q", len(body)) + body


def _parse_header(path: str | os.PathLike[str], header: bytes) -> dict[str, Any]:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name stands twice")
        return table

    try:
        entries = json.loads(header.decode(), object_pairs_hook=no_twins)
    except (ValueError, RecursionError) as error:
        raise _bad(path, "its header is not JSON") from error
    if not isinstance(entries, dict):
        raise _bad(path, "its header is not a table")
    return cast("dict[str, Any]", entries)


def _tensor(
    path: str | os.PathLike[str], name: str, entry: Any, data_start: int, size: int
) -> Tensor:
    shown = _short(name)
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise _bad(path, f"the entry of `{shown}` is malformed")
    if dtype not in _DTYPE_BYTES:
        raise _bad(path, f"`{shown}` has the unknown type {_short(dtype)}")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n <= 1 << 40 for n in shape):
        raise _bad(path, f"`{shown}` has an impossible shape")
    if not 0 <= begin <= end <= size - data_start:
        raise _bad(path, f"`{shown}` lies outside of the file, which is cut off or damaged")
    if prod(shape) * _DTYPE_BYTES[dtype] != end - begin:
        raise _bad(path, f"`{shown}` has another size than its shape says")
    return Tensor(dtype, tuple(shape), data_start + begin, end - begin)


def _metadata(text: Mapping[str, str]) -> Metadata:
    """The metadata we know; what is malformed counts as not there."""
    mean = labels = None
    try:
        found = json.loads(text.get("vggspec.mean", "null"))
        if isinstance(found, list) and all(type(v) in (int, float) for v in found):
            mean = tuple(float(v) for v in found)
        found = json.loads(text.get("vggspec.labels", "null"))
        if isinstance(found, list) and all(isinstance(v, str) for v in found):
            labels = tuple(found)
    except (ValueError, RecursionError):
        pass
    sha256 = text.get("vggspec.data_sha256")
    return Metadata(
        net=text.get("vggspec.net"),
        layers_sha256=text.get("vggspec.layers_sha256"),
        mean=mean,
        labels=labels,
        data_sha256=sha256 if sha256 is not None and len(sha256) == 64 else None,
        more={key: value for key, value in text.items() if not key.startswith("vggspec.")},
    )


def _by(shape: Shape) -> str:
    return " × ".join(str(n) for n in shape)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _bad(path: str | os.PathLike[str], why: str) -> VggspecError:
    return VggspecError(report(artefacts.BadWeightsFile(reason=why), path=str(path)))
