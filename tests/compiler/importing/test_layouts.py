"""Nets as PyTorch, MLX and Keras compute them, imported: the posteriors are those of each."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from vggspec.cli import run

FloatArray = NDArray[np.float32]

#: 12 × 20 pixels and two poolings make maps of 3 × 5, of 6 channels: no two sides are alike.
SPEC = """\
net n
input 12x20 RGB(mean 120 110 100, std 58 57 56)
conv3-4
maxpool
conv1x3-5  conv3-6
maxpool
FC-7
FC-7
FC-3
soft-max
"""
MEAN, STD = (120, 110, 100), (58, 57, 56)
CONVS = (((3, 3), 3, 4), ((1, 3), 4, 5), ((3, 3), 5, 6))
POOLED = (0, 2)
FCS = ((90, 7), (7, 7), (7, 3))


def image() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (1, 12, 20, 3), np.uint8)


def drawn() -> dict[str, FloatArray]:
    """Kernels as rows, columns, in, out, and matrices as in, out."""
    rng = np.random.default_rng(0)
    shapes = [(*window, inputs, out) for window, inputs, out in CONVS] + [*FCS]
    weights = {f"w{i}": rng.normal(0, 0.4, shape) for i, shape in enumerate(shapes)}
    biases = {f"b{i}": rng.normal(0, 0.1, shape[-1]) for i, shape in enumerate(shapes)}
    return {name: array.astype(np.float32) for name, array in (weights | biases).items()}


def channels_last(arrays: dict[str, FloatArray], pixels: NDArray[np.uint8]) -> FloatArray:
    """The net as tools compute it that keep channels last, written with products and sums alone."""
    x = (pixels[0].astype(np.float64) - MEAN) / STD
    for i, ((height, width), _, _) in enumerate(CONVS):
        rows, columns = x.shape[:2]
        padded = np.pad(x, ((height // 2,) * 2, (width // 2,) * 2, (0, 0)))
        sums = [
            padded[r : r + rows, c : c + columns] @ arrays[f"w{i}"][r, c]
            for r in range(height)
            for c in range(width)
        ]
        x = np.maximum(np.sum(sums, axis=0) + arrays[f"b{i}"], 0)
        if i in POOLED:
            x = x.reshape(rows // 2, 2, columns // 2, 2, -1).max(axis=(1, 3))
    x = x.reshape(-1)  # rows, columns, channels
    for i in range(len(CONVS), len(CONVS) + len(FCS)):
        x = x @ arrays[f"w{i}"] + arrays[f"b{i}"]
        x = np.maximum(x, 0) if i < len(CONVS) + len(FCS) - 1 else x
    exponents = np.exp(x - x.max())
    return exponents / exponents.sum()


def posteriors(folder: Path, checkpoint: str, *options: str) -> FloatArray:
    """What ONNX Runtime makes of the pixels, after `import` and `compile`."""
    (folder / "n.vgg").write_text(SPEC)
    spec, weights, bundle = (str(folder / name) for name in ("n.vgg", "n.safetensors", "b"))
    assert run(["import", spec, str(folder / checkpoint), "-o", weights, *options]) == 0
    assert run(["compile", spec, "--weights", weights, "--input", "raw", "-o", bundle]) == 0
    session = ort.InferenceSession(Path(bundle, "1", "model.onnx"))
    found: FloatArray = session.run(None, {"image": image()})[0][0]
    return found


class Peer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(4, 5, (1, 3), padding=(0, 1)), nn.ReLU(),
            nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(90, 7), nn.ReLU(), nn.Dropout(),
            nn.Linear(7, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 3),
        )  # fmt: skip


def test_pytorch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    peer = Peer().eval()
    torch.save(peer.state_dict(), tmp_path / "w.pth")
    x = (torch.from_numpy(image()).double() - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        maps = peer.double().features(x.permute(0, 3, 1, 2))
        expected = functional.softmax(peer.classifier(maps.flatten(1)), 1)[0]
    np.testing.assert_allclose(posteriors(tmp_path, "w.pth"), expected.numpy(), rtol=1e-4)
    assert "layout" not in capsys.readouterr().err


@pytest.mark.parametrize("names", ["kernel:0", "W"])
@pytest.mark.parametrize("first_fc", ["matrix", "kernel"])
def test_keras_and_tensorflow(
    names: str, first_fc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = drawn()
    expected = channels_last(arrays, image())
    if first_fc == "kernel":  # as TF-slim has it
        arrays["w3"] = arrays["w3"].reshape(3, 5, 6, 7)
        arrays["w5"] = arrays["w5"].reshape(1, 1, 7, 3)
    saved = {}
    for i in range(6):
        owner = f"n/conv{i + 1}" if i < 3 else f"n/fc{i + 1}"
        weight, bias = ("/kernel:0", "/bias:0") if names == "kernel:0" else ("_W", "_b")
        saved |= {owner + weight: arrays[f"w{i}"], owner + bias: arrays[f"b{i}"]}
    np.savez(tmp_path / "w.npz", **saved)
    np.testing.assert_allclose(posteriors(tmp_path, "w.npz"), expected, rtol=1e-4)
    said = capsys.readouterr().err
    assert "layout: hwio" in said
    is_turned = "fc3: its input was in the order rows, columns, channels" in said
    assert is_turned == (first_fc == "matrix")


@pytest.mark.parametrize("first_fc", ["matrix", "kernel"])
def test_mlx(first_fc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = drawn()
    expected = channels_last(arrays, image())
    saved = {}
    for i in range(6):
        weight = arrays[f"w{i}"]
        weight = weight.transpose(3, 0, 1, 2) if i < 3 else weight.T
        if i == 3 and first_fc == "kernel":
            weight = weight.reshape(7, 3, 5, 6)
        saved |= {f"layers.{i}.weight": weight.copy(), f"layers.{i}.bias": arrays[f"b{i}"]}
    safetensors.numpy.save_file(saved, tmp_path / "w.safetensors")
    np.testing.assert_allclose(posteriors(tmp_path, "w.safetensors"), expected, rtol=1e-4)
    assert "layout: ohwi" in capsys.readouterr().err


def only_small_kernels(folder: Path, axes: tuple[int, ...]) -> FloatArray:
    """A net whose one kernel is 8 × 3 × 3 × 3 in either of two layouts; the right one as ours."""
    (folder / "s.vgg").write_text("net s\ninput 6x6 RGB(mean 0)\nconv3-8\ngap\nFC-2\nsoft-max\n")
    rng = np.random.default_rng(1)
    kernel = rng.random((8, 3, 3, 3), np.float32)
    saved = {
        "a.weight": np.ascontiguousarray(kernel.transpose(axes)), "a.bias": np.zeros(8, np.float32),
        "b.weight": rng.random((2, 8), np.float32), "b.bias": np.zeros(2, np.float32),
    }  # fmt: skip
    safetensors.numpy.save_file(saved, folder / "s.st.safetensors")
    return kernel


def test_a_layout_that_shapes_do_not_show_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = only_small_kernels(tmp_path, (0, 2, 3, 1))
    out = tmp_path / "out.safetensors"
    args = ["import", str(tmp_path / "s.vgg"), str(tmp_path / "s.st.safetensors"), "-o", str(out)]
    assert run(args) == 1
    assert "VGG541" in (said := capsys.readouterr().err)
    assert "--layout ohwi" in said
    assert not out.exists()
    assert run([*args, "--layout", "ohwi"]) == 0
    found = safetensors.numpy.load_file(out)["conv1_1.weight"]
    np.testing.assert_array_equal(found, kernel)


def test_kernels_in_several_layouts_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {name: tensor.numpy() for name, tensor in Peer().state_dict().items()}
    kernel = state["features.5.weight"]
    state["features.5.weight"] = np.ascontiguousarray(kernel.transpose(0, 2, 3, 1))
    np.savez(tmp_path / "w.npz", **state)
    (tmp_path / "n.vgg").write_text(SPEC)
    assert run(["import", str(tmp_path / "n.vgg"), str(tmp_path / "w.npz")]) == 1
    said = capsys.readouterr().err
    assert "VGG505" in said
    assert "`features.5.weight` is 6 × 3 × 3 × 5, `conv2_2` needs 6 × 5 × 3 × 3" in said


def test_nothing_else_is_reshaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many numbers and as many outputs are no reason: 5 × 3 positions are not 3 × 5."""
    state = {name: tensor.numpy() for name, tensor in Peer().state_dict().items()}
    state["classifier.0.weight"] = state["classifier.0.weight"].reshape(7, 6, 5, 3)
    np.savez(tmp_path / "w.npz", **state)
    (tmp_path / "n.vgg").write_text(SPEC)
    assert run(["import", str(tmp_path / "n.vgg"), str(tmp_path / "w.npz")]) == 1
    assert "`classifier.0.weight` is 7 × 6 × 5 × 3" in capsys.readouterr().err


def test_a_module_does_not_load_kernels_of_another_layout(tmp_path: Path) -> None:
    import vggspec

    (tmp_path / "n.vgg").write_text(SPEC)
    crop, dense = (
        vggspec.torch_module(str(tmp_path / "n.vgg"), dense=is_dense) for is_dense in (False, True)
    )
    crop.load_state_dict(dense.state_dict())  # an FC layer and its convolution
    dense.load_state_dict(crop.state_dict())
    turned = crop.state_dict()
    turned["conv2_2.weight"] = turned["conv2_2.weight"].permute(0, 2, 3, 1)
    with pytest.raises(RuntimeError, match=r"size mismatch for conv2_2\.weight"):
        crop.load_state_dict(turned)


def test_the_manifest_is_the_specs(tmp_path: Path) -> None:
    torch.save(Peer().state_dict(), tmp_path / "w.pth")
    posteriors(tmp_path, "w.pth")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["input"]["mean"] == list(MEAN)
    assert manifest["input"]["std"] == list(STD)
