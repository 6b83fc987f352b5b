"""Pooling that rounds down or up, as PyTorch's ``ceil_mode`` and Caffe have it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.conftest import ROOT
from tests.nets import SMALL, images, net, random_weights, run_onnx, run_torch, session
from tests.refusals import refused
from vggspec.base.recipe import Rounding
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import RoundPools, inference, run

TEXT = "net t\ninput 26x26 gray\nconv3-3 maxpool conv3-4 maxpool3/2 FC-6 FC-5 soft-max"


@pytest.mark.parametrize("pool", ["floor", "ceil"])
def test_dense_maps_are_those_of_ceil_mode(pool: Rounding, tmp_path: Path) -> None:
    lowered = net(TEXT)
    weights = random_weights(lowered, tmp_path / "w")
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    options = CompileOptions(pool=pool, keep_map=True)
    write_bundle(lowered, weights, tmp_path / "b", options)
    of = session(tmp_path / "b/1/model.onnx")
    f, ceil = functional, pool == "ceil"
    for size in ((26, 26), (27, 29), (33, 28), (28, 41)):
        x = images(1, 1, *size)
        h = f.conv2d(torch.from_numpy(x), w["conv1_1.weight"], w["conv1_1.bias"], padding=1)
        h = f.max_pool2d(h.relu(), 2, 2, ceil_mode=ceil)
        h = f.conv2d(h, w["conv2_1.weight"], w["conv2_1.bias"], padding=1)
        h = f.max_pool2d(h.relu(), 3, 2, ceil_mode=ceil)
        h = f.conv2d(h, w["fc3.weight"].reshape(6, 4, 6, 6), w["fc3.bias"]).relu()
        h = f.conv2d(h, w["fc4.weight"].reshape(5, 6, 1, 1), w["fc4.bias"])
        np.testing.assert_allclose(run_onnx(of, x)["score_map"], h, rtol=1e-4, atol=1e-5)
        found = run_torch(lowered, weights, options, x)
        np.testing.assert_allclose(found["score_map"], h, rtol=1e-4, atol=1e-5)


def test_the_sides_of_the_papers_maps(specs: Path) -> None:
    network = load_network(str(specs / "D.vgg")).network
    down = run(inference("dense", pool="floor", keep_map=True), network)
    up = run(inference("dense", pool="ceil", keep_map=True), network)
    assert down == run(inference("dense", keep_map=True), network)
    assert [layer.type for layer in up.layers] == [layer.type for layer in down.layers]
    for n in (224, 225, 255, 256, 257, 384, 500, 512):
        assert down.at(n, 256)["fc8"].type.shape == (1000, n // 32 - 6, 2)
        assert up.at(n, 256)["fc8"].type.shape == (1000, -(-n // 32) - 6, 2)


def test_once_is_enough() -> None:
    network = net(SMALL).network
    assert RoundPools("floor")(network) is network
    up = RoundPools("ceil")(network)
    assert RoundPools("ceil")(up) is up
    assert RoundPools("floor")(up) == network
    pipeline = inference("dense", pool="ceil", stride=2)
    once = run(pipeline, network)
    assert run(pipeline, once) is once


def test_a_map_that_no_fc_is_for_is_refused() -> None:
    network = load_network(str(ROOT / "specs" / "vgg-f.vgg")).network
    assert RoundPools("ceil")(network) is network
    with refused("VGG662") as error:
        prepare(
            load_network(str(ROOT / "specs" / "vgg-f.vgg")).network, CompileOptions(pool="floor")
        )
    title = error.value.reports[0].what.title()
    assert title == (
        "with pooling rounded down `fc6` would get 5 × 5 × 256, and its weights are for 6 × 6 × 256"
    )
    # No weights depend on the size of the map here.
    gap = net("net t\ninput 9x9 gray\nconv3-3 maxpool gap FC-3 soft-max").network
    assert RoundPools("ceil")(gap)["pool1"].type.shape == (3, 5, 5)
