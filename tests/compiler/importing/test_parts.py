"""Parts of nets, specs that are found, names of classes, and the nets of other libraries."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

import vggspec
from tests.cli.run import vggspec as command
from tests.nets import disagreement, narrowed, random_weights, spec_of_ours
from tests.peers import made, set_statistics, torchvision_models
from tests.refusals import refused
from vggspec.compiler.backends.torch import module as torch_backend
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.importing.closest import closest
from vggspec.compiler.importing.matching import Hints
from vggspec.compiler.weights import open_weights
from vggspec.data.imagenet import imagenet_classes, other_order
from vggspec.training.start import initial_weights


class Notes(vggspec.Watcher):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


SPEC = """\
net small
input 32x32 RGB(mean 0)
conv3-4 BN
maxpool
conv3-6 BN
maxpool
FC-8
FC-5
soft-max
"""


class Small(nn.Module):
    """With torchvision's names."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(384, 8), nn.ReLU(), nn.Linear(8, classes))


@pytest.fixture
def peer() -> Small:
    torch.manual_seed(0)
    net = Small().eval()
    set_statistics(net)
    return net


@pytest.mark.parametrize("has_classifier", [True, False])
def test_the_features_alone(has_classifier: bool, peer: Small, tmp_path: Path) -> None:
    """Into a spec that has a classifier; the file is enough for its features and to start from."""
    state = peer.state_dict() if has_classifier else peer.features.state_dict(prefix="features.")
    torch.save(state, tmp_path / "w.pth")
    (tmp_path / "small.vgg").write_text(SPEC)
    done = command("import", "small.vgg", "w.pth", "--only", "features", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "small-features.safetensors\n"
    assert ("not used: 4 tensors" in done.stderr) == has_classifier
    weights = tmp_path / "small-features.safetensors"
    found = safetensors.numpy.load_file(weights)
    assert {name.split(".")[0] for name in found} == {"conv1_1", "bn1_1", "conv2_1", "bn2_1"}
    np.testing.assert_array_equal(found["conv2_1.weight"], state["features.4.weight"])
    # The whole net lacks its classifier; its features are there.
    with refused("(?s)VGG503.*fc3.weight is missing"):
        vggspec.torch_module(tmp_path / "small.vgg", weights)
    given = vggspec.CompileOptions(layer="pool2")
    vggspec.compile(tmp_path / "small.vgg", weights=weights, out=tmp_path / "b", options=given)
    mine = tmp_path / "mine.vgg"
    text = SPEC.replace("net small", "net mine").replace("FC-5", "FC-3")
    mine.write_text(f'{text}train:\n  start from "small.vgg": first 2 conv\n')
    lowered = vggspec.compiler.lower.load_network(str(mine))
    started = dict(initial_weights(lowered, 0, tmp_path / "runs", [weights]))
    np.testing.assert_array_equal(started["conv1_1.weight"], state["features.0.weight"])
    np.testing.assert_array_equal(started["bn2_1.running_var"], state["features.5.running_var"])
    mine.write_text(f'{text}train:\n  start from "small.vgg": all but last FC\n')
    lowered = vggspec.compiler.lower.load_network(str(mine))
    with refused("(?s)VGG503.*fc3.weight is missing"):
        dict(initial_weights(lowered, 0, tmp_path / "runs", [weights]))


def test_a_part_that_the_net_does_not_have(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "w.pth")
    (tmp_path / "n.vgg").write_text("input 8x8 RGB(mean 0)\nconv3-4(no-bias)\n")
    options = vggspec.ImportOptions(only="features")
    with pytest.raises(vggspec.ArgumentError, match="leave out --only"):
        vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "w.pth", options=options)


def zeros(net: str, path: Path, *, without: str = "") -> Path:
    """A checkpoint with the shapes of a spec of ours and the names of its layers."""
    params = [param for param in spec_of_ours(net).network.params() if param.name != without]
    arrays = {param.name: np.zeros(param.stored, np.float32) for param in params}
    safetensors.numpy.save_file(arrays, path)
    return path


@pytest.mark.parametrize(
    "net", ["squeezenet", "mobilenetv2", "densenet:DenseNet-121", "resnet:ResNet-18", "digits"]
)
def test_the_spec_is_found(net: str, tmp_path: Path) -> None:
    found, matched = closest(read_checkpoint(zeros(net, tmp_path / "w")), Hints())
    assert found == net
    assert not matched.unused


