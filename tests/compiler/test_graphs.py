"""Specs with brackets, blocks and branches, against layers, names and numbers written out here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as f

from tests.nets import net
from vggspec.base.source import Source
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.checking import check_source
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered, lower
from vggspec.compiler.passes import TRAINING, run
from vggspec.lang.loading import load, pick
from vggspec.lang.parser import parse


def _layers(network: Network) -> list[str]:
    return [f"{layer.name}: {' '.join(layer.inputs)}" for layer in network.layers]


def _made(text: str, size: int = 16) -> tuple[torch_module.SpecModule, Any, Tensor]:
    """The module of a net with random statistics, its arrays by name, and two images."""
    torch.manual_seed(0)
    module = torch_module.emit(run(TRAINING, net(f"input {size}x{size} RGB\n{text}").network))
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.running_mean.normal_()  # type: ignore[union-attr, operator]
            each.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    state = module.eval().state_dict()

    def conv(x: Tensor, name: str, **more: Any) -> Tensor:
        weight = state[f"{name}.weight"]
        return f.conv2d(x, weight, state.get(f"{name}.bias"), **more)

    def norm(x: Tensor, name: str) -> Tensor:
        arrays = (state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight"))
        return f.batch_norm(x, *arrays, state[f"{name}.bias"])

    conv.norm = norm  # type: ignore[attr-defined]
    return module, conv, torch.randn(2, 3, size, size)


def _scores(x: Tensor, name: str, module: torch.nn.Module) -> Tensor:
    state = module.state_dict()
    return f.linear(x.flatten(1), state[f"{name}.weight"], state[f"{name}.bias"])


@torch.inference_mode()
def test_a_sum_takes_over_the_activation() -> None:
    module, conv, x = _made("conv3-4\n[conv3-4 conv3-4 + identity]\nFC-5 as head\n")
    first = conv(x, "conv1_1", padding=1).relu()
    inner = conv(first, "block1_conv1", padding=1).relu()
    summed = (conv(inner, "block1_conv2", padding=1) + first).relu()
    torch.testing.assert_close(module(x), _scores(summed, "head", module))


@torch.inference_mode()
def test_a_shortcut_fits_channels_and_stride() -> None:
    text = "conv is conv(no-bias) BN ReLU\nconv3-4 as conv1\n"
    text += "[conv3-8/2(once) conv3-8 + shortcut] x2 as conv2\ngap FC-5 as head\n"
    module, conv, x = _made(text)
    norm = conv.norm
    x1 = norm(conv(x, "conv1", padding=1), "bn1").relu()
    for stride, at in ((2, "conv2_1"), (1, "conv2_2")):
        y = norm(conv(x1, f"{at}_conv1", padding=1, stride=stride), f"{at}_conv1_bn").relu()
        y = norm(conv(y, f"{at}_conv2", padding=1), f"{at}_conv2_bn")
        if stride == 2:
            x1 = norm(conv(x1, f"{at}_shortcut", stride=2), f"{at}_shortcut_bn")
        x1 = (y + x1).relu()
    torch.testing.assert_close(module(x), _scores(x1.mean((2, 3)), "head", module))
    names = {name.partition(".")[0] for name in module.state_dict()}
    assert "conv2_2_shortcut" not in names
    assert not any(name.endswith("conv1.bias") for name in module.state_dict())


@pytest.mark.parametrize(
    ("fit", "parameters"),
    [("", 4 * 8 + 8), ("(pad)", 0), ("(project)", 4 * 8 + 8 + 8 * 8 + 8), ("(drop)", 0)],
)
@torch.inference_mode()
def test_kinds_of_shortcut(fit: str, parameters: int) -> None:
    text = f"conv3-4\n[conv3-8/2(once) + shortcut{fit}] x2\ngap FC-5 as head\n"
    module, conv, x = _made(text, 9)
    plain = _made("conv3-4\nconv3-8/2\nconv3-8\ngap FC-5 as head\n", 9)[0]
    own, other = (sum(p.numel() for p in one.parameters()) for one in (module, plain))
    assert own - other == parameters
    x1 = conv(x, "conv1_1", padding=1).relu()
    for stride, at in ((2, "block1"), (1, "block2")):
        y = conv(x1, f"{at}_conv1", padding=1, stride=stride)
        if fit in ("", "(project)") and (stride == 2 or fit):
            y = y + conv(x1, f"{at}_shortcut", stride=stride)
        elif fit == "(pad)" and stride == 2:
            y = y + torch.cat([x1[:, :, ::2, ::2], torch.zeros(2, 4, 5, 5)], 1)
        elif stride == 1:
            y = y + x1
        x1 = y.relu()
    torch.testing.assert_close(module(x), _scores(x1.mean((2, 3)), "head", module))


@torch.inference_mode()
def test_channels_are_joined_in_the_order_written() -> None:
    text = "conv is BN ReLU conv(no-bias)\nconv3-4(plain) as stem\n"
    text += "[identity & conv1-6 conv3-2] x2\nBN ReLU gap FC-5 as head\n"
    module, conv, x = _made(text)
    norm = conv.norm
    y = conv(x, "stem", padding=1)
    for at in ("block1", "block2"):
        z = conv(norm(y, f"{at}_conv1_bn").relu(), f"{at}_conv1")
        z = conv(norm(z, f"{at}_conv2_bn").relu(), f"{at}_conv2", padding=1)
        y = torch.cat([y, z], 1)
    y = norm(y, "bn_stem").relu().mean((2, 3))
    torch.testing.assert_close(module(x), _scores(y, "head", module))


@torch.inference_mode()
def test_a_block_with_parameters() -> None:
    text = (
        "block up(c, of, s = 1):\n  conv3-{c}/{s}\n  [conv1-{2*c} + from {of} conv1-{in*2}/{s}]\n"
    )
    text += "conv3-4 as one  maxpool as less\n"
    text += "up(6, less)  up(of less, c 6, s 2) as last\nFC-5 as head\n"
    module, conv, x = _made(text)
    one = conv(x, "one", padding=1).relu()
    half = f.max_pool2d(one, 2)
    y = conv(half, "up1_conv1", padding=1).relu()
    y = (conv(y, "up1_conv2") + conv(half, "up1_conv3")).relu()
    z = conv(y, "last_conv1", padding=1, stride=2).relu()
    z = (conv(z, "last_conv2") + conv(half, "last_conv3", stride=2)).relu()
    torch.testing.assert_close(module(x), _scores(z, "head", module))


@torch.inference_mode()
def test_taps_and_heads() -> None:
    text = "conv3-4 maxpool conv3-6 as trunk  FC-5 as main\nfrom conv1_1\n"
    text += "maxpool FC-8 as hidden FC-3 as aux\noutputs aux conv1_1 trunk main\n"
    module, conv, x = _made(text)
    first = conv(x, "conv1_1", padding=1).relu()
    pooled = f.max_pool2d(first, 2)
    trunk = conv(pooled, "trunk", padding=1).relu()
    expected = {
        "aux": _scores(_scores(pooled, "hidden", module).relu(), "aux", module),
        "conv1_1": first,
        "trunk": trunk,
        "main": _scores(trunk, "main", module),
    }
    found = module(x)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


@torch.inference_mode()
def test_a_written_activation_replaces_the_implied_one() -> None:
    module, conv, x = _made("conv3-4 SiLU\nconv3-4 BN ReLU6\nconv3-5 ReLU gap\n")
    y = f.silu(conv(x, "conv1_1", padding=1))
    y = f.relu6(conv.norm(conv(y, "conv1_2", padding=1), "bn1_2"))
    y = conv(y, "conv1_3", padding=1).relu().mean((2, 3))
    torch.testing.assert_close(module(x), y)


@torch.inference_mode()
def test_a_written_activation_keeps_the_implied_norm() -> None:
    module, conv, x = _made("conv is conv(no-bias) BN ReLU\nconv3-4 SiLU\nconv3-5 gap\n")
    y = f.silu(conv.norm(conv(x, "conv1_1", padding=1), "bn1_1"))
    torch.testing.assert_close(module(x), conv(y, "conv1_2", padding=1).mean((2, 3)))


def test_a_norm_that_is_a_branch_belongs_to_no_conv() -> None:
    network = net("input 9x9 RGB\nconv3-4\n[conv3-4 BN + conv1-4 BN + BN] as rep\nFC-2\n").network
    assert network["rep_add"].inputs == ("rep_conv1_bn", "rep_conv2_bn", "rep_bn1")


def test_names() -> None:
    text = """\
