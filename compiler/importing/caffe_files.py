"""Caffe's models (``.caffemodel``), read without Caffe.

Files before 2014 keep their layers in the field ``layers`` (V1), later ones in ``layer``. A layer
has its arrays as blobs: the weight and the bias of a convolution or an FC layer; the mean, the
variance and the factor of both of a ``BatchNorm``, which the layer ``Scale`` after it completes.

Sources: ``src/caffe/proto/caffe.proto`` of BVLC's Caffe for the numbers of the fields, ``raw_data``
from NVIDIA's; ``batch_norm_layer.cpp`` for the factor.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.checkpoint_files import NoTensors
from vggspec.base.fields import short
from vggspec.compiler.importing.foreign_files import Sample
from vggspec.compiler.importing.protobuf import Fields, Value, number_of, place_of
from vggspec.compiler.importing.stored import (
    BadFileError,
    Known,
    RefusedError,
    Stored,
    as_float32,
)
from vggspec.compiler.importing.tables import Table

_MAX_AXES = 8

#: Numbers of fields, by message.
_NET_LAYERS_V1, _NET_LAYER = 2, 100
_V1 = {4: "name", 5: "type", 6: "blobs", 2: "bottom", 3: "top", 1: "v0", 17: "inner_product"}
_V2 = {
    1: "name", 2: "type", 3: "bottom", 4: "top", 7: "blobs", 117: "inner_product",
    139: "batch_norm",
}  # fmt: skip
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_BLOB_SHAPE, _BLOB_RAW_TYPE, _BLOB_RAW = 7, 10, 12
_BLOB_LEGACY = (1, 2, 3, 4)
_BLOB_DATA = {5: "<f4", 8: "<f8"}
_RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
_TRANSPOSE, _EPSILON = 6, 3
_USUAL_EPSILON = 1e-5


def is_caffe(file: Sample) -> bool:
    """Whether a file is a NetParameter: its name, then layers or inputs."""
    found = re.match(rb"\n([\x01-\x7f])", file.head)
    follows = (b"\x12", b"\x1a", b"\x22", b"\xa2\x06")
    if found is None:
        return file.suffix == ".caffemodel" and file.head.startswith(follows)
    end = 2 + found[1][0]
    is_named = file.head[2:end].isascii() and file.head[2:end].decode().isprintable()
    return is_named and (file.suffix == ".caffemodel" or file.head.startswith(follows, end))


@dataclass(frozen=True, slots=True)
class _Blob:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    path: str

    def read(self) -> NDArray[Any]:
        found = np.fromfile(self.path, self.dtype, prod(self.shape), offset=self.offset)
        if found.size < prod(self.shape):
            raise BadFileError("it was cut off while it was read")
        return found.reshape(self.shape)


@dataclass(slots=True)
class _Layer:
    name: str = ""
    type: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    blobs: list[_Blob] = field(default_factory=list)
    epsilon: float = _USUAL_EPSILON
    is_transposed: bool = False


def read(path: str) -> tuple[Table, Known]:
    """The arrays of a model by the names of its layers, in its order.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
        RefusedError: it contains no arrays.
    """
    with open(path, "rb") as file:
        layers = [layer for layer in _Reader(file, path).layers() if layer.blobs]
    if not layers:
        raise RefusedError(NoTensors(holds="a Caffe net without weights"))
    tensors: Table = {}
    epsilons: dict[str, float] = {}
    normed: _Layer | None = None
    for layer in layers:
        name = layer.name
        if layer.type == "BatchNorm":
            found = _of_norm(layer)
            epsilons[name] = layer.epsilon
        else:
            if normed is not None and layer.type == "Scale" and layer.bottoms == normed.tops:
                name = normed.name
            found = _of_weights(layer, name)
        if not found.keys().isdisjoint(tensors):
            raise BadFileError(f"it has two layers `{short(layer.name)}`")
        tensors |= found
        normed = layer if layer.type == "BatchNorm" else None
    return tensors, Known(source="caffe", layout="oihw", epsilons=epsilons)


def _of_norm(layer: _Layer) -> Table:
    """Mean and variance, which are kept as sums, with the factor that makes means of them."""
    if len(layer.blobs) != 3 or prod(layer.blobs[2].shape) != 1:
        raise BadFileError(f"the BatchNorm `{short(layer.name)}` has not three arrays")
    *statistics, factor = layer.blobs

    def stored(blob: _Blob) -> Stored:
        def read() -> NDArray[np.float32]:
            by = float(factor.read().reshape(()))
            numbers = blob.read().reshape(-1)
            return as_float32(numbers / by if by else numbers * 0)

        return Stored((prod(blob.shape),), True, read)

    names = ("running_mean", "running_var")
    return {
        f"{layer.name}.{part}": stored(blob) for part, blob in zip(names, statistics, strict=True)
    }


def _of_weights(layer: _Layer, name: str) -> Table:
    parts = ("weight", "bias", *(f"blob{i}" for i in range(2, len(layer.blobs))))
    return {
        f"{name}.{part}": _stored(layer, blob, is_weight=part == "weight")
        for part, blob in zip(parts, layer.blobs, strict=False)
    }


def _stored(layer: _Layer, blob: _Blob, *, is_weight: bool) -> Stored:
    is_matrix = is_weight and layer.type == "InnerProduct"
    # A blob of old files has four axes.
    shape = blob.shape[2:] if is_matrix and blob.shape[:-2] == (1, 1) else blob.shape
    is_turned = is_matrix and layer.is_transposed and len(shape) == 2

    def read() -> NDArray[np.float32]:
        numbers = blob.read().reshape(shape)
        return as_float32(numbers.T if is_turned else numbers)

    return Stored(shape[::-1] if is_turned else shape, True, read)


class _Reader:
    """The messages of a net."""

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._fields, self._path = Fields(file), path

    def layers(self) -> Iterator[_Layer]:
        for number, value in self._fields.fields(self._fields.whole):
            if number in (_NET_LAYERS_V1, _NET_LAYER):
                yield self._layer(place_of(value), _V1 if number == _NET_LAYERS_V1 else _V2)

    def _layer(self, place: tuple[int, int], names: dict[int, str]) -> _Layer:
        layer = _Layer()
        for number, value in self._fields.fields(place):
            match names.get(number):
                case "name":
                    layer.name = self._fields.text(value)
                case "type" if isinstance(value, int):  # V1's
                    layer.type = _V1_TYPES.get(value, "")
                case "type":
                    layer.type = self._fields.text(value)
                case "bottom":
                    layer.bottoms.append(self._fields.text(value))
                case "top":
                    layer.tops.append(self._fields.text(value))
                case "blobs":
                    blob = self._blob(place_of(value))
                    if blob is not None:
                        layer.blobs.append(blob)
                case "inner_product":
                    fields = dict(self._fields.fields(place_of(value)))
                    layer.is_transposed = fields.get(_TRANSPOSE) == 1
                case "batch_norm":
                    fields = dict(self._fields.fields(place_of(value)))
                    if _EPSILON in fields:
                        layer.epsilon = _float(fields[_EPSILON])
                case "v0":
                    raise BadFileError(
                        "its layers are in the format before 2014: in Caffe,"
                        " `upgrade_net_proto_binary` converts it"
                    )
        return layer

    def _blob(self, place: tuple[int, int]) -> _Blob | None:
        legacy = dict.fromkeys(_BLOB_LEGACY, 1)
        shape: list[int] = []
        run: tuple[int, int, int] | None = None
        raw_type = 0
        is_legacy = False
        for number, value in self._fields.fields(place):
            if number in legacy:
                legacy[number], is_legacy = number_of(value), True
            elif number == _BLOB_SHAPE:
                shape = self._dims(place_of(value))
            elif number == _BLOB_RAW_TYPE:
                raw_type = number_of(value)
            elif number in _BLOB_DATA or number == _BLOB_RAW:
                if isinstance(value, int) or run is not None:
                    raise BadFileError("the numbers of a blob are not in one run")
                run = number, *value
        if run is None:
            return None
        number, start, end = run
        kind = _BLOB_DATA.get(number, _RAW_TYPES.get(raw_type))
        if kind is None:
            raise BadFileError("a blob has numbers of no known type")
        dtype = np.dtype(kind)
        sides = tuple(legacy.values()) if is_legacy and not shape else tuple(shape)
        if len(sides) > _MAX_AXES or prod(sides) * dtype.itemsize != end - start:
            raise BadFileError("a blob has another size than its shape says")
        return _Blob(sides, dtype, start, self._path)

    def _dims(self, place: tuple[int, int]) -> list[int]:
        dims: list[int] = []
        for number, value in self._fields.fields(place):
            if number != 1:
                continue
            if isinstance(value, int):
                dims.append(value)
                continue
            at, end = place_of(value)
            while at < end and len(dims) <= _MAX_AXES:
                side, at = self._fields.varint(at, end)
                dims.append(side)
        return dims


def _float(value: Value) -> float:
    number = struct.unpack("<f", number_of(value).to_bytes(8, "little")[:4])[0]
    # As it was written: 1e-5, not the nearest float32.
    return float(np.format_float_positional(np.float32(number)))
