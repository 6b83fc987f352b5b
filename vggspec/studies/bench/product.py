"""The graph of matrix products: what a machine computes at most is measured with it.

Axes: R rows, N columns of a matrix and rows of the constant one.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.bundle.options import Precision

SIDE = {"cpu": 1024, "cuda": 8192}
"""N, where the product runs: large enough for all cores."""

PRODUCTS = 8
"""One after another, so that the conversion of the first input and of the last output counts
little."""

Form = Literal["matmul", "conv"]
"""A convolution with windows of one pixel is the same product. Which one is faster depends on the
engine and the number type."""


def macs_of(side: int) -> int:
    """Multiply-accumulates of a run."""
    return PRODUCTS * _rows(side) * side * side


def feed_of(side: int, form: Form) -> NDArray[np.float32]:
    """The matrix ``(R, N)``; for a convolution an image ``(1, N, sqrt(R), sqrt(R))``."""
    shape = (_rows(side), side) if form == "matmul" else (1, side, *_pixels(side))
    return np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)


def write_product(path: Path, precision: Precision, side: int, form: Form) -> None:
    """Write the graph that multiplies ``image`` by a constant matrix, the product again, and so on.

    The number type is written into it as compiled nets have it: fp16 by casts; int8 by
    QuantizeLinear and DequantizeLinear around each product. The graph for bf16 is in fp32, as the
    engine is told to multiply in bf16.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    op, dims = ("MatMul", (side, side)) if form == "matmul" else ("Conv", (side, side, 1, 1))
    # The numbers keep their size from product to product.
    matrix = np.random.default_rng(0).normal(0, side**-0.5, dims).astype(np.float32)
    constants: dict[str, Any] = {"matrix": matrix}
    nodes = []

    def add(kind: str, *names: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(kind, names[:-1], names[-1:], **attributes))

    if precision == "int8":
        largest = float(np.abs(matrix).max())
        constants = {
            "matrix": np.round(matrix / largest * 127).astype(np.int8),
            "zero": np.zeros((), np.int8),
            "step": np.float32(1 / 32),
            "matrix_step": np.float32(largest / 127),
        }
        add("QuantizeLinear", "image", "step", "zero", "q0")
        add("DequantizeLinear", "q0", "step", "zero", "x0")
        for i in range(PRODUCTS):
            add("DequantizeLinear", "matrix", "matrix_step", "zero", f"matrix{i}")
            add(op, f"x{i}", f"matrix{i}", f"product{i}")
            add("QuantizeLinear", f"product{i}", "step", "zero", f"q{i + 1}")
            add("DequantizeLinear", f"q{i + 1}", "step", "zero", f"x{i + 1}")
    else:
        is_half = precision == "fp16"
        if is_half:
            constants["matrix"] = matrix.astype(np.float16)
        number_type = TensorProto.FLOAT16 if is_half else TensorProto.FLOAT
        add("Cast", "image", "x0", to=number_type)
        for i in range(PRODUCTS):
            add(op, f"x{i}", "matrix", f"x{i + 1}")
    add("Cast", f"x{PRODUCTS}", "out", to=TensorProto.FLOAT)
    shape = feed_of(side, form).shape
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "out")
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def _rows(side: int) -> int:
    rows, columns = _pixels(side)
    return rows * columns


def _pixels(side: int) -> tuple[int, int]:
    """Rows and columns of an image with about a quarter as many pixels as the matrix has rows."""
    return (round((side / 4) ** 0.5),) * 2
