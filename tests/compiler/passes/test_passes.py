"""Passes keep what a network computes, do it once, and say nothing where nothing changes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.nets import SMALL, images, net, random_weights
from tests.refusals import refused
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import (
    TRAINING,
    AverageBeforeLinear,
    AverageOverSpace,
    DropSoftmax,
    DropTrainingOps,
    FcToConv,
    Pass,
    inference,
    run,
)

PASSES: list[tuple[Pass, ...]] = [
    (DropTrainingOps(),),
    (FcToConv(),),
    (FcToConv(), AverageOverSpace()),
    (FcToConv(), AverageOverSpace(average="posteriors")),
    (FcToConv(), AverageOverSpace(), AverageBeforeLinear()),
    inference("dense"),
    inference("dense", "posteriors", keep_map=True),
    inference("crop"),
]
TEXTS = {
    "small": SMALL,
    "gap": "net t\ninput 9x11 gray\nconv3-6 BN\nconv1-5 gap soft-max",
    "fc after gap": "net t\ninput 9x11 gray\nconv3-6 maxpool\ngap\nFC-7(linear) BN\nFC-5 soft-max",
    "norm last": "net t\ninput 12x12 RGB\nconv3-6\nmaxpool\nFC-8\nFC-5 BN\nsoft-max",
    "FC alone": "net t\ninput 3x4 gray\nFC-5\nsoft-max",
    "no soft-max": "net t\ninput 12x10 RGB\nconv3-6\nmaxpool\nFC-8\nFC-5",
    "dropout everywhere": "net t\ninput 8x8 gray\nconv3-4 dropout(0.2) maxpool dropout(0.1)\n"
    "FC-6 dropout(0.3)\nFC-3\nsoft-max",
}


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.layers]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("pipeline", PASSES, ids=lambda p: "-".join(each.name for each in p))
def test_the_numbers_stay(text: str, pipeline: tuple[Pass, ...], tmp_path: Path) -> None:
    lowered = net(TEXTS[text])
    before = lowered.network
    weights = random_weights(lowered, tmp_path / "w")
    after = run(pipeline, before)
    assert after.parameters == before.parameters
    assert {p.name: p.stored for p in after.params()} == {p.name: p.stored for p in before.params()}
    x = torch.from_numpy(images(2, *before.input.type.shape))
    found = []
    for network in (before, after):
        module = torch_module.loaded(network, weights).eval()
        with torch.inference_mode():
            y = module(x.clone())
        found.append((next(iter(y.values())) if isinstance(y, dict) else y).flatten(1))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("pipeline", PASSES, ids=lambda p: "-".join(each.name for each in p))
def test_twice_is_once(text: str, pipeline: tuple[Pass, ...]) -> None:
    once = run(pipeline, net(TEXTS[text]).network)
    assert run(pipeline, once) is once


@pytest.mark.parametrize("pipeline", PASSES, ids=lambda p: "-".join(each.name for each in p))
def test_every_layer_still_points_into_the_file(pipeline: tuple[Pass, ...]) -> None:
    lowered = net(SMALL)
    for layer in run(pipeline, lowered.network).layers:
        assert layer.origin is not None
        assert layer.origin.source.slice(layer.origin.span) in SMALL


def test_fc_to_conv_is_a_view_of_the_weights(specs: Path) -> None:
    network = load_network(str(specs / "D.vgg")).network
    dense = FcToConv()(network)
    shapes = {name: [(p.shape, p.stored) for p in dense[name].params] for name in ("fc6", "fc8")}
    assert shapes["fc6"][0] == ((4096, 512, 7, 7), (4096, 25088))
    assert shapes["fc8"][0] == ((1000, 4096, 1, 1), (1000, 4096))
    assert "flatten" not in dense


def test_the_pipelines_of_d(specs: Path) -> None:
    network = load_network(str(specs / "D.vgg")).network
    tail = names(run(inference("dense"), network))[-6:]
    assert tail == ["fc7", "relu7", "average", "fc8", "vector", "prob"]
    kept = run(inference("dense", keep_map=True), network)
    assert names(kept)[-4:] == ["fc8", "average", "vector", "prob"]
    posteriors = run(inference("dense", "posteriors"), network)
    assert names(posteriors)[-4:] == ["fc8", "prob", "average", "vector"]
    assert names(run(inference("crop"), network))[-2:] == ["fc8", "prob"]
    scores = run(TRAINING, network)
    assert names(scores)[-1] == "fc8"
    assert [output.name for output in scores.outputs] == ["scores"]


def test_the_average_stops_at_what_does_not_commute() -> None:
    one_fc = run(inference("dense"), net("net t\ninput 8x8 gray\nconv3-4\nFC-5\nsoft-max").network)
    # The only FC is an 8 × 8 convolution: its mean is not the FC of the mean.
    assert names(one_fc)[-4:] == ["fc2", "average", "vector", "prob"]
    normed = run(inference("dense"), net(TEXTS["norm last"]).network)
    assert names(normed)[-6:] == ["relu2", "average", "fc3", "bn3", "vector", "prob"]


def test_drop_softmax_leaves_other_outputs_alone() -> None:
    network = net(TEXTS["no soft-max"]).network
    assert DropSoftmax()(network) is network


def test_a_dense_net_takes_larger_images_and_no_smaller_ones(specs: Path) -> None:
    network = load_network(str(specs / "D.vgg")).network
    dense = run(inference("dense", keep_map=True), network)
    assert dense.at(384, 512)["fc8"].type.shape == (1000, 6, 10)
    assert dense.at(225, 225)["fc8"].type.shape == (1000, 1, 1)
    with refused("VGG201"):
        dense.at(223, 300)
    with refused(r"VGG209.*fc6"):
        network.at(256, 256)
