"""The numbers of a layer as the output, against PyTorch's functions."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.nets import Arrays, images, net, random_weights, run_onnx, run_torch, session
from tests.refusals import refused
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import DropTrainingOps, KeepUpTo, before_last
from vggspec.compiler.weights import Metadata, open_weights, save

TEXT = """\
net t
input 16x16 gray
conv3-3 conv3-4 BN
maxpool
conv3-4 LRN
maxpool
FC-6 FC-7 FC-5
soft-max
"""


def activations(w: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Every layer's map, densely."""
    f = functional
    found = {}

    def conv(x: Tensor, name: str, kernel: int = 3) -> Tensor:
        weight = w[f"{name}.weight"]
        weight = weight.reshape(weight.shape[0], -1, kernel, kernel)
        return f.conv2d(x, weight, w[f"{name}.bias"], padding=1 if kernel == 3 else 0)

    found["conv1_1"] = h = conv(x, "conv1_1").relu()
    h = conv(h, "conv1_2")
    statistics = (w[f"bn1_2.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
    found["conv1_2"] = found["bn1_2"] = h = f.batch_norm(h, *statistics).relu()
    found["pool1"] = h = f.max_pool2d(h, 2)
    found["conv2_1"] = h = conv(h, "conv2_1").relu()
    found["norm2_1"] = h = f.local_response_norm(h, 5, alpha=5e-4, beta=0.75, k=2.0)
    found["pool2"] = found["flatten"] = h = f.max_pool2d(h, 2)
    found["fc3"] = found["drop3"] = h = conv(h, "fc3", 4).relu()
    found["fc4"] = found["relu4"] = h = conv(h, "fc4", 1).relu()
    found["fc5"] = h = conv(h, "fc5", 1)
    found["prob"] = h.softmax(1)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Arrays, dict[str, Tensor]]:
    """The weights; an image of the net's window and a larger one; every layer's map of that."""
    path = tmp_path_factory.mktemp("weights") / "w"
    weights = random_weights(net(TEXT), path)
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    rng = np.random.default_rng(1)
    for name in ("bn1_2.running_mean", "bn1_2.bias"):
        w[name] = torch.from_numpy(rng.normal(0, 0.5, w[name].shape).astype(np.float32))
    labels = tuple("abcde")
    save(path, {name: array.numpy() for name, array in w.items()}, Metadata(labels=labels))
    x = {"window": images(1, 1, 16, 16), "large": images(1, 1, 21, 27)}
    return path, x, w


LAYERS = ["conv1_1", "conv1_2", "bn1_2", "pool1", "conv2_1", "norm2_1", "pool2", "flatten"]
LAYERS += ["fc3", "drop3", "fc4", "relu4", "fc5", "prob"]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_averaged_over_space_or_flattened(
    layer: str, expected: tuple[Path, Arrays, dict[str, Tensor]], tmp_path: Path
) -> None:
    path, x, w = expected
    lowered, weights = net(TEXT), open_weights(path)
    for form, image in (("dense", "large"), ("dense", "window"), ("crop", "window")):
        options = CompileOptions(layer=layer, form=form)
        written = write_bundle(lowered, weights, tmp_path / form, options).manifest
        onnx.checker.check_model(str(tmp_path / form / "1/model.onnx"), full_check=True)
        whole = activations(w, torch.from_numpy(x[image]))[layer]
        wanted = whole.mean((2, 3)) if form == "dense" else whole.flatten(1)
        found = run_onnx(session(tmp_path / form / "1/model.onnx"), x[image])
        np.testing.assert_allclose(found["features"], wanted, rtol=1e-4, atol=1e-5)
        module = run_torch(lowered, weights, options, x[image])
        result = next(iter(module.values()))
        np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)
        assert open_bundle(tmp_path / form, deep=True).manifest == written
        assert [(out.name, out.kind, out.is_map) for out in written.outputs] == [
            ("features", "features", False)
        ]
        assert written.result.channels == wanted.shape[1]
        assert (written.layer, written.labels, written.window) == (layer, None, (16, 16))


