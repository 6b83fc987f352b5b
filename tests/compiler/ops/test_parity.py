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

RELATIVE, ABSOLUTE = 1e-5, 1e-6  # float32

Arrays = list[NDArray[np.float32]]


def draw(sample: Sample) -> tuple[Arrays, Arrays]:
    """Two images of each input, and the parameters; variances are positive."""
    random = np.random.default_rng(7)
    inputs = [
        (4 * random.standard_normal((2, *shape))).astype(np.float32) for shape in sample.shapes
    ]
    params = []
    for param in sample.op.params(sample.types, "op"):
        values = random.standard_normal(param.shape).astype(np.float32)
        params.append(np.abs(values) + 0.5 if param.name.endswith("running_var") else values)
    return inputs, params


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_torch_agrees_with_the_oracle(sample: Sample) -> None:
    inputs, params = draw(sample)
    tensors = [torch.from_numpy(x.copy()) for x in inputs]
    module = sample.op.to_torch(torch.nn, sample.types)
    if module is None:
        assert_agrees(sample, inputs, params, sample.op.call_torch(torch, *tensors).numpy())
        return
    names = [p.name.removeprefix("op.") for p in sample.op.params(sample.types, "op")]
    state = {name: torch.from_numpy(p) for name, p in zip(names, params, strict=True)}
    missing = module.eval().load_state_dict(state, strict=False).missing_keys
    assert [key for key in missing if key != "num_batches_tracked"] == []
    with torch.inference_mode():
        found = module(*tensors).numpy()
    assert_agrees(sample, inputs, params, found)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_onnx_agrees_with_the_oracle(sample: Sample) -> None:
    if isinstance(sample.op, Dropout):
        with pytest.raises(AssertionError, match="drop-training-ops"):
            sample.op.to_onnx(OnnxGraph("op", {}), ("x",), (), "y")
        return
    inputs, params = draw(sample)
    graph = OnnxGraph("op", {})
    feeds = {f"x{i}": x for i, x in enumerate(inputs)}
    for name, kind in zip(feeds, sample.types, strict=True):
        graph.note(name, "fp32", kind)
    names = [graph.constant(f"p{i}", param) for i, param in enumerate(params)]
    y = sample.op.to_onnx(graph, tuple(feeds), tuple(names), "y")
    expected = sample.op.infer(sample.types).shape
    model = graph.model(
        [
            tensor_info(name, FLOAT, ("N", *shape))
            for name, shape in zip(feeds, sample.shapes, strict=True)
        ],
        [tensor_info(y, FLOAT, ("N", *expected))],
        {},
        "0",
    )
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feeds)
    assert_agrees(sample, inputs, params, found)


def assert_agrees(
    sample: Sample, inputs: Arrays, params: Arrays, found: NDArray[np.float32]
) -> None:
    exact = [p.astype(np.float64) for p in params]
    expected = np.stack(
        [
            sample.expected(*(x.astype(np.float64) for x in images), exact)
            for images in zip(*inputs, strict=True)
        ]
    )
    assert sample.op.infer(sample.types).shape == expected.shape[1:]
    assert found.shape == expected.shape
    least = ABSOLUTE * max(1, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=least)


def test_every_op_has_a_sample() -> None:
    assert {type(sample.op) for sample in SAMPLES} == set(OPS)
