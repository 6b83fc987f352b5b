"""Nets with branches in TensorRT-RTX: its parser takes them, and engines are built of a few."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.compiler.backends.tensorrt.test_build import rtx
from tests.compiler.backends.test_generated_graphs import saved
from tests.graphs import NETS
from tests.strategies import networks
from vggspec.base.diagnostic import VggspecError
from vggspec.base.watcher import SILENT
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.bundle.profile import Profile
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.backends.tensorrt.build import build
from vggspec.compiler.backends.tensorrt.network import check_network, parse
from vggspec.compiler.ir import Network
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounded_weights import rounded
from vggspec.runtime.tensorrt import library
from vggspec.runtime.tensorrt.messages import logger


def parts(network: Network, precision: Precision, folder: Path) -> tuple[bytes, Any, Any]:
    weights, _ = saved(network, folder / "w")
    types = number_types(network, precision)
    model = emit(
        network,
        weights,
        mean=(0.0,) * network.input.channels,
        is_dynamic=True,
        types=types,
        weights_as="declared",
    )
    return model.SerializeToString(), rounded(weights, weight_types(network, types)), types


def unused() -> Path:
    raise AssertionError("this TensorRT takes weights from memory")


@given(networks())
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_parser_takes_generated_graphs(tmp_path: Path, network: Network) -> None:
    trt = library.load("tensorrt_rtx", "parsing a graph")
    builder = trt.Builder(logger(trt)[1])
    for precision in ("fp32", "fp16"):
        try:
            prepared = prepare(network, CompileOptions())
        except VggspecError:
            prepared = prepare(network, CompileOptions(form="crop"))
        model, arrays, types = parts(prepared, precision, tmp_path)
        parsed = parse(trt, builder, model, arrays, "graph", unused)
        check_network(trt, parsed.network, prepared, types)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("residual", "fp16"), ("inception", "fp32"), ("dense", "bf16"), ("two heads", "fp16")],
)
def test_engines(name: str, precision: Precision, tmp_path: Path) -> None:
    network = prepare(NETS[name], CompileOptions())
    height, width = network.input.type.size
    profile = Profile((1, height, width), (2, height, width), (4, height + 8, width + 8))
    model, arrays, types = parts(network, precision, tmp_path)
    plan = tmp_path / "plan"
    options = rtx(profile)
    build(model, arrays, network, types, options, options.profiles, name, plan, unused, SILENT)
    assert plan.stat().st_size > 0
