"""The graph of a matrix product: what a machine computes at most is measured with it."""

from pathlib import Path
from typing import Any

import numpy as np

from vggspec.bundle.options import Precision

ROWS, ROWS_ON_GPU = 1024, 8192
"""Of the square matrices: large enough for all cores."""

STEP = np.float32(1 / 64)
"""What 1 stands for in an int8 matrix, of the inputs and the constant; 64 for the product."""


def write_product(path: Path, precision: Precision, rows: int) -> None:
    """Write the graph that multiplies ``image``, float32 ``(rows, rows)``, with a constant matrix.

    The number type is written into it as compiled nets have it: fp16 by casts; int8 by
    QuantizeLinear and DequantizeLinear around the product. The graph for bf16 is in fp32, as the
    engine is told to multiply in bf16.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 1, (rows, rows)).astype(np.float32)
    constants: dict[str, Any] = {}
    if precision == "fp16":
        constants["matrix"] = matrix.astype(np.float16)
        nodes = [
            helper.make_node("Cast", ["image"], ["left"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["left", "matrix"], ["product"]),
            helper.make_node("Cast", ["product"], ["out"], to=TensorProto.FLOAT),
        ]
    elif precision == "int8":
        zero = np.zeros((), np.int8)
        constants |= {"zero": zero, "step": STEP, "out_step": STEP * 64}
        constants["matrix"] = np.clip(np.round(matrix / STEP / 2), -127, 127).astype(np.int8)
        nodes = [
            helper.make_node("QuantizeLinear", ["image", "step", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["left"]),
            helper.make_node("DequantizeLinear", ["matrix", "step", "zero"], ["right"]),
            helper.make_node("MatMul", ["left", "right"], ["product"]),
            helper.make_node("QuantizeLinear", ["product", "out_step", "zero"], ["out_q"]),
            helper.make_node("DequantizeLinear", ["out_q", "out_step", "zero"], ["out"]),
        ]
    else:
        constants["matrix"] = matrix
        nodes = [helper.make_node("MatMul", ["image", "matrix"], ["out"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, rows])
        for name in ("image", "out")
    ]
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, str(path))
