"""ONNX models: the weights of their layers, as the nodes read them.

The input slot of a node decides what an initializer is, not its name: exporters name a bias that
they made of a batch normalisation after the kernel. A layer is called as its kernel is,
``features.0`` of ``features.0.weight``; where that says nothing, as ``onnx::Conv_123`` does, as its
node is. The order of the nodes is the order of the net.

The structure is looked at before it is parsed, and numbers outside of the file are read only from
its own folder.

Sources: ``onnx.proto3`` of ONNX 1.16 for the numbers of the fields; ONNX's operators Conv, Gemm,
MatMul and BatchNormalization for their slots; its ExternalData page.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.checkpoint_files import NoTensors
from vggspec.base.catalogue.onnx_models import BadDataFile, UnreadableModel
from vggspec.base.fields import short
from vggspec.base.regular_files import open_file
from vggspec.base.safetensors_header import read_layout
from vggspec.base.wording import count, reason
from vggspec.compiler.importing.foreign_files import Sample
from vggspec.compiler.importing.modules import owner_of
from vggspec.compiler.importing.protobuf import Fields, Place, place_of
from vggspec.compiler.importing.stored import (
    BadFileError,
    Known,
    RefusedError,
    Stored,
    as_float32,
)
from vggspec.compiler.importing.tables import Table

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_MAX_BYTES = 2 << 30
_MAX_STRUCTURE = 64 << 20
_MAX_AXES = 8
_MAX_STEPS = 16

#: The messages in a message, by the numbers of their fields.
_INNER = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: "entry"},
}
#: The texts in a message that are used.
_TEXTS = {
    "function": (1,), "node": (1, 2, 3, 4), "attribute": (1,), "tensor": (8,), "entry": (1, 2),
}  # fmt: skip
#: Of a tensor: float_data, int32_data, raw_data, double_data.
_NUMBERS = (4, 5, 9, 10)

#: Floating point types by their numbers in ONNX.
_TYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in (
        (1, "<f4"),
        (10, "<f2"),
        (11, "<f8"),
        (16, ml_dtypes.bfloat16),
        (17, ml_dtypes.float8_e4m3fn),
        (19, ml_dtypes.float8_e5m2),
    )
}

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")
#: What leaves the numbers of a constant as they are.
MOVES = ("Identity", "Cast", "Transpose")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")
_QUANTISED = re.compile(
    r"(Dynamic)?(De)?QuantizeLinear|QLinear\w+|QGemm|(Conv|MatMul)Integer(ToFloat)?|MatMulNBits"
)
#: What a net's channels are the same after, whatever the order of the axes before.
_ENDS = re.compile(r"Conv|Gemm|MatMul|Global\w+Pool|Reduce\w+|MaxPool|AveragePool|Concat|LRN")
#: What an exporter calls the node of a layer, after the way to the layer.
_OPS = re.compile(
    r"(Conv|Conv2D|ConvTranspose|Gemm|MatMul|BiasAdd|Add|BatchNormalization|FusedBatchNorm(V\d)?)(_\d+)?"
)
_MEANINGLESS = re.compile(r"onnx::\w+|[\d/:.]*")

_ORIGINAL = "import the checkpoint that it was exported from"


def is_onnx(file: Sample) -> bool:
    """Whether a file is a ModelProto: its version, then another of its fields. A SavedModel of
    TensorFlow may begin as one.
    """
    first = re.match(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42\x72]", file.head)
    return first is not None and (
        file.suffix == ".onnx" or not file.head.startswith(b"\x08\x01\x12")
    )


@dataclass(frozen=True, slots=True)
class Weights:
    """What a model has."""

    tensors: Table
    known: Known
    metadata: dict[str, str]
    """That of the safetensors file beside it which has its numbers."""

    bytes_beside: int
    """The size of the files beside it which have its numbers."""


def read(path: str) -> Weights:
    """The arrays of a model by the names of its layers, in its order.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
        BadTensorsError: the safetensors file beside it is.
        RefusedError: it has no weights, or has them in a form that is not read.
    """
    reader = Reader(load(path), path)
    tensors = reader.tensors()
    if not any(stored.is_float for stored in tensors.values()):
        raise RefusedError(NoTensors(holds="an ONNX model without weights"))
    beside = reader.files
    metadata: dict[str, str] = {}
    if len(beside) == 1 and next(iter(beside)).endswith(".safetensors"):
        metadata = dict(read_layout(next(iter(beside))).metadata)
    known = Known(layout="oihw", epsilons=reader.epsilons, notes=tuple(reader.notes()))
    return Weights(tensors, known, metadata, sum(beside.values()))


def load(path: str) -> "ModelProto":
    """The model in a file, after a look at its structure; numbers beside the file are not read.

    Raises:
        OSError: it cannot be read.
        BadFileError: it is damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    with open_file(path) as file:
        _check_structure(Fields(file))
        file.seek(0)
        data = file.read()
    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        raise BadFileError("its messages are malformed") from error


