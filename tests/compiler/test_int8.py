"""Nets in int8: what the graph says, what is measured, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import vggspec
from tests.nets import net, random_weights
from tests.refusals import refused
from tests.training.folders import write_folder
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.bundle.manifest import MANIFEST, MODEL, REFERENCE, Manifest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.variant import Changes, write_variant
from vggspec.compiler.quantising.examples import Examples
from vggspec.compiler.weights import WeightsFile, describe, open_weights, save
from vggspec.data.matched import spread
from vggspec.runtime.net import BundleNet
from vggspec.runtime.openvino_session import OpenvinoSession
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.preprocess import rescale
from vggspec.studies.inspection.layers import read_layers
from vggspec.studies.verification.verification import verify

#: Batch normalisation, a sum and a concatenation, whose branches share what they read.
MIXED = """\
net mixed
input 16x16 RGB(std 64)
conv3-8 BN
maxpool
[conv3-8 BN conv3-8(linear) + identity]
[conv1-8 & conv3-8]
maxpool
FC-12
FC-3
soft-max
test:
  scale 18
"""
SPEC = net(MIXED, "mixed.vgg")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), train=0, val=8) / "val"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightsFile:
    return random_weights(SPEC, tmp_path_factory.mktemp("weights") / "mixed.safetensors")


def options(pictures: Path, **changes: Any) -> CompileOptions:
    usual = CompileOptions(precision="int8", calibrate=str(pictures), max_drop=100.0)
    return replace(usual, **changes)


def without_classes(pictures: Path, folder: Path) -> Path:
    """The pictures in one folder."""
    flat = folder / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted(pictures.rglob("*.png"))):
        shutil.copy(path, flat / f"{i}.png")
    return flat


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, weights: WeightsFile, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "mixed"
    write_bundle(SPEC, weights, out, options(pictures, keep_fp32=("fc4",)))
    return out


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_a_graph_that_others_take(bundle: Path) -> None:
    """ONNX's checker, and TensorRT, which takes neither zero points nor int32 biases."""
    model = onnx.load(bundle / MODEL)
    onnx.checker.check_model(model, full_check=True)
    arrays = initializers(model)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = arrays[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
        assert node.op_type != "BatchNormalization"
    assert {array.dtype.name for array in arrays.values()} <= {"float32", "int8", "int64"}


def test_weights_are_rounded_to_the_nearest_of_their_channel(
    bundle: Path, weights: WeightsFile
) -> None:
    arrays = initializers(onnx.load(bundle / MODEL))
    for name in ("block1_conv2.weight", "block2_conv1.weight"):  # those without normalisation
        exact = weights.read(name).astype(np.float64)
        scale = arrays[f"{name}_scale"].astype(np.float64).reshape(-1, 1, 1, 1)
        largest = np.abs(exact).max(axis=(1, 2, 3), keepdims=True)
        assert scale == pytest.approx(largest / 127, rel=1e-6)
        error = np.abs(arrays[f"{name}_quantized"] * scale - exact)
        assert (error <= 0.5001 * scale).all()
    assert arrays["fc4.weight"].dtype == np.float32  # kept


def test_answers_are_those_of_fp32_but_for_rounding(bundle: Path) -> None:
    images = np.random.default_rng(0).integers(60, 200, (4, 20, 24, 3), dtype=np.uint8)
    with BundleNet(bundle, device="cpu") as int8:
        found = int8(images)["posteriors"]
        feed = int8._feed(images)
    with OrtSession(bundle / REFERENCE, "cpu") as fp32:
        expected = fp32.run(feed)["posteriors"]
    assert found == pytest.approx(expected, abs=0.05)
    assert not np.array_equal(found, expected)


def test_the_manifest_says_how(bundle: Path, pictures: Path) -> None:
    manifest = open_bundle(bundle, deep=True).manifest
    made = manifest.calibration
    assert made is not None
    assert (made.method, made.images, made.held_out, made.scale) == ("min-max", 12, 12, 18)
    assert made.measure == "accuracy"
    assert manifest.format == 5
    assert manifest.fp32_layers == ("fc4",)
    assert manifest.options.calibrate is None
    assert str(pictures) not in (bundle / MANIFEST).read_text()
    optional = {entry.path for entry in manifest.files if not entry.is_needed}
    assert optional == {"1/model.safetensors", REFERENCE}


def test_layers_are_named_with_their_type(bundle: Path) -> None:
    source, layers = read_layers(open_bundle(bundle))
    types = {layer.name: layer.precision for layer in layers}
    assert source == "graph"
    assert types["block1_conv1"] == types["block1_add"] == "int8"
    assert types["fc4"] == types["prob"] == "fp32"
    reads = {layer.name: layer.reads for layer in layers}
    assert reads["block1_add"] == ("block1_conv2", "pool1")


def test_it_is_verified_in_int8_arithmetic(bundle: Path, pictures: Path) -> None:
    """Random weights are further from fp32 than trained ones."""
    found = verify(bundle, device="cpu", images=pictures / "red", tolerance=1.0)
    assert found.passed
    assert found.ranges is None
    assert found.arithmetic.stated == "int8"
    assert found.arithmetic.run == found.arithmetic.layers == 6


def test_another_form_of_it_is_fp32(bundle: Path, tmp_path: Path) -> None:
    varied = write_variant(open_bundle(bundle), tmp_path / "v", Changes(average="posteriors"))
    assert varied.manifest.precision == "fp32"
    assert varied.manifest.calibration is None


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "crop"},
        {"contract": "raw"},
        {"keep_map": True, "average": "posteriors"},
        {"stride": 2},
        {"single_file": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_form(
    changes: dict[str, Any], weights: WeightsFile, pictures: Path, tmp_path: Path
) -> None:
    chosen = options(pictures, keep_fp32=("conv1_1",), calibration_images=4, **changes)
    manifest = write_bundle(SPEC, weights, tmp_path / "b", chosen).manifest
    onnx.checker.check_model(onnx.load(tmp_path / "b" / MODEL), full_check=True)
    images = np.full((1, 16, 16, 3), 90, np.uint8)
    with BundleNet(tmp_path / "b", device="cpu") as int8:
        assert int8(images)["posteriors"].sum() == pytest.approx(1)
    has_reference = (tmp_path / "b" / REFERENCE).exists()
    assert has_reference != manifest.options.single_file


def test_the_first_and_last_layer_are_kept_where_that_helps(
    weights: WeightsFile, pictures: Path, tmp_path: Path
) -> None:
    class Told(Watcher):
        def __init__(self) -> None:
            self.done: set[str] = set()

        def progress(self, now: Progress) -> None:
            self.done.add(now.doing)

    told = Told()
    out = tmp_path / "b"
    manifest = write_bundle(SPEC, weights, out, options(pictures), watch=told).manifest
    assert told.done == {
        "calibrating", "testing fp32", "testing int8", "testing int8 but conv1_1 and fc4",
    }  # fmt: skip
    assert manifest.fp32_layers in ((), ("conv1_1", "fc4"))


def test_a_net_without_anything_to_fold(pictures: Path, tmp_path: Path) -> None:
    plain = net(MIXED.replace(" BN", ""), "mixed.vgg")
    theirs = random_weights(plain, tmp_path / "plain.safetensors")
    chosen = options(pictures, keep_fp32=("conv1_1",))
    write_bundle(plain, theirs, tmp_path / "b", chosen)
    model = onnx.load(tmp_path / "b" / MODEL)
    assert "block1_conv1.weight_quantized" in initializers(model)
    assert (tmp_path / "plain.safetensors").is_file()


def test_a_net_for_any_size_sees_crops_of_the_size_of_its_spec(
    pictures: Path, tmp_path: Path
) -> None:
    """With a global average its least input is one pixel."""
    averaged = net(MIXED.replace("FC-12\n", "gap\n"), "mixed.vgg")
    theirs = random_weights(averaged, tmp_path / "gap.safetensors")
    chosen = options(pictures, precision="fp32", calibrate=None, max_drop=1.0)
    manifest = write_bundle(averaged, theirs, tmp_path / "b", chosen).manifest
    assert manifest.input.size < (16, 16)
    examples = Examples(str(pictures), manifest, (16, 16), 4, SILENT)
    assert {each.feed.shape for each in examples.calibrating()} == {(1, 3, 16, 16)}
    quantised = write_bundle(averaged, theirs, tmp_path / "c", options(pictures)).manifest
    assert quantised.calibration is not None
    expected = []
    with BundleNet(tmp_path / "b", device="cpu") as fp32:
        for i, path in enumerate(sorted(pictures.rglob("*.png"))):
            pixels = np.asarray(Image.open(path))
            crop = rescale(pixels, 18)
            top, left = (crop.shape[0] - 16) // 2, (crop.shape[1] - 16) // 2
            found = fp32(crop[None, top : top + 16, left : left + 16])["posteriors"]
            if i not in spread(24, 12):
                expected.append(found.argmax() == i // 8)
    assert quantised.calibration.before == pytest.approx(100 * np.mean(expected))


def test_images_of_other_classes_measure_agreement(
    weights: WeightsFile, pictures: Path, tmp_path: Path
) -> None:
    flat = options(without_classes(pictures, tmp_path))
    made = write_bundle(SPEC, weights, tmp_path / "b", flat).manifest.calibration
    assert made is not None
    assert made.measure == "agreement"
    assert made.before == 100
    assert made.after == made.agreement


def test_an_image_that_cannot_be_read(weights: WeightsFile, pictures: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    (data / "red" / "0.png").write_bytes(b"no image")
    with refused("VGG4.*cannot be"):
        write_bundle(SPEC, weights, tmp_path / "b", options(data))
    assert not (tmp_path / "b").exists()


def test_too_large_a_drop(weights: WeightsFile, pictures: Path, tmp_path: Path) -> None:
    """The scores of all classes are within one level."""
    arrays = {name: weights.read(name).copy() for name in weights.tensors}
    arrays["fc4.weight"][:] = arrays["fc4.weight"][0]
    arrays["fc4.weight"][1] *= 1 + 1e-4
    arrays["fc4.weight"][2] *= 1 - 1e-4
    save(tmp_path / "w.safetensors", arrays, describe(SPEC.network))
    close = open_weights(tmp_path / "w.safetensors")
    chosen = options(without_classes(pictures, tmp_path), max_drop=5.0, keep_fp32=("conv1_1",))
    with refused("VGG642.*12 held-out images falls from 100.00 % to 0.00 %, by more than 5"):
        write_bundle(SPEC, close, tmp_path / "b", chosen)
    assert not (tmp_path / "b").exists()


def test_interrupted_it_leaves_nothing(
    weights: WeightsFile, pictures: Path, tmp_path: Path
) -> None:
    class Interrupting(Watcher):
        def progress(self, now: Progress) -> None:
            if now.doing == "testing int8":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(SPEC, weights, tmp_path / "b", options(pictures), watch=Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_quantised(weights: WeightsFile, pictures: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(pictures / "red" / "0.png", few)
    with refused("VGG641.*1 image"):
        write_bundle(SPEC, weights, tmp_path / "b", options(few))
    with refused("VGG603"):
        write_bundle(SPEC, weights, tmp_path / "b", options(pictures, keep_fp32=("nonne",)))
    every = tuple(layer.name for layer in SPEC.network.layers if layer.params)
    with refused("VGG643"):
        write_bundle(SPEC, weights, tmp_path / "b", options(pictures, keep_fp32=every))
    boxes = net(MIXED.replace("FC-3\nsoft-max", "FC-4(linear)\nboxes(shared)"), "mixed.vgg")
    theirs = random_weights(boxes, tmp_path / "boxes.safetensors")
    with refused("VGG640.*boxes"):
        write_bundle(boxes, theirs, tmp_path / "b", options(pictures))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"precision": "int8"}, "--calibrate DIR"),
        ({"calibrate": "data"}, "requires --precision int8"),
        ({"max_drop": 2.0}, "requires --precision int8"),
        ({"precision": "int8", "calibrate": "data", "layer": "fc3"}, "--layer cannot be used"),
        ({"precision": "int8", "calibrate": "d", "trt": True, "refittable": True}, "--refittable"),
        ({"precision": "int8", "calibrate": "data", "protocol": True}, "--precision cannot"),
        ({"precision": "int8", "calibrate": "data", "max_drop": 101.0}, "max_drop"),
    ],
)
def test_options_that_contradict_each_other(
    changes: dict[str, Any], words: str, weights: WeightsFile, tmp_path: Path
) -> None:
    (tmp_path / "mixed.vgg").write_text(MIXED)
    with pytest.raises(ArgumentError, match=words):
        vggspec.compile(tmp_path / "mixed.vgg", weights=weights.path, out=tmp_path / "b", **changes)


def test_an_engine_in_int8(weights: WeightsFile, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "mixed.vgg").write_text(MIXED)
    made = vggspec.compile(
        tmp_path / "mixed.vgg",
        weights=weights.path,
        out=tmp_path / "b",
        trt=True,
        flavour="tensorrt_rtx",
        precision="int8",
        calibrate=str(pictures),
        max_drop=100.0,
        profiles=["1x16x16,1x18x18,2x24x24"],
    )
    manifest: Manifest = open_bundle(made.path, deep=True).manifest
    assert manifest.calibration is not None
    assert manifest.engine is not None
    assert manifest.precision == "int8"
    source, layers = read_layers(open_bundle(made.path))
    assert source == "network"
    assert sum(layer.op == "dequantize" for layer in layers) > 7


def test_openvino_computes_the_graph_in_int8(bundle: Path) -> None:
    """All layers but the one in fp32, to what ONNX Runtime computes within the steps of int8."""
    image = {"image": np.random.default_rng(0).normal(0, 1, (4, 3, 16, 16)).astype(np.float32)}
    with OrtSession(bundle / MODEL, "cpu") as theirs, OpenvinoSession(bundle / MODEL) as ours:
        found, expected = (session.run(image)["posteriors"] for session in (ours, theirs))
        types = ours.computed_in()
    assert types["i8"] + types["u8"] == types.total() - 1 == 6
    np.testing.assert_allclose(found, expected, atol=0.02)
