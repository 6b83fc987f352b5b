"""Number types of layers, and the graphs that say them, held against ONNX Runtime and torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from tests.nets import SMALL, images, net, random_weights
from tests.refusals import refused, told
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.compiler.backends.onnx.graph import FLOAT, OnnxGraph, tensor_info
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounded_weights import rounded
from vggspec.compiler.tensor import TensorType
from vggspec.compiler.weights import WeightsFile, describe, open_weights, save

TORCH: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}


def test_layers_compute_in_the_type_that_fits_them() -> None:
    network = prepare(net(SMALL).network, CompileOptions(keep_map=True))
    types = number_types(network, "fp16")
    for layer in network.layers:
        if layer.op.keyword in ("conv", "FC"):
            assert types[layer.name] == "fp16"
        elif layer.op.keyword in ("LRN", "soft-max", "gap"):
            assert types[layer.name] == "fp32"
        else:
            assert types[layer.name] == types[layer.inputs[0]]
    assert set(number_types(network, "fp32").values()) == {"fp32"}


def test_a_layer_that_is_kept_takes_its_relu_along() -> None:
    network = prepare(net(SMALL).network, CompileOptions())
    types = number_types(network, "bf16", ("conv1_1",))
    assert (types["conv1_1"], types["relu1_1"], types["conv1_2"]) == ("fp32", "fp32", "bf16")
    with refused("has no layer `conv1_9`"):
        number_types(network, "bf16", ("conv1_9",))


@pytest.mark.parametrize("average", ["scores", "posteriors"])
@pytest.mark.parametrize("keep", [(), ("conv1_1", "fc3")])
def test_fp16_differs_from_fp32_by_its_rounding(
    tmp_path: Path, average: str, keep: tuple[str, ...]
) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "model.safetensors")
    options = CompileOptions(keep_map=True, average=average)  # type: ignore[arg-type]
    network = prepare(lowered.network, options)
    x = images(2, 3, 41, 32)
    answers = {}
    for precision in ("fp32", "fp16"):
        types = number_types(network, precision, keep)
        for weights_as in ("external", "embedded"):
            model = emit(
                network,
                weights,
                mean=(0.0,) * 3,
                is_dynamic=True,
                types=types,
                weights_as=weights_as,
            )
            if weights_as == "embedded":
                onnx.checker.check_model(model, full_check=True)
            path = tmp_path / "model.onnx"
            path.write_bytes(model.SerializeToString())
            session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            assert {output.type for output in session.get_outputs()} == {"tensor(float)"}
            found = dict(zip(names, session.run(None, {"image": x}), strict=True))
            for name, value in found.items():
                if (precision, name) in answers:
                    np.testing.assert_array_equal(value, answers[precision, name])
                answers[precision, name] = value
    for name in ("posteriors", "score_map"):
        exact, rough = answers["fp32", name], answers["fp16", name]
        error = np.abs(exact - rough).max() / np.abs(exact).max()
        assert 0 < error < 2e-2, name


def test_a_bf16_graph_is_valid_onnx(tmp_path: Path) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    network = prepare(lowered.network, CompileOptions(keep_map=True))
    types = number_types(network, "bf16")
    model = emit(
        network,
        weights,
        mean=(0.0,) * 3,
        is_dynamic=True,
        types=types,
        weights_as="embedded",
    )
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for name, precision in weight_types(network, types).items():
        expected = {"bf16": onnx.TensorProto.BFLOAT16, "fp32": onnx.TensorProto.FLOAT}[precision]
        assert stored[name] == expected


def saved(path: Path, values: np.ndarray) -> WeightsFile:
    text = "net t\ninput 8x8 RGB\nFC-7\nsoft-max"
    lowered = net(text)
    (weight, bias) = (param.name for param in lowered.network.params())
    arrays = {weight: values, bias: np.zeros(7, np.float32)}
    save(path, arrays, describe(lowered.network))
    return open_weights(path)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_weights_are_rounded_as_torch_rounds(tmp_path: Path, precision: Precision) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((7, 192)).astype(np.float32)
    values *= np.float32(10) ** random.integers(-9, 4, values.shape).astype(np.float32)
    # Halfway between two numbers of either type, both neighbours, zero, and subnormal numbers.
    values[0, :8] = [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8 + 2**-9, 0.0, -0.0, 2**-24, 2**-25, 3e-8]
    weights = saved(tmp_path / "w.safetensors", values)
    (name,) = (name for name in weights.tensors if name.endswith("weight"))
    found = rounded(weights, {name: precision})[name]
    expected = torch.from_numpy(values).to(TORCH[precision]).view(torch.int16).numpy()
    np.testing.assert_array_equal(found.view(np.int16), expected)


def test_fp32_weights_are_mapped(tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.safetensors", np.ones((7, 192), np.float32))
    (name,) = (name for name in weights.tensors if name.endswith("weight"))
    assert isinstance(rounded(weights, {name: "fp32"})[name], np.memmap)


def test_a_weight_beyond_half_precision_is_an_error(tmp_path: Path) -> None:
    values = np.ones((7, 192), np.float32)
    values[6, 191] = -70000
    weights = saved(tmp_path / "w.safetensors", values)
    (name,) = (name for name in weights.tensors if name.endswith("weight"))
    with refused("contains 70000, which fp16 cannot represent") as error:
        rounded(weights, {name: "fp16"})
    assert "--keep-fp32 fc1" in told(error.value)
    assert np.isfinite(rounded(weights, {name: "bf16"})[name].astype(np.float32)).all()


@pytest.mark.parametrize("shape", [(4, 3, 5), (6,)], ids=["map", "vector"])
@pytest.mark.parametrize("spread", [1.0, 1e3], ids=["usual", "variance beyond fp16"])
def test_batch_norm_in_half_precision(shape: tuple[int, ...], spread: float) -> None:
    """Against PyTorch in fp32, on numbers whose variance an fp16 number may not hold."""
    random = np.random.default_rng(3)
    x = (random.standard_normal((2, *shape)) * 4 * spread).astype(np.float16).astype(np.float32)
    weight, bias, mean = (random.standard_normal(shape[0]).astype(np.float32) for _ in range(3))
    mean, var = mean * spread, (random.random(shape[0]).astype(np.float32) + 0.5) * spread**2
    graph = OnnxGraph("bn", {})
    names = [graph.constant(f"p{i}", array) for i, array in enumerate((weight, bias, mean, var))]
    low = graph.cast("x", "fp16")
    graph.note(low, "fp16", TensorType(shape))
    y = graph.cast(BatchNorm().to_onnx(graph, (low,), tuple(names), "y"), "fp32")
    info = [tensor_info(name, FLOAT, ("N", *shape)) for name in ("x", y)]
    model = graph.model(info[:1], info[1:], {}, "0")
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    tensors = [torch.from_numpy(array) for array in (x, mean, var, weight, bias)]
    expected = torch.nn.functional.batch_norm(*tensors, eps=1e-5).numpy()
    np.testing.assert_allclose(found, expected, rtol=4e-3, atol=2e-2)