def test_specs_that_differ_in_what_has_no_weights(tmp_path: Path) -> None:
    path = zeros("resnet:ResNet-50", tmp_path / "w")
    with refused("(?s)VGG572.*resnet:ResNet-50, resnet50-v1.*name the one"):
        closest(read_checkpoint(path), Hints())


def test_the_closest_is_named_where_none_fits(tmp_path: Path) -> None:
    state = made("squeezenet1_0", num_classes=7).state_dict()
    torch.save(state, tmp_path / "w.pth")
    done = command("import", "w.pth", cwd=tmp_path)
    assert done.returncode == 1
    assert "VGG571" in done.stderr
    assert "the closest is `squeezenet`: " in done.stderr
    assert "vggspec specs squeezenet > mine.vgg" in done.stderr
    assert command("import", "a", "b", "c", cwd=tmp_path).returncode == 2


def test_torchvisions_net_beside_ours(tmp_path: Path) -> None:
    """Without naming the spec, and its scores compared with those of torchvision."""
    state = made("squeezenet1_0").state_dict()
    torch.save(state, tmp_path / "w.pth")
    notes = Notes()
    options = vggspec.ImportOptions(source="torchvision", check=True)
    out = tmp_path / "out"
    found = vggspec.import_weights(None, tmp_path / "w.pth", out=out, options=options, watch=notes)
    assert found.spec == "squeezenet"
    assert found.compared is not None
    assert found.compared.peer == "torchvision's squeezenet1_0"
    assert found.compared.error < 1e-5
    assert any("the spec is squeezenet" in text for text in notes.texts)
    assert found.labels == imagenet_classes()
    assert any("labels: ImageNet's 1000 classes" in text for text in notes.texts)
    assert open_weights(out).metadata.labels == imagenet_classes()


def test_scores_that_differ_are_noticed(tmp_path: Path) -> None:
    """RGB swapped on purpose, and poolings that round down: neither has weights."""
    torch.save(made("squeezenet1_0").state_dict(), tmp_path / "w.pth")
    text = spec_of_ours("squeezenet").text
    assert "(ceil)" in text
    lines = text.replace("(ceil)", "").splitlines()
    (tmp_path / "floor.vgg").write_text("\n".join(line for line in lines if "MACs" not in line))
    out = tmp_path / "out"
    for spec, more in (("squeezenet", {"bgr": True}), (tmp_path / "floor.vgg", {})):
        given: dict[str, Any] = {"source": "torchvision", "check": True, **more}
        with refused("(?s)VGG573.*torchvision's squeezenet1_0"):
            vggspec.import_weights(
                spec, tmp_path / "w.pth", out=out, options=vggspec.ImportOptions(**given)
            )
        assert not out.exists()


def test_there_may_be_nothing_to_compare_with(peer: Small, tmp_path: Path) -> None:
    torchvision_models()
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    (tmp_path / "small.vgg").write_text(SPEC)
    for source in ("torchvision", "keras"):
        options = vggspec.ImportOptions(source=source, check=True)
        (tmp_path / "small.vgg").write_text(SPEC.replace("(mean 0)", ""))
        with refused("VGG574"):
            vggspec.import_weights(
                tmp_path / "small.vgg", tmp_path / "w.pth", out=tmp_path / "o", options=options
            )


def timm_vgg16(by: int) -> nn.Module:
    """timm's own VGG-16 with a part of its channels; its first FC layer is 7 × 7 there too."""
    torchvision_models()
    vgg = pytest.importorskip("timm.models.vgg", reason="needs timm: pip install --no-deps timm")
    torch.manual_seed(0)
    cfg = [width if width == "M" else width // by for width in vgg.cfgs["vgg16"]]
    net: nn.Module = vgg.VGG(cfg, num_classes=1000, mlp_ratio=1 / 64)
    return net.eval()


def test_timms_vgg16(tmp_path: Path) -> None:
    peer = timm_vgg16(32)
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    assert {"pre_logits.fc1.weight", "head.fc.weight"} <= set(peer.state_dict())
    text = narrowed("D", 32).text.replace("FC-128", "FC-64", 1).replace("FC-128", "FC-4096", 1)
    (tmp_path / "n.vgg").write_text(text)
    out = tmp_path / "out"
    found = vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "w.pth", out=out)
    assert (found.expected.source, found.labels) == ("timm", imagenet_classes())
    x = torch.randn(2, 3, 224, 224)
    lowered = vggspec.compiler.lower.load_network(str(tmp_path / "n.vgg"))
    ours = torch_backend.loaded(lowered.network, open_weights(out)).eval()
    with torch.inference_mode():
        expected = peer(x).softmax(1)
        assert disagreement(ours(x.clone()).numpy(), expected.numpy()) < 1e-5


