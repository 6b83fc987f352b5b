"""Merged nets compute what the trained ones do: modules written here in torch, in float64."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import vggspec
from tests.nets import net, run_onnx, session
from tests.refusals import refused, told
from tests.strategies import net_texts
from vggspec.base.diagnostic import ArgumentError, VggspecError
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.merging.merge import Merged, merge
from vggspec.compiler.merging.numbers import CHUNK
from vggspec.compiler.weights import describe, open_weights, save

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


class RepBlock(nn.Module):
    """A layer of RepVGG as it is trained: figure 2 (b) of the paper."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 1, stride, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.norm = nn.BatchNorm2d(after) if before == after and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        total = self.norm3(self.conv3(x)) + self.norm1(self.conv1(x))
        return (total if self.norm is None else total + self.norm(x)).relu()


class RepVgg(nn.Sequential):
    """RepVGG-A0: Table 2 of the paper."""

    def __init__(self) -> None:
        widths = [(48, 1), (48, 2), (96, 4), (192, 14), (1280, 1)]
        blocks: list[nn.Module] = []
        before = 3
        for width, times in widths:
            for number in range(times):
                blocks.append(RepBlock(before, width, 1 if number else 2))
                before = width
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


def randomised(module: nn.Module) -> nn.Module:
    """With statistics as training leaves them, and weights that keep numbers at about 1."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.3, 0.9)
            nn.init.normal_(part.bias, std=0.3)
        elif isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return module.eval()


def trained(spec: str, path: Path, module: nn.Module) -> Path:
    """A weights file with a module's numbers, whose arrays are in the order of the spec."""
    network = vggspec.network(spec)
    state = [
        array.numpy() for name, array in module.state_dict().items() if "num_batches" not in name
    ]
    params = list(network.params())
    arrays = {param.name: array for param, array in zip(params, state, strict=True)}
    assert all(arrays[param.name].shape == param.stored for param in params)
    save(path, arrays, describe(network))
    return path


def random_net(text: str, folder: Path) -> tuple[Path, Path]:
    """A spec and its weights, random and with random statistics."""
    spec = folder / "net.vgg"
    spec.write_text(text)
    module = randomised(torch_module.emit(net(text).network))
    arrays = {
        name: array.numpy()
        for name, array in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save(folder / "net.safetensors", arrays, describe(net(text).network))
    return spec, folder / "net.safetensors"


def arrays_of(weights: Path) -> Arrays:
    file = open_weights(weights)
    return {name: file.read(name).copy() for name in file.tensors}


def as_scores(found: Any) -> dict[str, Tensor]:
    return found if isinstance(found, dict) else {"": found}


@torch.inference_mode()
def error_of(found: Merged, spec: Path, weights: Path, x: Tensor) -> float:
    """The largest difference of the merged net from the original in float64, relative to the
    largest number of its output.
    """
    module = vggspec.torch_module(spec, weights).double()
    expected = as_scores(module(x.double()))
    ours = as_scores(vggspec.torch_module(found.spec, found.weights)(x.clone()))
    assert list(ours) == list(expected)
    return max(
        ((ours[name] - expected[name]).abs().max() / expected[name].abs().max()).item()
        for name in expected
    )


def text_of(found: Merged) -> list[str]:
    """The lines of layers."""
    lines = Path(found.spec).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("net ", "input "))]