def _check_structure(fields: Fields) -> None:
    """Make sure that what is no numbers is small: a parser takes many times its bytes."""
    size = fields.whole[1]
    if size >= _MAX_BYTES:
        raise BadFileError("it has 2 GiB or more, which no ONNX file may have")
    numbers = 0
    todo: list[tuple[str, Place]] = [("model", fields.whole)]
    while todo:
        kind, place = todo.pop()
        inner = _INNER.get(kind, {})
        for number, value in fields.fields(place):
            if number in _TEXTS.get(kind, ()) and "\ufffd" in fields.text(value):
                raise BadFileError("a name in it is no text")
            if number in inner:
                todo.append((inner[number], place_of(value)))
            elif kind == "tensor" and number in _NUMBERS and not isinstance(value, int):
                numbers += value[1] - value[0]
    if size - numbers > _MAX_STRUCTURE:
        raise BadFileError(f"{(size - numbers) >> 20} MiB of it are no numbers of tensors")


class Reader:
    """The layers of a model by their nodes, and its constants."""

    def __init__(self, model: "ModelProto", path: str) -> None:
        self._folder = os.path.dirname(os.path.abspath(path))
        self.nodes = list(model.graph.node)
        self.names: dict[int, str] = {}
        """What the layers are called, by the identities of their nodes."""

        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            self._makers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
            value = attribute(node, "value")
            if node.op_type == "Constant" and value is not None and value.HasField("t"):
                self._constants[node.output[0]] = value.t
        self._outputs = {output.name for output in model.graph.output}
        self.biases: set[int] = set()
        """The identities of the nodes that do nothing but add the bias of a layer."""

        self._names: set[str] = set()
        self._read: set[str] = set()
        self._other: list[str] = []
        self._is_flat = False
        self.epsilons: dict[str, float] = {}
        self.files: dict[str, int] = {}
        _check_operators(model)

    def tensors(self) -> Table:
        """The weights of all layers, and the other floating point tensors that nodes read."""
        found: Table = {}
        for i, node in enumerate(self.nodes):
            for name, stored in self._of_node(node, i):
                found.setdefault(name, stored)
        whole = {name.rpartition(".")[0] for name in found if name.endswith(".running_mean")}
        self._other = [name for name in self._other if name.rpartition(".")[0] not in whole]
        return found

    def notes(self) -> Iterator[str]:
        """What of the model is not imported."""
        if self._other:
            names = ", ".join(f"`{short(name)}`" for name in self._other[:4])
            more = ", …" if len(self._other) > 4 else ""
            yield (
                f"the model also computes with {names}{more}, which no layer of the spec takes: the"
                " spec must say it"
            )
        unread = [
            name
            for name, tensor in self._constants.items()
            if name not in self._readers and name not in self._outputs and _is_float(tensor)
        ]
        if unread:
            yield f"left out {count(len(unread), 'tensor')} that nothing in the model reads"

    def check_files(self) -> None:
        """Check that all numbers beside the model are in its folder.

        Raises:
            RefusedError: some are not.
        """
        for name, tensor in self._constants.items():
            if tensor.data_location == tensor.EXTERNAL:
                entries = {entry.key: entry.value for entry in tensor.external_data}
                self._path(entries.get("location", ""), short(name))

    def _of_node(self, node: "NodeProto", index: int) -> Iterator[tuple[str, Stored]]:
        if node.op_type in ("Conv", "ConvTranspose"):
            yield from self._of_conv(node, index)
        elif node.op_type == "BatchNormalization":
            yield from self._of_norm(node, index)
        elif node.op_type == "Gemm":
            yield from self._of_gemm(node, index)
        elif node.op_type == "MatMul" and self._is_layer(node):
            yield from self._of_matmul(node, index)
        elif id(node) not in self.biases and node.op_type not in MOVES:
            for name in node.input:
                stored = self.constant(name)
                if stored is None or not stored.is_float:
                    continue
                if prod(stored.shape) > 1 or node.op_type in _ARITHMETIC:
                    self._other.append(name)
                    yield name, stored

    def _of_conv(self, node: "NodeProto", index: int) -> Iterator[tuple[str, Stored]]:
        name = self._name(node, index, node.input[1:3])
        weight = self._weight(node, 1)
        yield f"{name}.weight", weight
        out = weight.shape[0] if weight.shape else 0
        if node.op_type == "ConvTranspose" and len(weight.shape) > 1:  # (in, out / groups, …)
            out = weight.shape[1] * max(1, integer(node, "group"))
        bias = self._bias(node, 2, (out, *[1] * (len(weight.shape) - 2)))
        if bias is not None:
            yield f"{name}.bias", bias

    def _of_gemm(self, node: "NodeProto", index: int) -> Iterator[tuple[str, Stored]]:
        if integer(node, "transA"):
            raise _unreadable(f"{title(node)} turns its input (transA)", _ORIGINAL)
        self._check_flattened(node)
        name = self._name(node, index, node.input[1:3])
        weight = self._weight(node, 1)
        if not integer(node, "transB"):
            weight = _turned(weight, None)
        weight = _scaled(weight, decimal(node, "alpha", 1.0))
        yield f"{name}.weight", weight
        out = weight.shape[0] if weight.shape else 0
        bias = self._bias(node, 2, (out,))
        if bias is not None:
            yield f"{name}.bias", _widened(_scaled(bias, decimal(node, "beta", 1.0)), out)

    def _of_matmul(self, node: "NodeProto", index: int) -> Iterator[tuple[str, Stored]]:
        self._check_flattened(node)
        weight = _turned(self._weight(node, 1), None)
        name = self._name(node, index, node.input[1:2])
        yield f"{name}.weight", weight
        bias = self._bias(node, 2, weight.shape[:1])
        if bias is not None:
            yield f"{name}.bias", bias

    def _of_norm(self, node: "NodeProto", index: int) -> Iterator[tuple[str, Stored]]:
        name = self._name(node, index, node.input[1:])
        self.epsilons[name] = decimal(node, "epsilon", 1e-5)
        for slot, part in enumerate(("weight", "bias", "running_mean", "running_var"), 1):
            yield f"{name}.{part}", self._weight(node, slot)

    def _is_layer(self, node: "NodeProto") -> bool:
        """Whether a product is one with a constant matrix, which must be its second factor."""
        if len(node.input) != 2:
            raise BadFileError(f"{title(node)} has not two inputs")
        if self.constant(node.input[0]) is not None:
            raise _unreadable(f"{title(node)} has its matrix before its input", _ORIGINAL)
        found = self.constant(node.input[1])
        return found is not None and len(found.shape) == 2

    def _weight(self, node: "NodeProto", slot: int) -> Stored:
        if len(node.input) <= slot or not node.input[slot]:
            raise BadFileError(f"{title(node)} has no input {slot}")
        found = self.constant(node.input[slot])
        if found is None:
            way = f"{_ORIGINAL}, or fold constants: onnxslim or onnxsim does"
            raise _unreadable(f"the weights of {title(node)} are no constants", way)
        if not found.is_float:
            raise _unreadable(f"the weights of {title(node)} are no floats", _ORIGINAL)
        return found

    def _bias(self, node: "NodeProto", slot: int, shape: tuple[int, ...]) -> Stored | None:
        """The bias in a slot, or of the node after it that does nothing but add one of a shape that
        fits.
        """
        if len(node.input) > slot and node.input[slot]:
            return self._weight(node, slot)
        readers = self._readers.get(node.output[0], [])
        if len(readers) != 1 or readers[0].op_type != "Add" or node.output[0] in self._outputs:
            return None
        for name in readers[0].input:
            found = self.constant(name)
            if found is not None and found.is_float:
                sides = found.shape
                if sides[-len(shape) :] == shape and prod(sides) == prod(shape):
                    self.biases.add(id(readers[0]))
                    return _reshaped(found, (prod(shape),))
        return None

    def _check_flattened(self, node: "NodeProto") -> None:
        """Refuse a first FC layer that takes its map with the channels last: the spec's takes it
        channel by channel.
        """
        if self._is_flat:
            return
        self._is_flat = True
        name = node.input[0]
        for _ in self.nodes:
            maker = self._makers.get(name)
            if maker is None or not maker.input or _ENDS.fullmatch(maker.op_type):
                return
            if maker.op_type == "Transpose":
                why = f"{title(node)} takes a map whose axes {title(maker)} moved"
                way = f"{_ORIGINAL}: of Keras a `.keras` or `.h5` file"
                raise _unreadable(why, way)
            name = next((each for each in maker.input if each not in self._constants), "")

    def _name(self, node: "NodeProto", index: int, inputs: Any) -> str:
        """What a layer is called: as its tensors, else as its node, else by its place."""
        owners = [owner_of(name) for name in (self._source(each) for each in inputs)]
        own = next((name for name in owners if name and not _MEANINGLESS.fullmatch(name)), None)
        places = (own, _scope(node), self._source(inputs[0]) if inputs else "")
        found = next(
            (name for name in places if name and not _MEANINGLESS.fullmatch(name)),
            f"{node.op_type}_{index}",
        )
        if found in self._names:  # weights that several layers share
            found = f"{found}.{node.op_type}_{index}"
        self._names.add(found)
        self.names[id(node)] = found
        return found

    def _source(self, name: str) -> str:
        """The initializer that a value is, perhaps with its axes moved."""
        for _ in range(_MAX_STEPS):
            maker = self._makers.get(name)
            if name in self._constants or maker is None or not maker.input:
                return name
            name = maker.input[0]
        return name

    def constant(self, name: str) -> Stored | None:
        """A value that is a constant, perhaps copied, cast or with its axes moved."""
        moves: list[tuple[int, ...] | None] = []
        for _ in range(_MAX_STEPS):
            if name in self._constants:
                stored = self._stored(name)
                for axes in reversed(moves):
                    stored = _turned(stored, axes)
                return stored
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in MOVES:
                return None
            if len(maker.input) != 1:
                raise BadFileError(f"{title(maker)} has not one input")
            if maker.op_type == "Transpose":
                axes = attribute(maker, "perm")
                moves.append(None if axes is None else tuple(axes.ints))
            name = maker.input[0]
        return None

    def _stored(self, name: str) -> Stored:
        tensor = self._constants[name]
        shape = tuple(tensor.dims)
        if len(shape) > _MAX_AXES or any(side < 0 for side in shape):
            raise BadFileError(f"`{short(name)}` has an impossible shape")
        if not _is_float(tensor):
            return Stored(shape, False, lambda: np.zeros(shape, np.float32))
        dtype = _TYPES[tensor.data_type]
        if tensor.data_location == tensor.EXTERNAL:
            return self._external(tensor, shape, dtype)
        if tensor.HasField("raw_data"):
            if len(tensor.raw_data) != prod(shape) * dtype.itemsize:
                raise BadFileError(f"`{short(name)}` has another size than its shape says")

            def read() -> NDArray[np.float32]:
                return as_float32(np.frombuffer(tensor.raw_data, dtype).reshape(shape))

            return Stored(shape, True, read)
        numbers = {1: tensor.float_data, 11: tensor.double_data}.get(
            tensor.data_type, tensor.int32_data
        )
        if len(numbers) != prod(shape):
            raise BadFileError(f"`{short(name)}` has another size than its shape says")

        def read_numbers() -> NDArray[np.float32]:
            if numbers is not tensor.int32_data:
                return as_float32(np.array(numbers, dtype).reshape(shape))
            kind = np.dtype(f"<u{dtype.itemsize}")
            bits = np.array(numbers, np.int32).astype(kind)
            return as_float32(bits.view(dtype).reshape(shape))

        return Stored(shape, True, read_numbers)

    def _external(
        self, tensor: "TensorProto", shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Stored:
        """Numbers in a file of the model's folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location, name = entries.get("location", ""), short(tensor.name)
        path = self._path(location, name)
        if path not in self.files:
            try:
                with open_file(path) as file:
                    self.files[path] = os.fstat(file.fileno()).st_size
            except OSError as error:
                way = "copy it too, into the folder of the model"
                raise _bad_data(name, location, reason(error), way) from error
        offset, needed = entries.get("offset", "0"), prod(shape) * dtype.itemsize
        length = entries.get("length", str(needed))
        if not (_is_number(offset) and _is_number(length)) or int(length) != needed:
            raise BadFileError(f"`{name}` has another size than its shape says")
        if int(offset) + needed > self.files[path]:
            raise BadFileError(f"`{name}` is beyond the end of `{short(location)}`")

        def read() -> NDArray[np.float32]:
            found = np.fromfile(path, dtype, prod(shape), offset=int(offset))
            if found.size < prod(shape):
                raise BadFileError("it was cut off while it was read")
            return as_float32(found.reshape(shape))

        return Stored(shape, True, read)

    def _path(self, location: str, name: str) -> str:
        """The path of a data file, which is in the model's folder, and not by a link."""
        parts = re.split(r"[/\\]", location)
        is_absolute = os.path.isabs(location) or ":" in location or "\0" in location
        if is_absolute or not location or ".." in parts or "" in parts:
            way = "an ONNX model names its data files relative to its own folder"
            raise _bad_data(name, location, "this is no path in the model's folder", way)
        path = self._folder
        for part in parts:
            path = os.path.join(path, part)
            if os.path.islink(path):
                way = "copy the files into one folder: `cp -rL`"
                raise _bad_data(name, location, "it is a link, which is not followed", way)
        return path


def _check_operators(model: "ModelProto") -> None:
    """Refuse models whose layers are quantised, or within a node or a function."""
    from onnx import AttributeProto

    for node in model.graph.node:
        if _QUANTISED.fullmatch(node.op_type):
            raise _unreadable(f"it is quantised ({title(node)})", _ORIGINAL)
    bodies = [(f"the function `{short(each.name)}`", each.node) for each in model.functions]
    todo = list(model.graph.node)
    while todo:
        node = todo.pop()
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else attribute.graphs
            for graph in graphs:
                bodies.append((title(node), graph.node))
                todo += graph.node
    for where, nodes in bodies:
        if any(node.op_type in _LAYERS for node in nodes):
            way = f"{_ORIGINAL}; of a bundle the file `model.safetensors`"
            raise _unreadable(f"its layers are within {where}", way)
    if model.graph.sparse_initializer:
        raise _unreadable("its tensors are sparse", _ORIGINAL)


def _unreadable(why: str, way: str) -> RefusedError:
    return RefusedError(UnreadableModel(why=why, way=way))


def _bad_data(name: str, location: str, why: str, way: str) -> RefusedError:
    what = BadDataFile(tensor=name, location=short(location), reason=why, way=way)
    return RefusedError(what)


def needed(nodes: Sequence["NodeProto"], names: Iterable[str]) -> set[int]:
    """The places of the nodes that tensors depend on."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    found: set[int] = set()
    todo = list(names)
    while todo:
        place = makers.get(todo.pop())
        if place is not None and place not in found:
            found.add(place)
            todo += nodes[place].input
    return found


def title(node: "NodeProto") -> str:
    """``the Conv `features.0```, for messages."""
    return f"the {short(node.op_type)} `{short(node.name or ''.join(node.output[:1]))}`"


def _scope(node: "NodeProto") -> str:
    """The module of a node: ``layer1.0.conv1`` of ``/layer1/layer1.0/conv1/Conv``, as PyTorch names
    nodes.
    """
    parts = [part for part in node.name.split("/") if part]
    if len(parts) > 1 and _OPS.fullmatch(parts[-1]):
        parts.pop()
    found: list[str] = []
    for part in parts:
        if found and part.startswith(f"{found[-1]}."):
            found.pop()
        found.append(part)
    return ".".join(found)


def attribute(node: "NodeProto", name: str) -> Any:
    """An attribute of a node, or None."""
    return next((each for each in node.attribute if each.name == name), None)


def integer(node: "NodeProto", name: str) -> int:
    """An attribute that is a whole number; 0 where the node does not have it."""
    found = attribute(node, name)
    return 0 if found is None else int(found.i)


def decimal(node: "NodeProto", name: str, usual: float) -> float:
    """An attribute that is a number, or the usual one."""
    found = attribute(node, name)
    if found is None:
        return usual
    # As it was written: 1e-5, not the nearest float32.
    return float(np.format_float_positional(np.float32(found.f)))


def _is_float(tensor: "TensorProto") -> bool:
    return tensor.data_type in _TYPES


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,18}", text) is not None


def _turned(stored: Stored, axes: tuple[int, ...] | None) -> Stored:
    """With its axes moved; None reverses them."""
    axes = tuple(reversed(range(len(stored.shape)))) if axes is None else axes
    if sorted(axes) != list(range(len(stored.shape))):
        raise BadFileError("it moves axes that a tensor does not have")
    shape = tuple(stored.shape[axis] for axis in axes)
    return Stored(shape, stored.is_float, lambda: as_float32(stored.read().transpose(axes)))


def _reshaped(stored: Stored, shape: tuple[int, ...]) -> Stored:
    return Stored(shape, stored.is_float, lambda: stored.read().reshape(shape))


def _scaled(stored: Stored, by: float) -> Stored:
    if by == 1:
        return stored
    return Stored(stored.shape, stored.is_float, lambda: as_float32(stored.read() * np.float64(by)))


def _widened(stored: Stored, length: int) -> Stored:
    """One number for all outputs as one for each."""
    if prod(stored.shape) != 1 or length == 1:
        return stored
    return Stored((length,), True, lambda: np.full(length, stored.read().reshape(()), np.float32))
