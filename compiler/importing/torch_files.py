"""Reads PyTorch files of tensors without PyTorch, and without running code.

A current file (since 1.6) is a zip archive: ``data.pkl`` describes the tensors, ``data/0`` and so
on hold their numbers. An older one is a row of pickles and then the numbers of each storage, their
count before them.

Source: ``torch/serialization.py`` and ``torch/_utils.py`` of PyTorch 2.13.
"""

import io
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggspec.compiler.importing.archives import Archive
from vggspec.compiler.importing.pickles import Pickle, read_pickle
from vggspec.compiler.importing.stored import BadFileError, Stored, as_float32

LEGACY = re.compile(rb"\x80[\2-\5](?:\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
"""How a file of PyTorch before 1.6 begins: a number, as a pickle."""

_MAX_PICKLE = 64 << 20

#: Types by the names of PyTorch's dtypes and storages; those of no numpy type are not read.
_TYPES: dict[str, Any] = {
    "float32": np.float32, "float64": np.float64, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2, "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz, "complex64": np.complex64,
    "complex128": np.complex128, "int8": np.int8, "int16": np.int16, "int32": np.int32,
    "int64": np.int64, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32,
    "uint64": np.uint64, "bool": np.bool_,
}  # fmt: skip
_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "CharStorage": "int8", "ShortStorage": "int16",
    "IntStorage": "int32", "LongStorage": "int64", "ByteStorage": "uint8", "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "QInt8Storage": "int8", "QUInt8Storage": "uint8", "QInt32Storage": "int32",
    "QUInt4x2Storage": "uint8", "QUInt2x4Storage": "uint8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Type:
    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers in the file, or a part of one."""

    key: str
    type: str
    count: int
    offset: int = 0


Read = Callable[[str], NDArray[np.uint8]]
"""From a storage's key to its bytes."""


class _Rebuilding:
    """The functions by which pickles of tensors are made, as PyTorch names them."""

    def __init__(self, read: Read, *, is_big: bool) -> None:
        self._read, self._is_big = read, is_big
        self._kept: dict[str, NDArray[np.uint8]] = {}
        self.known: dict[str, object] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_type,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
            "torch._tensor._rebuild_from_type_v2": lambda function, _type, arguments, _state: (
                function(*arguments)
            ),
            "torch._utils._rebuild_sparse_tensor": _odd("sparse", ".to_dense()"),
            "torch._utils._rebuild_qtensor": _odd("quantised", ".dequantize()"),
            "torch._utils._rebuild_nested_tensor": _odd("nested", ".to_padded_tensor(0.0)"),
            "torch._utils._rebuild_meta_tensor_no_storage": _odd("without data (meta)"),
            "torch._utils._rebuild_wrapper_subclass": _odd("of a class of its own"),
            "torch._utils._rebuild_device_tensor_from_numpy": _odd("of a device", ".cpu()"),
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda data, *_: data,
            "collections.OrderedDict": _table,
            "collections.defaultdict": lambda *_: {},
            "collections.Counter": _table,
            "builtins.dict": _table,
            "builtins.set": lambda *_: [],
            "builtins.bytearray": lambda *_: b"",
            "builtins.complex": lambda *_: 0,
            "_codecs.encode": lambda *_: b"",
            "torch.Size": lambda sizes=(): tuple(sizes),
            "torch.device": lambda *_: None,
            "torch.serialization._get_layout": lambda *_: None,
            "torch.nn.parameter.Parameter": _odd("of a PyTorch before 0.4"),
            "torch.Tensor": _odd("of a PyTorch before 0.4"),
        }
        names = [name.removesuffix("Storage") for name in _STORAGES]
        for kind in names:
            for module in ("torch", "torch.cuda", "torch.storage"):
                self.known[f"{module}.{kind}Storage"] = _Type(f"{kind}Storage")
            self.known[f"torch.{kind}Tensor"] = _odd("of a PyTorch before 0.4")
        for name in (*_TYPES, "float8_e8m0fnu", "complex32", "qint8", "quint8", "qint32"):
            self.known[f"torch.{name}"] = _Type(name)
        for name in ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine",
                     "per_channel_symmetric", "per_channel_affine_float_qparams"):  # fmt: skip
            self.known[f"torch.{name}"] = None

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> Stored:
        has_metadata = len(more) > 2 and isinstance(more[2], dict) and any(more[2].values())
        stored = self._stored(storage, _STORAGES[storage.type], offset, shape, strides)
        if not has_metadata:
            return stored
        return Stored(
            stored.shape, True, _unread, ("conjugated or negated lazily", _as(".clone()"))
        )

    def _tensor_of_type(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *more: Any
    ) -> Stored:
        return self._stored(storage, more[2].name, offset, shape, strides)

    def _stored(self, storage: Any, name: str, offset: Any, shape: Any, strides: Any) -> Stored:
        if not isinstance(storage, _Storage):
            raise TypeError
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(
            type(number) is int and 0 <= number < 1 << 48 for number in numbers
        ):
            raise BadFileError("a tensor of it has an impossible shape")
        shape, strides = tuple(shape), tuple(strides)
        dtype = np.dtype(_TYPES[name]) if name in _TYPES else None
        if dtype is None:
            return Stored(shape, False, _unread)

        def read() -> NDArray[np.float32]:
            return as_float32(self._view(storage, dtype, offset, shape, strides))

        return Stored(shape, name.startswith(("float", "bfloat")), read)

    def _view(
        self,
        storage: _Storage,
        dtype: np.dtype[Any],
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> NDArray[Any]:
        if storage.key not in self._kept:
            self._kept[storage.key] = self._read(storage.key)
        data = self._kept[storage.key]
        width = np.dtype(_TYPES[_STORAGES[storage.type]]).itemsize
        start, end = storage.offset * width, (storage.offset + storage.count) * width
        if end > len(data):
            raise BadFileError(f"a storage of it has {len(data)} bytes, not {end}")
        last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
        if prod(shape) and (last + 1) * dtype.itemsize > end - start:
            raise BadFileError("a tensor of it reaches past its numbers")
        if not prod(shape):
            return np.empty(shape, np.float32)
        whole = data[start : end - (end - start) % dtype.itemsize]
        # NumPy does not take views of types that are not its own, so of the bits.
        bits = whole.view(f"u{dtype.itemsize}")[offset:]
        if self._is_big:
            bits = bits.byteswap()
        steps = [step * dtype.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(bits, shape, steps).view(dtype)


def read_archive(archive: Archive) -> Pickle:
    """The content of a current file, tensors as ``Stored``.

    Raises:
        BadFileError: it is damaged.
    """
    pickle = next(name for name in archive.members if is_pickle(name))
    root = pickle.removesuffix("data.pkl")
    if archive.size(pickle) > _MAX_PICKLE:
        raise BadFileError(f"its pickle has {archive.size(pickle)} bytes")
    order = f"{root}byteorder"
    is_big = order in archive.members and archive.start(order, 8) == b"big"

    def read(key: str) -> NDArray[np.uint8]:
        return archive.read(f"{root}data/{key}")

    rebuilding = _Rebuilding(read, is_big=is_big)
    data = archive.read(pickle).tobytes()
    return read_pickle(io.BytesIO(data), rebuilding.known, _storage)


def is_pickle(member: str) -> bool:
    """Whether a member describes the tensors of an archive."""
    return member.rpartition("/")[2] == "data.pkl" and member.count("/") <= 1


def read_legacy(path: str) -> Pickle:
    """The content of a file of PyTorch before 1.6, tensors as ``Stored``.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
    """
    size = os.path.getsize(path)
    places: dict[str, tuple[int, int]] = {}

    def read(key: str) -> NDArray[np.uint8]:
        if key not in places:
            raise BadFileError("it is cut off before its numbers")
        offset, length = places[key]
        return np.fromfile(path, np.uint8, length, offset=offset)

    storages: dict[str, _Storage] = {}

    def storage(saved: object) -> object:
        found = _storage(saved)
        if not isinstance(found, _Storage) or not isinstance(saved, tuple):
            return found
        view = saved[5] if len(saved) > 5 else None
        if view is not None:
            _, offset, count = view
            found = _Storage(found.key, found.type, _count(count), _count(offset))
        storages[found.key] = found
        return found

    rebuilding = _Rebuilding(read, is_big=False)
    with open(path, "rb") as file:
        for _ in range(2):  # a magic number, the version of the format
            read_pickle(file, {}, storage)
        system = read_pickle(file, {}, storage).value
        pickle = read_pickle(file, rebuilding.known, storage)
        if pickle.names:
            return pickle
        if not isinstance(system, dict) or system.get("little_endian", True) is not True:
            raise BadFileError("its numbers are in the order of a big-endian machine")
        keys = read_pickle(file, {}, storage).value
        for key in keys if isinstance(keys, list) else ():
            if key not in storages:
                raise BadFileError("it lists numbers that no tensor has")
            start = file.read(8)
            count = struct.unpack("<q", start)[0] if len(start) == 8 else -1
            length = count * np.dtype(_TYPES[_STORAGES[storages[key].type]]).itemsize
            if not 0 <= length <= size - file.tell():
                raise BadFileError("it is cut off within its numbers")
            places[key] = (file.tell(), length)
            file.seek(length, os.SEEK_CUR)
    return pickle


def _storage(saved: object) -> object:
    match saved:
        case ("module", made, *_):  # a class, with its source
            return made
        case ("storage", _Type(name), str(key), _, int(count), *_) if name in _STORAGES:
            return _Storage(key, name, _count(count))
    raise BadFileError("it has a storage that is malformed")


def _count(number: object) -> int:
    if type(number) is not int or not 0 <= number < 1 << 48:
        raise BadFileError("it has a storage of an impossible size")
    return number


def _table(items: Any = ()) -> dict[Any, Any]:
    """A table of another one or of pairs, as ``OrderedDict`` takes them."""
    pairs = items.items() if isinstance(items, dict) else items
    return {key: value for key, value in pairs if isinstance(key, str)}


def _odd(is_a: str, way: str | None = None) -> Callable[..., Stored]:
    advice = "save the checkpoint again where it was written" if way is None else _as(way)
    return lambda *_: Stored((), True, _unread, (f"a tensor that is {is_a}", advice))


def _as(call: str) -> str:
    return f"where it was written, save it as tensor{call}"


def _unread() -> NDArray[np.float32]:
    raise AssertionError("what is odd is refused before")