@torch.inference_mode()
def test_repvgg_is_a_column(tmp_path: Path) -> None:
    """Equal within 1e-4, the numbers of torch in float64; here it is 3.3e-6."""
    module = randomised(RepVgg())
    weights = trained("repvgg-a0", tmp_path / "w.safetensors", module)
    found = vggspec.merge("repvgg-a0", weights, out=tmp_path / "merged.vgg")
    assert (len(found.sums), len(found.norms), found.left) == (22, 61, ())
    assert found.network.parameters == 8309384  # timm's table: 8.31 M
    assert Counter(layer.op.keyword for layer in found.network.layers) == {
        "conv": 22, "relu": 22, "gap": 1, "flatten": 1, "FC": 1, "soft-max": 1,
    }  # fmt: skip
    assert text_of(found)[:3] == [
        "conv3-48/2 as first1", "conv3-48/2 as first2", "conv3-48 as rep1"
    ]  # fmt: skip
    assert text_of(found)[-1] == "8309384 parameters"
    ours = vggspec.torch_module(found.spec, found.weights)
    bundle = vggspec.compile(found.spec, weights=found.weights, out=tmp_path / "bundle")
    onnx = session(Path(bundle) / "1/model.onnx")
    reference = module.double()
    for size in ((224, 224), (193, 231)):
        x = torch.randn(1, 3, *size)
        expected = reference(x.double()).softmax(1)
        by_onnx = next(iter(run_onnx(onnx, x.numpy()).values()))
        for numbers in (ours(x.clone()), torch.from_numpy(by_onnx)):
            assert (numbers - expected).abs().max() <= 1e-4 * expected.max()


