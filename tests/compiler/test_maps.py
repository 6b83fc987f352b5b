"""Nets whose maps become finer again, against modules of torch written out by hand."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from tests.nets import (
    disagreement,
    images,
    narrowed,
    net,
    openvino,
    random_weights,
    run_onnx,
    session,
    spec_of_ours,
)
from tests.refusals import refused
from vggspec.base.recipe import TrainRecipe
from vggspec.base.watcher import SILENT
from vggspec.bundle.options import CompileOptions, EngineOptions, Precision
from vggspec.bundle.profile import Profile
from vggspec.bundle.sizes import Remainders, Sizes
from vggspec.compiler.backends.onnx import model as onnx_model
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.backends.torch import source as torch_source
from vggspec.compiler.bundling.engine import write_engine_bundle
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.geometry import fields
from vggspec.compiler.importing.converting import import_weights
from vggspec.compiler.initialise import draw
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.passes import CheckJoins, FinerStride, RoundPools
from vggspec.compiler.precision import number_types
from vggspec.compiler.sizes import sizes
from vggspec.compiler.tensor import TensorType
from vggspec.compiler.weights import open_weights

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

#: FCN-8s in small: poolings that round up, two joins, and the image's own size.
FCN = """\
net FCN
input 24x40 RGB(mean 0)
conv3-4 maxpool(ceil) conv3-4 maxpool(ceil) conv3-6 maxpool(ceil)
conv3-6 conv1-3(linear) as score
[upconv4-3/2(no-bias) crop(pool2) + from pool2 conv1-3(linear)] as fuse
upconv8-3/4(no-bias) crop(image)
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
    of_graph = session(tmp_path / "model.onnx")
    for height, width in tried:
        image = images(2, channels, height, width)
        with torch.inference_mode():
            expected = forward(state, torch.from_numpy(image)).numpy()
            found = module(torch.from_numpy(image)).numpy()
            of_source = written(torch.from_numpy(image)).numpy()
        assert expected.shape[2:] == prepared.at(height, width).layers[-1].type.size
        assert disagreement(found, expected) < TOLERANCE
        assert disagreement(of_source, expected) < TOLERANCE
        (in_onnx,) = run_onnx(of_graph, image).values()
        assert disagreement(in_onnx, expected) < TOLERANCE


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


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fcn32s", 136152917),
        ("fcn16s", 134815994),
        ("fcn8s", 134489759),
        ("unet", 31030658),
        ("vgg-unet", 25855957),
        ("deeplab-largefov", 20505429),  # 20.5 million: Chen et al. 2018, table 2
    ],
)
def test_parameters_by_hand(name: str, parameters: int) -> None:
    def conv(before: int, after: int, window: int = 3) -> int:
        return before * after * window**2 + after

    widths = (3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6)
    base = sum(conv(*pair) for pair in pairwise(widths))
    assert base == 14714688
    head = conv(512, 4096, 7) + conv(4096, 4096, 1) + conv(4096, 21, 1)
    skips = {"fcn32s": (), "fcn16s": (512,), "fcn8s": (512, 256)}
    if name in skips:
        last = {0: 32, 1: 16, 2: 8}[len(skips[name])]
        found = base + head + sum(conv(width, 21, 1) + 21 * 21 * 16 for width in skips[name])
        found += 21 * 21 * (2 * last) ** 2
    elif name == "deeplab-largefov":
        found = base + conv(512, 1024) + conv(1024, 1024, 1) + conv(1024, 21, 1)
    else:
        wide = (1024, 512, 256, 128, 64) if name == "unet" else (512, 512, 256, 128, 64)
        down = (1, 64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024)
        found = base if name == "vgg-unet" else sum(conv(*pair) for pair in pairwise(down))
        for before, after in pairwise(wide):
            found += conv(before, after, 2) + conv(2 * after, after) + conv(after, after)
        found += conv(64, 21 if name == "vgg-unet" else 2, 1)
    assert spec_of_ours(name).network.parameters == found == parameters


