"""FC layers that a net applies densely, as matrix products.

A bundle has them as convolutions whose windows are as large as the map that the FC layer saw.

- On a CPU ONNX Runtime lays the weights of a convolution out anew, in three copies while it loads
  them and one that stays. A product reads them where they lie in the mapped file.
- cuDNN convolves so large windows slowly, and in fp16 proposes no algorithm for some sizes of
  images. FC layers that see one position are as fast there as convolutions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggspec.base.optional import require

if TYPE_CHECKING:
    import onnx

#: The least number of weights, with windows of the least size and with smaller ones. What has fewer
#: is rather a convolution, over a map that may be large, and each position of a map is copied as
#: often as windows see it.
LEAST_WEIGHTS, LEAST_WINDOW, LEAST_WEIGHTS_OF_SMALLER = 1 << 20, 4, 4_000_000

#: The largest window that is taken apart, since each of its rows and columns is a node.
MOST_WINDOW = 64

#: The weights by the name that a layer reads, which is another one where they are rounded to fp16.
Weights = Mapping[str, "onnx.TensorProto"]


def with_products(model: Path, *, smaller: bool = True) -> bytes | None:
    """The graph of a file with FC layers as matrix products; None where there are none, or where it
    is no graph, which the engine reports.

    Raises:
        MissingLibraryError: onnx is not installed.
    """
    onnx = require("onnx", "another form of a graph")
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception:  # noqa: BLE001 (protobuf has one error for each of its implementations)
        return None
    if not replace_dense_fc(proto.graph, weights_of(proto.graph), smaller=smaller):
        return None
    found: bytes = proto.SerializeToString()
    return found


def replace_dense_fc(
    graph: "onnx.GraphProto", weights: Weights, *, smaller: bool = True
) -> set[str]:
    """Replace FC layers by matrix products, in place; the names of the weights that these read.

    ``smaller`` includes windows of fewer than 4 rows or columns: of one position, nearly always.

    Given::

        y = Conv(x, weight, bias)    x (N, C, H, W), weight (M, C, kh, kw), every position

    Result::

        columns = the windows of x, (C kh kw, N h w)    14 slices of 7 x 7
        y = MatMul(weight as (M, C kh kw), columns) + bias

    The weights keep their order and are not copied. Sums are those of the convolution in another
    order. Names of inputs, outputs and layers stay.
    """
    read: set[str] = set()
    nodes = list(graph.node)
    if not any(_is_dense_fc(node, weights, smaller=smaller) for node in nodes):
        return read
    del graph.node[:]
    for node in nodes:
        if _is_dense_fc(node, weights, smaller=smaller):
            made = _Product(node, weights)
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


def _is_dense_fc(node: "onnx.NodeProto", weights: Weights, *, smaller: bool) -> bool:
    """Whether it is a convolution as an FC layer gives: all positions, nothing padded."""
    from onnx import helper

    if node.op_type != "Conv" or not all(name in weights for name in node.input[1:]):
        return False
    facts = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    shape = weights[node.input[1]].dims
    if len(shape) != 4 or not all(1 <= side <= MOST_WINDOW for side in shape[2:]):
        return False
    is_small = min(shape[2:]) < LEAST_WINDOW
    return (
        (smaller or not is_small)
        and prod(shape) >= (LEAST_WEIGHTS_OF_SMALLER if is_small else LEAST_WEIGHTS)
        and facts.get("group", 1) == 1
        and facts.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        and not any(facts.get("pads", ()))
        and set(facts.get("strides", ())) <= {1}
        and set(facts.get("dilations", ())) <= {1}
    )


class _Product:
    """The nodes and constants that replace a convolution. Its weights get other shapes."""

    def __init__(self, conv: "onnx.NodeProto", weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = conv.name or conv.output[0]
        x, weight, *bias = conv.input
        outputs, channels, rows, columns = weights[weight].dims
        x = self._add("Transpose", [x], perm=(1, 0, 2, 3))
        axes = 1
        if rows > 1:
            x = self._windows(x, rows, axis=axes + 1, to=axes)  # (C, kh, N, h, W)
            axes += 1
        if columns > 1:
            x = self._windows(x, columns, axis=axes + 2, to=axes)  # (C, kh, kw, N, h, w)
            axes += 1
        size = self._add("Shape", [x], start=axes)
        inputs = channels * rows * columns
        x = self._add("Reshape", [x, self._constant(inputs, -1)])
        weights[weight].dims[:] = (outputs, inputs)
        y = self._add("MatMul", [weight, x])
        if bias:
            weights[bias[0]].dims[:] = (outputs, 1)
            y = self._add("Add", [y, bias[0]])
        whole = self._add("Concat", [self._constant(outputs), size], axis=0)
        y = self._add("Reshape", [y, whole])
        # The layer's name stays with what gives its output.
        self._add("Transpose", [y], named=(conv.name, conv.output[0]), perm=(1, 0, 2, 3))

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
