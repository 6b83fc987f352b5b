"""Every op in PyTorch and in ONNX Runtime computes what the oracle does, with the shape it says."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from tests.compiler.ops.samples import SAMPLES, Sample
from vggspec.compiler.backends.onnx.graph import FLOAT, OnnxGraph, tensor_info
from vggspec.compiler.ops import OPS
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.tensor import TensorType

RELATIVE, ABSOLUTE = 1e-5, 1e-6  # float32

Arrays = list[NDArray[np.float32]]


def draw(sample: Sample) -> tuple[NDArray[np.float32], Arrays]:
    """Two images and the parameters; variances are positive."""
    random = np.random.default_rng(7)
    x = random.standard_normal((2, *sample.shape)).astype(np.float32)
    params = []
    for param in sample.op.params(TensorType(sample.shape), "op"):
        values = random.standard_normal(param.shape).astype(np.float32)
        params.append(np.abs(values) + 0.5 if param.name.endswith("running_var") else values)
    return x, params


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_torch_agrees_with_the_oracle(sample: Sample) -> None:
    x, params = draw(sample)
    module = sample.op.to_torch(torch.nn, TensorType(sample.shape)).eval()
    names = [p.name.removeprefix("op.") for p in sample.op.params(TensorType(sample.shape), "op")]
    state = {name: torch.from_numpy(p) for name, p in zip(names, params, strict=True)}
    missing = module.load_state_dict(state, strict=False).missing_keys
    assert [key for key in missing if key != "num_batches_tracked"] == []
    with torch.inference_mode():
        found = module(torch.from_numpy(x.copy())).numpy()
    assert_agrees(sample, x, params, found)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_onnx_agrees_with_the_oracle(sample: Sample) -> None:
    if isinstance(sample.op, Dropout):
        with pytest.raises(AssertionError, match="drop-training-ops"):
            sample.op.to_onnx(OnnxGraph("op", {}), "x", (), "y")
        return
    x, params = draw(sample)
    graph = OnnxGraph("op", {})
    graph.note("x", "fp32", is_map=len(sample.shape) == 3)
    names = [graph.constant(f"p{i}", param) for i, param in enumerate(params)]
    y = sample.op.to_onnx(graph, "x", tuple(names), "y")
    expected = sample.op.infer(TensorType(sample.shape)).shape
    model = graph.model(
        [tensor_info("x", FLOAT, ("N", *sample.shape))],
        [tensor_info(y, FLOAT, ("N", *expected))],
        {},
        "0",
    )
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    assert_agrees(sample, x, params, found)


def assert_agrees(
    sample: Sample, x: NDArray[np.float32], params: Arrays, found: NDArray[np.float32]
) -> None:
    expected = np.stack(
        [
            sample.expected(image.astype(np.float64), [p.astype(np.float64) for p in params])
            for image in x
        ]
    )
    assert sample.op.infer(TensorType(sample.shape)).shape == expected.shape[1:]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE)


def test_every_op_has_a_sample() -> None:
    assert {type(sample.op) for sample in SAMPLES} == set(OPS)