SUMS = [
    # spec, sums, norms, left, what the first layers are
    (
        "conv3-8 BN conv3-8(no-bias) BN(eps 0.01) FC-6 BN FC-5",
        0,
        3,
        0,
        ["conv3-8", "conv3-8", "FC-6"],
    ),
    (
        "conv is conv(no-bias) BN ReLU\nconv3-8 conv1-8(linear) gap FC-5",
        0,
        2,
        0,
        ["conv3-8", "conv1-8(linear)"],
    ),
    (
        "conv is conv(no-bias) BN ReLU6\nconv3-8 conv1-8 gap FC-5",
        0,
        2,
        0,
        ["conv is conv ReLU6", "conv3-8"],
    ),
    ("conv is BN ReLU conv\nconv3-8 conv3-8 conv3-8(plain) gap FC-5", 0, 1, 1, []),
    ("[conv3-8 + conv1-8] gap FC-5", 1, 0, 0, ["conv3-8 as block1"]),
    (
        "conv3-8 [conv3-8(linear) BN + identity] as a gap FC-5",
        1,
        1,
        0,
        ["conv3-8", "conv3-8(linear) as a"],
    ),
    ("conv3-8 [conv5-8 BN + conv3-8 BN + conv1-8 BN + BN + identity] FC-5", 1, 4, 0, []),
    ("conv3-8 [conv1x3-8 + conv3x1-8 + conv1-8] FC-5", 1, 0, 0, ["conv3-8", "conv3-8 as block1"]),
    (
        "conv3-8 [conv3-8(groups 2) BN + conv1-8(groups 2) + BN] FC-5",
        1,
        2,
        0,
        ["conv3-8", "conv3-8(groups 2) as block1"],
    ),
    ("conv3-8 [dwconv3 BN + dwconv1 BN + BN] FC-5", 1, 3, 0, ["conv3-8", "dwconv3 as block1"]),
    ("conv3-8 [dwconv3 BN + conv1-8 BN] FC-5", 0, 2, 1, []),
    (
        "conv3-8 [conv3-8(dilation 2) BN + conv1-8 BN + BN] FC-5",
        1,
        3,
        0,
        ["conv3-8", "conv3-8(dilation 2) as block1"],
    ),
    ("conv3-8 [conv3-8(dilation 2) + conv3-8] FC-5", 0, 0, 1, None),
    ("conv3-8 [conv3-8/2 BN + conv1-8/2 BN] FC-5", 1, 2, 0, ["conv3-8", "conv3-8/2 as block1"]),
    ("conv3-8 [conv3-8/2 BN + shortcut] FC-5", 1, 2, 0, ["conv3-8", "conv3-8/2 as block1"]),
    ("conv3-8 [conv3-8 conv3-8 + shortcut] FC-5", 0, 0, 1, None),
    ("conv3-8 [conv3-8/2 BN conv3-16 BN + shortcut] FC-5", 0, 3, 1, []),
    (
        "conv3-8 [[conv3-8(linear) BN + BN] [conv3-8(linear) + identity] + identity] FC-5",
        1,
        2,
        2,
        [],
    ),
    ("conv3-8 [[conv3-8 BN + BN] [conv3-8 + identity] + identity] FC-5", 2, 2, 1, []),
    ("conv3-8 [[conv3-8 BN + BN] & conv3-4 BN] FC-5", 1, 3, 0, []),
    (
        "conv3-8 [conv3-8(linear) + conv1-8(linear)] BN FC-5",
        1,
        1,
        0,
        ["conv3-8", "conv3-8(linear) as block1"],
    ),
    ("conv3-8 [conv3-8 + conv1-8] BN FC-5", 1, 0, 1, []),
    ("conv3-8 [conv3-8 + conv1-8] SiLU FC-5", 1, 0, 0, []),
    ("conv3-8 [conv3-8(linear) + conv1-8(linear)] SiLU FC-5", 1, 0, 0, []),
    ("conv3-8 [conv3-8(linear) BN + BN] x2 as a [from a_1 + from a] FC-5", 2, 4, 1, []),
    ("conv3-8 BN as n conv3-8 as b\n[from n + identity] FC-5", 0, 1, 1, []),
    ("conv3-8(linear) as c [BN & from c] FC-5", 0, 0, 1, None),
    ("[conv3-6 BN + conv1-6 BN] gap soft-max", 1, 2, 0, ["conv3-6 as block1", "gap"]),
    ("conv3-8 [conv3-8 BN + BN] as a\noutputs conv1_1 a", 1, 2, 0, ["conv3-8", "conv3-8 as a"]),
    ("conv3-8 BN as n conv3-8 BN gap FC-5 as f\noutputs n f", 0, 1, 1, []),
    ("conv3-8 [conv3-8 + BN] x2 as a FC-5 as f\noutputs a f", 2, 2, 0, []),
    ("conv3-8 maxpool [maxpool3/1(pad 1) + conv3-8 BN] FC-5", 0, 1, 1, []),
    (
        "conv3-8 [conv2-8(pad 0) BN + conv2-8(pad 0)] FC-5",
        1,
        1,
        0,
        ["conv3-8", "conv2-8(pad 0) as block1"],
    ),
    ("conv3-8 [BN + identity] conv3-8 BN FC-5", 0, 1, 2, []),
    ("conv3-8 [from conv1_1 BN + from conv1_1 conv3-8 BN] FC-5", 1, 2, 0, []),
    (
        "conv3-8 [[conv3-8(linear) BN + BN] + conv1-8] FC-5",
        2,
        2,
        0,
        ["conv3-8", "conv3-8 as block1"],
    ),
    # A written activation stands in place of the implied one, whatever else is folded.
    (
        "conv is BN conv SiLU\nconv3-8 conv3-8(plain) conv3-8 ReLU6 FC-6 BN ReLU6 FC-5",
        0,
        2,
        1,
        ["conv is BN conv SiLU", "conv3-8", "conv3-8(plain)", "conv3-8(plain)", "ReLU6", "FC-6"],
    ),
    # A map is cut to another one, and resized to one that is merged; an upconv is left as it is.
    (
        "conv3-8 BN as a maxpool [conv3-8 BN + conv1-8 BN] as m upconv4-8/2 BN crop(a) resize(m)",
        1,
        3,
        1,
        [],
    ),
    # Without names conv1_2 would be the layer that was conv1_1.
    (
        "[conv3-4 BN + conv1-4 BN] conv3-4 conv3-4 FC-5 as f\noutputs conv1_2 f",
        1,
        2,
        0,
        ["conv3-4 as block1", "conv3-4 as conv1_1", "conv3-4 as conv1_2"],
    ),
]


