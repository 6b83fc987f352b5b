"""What weights expect of their input: recognised, told, written down, taken into every bundle."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import safetensors.numpy
import torch
from torch import nn
from torch.nn import functional

import vggspec
from tests.peers import set_statistics
from tests.refusals import refused
from vggspec.cli import run
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.lower import load_network
from vggspec.compiler.weights import open_weights

#: torchvision's net A, 11 weight layers, with a 64th of its channels.
CONFIGURATION = (1, 0, 2, 0, 4, 4, 0, 8, 8, 0, 8, 8, 0)
LAYERS = "\n".join(f"conv3-{width}" if width else "maxpool" for width in CONFIGURATION)
TAIL = f"{LAYERS}\nFC-9\nFC-9\nFC-4\nsoft-max\n"
SPEC = f"net n\ninput 64x96 RGB\n{TAIL}"

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CAFFE = (103.939, 116.779, 123.68)


class Torchvision(nn.Module):
    """As ``torchvision.models.vgg11``, on windows of 2 × 3."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in CONFIGURATION:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 3))
        self.classifier = nn.Sequential(
            nn.Linear(48, 9), nn.ReLU(True), nn.Dropout(),
            nn.Linear(9, 9), nn.ReLU(True), nn.Dropout(), nn.Linear(9, 4),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.normal_(module.bias, std=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


@pytest.fixture
def peer() -> Torchvision:
    torch.manual_seed(0)
    return Torchvision().eval()


def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (1, 64, 96, 3), np.uint8)


def of_torchvision(peer: Torchvision) -> np.ndarray:
    """The pixels as ``VGG11_Weights.IMAGENET1K_V1.transforms()`` gives them, once cropped."""
    x = torch.from_numpy(pixels()).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    with torch.inference_mode():
        x = (x - mean[:, None, None]) / std[:, None, None]
        return functional.softmax(peer(x), 1)[0].numpy()


class Folder:
    """A spec, a checkpoint, and what comes of them."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self._capsys = path, capsys
        self.spec, self.weights = str(path / "n.vgg"), str(path / "n.safetensors")
        self.write(SPEC)

    def write(self, spec: str) -> None:
        Path(self.spec).write_text(spec)

    def imported(self, checkpoint: str, *options: str, code: int = 0) -> str:
        """What `import` says."""
        path = str(self.path / checkpoint)
        found = run(["import", self.spec, path, "-o", self.weights, *options])
        said = self._capsys.readouterr().err
        assert found == code, said
        return said

    def compiled(self, *options: str, code: int = 0) -> str:
        bundle = str(self.path / "b")
        found = run(["compile", self.spec, "--weights", self.weights, "-o", bundle, *options])
        said = self._capsys.readouterr().err
        assert found == code, said
        return said

    def manifest(self, bundle: str = "b") -> dict:
        return json.loads((self.path / bundle / "manifest.json").read_text())

    def posteriors(self, bundle: str = "b") -> np.ndarray:
        """Of the pixels as they are, by a bundle that takes those."""
        session = ort.InferenceSession(self.path / bundle / "1" / "model.onnx")
        return session.run(None, {"image": pixels()})[0][0]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def renamed(state: dict[str, torch.Tensor], way: str) -> dict[str, torch.Tensor]:
    if way == "timm":
        names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2",
                 "classifier.6": "head.fc"}  # fmt: skip
        state = {
            name.replace(owner, names.get(owner, owner)): tensor
            for name, tensor in state.items()
            for owner in [name.rpartition(".")[0]]
        }
    elif way == "mmpretrain":
        return {
            "backbone." + re.sub(r"features\.(\d+)", r"features.\1.conv", name): tensor
            for name, tensor in state.items()
        }
    prefix = way if way.endswith(".") else ""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "way", ["torchvision", "module.", "model.", "net.vgg.", "timm", "mmpretrain"]
)
def test_torchvisions_arithmetic(way: str, peer: Torchvision, folder: Folder) -> None:
    """The documentation's own example: its spec says nothing of how pixels are normalised."""
    torch.save(renamed(peer.state_dict(), way), folder.path / "w.pth")
    said = folder.imported("w.pth")
    name = way if way in ("timm", "mmpretrain") else "torchvision"
    assert f"as {name} normalises it, by the layers' names; `--from` says otherwise" in said
    assert max(map(len, said.splitlines())) <= 80
    said = folder.compiled("--input", "raw")
    assert f"as the weights expect ({name})" in said
    np.testing.assert_allclose(folder.posteriors(), of_torchvision(peer), rtol=1e-3)


def test_every_bundle_takes_it(peer: Torchvision, folder: Folder) -> None:
    torch.save(peer.state_dict(), folder.path / "w.pth")
    folder.imported("w.pth")
    metadata = open_weights(folder.weights).metadata
    assert (metadata.mean, metadata.std, metadata.scale) == (MEAN, STD, 1)
    assert (metadata.color, metadata.source) == ("RGB", "torchvision")
    for options in ((), ("--precision", "fp16"), ("--crop",)):
        folder.compiled(*options)
        assert folder.manifest()["input"]["mean"] == list(MEAN)
        assert folder.manifest()["input"]["std"] == list(STD)
    module = vggspec.torch_module(folder.spec, folder.weights)
    assert (module.network.input.mean, module.network.input.std) == (MEAN, STD)

    from vggspec.bundle.opening import open_bundle
    from vggspec.compiler.bundling.variant import Changes, write_variant

    folder.compiled("--input", "raw")
    before = folder.posteriors()
    write_variant(open_bundle(folder.path / "b"), folder.path / "v", Changes(keep_map=True))
    assert folder.manifest("v")["input"] == folder.manifest()["input"]
    np.testing.assert_array_equal(folder.posteriors("v"), before)

    folder.compiled("--protocol")
    (member,) = folder.manifest()["members"]
    assert (member["input"]["mean"], member["input"]["std"]) == ([*MEAN], [*STD])
    session = ort.InferenceSession(folder.path / "b" / "1" / "model.onnx")
    asked = {"picture": pixels()[0], "scales": np.array([64])}
    mirrored = pixels()[:, :, ::-1].copy()
    raw = folder.path / "raw"
    assert (
        run(["compile", folder.spec, "--weights", folder.weights, "--input", "raw", "-o", str(raw)])
        == 0
    )
    whole = ort.InferenceSession(raw / "1" / "model.onnx")
    both = [whole.run(None, {"image": image})[0][0] for image in (pixels(), mirrored)]
    np.testing.assert_allclose(session.run(None, asked)[0], np.mean(both, 0), rtol=1e-3)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("way", ["--from caffe", "--bgr", "keras"])
def test_nets_that_see_bgr(way: str, color: str, peer: Torchvision, folder: Folder) -> None:
    """jcjohnson's conversions have torchvision's names, and the authors' weights."""
    state = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    if way == "keras":
        owners = iter(["block1_conv1", "block2_conv1", "block3_conv1", "block3_conv2",
                       "block4_conv1", "block4_conv2", "block5_conv1", "block5_conv2",
                       "fc1", "fc2", "predictions"])  # fmt: skip
        weights, owner = {}, ""
        for name, tensor in state.items():
            owner = next(owners) if name.endswith("weight") else owner
            if tensor.ndim == 4:
                tensor = tensor.transpose(2, 3, 1, 0)
            elif name == "classifier.0.weight":
                tensor = tensor.reshape(9, 8, 2, 3).transpose(2, 3, 1, 0).reshape(48, 9)
            part = "bias" if name.endswith("bias") else "kernel"
            weights[f"{owner}/{part}:0"] = tensor.T if tensor.shape in ((9, 9), (4, 9)) else tensor
        np.savez(folder.path / "w.npz", **weights)
    else:
        torch.save(peer.state_dict(), folder.path / "w.npz.pth")
    if way == "--bgr" and color == "BGR":
        return  # the option turns to RGB
    folder.write(SPEC.replace("RGB", color))
    checkpoint = "w.npz" if way == "keras" else "w.npz.pth"
    said = folder.imported(checkpoint, *(() if way == "keras" else way.split()))
    assert f"as {'keras' if way == 'keras' else 'caffe'} normalises it" in said
    assert ("the first layer was turned to RGB" in said) == (color == "RGB")
    folder.compiled("--input", "raw")
    x = torch.from_numpy(pixels()[..., ::-1] - np.array(CAFFE, np.float32))
    with torch.inference_mode():
        expected = functional.softmax(peer(x.float().permute(0, 3, 1, 2)), 1)[0]
    np.testing.assert_allclose(folder.posteriors(), expected.numpy(), rtol=1e-3)
    mean = folder.manifest()["input"]["mean"]
    assert mean == list(CAFFE if color == "BGR" else CAFFE[::-1])


def test_what_nobody_says_is_asked_for(peer: Torchvision, folder: Folder) -> None:
    names = [f"layer{i}.{part}" for i in range(11) for part in ("weight", "bias")]
    torch.save(dict(zip(names, peer.state_dict().values(), strict=True)), folder.path / "w.pth")
    said = folder.imported("w.pth", code=1)
    assert "VGG542" in said
    assert "--from torchvision" in said
    assert not Path(folder.weights).exists()
    assert "VGG542" in folder.imported("w.pth", "--from", "spec", code=1)
    folder.imported("w.pth", "--from", "tf-slim")
    assert open_weights(folder.weights).metadata.mean == CAFFE[::-1]
    folder.write(SPEC.replace("RGB", "RGB(mean 1 2 3, scale 0.5)"))
    folder.imported("w.pth")
    metadata = open_weights(folder.weights).metadata
    assert (metadata.mean, metadata.std, metadata.scale) == ((1, 2, 3), None, 0.5)
    assert metadata.source == "spec"


SAID = "RGB(mean 123.68 116.779 103.939)"


def test_a_spec_that_says_something_else_is_refused(peer: Torchvision, folder: Folder) -> None:
    torch.save(peer.state_dict(), folder.path / "w.pth")
    folder.write(SPEC.replace("RGB", SAID))
    said = folder.imported("w.pth", code=1)
    assert "VGG543" in said
    assert "x - (123.68 116.779 103.939)" in said
    assert "(x - (123.675 116.28 103.53)) / (58.395 57.12 57.375)" in said
    assert "--from spec" in said
    folder.imported("w.pth", "--from", "spec")
    assert open_weights(folder.weights).metadata.std is None
    folder.compiled()
    # Imported with one spec, compiled with another.
    folder.write(SPEC)
    folder.imported("w.pth")
    folder.write(SPEC.replace("RGB", SAID))
    for options in ((), ("--protocol",)):
        said = folder.compiled(*options, code=1)
        assert "VGG543" in said
        assert "input 64x96 RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)" in said
    with refused("VGG543"):
        vggspec.torch_module(folder.spec, folder.weights)
    # Of another order of channels the remedy is to turn the first layer.
    folder.write(SPEC.replace("RGB", "BGR"))
    assert "or import the weights again for this spec, which turns" in folder.compiled(code=1)
    Path(folder.weights).rename(folder.path / "rgb.safetensors")
    folder.imported("rgb.safetensors")
    folder.compiled("--input", "raw")
    np.testing.assert_allclose(folder.posteriors(), of_torchvision(peer), rtol=1e-3)


@pytest.mark.parametrize(
    "said",
    ["RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)",
     "RGB(mean 123.68 116.28 103.53, std 58.4 57.12 57.38)", "RGB(std 58.395 57.12 57.375)"],
)  # fmt: skip
def test_a_spec_that_says_the_same_is_taken(said: str, peer: Torchvision, folder: Folder) -> None:
    torch.save(peer.state_dict(), folder.path / "w.pth")
    folder.write(SPEC.replace("RGB", said))
    folder.imported("w.pth")
    folder.compiled("--input", "raw")
    np.testing.assert_allclose(folder.posteriors(), of_torchvision(peer), rtol=1e-3)


def test_a_small_net_with_torchvisions_names_is_its_specs(folder: Folder) -> None:
    """Where the spec says how it is normalised: those of the collections have 8 convs and more."""
    head = "net n\ninput 8x8 RGB{}\nconv3-4\nmaxpool\nFC-3\nsoft-max\n"
    net = nn.Sequential()
    net.features = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.classifier = nn.Sequential(nn.Linear(64, 3))
    torch.save(net.state_dict(), folder.path / "w.pth")
    folder.write(head.format("(mean 128, std 60)"))
    assert "(x - (128 128 128)) / (60 60 60)" in folder.imported("w.pth")
    folder.write(head.format(""))
    assert "as torchvision normalises it" in folder.imported("w.pth")


def test_features_alone_were_trained_on_pixels_of_caffe(peer: Torchvision, folder: Folder) -> None:
    """``VGG16_Weights.IMAGENET1K_FEATURES`` has a classifier of NaN, and a std of 1 / 255."""
    state = peer.state_dict()
    for name in state:
        if name.startswith("classifier"):
            state[name].fill_(torch.nan)
    torch.save(state, folder.path / "w.pth")
    folder.write(f"net f\ninput 64x96 RGB\n{LAYERS}\n")
    said = folder.imported("w.pth")
    assert "not used: 6 tensors" in said
    assert "x - (123 117 104)" in said
    folder.write(SPEC)
    assert "`fc6` takes `classifier.0.weight`" in folder.imported("w.pth", code=1)


def test_grey_nets_are_nobodys(folder: Folder) -> None:
    net = nn.Sequential()
    net.features = nn.Sequential(nn.Conv2d(1, 4, 3))
    net.classifier = nn.Sequential(nn.Linear(64, 3))
    torch.save(net.state_dict(), folder.path / "w.pth")
    folder.write("net n\ninput 8x8 gray\nconv3-4\nmaxpool\nFC-3\nsoft-max\n")
    said = folder.imported("w.pth", code=1)
    assert "VGG542" in said
    assert "input 8x8 gray(mean" in said
    assert "--from" not in said
    assert "gray" in folder.imported("w.pth", "--from", "torchvision", code=2)


def test_the_first_fc_is_turned_by_channels(folder: Folder) -> None:
    """Not by columns, of which it has one for every pixel."""
    rng = np.random.default_rng(0)
    weight = rng.random((2, 12), np.float32)
    tensors = {"a.weight": weight, "a.bias": np.zeros(2, np.float32)}
    safetensors.numpy.save_file(tensors, folder.path / "w.safetensors")
    folder.write("net n\ninput 2x2 RGB\nFC-2\nsoft-max\n")
    folder.imported("w.safetensors", "--from", "caffe", "--layout", "oihw")
    found = safetensors.numpy.load_file(folder.weights)["fc1.weight"]
    blue_first = weight.reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(found.reshape(2, 3, 2, 2), blue_first[:, ::-1])


def of_own_weights(first: str, folder: Path, *, is_bgr: bool) -> torch.Tensor:
    """What a net that begins so makes of noise, as RGB with its weights turned, or as BGR."""
    spec, ours, turned = (folder / name for name in ("n.vgg", "n.pth", "n.safetensors"))
    spec.write_text(f"net n\ninput 9x7 RGB(mean 0)\n{first} FC-3\n")
    torch.manual_seed(0)
    module = torch_module.emit(load_network(spec).network)
    set_statistics(module)
    torch.save(module.state_dict(), ours)
    options = vggspec.ImportOptions(bgr=is_bgr)
    vggspec.import_weights(spec, ours, out=turned, options=options)
    x = torch.randn(2, 3, 9, 7)
    found = torch_module.loaded(load_network(spec).network, open_weights(turned)).eval()
    with torch.inference_mode():
        scores: torch.Tensor = found(x if is_bgr else x.flip(1))
    return scores


@pytest.mark.parametrize(
    "first",
    ["conv3-4 gap", "[conv3-4 & maxpool3/1(pad 1) conv1-2] gap", "BN maxpool conv3-4", "FC-5"],
)
def test_all_that_reads_the_image_is_turned(first: str, tmp_path: Path) -> None:
    turned = of_own_weights(first, tmp_path, is_bgr=True)
    torch.testing.assert_close(turned, of_own_weights(first, tmp_path, is_bgr=False))


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("dwconv3 gap", "`conv1_1` has groups"),
        ("conv3-6(groups 3) gap", "`conv1_1` has groups"),
        ("[identity & conv3-4] gap", "`block1_concat` reads the image beside other maps"),
    ],
)
def test_what_mixes_colours_with_others_cannot_be_turned(
    first: str, why: str, tmp_path: Path
) -> None:
    with refused(re.escape(f"{why}, and cannot be turned from BGR to RGB or back")):
        of_own_weights(first, tmp_path, is_bgr=True)
