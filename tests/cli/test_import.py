"""``vggspec import``: checkpoints of other tools give the numbers that their own nets give."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import vggspec as library
from tests.cli.run import vggspec
from vggspec.cli import run
from vggspec.compiler.weights import open_weights

SPEC = """\
net tv
input 32x32 RGB
conv3-8 BN
maxpool
conv3-12 BN  conv3-14 BN  conv3-16 BN
maxpool
FC-24
FC-20
FC-5
soft-max
"""


class Torchvision(nn.Module):
    """A net with torchvision's names, and weights in features.10, which sorts after features.4."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (8, 0, 12, 14, 16, 0):
            if width:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if norm else []
                layers.append(nn.ReLU())
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 64, 24), nn.ReLU(), nn.Dropout(),
            nn.Linear(24, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1)).softmax(1)


@pytest.fixture
def peer() -> Torchvision:
    torch.manual_seed(0)
    module = Torchvision()
    for layer in module.features:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return module.eval()


def timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """FC layers as timm keeps them: the first two as convolutions, out of alphabetical order."""
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2",
             "classifier.6": "head.fc"}  # fmt: skip
    found = {}
    for key, tensor in state.items():
        owner, _, part = key.rpartition(".")
        if owner in names and part == "weight" and owner != "classifier.6":
            side = 8 if owner == "classifier.0" else 1
            tensor = tensor.reshape(tensor.shape[0], -1, side, side)
        found[f"{names.get(owner, owner)}.{part}"] = tensor
    return found


@pytest.mark.parametrize("kind", ["pth", "wrapped", "safetensors", "npz", "timm", "bfloat16"])
def test_the_numbers_are_the_peers(kind: str, peer: Torchvision, tmp_path: Path) -> None:
    state = dict(peer.state_dict())
    path = tmp_path / {"npz": "w.npz", "pth": "w.pth", "wrapped": "w.pth"}.get(
        kind, "w.safetensors"
    )
    if kind == "pth":
        torch.save(state, path)
    elif kind == "wrapped":
        torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    elif kind == "npz":
        np.savez(path, **{k: v.numpy() for k, v in state.items()})
    else:
        if kind == "timm":
            state = timm_names(state)
        if kind == "bfloat16":
            state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
            peer.load_state_dict(state)
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    (tmp_path / "tv.vgg").write_text(SPEC)
    done = vggspec("import", "tv.vgg", path.name, "-o", "out.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out.safetensors\n"
    assert "/ (58.395 57.12 57.375)" in done.stderr
    module = library.torch_module(str(tmp_path / "tv.vgg"), tmp_path / "out.safetensors").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x.clone()), peer(x))


def test_bgr_is_turned(peer: Torchvision, tmp_path: Path) -> None:
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    (tmp_path / "tv.vgg").write_text(SPEC)
    assert vggspec("import", "tv.vgg", "w.pth", "--bgr", cwd=tmp_path).returncode == 0
    module = library.torch_module(str(tmp_path / "tv.vgg"), tmp_path / "tv.safetensors").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(module(x.flip(1)), peer(x))


def test_labels_go_with_the_weights(peer: Torchvision, tmp_path: Path) -> None:
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    (tmp_path / "tv.vgg").write_text(SPEC)
    (tmp_path / "names").write_text("ant\nbee\ncat\ndog\nelk\n")
    assert vggspec("import", "tv.vgg", "w.pth", "--labels", "names", cwd=tmp_path).returncode == 0
    labels = open_weights(tmp_path / "tv.safetensors").metadata.labels
    assert labels == ("ant", "bee", "cat", "dog", "elk")
    (tmp_path / "names").write_text("ant\nbee\n")
    done = vggspec("import", "tv.vgg", "w.pth", "--labels", "names", cwd=tmp_path)
    assert done.returncode == 1
    assert "2 labels for 5 classes" in done.stderr