@pytest.mark.parametrize("text", [FCN, RESIZED], ids=["FCN", "resized"])
def test_other_runtimes_give_what_onnx_runtime_gives(text: str, tmp_path: Path) -> None:
    """OpenVINO and ONNX's reference evaluator, at two sizes of one file."""
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    path = tmp_path / "b/1/model.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    compiled = openvino().compile_model(str(path), "CPU")
    reference = ReferenceEvaluator(str(path))
    for height, width in ((24, 40), (19, 7)):
        x = images(1, lowered.network.input.channels, height, width)
        (expected,) = run_onnx(session(path), x).values()
        assert expected.shape[2:] == (height, width)
        assert disagreement(compiled({"image": x})["posterior_map"], expected) < TOLERANCE
        (found,) = reference.run(None, {"image": x})
        assert disagreement(found, expected) < TOLERANCE


@pytest.mark.parametrize(("text", "precision"), [(FCN, "fp16"), (FCN, "bf16"), (RESIZED, "fp16")])
def test_tensorrt_builds(text: str, precision: Precision, tmp_path: Path) -> None:
    """An engine for a range of sizes; each layer has the number type that was asked for."""
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    profile = Profile((1, 16, 24), (2, 24, 40), (4, 33, 47))
    engine = EngineOptions(flavour="tensorrt_rtx", profiles=(profile,))
    options = CompileOptions(precision=precision, engine=engine)
    manifest = write_engine_bundle(lowered, weights, tmp_path / "b", options, SILENT).manifest
    assert (manifest.precision, manifest.input.sizes) == (precision, "any")


def test_number_types_of_maps_that_become_finer() -> None:
    """An upconv computes in the type that is chosen, what copies or interpolates in that it reads;
    a crop's second input, of which it reads the size, does not count.
    """
    types = number_types(net(FCN).network, "fp16")
    assert {types[name] for name in ("fuse_upconv1", "fuse_crop1", "upconv1", "crop1")} == {"fp16"}
    assert types["prob"] == "fp32"
    assert number_types(net(FCN).network, "fp16", ["pool2"])["fuse_crop1"] == "fp16"
    types = number_types(net(FCN).network, "bf16")  # TensorRT-RTX does not build it in bf16
    assert (types["score"], types["upconv1"], types["crop1"]) == ("bf16", "fp32", "fp32")


def test_an_upconv_begins_by_interpolating() -> None:
    """As in FCN: what ``interpolate`` gives, but for the border, where it sees zeros."""
    (param, *_) = UpConv(kernel_size=(4, 4), out_channels=3, stride=2, padding=(1, 1)).params(
        (TensorType((3, 5, 6)),), "up"
    )
    assert param.start == "bilinear"
    flat = np.concatenate(list(draw(param, TrainRecipe(), 0)))
    x = torch.from_numpy(images(1, 3, 5, 6))
    weight = torch.from_numpy(flat.reshape(param.shape))
    found = functional.conv_transpose2d(x, weight, stride=2, padding=1)
    expected = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inside], expected[inside])


@pytest.mark.parametrize(
    "op",
    [
        UpConv(kernel_size=(2, 2), out_channels=3, stride=2),
        UpConv(kernel_size=(4, 4), out_channels=6, stride=2, padding=(1, 1)),
        UpConv(kernel_size=(3, 3), out_channels=3, padding=(1, 1)),
    ],
    ids=Op.write,
)
def test_other_upconvs_begin_with_random_weights(op: UpConv) -> None:
    """Of a window that does not interpolate, or other channels; as wide as N incoming numbers ask
    for (Ronneberger et al. 2015, section 3).
    """
    param = op.params((TensorType((512, 5, 6)),), "up")[0]
    assert param.start == "random"
    numbers = np.concatenate(list(draw(param, TrainRecipe(start="he"), 0)))
    incoming = 512 * op.kernel_size[0] ** 2 / op.stride**2
    assert abs(numbers.std() / np.sqrt(2 / incoming) - 1) < 0.05