@pytest.mark.parametrize(("text", "sums", "norms", "left", "lines"), SUMS)
def test_what_is_merged(
    text: str, sums: int, norms: int, left: int, lines: list[str] | None, tmp_path: Path
) -> None:
    out = tmp_path / "merged.vgg"
    spec, weights = random_net(f"input 12x12 RGB\n{text}\n", tmp_path)
    if lines is None:
        with refused("VGG160|VGG142"):
            merge(spec, weights, out=out)
        return
    found = merge(spec, weights, out=out)
    assert (len(found.sums), len(found.norms), len(found.left)) == (sums, norms, left), found.left
    assert text_of(found)[: len(lines)] == lines
    assert error_of(found, spec, weights, torch.randn(2, 3, 12, 12)) <= 1e-5


@st.composite
def graphs(draw: st.DrawFn) -> str:
    """A net of sums, joins and columns of convs with batch normalisation."""
    is_said = draw(st.booleans())
    head = "input 12x11 RGB\n"
    head += draw(st.sampled_from(SAID)) if is_said else ""
    steps = draw(st.lists(st.one_of(_layer(), _sum(), _bracket(2)), min_size=1, max_size=4))
    tail = draw(st.sampled_from(["FC-5", "gap FC-5 soft-max", "FC-6 BN FC-5", ""]))
    return head + " ".join(["conv3-4", *steps, tail]) + "\n"


SAID = [
    "conv is conv(no-bias) BN ReLU\n",
    "conv is conv BN\n",
    "conv is conv BN ReLU6\n",
    "conv is BN ReLU conv(no-bias)\n",
    "conv is BN conv SiLU\n",
]


@st.composite
def _layer(draw: st.DrawFn) -> str:
    kernel = draw(st.sampled_from(["conv3-4", "conv1-4", "conv5x3-4", "dwconv3", "conv3-4"]))
    options = [word for word in ("linear", "no-bias", "plain") if draw(st.integers(0, 3)) == 0]
    options += ["groups 2"] if kernel[0] == "c" and draw(st.integers(0, 4)) == 0 else []
    options += ["dilation 2"] if draw(st.integers(0, 6)) == 0 else []
    text = kernel + (f"({', '.join(options)})" if options else "")
    return text + draw(st.sampled_from(["", " BN", " BN", " BN(eps 0.01)", " ReLU6", " BN SiLU"]))


@st.composite
def _sum(draw: st.DrawFn) -> str:
    """A sum that becomes a conv, most of the time."""
    common = draw(st.sampled_from([["linear"], [], ["linear", "groups 2"], ["groups 2"]]))
    branches = []
    for kernel in draw(st.lists(st.sampled_from(["3", "1", "5x3", "1x3"]), min_size=1, max_size=3)):
        options = [*common, *["no-bias"] * draw(st.booleans())]
        text = f"conv{kernel}-4" + (f"({', '.join(options)})" if options else "")
        branches.append(text + draw(st.sampled_from(["", " BN", " BN", " BN(eps 0.01)"])))
    branches += draw(st.lists(st.sampled_from(["BN", "identity", "from conv1_1 BN"]), max_size=2))
    text = f"[{' + '.join(draw(st.permutations(branches)))}]"
    return text + draw(st.sampled_from(["", "", " x2", " BN", " ReLU", " SiLU"]))


