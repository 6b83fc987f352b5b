"""FC layers that a net applies densely, as matrix products.

A bundle has them as convolutions whose windows are as large as the map that the FC layer saw.

- On a CPU ONNX Runtime lays the weights of a convolution out anew, in three copies while it loads
  them and one that stays. Those of a product it packs once. The numbers of a row do not depend on
  the other rows, so those of an image do not depend on its batch. A product copies the windows,
  which a convolution does not: where these are large beside the net it stays a convolution.
- On CUDA devices cuDNN convolves windows of 7 x 7 slowly, and in fp16 proposes no algorithm for
  some sizes of images.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggspec.base.optional import require

if TYPE_CHECKING:
    import onnx

#: The least number of weights for which it pays, of windows and of single positions.
LEAST_WEIGHTS, LEAST_WEIGHTS_OF_POINTS = 1 << 20, 4_000_000

#: What a map may pass through, from the image, for its size and channels to be known.
_KEEPS_SIZE = ("Relu", "Clip", "Sigmoid", "Mul", "Cast", "LRN", "BatchNormalization", "Identity")
_POOLS = ("MaxPool", "AveragePool")

#: On CUDA devices, the least window. A smaller one is as fast as a convolution, and rather none of
#: an FC layer: its map may be large, and each position is copied as often as windows see it.
LEAST_WINDOW = 4

#: The largest window that is taken apart, since each of its rows and columns is a node.
MOST_WINDOW = 64

MOST_DIGITS = 19  # of a place in a file

#: What follows the layer's name in those of the nodes that compute it.
PART_OF_PRODUCT = "/product/"

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
        stored_as_fc = {name for name, each in weights.items() if place_of(each) in stored}
        fc = worth_rows(proto.graph, weights, stored_as_fc)
    if not replace_dense_fc(proto.graph, weights, fc, by_rows=stored is not None):
        return None
    found: bytes = proto.SerializeToString()
    return found


def place_of(weights: "onnx.TensorProto") -> Place | None:
    """Where they lie; None inside of the graph."""
    facts = {each.key: each.value for each in weights.external_data}
    offset = facts.get("offset", "0")
    is_number = offset.isdecimal() and len(offset) <= MOST_DIGITS
    return (facts["location"], int(offset)) if "location" in facts and is_number else None


def replace_dense_fc(
    graph: "onnx.GraphProto", weights: Weights, fc: Collection[str], *, by_rows: bool
) -> set[str]:
    """Replace FC layers by matrix products, in place; the names of the weights that these read.

    ``fc`` are the names of the weights that are those of FC layers, among ``weights``.

    Given::

        y = Conv(x, weight, bias)    x (N, C, H, W), weight (M, C, kh, kw), every position

    Result, ``by_rows``, which is for CPUs::

        rows = the windows of x, (N h w, C kh kw)    14 slices of 7 x 7
        y = rows by the transpose of weight as (M, C kh kw), + bias

    Result, by columns::

        columns = the windows of x, (C kh kw, N h w)
        y = weight as (M, C kh kw) by columns, + bias

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
            made = _Product(node, weights)
            if by_rows:
                made.by_rows()
            else:
                made.by_columns()
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
    if (
        node.op_type != "Conv"
        or len(node.input) < 2
        or node.input[1] not in fc
        or not all(name in weights for name in node.input[1:])
    ):
        return False
    facts = {each.name: each for each in node.attribute}
    shape = weights[node.input[1]].dims
    return (
        len(shape) == 4
        and all(1 <= side <= MOST_WINDOW for side in shape[2:])
        and prod(shape) >= LEAST_WEIGHTS
        and ("group" not in facts or facts["group"].i == 1)
        and ("auto_pad" not in facts or facts["auto_pad"].s in (b"NOTSET", b"VALID"))
        and not any(_integers(node, "pads"))
        and set(_integers(node, "strides")) <= {1}
        and set(_integers(node, "dilations")) <= {1}
    )


def worth_rows(graph: "onnx.GraphProto", weights: Weights, fc: Collection[str]) -> set[str]:
    """Those of ``fc`` that are to be products by rows, whatever the size of the image.

    Their windows, of which there are three copies at a time, take no more memory than what enters
    and leaves the largest convolution before: after five poolings that holds, after two it does
    not.
    """
    nodes = list(graph.node)
    return {
        node.input[1]
        for node in nodes
        if _is_dense_fc(node, weights, fc) and _is_small(node, nodes, weights)
    }


