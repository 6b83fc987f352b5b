"""The nodes of an ONNX model as layers of ours.

Each node becomes an op, or joins its value with that of another node: an exporter's ``Identity``,
``Flatten`` and ``Reshape``, the bias that an ``Add`` adds, the shapes that it computes. What no op
says is refused at the node. Shapes are inferred by the ops themselves, and a pooling is taken only
where the op gives the size that ONNX defines.

Source: ONNX's operators, https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar, NoReturn

from vggspec.base.catalogue.onnx_models import NotOneClassifier
from vggspec.base.fields import short
from vggspec.base.wording import count
from vggspec.compiler.drafting.integers import Constants, Integers
from vggspec.compiler.drafting.windows import (
    inexpressible,
    integers_of,
    pads_of,
    pooled,
    refuse,
    same,
)
from vggspec.compiler.importing.onnx_files import (
    MOVES,
    Reader,
    attribute,
    decimal,
    integer,
    needed,
    title,
)
from vggspec.compiler.importing.stored import BadFileError, RefusedError
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.tensor import MisfitError, TensorType

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, ValueInfoProto

    from vggspec.compiler.importing.tables import Table

INPUT = ""
"""The name of the image, which no tensor has."""

MAX_ELEMENTS = 1 << 26
"""Of a tensor of one image: 256 MiB."""

MAX_BATCH = 8
"""Images that a model may insist on."""

_NOT_READ = ("ConvTranspose", "Resize", "Slice", "Upsample")  # upconv, up, resize and crop
_MOST_DROPPED = 0.99  # the largest rate of dropout that a spec may say


@dataclass(frozen=True, slots=True)
class Layer:
    """An op of the model, with what it reads and gives."""

    name: str
    """Of the tensor that it gives, in the model."""

    op: Op
    inputs: tuple[str, ...]
    """The names of layers, or ``INPUT``."""

    type: TensorType
    module: str | None = None
    """What the checkpoint calls it, if it has weights."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the model says of its input; None is open."""

    images: int | None
    channels: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Graph:
    """The layers of a model that its output depends on, in topological order."""

    layers: tuple[Layer, ...]
    size: Size
    input: str
    """The model's name of its input."""

    output: str
    """The model's name of its output."""

    scores: str | None
    """The tensor that the soft-max at its end reads."""

    notes: tuple[str, ...]
    """What of the model is not in the layers."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor of the model: a layer's, perhaps in another shape."""

    layer: str
    is_flat: bool = False
    """Whether the map is a vector there, channel by channel."""

    pad: tuple[int, int] = (0, 0)
    """Rows and columns of zeros around it."""


def read_graph(
    model: "ModelProto", reader: Reader, table: "Table", size: tuple[int, int] | None
) -> Graph:
    """The layers of a model whose tensors were read; ``size`` is that of its images, where the
    caller knows it.

    Raises:
        RefusedError: the language does not have such a net.
        BadFileError: the graph contradicts itself.
    """
    nodes = _Nodes(model, reader, table, size)
    return nodes.read()