@pytest.mark.parametrize("target", ["tv.safetensors", "tv.vgg", "names", None])
def test_what_is_read_is_not_replaced(
    target: str | None, peer: Torchvision, tmp_path: Path
) -> None:
    checkpoint, spec, names = (tmp_path / name for name in ("tv.safetensors", "tv.vgg", "names"))
    safetensors.torch.save_file(peer.state_dict(), checkpoint)
    spec.write_text(SPEC)
    names.write_text("ant\nbee\ncat\ndog\nelk\n")
    before = [path.read_bytes() for path in (checkpoint, spec, names)]
    out = ["-o", target] if target else []
    done = vggspec("import", spec, checkpoint, "--labels", names, *out, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"`{target or 'tv.safetensors'}` is a file that is read" in done.stderr
    assert [path.read_bytes() for path in (checkpoint, spec, names)] == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("other net", "it has 6 weight layers, net tv 7"),
        ("shape", "`classifier.6.weight` is 7 × 20, `fc5` needs 5 × 20"),
        ("nan", "not finite"),
        ("cut off", "VGG551"),
        ("text", "VGG550"),
        ("pickle", "VGG552"),
        ("empty", "VGG554"),
        ("missing", "VGG510"),
        ("folder", "VGG510"),
    ],
)
def test_what_is_refused(damage: str, words: str, peer: Torchvision, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = dict(peer.state_dict())
    if damage == "other net":
        del state["features.0.weight"], state["features.0.bias"]
    elif damage == "shape":
        state["classifier.6.weight"] = torch.zeros(7, 20)
    elif damage == "nan":
        state["classifier.6.weight"] = torch.full((5, 20), torch.nan)
    torch.save(state, path)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("hello")
    elif damage == "pickle":
        torch.save(peer, path)  # code, which is not loaded
    elif damage == "empty":
        torch.save({}, path)
    elif damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    (tmp_path / "tv.vgg").write_text(SPEC)
    done = vggspec("import", "tv.vgg", "w.pth", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "tv.safetensors").exists()


def test_what_was_taken_is_said(peer: Torchvision, tmp_path: Path) -> None:
    (tmp_path / "tv.vgg").write_text(SPEC)
    average = {name: tensor + 1 for name, tensor in peer.state_dict().items()}
    more = {"index": torch.arange(3)}
    torch.save({"model": peer.state_dict() | more, "model_ema": average}, tmp_path / "w.pth")
    done = vggspec("import", "tv.vgg", "w.pth", "-o", "plain", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        "note:   took the table `model`, not the moving average; `--key model_ema` takes that one\n"
        "note:   left out 1 tensor without floating point numbers: `index`\n"
    ) in done.stderr
    done = vggspec("import", "tv.vgg", "w.pth", "--key", "model_ema", "-o", "ema", cwd=tmp_path)
    assert done.returncode == 0
    plain, ema = (open_weights(tmp_path / name).read("conv1_1.bias") for name in ("plain", "ema"))
    np.testing.assert_array_equal(ema, plain + 1)


def test_an_end_of_file_in_the_work_is_not_ctrl_d(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """click takes any EOFError for an interrupt, which is said with code 130."""

    def read(*_: object) -> None:
        raise EOFError

    (tmp_path / "tv.vgg").write_text(SPEC)
    monkeypatch.setattr("vggspec.compiler.importing.converting.read_checkpoint", read)
    with pytest.raises(EOFError):
        run(["import", str(tmp_path / "tv.vgg"), "w.npz"])


def test_weights_of_our_own_keep_what_their_header_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The way to go on with trained weights that were edited elsewhere."""
    spec = tmp_path / "net.vgg"
    spec.write_text("net n\ninput 8x8 RGB\nconv3-4\nFC-2\nsoft-max\n")
    shapes = {"conv1_1.weight": (4, 3, 3, 3), "conv1_1.bias": (4,)}
    shapes |= {"fc2.weight": (2, 256), "fc2.bias": (2,)}
    edited = {name: torch.rand(shape) for name, shape in shapes.items()}
    said = {"format": "pt", "vggspec.mean": "[120.0, 110.0, 100.0]"}
    said |= {"vggspec.labels": '["cat", "dog"]'}
    path, out = tmp_path / "edited.safetensors", tmp_path / "new.safetensors"
    # As a version wrote it that said no more, and another program after it.
    safetensors.torch.save_file(edited, path, {**said, "vggspec.data_sha256": "0" * 64})
    for more in ((), ("--from", "spec")):
        assert run(["import", str(spec), str(path), "-o", str(out), *more]) == 0
        metadata = open_weights(out).metadata
        assert metadata.mean == (120.0, 110.0, 100.0)
        assert metadata.labels == ("cat", "dog")
        assert "x - (120 110 100)" in capsys.readouterr().err
    assert run(["import", str(spec), str(path), "-o", str(out), "--bgr"]) == 1


def test_branches_that_the_order_alone_tells_apart_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "n.vgg").write_text("input 8x8 RGB(mean 0)\n[conv3-4 & conv3-4] as mix\ngap FC-3\n")
    parts = {"left": nn.Conv2d(3, 4, 3), "right": nn.Conv2d(3, 4, 3), "fc": nn.Linear(8, 3)}
    torch.save(nn.ModuleDict(parts).state_dict(), tmp_path / "n.pt")
    given = [str(tmp_path / "n.vgg"), str(tmp_path / "n.pt"), "-o", str(tmp_path / "o")]
    assert run(["import", *given]) == 0
    said = capsys.readouterr().err
    assert "matched by the order in the file only: mix_conv1, mix_conv2\n" in said
    assert run(["import", *given, "--map", "mix_conv1=left", "--map", "mix_conv2=right"]) == 0
    assert "branches matched" not in capsys.readouterr().err
