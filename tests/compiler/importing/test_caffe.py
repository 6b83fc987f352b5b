"""Caffe's models: what protobuf encoded, and NumPy and PyTorch compute, is what is imported."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

import vggspec
from tests.compiler.importing.caffe import MESSAGES, blob, model, vgg16
from tests.conftest import ROOT
from tests.nets import narrowed
from tests.refusals import refused
from vggspec.compiler.importing.checkpoint import read_checkpoint
from vggspec.compiler.weights import open_weights

FloatArray = NDArray[np.float32]
MEAN = np.array((103.939, 116.779, 123.68))  # blue, green, red


def arrays(by: int, classes: int = 1000, side: int = 7) -> list[FloatArray]:
    """Kernels, matrices and biases of VGG-16 that keep activations at about 1."""
    rng = np.random.default_rng(0)
    found: list[FloatArray] = []
    widths = [3, *(outputs for _, _, outputs in vgg16(by, classes) if outputs)]
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        shape: tuple[int, ...] = (outputs, inputs, 3, 3)
        if i >= 13:
            shape = (outputs, inputs * side * side if i == 13 else inputs)
        spread = np.sqrt(2 / np.prod(shape[1:])) / (100 if i == 0 else 1)
        found.append(rng.standard_normal(shape, np.float32) * np.float32(spread))
        found.append(rng.standard_normal(outputs, np.float32) * np.float32(0.1))
    return found


def in_caffe(layers: list[FloatArray], pixels: NDArray[np.uint8]) -> FloatArray:
    """The net on RGB pixels ``(H, W, 3)``, as Caffe computes it: BGR, minus the mean pixel,
    poolings rounded up, the map flattened channel by channel.
    """
    x = torch.from_numpy(pixels[..., ::-1].astype(np.float64) - MEAN).permute(2, 0, 1)[None]
    tensors = iter([torch.from_numpy(array).double() for array in layers])
    for depth in (2, 2, 3, 3, 3):
        for _ in range(depth):
            x = functional.relu(functional.conv2d(x, next(tensors), next(tensors), padding=1))
        x = functional.max_pool2d(x, 2, ceil_mode=True)
    x = x.flatten(1)
    for last in (False, False, True):
        x = functional.linear(x, next(tensors), next(tensors))
        x = x if last else functional.relu(x)
    found: FloatArray = functional.softmax(x, 1)[0].float().numpy()
    return found


def posteriors(spec: str, weights: Path, pixels: NDArray[np.uint8]) -> FloatArray:
    """What our module makes of pixels, by the normalisation that the weights record."""
    module = vggspec.torch_module(spec, weights)
    image = module.network.input
    assert image.mean is not None
    x = pixels.astype(np.float32) if image.color == "RGB" else pixels[..., ::-1]
    x = (x - np.array(image.mean, np.float32)).transpose(2, 0, 1)[None]
    with torch.inference_mode():
        found: FloatArray = module(torch.from_numpy(np.ascontiguousarray(x)).float())[0].numpy()
    return found


def narrow_spec(folder: Path, *, by: int = 16, color: str = "RGB") -> str:
    """Net D with a part of its channels, for images of 64 × 64."""
    text = narrowed("D", by).text.replace("224x224 RGB", f"64x64 {color}")
    path = folder / "narrow.vgg"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_authors_net(version: int, color: str, tmp_path: Path) -> None:
    layers = arrays(16, side=2)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(model(vgg16(16), layers, version).SerializeToString())
    spec, out = narrow_spec(tmp_path, color=color), tmp_path / "out.safetensors"
    found = vggspec.import_weights(spec, path, out=out)
    assert [pair.module.name for pair in found.matched.pairs] == [
        name for name, _, outputs in vgg16() if outputs
    ]
    assert found.expected.source == "caffe"
    assert found.expected.is_turned == (color == "RGB")
    assert found.labels is not None
    assert (found.labels[0], found.labels[-1]) == ("tench", "toilet tissue")
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    expected = in_caffe(layers, pixels)
    np.testing.assert_allclose(posteriors(spec, out, pixels), expected, rtol=1e-3)
    # RGB in place of BGR is not nearly the same.
    assert np.abs(in_caffe(layers, pixels[..., ::-1]) / expected - 1).max() > 0.1


@pytest.mark.slow
def test_the_authors_net_at_full_width(tmp_path: Path) -> None:
    layers = arrays(1)
    path = tmp_path / "VGG_ILSVRC_16_layers.caffemodel"
    path.write_bytes(model(vgg16(), layers, 1).SerializeToString())
    out = tmp_path / "D.safetensors"
    assert vggspec.import_weights(None, path, out=out).spec == "D"
    pixels = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)
    spec = str(ROOT / "specs" / "D.vgg")
    np.testing.assert_allclose(
        posteriors(spec, out, pixels), in_caffe(layers, pixels), rtol=5e-3, atol=1e-8
    )


@pytest.mark.parametrize("kind", ["shape", "legacy", "double", "half"])
def test_blobs_of_every_kind(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, bias, matrix = (
        rng.standard_normal(shape).astype(np.float16).astype(np.float32)
        for shape in ((4, 3, 3, 2), (4,), (5, 8))
    )
    net = MESSAGES["NetParameter"](name="n")
    net.layer.add(name="data", type="Input", top=["data"])
    conv = net.layer.add(name="conv/7x7", type="Convolution")
    conv.blobs.extend((blob(kernel, kind), blob(bias, kind)))
    fc = net.layer.add(name="fc", type="InnerProduct")
    fc.blobs.append(blob(matrix, kind))
    turned = net.layer.add(name="fc2", type="InnerProduct")
    turned.inner_product_param.transpose = True
    turned.blobs.append(blob(matrix, kind))
    conv.blobs[0].diff.extend(np.ones(kernel.size))  # left behind by training
    path = tmp_path / "w"  # found by its first bytes
    path.write_bytes(net.SerializeToString())
    found = read_checkpoint(path)
    assert (found.kind, found.has_order) == ("caffe", True)
    wanted = {"conv/7x7.weight": kernel, "conv/7x7.bias": bias, "fc.weight": matrix}
    wanted["fc2.weight"] = matrix.T
    assert list(found.tensors) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found.tensors[name].reshape(array.shape), array)
        assert found.tensors[name].ndim == array.ndim or name.endswith("bias")


SPEC = """\
net n
input 8x8 RGB(mean 1 2 3)
conv3-4(no-bias) BN{}
conv3-5 BN{}
gap
FC-3
soft-max
"""


def with_norms(eps: float, factor: float) -> tuple[Any, dict[str, FloatArray]]:
    """Two batch normalisations, the second without Scale and in place; and what each part is."""
    rng = np.random.default_rng(0)
    shapes = {"c1": (4, 3, 3, 3), "c2": (5, 4, 3, 3), "c2b": (5,), "fc": (3, 5), "fcb": (3,)}
    shapes |= {"m1": (4,), "m2": (5,), "g1": (4,), "b1": (4,)}
    of = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    of |= {"v1": rng.random(4, np.float32) + 0.5, "v2": rng.random(5, np.float32) + 0.5}
    net = MESSAGES["NetParameter"](name="n")

    def add(name: str, kind: str, bottom: str, top: str, *parts: FloatArray) -> Any:
        layer = net.layer.add(name=name, type=kind, bottom=[bottom], top=[top])
        layer.blobs.extend(blob(part) for part in parts)
        return layer

    by = np.array([factor], np.float32)
    add("one", "Convolution", "data", "one", of["c1"])
    norm = add("one/bn", "BatchNorm", "one", "bn", of["m1"] * factor, of["v1"] * factor, by)
    norm.batch_norm_param.eps = eps
    scale = add("one/scale", "Scale", "bn", "scaled", of["g1"], of["b1"])
    scale.scale_param.bias_term = True
    add("two", "Convolution", "scaled", "two", of["c2"], of["c2b"])
    add("two/bn", "BatchNorm", "two", "two", of["m2"] * factor, of["v2"] * factor, by)
    norm = net.layer[-1]
    norm.batch_norm_param.eps = eps
    add("fc", "InnerProduct", "two", "fc", of["fc"], of["fcb"])
    return net, of


@pytest.mark.parametrize(("eps", "says"), [(1e-5, ""), (1e-3, "(eps 1e-3)")])
def test_batch_norm_and_scale_are_one(eps: float, says: str, tmp_path: Path) -> None:
    net, of = with_norms(eps, 999.98)
    (tmp_path / "n.caffemodel").write_bytes(net.SerializeToString())
    (tmp_path / "n.vgg").write_text(SPEC.format(says, says))
    out = tmp_path / "out"
    vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "n.caffemodel", out=out)
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
    # Of a net that nobody has published the spec knows the mean, and the format that it is BGR.
    x = torch.from_numpy(pixels[..., ::-1] - np.array((3.0, 2.0, 1.0))).permute(2, 0, 1)[None]
    t = {name: torch.from_numpy(array).double() for name, array in of.items()}
    x = functional.conv2d(x, t["c1"], padding=1)
    x = functional.batch_norm(x, t["m1"], t["v1"], t["g1"], t["b1"], eps=eps).relu()
    x = functional.conv2d(x, t["c2"], t["c2b"], padding=1)
    x = functional.batch_norm(x, t["m2"], t["v2"], eps=eps).relu().mean((2, 3))
    expected = functional.softmax(functional.linear(x, t["fc"], t["fcb"]), 1)[0]
    found = posteriors(str(tmp_path / "n.vgg"), out, pixels)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-7)


def test_another_epsilon_is_refused(tmp_path: Path) -> None:
    net, _ = with_norms(1e-3, 1)
    (tmp_path / "n.caffemodel").write_bytes(net.SerializeToString())
    (tmp_path / "n.vgg").write_text(SPEC.format("", ""))
    with refused(r"(?s)VGG549.*write `BN\(eps 0.001\)` in the spec"):
        vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "n.caffemodel", out=tmp_path / "o")


def test_a_factor_that_nothing_normalises_is_no_part_of_the_net(tmp_path: Path) -> None:
    net, of = with_norms(1e-5, 1)
    layer = net.layer.add(name="again", type="Scale", bottom=["two"], top=["again"])
    layer.blobs.append(blob(of["m2"]))
    # After another layer, not after batch normalisation.
    moved = [net.layer[i] for i in (0, 1, 2, 3, 6, 4, 5)]
    other = MESSAGES["NetParameter"](name="n", layer=moved)
    (tmp_path / "n.caffemodel").write_bytes(other.SerializeToString())
    (tmp_path / "n.vgg").write_text(SPEC.format("", ""))
    with refused("VGG546"):
        vggspec.import_weights(tmp_path / "n.vgg", tmp_path / "n.caffemodel", out=tmp_path / "o")


def test_a_spec_with_another_mean_than_the_authors(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(model(vgg16(16), arrays(16, side=2), 2).SerializeToString())
    spec = narrow_spec(tmp_path, color="RGB(mean 103.939 116.779 123.68)")  # as in BGR
    out = tmp_path / "out"
    with refused("VGG543"):
        vggspec.import_weights(spec, path, out=out)
    assert not out.exists()
    options = vggspec.ImportOptions(source="spec")
    notes: list[str] = []

    class Watch(vggspec.Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    found = vggspec.import_weights(spec, path, out=out, options=options, watch=Watch())
    assert "nets of Caffe take BGR as a rule; `--bgr` turns the first layer" in notes
    assert (found.expected.is_turned, found.labels) == (False, None)


def test_cut_files_are_noticed(tmp_path: Path) -> None:
    data = model(vgg16(64), arrays(64, side=2), 1).SerializeToString()
    path = tmp_path / "w.caffemodel"
    for length in range(1, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        with refused("VGG55[01]"):
            read_checkpoint(path)


def damaged(what: str) -> Any:
    net = MESSAGES["NetParameter"](name="n")
    layer = net.layer.add(name="fc", type="InnerProduct")
    layer.blobs.append(blob(np.ones((3, 4), np.float32)))
    if what == "shape":
        layer.blobs[0].shape.dim[0] = 1 << 40
    elif what == "negative":
        layer.blobs[0].shape.dim[:] = [-3, -4]
    elif what == "axes":
        layer.blobs[0].shape.dim.extend([1] * 9)
    elif what == "twice":
        net.layer.append(layer)
    elif what == "norm":
        layer.type = "BatchNorm"
    elif what == "old":
        net.layers.add().layer.name = "conv1"
    elif what == "type":
        layer.blobs[0].ClearField("data")
        layer.blobs[0].raw_data_type, layer.blobs[0].raw_data = 3, bytes(48)
    elif what == "name":
        layer.name = "n" * 5000
    elif what == "empty":
        layer.ClearField("blobs")
    return net


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("shape", "a blob has another size than its shape says"),
        ("negative", "a blob has another size than its shape says"),
        ("axes", "a blob has another size than its shape says"),
        ("twice", "it has two layers `fc`"),
        ("norm", "the BatchNorm `fc` has not three arrays"),
        ("old", "`upgrade_net_proto_binary` converts it"),
        ("type", "numbers of no known type"),
        ("name", "a name of more than 4096 bytes"),
        ("empty", "VGG554"),
    ],
)
def test_what_contradicts_itself(what: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(damaged(what).SerializeToString())
    with refused(words):
        read_checkpoint(path)


def test_many_fields_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"\x22\x00" * 300_000)
    with refused("more than 200,000 fields"):
        read_checkpoint(path)


def test_labels_of_another_order(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(model(vgg16(32), arrays(32, side=2), 2).SerializeToString())
    spec, out, labels = narrow_spec(tmp_path, by=32), tmp_path / "out", tmp_path / "labels"
    usual = list(vggspec.import_weights(spec, path, out=out).labels or ())
    wnids = [f"n{i:08d} {name}, {name} and more" for i, name in enumerate(usual)]

    def import_with(lines: list[str], **more: Any) -> tuple[str, ...] | None:
        labels.write_text("\n".join(lines) + "\n")
        options = vggspec.ImportOptions(labels=labels, **more)
        return vggspec.import_weights(spec, path, out=out, options=options).labels

    assert import_with(usual) == tuple(usual)
    assert import_with(wnids) == tuple(wnids)
    kit_fox = usual.index("kit fox")
    for lines in (usual, wnids):
        turned = lines[kit_fox:] + lines[:kit_fox]
        with refused(r"(?s)VGG570.*the\s+order\s+of\s+the\s+ILSVRC\s+development\s+kit"):
            import_with(turned)
    assert import_with([f"class {i}" for i in range(1000)]) is not None
    none = vggspec.ImportOptions(labels="none")
    assert vggspec.import_weights(spec, path, out=out, options=none).labels is None
    assert open_weights(out).metadata.labels is None