def test_a_stride_goes_with_a_layer(tmp_path: Path) -> None:
    """conv2_1 comes after a pooling of stride 2; without it, its map is that of every row."""
    text = TEXT.replace("conv3-4 LRN", "conv3-4(pad 0) LRN")
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w")
    x = images(1, 1, 19, 22)
    plain = prepare(lowered.network, CompileOptions(layer="conv2_1"))
    finer = prepare(lowered.network, CompileOptions(layer="conv2_1", stride=1))
    assert plain.at(19, 22)["conv2_1"].type.shape == (4, 7, 9)
    assert finer.at(19, 22)["conv2_1"].type.shape == (4, 14, 17)
    with refused(r"(?s)VGG660.*give 1; the net's own is 2"):
        prepare(lowered.network, CompileOptions(layer="conv2_1", stride=4))
    written = write_bundle(
        lowered, weights, tmp_path / "b", CompileOptions(layer="conv2_1", stride=1)
    ).manifest
    assert (written.stride, written.options.stride, written.window) == ((1, 1), 1, (16, 16))
    assert np.isfinite(run_onnx(session(tmp_path / "b/1/model.onnx"), x)["features"]).all()


def test_what_the_last_fc_works_on(specs: Path) -> None:
    def before(text: str) -> str:
        return before_last(net(text).network)

    assert before_last(load_network(str(specs / "D.vgg")).network) == "relu7"
    assert before(TEXT) == "relu4"
    assert before("net t\ninput 8x8 gray\nconv3-4 maxpool gap FC-3 soft-max") == "gap"
    assert before("net t\ninput 8x8 gray\nconv3-4 maxpool FC-3 soft-max") == "pool1"
    assert before("net t\ninput 8x8 gray\nconv3-4 BN conv1-3 gap soft-max") == "relu1_1"
    assert before("net t\ninput 8x8 gray\nconv3-4 FC-6 BN FC-3 BN soft-max") == "relu2"
    with refused(r"(?s)VGG664.*`fc1`"):
        before("net t\ninput 8x8 gray\nFC-3 soft-max")


def test_boxes_pass_on_what_they_are_made_of(tmp_path: Path) -> None:
    lowered = net("net t\ninput 8x8 gray\nconv3-4 FC-8(linear) boxes(per-class)")
    boxes = lowered.network.outputs[0].layer
    cut = prepare(lowered.network, CompileOptions(layer=boxes))
    assert [output.name for output in cut.outputs] == ["features"]
    assert not cut.type_of(cut.outputs[0].layer).is_map


def test_once_is_enough() -> None:
    network = DropTrainingOps()(net(TEXT).network)
    for layer in ("conv1_2", "pool2", "fc3", "prob"):
        once = KeepUpTo(layer=layer)(network)
        assert KeepUpTo(layer=layer)(once) is once
    flat = KeepUpTo(layer="pool1", flat=True)(network)
    assert flat.type_of(flat.outputs[0].layer).shape == (4 * 8 * 8,)


def test_what_does_not_go_with_a_layer() -> None:
    network = net(TEXT).network
    with refused(r"(?s)VGG663.*did you mean `conv2_1`"):
        prepare(network, CompileOptions(layer="conv2-1"))
    with refused("VGG303"):
        prepare(network, CompileOptions(layer="fc4", keep_map=True))


def test_the_weights_of_the_layers_kept_must_be_there(tmp_path: Path) -> None:
    weights = random_weights(net(TEXT), tmp_path / "w")
    other = net(TEXT.replace("FC-6", "FC-9"))
    write_bundle(other, weights, tmp_path / "b", CompileOptions(layer="conv2_1"))
    with refused(r"(?s)VGG503.*fc3\.weight"):
        write_bundle(other, weights, tmp_path / "c", CompileOptions(layer="fc3"))


@pytest.mark.parametrize(
    "text",
    [
        "conv is BN ReLU conv(no-bias)\nconv3-8 conv3-8 x2 gap FC-3\n",
        "conv is BN ReLU conv\nconv3-8(plain)\n[identity & conv3-8] x2\nBN ReLU gap FC-3\n",
        "conv is conv BN ReLU\nconv3-8 x2\n[conv3-8 conv3-8 + shortcut] x2\ngap FC-3\n",
        "conv3-8\nmaxpool BN ReLU\nconv3-8 SiLU gap FC-3\n",
        "conv3-8 BN conv3-8\n[conv3-8 BN + BN] ReLU FC-3\n",
    ],
)
def test_a_name_means_what_it_means_in_a_spec(text: str) -> None:
    """``--layer`` and ``outputs`` agree, BN and activation before a conv or after it."""
    text = f"input 16x16 RGB\n{text}"
    network = net(text).network
    for layer in network.layers:
        if layer.op.is_weight_layer or layer.op.is_join:
            names = dict.fromkeys((layer.name, network.layers[-1].name))
            tapped = net(f"{text}outputs {' '.join(names)}\n").network
            kept = KeepUpTo(layer=layer.name)(network)
            assert kept.outputs[0].layer == tapped.outputs[0].layer, layer.name