input 32x32 RGB
conv3-4
[conv3-4 BN conv3-4 dropout] x2
maxpool
[[conv1-4 & conv3-4] + conv1-8(linear) ] as both
[conv3-8 [conv3-8] x2 as inner + shortcut]
conv3-4
FC-9 FC-5
"""
    names = """\
conv1_1 relu1_1
block1_conv1 block1_conv1_bn block1_conv1_relu block1_conv2 block1_conv2_relu block1_drop1
block2_conv1 block2_conv1_bn block2_conv1_relu block2_conv2 block2_conv2_relu block2_drop1
pool1
both_conv1 both_conv1_relu both_conv2 both_conv2_relu both_concat both_conv3 both_add
block3_conv1 block3_conv1_relu block3_inner_1_conv1 block3_inner_1_conv1_relu
block3_inner_2_conv1 block3_add block3_add_relu
conv2_1 relu2_1 flatten fc3 relu3 drop3 fc4
"""
    assert [layer.name for layer in net(text).network.layers] == names.split()


def test_columns_with_the_line_have_the_names_of_written_norms() -> None:
    written = net("input 16x16 RGB\nconv3-4(no-bias) BN conv3-4(no-bias) BN maxpool FC-5\n")
    meant = net("input 16x16 RGB\nconv is conv(no-bias) BN ReLU\nconv3-4 conv3-4 maxpool FC-5\n")
    assert _layers(written.network) == _layers(meant.network)
    assert written.network.parameters == meant.network.parameters


def _self_contained(lowered: Lowered) -> None:
    """The text of a net gives the same net again."""
    again = lower(pick(parse(Source("again.vgg", lowered.text)), lowered.network.name))
    assert _layers(again.network) == _layers(lowered.network)
    assert list(again.network.params()) == list(lowered.network.params())
    assert [layer.type for layer in again.network.layers] == [
        layer.type for layer in lowered.network.layers
    ]
    assert again.network.outputs == lowered.network.outputs


@pytest.mark.parametrize(
    ("up_to", "rest", "last"),
    [
        (" up to conv2_1", "maxpool FC-5\n", "conv2_1_add_relu"),
        (" up to conv2", "FC-5\n", "conv2_2_add_relu"),
        (" up to fork", "outputs conv1_1 conv2_1 fork\n", "fork_concat"),
        ("", "FC-5\n", "head"),
    ],
)
def test_like_a_graph(tmp_path: Path, up_to: str, rest: str, last: str) -> None:
    (tmp_path / "base.vgg").write_text(
        "input 16x16 RGB\nconv is conv(no-bias) BN ReLU\n"
        "block two(c):\n  conv3-{c}\n  & conv1-{c}\n"
        "conv3-4\n[conv3-6/2(once) + shortcut] x2 as conv2\ntwo(4) as fork\nFC-7 as head\n"
    )
    path = tmp_path / "derived.vgg"
    path.write_text(f'like "base.vgg"{up_to}\n{rest}')
    lowered = lower(load(str(path)))
    names = [layer.name for layer in lowered.network.layers]
    assert last in names
    assert ("relu_head" in names) is False
    _self_contained(lowered)


def test_weight_layers_and_depth() -> None:
    text = "input 16x16 RGB\nconv3-4\n[conv3-8/2 conv3-8 + shortcut]\n[conv1-4 & dwconv3 conv1-4]\n"
    text += "FC-5\n7 weight layers\n6 weight layers deep\n"
    network = net(text).network
    assert [layer.name for layer in network.layers if layer.op.keyword == "shortcut"] == [
        "block1_shortcut"
    ]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("block b(c):\n  conv3-{c}\nb(1.5) FC-2\n", ["VGG149"]),
        ("block b(c):\n  conv3-{c}\n| layer | c |\n|--|--|\n| b | 1.5 |\n\nFC-2\n", ["VGG149"]),
        ("block b(c):\n  conv3-{0x10+c}\nb(1) FC-2\n", ["VGG148"]),
        ("block b(c):\n  conv3-{1_0*c}\nb(1) FC-2\n", ["VGG148"]),
        ("block b(C, s):\n  conv3-{c}/{S}\nb(S 2, c 3) FC-2\n", []),
        # A block that no layer uses is read too, as far as it can be.
        ("block b(c):\n  conv3-{c} bogus\nconv3-4 FC-2\n", ["VGG101"]),
        ("block b(c):\n  [conv3-{c} + bogus]\nconv3-4 FC-2\n", ["VGG101"]),
        ("block b(c):\n  conv3-{c} identity maxpool\nconv3-4 FC-2\n", []),
    ],
)
def test_arguments_and_words_of_blocks(text: str, codes: list[str]) -> None:
    reports = check_source(Source("b.vgg", text)).reports
    assert [report.what.code for report in reports] == codes
