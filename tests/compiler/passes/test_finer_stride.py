"""Denser maps hold what shifted runs of the net give, interleaved: OverFeat's offsets."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.nets import images, net, random_weights, run_onnx, run_torch, session
from vggspec.base.diagnostic import VggspecError
from vggspec.base.recipe import Rounding
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.passes import FinerStride, inference, run

#: The paper's net D with few channels: its window, its five poolings, its padding.
NARROW = """\
net narrow
input 224x224 gray
conv3-2 maxpool
conv3-2 maxpool
conv3-3 maxpool
conv3-3 conv3-3 maxpool
conv3-4 conv3-4 maxpool
FC-6
FC-5
FC-4
soft-max
"""

#: The window, one pixel more, odd sides, landscape and portrait.
SIZES = [(224, 225), (239, 293), (257, 224)]


def interleaved(
    x: Tensor, number: int, apply: Callable[[Tensor], Tensor | None], step: int = 1
) -> Tensor | None:
    """What ``apply`` gives of ``x`` less its first rows and columns, 0 to ``number - 1`` times
    ``step`` of them, each result in its place among the others; None where it gives none.
    """
    results = {
        (i, j): apply(x[:, :, i * step :, j * step :]) for i in range(number) for j in range(number)
    }
    parts = {place: part for place, part in results.items() if part is not None}
    if not parts:
        return None
    first = parts[0, 0]
    rows = sum(part.shape[2] for (_, j), part in parts.items() if j == 0)
    columns = sum(part.shape[3] for (i, _), part in parts.items() if i == 0)
    whole = torch.full((*first.shape[:2], rows, columns), torch.nan)
    for (i, j), part in parts.items():
        whole[:, :, i::number, j::number] = part
    assert not whole.isnan().any()
    return whole


@pytest.mark.parametrize("pool", ["floor", "ceil"])
@pytest.mark.parametrize("stride", [16, 8])
def test_shifted_pooling_and_the_fc_at_every_window(
    stride: int, pool: Rounding, tmp_path: Path
) -> None:
    """Written out with PyTorch's functions: poolings at two offsets, the FC head slid over the map.

    Two offsets of the last pooling give stride 16; of the one before it too, stride 8.
    """
    lowered = net(NARROW)
    weights = random_weights(lowered, tmp_path / "w")
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    options = CompileOptions(stride=stride, pool=pool, keep_map=True)
    write_bundle(lowered, weights, tmp_path / "b", options)
    of = session(tmp_path / "b/1/model.onnx")

    def conv(x: Tensor, name: str) -> Tensor:
        y = functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)
        return functional.relu(y)

    def pooled(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2, 2, ceil_mode=pool == "ceil")

    def head(x: Tensor) -> Tensor | None:
        """The FC layers at every 7 × 7 window of a map, if it has any."""
        rows, columns = x.shape[2] - 6, x.shape[3] - 6
        if min(rows, columns) < 1:
            return None
        v = functional.unfold(x, 7).transpose(1, 2)
        v = functional.relu(functional.linear(v, w["fc6.weight"], w["fc6.bias"]))
        v = functional.relu(functional.linear(v, w["fc7.weight"], w["fc7.bias"]))
        v = functional.linear(v, w["fc8.weight"], w["fc8.bias"])
        return v.transpose(1, 2).reshape(x.shape[0], 4, rows, columns)

    def from_pool5(x: Tensor) -> Tensor | None:
        return interleaved(x, 2, lambda shifted: head(pooled(shifted)))

    def from_pool4(x: Tensor) -> Tensor | None:
        return from_pool5(conv(conv(pooled(x), "conv5_1"), "conv5_2"))

    for size in SIZES:
        x = images(1, 1, *size)
        h = torch.from_numpy(x)
        for name in ("conv1_1", "conv2_1", "conv3_1"):
            h = pooled(conv(h, name))
        h = conv(conv(h, "conv4_1"), "conv4_2")
        expected = interleaved(h, 2, from_pool4) if stride == 8 else from_pool4(h)
        assert expected is not None
        found = run_onnx(of, x)
        np.testing.assert_allclose(found["score_map"], expected, rtol=1e-4, atol=1e-5)
        posteriors = expected.mean((2, 3)).softmax(1)
        np.testing.assert_allclose(found["posteriors"], posteriors, rtol=1e-4, atol=1e-6)
        module = run_torch(lowered, weights, options, x)
        np.testing.assert_allclose(module["score_map"], expected, rtol=1e-4, atol=1e-5)


#: Nets that pad nothing, so that a run on a shifted image is a shifted run; each with its own
#: stride and finer ones.
UNPADDED = {
    "pools": (
        """net t
        input 34x34 RGB
        conv3-4(pad 0) BN maxpool conv3-5(pad 0) maxpool conv2-6(pad 0) LRN maxpool
        FC-8 FC-5 soft-max""",
        (8, 4, 2),
    ),
    "overlapping": (
        """net t
        input 31x27 gray
        conv3-4(pad 0) maxpool3/2 conv3-4(pad 0, groups 2) maxpool3/2 FC-5 soft-max""",
        (4, 2, 1),
    ),
    "rounded up": (
        """net t
        input 30x33 gray
        conv3-4(pad 0) maxpool3/2(ceil) conv2-4(pad 0) maxpool2/3(ceil) FC-6 FC-5 soft-max""",
        (6, 2, 1),
    ),
    "strided conv": (
        """net t
        input 41x45 gray
        conv7-4/4(pad 0) LRN maxpool conv1-5(pad 0) FC-5 soft-max""",
        (8, 4, 2),
    ),
    "dilated already": (
        """net t
        input 33x30 gray
        maxpool conv3-4(dilation 2, pad 0) maxpool3/2 conv2-5(pad 0) maxpool1/2 FC-5 soft-max""",
        (8, 4, 2),
    ),
    "a stride taken in part": (
        """net t
        input 34x38 gray
        conv3-4(pad 0) maxpool4/4 conv1-5(pad 0) FC-5 soft-max""",
        (4, 2, 1),
    ),
    "average": (
        """net t
        input 24x24 gray
        conv3-4(pad 0) maxpool conv3-4(pad 0) avgpool FC-5 soft-max""",
        (4, 2),
    ),
}


@pytest.mark.parametrize("name", UNPADDED)
def test_windows_of_shifted_images(name: str, tmp_path: Path) -> None:
    """The module of the spec on the image less some rows and columns."""
    text, strides = UNPADDED[name]
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w")
    network = prepare(lowered.network, CompileOptions(keep_map=True))
    module = torch_module.loaded(network, weights).eval()

    @torch.inference_mode()
    def plain(shifted: Tensor) -> Tensor | None:
        try:
            found = module(shifted)
        except RuntimeError:
            return None  # less than a window is left
        assert isinstance(found, dict)
        return found["score_map"]

    image = lowered.network.input
    for stride in strides[1:]:
        write_bundle(lowered, weights, tmp_path / "b", CompileOptions(stride=stride, keep_map=True))
        of = session(tmp_path / "b/1/model.onnx")
        for more in ((1, 0), (3, 14)):
            x = images(1, image.channels, image.height + more[0], image.width + more[1])
            expected = interleaved(torch.from_numpy(x), strides[0] // stride, plain, stride)
            assert expected is not None
            found = run_onnx(of, x)["score_map"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_attributes_of_d(specs: Path) -> None:
    """Which layers change, and in what: nothing else does."""
    network = load_network(str(specs / "D.vgg")).network
    plain = run(inference("dense"), network)

    def changed(stride: int) -> dict[str, dict[str, object]]:
        finer = run(inference("dense", stride=stride), network)
        assert finer.parameters == plain.parameters
        found: dict[str, dict[str, object]] = {}
        for before, after in zip(plain.layers, finer.layers, strict=True):
            old, new = asdict(before.op), asdict(after.op)
            if new != old:
                found[before.name] = {k: v for k, v in new.items() if v != old[k]}
        return found

    assert changed(32) == {}
    assert changed(16) == {"pool5": {"stride": 1}, "fc6": {"dilation": 2}}
    conv5 = {"dilation": 2, "padding": (2, 2)}
    assert changed(8) == {
        "pool4": {"stride": 1},
        **{f"conv5_{i}": conv5 for i in (1, 2, 3)},
        "pool5": {"stride": 1, "dilation": 2},
        "fc6": {"dilation": 4},
    }
    dense = run(inference("dense", stride=16, keep_map=True), network)
    assert dense.at(384, 512)["fc8"].type.shape == (1000, 11, 19)
    assert dense.at(224, 255)["fc8"].type.shape == (1000, 1, 2)


@pytest.mark.parametrize("text", [NARROW, *(text for text, _ in UNPADDED.values())])
def test_once_is_enough(text: str) -> None:
    network = run(inference("dense"), net(text).network)
    for stride in (8, 4, 2):
        try:
            once = FinerStride(stride)(network)
        except VggspecError:
            continue
        assert FinerStride(stride)(once) is once
        assert {p.name: p.stored for p in once.params()} == {
            p.name: p.stored for p in network.params()
        }
        # By steps or at once.
        if stride == 4 and text == NARROW:
            assert FinerStride(2)(once) == FinerStride(2)(network)


def test_after_an_average_over_the_map_nothing_is_dilated(tmp_path: Path) -> None:
    lowered = net(
        "net t\ninput 16x20 gray\nconv3-4 maxpool conv3-5 maxpool gap conv3-6 maxpool2/2(ceil)\n"
        "FC-5 FC-3\nsoft-max"
    )
    weights = random_weights(lowered, tmp_path / "w")
    options = CompileOptions(stride=2)
    write_bundle(lowered, weights, tmp_path / "b", options)
    finer = prepare(lowered.network, options)
    assert [layer.name for layer in finer.layers if getattr(layer.op, "dilation", 1) > 1] == []
    assert isinstance(finer["pool2"].op, MaxPool)
    assert finer["pool2"].op.stride == 1
    x = images(2, 1, 21, 18)
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    f = functional
    h = torch.from_numpy(x)
    h = f.max_pool2d(f.relu(f.conv2d(h, w["conv1_1.weight"], w["conv1_1.bias"], padding=1)), 2)
    h = f.max_pool2d(f.relu(f.conv2d(h, w["conv2_1.weight"], w["conv2_1.bias"], padding=1)), 2, 1)
    h = h.mean((2, 3), keepdim=True)
    h = f.relu(f.conv2d(h, w["conv3_1.weight"], w["conv3_1.bias"], padding=1)).flatten(1)
    h = f.relu(f.linear(h, w["fc4.weight"], w["fc4.bias"]))
    h = f.linear(h, w["fc5.weight"], w["fc5.bias"]).softmax(1)
    found = run_onnx(session(tmp_path / "b/1/model.onnx"), x)["posteriors"]
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-6)


def refused(lowered: Lowered, options: CompileOptions) -> str:
    with pytest.raises(VggspecError) as error:
        prepare(lowered.network, options)
    (report,) = error.value.reports
    return f"{report.what.code} {report.what.title()}: {report.what.help()}; {report.what.note()}"


def test_what_cannot_be_had_is_refused() -> None:
    narrow = net(NARROW)
    assert refused(narrow, CompileOptions(stride=12)) == (
        "VGG660 the net cannot give a position every 12 pixels: "
        "give 16, 8, 4, 2 or 1; the net's own is 32; None"
    )
    assert "VGG660" in refused(narrow, CompileOptions(stride=64))
    assert "VGG661" in refused(narrow, CompileOptions(stride=16, form="crop"))
    text, _ = UNPADDED["average"]
    words = refused(net(text), CompileOptions(stride=1))
    assert "give 2; the net's own is 4" in words
    assert "`pool2`" in words
    three = net("net t\ninput 24x24 gray\nconv3-4/3 maxpool FC-3 soft-max")
    assert "give 3 or 1;" in refused(three, CompileOptions(stride=2))
    flat = net("net t\ninput 8x8 gray\nconv3-4 FC-3 soft-max")
    assert "the net's own, 1, is the only one" in refused(flat, CompileOptions(stride=2))
    ceil = net("net t\ninput 9x9 gray\nconv3-4 avgpool(ceil) FC-3 soft-max")
    assert "`pool1`" in refused(ceil, CompileOptions(stride=1))


@pytest.mark.parametrize("pool", [None, "floor", "ceil"])
def test_the_manifest_tells_the_window_of_the_net(pool: Rounding | None, tmp_path: Path) -> None:
    lowered = net(NARROW)
    weights = random_weights(lowered, tmp_path / "w")
    least = 193 if pool == "ceil" else 224
    for stride in (None, 32, 16, 8):
        options = CompileOptions(stride=stride, pool=pool)
        write_bundle(lowered, weights, tmp_path / "b", options)
        onnx.checker.check_model(str(tmp_path / "b/1/model.onnx"), full_check=True)
        manifest = open_bundle(tmp_path / "b", deep=True).manifest
        assert manifest.window == (224, 224)
        assert manifest.stride == ((stride or 32,) * 2)
        assert manifest.input.size == (least, least)
        assert manifest.options.stride == (None if stride == 32 else stride)
        assert manifest.pool == ("ceil" if pool == "ceil" else None)
        of = session(tmp_path / "b/1/model.onnx")
        assert np.isfinite(run_onnx(of, images(1, 1, least, least))["posteriors"]).all()
