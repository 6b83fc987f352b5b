"""Specs of ONNX models: what they say, and that their nets give what PyTorch's give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vggspec
from tests.compiler.drafting.modules import (
    OPEN_BATCH,
    UNFOLDED,
    Crossed,
    Joined,
    Layers,
    Random,
    Sum,
    conv,
    exported,
    head,
    normed,
)
from tests.peers import made
from vggspec.compiler.drafting.proof import MOST_APART

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def agrees(net: nn.Module, path: Path, *shape: int, **options: Any) -> str:
    """The layers of the spec that is written, whose net gives what the module gives."""
    spec, out = path.with_suffix(".vgg"), path.with_suffix(".safetensors")
    given = vggspec.ImportOptions(**options)
    found = vggspec.import_weights(None, path, out=out, write_spec=spec, options=given)
    assert found.compared is not None
    assert found.compared.peer == "ONNX Runtime"
    assert found.compared.images >= 2
    assert found.compared.size == shape[1:]
    x = torch.randn(3, *shape)
    with torch.inference_mode():
        theirs = net(x)
        ours = vggspec.torch_module(spec, out)(x).reshape(theirs.shape)
    assert (ours - theirs).abs().max() <= MOST_APART * theirs.abs().max()
    text = spec.read_text()
    assert vggspec.format_text(text) == text
    network = vggspec.network(spec)
    assert f"\n{network.parameters} parameter" in text
    assert f"\n{len(network.weight_layers)} weight layer" in text
    return text


PLAIN = [
    *normed(3, 4), nn.ReLU(), *normed(4, 4), nn.ReLU(), nn.MaxPool2d(2),
    conv(4, 6, 5, 2), nn.ReLU(), nn.Flatten(),
    nn.Linear(24, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 3), nn.Softmax(1),
]  # fmt: skip
RESIDUAL = [
    *normed(3, 4), nn.ReLU(),
    *(
        layer
        for before, after, stride in ((4, 4, 1), (4, 4, 1), (4, 6, 2), (6, 6, 1))
        for layer in (
            Sum(
                [*normed(before, after, 3, stride), nn.ReLU(), *normed(after, after)],
                normed(before, after, 1, stride) if before != after else (),
                is_turned=True,
            ),
            nn.ReLU(),
        )
    ),
    *head(6, 5),
]  # fmt: skip
INVERTED = [
    *normed(3, 4, 3, 2), nn.ReLU6(),
    *(
        Sum([
            *normed(4, 12, 1), nn.ReLU6(), *normed(12, 12, groups=12), nn.ReLU6(), *normed(12, 4, 1)
        ])
        for _ in range(2)
    ),
    *normed(4, 8, 3, groups=2), nn.ReLU6(), *head(8, 3),
]  # fmt: skip


def dense(layers: int) -> list[nn.Module]:
    return [
        Joined((), [nn.BatchNorm2d(4 + 2 * i), nn.ReLU(), conv(4 + 2 * i, 2, bias=False)])
        for i in range(layers)
    ]


NETS: dict[str, tuple[Layers, tuple[int, ...], dict[str, Any]]] = {
    "plain": (PLAIN, (3, 8, 9), UNFOLDED),
    "plain-folded": (PLAIN, (3, 8, 9), {}),
    "residual": (RESIDUAL, (3, 8, 8), UNFOLDED),
    "residual-folded": (RESIDUAL, (3, 8, 8), OPEN_BATCH),
    "inverted": (INVERTED, (3, 8, 8), UNFOLDED),
    "dense": ([conv(3, 4), *dense(3), nn.AvgPool2d(2), *head(10, 3)], (3, 8, 8), UNFOLDED),
    "inception": (
        [
            Joined(
                [conv(1, 2, 1), nn.SiLU()],
                [conv(1, 3, 1), nn.SiLU(), nn.Conv2d(3, 2, (1, 3), padding=(0, 1)), nn.SiLU()],
                [nn.MaxPool2d(3, 1, 1)],
            ),
            nn.Conv2d(5, 3, 2, dilation=2), nn.SiLU(), nn.Flatten(), nn.Linear(3 * 36, 4),
        ],
        (1, 8, 8), {},
    ),
    "all-convs": (
        [
            conv(3, 4), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ZeroPad2d(1),
            nn.Conv2d(4, 5, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ],
        (3, 8, 8), {},
    ),
    "three-branches": (
        [Sum([Sum(normed(3, 3), normed(3, 3, 1))], [nn.BatchNorm2d(3)]), nn.ReLU(), *head(3, 2)],
        (3, 8, 8), UNFOLDED,
    ),
    "crossed": (
        [
            Crossed([conv(3, 3), nn.ReLU()], [conv(3, 3)], [nn.ReLU(), conv(3, 3)], is_long=False),
            *head(6, 2),
        ],
        (3, 8, 8), {},
    ),
    "before-activation": (
        [
            conv(3, 4, bias=False),
            *(Sum([nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.ReLU()]) for _ in range(3)),
            nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(), *head(4, 3),
        ],
        (3, 8, 8), UNFOLDED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_nets(name: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    layers, shape, options = NETS[name]
    path = tmp_path / "net.onnx"
    net = exported(layers, path, *shape, **options)
    golden(f"drafting/{name}.vgg", agrees(net, path, *shape))


@settings(max_examples=8, deadline=None, database=None)
@given(seed=st.integers(0, 1 << 32))
def test_nets_by_chance(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    chosen = Random(seed)
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    net = exported(chosen.layers, path, *chosen.shape, **chosen.options)
    agrees(net, path, *chosen.shape)


def test_local_response_normalisation_and_pooled_windows(tmp_path: Path) -> None:
    """What we export ourselves: PyTorch writes its LRN in other words."""
    text = "input 16x16 RGB(mean 0)\nconv3-8 LRN(n 3, alpha 0.0002)\nmaxpool3/2(ceil)\nFC-3\n"
    (tmp_path / "ours.vgg").write_text(text)
    weights = tmp_path / "ours.safetensors"
    vggspec.initialise(tmp_path / "ours.vgg", out=weights)
    vggspec.compile(tmp_path / "ours.vgg", weights=weights, out=tmp_path / "b", form="crop")
    spec, out = tmp_path / "again.vgg", tmp_path / "again.safetensors"
    found = vggspec.import_weights(None, tmp_path / "b/1/model.onnx", out=out, write_spec=spec)
    assert found.compared is not None
    ours, again = (vggspec.network(path) for path in (tmp_path / "ours.vgg", spec))
    assert [layer.op for layer in again.layers] == [layer.op for layer in ours.layers]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [("resnet18", {}), ("resnet18", {"dynamo": True}), ("mobilenet_v2", UNFOLDED)],
)
@pytest.mark.parametrize("source", ["torchvision"])
def test_nets_of_torchvision(name: str, more: dict[str, Any], source: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    net = exported([made(name)], path, 3, 64, 64, **more)
    text = agrees(net, path, 3, 64, 64, source=source)
    packaged = {"resnet18": "resnet:ResNet-18", "mobilenet_v2": "mobilenetv2"}[name]
    ours = vggspec.network(packaged)
    assert f"\n{len(ours.weight_layers)} weight layers" in text
    if more is UNFOLDED:
        assert f"\n{ours.parameters} parameters" in text
    else:
        assert "[conv3-128/2(once) conv3-128 + shortcut] x2" in text
