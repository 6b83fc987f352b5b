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
from tests import keras_nets
from tests.nets import disagreement, images, narrowed, random_weights
from tests.peers import torchvision_models
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
    pytest.param("A", torchvision_vgg("A"), 8, marks=pytest.mark.slow),
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


@pytest.mark.parametrize("name", ["A", "vgg16-bn", "resnet:ResNet-18"])
def test_timm_loads_it(name: str, tmp_path: Path) -> None:
    torchvision_models()  # which timm imports
    timm = pytest.importorskip("timm")
    net = Net(tmp_path, name, TORCHVISION)
    path = tmp_path / "there.safetensors"
    vggspec.export_weights(net.named, net.weights, to="timm", out=path)
    with torch.device("meta"):
        model = timm.create_model({"A": "vgg11", "vgg16-bn": "vgg16_bn"}.get(name, "resnet18"))
    state = safetensors.torch.load_file(path)
    assert state.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert tensor.ndim == state[key].ndim, key
    net.check_round_trip(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["D", "resnet:ResNet-50"])
def test_timms_class_scores(name: str, tmp_path: Path) -> None:
    """At full width, as timm has no other."""
    torchvision_models()
    timm = pytest.importorskip("timm")
    net = Net(tmp_path, name, TORCHVISION, by=1)
    path = tmp_path / "there.pth"
    vggspec.export_weights(net.named, net.weights, to="timm", out=path)
    x = images(1, 3, 224, 224)
    model = load(timm.create_model("vgg16" if name == "D" else "resnet50"), path)
    with torch.inference_mode():
        found = model(torch.from_numpy(x)).softmax(1).numpy()
    assert disagreement(found, net.posteriors(x)) < 1e-5


@pytest.mark.parametrize(
    ("name", "model", "color"),
    [("D", "VGG16", "RGB"), ("E", "VGG19", "RGB"), ("D", "VGG16", "BGR")],
)
def test_keras_loads_it(name: str, model: str, color: str, tmp_path: Path) -> None:
    """Its models take BGR: the first layer of a net that takes RGB is turned, and turned back."""
    net = Net(tmp_path, name, CAFFE if color == "RGB" else "BGR(mean 103.939 116.779 123.68)")
    pixels = images(1, 224, 224, 3) * 60
    peer = keras_nets.narrowed(model, 8, (224, 224), classes=1000)
    x = pixels if color == "RGB" else pixels[..., ::-1]
    expected = net.posteriors(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    for path in (tmp_path / "there.h5", tmp_path / "there.weights.h5"):
        done = vggspec.export_weights(net.spec, net.weights, to="keras", out=path)
        assert done.is_turned == (color == "RGB")
        keras_nets.randomised(peer, seed=1)
        peer.load_weights(path)
        with torch.inference_mode():
            found = peer(pixels[..., ::-1].copy()).numpy()
        assert disagreement(found, expected) < 1e-5, path
        net.check_round_trip(path)


@pytest.mark.parametrize(
    ("name", "to", "why"),
    [
        ("C", "torchvision", "`conv3_3` is another conv than theirs: 3 × 3"),
        ("A-LRN", "timm", "`norm1_1` is a layer that its nets do not have"),
        ("A", "keras", "it has no VGG-11"),
        ("vgg16-bn", "keras", "it has no VGG-16 with BN"),
        ("resnet50-v1", "torchvision", "`conv3_1_conv1` is another conv than theirs"),
        ("resnet:ResNet-50", "keras", "`conv1` has no bias"),
        ("resnet:ResNet-18", "keras", "its ResNets have blocks of three convs"),
        ("googlenet", "torchvision", "BN alone does not follow"),
        ("densenet:DenseNet-121", "torchvision", "the branches after"),
        ("squeezenet", "timm", ""),
        ("repvgg-a0", "timm", ""),
        ("mobilenetv2", "torchvision", ""),
        ("lpips", "torchvision", "its nets end in three FC layers"),
        ("alexnet", "torchvision", "`norm1` is a layer that its nets do not have"),
    ],
)
def test_what_a_collection_does_not_have_is_refused(
    name: str, to: Any, why: str, tmp_path: Path
) -> None:
    with refused(f"(?s)VGG557.*{to} has no net like `.*{why}.*it has VGG-"):
        vggspec.export_weights(
            name, "no such file", to=to,
            out=tmp_path / ("w.h5" if to == "keras" else "w.pth"),
        )  # fmt: skip


SMALL_D = "\n".join(
    ["conv3-2 x2 maxpool"] * 2 + ["conv3-2 x3 maxpool"] * 3 + ["FC-3 FC-3 FC-2 soft-max"]
)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("conv3-2 x3", "conv3-2 x2"), "2-2-2-3-3-0 convs"),
        (("conv3-2 x2", "conv3-2(linear) x2"), "no ReLU follows `conv1_1`"),
        (("conv3-2 x2", "conv3-2(no-bias) x2"), "`conv1_1` has no bias"),
        (("conv3-2 x2", "conv3-2 BN conv3-2"), "BN follows some convs and not all"),
        (("maxpool", "avgpool"), "`pool1` is another pooling"),
        (("224x224", "256x224"), "a map of 8 × 7, theirs of 7 × 7"),
        (("FC-3 FC-3", "FC-3"), "its nets end in three FC layers"),
        (("FC-3 FC-3", "FC-3 BN FC-3"), "`bn6` is a layer that its nets do not have"),
        (("conv3-2 x2", "conv3-2(groups 2) x2"), "another conv than theirs"),
    ],
)
def test_what_differs_is_named(change: tuple[str, str], why: str, tmp_path: Path) -> None:
    spec = tmp_path / "net.vgg"
    spec.write_text(f"net n\ninput 224x224 RGB\n{SMALL_D}\n".replace(*change, 1))
    if "groups" in change[1]:
        spec.write_text(
            spec.read_text().replace("conv3-2(groups 2) x2", "conv3-2\nconv3-2(groups 2)", 1)
        )
    with refused(why):
        vggspec.export_weights(spec, "no such file", to="torchvision", out=tmp_path / "w.pth")
    assert not (tmp_path / "w.pth").exists()


