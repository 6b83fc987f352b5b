"""FC layers that a net applies densely, as matrix products.

A bundle has them as convolutions whose windows are as large as the map that the FC layer saw.

- On a CPU ONNX Runtime lays the weights of a convolution out anew, in three copies while it loads
  them and one that stays. A product reads them where they lie in the mapped file. Each image has a
  product of its own, so that its numbers do not depend on the others of its batch.
- On CUDA devices cuDNN convolves windows of 7 x 7 slowly, and in fp16 proposes no algorithm for
  some sizes of images. The whole batch is one product.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggspec.base.optional import require

if TYPE_CHECKING:
    import onnx

#: The least number of weights for which it pays.
LEAST_WEIGHTS = 1 << 20

#: On CUDA devices, the least window. A smaller one is as fast as a convolution, and rather none of
#: an FC layer: its map may be large, and each position is copied as often as windows see it.
LEAST_WINDOW = 4

#: The largest window that is taken apart, since each of its rows and columns is a node.
MOST_WINDOW = 64

#: Where weights lie: the name of the file beside the graph, and the first byte.
Place = tuple[str, int]

#: The weights by the name that a layer reads, which is another one where they are rounded to fp16.
Weights = Mapping[str, "onnx.TensorProto"]


def with_products(model: Path, stored: Collection[Place] | None = None) -> bytes | None:
    """The graph of a file with FC layers as matrix products; None where there are none, or where it
    is no graph, which the engine reports.

    For CPUs ``stored`` says where the weights of FC layers lie. None, for CUDA devices, takes
    convolutions with large windows for FC layers.

    Raises:
        MissingLibraryError: onnx is not installed.
    """
    onnx = require("onnx", "another form of a graph")
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception:  # noqa: BLE001 (protobuf has one error for each of its implementations)
        return None
    weights = weights_of(proto.graph)
    if stored is None:
        windows = {name: each.dims[2:] for name, each in weights.items()}
        fc = {name for name, sides in windows.items() if min(sides, default=0) >= LEAST_WINDOW}
    else:
        fc = {name for name, each in weights.items() if place_of(each) in stored}
    if not replace_dense_fc(proto.graph, weights, fc, each_image=stored is not None):
        return None
    found: bytes = proto.SerializeToString()
    return found


def place_of(weights: "onnx.TensorProto") -> Place | None:
    """Where they lie; None inside of the graph."""
    facts = {each.key: each.value for each in weights.external_data}
    offset = facts.get("offset", "0")
    return (facts["location"], int(offset)) if "location" in facts and offset.isdecimal() else None


def replace_dense_fc(
    graph: "onnx.GraphProto", weights: Weights, fc: Collection[str], *, each_image: bool
) -> set[str]:
    """Replace FC layers by matrix products, in place; the names of the weights that these read.

    ``fc`` are the names of the weights that are those of FC layers, among ``weights``.

    Given::

        y = Conv(x, weight, bias)    x (N, C, H, W), weight (M, C, kh, kw), every position

    Result, for ``each_image`` and for a batch::

        columns = the windows of x, (N, C kh kw, h w) or (C kh kw, N h w)    14 slices of 7 x 7
        y = MatMul(weight as (M, C kh kw), columns) + bias

    The weights keep their order and are not copied. Sums are those of the convolution in another
    order. Names of inputs, outputs and layers stay.
    """
    read: set[str] = set()
    nodes = list(graph.node)
    if not any(_is_dense_fc(node, weights, fc) for node in nodes):
        return read
    del graph.node[:]
    for node in nodes:
        if _is_dense_fc(node, weights, fc):
            made = _Product(node, weights, each_image=each_image)
            graph.node.extend(made.nodes)
            graph.initializer.extend(made.constants)
            read.update(node.input[1:])
        else:
            graph.node.append(node)
    return read


def weights_of(
    graph: "onnx.GraphProto", around: "Iterable[onnx.TensorProto]" = ()
) -> "dict[str, onnx.TensorProto]":
    """The weights that one layer alone reads, of a graph and of the one ``around`` it."""
    readers = Counter(name for node in graph.node for name in node.input)
    initial = (*graph.initializer, *around)
    found = {each.name: each for each in initial if readers[each.name] == 1}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in found and readers[node.output[0]] == 1:
            found[node.output[0]] = found[node.input[0]]
    return found


def _is_dense_fc(node: "onnx.NodeProto", weights: Weights, fc: Collection[str]) -> bool:
    """Whether it is a convolution as an FC layer gives: all positions, nothing padded."""
    from onnx import helper

    if (
        node.op_type != "Conv"
        or node.input[1] not in fc
        or not all(name in weights for name in node.input[1:])
    ):
        return False
    facts = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    shape = weights[node.input[1]].dims
    return (
        len(shape) == 4
        and all(1 <= side <= MOST_WINDOW for side in shape[2:])
        and prod(shape) >= LEAST_WEIGHTS
        and facts.get("group", 1) == 1
        and facts.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and not any(facts.get("pads", ()))
        and set(facts.get("strides", ())) <= {1}
        and set(facts.get("dilations", ())) <= {1}
    )


class _Product:
    """The nodes and constants that replace a convolution. Its weights get other shapes."""

    def __init__(self, conv: "onnx.NodeProto", weights: Weights, *, each_image: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = conv.name or conv.output[0]
        x, weight, *bias = conv.input
        outputs, channels, rows, columns = weights[weight].dims
        inputs = channels * rows * columns
        at = 2  # where the positions in a window stand, as axes after the channels
        if not each_image:
            x, at = self._add("Transpose", [x], perm=(1, 0, 2, 3)), 1
        if rows > 1:
            x = self._windows(x, rows, axis=2, to=at)
        if columns > 1:
            x = self._windows(x, columns, axis=3 + (rows > 1), to=at + (rows > 1))
        # (N, C, kh, kw, h, w) with `each_image`, else (C, kh, kw, N, h, w). A 0 keeps an axis.
        size = self._add("Shape", [x], start=-2 if each_image else -3)
        kept = [0] if each_image else []
        x = self._add("Reshape", [x, self._constant(*kept, inputs, -1)])
        weights[weight].dims[:] = (outputs, inputs)
        y = self._add("MatMul", [weight, x])
        if bias:
            weights[bias[0]].dims[:] = (outputs, 1)
            y = self._add("Add", [y, bias[0]])
        whole = self._add("Concat", [self._constant(*kept, outputs), size], axis=0)
        # The layer's name stays with what gives its output.
        named = conv.name, conv.output[0]
        if each_image:
            self._add("Reshape", [y, whole], named=named)
        else:
            y = self._add("Reshape", [y, whole])
            self._add("Transpose", [y], named=named, perm=(1, 0, 2, 3))

    def _windows(self, x: str, size: int, *, axis: int, to: int) -> str:
        """All windows of ``size`` along an axis, the positions in a window as a new axis."""
        parts = []
        along, new = self._constant(axis), self._constant(to)
        for start in range(size):
            # The last part ends with the axis, the one before it a position earlier.
            end = start - size + 1 or np.iinfo(np.int32).max
            ends = [self._constant(start), self._constant(end)]
            part = self._add("Slice", [x, *ends, along])
            parts.append(self._add("Unsqueeze", [part, new]))
        return self._add("Concat", parts, axis=to)

    def _constant(self, *values: int) -> str:
        from onnx import numpy_helper

        name = f"{self._prefix}/product/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _add(
        self, kind: str, inputs: Iterable[str], named: tuple[str, str] | None = None, **facts: Any
    ) -> str:
        """A node; its output. Its name and that of its output are ``named``, or new."""
        from onnx import helper

        new = f"{self._prefix}/product/{kind}{len(self.nodes)}"
        name, output = named or (new, new)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name, **facts))
        return output
