"""The ONNX model agrees with PyTorch for every spec, in both forms, at sizes that are awkward."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxslim
import polygraphy.backend.onnx as polygraphy_onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from tests.conftest import ROOT
from tests.nets import (
    COLUMNS,
    FEW_GRAPHS,
    GRAPHS,
    SMALL,
    Arrays,
    disagreement,
    images,
    narrowed,
    net,
    openvino,
    random_weights,
    run_onnx,
    run_torch,
    session,
    spec_of_ours,
)
from tests.refusals import refused
from vggspec.bundle.manifest import WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.input_contract import settled
from vggspec.compiler.lower import load_network
from vggspec.compiler.weights import open_weights
from vggspec.runtime.preprocess import normalise

if TYPE_CHECKING:
    from vggspec.compiler.passes import Form

#: Relative to the largest number, float32. The orders in which libraries add up differ, and with
#: them the last digits: 6e-6 was seen on processors with AVX-512, 1.4e-5 on one with AVX2 alone.
TOLERANCE = 3e-5

OTHERS = tuple(name for name in GRAPHS if name not in FEW_GRAPHS)
#: Landscape, portrait, larger than any crop, and one pixel more than a window.
SIZES = [(256, 341), (341, 256), (384, 512), (225, 225)]


@pytest.mark.parametrize(
    ("name", "is_wide", "sizes"),
    [
        *(pytest.param(name, False, SIZES, id=name) for name in COLUMNS),
        *(pytest.param(name, False, SIZES[:1], id=name) for name in FEW_GRAPHS),
        pytest.param("vgg-f", True, SIZES[:1], id="vgg-f at its full width"),
        *(
            pytest.param(name, True, SIZES, id=f"wide {name}", marks=pytest.mark.slow)
            for name in (*COLUMNS, *GRAPHS)
        ),
        *(pytest.param(name, False, SIZES, id=name, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_all_forms_agree(
    name: str,
    is_wide: bool,
    sizes: list[tuple[int, int]],
    tmp_path: Path,
    record_property: pytest.FixtureRequest,
) -> None:
    lowered = spec_of_ours(name) if is_wide else narrowed(name)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    image = lowered.network.input
    has_classes = lowered.network.outputs[0].name in ("posteriors", "scores")
    worst = 0.0

    def compare(found: Arrays, expected: Arrays, at: str) -> None:
        nonlocal worst
        for output, value in expected.items():
            if output in found:
                error = disagreement(found[output], value)
                worst = max(worst, error)
                assert error < TOLERANCE, (output, at)

    forms: dict[Form, CompileOptions] = {
        "crop": CompileOptions(form="crop"),
        "dense": CompileOptions(form="dense", keep_map=has_classes),
    }
    for form, options in forms.items():
        write_bundle(lowered, weights, tmp_path / form, options)
    crop, dense = (session(tmp_path / form / "1/model.onnx") for form in forms)

    x = images(1, image.channels, image.height, image.width)
    expected = run_torch(lowered, weights, forms["crop"], x)
    compare(run_onnx(crop, x), expected, "crop")
    compare(run_torch(lowered, weights, forms["dense"], x), expected, "torch dense")
    compare(run_onnx(dense, x), expected, "dense")

    scale = image.height / 224
    for height, width in sizes:
        size = round(height * scale), round(width * scale)
        x = images(1, image.channels, *size)
        compare(run_onnx(dense, x), run_torch(lowered, weights, forms["dense"], x), f"{size}")
    record_property("parity", f"{worst:.1e} {name}")


def test_dense_is_the_fc_head_slid_over_the_last_map(tmp_path: Path) -> None:
    """Section 3.2, written out with PyTorch's functions and without the IR."""
    text = "net t\ninput 24x24 RGB\nconv3-6\nmaxpool\nconv3-8\nmaxpool\nFC-12\nFC-7\nFC-5\nsoft-max"
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    w = {name: torch.from_numpy(weights.read(name).copy()) for name in weights.tensors}
    x = images(2, 3, 37, 44)
    f = torch.nn.functional
    h = f.max_pool2d(
        f.relu(f.conv2d(torch.from_numpy(x), w["conv1_1.weight"], w["conv1_1.bias"], padding=1)), 2
    )
    h = f.max_pool2d(f.relu(f.conv2d(h, w["conv2_1.weight"], w["conv2_1.bias"], padding=1)), 2)
    rows, columns = h.shape[2] - 6 + 1, h.shape[3] - 6 + 1
    scores = torch.zeros(2, 5, rows, columns)
    for i in range(rows):
        for j in range(columns):
            v = h[:, :, i : i + 6, j : j + 6].flatten(1)
            v = f.relu(v @ w["fc3.weight"].T + w["fc3.bias"])
            v = f.relu(v @ w["fc4.weight"].T + w["fc4.bias"])
            scores[:, :, i, j] = v @ w["fc5.weight"].T + w["fc5.bias"]
    expected = {
        "scores": scores.mean((2, 3)).softmax(1),
        "posteriors": scores.softmax(1).mean((2, 3)),
    }
    for average, posteriors in expected.items():
        options = CompileOptions(average=average, keep_map=True)
        write_bundle(lowered, weights, tmp_path / "b", options)
        found = run_onnx(session(tmp_path / "b/1/model.onnx"), x)
        np.testing.assert_allclose(found["score_map"], scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["posteriors"], posteriors, rtol=1e-4, atol=1e-6)
        # Without the map the average comes before the last FC; the numbers stay.
        write_bundle(lowered, weights, tmp_path / "b", CompileOptions(average=average))
        early = run_onnx(session(tmp_path / "b/1/model.onnx"), x)
        np.testing.assert_allclose(early["posteriors"], posteriors, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        CompileOptions(),
        CompileOptions(single_file=True),
        CompileOptions(form="crop"),
    ],
    ids=["copy", "single-file", "crop"],
)
def test_the_checker_accepts_the_file_in_full(tmp_path: Path, options: CompileOptions) -> None:
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", options)
    onnx.checker.check_model(str(tmp_path / "b/1/model.onnx"), full_check=True)


