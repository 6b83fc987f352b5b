"""What the backends make of branches: gradients, memory, names of taps, number types."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.compiler.backends.test_generated_graphs import saved, source_module
from tests.compiler.interpretation import interpreted
from tests.graphs import NETS, Graph, random_arrays
from tests.nets import images, run_onnx
from tests.strategies import networks
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.cost import run_cost
from vggspec.compiler.ir import IMAGE, Network, Output
from vggspec.compiler.memory import overwritten
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.passes import DropTrainingOps
from vggspec.compiler.precision import number_types

few = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def assert_gradients(network: Network) -> None:
    """With the statistics of BN as they are stored, so that both compute the same."""
    module = torch_module.emit(network).double().eval()
    state = {name: torch.from_numpy(a).double() for name, a in random_arrays(network).items()}
    module.load_state_dict(state, strict=False)
    x = torch.from_numpy(images(2, *network.input.type.shape)).double()
    outputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    found = module(outputs[0])
    if isinstance(found, Tensor):
        found = {network.outputs[0].name: found}
    w = {name: each.requires_grad_(".running" not in name) for name, each in state.items()}
    every = interpreted(network, w, outputs[1])
    factors = np.random.default_rng(3)
    losses: list[Any] = [0, 0]
    for output in network.outputs:
        expected = every[output.layer]
        torch.testing.assert_close(found[output.name], expected, rtol=1e-9, atol=1e-9)
        factor = torch.from_numpy(factors.standard_normal(expected.shape))
        losses[0] = losses[0] + (found[output.name] * factor).sum()
        losses[1] = losses[1] + (expected * factor).sum()
    for loss in losses:
        if loss.requires_grad:
            loss.backward()
    assert torch.equal(outputs[0].detach(), x), "the image is the caller's"
    for name, parameter in [*module.named_parameters(), (IMAGE, outputs[0])]:
        expected_grad = outputs[1].grad if name == IMAGE else w[name].grad
        assert (parameter.grad is None) == (expected_grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected_grad, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_nets_of_the_papers_kinds(name: str) -> None:
    assert_gradients(NETS[name])


@given(networks())
@few
def test_gradients_of_generated_graphs(network: Network) -> None:
    assert_gradients(network)


def test_what_may_be_overwritten() -> None:
    """Nothing that anybody else reads: in evaluation a dropout is a view of what it reads."""

    def of(*ops: Any, tap: int | None = None) -> frozenset[str]:
        net = Graph(5, 5)
        names = [net.conv(IMAGE, 3, act=None, name="conv")]
        for i, op in enumerate(ops):
            names.append(net.add(op, names[-1], name=f"op{i}"))
        network = net.net(names[-1])
        if tap is not None:
            network = network.rebuild(network.layers, [*network.outputs, Output("t", names[tap])])
            assert_gradients(network)
        else:
            assert_gradients(network)
        return overwritten(network)

    assert of(Relu()) == {"op0"}
    assert of(Dropout(), Flatten(), Relu()) == {"op2"}
    assert of(Dropout(), Flatten(), Relu(), tap=0) == frozenset()
    assert of(Dropout(), Flatten(), Relu(), tap=1) == frozenset()
    assert of(Dropout(), Relu(), tap=2) == {"op1"}
    assert of(Lrn(), Relu6()) == {"op1"}
    assert of(Silu(), Dropout(), Relu()) == frozenset()
    assert of(Relu(), Dropout(), Relu6()) == {"op0"}
    assert of(Relu(), Dropout(rate=0.0), Silu()) == {"op0"}
    net = Graph(4, 4)
    doubled = net.add(Relu(), net.add(Flatten(), IMAGE))
    assert overwritten(net.net(doubled)) == frozenset(), "the image is the caller's"
    net = Graph(4, 4)
    conv = net.conv(IMAGE, 3, act=None)
    network = net.net(net.add(Relu(), net.add(Add(), conv, conv)))
    assert len(overwritten(network)) == 1
    assert_gradients(network)


def chain_with_skips() -> Network:
    net = Graph(16, 16)
    x = net.conv(IMAGE, 8)
    for _ in range(6):
        x = net.add(Relu(), net.add(Add(), net.conv(net.conv(x, 8), 8, act=None), x))
    x = net.add(Concat(), net.conv(x, 8), x)
    return net.net(net.conv(x, 4, 1))


class Alive(TorchDispatchMode):
    """Watches every operation of PyTorch, and counts the bytes of the results that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._results: dict[int, tuple[weakref.ref[Tensor], int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._results[id(result)] = weakref.ref(result), result.data_ptr()
        pieces = {
            place: tensor.nbytes
            for ref, place in self._results.values()
            if (tensor := ref()) is not None
        }
        self.most = max(self.most, sum(pieces.values()))
        return result


def test_a_tensor_is_released_after_its_last_reader() -> None:
    """The peak is the one that ``run_cost`` counts, less the image; it does not grow with depth."""
    network = chain_with_skips()
    module = torch_module.emit(network).eval()
    with torch.no_grad(), Alive() as watch:
        module(torch.randn(1, 1, 16, 16))
    counted = run_cost(network, (1, 16, 16), dict.fromkeys([x.name for x in network.layers], 4))
    image = 4 * network.input.type.num_elements
    assert watch.most in (counted.bytes, counted.bytes + image)
    assert counted.bytes == 4 * 16 * 16 * (8 + 8 + 16)


def tapped() -> Network:
    """Taps that are called as convs and are what comes after their ReLU, as specs write them."""
    net = Graph(12, 10)
    first = net.conv(IMAGE, 3, act=None, name="conv1")
    relu = net.add(Relu(), first, name="relu1")
    second = net.conv(relu, 4, 3, 2, act=None, name="conv2")
    after = net.add(Relu6(), second, name="relu2")
    third = net.add(Add(), net.conv(after, 4, act=None, name="conv3"), second)
    return net.net(conv1=relu, conv2=after, raw=second, twice=after, conv3=third)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_tap_may_be_called_as_a_layer_is(precision: Precision, tmp_path: Path) -> None:
    network = tapped()
    weights, arrays = saved(network, tmp_path / "w")
    for form in ("crop", "dense"):
        prepared = prepare(network, CompileOptions(form=form))
        assert prepared == network, "taps stay maps"
        model = emit(
            prepared,
            weights,
            mean=(0.0,),
            is_dynamic=form == "dense",
            types=number_types(prepared, precision),
            weights_as="embedded",
        )
        onnx.checker.check_model(model, full_check=True)
        of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        x = images(2, 1, 12, 10) if form == "crop" else images(2, 1, 17, 15)
        w = {name: torch.from_numpy(array) for name, array in arrays.items()}
        every = interpreted(network, w, torch.from_numpy(x))
        module = torch_module.loaded(prepared, weights).eval()
        source = source_module(prepared)
        source.load_state_dict(module.state_dict())
        with torch.inference_mode():
            by_torch, by_source = module(torch.from_numpy(x)), source(torch.from_numpy(x))
        by_onnx = run_onnx(of, x)
        bound = 1e-5 if precision == "fp32" else 2e-2
        for output in network.outputs:
            expected = every[output.layer]
            torch.testing.assert_close(by_torch[output.name], expected)
            torch.testing.assert_close(by_source[output.name], expected)
            np.testing.assert_allclose(by_onnx[output.name], expected, rtol=bound, atol=bound)


def dims(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        output.name: [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim]
        for output in model.graph.output
    }


def test_maps_of_several_sizes_have_dimensions_of_their_own(tmp_path: Path) -> None:
    network = tapped()
    weights, _ = saved(network, tmp_path / "w")
    found = dims(emit(network, weights, mean=(0.0,), is_dynamic=True))
    assert found["conv1"] == ["N", 3, "h_conv1", "w_conv1"]
    assert found["raw"] == ["N", 4, "h_raw", "w_raw"]


def check_low_precision(network: Network, folder: Path) -> None:
    network = DropTrainingOps()(network)
    weights, arrays = saved(network, folder / "w")
    w = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x = images(2, *network.input.type.shape)
    every = interpreted(network, w, torch.from_numpy(x))
    for precision in ("fp16", "bf16"):
        types = number_types(network, precision)
        for layer in network.layers:
            read = {types.get(name, "fp32") for name in layer.inputs}
            if layer.op.is_join and len(read) > 1:
                assert types[layer.name] == "fp32"
        model = emit(
            network,
            weights,
            mean=(0.0,) * network.input.channels,
            is_dynamic=False,
            types=types,
            weights_as="embedded",
        )
        onnx.checker.check_model(model, full_check=True)
        if precision == "bf16":
            continue  # ONNX Runtime has no bf16 kernels for CPUs
        of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        found = run_onnx(of, x)
        for output in network.outputs:
            expected = every[output.layer].numpy()
            error = np.abs(found[output.name] - expected).max()
            assert error <= 0.03 * max(1.0, float(np.abs(expected).max())), output


@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_papers_kinds_in_half_precision(name: str, tmp_path: Path) -> None:
    check_low_precision(NETS[name], tmp_path)


@given(networks())
@few
def test_generated_graphs_in_half_precision(tmp_path: Path, network: Network) -> None:
    check_low_precision(network, tmp_path)


def test_where_number_types_meet_is_fp32() -> None:
    net = Graph(6, 6)
    x = net.conv(IMAGE, 4, act=None, name="low")
    high = net.add(Lrn(), x, name="high")
    total = net.add(Add(), x, high, name="sum")
    both = net.add(Concat(), x, x, name="both")
    x = net.add(Flatten(), net.add(GlobalAvgPool(), net.add(Concat(), total, both)))
    types = number_types(net.net(net.add(Linear(out_channels=2), x)), "fp16")
    assert (types["low"], types["high"], types["sum"], types["both"]) == (
        "fp16", "fp32", "fp32", "fp16",
    )  # fmt: skip
