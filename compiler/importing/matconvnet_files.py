"""Nets of MatConvNet in MATLAB's files: ``imagenet-vgg-f.mat``, ``imagenet-vgg-verydeep-16.mat``.

A simple net has its layers in the cells ``layers``, a graph (``DagNN``) its arrays in ``params``.
A kernel is (rows, columns, in, out), and MATLAB drops the last axis where it is 1. The moments of a
batch normalisation are the mean and the standard deviation, in which its epsilon is contained.

Sources: https://www.vlfeat.org/matconvnet/mfiles: ``vl_simplenn``, ``vl_nnbnorm``, ``DagNN``;
``vl_simplenn_tidy`` for the fields of files before 2015.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.checkpoint_files import NoTensors, OtherFormat
from vggspec.base.fields import short
from vggspec.compiler.importing.foreign_files import Sample
from vggspec.compiler.importing.matlab import Array, Cells, Structs, Value, read_variables
from vggspec.compiler.importing.stored import (
    BadFileError,
    Known,
    RefusedError,
    Stored,
    as_float32,
)
from vggspec.compiler.importing.tables import Table

_HDF5 = (
    "in MATLAB: net = load(PATH); save('net.mat', '-struct', 'net', '-v7'); where an array has"
    " more than 2 GB, save the layers in parts"
)
_KINDS = {
    "conv": "conv", "dagnn.Conv": "conv", "bnorm": "bnorm", "dagnn.BatchNorm": "bnorm",
}  # fmt: skip


def is_matlab(file: Sample) -> bool:
    """Whether it is a file of MATLAB, by its header."""
    return file.head.startswith((b"MATLAB 5.0 MAT", b"MATLAB 7.3 MAT"))


@dataclass(slots=True)
class _Net:
    tensors: Table = field(default_factory=dict)

    def add(self, name: str, kind: str, arrays: list[Array]) -> None:
        """The arrays of a layer: weight and bias, or factor, offset and moments."""
        if kind == "bnorm" and len(arrays) != 3:
            raise BadFileError(f"the batch normalisation `{short(name)}` has not three arrays")
        parts = ("weight", "bias", *(f"array{i}" for i in range(2, len(arrays))))
        found = {
            f"{name}.{part}": _stored(array, is_kernel=kind != "bnorm" and part == "weight")
            for part, array in zip(parts, arrays, strict=False)
        }
        if kind == "bnorm":
            moments = found.pop(f"{name}.array2")
            if len(moments.shape) != 2 or moments.shape[1] != 2:
                raise BadFileError(f"the moments of `{short(name)}` are not two a channel")
            found[f"{name}.running_mean"] = _column(moments, 0)
            found[f"{name}.running_var"] = _column(moments, 1)
        if not found.keys().isdisjoint(self.tensors):
            raise BadFileError(f"it has two layers `{short(name)}`")
        self.tensors |= found


def read(path: str) -> tuple[Table, Known]:
    """The arrays of a net by the names of its layers, in its order.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
        RefusedError: it is no net of MatConvNet, or of version 7.3.
    """
    with open(path, "rb") as file:
        if file.read(14) == b"MATLAB 7.3 MAT":
            raise RefusedError(OtherFormat(is_a="a MATLAB file of version 7.3", way=_HDF5))
    variables = read_variables(path)
    inner = _struct(variables.get("net"))
    variables = inner or variables
    net = _Net()
    layers = variables.get("layers")
    if "params" in variables:
        _read_graph(variables, net)
    elif isinstance(layers, Cells):
        for i, value in enumerate(layers.values):
            _read_layer(_struct(value), i, net)
    if not net.tensors:
        names = ", ".join(f"`{short(name)}`" for name in list(variables)[:4]) or "nothing"
        way = "a net of MatConvNet has `layers`; of other arrays np.savez('weights.npz', **arrays)"
        raise RefusedError(NoTensors(holds=names, way=way))
    mean, notes = _mean(variables)
    return net.tensors, Known(
        source="matconvnet",
        layout="hwio",
        mean=mean,
        labels=_labels(variables),
        is_epsilon_in_variance=True,
        notes=notes,
    )


def _read_layer(layer: dict[str, Value], place: int, net: _Net) -> None:
    """A layer of a simple net; files before 2015 have its arrays as ``filters`` and ``biases``."""
    weights = layer.get("weights")
    values = weights.values if isinstance(weights, Cells) else ()
    if not values:
        values = tuple(layer[key] for key in ("filters", "biases") if key in layer)
    arrays = [each for each in values if isinstance(each, Array) and 0 not in each.shape]
    name = layer.get("name")
    kind = _KINDS.get(str(layer.get("type")), "")
    if arrays:
        net.add(name if isinstance(name, str) and name else f"layer{place + 1}", kind, arrays)


def _read_graph(variables: dict[str, Value], net: _Net) -> None:
    """The arrays of a graph, which its layers name."""
    values = {
        str(param.get("name")): param.get("value") for param in _structs(variables.get("params"))
    }
    for layer in _structs(variables.get("layers")):
        named = layer.get("params")
        names = [named] if isinstance(named, str) else _texts(named) or ()
        arrays = [value for name in names if isinstance(value := values.get(name), Array)]
        if len(arrays) < len(names):
            raise BadFileError(f"the layer `{short(str(layer.get('name')))}` names lost arrays")
        if arrays:
            kind = _KINDS.get(str(layer.get("type")), "")
            net.add(str(layer.get("name")), kind, arrays)


def _stored(array: Array, *, is_kernel: bool) -> Stored:
    shape = array.shape
    if is_kernel and len(shape) < 4:
        shape += (1,) * (4 - len(shape))

    def read() -> NDArray[np.float32]:
        return as_float32(array.read().reshape(shape, order="F"))

    return Stored(shape, array.is_float, read)


def _column(moments: Stored, column: int) -> Stored:
    """The means, or the variances, which contain the epsilon."""

    def read() -> NDArray[np.float32]:
        numbers = moments.read()[:, column]
        return as_float32(numbers if column == 0 else numbers.astype(np.float64) ** 2)

    return Stored(moments.shape[:1], True, read)


def _mean(variables: dict[str, Value]) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """The mean of the images, red, green and blue, and what was made of it."""
    meta = _struct(variables.get("meta")) or variables
    normalisation = _struct(meta.get("normalization"))
    image = normalisation.get("averageImage")
    if not isinstance(image, Array) or not prod(image.shape):
        return None, ()
    is_image = len(image.shape) == 3 and image.shape[2] == 3
    if not is_image and prod(image.shape) != 3:
        return None, ()
    numbers = np.asarray(image.read(), np.float64)
    mean = tuple(round(float(x), 4) for x in numbers.reshape(-1, 3, order="F").mean(axis=0))
    if not all(0 <= x <= 255 for x in mean) or "imageStd" in normalisation:
        return None, ("its images are normalised in a way of their own: compare `meta`",)
    if prod(image.shape) == 3:
        return mean, ()
    size = f"{image.shape[0]} × {image.shape[1]}"
    return mean, (f"the mean image of {size} pixels was averaged to one mean a channel",)


def _labels(variables: dict[str, Value]) -> tuple[str, ...] | None:
    meta = _struct(variables.get("meta")) or variables
    labels = _texts(_struct(meta.get("classes")).get("description"))
    return labels if labels and all(labels) else None


def _texts(value: Value) -> tuple[str, ...] | None:
    values = value.values if isinstance(value, Cells) else ()
    texts = [each for each in values if isinstance(each, str)]
    return tuple(texts) if len(texts) == len(values) else None


def _struct(value: Value) -> dict[str, Value]:
    """A single structure; empty for anything else."""
    found = tuple(_structs(value))
    return found[0] if len(found) == 1 else {}


def _structs(value: Value) -> Iterator[dict[str, Value]]:
    if isinstance(value, Structs):
        yield from value.values