@pytest.mark.parametrize(
    "layers",
    [
        "conv3-2(linear) up2 conv3-2(linear)",
        "conv3-2(linear) up3(bilinear) conv3-2(linear)",
        "conv3-2(linear) upconv4-2/2 conv3-2(linear) upconv4-2/2",
        "conv3-2(linear) resize(image) conv3-2(linear)",
        "as a avgpool conv3-2(linear) [resize(a) + from a conv1-2(linear)] up4 conv3-2",
        "upconv5-2/3 avgpool2/1",
    ],
)
def test_receptive_fields_by_gradients(layers: str) -> None:
    """The largest window of eight positions is the field, where a map has become finer too."""
    network = net(f"input 64x64 gray\navgpool conv3-2(linear) avgpool {layers}").network
    module = torch_module.emit(network)
    for weights in module.parameters():
        nn.init.constant_(weights, 0.01)
    image = torch.rand(1, 1, 64, 64, requires_grad=True)
    y = module(image)
    middle = y.shape[2] // 2
    widest = 0
    for row in range(middle - 4, middle + 4):
        (slopes,) = torch.autograd.grad(y[0, 0, row, middle], image, retain_graph=True)
        (rows,) = slopes.abs().sum((0, 1, 3)).nonzero(as_tuple=True)
        widest = max(widest, int(rows[-1] - rows[0]) + 1)
    assert fields(network)[network.outputs[0].layer].size[0] == widest


def test_no_finer_stride_before_maps_that_become_finer() -> None:
    network = net(FCN).network
    assert FinerStride(1)(network) is network
    with refused("VGG304"):
        FinerStride(2)(network)


def test_an_average_does_not_go_back_into_a_map() -> None:
    text = "input 16x16 gray\nconv3-4 as a\n[identity & gap conv1-2 resize(a)]\nconv1-3\n"
    network = net(text + "soft-max(map)").network
    with refused("VGG305"):
        CheckJoins()(network)


def test_rounding_that_a_crop_does_not_bear() -> None:
    """With poolings rounded down the finer map no longer holds the other one."""
    with refused("VGG273"):
        RoundPools("floor")(net(FCN.replace("24x40", "25x41")).network)


def test_a_crop_reads_a_size_and_no_numbers() -> None:
    """Nothing else reads `wide`: it is an end of the net, which must be named."""
    with refused("VGG144"):
        net("input 9x9 gray\nconv3-4 as wide\nfrom image\nconv3-4 crop(wide)\n")


def test_weights_of_a_module_by_their_order(tmp_path: Path) -> None:
    """The weights of a plain module of torch, imported by order and shape."""
    lowered = net(FCN.replace("(mean 0)", ""))
    module = nn.Sequential(
        *(nn.Conv2d(*pair, 3) for pair in ((3, 4), (4, 4), (4, 6), (6, 6))),
        nn.Conv2d(6, 3, 1),
        nn.ConvTranspose2d(3, 3, 4, 2, 1, bias=False),
        nn.Conv2d(4, 3, 1),
        nn.ConvTranspose2d(3, 3, 8, 4, 2, bias=False),
    )
    torch.save(module.state_dict(), tmp_path / "fcn.pth")
    (tmp_path / "fcn.vgg").write_text(FCN)
    import_weights(tmp_path / "fcn.vgg", tmp_path / "fcn.pth", out=tmp_path / "fcn.safetensors")
    weights = open_weights(tmp_path / "fcn.safetensors")
    for param, tensor in zip(lowered.network.params(), module.state_dict().values(), strict=True):
        np.testing.assert_array_equal(weights.read(param.name), tensor.numpy())


def test_a_bundle_has_no_positions_between_pixels() -> None:
    with refused("VGG306.*1/2 pixels"):
        prepare(net("input 8x8 gray\nconv3-4 up2 conv1-2\nsoft-max(map)").network, CompileOptions())