@st.composite
def _bracket(draw: st.DrawFn, depth: int) -> str:
    inner = _layer() if depth == 0 else st.one_of(_layer(), _sum(), _bracket(depth - 1))
    branch = st.one_of(
        inner, st.lists(inner, min_size=2, max_size=2).map(" ".join),
        st.sampled_from(["BN", "identity", "BN", "maxpool3/1(pad 1)"]),
    )  # fmt: skip
    branches = draw(st.lists(branch, min_size=1, max_size=4))
    sign = draw(st.sampled_from([" + ", " + ", " + ", " & "]))
    if sign == " + " and len(branches) > 1 and draw(st.integers(0, 4)) == 0:
        branches.append("shortcut")
    text = f"[{sign.join(branches)}]" + draw(st.sampled_from(["", "", " x2"]))
    # What is joined has other numbers of channels.
    text += draw(st.sampled_from(["", "", " BN", " ReLU"]))
    return f"{text} conv1-4" if sign == " & " else text


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_generated_graphs(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    _check_generated(text, tmp_path_factory.mktemp("graph"))


@settings(max_examples=8, deadline=None)
@given(net_texts())
def test_generated_columns(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    _check_generated(text, tmp_path_factory.mktemp("column"))


def _check_generated(text: str, folder: Path) -> None:
    """Merged is equal, and merged again there is nothing left to merge."""
    try:
        lowered = net(text)
    except VggspecError:
        return  # branches that do not fit
    spec, weights = random_net(text, folder)
    try:
        found = merge(spec, weights, out=folder / "merged.vgg")
    except VggspecError as error:
        if "VGG160" not in told(error):
            raise
        return
    x = torch.randn(2, *lowered.network.input.type.shape)
    # Sums of many branches of large numbers cancel: the error is that of float32 before them.
    assert error_of(found, spec, weights, x) <= 1e-4
    with refused("VGG160"):
        merge(found.spec, found.weights, out=folder / "again.vgg")


COLUMN = "input 8x8 RGB\nconv3-4(no-bias) BN\n[conv3-4 BN + BN + identity]\nFC-3\n"


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("conv1_1.weight", 0.0),
        ("bn1_1.running_var", 0.0),  # the deviation is the root of eps
        ("bn1_1.weight", 0.0),
        ("bn1_1.weight", -1.0),
        ("bn1_1.running_mean", 1e4),
        ("block1_conv1_bn.running_var", 1e30),
        ("block1_conv1.weight", 1e-40),  # denormal
    ],
)
def test_numbers_at_the_edge(array: str, value: float, tmp_path: Path) -> None:
    spec, weights = random_net(COLUMN, tmp_path)
    arrays = arrays_of(weights)
    arrays[array][:] = value
    save(weights, arrays, describe(vggspec.network(spec)))
    found = merge(spec, weights, out=tmp_path / "out.vgg")
    assert error_of(found, spec, weights, torch.randn(2, 3, 8, 8)) <= 1e-4


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    spec, weights = random_net(COLUMN, tmp_path)
    arrays = arrays_of(weights)
    arrays["bn1_1.running_var"][1] = 0
    arrays["bn1_1.weight"][1] = 3e38
    save(weights, arrays, describe(vggspec.network(spec)))
    with refused(r"numbers in `conv1_1.weight` are"):
        merge(spec, weights, out=tmp_path / "out.vgg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", "net.vgg"]


