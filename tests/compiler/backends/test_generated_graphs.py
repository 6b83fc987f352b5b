"""Nets with branches: PyTorch, its source file and ONNX Runtime against a plain interpretation."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from torch import Tensor

from tests.compiler.interpretation import Tensors, interpreted
from tests.graphs import NETS, Arrays, random_arrays
from tests.nets import images, run_onnx
from tests.strategies import networks
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.backends.torch import source as torch_source
from vggspec.compiler.ir import Network
from vggspec.compiler.sizes import sizes as fitting
from vggspec.compiler.weights import WeightsFile, describe, open_weights, save

RELATIVE = 1e-5  # of the largest number in the net: sums may cancel

generated = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def saved(network: Network, path: Path, seed: int = 0) -> tuple[WeightsFile, Arrays]:
    arrays = random_arrays(network, seed)
    save(path, arrays, describe(network))
    return open_weights(path), arrays


def exact(arrays: Arrays) -> Tensors:
    return {name: torch.from_numpy(array).double() for name, array in arrays.items()}


def results(network: Network, tensors: Tensors) -> Tensors:
    """The outputs of a net, heads averaged over space: scores before the soft-max."""
    read = {name for layer in network.layers for name in layer.inputs}
    found = {}
    for output in network.outputs:
        last = network[output.layer]
        is_head = output.name in ("scores", "posteriors") or not last.type.is_map
        is_head = is_head or last.op.keyword in ("soft-max", "gap")
        if last.name in read or not is_head:
            found[output.name] = tensors[last.name]
            continue
        is_softmax = last.op.keyword == "soft-max"
        scores = tensors[last.inputs[0] if is_softmax else last.name]
        scores = scores.mean((2, 3)) if scores.dim() == 4 else scores
        found[output.name] = scores.softmax(1) if is_softmax else scores
    return found


def assert_close(found: Any, expected: Tensor, largest: float) -> None:
    value = np.asarray(found)
    assert value.shape == tuple(expected.shape)
    np.testing.assert_allclose(value, expected.numpy(), rtol=0, atol=RELATIVE * largest)


def source_module(network: Network) -> torch.nn.Module:
    scope: dict[str, Any] = {"__name__": "source"}
    exec(torch_source.emit(network, None, "a test"), scope)
    made: torch.nn.Module = scope[torch_source.class_name(network.name)]()
    return made.eval()


def check(network: Network, folder: Path) -> None:
    weights, arrays = saved(network, folder / "w.safetensors")
    w = exact(arrays)
    image = network.input
    for form in ("crop", "dense"):
        try:
            prepared = prepare(network, CompileOptions(form=form))
        except VggspecError as error:
            if form == "crop" or error.reports[0].what.code not in ("VGG270", "VGG271"):
                raise
            event("refused")
            continue
        model = emit(
            prepared,
            weights,
            mean=(0.0,) * image.channels,
            is_dynamic=form == "dense",
            weights_as="embedded",
        )
        onnx.checker.check_model(model, full_check=True)
        of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        module = torch_module.loaded(prepared, weights).eval()
        source = source_module(prepared)
        source.load_state_dict(module.state_dict())
        sizes = [(image.height, image.width)]
        if form == "dense":
            sizes += [(image.height + 2, image.width + 5), (image.height + 9, image.width)]
            sizes += [fitting(prepared).least]
        for size in sizes:
            try:
                prepared.at(*size)
            except VggspecError:
                event("branches do not meet at every size")
                continue
            x = images(2, image.channels, *size)
            tensors = interpreted(network, w, torch.from_numpy(x).double(), dense=form == "dense")
            largest = max(float(tensor.abs().max()) for tensor in tensors.values())
            expected = results(network, tensors)
            with torch.inference_mode():
                by_module, by_source = module(torch.from_numpy(x)), source(torch.from_numpy(x))
            if isinstance(by_module, Tensor):
                name = network.outputs[0].name
                by_module, by_source = {name: by_module}, {name: by_source}
            by_onnx = run_onnx(of, x)
            assert by_onnx.keys() == by_module.keys() == by_source.keys() == expected.keys()
            for name, value in expected.items():
                assert_close(by_module[name], value, largest)
                assert_close(by_source[name], value, largest)
                assert_close(by_onnx[name], value, largest)


@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_papers_kinds(name: str, tmp_path: Path) -> None:
    check(NETS[name], tmp_path)


@given(networks())
@generated
def test_generated_graphs(tmp_path: Path, network: Network) -> None:
    check(network, tmp_path)