def test_another_epsilon_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "net.vgg"
    spec.write_text(narrowed("vgg16-bn").text.replace("BN\n", "BN(eps 1e-3)\n", 1))
    with refused("`bn1_1` has eps 0.001, theirs 1e-05"):
        vggspec.export_weights(spec, "no such file", to="torchvision", out=tmp_path / "w.pth")


def small(folder: Path, given: str) -> tuple[Path, Path]:
    spec, weights = folder / "net.vgg", folder / "net.safetensors"
    spec.write_text(f"net n\ninput 224x224 {given}\n{SMALL_D}\n")
    vggspec.initialise(spec, out=weights)
    return spec, weights


@pytest.mark.parametrize("given", ["RGB(mean 1 2 3)", CAFFE, "gray", "RGB"])
def test_another_input_is_refused_unless_it_is_kept(given: str, tmp_path: Path) -> None:
    spec, weights = small(tmp_path, given)
    out = tmp_path / "w.pth"
    with refused("(?s)VGG558.*torchvision gives its nets RGB, .*--keep-input"):
        vggspec.export_weights(spec, weights, to="torchvision", out=out)
    assert not out.exists()
    done = vggspec.export_weights(spec, weights, to="torchvision", out=out, keep_input=True)
    assert done.input.color == given[: len(done.input.color)]
    assert not done.is_turned
    state = torch.load(out, weights_only=True)
    np.testing.assert_array_equal(
        state["features.0.weight"], open_weights(weights).read("conv1_1.weight")
    )


def test_files_that_it_does_not_write(tmp_path: Path) -> None:
    spec, weights = small(tmp_path, TORCHVISION)
    for out, to in (("w.onnx", "torchvision"), ("w.pth", "keras"), ("w.h5", "timm")):
        with pytest.raises(ArgumentError, match="must end in"):
            vggspec.export_weights(spec, weights, to=to, out=tmp_path / out)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="is a file that is read"):
        vggspec.export_weights(spec, weights, to="timm", out=weights)
    with pytest.raises(ArgumentError, match="torchvision, timm or keras"):
        vggspec.export_weights(spec, weights, to="mxnet", out=tmp_path / "w")  # type: ignore[arg-type]


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    spec, weights = small(tmp_path, TORCHVISION)
    spec.write_text(spec.read_text().replace("FC-2", "FC-5"))
    with refused("VGG50"):
        vggspec.export_weights(spec, weights, to="timm", out=tmp_path / "w.pth")