def test_the_only_weights_file_is_not_replaced_by_a_graph_that_holds_it(tmp_path: Path) -> None:
    lowered = net(SMALL)
    write_bundle(lowered, random_weights(lowered, tmp_path / "w"), tmp_path / "b", CompileOptions())
    inside = open_weights(tmp_path / "b" / WEIGHTS)
    with refused("VGG512"):
        write_bundle(lowered, inside, tmp_path / "b", CompileOptions(single_file=True))
    assert inside.path.is_file()
    write_bundle(lowered, inside, tmp_path / "b", CompileOptions(form="crop"))
    assert open_bundle(tmp_path / "b").manifest.form == "crop"


@pytest.mark.parametrize("name", ["D", "vgg-f", *FEW_GRAPHS])
def test_openvino_gives_what_onnx_runtime_gives(name: str, tmp_path: Path) -> None:
    """Of the bundle's own file, at two sizes of one compiled model."""
    lowered = narrowed(name)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    path = tmp_path / "b/1/model.onnx"
    compiled = openvino().compile_model(str(path), "CPU")
    image = lowered.network.input
    for height, width in ((image.height, image.width), (image.height + 31, image.width + 64)):
        x = images(1, image.channels, height, width)
        found = compiled({"image": x})
        for output, expected in run_onnx(session(path), x).items():
            assert disagreement(found[output], expected) < TOLERANCE, output


def _loaded(path: Path) -> onnx.ModelProto:
    return onnx.load(path)


def _slimmed(path: Path) -> onnx.ModelProto:
    slimmed: onnx.ModelProto = onnxslim.slim(str(path))
    return slimmed


def _by_polygraphy(path: Path) -> onnx.ModelProto:
    found: onnx.ModelProto = polygraphy_onnx.onnx_from_path(str(path))
    return found


@pytest.mark.parametrize("load", [_loaded, _slimmed, _by_polygraphy], ids=lambda f: f.__name__)
def test_other_tools_load_a_bundle_with_its_weights(
    load: Callable[[Path], onnx.ModelProto], tmp_path: Path
) -> None:
    """Each refuses a file of weights that has two names; the reference evaluator runs the graph."""
    lowered = net(SMALL.replace("LRN", ""))  # the evaluator's runs over images
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    written = write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    (placed,) = written.weights
    assert placed.by in ("copy", "clone")
    assert placed.bytes == weights.bytes
    path = tmp_path / "b/1/model.onnx"
    x = np.random.default_rng(1).normal(size=(2, 3, 40, 53)).astype(np.float32)
    names = [output.name for output in written.manifest.outputs]
    found = ReferenceEvaluator(load(path)).run(names, {"image": x})
    for name, array in zip(names, found, strict=True):
        np.testing.assert_allclose(
            array, run_onnx(session(path), x)[name], rtol=1e-4, atol=1e-6, err_msg=name
        )


def test_linked_weights_differ_from_copied_ones_in_nothing(tmp_path: Path) -> None:
    """``onnx`` refuses hard links as such; the graph is the same, byte for byte."""
    lowered = net(SMALL)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    options = CompileOptions(link_weights=True)
    linked = write_bundle(lowered, weights, tmp_path / "linked", options)
    write_bundle(lowered, weights, tmp_path / "copied", CompileOptions())
    assert linked.weights[0].by in ("link", "clone")
    for file in ("1/model.onnx", "1/model.safetensors"):
        assert (tmp_path / "linked" / file).read_bytes() == (
            tmp_path / "copied" / file
        ).read_bytes()
    assert (tmp_path / "linked/1/model.onnx").stat().st_size < 8 << 10