def test_arrays_are_made_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a few rows give the same bytes."""
    spec, weights = random_net(COLUMN, tmp_path)
    whole = merge(spec, weights, out=tmp_path / "whole.vgg")
    monkeypatch.setattr("vggspec.compiler.merging.numbers.CHUNK", 50)
    parts = merge(spec, weights, out=tmp_path / "parts.vgg")
    assert Path(parts.weights).read_bytes() == Path(whole.weights).read_bytes()
    assert CHUNK * 8 <= 16 << 20


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_both_files_are_written_or_neither(tmp_path: Path) -> None:
    """The spec is written last; a full disk leaves no weights without it."""
    spec, weights = random_net(COLUMN, tmp_path)
    (tmp_path / "out.vgg").symlink_to("/dev/full")
    with refused("no space"):
        merge(spec, weights, out=tmp_path / "out.vgg")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["net.safetensors", "net.vgg", "out.vgg"]
    (tmp_path / "out.safetensors").write_bytes(b"old")
    with refused("no space"):
        merge(spec, weights, out=tmp_path / "out.vgg")
    assert (tmp_path / "out.safetensors").read_bytes() == b"old"


def test_what_the_weights_say_is_kept(tmp_path: Path) -> None:
    spec, weights = random_net(COLUMN + "test:\n  scale 9\n  flip off\n", tmp_path)
    arrays = arrays_of(weights)
    said = describe(
        vggspec.network(spec), labels=("ant", "bee", "cat"), mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0), scale=1.0, color="RGB", source="keras", more={"epoch": "3"},
    )  # fmt: skip
    save(tmp_path / "said.safetensors", arrays, said)
    found = merge(spec, tmp_path / "said.safetensors", out=tmp_path / "out.vgg")
    kept = open_weights(found.weights).metadata
    assert (kept.net, kept.labels, kept.mean) == ("net-merged", said.labels, said.mean)
    assert (kept.std, kept.color, kept.source) == (said.std, "RGB", "keras")
    assert kept.more["epoch"] == "3"
    assert kept.is_finite
    text = Path(found.spec).read_text()
    assert text.startswith("net net-merged\ninput 8x8 RGB\n\n")
    assert text.endswith("\ntest:\n  scale 9\n  flip off\n")


def test_claims_are_those_of_the_merged_net(tmp_path: Path) -> None:
    text = "input 8x8 RGB\n[conv3-40 BN + conv1-40 BN]\nFC-30\n3 weight layers\n"
    text += "2 weight layers deep\n0.2M MACs\n"
    found = merge(*random_net(text, tmp_path), out=tmp_path / "out.vgg")
    assert text_of(found)[-3:] == ["2 weight layers", "2 weight layers deep", "0.1M MACs"]


def test_a_net_that_is_like_another(tmp_path: Path) -> None:
    (tmp_path / "base.vgg").write_text("input 8x8 RGB\nconv3-4 as stem BN\nconv3-4 BN\nFC-3\n")
    text = 'like "base.vgg" up to conv1_2\n[conv3-4 BN + BN] x2 as rep\nFC-3\n'
    (tmp_path / "net.vgg").write_text(text)
    network = vggspec.network(tmp_path / "net.vgg")
    module = randomised(torch_module.emit(network))
    trained(str(tmp_path / "net.vgg"), tmp_path / "w", module)
    found = merge(tmp_path / "net.vgg", tmp_path / "w", out=tmp_path / "out.vgg")
    assert text_of(found) == [
        "conv3-4 as stem", "conv3-4", "conv3-4 as rep_1", "conv3-4 as rep_2", "FC-3",
    ]  # fmt: skip
    x = torch.randn(2, 3, 8, 8)
    assert error_of(found, tmp_path / "net.vgg", tmp_path / "w", x) <= 1e-5


def test_what_is_refused(tmp_path: Path) -> None:
    spec, weights = random_net(COLUMN, tmp_path)
    with pytest.raises(ArgumentError, match="must end in"):
        merge(spec, weights, out=tmp_path / "out")
    with pytest.raises(ArgumentError, match="is a file that is read"):
        merge(spec, weights, out=spec)
    with pytest.raises(ArgumentError, match="is a file that is read"):
        merge(spec, weights, out=tmp_path / "net.vgg")
    (tmp_path / "other.vgg").write_text("input 8x8 RGB\nconv3-5 BN\nFC-3\n")
    with refused("VGG503"):
        merge(tmp_path / "other.vgg", weights, out=tmp_path / "out.vgg")
    with refused("VGG510"):
        merge(spec, tmp_path / "nothing", out=tmp_path / "out.vgg")
    changed = tmp_path / "changed.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    with refused("SHA-256"):
        merge(spec, changed, out=tmp_path / "out.vgg")
    assert not (tmp_path / "out.vgg").exists()
    assert not (tmp_path / "out.safetensors").exists()
