"""Nets whose maps become finer again, against modules of torch written out by hand."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.nets import disagreement, images, narrowed, net, random_weights, spec_of_ours
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.sizes import Remainders, Sizes
from vggspec.compiler.backends.onnx import model as onnx_model
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.backends.torch import source as torch_source
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.passes import RoundPools
from vggspec.compiler.sizes import sizes

Forward = Callable[[dict[str, Tensor], Tensor], Tensor]

TOLERANCE = 2e-6

UNET = """\
net U-Net
input 92x92 gray

block up(c, skip):
  upconv2-{c}/2 as larger
  [identity & from {skip} crop(larger)]
  conv3-{c}(pad 0) x2

conv3-4(pad 0) x2     maxpool
conv3-6(pad 0) x2     maxpool
conv3-8(pad 0) x2
up(6, conv2_2)
up(4, conv1_2)
conv1-2 as score
soft-max(map)
"""

RESIZED = """\
net resized
input 33x29 gray
maxpool(ceil) conv3-4 as wide
maxpool(ceil) conv3-6 as quarter
[up2(bilinear) crop(wide) & from wide conv1-3] as joined
up2 crop(image)
conv1-4 as fine
[identity & from quarter resize(fine) & from quarter resize(image, nearest)]
conv1-3
soft-max(map)
"""


def _relu_conv(w: dict[str, Tensor], x: Tensor, name: str, padding: int) -> Tensor:
    return _conv(w, x, name, padding).relu()


def _conv(w: dict[str, Tensor], x: Tensor, name: str, padding: int = 0, stride: int = 1) -> Tensor:
    return functional.conv2d(
        x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride, padding=padding
    )


def _larger(w: dict[str, Tensor], x: Tensor, name: str, stride: int, padding: int) -> Tensor:
    weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
    return functional.conv_transpose2d(x, weight, bias, stride=stride, padding=padding)


def fcn8s(w: dict[str, Tensor], image: Tensor, *, ceil: bool = False) -> Tensor:
    """Long, Shelhamer & Darrell 2015, figure 3: fc6 keeps the resolution."""
    x, pools = image, {}
    for block, convs in enumerate((2, 2, 3, 3, 3), 1):
        for place in range(1, convs + 1):
            x = _relu_conv(w, x, f"conv{block}_{place}", 1)
        x = pools[block] = functional.max_pool2d(x, 2, 2, ceil_mode=ceil)
    x = _relu_conv(w, x, "fc6", 3)
    x = _relu_conv(w, x, "fc7", 0)
    x = _conv(w, x, "score")
    for name, pool in (("fuse4", pools[4]), ("fuse3", pools[3])):
        x = _larger(w, x, f"{name}_upconv1", 2, 1)
        x = x[:, :, : pool.shape[2], : pool.shape[3]] + _conv(w, pool, f"{name}_conv1")
    x = _larger(w, x, "upconv1", 8, 4)[:, :, : image.shape[2], : image.shape[3]]
    return x.softmax(1)


def unet(w: dict[str, Tensor], image: Tensor) -> Tensor:
    """Ronneberger, Fischer & Brox 2015, figure 1, with two poolings: what lies in one place is
    joined, and of an odd number of rows pooling has left out the last.
    """
    x, skips = image, []
    for block in (1, 2, 3):
        for place in (1, 2):
            x = _relu_conv(w, x, f"conv{block}_{place}", 0)
        skips.append(x)
        x = functional.max_pool2d(x, 2) if block < 3 else x
    for block, skip, cut in ((1, skips[1], 4), (2, skips[0], 16)):
        x = _larger(w, x, f"up{block}_larger", 2, 0)
        x = torch.cat([x, skip[:, :, cut : cut + x.shape[2], cut : cut + x.shape[3]]], 1)
        for place in (1, 2):
            x = _relu_conv(w, x, f"up{block}_conv{place}", 0)
    return _conv(w, x, "score").softmax(1)


def resized(w: dict[str, Tensor], image: Tensor) -> Tensor:
    wide = _relu_conv(w, functional.max_pool2d(image, 2, ceil_mode=True), "wide", 1)
    quarter = _relu_conv(w, functional.max_pool2d(wide, 2, ceil_mode=True), "quarter", 1)
    rows, columns = wide.shape[2:]
    x = functional.interpolate(quarter, scale_factor=2.0, mode="bilinear", align_corners=False)
    x = torch.cat([x[:, :, :rows, :columns], _relu_conv(w, wide, "joined_conv1", 0)], 1)
    size = image.shape[2:]
    x = functional.interpolate(x, scale_factor=2.0)[:, :, : size[0], : size[1]]
    fine = _relu_conv(w, x, "fine", 0)
    smooth = functional.interpolate(quarter, size=size, mode="bilinear", align_corners=False)
    x = torch.cat([fine, smooth, functional.interpolate(quarter, size=size, mode="nearest")], 1)
    return _conv(w, x, "conv3_3").softmax(1)


CASES: list[tuple[str, Callable[[], Lowered], Forward, tuple[tuple[int, int], ...]]] = [
    ("fcn8s", lambda: narrowed("fcn8s", 16), fcn8s, ((32, 32), (64, 96))),
    ("unet", lambda: net(UNET), unet, ((44, 44), (48, 53), (61, 46), (47, 59))),
    ("resized", lambda: net(RESIZED), resized, ((1, 1), (8, 9), (31, 26), (17, 40))),
]


@pytest.mark.parametrize(
    ("made", "forward", "tried"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_numbers_at_several_sizes(
    made: Callable[[], Lowered],
    forward: Forward,
    tried: tuple[tuple[int, int], ...],
    tmp_path: Path,
) -> None:
    """The module, the source text and the graph, against functions of torch, at every size."""
    lowered = made()
    weights = random_weights(lowered, tmp_path / "model.safetensors")
    prepared = prepare(lowered.network, CompileOptions())
    module = torch_module.loaded(prepared, weights).eval()
    state = {key: tensor.detach() for key, tensor in module.state_dict().items()}
    scope: dict[str, object] = {}
    exec(torch_source.emit(prepared, (0.0,) * prepared.input.channels, "test.vgg"), scope)
    written = scope["load"](str(weights.path))  # type: ignore[operator]
    channels = prepared.input.channels
    graph = onnx_model.emit(prepared, weights, mean=(0.0,) * channels, is_dynamic=True)
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for height, width in tried:
        image = images(2, channels, height, width)
        with torch.inference_mode():
            expected = forward(state, torch.from_numpy(image)).numpy()
            found = module(torch.from_numpy(image)).numpy()
            of_source = written(torch.from_numpy(image)).numpy()
        assert expected.shape[2:] == prepared.at(height, width).layers[-1].type.size
        assert disagreement(found, expected) < TOLERANCE
        assert disagreement(of_source, expected) < TOLERANCE
        (of_graph,) = session.run(None, {"image": image})
        assert disagreement(of_graph, expected) < TOLERANCE


def test_numbers_of_fcn8s_with_poolings_that_round_up(tmp_path: Path) -> None:
    """At sizes that are no multiples of 32."""
    lowered = narrowed("fcn8s", 16)
    weights = random_weights(lowered, tmp_path / "model.safetensors")
    prepared = prepare(lowered.network, CompileOptions(pool="ceil"))
    module = torch_module.loaded(prepared, weights).eval()
    for height, width in ((33, 1), (47, 95)):
        image = torch.from_numpy(images(1, 3, height, width))
        with torch.inference_mode():
            expected = fcn8s(module.state_dict(), image, ceil=True).numpy()
            assert disagreement(module(image).numpy(), expected) < TOLERANCE
        assert expected.shape == (1, 21, height, width)


def test_sizes_at_which_maps_are_held() -> None:
    """FCN-8s: one remainder of 32, and all of them where poolings round up; U-Net: all of 16."""
    network = narrowed("fcn8s").network
    multiples = Remainders(32, (0,))
    assert sizes(network).sizes == Sizes(multiples, multiples)
    assert sizes(RoundPools("ceil")(network)).sizes == "any"
    found = sizes(narrowed("unet").network)
    assert (found.least, found.sizes) == ((188, 188), "any")


def test_where_u_net_cuts() -> None:
    """The figure: 64 to 56, 136 to 104, 280 to 200, 568 to 392."""
    network = spec_of_ours("unet").network
    cuts = {
        (network.types_of(layer)[0].size[0], layer.type.size[0]): layer.op.offset
        for layer in network.layers
        if isinstance(layer.op, Crop)
    }
    assert cuts == {
        (64, 56): (4, 4),
        (136, 104): (16, 16),
        (280, 200): (40, 40),
        (568, 392): (88, 88),
    }
    assert network.layers[-1].type.shape == (2, 388, 388)
