"""Headers of files in the safetensors format: the name, type, shape and position of each tensor.

A file begins with the length of its header, eight bytes, then the header as JSON, then the tensors,
one after the other without gaps. A header is untrusted: it is checked before it is used.

Source: the safetensors format, https://github.com/huggingface/safetensors#format
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from vggspec.base.fields import BadFieldError, Fields, parse_object, short
from vggspec.base.regular_files import open_file
from vggspec.base.shape import Shape

ALIGNMENT = 256
"""The data of a file that is written here begins at a multiple of it, in bytes."""

DATA_SHA256 = "vggspec.data_sha256"
"""Where the metadata of a weights file has the digest of its tensor data."""

MAX_HEADER_BYTES = 16 << 20
METADATA = "__metadata__"
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2,
    "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


class BadTensorsError(Exception):
    """The file violates the format; the message says how."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """The position of a tensor in a file."""

    dtype: str
    shape: Shape
    offset: int
    """From the beginning of the file."""

    bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header of a file says."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data_start: int
    bytes: int


def read_layout(path: str | os.PathLike[str]) -> Layout:
    """Read and check the header of a file.

    Raises:
        OSError: it cannot be opened.
        BadTensorsError: it is truncated, or its header is invalid.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if length > MAX_HEADER_BYTES:
            raise BadTensorsError(f"its header would be {length} bytes long")
        if len(start) < 8 or 8 + length > size:
            raise BadTensorsError(f"it ends after {size} bytes, within its header")
        header = file.read(length)
    data_start = 8 + length
    try:
        entries = parse_object(header)
        metadata = _metadata(entries)
        tensors = {
            name: _tensor(name, entries.raw(name), data_start, size)
            for name in entries.names()
            if name != METADATA
        }
    except BadFieldError as error:
        raise BadTensorsError(f"in its header {error}") from error
    end = data_start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset != end:
            raise BadTensorsError(f"`{short(name)}` does not begin where the tensor before it ends")
        end += tensor.bytes
    if end != size:
        raise BadTensorsError(f"it has {size} bytes, its header says {end}")
    return Layout(tensors, metadata, data_start, size)


def header(
    tensors: Mapping[str, tuple[str, Shape]], metadata: Mapping[str, str], length: int = 0
) -> bytes:
    """The header for tensors of these types and shapes, which follow it in this order.

    It is padded to a multiple of ``ALIGNMENT``, and to ``length`` bytes where it is shorter.
    """
    entries: dict[str, object] = {METADATA: dict(sorted(metadata.items()))}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + DTYPE_BYTES[dtype] * prod(shape)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    body = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    body += b" " * (-(8 + len(body)) % ALIGNMENT)
    return struct.pack("<Q", max(len(body), length - 8)) + body.ljust(length - 8)


def _metadata(entries: Fields) -> dict[str, str]:
    if entries.is_null(METADATA):
        return {}
    table = entries.object(METADATA)
    return {key: table.text(key, MAX_HEADER_BYTES) for key in table.names()}


def _tensor(name: str, entry: Any, data_start: int, size: int) -> Tensor:
    shown = short(name)
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [begin, end]} if (
            type(begin) is type(end) is int
        ):
            pass
        case _:
            raise BadTensorsError(f"the entry of `{shown}` is malformed")
    if dtype not in DTYPE_BYTES:
        raise BadTensorsError(f"`{shown}` has the unknown type {short(dtype)}")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n <= 1 << 40 for n in shape):
        raise BadTensorsError(f"`{shown}` has an impossible shape")
    if not 0 <= begin <= end <= size - data_start:
        raise BadTensorsError(f"`{shown}` lies outside of the file, which is cut off or damaged")
    if prod(shape) * DTYPE_BYTES[dtype] != end - begin:
        raise BadTensorsError(f"`{shown}` has another size than its shape says")
    return Tensor(dtype, tuple(shape), data_start + begin, end - begin)
