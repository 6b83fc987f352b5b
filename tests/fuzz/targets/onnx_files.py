"""ONNX models: damaged, with fields, names, edges and data files at random."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzz import mutate
from tests.fuzz.harness import answer
from vggspec.compiler.importing.checkpoint import read_checkpoint

NAMES = ("x", "conv.weight", "h0", "h1", "fc.weight", "", "../x", "\x1b[31m", "好", "n" * 5000)
OPERATORS = (
    "Conv", "Gemm", "MatMul", "BatchNormalization", "Add", "Mul", "Transpose", "Identity", "Cast",
    "Constant", "QuantizeLinear", "Loop", "Relu", "",
)  # fmt: skip
LOCATIONS = ("w.data", "./w.data", "../w.data", "/etc/passwd", "", "missing", "w.onnx", "a\0b")
SIZES = (0, 1, 3, -1, 2**31, 2**40, 2**62)


def one(random: Random, folder: Path) -> str:
    """A model, perhaps with data beside it, to ``read_checkpoint``."""
    model, expected = _model(random, folder)
    changes = random.choice((0, 1, 1, 2, 5))
    for _ in range(changes):
        _change(random, model)
    data = model.SerializeToString()
    if random.randrange(3) == 0:
        data, changes = mutate.damaged(random, data), 1
    path = folder / random.choice(("w.onnx", "w.onnx", "w"))
    path.write_bytes(data)

    def read() -> None:
        found = read_checkpoint(path)
        assert found.tensors
        for array in found.tensors.values():
            assert array.dtype == np.float32
        if not changes:
            assert list(found.tensors) == list(expected)
            for name, array in expected.items():
                np.testing.assert_array_equal(found.tensors[name], array, name)

    kind = answer(read)
    assert changes or kind == "ok", kind
    return kind


def _model(random: Random, folder: Path) -> tuple[onnx.ModelProto, dict[str, Any]]:
    numbers = np.random.default_rng(random.randrange(1 << 32))

    def some(*shape: int) -> Any:
        return numbers.normal(size=shape).astype(np.float32)

    arrays = {
        "conv.weight": some(4, 3, 3, 3),
        "conv.bias": some(4),
        "bn.weight": some(4),
        "bn.bias": some(4),
        "bn.running_mean": some(4),
        "bn.running_var": some(4) ** 2,
        "fc.weight": some(5, 4),
        "fc.bias": some(5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["h0"], "conv"),
        helper.make_node("BatchNormalization", ["h0", *list(arrays)[2:6]], ["h1"], "bn"),
        helper.make_node("GlobalAveragePool", ["h1"], ["h2"]),
        helper.make_node("Flatten", ["h2"], ["h3"]),
        helper.make_node("Gemm", ["h3", "fc.weight", "fc.bias"], ["y"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 5))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    if random.randrange(2):
        _move_out(random, graph, folder)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), arrays


def _move_out(random: Random, graph: onnx.GraphProto, folder: Path) -> None:
    """Store some tensors in a file beside the model."""
    data = b""
    for tensor in graph.initializer:
        if random.randrange(2):
            onnx.external_data_helper.set_external_data(
                tensor, "w.data", offset=len(data), length=len(tensor.raw_data)
            )
            data += tensor.raw_data
            tensor.ClearField("raw_data")
    (folder / "w.data").write_bytes(data)


def _change(random: Random, model: onnx.ModelProto) -> None:
    graph = model.graph
    tensor, node = random.choice(graph.initializer), random.choice(graph.node)
    kind = random.randrange(10)
    if kind == 0:
        tensor.dims[random.randrange(len(tensor.dims))] = random.choice(SIZES)
    elif kind == 1:
        tensor.data_type = random.choice((0, 1, 2, 7, 8, 10, 11, 14, 16, 17, 21, 99))
    elif kind == 2:
        tensor.name = random.choice(NAMES)
    elif kind == 3:
        node.input[random.randrange(len(node.input))] = random.choice(NAMES)
    elif kind == 4:
        node.output[0] = random.choice(NAMES)
    elif kind == 5:
        node.op_type = random.choice(OPERATORS)
    elif kind == 6:
        kept = tensor.external_data or [tensor.external_data.add()]
        entry = random.choice(kept)
        entry.key = random.choice(("location", "offset", "length", "checksum", ""))
        entry.value = random.choice((*LOCATIONS, *map(str, SIZES), "٣", "1e3"))
        tensor.data_location = random.choice((TensorProto.EXTERNAL, TensorProto.DEFAULT))
    elif kind == 7:
        tensor.raw_data = random.randbytes(random.choice((0, 1, 3, 16, 400)))
    elif kind == 8:
        graph.node.add().CopyFrom(node)
    else:
        node.attribute.append(helper.make_attribute("value", tensor))
        node.attribute.append(
            helper.make_attribute(random.choice(("epsilon", "transB")), random.choice((0.0, 1e-3)))
        )