@pytest.mark.slow
def test_timms_net_beside_ours(tmp_path: Path) -> None:
    torchvision_models()
    timm = pytest.importorskip("timm", reason="needs timm: pip install --no-deps timm")
    torch.save(timm.create_model("vgg16_bn").state_dict(), tmp_path / "w.pth")
    options = vggspec.ImportOptions(check=True)
    found = vggspec.import_weights(None, tmp_path / "w.pth", out=tmp_path / "o", options=options)
    assert found.spec == "vgg16-bn"
    assert found.compared is not None
    assert found.compared.peer == "timm's vgg16_bn"


def test_the_usual_order_is_torchvisions() -> None:
    torchvision_models()
    meta = pytest.importorskip("torchvision.models._meta")
    usual = imagenet_classes()
    assert usual == tuple(meta._IMAGENET_CATEGORIES)
    assert other_order(usual) is None
    assert other_order([*usual[500:], *usual[:500]]) == "another order"
    kit_fox = usual.index("kit fox")
    devkit = ["kit fox", *usual[:kit_fox], *usual[kit_fox + 1 :]]
    assert other_order(devkit) == "the order of the ILSVRC development kit"
    ids = [f"n{i:08d}" for i in range(1000)]
    assert other_order(ids) is None
    assert other_order(["n02119789", *ids[1:]]) == "the order of the ILSVRC development kit"
    assert other_order([f"species {i}" for i in range(1000)]) is None
    assert other_order(usual[:10]) is None


@pytest.mark.parametrize("classes", [1000, 1001])
def test_tf_slims_background_class(classes: int, tmp_path: Path) -> None:
    lowered = narrowed("A", 64)
    text = lowered.text.replace("FC-1000", f"FC-{classes}")
    (tmp_path / "n.vgg").write_text(text)
    network = vggspec.network(tmp_path / "n.vgg")
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in network.layers:
        for param in layer.params:
            owner, part = param.name.split(".")
            array = rng.standard_normal(param.stored, np.float32)
            if part == "weight":
                is_first = owner == "fc6"
                shape = (array.shape[0], -1, 7, 7) if is_first else (*array.shape, 1, 1)
                kernel = array if array.ndim == 4 else array.reshape(shape)
                array = kernel.transpose(2, 3, 1, 0)
            stage = f"{owner.partition('_')[0]}/{owner}" if "conv" in owner else owner
            arrays[f"vgg_a/{stage}/{'weights' if part == 'weight' else 'biases'}"] = array
    np.savez(tmp_path / "w.npz", **arrays)
    out = tmp_path / "out"
    found = vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "w.npz", out=out)
    assert found.expected.source == "tf-slim"
    assert found.labels is not None
    assert len(found.labels) == classes
    assert found.labels[0] == ("tench" if classes == 1000 else "background")
    if classes == 1001:
        (tmp_path / "n.vgg").write_text(lowered.text)
        with refused("(?s)VGG505.*1001 classes.*background.*write FC-1001"):
            vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "w.npz", out=out)


def test_mlx_rows_columns_channels(tmp_path: Path) -> None:
    """What MLX writes (``mlx.nn`` keeps kernels as out, rows, columns, in) as an npz; its first FC
    layer takes rows, columns, channels.
    """
    lowered = narrowed("A", 64)
    (tmp_path / "n.vgg").write_text(lowered.text.replace("224x224", "64x96"))
    network = vggspec.network(tmp_path / "n.vgg")
    path = tmp_path / "own.safetensors"
    random_weights(vggspec.compiler.lower.load_network(str(tmp_path / "n.vgg")), path)
    own = safetensors.numpy.load_file(path)
    arrays = {}
    for i, layer in enumerate(layer for layer in network.layers if layer.params):
        weight = own[f"{layer.name}.weight"]
        if weight.ndim == 4:
            weight = weight.transpose(0, 2, 3, 1)
        elif layer.name == "fc6":
            weight = weight.reshape(len(weight), -1, 2, 3).transpose(0, 2, 3, 1)
            weight = weight.reshape(len(weight), -1)
        arrays |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": own[f"{layer.name}.bias"]}
    np.savez(tmp_path / "w.npz", **arrays)
    out = tmp_path / "out"
    options = vggspec.ImportOptions(source="torchvision")
    found = vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "w.npz", out=out, options=options)
    assert found.matched.layout == "ohwi"
    for name, array in safetensors.numpy.load_file(out).items():
        np.testing.assert_array_equal(array, own[name])
