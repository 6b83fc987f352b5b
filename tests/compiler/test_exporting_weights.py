"""Weights written for torchvision, timm and Keras: their models load them and give our scores, and
``import`` gives back the same bits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import vggspec
from tests.conftest import ROOT
from tests.keras_nets import keras, vgg
from tests.nets import disagreement, images, narrowed, random_weights
from tests.peers import set_statistics, torchvision_models
from tests.refusals import refused
from vggspec.base.diagnostic import ArgumentError
from vggspec.compiler.weights import open_weights

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALEXNET = """\
net alexnet
input 224x224 RGB(mean 123.675 116.28 103.53 std 58.395 57.12 57.375)
conv11-8/4(pad 2) maxpool3/2
conv5-24 maxpool3/2
conv3-48 conv3-32 conv3-32 maxpool3/2
FC-16 FC-16 FC-10 soft-max
"""
TORCHVISION = "RGB(mean 123.675 116.28 103.53 std 58.395 57.12 57.375)"
CAFFE = "RGB(mean 123.68 116.779 103.939)"


class Net:
    """A narrowed spec of ours as a file, with random weights."""

    def __init__(self, folder: Path, name: str, given: str, by: int = 8) -> None:
        text = ALEXNET if name == "alexnet of one tower" else narrowed(name, by).text
        self.spec = folder / "net.vgg"
        self.spec.write_text(text.replace("224 RGB\n", f"224 {given}\n"))
        self.net_name = name.partition(":")[2]
        from vggspec.compiler.lower import load_network

        self.named = f"{self.spec}:{self.net_name}" if self.net_name else str(self.spec)
        self.lowered = load_network(self.named)
        self.weights = folder / "net.safetensors"
        random_weights(self.lowered, self.weights)

    def posteriors(self, x: np.ndarray) -> np.ndarray:
        module = vggspec.torch_module(self.named, self.weights).eval()
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    def check_round_trip(self, exported: Path) -> None:
        out = exported.with_suffix(".again")
        vggspec.import_weights(self.named, exported, out=out)
        before, after = open_weights(self.weights), open_weights(out)
        assert before.tensors.keys() == after.tensors.keys()
        for name in before.tensors:
            assert before.read(name).tobytes() == after.read(name).tobytes(), name


def torchvision_vgg(name: str, **options: Any) -> Callable[[], nn.Module]:
    def made() -> nn.Module:
        models = torchvision_models()
        letter = {"A": "A", "B": "B", "D": "D", "E": "E", "vgg16-bn": "D"}[name]
        configuration = [c if c == "M" else max(2, c // 8) for c in models.vgg.cfgs[letter]]
        features = models.vgg.make_layers(configuration, batch_norm=name == "vgg16-bn")
        net = models.VGG(features, num_classes=1000, init_weights=False)
        net.classifier[0] = nn.Linear(64 * 49, 512)
        net.classifier[3] = nn.Linear(512, 512)
        net.classifier[6] = nn.Linear(512, 1000)
        return net

    return made


def torchvision_alexnet() -> nn.Module:
    net = torchvision_models().AlexNet(num_classes=10)
    widths = (3, 8, 24, 48, 32, 32)
    convs = [i for i, layer in enumerate(net.features) if isinstance(layer, nn.Conv2d)]
    for place, i in enumerate(convs):
        conv = net.features[i]
        net.features[i] = nn.Conv2d(
            widths[place], widths[place + 1], conv.kernel_size, conv.stride, conv.padding
        )
    net.classifier[1] = nn.Linear(32 * 36, 16)
    net.classifier[4], net.classifier[6] = nn.Linear(16, 16), nn.Linear(16, 10)
    return net


def load(net: nn.Module, path: Path) -> nn.Module:
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, weights_only=True)
    net.load_state_dict(state, strict=True)
    return net.eval()


CASES = [
    ("A", torchvision_vgg("A"), 8),
    ("vgg16-bn", torchvision_vgg("vgg16-bn"), 8),
    ("alexnet of one tower", torchvision_alexnet, 8),
    ("resnet:ResNet-18", lambda: torchvision_models().resnet18(weights=None), 1),
    pytest.param("B", torchvision_vgg("B"), 8, marks=pytest.mark.slow),
    pytest.param("D", torchvision_vgg("D"), 8, marks=pytest.mark.slow),
    pytest.param("E", torchvision_vgg("E"), 8, marks=pytest.mark.slow),
    pytest.param(
        "resnet:ResNet-50", lambda: torchvision_models().resnet50(weights=None), 1,
        marks=pytest.mark.slow,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "made", "by"), CASES)
def test_torchvision_loads_it(
    name: str, made: Callable[[], nn.Module], by: int, tmp_path: Path
) -> None:
    net = Net(tmp_path, name, TORCHVISION, by)
    x = images(1, 3, 224, 224)
    expected = net.posteriors(x)
    for path in (tmp_path / "there.pth", tmp_path / "there.safetensors"):
        done = vggspec.export_weights(net.named, net.weights, to="torchvision", out=path)
        assert (done.path, done.is_turned) == (str(path), False)
        with torch.inference_mode():
            found = load(made(), path)(torch.from_numpy(x)).softmax(1).numpy()
        assert disagreement(found, expected) < 1e-5
        net.check_round_trip(path)