class _Nodes:
    def __init__(
        self, model: "ModelProto", reader: Reader, table: "Table", size: tuple[int, int] | None
    ) -> None:
        self._model, self._reader, self._table = model, reader, table
        self._layers: dict[str, Layer] = {}
        self._gates: dict[str, str] = {}  # sigmoids, by the layer that they read
        self._joined: dict[tuple[int, str], int] = {}  # beginnings of joined channels, as a trie
        self._of_joined: dict[int, str] = {}
        self._dropped = 0
        versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
        self._opset = max(versions, default=1)
        self._constants = Constants(model, self._opset)
        self._input, self._size = self._read_input(size)
        image = TensorType((self._size.channels, self._size.height, self._size.width))
        self._types = {INPUT: image}
        self._values = {self._input: _Value(INPUT)}

    def read(self) -> Graph:
        """See ``read_graph``."""
        graph = self._model.graph
        outputs = [output.name for output in graph.output]
        if len(outputs) != 1:
            names = ", ".join(f"`{short(name)}`" for name in outputs[:4])
            _unfit(
                f"it has {len(outputs)} outputs, {names}" if outputs else "it has no output",
                "export the net with its class scores as the only output",
            )
        nodes = self._reader.nodes
        wanted = needed(nodes, outputs)
        given = {self._input, *(tensor.name for tensor in graph.initializer)}
        for i, node in enumerate(nodes):
            if i not in wanted:
                continue
            for name in node.input:
                if name and name not in given:
                    raise BadFileError(
                        f"{title(node)} reads `{short(name)}`, which nothing before it gives"
                    )
            for name in node.output:
                if name and name in given:
                    raise BadFileError(f"`{short(name)}` is given twice")
            given.update(node.output)
            self._read_node(node)
        return self._whole(outputs[0], len(nodes) - len(wanted))

    def _whole(self, output: str, unused: int) -> Graph:
        value = self._values.get(output)
        if value is None or value.layer == INPUT:
            _unfit("its output is no result of a layer", "export the net with its class scores")
        last = self._layers[value.layer]
        if last.type.size != (1, 1):
            height, width = last.type.size
            _unfit(
                f"its output is a map of {height} × {width} positions, and not a vector of classes",
                "end the net with `GlobalAveragePool`, or with a fully connected layer",
            )
        layers = self._before(last)
        for layer in layers:
            if isinstance(layer.op, Softmax) and layer is not last:
                why = "a soft-max ends a net, and here more follows"
                raise inexpressible("the Softmax", why, "export the net with its class scores")
        notes = []
        if self._dropped:
            notes.append(
                "dropout whose rate is not between 0 and 0.99 is left out: it has no effect here"
            )
        if unused:
            notes.append(f"left out what the output does not depend on: {count(unused, 'node')}")
        return Graph(
            layers=tuple(layers),
            size=self._size,
            input=self._input,
            output=output,
            scores=last.inputs[0] if isinstance(last.op, Softmax) else None,
            notes=tuple(notes),
        )

    def _before(self, last: Layer) -> list[Layer]:
        """A layer and all that it depends on."""
        wanted = {last.name}
        for layer in reversed(self._layers.values()):
            if layer.name in wanted:
                wanted.update(layer.inputs)
        return [layer for layer in self._layers.values() if layer.name in wanted]

    def _read_input(self, size: tuple[int, int] | None) -> tuple[str, Size]:
        from onnx import TensorProto

        inputs = [each for each in self._model.graph.input if each.name not in self._constants]
        if len(inputs) != 1:
            _unfit(
                f"it has {len(inputs)} inputs", "export the net with its image as the only input"
            )
        kind = inputs[0].type.tensor_type
        if kind.elem_type != TensorProto.FLOAT:
            _unfit("its input is not float32", "export it in float32")
        sides = _sides(inputs[0])
        if len(sides) != 4:
            _unfit(
                f"its input has {len(sides)} axes, an image (N, C, H, W) has 4",
                "export the net with an image as its input",
            )
        images, channels, *own = sides
        if channels not in (1, 3):
            _unfit(
                f"its input has {channels or 'an open number of'} channels, an image has 1 or 3",
                "export the net with the channels before rows and columns, and their number fixed",
            )
        if images is not None and not 1 <= images <= MAX_BATCH:
            _unfit(f"it takes {images} images at once", "export it for one image")
        if size is not None and any(
            side not in (None, given) for side, given in zip(own, size, strict=True)
        ):
            shown = " × ".join("?" if side is None else str(side) for side in own)
            _unfit(
                f"its input is {shown}, `--input` says {size[0]} × {size[1]}",
                "leave out the size in `--input`, or export the net for that one",
            )
        height, width = size or own
        if height is None or width is None:
            _unfit(
                "the rows and columns of its input are open",
                "name the size that it was trained on, such as `--input 224x224`",
            )
        if min(height, width) < 1 or prod((channels, height, width)) > MAX_ELEMENTS:
            _unfit(f"its input is {height} × {width}", "export it for a usual size")
        return inputs[0].name, Size(images, channels, height, width)

    # -- nodes -----------------------------------------------------------------------------------

    def _read_node(self, node: "NodeProto") -> None:
        if node.domain not in ("", "ai.onnx"):
            refuse(node, f"its operator is not ONNX's, but that of `{short(node.domain)}`")
        if not node.output or not node.output[0]:
            raise BadFileError(f"{title(node)} has no output")
        if id(node) in self._reader.biases:
            moved = [name for name in node.input if self._reader.constant(name) is None]
            self._values[node.output[0]] = self._value(node, moved[0] if moved else "")
            return
        if node.op_type == "Constant":
            self._constants.add_constant(node)
            return
        if node.op_type == "Shape":
            value = self._value(node)
            kind = self._types[value.layer]
            own = (kind.num_elements,) if value.is_flat or not kind.is_map else kind.shape
            self._constants.add_shape(node, (self._size.images, *own))
            return
        if node.op_type in MOVES and self._reader.constant(node.output[0]) is not None:
            return
        if self._constants.compute(node):
            return
        read = self._READERS.get(node.op_type)
        if read is None:
            if node.op_type in _NOT_READ:
                refuse(node, "such a layer is not read from a model", "write the spec by hand")
            refuse(node, "the language has no such layer")
        read(self, node)

    def _value(self, node: "NodeProto", name: str | None = None) -> _Value:
        """The tensor of a layer that a node reads, its first input by default."""
        name = (node.input[0] if node.input else "") if name is None else name
        if not name:
            raise BadFileError(f"{title(node)} lacks an input")
        if name in self._gates:
            refuse(node, "it reads a sigmoid, which the language has in `SiLU` alone")
        if name not in self._values:
            refuse(node, f"it computes with `{short(name)}`, which is no result of a layer")
        return self._values[name]

    def _source(self, node: "NodeProto", *, as_map: bool = True) -> tuple[str, TensorType]:
        """The layer that a node reads; ``as_map`` where a flattened map would be another one."""
        value = self._value(node)
        if value.pad != (0, 0):
            refuse(node, "it reads a map that `Pad` extended; a conv alone has zeros around it")
        kind = self._types[value.layer]
        if as_map and value.is_flat and kind.size != (1, 1):
            refuse(node, "it reads a flattened map; an FC layer alone does")
        return value.layer, kind

    def _add(
        self,
        node: "NodeProto",
        op: Op,
        inputs: Sequence[str],
        *,
        is_flat: bool = False,
        module: str | None = None,
        reads: Sequence[TensorType] | None = None,
    ) -> None:
        types = tuple(self._types[name] for name in inputs) if reads is None else tuple(reads)
        try:
            kind = op.infer(types)
        except MisfitError as error:
            refuse(node, error.what.title())
        if kind.num_elements > MAX_ELEMENTS:
            refuse(node, "what it gives takes more than 256 MiB an image")
        name = node.output[0]
        self._types[name] = kind
        self._layers[name] = Layer(name, op, tuple(inputs), kind, module)
        self._values[name] = _Value(name, is_flat=is_flat)

    def _same(self, node: "NodeProto") -> None:
        """A node that leaves its input as it is."""
        self._values[node.output[0]] = self._value(node)

    def _act(self, node: "NodeProto", op: Op) -> None:
        """A node that computes each number by itself."""
        value = self._value(node)
        name, _ = self._source(node, as_map=False)
        self._add(node, op, (name,), is_flat=value.is_flat)

    # -- layers with weights ---------------------------------------------------------------------

    def _conv(self, node: "NodeProto") -> None:
        value = self._value(node)
        kind = self._types[value.layer]
        module, shape, has_bias = self._weights(node)
        if len(shape) != 4 or value.is_flat or not kind.is_map:
            refuse(node, "a conv has rows and columns")
        out, channels, *kernel = shape
        groups = max(integer(node, "group"), 1)
        if out < 1 or channels * groups != kind.channels:
            raise BadFileError(
                f"{title(node)} takes {channels * groups} channels, and gets {kind.channels}"
            )
        stride = same(node, "strides", "a conv has the same stride in both directions")
        dilation = same(node, "dilations", "a conv has the same dilation in both directions")
        begin, end = pads_of(node, kernel, (stride,) * 2, (dilation,) * 2, kind.size)
        begin = (begin[0] + value.pad[0], begin[1] + value.pad[1])
        end = (end[0] + value.pad[0], end[1] + value.pad[1])
        conv = Conv(
            kernel_size=(kernel[0], kernel[1]),
            stride=stride,
            padding=begin,
            dilation=dilation,
            bias=has_bias,
            out_channels=out,
            groups=groups,
        )
        windows = [dilation * (side - 1) + 1 for side in kernel]
        padded = [n + b + e for n, b, e in zip(kind.size, begin, end, strict=True)]
        size = [(n - k) // stride + 1 for n, k in zip(padded, windows, strict=True)]
        try:
            is_same = list(conv.infer((kind,)).size) == size
        except MisfitError as error:
            refuse(node, error.what.title())
        # Zeros on one side that no window reaches do not matter.
        if not is_same:
            refuse(
                node,
                f"it pads {begin[0]} × {begin[1]} before the map and {end[0]} × {end[1]} after it;"
                " a conv has the same on both sides",
                "let the framework pad both sides alike",
            )
        op: Op = conv
        if groups == out == kind.channels and channels == 1 and groups > 1:
            own = {name: getattr(conv, name) for name in _OF_WINDOW}
            op = DepthwiseConv(**own)
        self._add(node, op, (value.layer,), module=module)

    def _norm(self, node: "NodeProto") -> None:
        if integer(node, "training_mode"):
            refuse(node, "it computes statistics of the batch, as in training", "call model.eval()")
        value = self._value(node)
        name, kind = self._source(node)
        module = self._module(node)
        factors = self._table[f"{module}.weight"].shape
        if factors != (kind.channels,):
            raise BadFileError(f"{title(node)} has {factors} factors for {kind.channels} channels")
        eps = self._reader.epsilons[module]
        if not 1e-12 <= eps <= 1:
            refuse(node, f"it adds {eps:g} to the variance; a spec says 1e-12 to 1")
        norm = BatchNorm(eps=eps)
        self._add(node, norm, (name,), is_flat=value.is_flat, module=module)

    def _linear(self, node: "NodeProto") -> None:
        if node.op_type == "MatMul" and id(node) not in self._reader.names:
            refuse(node, "it multiplies two results of layers")
        value = self._value(node)
        name, kind = self._source(node, as_map=False)
        if not value.is_flat and kind.is_map:
            refuse(node, "it multiplies the columns of a map; an FC layer takes a flattened one")
        module, shape, has_bias = self._weights(node)
        if len(shape) != 2 or shape[1] != kind.num_elements or shape[0] < 1:
            raise BadFileError(
                f"{title(node)} takes {shape[-1]} numbers, and gets {kind.num_elements}"
            )
        op = Linear(out_channels=shape[0], bias=has_bias)
        flat = TensorType((kind.num_elements,))
        self._add(node, op, (name,), is_flat=True, module=module, reads=(flat,))

    def _module(self, node: "NodeProto") -> str:
        found = self._reader.names.get(id(node))
        if found is None or f"{found}.weight" not in self._table:
            refuse(node, "its weights are no constants")
        return found

    def _weights(self, node: "NodeProto") -> tuple[str, tuple[int, ...], bool]:
        """What a layer is called, the shape of its weight, and whether it has a bias."""
        module = self._module(node)
        return module, self._table[f"{module}.weight"].shape, f"{module}.bias" in self._table

    # -- pooling ---------------------------------------------------------------------------------

    def _max_pool(self, node: "NodeProto") -> None:
        if len(node.output) > 1 and node.output[1]:
            refuse(node, "it gives the places of the largest numbers, too")
        self._pool(node, MaxPool)

    def _average_pool(self, node: "NodeProto") -> None:
        self._pool(node, AvgPool)

    def _pool(self, node: "NodeProto", kind: type[MaxPool]) -> None:
        name, x = self._source(node)
        kernel = integers_of(node, "kernel_shape")
        if kernel is None or len(kernel) != 2 or min(kernel) < 1:
            refuse(node, "a pooling has a window of rows and columns")
        stride = same(node, "strides", "a pooling has the same stride in both directions")
        if same(node, "dilations", "poolings are not dilated") != 1:
            refuse(node, "poolings are not dilated")
        begin, end = pads_of(node, kernel, (stride,) * 2, (1, 1), x.size)
        is_padded = begin != (0, 0) or end != (0, 0)
        rounds_up = integer(node, "ceil_mode") == 1
        size = tuple(
            pooled(n, k, stride, b, e, rounds_up=rounds_up)
            for n, k, b, e in zip(x.size, kernel, begin, end, strict=True)
        )
        if kernel == (1, 1) and stride == 1 and not is_padded:
            self._same(node)
            return
        if kernel == x.size and size == (1, 1) and not is_padded and kind is AvgPool:
            self._add(node, GlobalAvgPool(), (name,))
            return
        if kernel[0] != kernel[1] or begin[0] != begin[1]:
            refuse(node, "a pooling has the same window and padding in both directions")
        counts = kind is AvgPool and begin[0] > 0 and integer(node, "count_include_pad") == 1
        for ceil in (False, True):
            op = kind(kernel_size=kernel[0], stride=stride, padding=begin[0], ceil=ceil)
            if isinstance(op, AvgPool):
                op = replace(op, count_pad=counts)
            try:
                fits = op.padding <= op.kernel_size // 2 and op.infer((x,)).size == size
            except MisfitError as error:
                refuse(node, error.what.title())
            if fits:
                self._add(node, op, (name,))
                return
        refuse(node, "a pooling has the same padding on both sides, of half a window at most")

    def _global_pool(self, node: "NodeProto") -> None:
        name, _ = self._source(node)
        self._add(node, GlobalAvgPool(), (name,))

    def _global_max_pool(self, node: "NodeProto") -> None:
        name, x = self._source(node)
        if x.size[0] != x.size[1]:
            refuse(node, "a pooling has the same window in both directions")
        side = x.size[0]
        if side == 1:
            self._same(node)
        else:
            self._add(node, MaxPool(kernel_size=side, stride=side), (name,))

    def _mean(self, node: "NodeProto") -> None:
        axes = self._axes(node)
        keeps = attribute(node, "keepdims")
        name, _ = self._source(node)
        if self._value(node).is_flat or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
            refuse(node, "it averages over other axes than rows and columns")
        self._add(node, GlobalAvgPool(), (name,), is_flat=keeps is not None and not keeps.i)

    # -- other layers ----------------------------------------------------------------------------

    def _relu(self, node: "NodeProto") -> None:
        self._act(node, Relu())

    def _clip(self, node: "NodeProto") -> None:
        low, high = self._limit(node, 1, "min"), self._limit(node, 2, "max")
        if low != 0 or high not in (6, None):
            refuse(
                node,
                f"it limits numbers to {'-∞' if low is None else f'{low:g}'} …"
                f" {'∞' if high is None else f'{high:g}'}; `ReLU6` is 0 … 6",
            )
        self._act(node, Relu() if high is None else Relu6())

    def _limit(self, node: "NodeProto", slot: int, name: str) -> float | None:
        if self._opset < 11:
            found = attribute(node, name)
            value = None if found is None else float(found.f)
        else:
            if len(node.input) <= slot or not node.input[slot]:
                return None
            value = self._number(node, node.input[slot])
        return None if value is None or abs(value) > 3e38 else value

    def _sigmoid(self, node: "NodeProto") -> None:
        name, _ = self._source(node, as_map=False)
        self._gates[node.output[0]] = name

    def _mul(self, node: "NodeProto") -> None:
        if len(node.input) == 2:
            for x, gate in (node.input, tuple(reversed(node.input))):
                value = self._values.get(x)
                if value is not None and self._gates.get(gate) == value.layer:
                    self._add(node, Silu(), (value.layer,), is_flat=value.is_flat)
                    return
        refuse(node, "the language multiplies in `SiLU` alone, which is x × sigmoid(x)")

    def _swish(self, node: "NodeProto") -> None:
        if decimal(node, "alpha", 1.0) != 1:
            refuse(node, "it is x × sigmoid(α x) with α ≠ 1; `SiLU` has none")
        self._act(node, Silu())

    def _dropout(self, node: "NodeProto") -> None:
        rate: float | None = decimal(node, "ratio", 0.5)
        if self._opset >= 12 and len(node.input) > 1 and node.input[1]:
            rate = self._number(node, node.input[1])
        if rate is None or not 0 < rate <= _MOST_DROPPED:
            self._dropped += 1
            self._same(node)
            return
        self._act(node, Dropout(rate=_written(rate)))

    def _lrn(self, node: "NodeProto") -> None:
        name, _ = self._source(node)
        n = integer(node, "size")
        if n < 1 or n % 2 == 0:
            refuse(node, f"it has {n} neighbours; LRN has an odd number")
        alpha = decimal(node, "alpha", 1e-4) / n
        op = Lrn(
            n=n,
            k=decimal(node, "bias", 1.0),
            alpha=_written(alpha),
            beta=decimal(node, "beta", 0.75),
        )
        if not (1e-6 <= op.k <= 1e6 and 0 <= op.alpha <= 1e6 and 0 <= op.beta <= 100):
            refuse(node, "its numbers are out of the bounds of LRN")
        self._add(node, op, (name,))

    def _softmax(self, node: "NodeProto") -> None:
        value = self._value(node)
        name, kind = self._source(node)
        found = attribute(node, "axis")
        axis = (-1 if self._opset >= 13 else 1) if found is None else found.i
        axes = 2 if value.is_flat or not kind.is_map else 4
        if not -axes <= axis < axes or axis % axes != 1:
            refuse(node, "a soft-max is one over the classes")
        self._add(node, Softmax(), (name,), is_flat=value.is_flat)

    def _sum(self, node: "NodeProto") -> None:
        for name in node.input:
            if name not in self._values and self._reader.constant(name) is not None:
                refuse(
                    node,
                    f"it adds the constant `{short(name)}`, which is no bias",
                    "fold constants, as onnxslim does, or subtract a mean by `--input`",
                )
        self._join(node, Add())

    def _concat(self, node: "NodeProto") -> None:
        values = [self._value(node, name) for name in node.input]
        axis = integer(node, "axis")
        axes = 2 if any(value.is_flat for value in values) else 4
        if not -axes <= axis < axes or axis % axes != 1:
            refuse(node, "the language joins channels alone")
        self._join(node, Concat())

    def _join(self, node: "NodeProto", op: Op) -> None:
        values = [self._value(node, name) for name in node.input]
        if len({value.is_flat for value in values}) != 1:
            refuse(node, "it takes a map and a flattened one")
        if any(value.pad != (0, 0) for value in values):
            refuse(node, "it reads a map that `Pad` extended; a conv alone has zeros around it")
        names = [value.layer for value in values]
        if len(names) == 1:
            self._same(node)
            return
        if isinstance(op, Concat):
            names = self._shared(names, node.output[0])
        self._add(node, op, names, is_flat=values[0].is_flat)

    def _shared(self, names: list[str], output: str) -> list[str]:
        """Joined channels by the longest beginning that was joined already, as in DenseNet."""
        place, taken, begun = 0, 0, ""
        for i, name in enumerate(names):
            key = (place, name)
            place = self._joined.setdefault(key, len(self._joined) + 1)
            if place in self._of_joined and i + 1 < len(names):
                taken, begun = i + 1, self._of_joined[place]
        self._of_joined.setdefault(place, output)
        return [begun, *names[taken:]] if taken else names

    # -- shapes ----------------------------------------------------------------------------------

    def _flatten(self, node: "NodeProto") -> None:
        found = attribute(node, "axis")
        value = self._value(node)
        if found is not None and found.i not in (1, 1 - (2 if value.is_flat else 4)):
            refuse(node, "it flattens other axes than channels, rows and columns")
        self._values[node.output[0]] = replace(value, is_flat=True)

    def _reshape(self, node: "NodeProto") -> None:
        value = self._value(node)
        kind = self._types[value.layer]
        whole = kind.num_elements
        target = self._constants.integers(node.input[1]) if len(node.input) > 1 else None
        if target is None:
            refuse(node, "the shape that it gives is computed")
        shapes: dict[bool, tuple[tuple[int, ...], ...]] = {
            True: ((whole,),),
            False: ((kind.shape,) if kind.is_map else ((whole, 1, 1),)),
        }
        own = (whole,) if value.is_flat or not kind.is_map else kind.shape
        for is_flat, (shape,) in shapes.items():
            if _is_shape(target, shape, own, whole, self._size.images):
                self._values[node.output[0]] = replace(value, is_flat=is_flat)
                return
        refuse(node, "it moves numbers between channels, rows and columns")

    def _squeeze(self, node: "NodeProto") -> None:
        value = self._value(node)
        kind = self._types[value.layer]
        axes = self._axes(node)
        if value.is_flat or kind.size != (1, 1) or (axes and sorted(a % 4 for a in axes) != [2, 3]):
            refuse(node, "it removes other axes than rows and columns")
        if axes is None and (kind.channels == 1 or self._size.images == 1):
            refuse(node, "it does not say which axes it removes", "name its axes")
        self._values[node.output[0]] = replace(value, is_flat=True)

    def _pad_zeros(self, node: "NodeProto") -> None:
        value = self._value(node)
        mode = attribute(node, "mode")
        pads: Integers | None = integers_of(node, "pads")
        number: float | None = decimal(node, "value", 0.0)
        if self._opset >= 11:
            pads = self._constants.integers(node.input[1]) if len(node.input) > 1 else None
            given = node.input[2] if len(node.input) > 2 else ""
            number = self._number(node, given) if given else 0.0
        if pads is not None and len(node.input) > 3 and node.input[3]:
            pads = None
        if (
            pads is None
            or len(pads) != 8
            or value.is_flat
            or (mode is not None and mode.s != b"constant")
            or number != 0
            or any(side is None or side < 0 for side in pads)
        ):
            refuse(node, "it pads by other numbers than zeros, or by a number that is computed")
        sides = [side or 0 for side in pads]
        rows, columns = sides[2], sides[3]
        if sides != [0, 0, rows, columns] * 2:
            refuse(node, "a conv has the same zeros on both sides, and no channels of zeros")
        pad = (value.pad[0] + rows, value.pad[1] + columns)
        self._values[node.output[0]] = replace(value, pad=pad)

    def _axes(self, node: "NodeProto") -> tuple[int, ...] | None:
        found = integers_of(node, "axes")
        if found is None and len(node.input) > 1 and node.input[1]:
            known = self._constants.integers(node.input[1])
            if known is None or None in known:
                refuse(node, "its axes are computed")
            found = tuple(axis for axis in known if axis is not None)
        return found

    def _number(self, node: "NodeProto", name: str) -> float | None:
        if name not in self._constants:
            refuse(node, f"`{short(name)}` is computed", "fold constants: onnxslim does")
        return self._constants.number(name)

    _READERS: ClassVar[Mapping[str, "Callable[[_Nodes, NodeProto], None]"]] = {
        "Conv": _conv,
        "BatchNormalization": _norm,
        "Gemm": _linear,
        "MatMul": _linear,
        "Relu": _relu,
        "Clip": _clip,
        "Sigmoid": _sigmoid,
        "Mul": _mul,
        "Swish": _swish,
        "MaxPool": _max_pool,
        "AveragePool": _average_pool,
        "GlobalAveragePool": _global_pool,
        "GlobalMaxPool": _global_max_pool,
        "ReduceMean": _mean,
        "LRN": _lrn,
        "Dropout": _dropout,
        "Softmax": _softmax,
        "Add": _sum,
        "Sum": _sum,
        "Concat": _concat,
        "Flatten": _flatten,
        "Reshape": _reshape,
        "Squeeze": _squeeze,
        "Pad": _pad_zeros,
        "Identity": _same,
    }


#: The fields of a depthwise conv, which are those of the conv.
_OF_WINDOW = ("kernel_size", "stride", "padding", "dilation", "bias")


def _sides(value: "ValueInfoProto") -> list[int | None]:
    """The shape of an input; None for what is open."""
    return [
        side.dim_value if side.HasField("dim_value") else None
        for side in value.type.tensor_type.shape.dim
    ]


def _is_shape(
    target: Integers,
    shape: tuple[int, ...],
    own: tuple[int, ...],
    whole: int,
    images: int | None,
) -> bool:
    """Whether ``Reshape`` gives images of that shape; ``own`` is the one that it takes."""
    if len(target) != len(shape) + 1:
        return False
    before = (images, *own)
    # 0 keeps a side; None is the number of images.
    sides = [before[i] if side == 0 and i < len(before) else side for i, side in enumerate(target)]
    if sides.count(-1) > 1:
        return False
    first, *rest = sides
    if first == -1:
        return tuple(rest) == shape
    if first is not None and images is not None and first != images:
        return False
    if first is not None and images is None and first != 1:
        return False
    if -1 in rest:
        known = prod(side for side in rest if side is not None and side > 0)
        rest[rest.index(-1)] = whole // known if known and whole % known == 0 else 0
    return tuple(rest) == shape


def _written(number: float) -> float:
    """A number with the digits that float32 has."""
    return float(f"{number:.7g}")


def _unfit(why: str, way: str) -> NoReturn:
    raise RefusedError(NotOneClassifier(why=why, way=way))