@pytest.mark.parametrize(
    "colour",
    [
        "RGB(mean 120 110 100)",
        "RGB(mean 120 110 100, std 58 57 56)",
        "RGB(mean 127.5, scale 1/127.5)",
        "BGR(mean 100 110 120, std 56 57 58)",
        "gray(mean 99, std 61)",
    ],
)
def test_raw_input_is_the_normalised_one(tmp_path: Path, colour: str) -> None:
    lowered = net(f"net t\ninput 16x16 {colour}\nconv3-4\nmaxpool\nFC-5\nsoft-max")
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    raw = write_bundle(lowered, weights, tmp_path / "raw", CompileOptions(contract="raw"))
    plain = write_bundle(lowered, weights, tmp_path / "float", CompileOptions())
    channels = lowered.network.input.channels
    pixels = np.random.default_rng(0).integers(0, 256, (3, 19, 23, channels), dtype=np.uint8)
    expected = run_onnx(
        session(tmp_path / "float/1/model.onnx"), normalise(pixels, plain.manifest.input)
    )
    assert normalise(pixels, raw.manifest.input).dtype == np.uint8
    found = run_onnx(session(tmp_path / "raw/1/model.onnx"), pixels)
    np.testing.assert_allclose(found["posteriors"], expected["posteriors"], rtol=1e-4, atol=1e-6)


def test_the_manifest_says_what_was_written(tmp_path: Path) -> None:
    lowered = load_network(str(ROOT / "specs" / "vgg-f.vgg"))
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions(keep_map=True))
    manifest = open_bundle(tmp_path / "b", deep=True).manifest
    assert manifest.net == "vgg-f"
    assert manifest.window == (224, 224)
    assert manifest.stride == (32, 32)
    assert [output.name for output in manifest.outputs] == ["posteriors", "score_map"]
    # Pooling rounds up here, so a few pixels less give the same map.
    height, width = manifest.input.size
    assert height == width < 224
    of = session(tmp_path / "b/1/model.onnx")
    assert run_onnx(of, images(1, 3, height, width))["score_map"].shape == (1, 1000, 1, 1)
    with refused(r"fc6|window"):
        prepare(lowered.network, CompileOptions()).at(height - 1, width)


def test_boxes_keep_their_places(tmp_path: Path) -> None:
    lowered = net("net b\ninput 16x16 RGB\nconv3-4\nmaxpool\nFC-8(linear)\nboxes(per-class)")
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    written = write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    assert written.manifest.result.kind == "boxes"
    assert written.manifest.result.is_map
    found = run_onnx(session(tmp_path / "b/1/model.onnx"), images(1, 3, 20, 24))
    assert found["boxes"].shape == (1, 8, 3, 5)
    with refused("VGG303"):
        prepare(lowered.network, CompileOptions(keep_map=True))


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    lowered = net("net t\ninput 8x8 gray\nFC-3(linear)")
    with refused("VGG302"):
        prepare(lowered.network, CompileOptions(average="posteriors"))
    with refused("VGG303"):
        prepare(lowered.network, CompileOptions(form="crop", keep_map=True))


def test_the_window_of_a_net_without_fc_is_what_a_position_sees(tmp_path: Path) -> None:
    """Its map has several positions at the spec's own size, a stride apart."""
    lowered = net("net t\ninput 32x40 RGB\nconv3-4\nmaxpool\nconv1-5\nmaxpool\ngap\nsoft-max")
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    found = write_bundle(lowered, weights, tmp_path / "gap", CompileOptions()).manifest
    assert found.window == (32, 40)  # `gap` leaves one position
    text = "net t\ninput 32x40 RGB\nconv3-4\nmaxpool\nconv3-6\nmaxpool\nconv1-5\nsoft-max"
    lowered = net(text)
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    found = write_bundle(lowered, weights, tmp_path / "map", CompileOptions(keep_map=True)).manifest
    # 8 × 10 positions, 4 pixels apart: 32 - 7 * 4 and 40 - 9 * 4.
    assert (found.window, found.stride) == ((4, 4), (4, 4))


@pytest.mark.parametrize(
    ("colour", "mean"),
    [
        ("RGB", (123.68, 116.779, 103.939)),
        ("BGR", (103.939, 116.779, 123.68)),
        ("gray", (117.378639,)),  # 0.299 R + 0.587 G + 0.114 B of the above
    ],
)
def test_the_papers_mean_in_the_order_of_the_channels(
    colour: str, mean: tuple[float, ...], tmp_path: Path
) -> None:
    lowered = net(f"net t\ninput 8x8 {colour}\nFC-3\nsoft-max")
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    found, source = settled(lowered, weights)
    assert source == "ILSVRC"
    assert found.network.input.mean == pytest.approx(mean)