def _is_small(conv: "onnx.NodeProto", nodes: "Sequence[onnx.NodeProto]", weights: Weights) -> bool:
    outputs, channels, rows, columns = weights[conv.input[1]].dims
    if rows == columns == 1:
        return bool(outputs * channels >= LEAST_WEIGHTS_OF_POINTS)
    makers = {name: node for node in nodes for name in node.output}
    path: list[onnx.NodeProto] = []
    node = makers.get(conv.input[0])
    while node is not None and node.op_type in ("Conv", *_POOLS, *_KEEPS_SIZE):
        path.append(node)
        if not node.input or len(path) > len(nodes):  # a circle, which the engine refuses
            break
        node = makers.get(node.input[0])
    # Numbers for each pixel of the image.
    area, largest = 1, 0.0
    for node in reversed(path):
        area *= max(1, prod(_integers(node, "strides")))
        weight = weights.get(node.input[1]) if node.op_type == "Conv" and node.input[1:] else None
        if weight is not None:
            largest = max(largest, max(weight.dims[:1], default=0) / area)
    return bool(3 * channels * rows * columns / area <= 2 * largest)


def _integers(node: "onnx.NodeProto", name: str) -> list[int]:
    """An attribute that is a list of whole numbers; empty where the node does not have it."""
    return next((list(each.ints) for each in node.attribute if each.name == name), [])


class _Product:
    """The nodes and constants that replace a convolution. Its weights get other shapes."""

    def __init__(self, conv: "onnx.NodeProto", weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._conv, self._weights = conv, weights
        self._prefix = conv.name or conv.output[0]
        self._outputs, channels, self._rows, self._columns = weights[conv.input[1]].dims
        self._inputs = channels * self._rows * self._columns
        weights[conv.input[1]].dims[:] = (self._outputs, self._inputs)

    def by_rows(self) -> None:
        """A row of numbers for each window."""
        x, *given = self._conv.input
        x = self._add("Transpose", [x], perm=(0, 2, 3, 1))
        if self._rows > 1:
            x = self._windows(x, self._rows, axis=1, to=4)  # (N, h, W, C, kh)
        if self._columns > 1:
            x = self._windows(x, self._columns, axis=2, to=4 + (self._rows > 1))
        size = self._add("Shape", [x], start=0, end=3)
        x = self._add("Reshape", [x, self._constant(-1, self._inputs)])
        y = self._add("Gemm", [x, *given], transB=1)
        whole = self._add("Concat", [size, self._constant(self._outputs)], axis=0)
        self._finish(self._add("Reshape", [y, whole]), (0, 3, 1, 2))

    def by_columns(self) -> None:
        """A column of numbers for each window."""
        x, weight, *bias = self._conv.input
        x = self._add("Transpose", [x], perm=(1, 0, 2, 3))
        if self._rows > 1:
            x = self._windows(x, self._rows, axis=2, to=1)  # (C, kh, N, h, W)
        if self._columns > 1:
            more = self._rows > 1
            x = self._windows(x, self._columns, axis=3 + more, to=1 + more)
        size = self._add("Shape", [x], start=-3)  # N, h, w
        x = self._add("Reshape", [x, self._constant(self._inputs, -1)])
        y = self._add("MatMul", [weight, x])
        if bias:
            self._weights[bias[0]].dims[:] = (self._outputs, 1)
            y = self._add("Add", [y, bias[0]])
        whole = self._add("Concat", [self._constant(self._outputs), size], axis=0)
        self._finish(self._add("Reshape", [y, whole]), (1, 0, 2, 3))

    def _finish(self, y: str, perm: tuple[int, ...]) -> None:
        """The layer's name stays with what gives its output."""
        named = self._conv.name, self._conv.output[0]
        self._add("Transpose", [y], named=named, perm=perm)

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

        name = f"{self._prefix}{PART_OF_PRODUCT}{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _add(
        self, kind: str, inputs: Iterable[str], named: tuple[str, str] | None = None, **facts: Any
    ) -> str:
        """A node; its output. Its name and that of its output are ``named``, or new."""
        from onnx import helper

        new = f"{self._prefix}{PART_OF_PRODUCT}{kind}{len(self.nodes)}"
        name, output = named or (new, new)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name, **facts))
        return output
