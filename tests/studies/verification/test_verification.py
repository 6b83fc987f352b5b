"""Bundles verified on the CPU, whole and damaged; engines by a stand-in."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from tests.engines import skip_unless_built, stand_in
from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import rewrite
from tests.runtime.test_compatibility import BARE, H200, LINUX, with_gpus
from vggspec.base.arguments import Device
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError
from vggspec.base.watcher import Progress, Watcher
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import (
    MANIFEST,
    MODEL,
    OWN_SHA256,
    REFERENCE,
    WEIGHTS,
    Manifest,
    read_manifest,
)
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.cli import run
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.net import lowered_of
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.weights import describe, open_weights, save
from vggspec.runtime import machine
from vggspec.runtime import open_session as opening
from vggspec.runtime.compatibility import rtx_supports
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.preprocess import normalise
from vggspec.studies.verification.cases import cases
from vggspec.studies.verification.images import natural_images
from vggspec.studies.verification.ranges import in_words
from vggspec.studies.verification.reference import Against
from vggspec.studies.verification.tolerance import default_tolerance
from vggspec.studies.verification.verification import verify

CROPS = SMALL + "\ntest:\n  scale 40\n  crops 2x2\n  flip off\n"
GRAY = """\
net digits
input 24x24 gray
conv3-4 LRN
maxpool
FC-8
FC-6
"""
BOXES = SMALL.replace("FC-10\nsoft-max", "FC-4(linear)\nboxes(shared)")


def write(folder: Path, text: str = SMALL, name: str = "test.vgg", **options: Any) -> Path:
    lowered = net(text, name)
    weights = random_weights(lowered, folder / "weights.safetensors")
    write_bundle(lowered, weights, folder / "bundle", CompileOptions(**options))
    return folder / "bundle"


class Notes(Watcher):
    """Keeps the notes, and the last progress."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.last: Progress | None = None

    def progress(self, now: Progress) -> None:
        assert self.last is None or now.done >= self.last.done
        self.last = now

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (SMALL, {}),
        (SMALL, {"keep_map": True}),
        (SMALL, {"contract": "raw"}),
        (SMALL, {"average": "posteriors", "keep_map": True}),
        (SMALL, {"form": "crop"}),
        (SMALL, {"single_file": True}),
        (SMALL.replace("RGB", "BGR"), {"contract": "raw"}),
        (CROPS, {}),
        (GRAY, {}),
        (SMALL, {"precision": "fp16"}),
        (SMALL, {"precision": "fp16", "keep_map": True, "contract": "raw"}),
        (SMALL, {"precision": "fp16", "single_file": True}),
        (GRAY, {"precision": "fp16"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_whole_bundle_agrees(text: str, options: dict[str, Any], tmp_path: Path) -> None:
    watch = Notes()
    found = verify(write(tmp_path, text, **options), device="cpu", watch=watch)
    has_reference = options.get("precision") == "fp16" and "single_file" not in options
    assert found.against == ("onnxrt" if has_reference else "torch")
    assert found.device == "cpu"
    assert found.passed
    assert found.failed == ()
    assert found.tolerance == default_tolerance(options.get("precision", "fp32"))
    for each in found.comparisons:
        figures = each.figures
        assert figures.error <= found.tolerance / 2  # there is room, and not too much
        assert figures.top1 == figures.top5 == figures.images
    if options.get("precision") == "fp16":
        errors = [each.figures.error for each in found.comparisons]
        assert max(errors) > default_tolerance("fp32") / 2
    total = len(found.comparisons)
    assert watch.last == Progress(doing="comparing", done=total, total=total, unit="shapes")
    assert watch.notes == []
    json.dumps(found.as_data(), allow_nan=False)


def test_every_profile_has_its_comparisons(tmp_path: Path) -> None:
    found = verify(write(tmp_path, SMALL + "\ntest:\n  scale 37, 50\n"), device="cpu")
    points = {(each.profile, each.point) for each in found.comparisons}
    assert {(i, point) for i in range(4) for point in ("opt", "max")} | {(0, "min")} <= points
    shapes = [each.shape for each in found.comparisons]
    assert {(2, 37, 49), (2, 49, 37), (8, 100, 50)} <= set(shapes)
    assert len(set(shapes)) == len(shapes)
    assert [each.profile for each in found.comparisons] == sorted(
        each.profile for each in found.comparisons if each.profile is not None
    )


def test_a_lower_precision_can_be_compared_with_torch(tmp_path: Path) -> None:
    bundle = write(tmp_path, precision="fp16")
    errors = {}
    for against in get_args(Against):
        found = verify(bundle, against=against, device="cpu")
        assert found.passed
        errors[against] = [each.figures.error for each in found.comparisons]
    assert errors["torch"] == pytest.approx(errors["onnxrt"], rel=0.05)


def test_a_net_named_by_its_file(tmp_path: Path) -> None:
    unnamed = SMALL.partition("\n")[2]
    assert verify(write(tmp_path, unnamed, "mine.vgg"), device="cpu").passed


def test_boxes_are_compared_too(tmp_path: Path) -> None:
    found = verify(write(tmp_path, BOXES), device="cpu")
    assert found.passed
    assert all(each.figures.error < 1e-4 for each in found.comparisons)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"against": "caffe"}, "not one of onnxrt, torch"), ({"tolerance": 0}, "must be positive")],
)
def test_a_wrong_argument(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        verify(tmp_path, **options)


# Damage.


def damage(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the weights that a bundle's graph computes with, and update the digests."""
    manifest = open_bundle(bundle).manifest
    model = onnx.load(bundle / MODEL)  # with its external weights
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    change(arrays)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    (bundle / MODEL).write_bytes(model.SerializeToString())
    files = tuple(
        file_entry(bundle, MODEL) if entry.path == MODEL else entry for entry in manifest.files
    )
    (bundle / MANIFEST).write_text(replace(manifest, files=files).to_json(), "utf-8")


def one_weight(arrays: dict[str, Any]) -> None:
    arrays["conv1_2.weight"][3, 2, 1, 1] += 3.0


def one_bias(arrays: dict[str, Any]) -> None:
    arrays["fc4.bias"][7] += 0.5


@pytest.mark.parametrize("change", [one_weight, one_bias])
def test_one_changed_weight_is_found_and_placed(
    change: Callable[[dict[str, Any]], None], tmp_path: Path
) -> None:
    bundle = write(tmp_path, precision="fp16", keep_map=True)
    assert verify(bundle, device="cpu").passed
    damage(bundle, change)
    found = verify(bundle, device="cpu")
    assert not found.passed
    worst = max(found.failed, key=lambda each: each.figures.error)
    if change is one_bias:
        assert "class 7" in worst.figures.where
    assert verify(bundle, device="cpu", tolerance=1000).passed


def test_nan_fails_whatever_the_tolerance(tmp_path: Path) -> None:
    bundle = write(tmp_path, precision="fp16")

    def spoil(arrays: dict[str, Any]) -> None:
        arrays["fc4.bias"][2] = math.nan

    damage(bundle, spoil)
    found = verify(bundle, device="cpu", tolerance=1e30)
    assert not found.passed
    assert found.failed == found.comparisons
    assert "is NaN" in found.failed[0].figures.where
    rows = json.loads(json.dumps(found.as_data(), allow_nan=False))["rows"]
    assert rows[0]["error"] is None
    assert rows[0]["is_finite"] is False
    assert rows[0]["passed"] is False


def test_saturated_posteriors_are_counted(tmp_path: Path) -> None:
    """Pixels of 0 to 255, not scaled, through random weights."""
    sure = SMALL.replace("std 58 57 56", "std 0.1 0.1 0.1").replace(" LRN", "")
    (tmp_path / "map").mkdir()
    found = verify(write(tmp_path, sure), device="cpu")
    assert found.passed
    assert any(each.figures.saturated for each in found.comparisons)
    found = verify(write(tmp_path / "map", sure, keep_map=True), device="cpu")
    assert not any(each.figures.saturated for each in found.comparisons)


def test_a_layer_too_large_for_fp16_is_named(tmp_path: Path) -> None:
    """Weights that are each small enough give activations that are not."""
    lowered = net(SMALL)
    file = random_weights(lowered, tmp_path / "he.safetensors")
    arrays = {param.name: file.read(param.name).copy() for param in lowered.network.params()}
    arrays["conv2_1.weight"] *= 1e6 / 60
    metadata = describe(lowered.network)
    save(tmp_path / "large.safetensors", arrays, metadata)
    large = open_weights(tmp_path / "large.safetensors")
    write_bundle(lowered, large, tmp_path / "bundle", CompileOptions(precision="fp16"))
    found = verify(tmp_path / "bundle", device="cpu")
    assert not found.passed
    assert not found.failed[0].figures.is_finite
    assert found.ranges is not None
    first, *_, remedy = in_words(found.ranges, found.manifest)
    assert first.startswith("In fp32 `conv2_1` reaches")
    assert "--keep-fp32" in remedy
    assert found.as_data()["overflow"]["layer"] == "conv2_1"  # type: ignore[index]


#: Small, and without layers that hide how large the numbers are.
LARGE = """\
net large
input 12x12 gray(mean 120, std 60)
conv3-4  conv3-4
maxpool
FC-8
FC-3
soft-max
"""


def overflowing(folder: Path, factor: float = 2e4, **options: Any) -> Path:
    """A bundle of a net whose second layer is ``factor`` times as large, and whose later layers
    compensate for it.
    """
    lowered = net(LARGE)
    file = random_weights(lowered, folder / "he.safetensors")
    arrays = {param.name: file.read(param.name).copy() for param in lowered.network.params()}
    arrays["conv1_2.weight"] *= np.float32(factor)
    arrays["fc2.weight"] /= np.float32(200)
    arrays["fc3.weight"] /= np.float32(factor / 200)
    save(folder / "large.safetensors", arrays, describe(lowered.network))
    write_bundle(
        lowered,
        open_weights(folder / "large.safetensors"),
        folder / "bundle",
        CompileOptions(**options),
    )
    return folder / "bundle"


@pytest.mark.parametrize("against", get_args(Against))
def test_numbers_beyond_fp16_are_named_though_the_cpu_computes_in_fp32(
    tmp_path: Path, against: Against
) -> None:
    found = verify(overflowing(tmp_path, precision="fp16"), device="cpu", against=against)
    assert not found.passed
    assert not found.failed  # the outputs that were computed agree
    facts: dict[str, Any] = found.as_data()
    assert facts["overflow"]["layer"] == "conv1_2"
    assert facts["overflow"]["limit"] == 65504
    assert facts["keep_fp32"] == ["conv1_2", "fc2"]
    assert facts["arithmetic"] == {
        "stated": "fp16",
        "layers": 4,
        "run": 0,
        "engine": "ONNX Runtime",
    }
    assert found.ranges is not None
    *_, remedy = in_words(found.ranges, found.manifest)
    assert remedy == "Compile it with `--keep-fp32 conv1_2 --keep-fp32 fc2`."


def test_the_largest_number_is_that_of_the_layer_itself(tmp_path: Path) -> None:
    """As PyTorch computes it."""
    bundle = overflowing(tmp_path, precision="fp16")
    opened = open_bundle(bundle)
    ranges = verify(bundle, device="cpu").ranges
    assert ranges is not None
    lowered = lowered_of(opened)
    options = CompileOptions(layer="conv1_2")
    module = torch_module.loaded(
        prepare(lowered.network, options), open_weights(bundle / WEIGHTS)
    ).eval()
    seen = []
    module.get_submodule("conv1_2").register_forward_hook(
        lambda _module, _given, output: seen.append(float(output.abs().max()))
    )
    for case in cases(profiles_of(opened.manifest)):
        images = natural_images(case.shape, 1, 0)
        with torch.inference_mode():
            module(torch.from_numpy(normalise(images, opened.manifest.input)))
    found = ranges.beyond[0].largest
    assert math.isclose(found, max(seen), rel_tol=1e-4)
    assert found > 65504


def test_the_remedy_of_a_number_that_is_too_large_works(tmp_path: Path) -> None:
    found = verify(overflowing(tmp_path, precision="fp16", keep_fp32=("conv1_2",)), device="cpu")
    assert not found.passed
    assert found.ranges is not None
    assert "In fp32 the input of `fc2` reaches" in next(in_words(found.ranges, found.manifest))
    (tmp_path / "both").mkdir()
    bundle = overflowing(tmp_path / "both", precision="fp16", keep_fp32=("conv1_2", "fc2"))
    found = verify(bundle, device="cpu")
    assert found.passed
    assert found.ranges is not None
    assert list(in_words(found.ranges, found.manifest)) == []
    assert not found.arithmetic.is_run
    words = found.arithmetic.in_words()
    assert "ONNX Runtime computes all fp16 layers in fp32 here" in words


def test_an_input_beyond_fp16_is_named(tmp_path: Path) -> None:
    text = SMALL.replace("std 58 57 56", "std 0.001 57 56")
    found = verify(write(tmp_path, text, precision="fp16"), device="cpu")
    assert not found.passed
    assert found.ranges is not None
    first = found.ranges.beyond[0]
    assert (first.layer, first.what) == ("conv1_1", "input")


def test_weights_beyond_fp16_are_named(tmp_path: Path) -> None:
    found = verify(overflowing(tmp_path, 1e8, precision="fp16"), device="cpu")
    assert not found.passed
    assert found.ranges is not None
    first = found.ranges.beyond[0]
    assert (first.layer, first.what) == ("conv1_2", "weights")


def test_an_fp32_bundle_is_certified(tmp_path: Path) -> None:
    found = verify(overflowing(tmp_path), device="cpu")
    assert found.passed
    assert found.arithmetic.is_run
    assert found.ranges is None


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, REFERENCE])
def test_a_file_that_was_changed_is_named(name: str, tmp_path: Path) -> None:
    bundle = write(tmp_path, precision="fp16")
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with refused(f"VGG524(.|\n)*{name}"):
        verify(bundle, device="cpu")


# Missing references.


def test_an_fp32_graph_is_its_own_reference(tmp_path: Path) -> None:
    with refused("VGG650(.|\n)*--against torch"):
        verify(write(tmp_path), against="onnxrt", device="cpu")


def test_a_reference_may_be_deleted(tmp_path: Path) -> None:
    bundle = write(tmp_path, precision="fp16")
    (bundle / REFERENCE).unlink()
    found = verify(bundle, device="cpu")
    assert found.passed
    assert found.against == "torch"


def test_a_spec_like_another_is_whole_in_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "base.vgg").write_text(SMALL)
    text = 'net child\nlike "base.vgg"\n'
    bundle = write(tmp_path, text, str(tmp_path / "child.vgg"))
    (tmp_path / "base.vgg").unlink()
    assert verify(bundle, device="cpu").passed
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest[OWN_SHA256]
    (bundle / "base.vgg").write_text(SMALL)
    digest = hashlib.sha256(text.encode()).hexdigest()
    changed = manifest | {"spec_text": text, "spec_sha256": digest}
    (bundle / MANIFEST).write_text(json.dumps(changed))
    with refused("its spec takes layers from another file"):
        verify(bundle, device="cpu")


@pytest.mark.parametrize("is_protocol", [False, True])
def test_a_bundle_does_not_ask_for_all_memory(tmp_path: Path, *, is_protocol: bool) -> None:
    """At Q = 65536 eight images would take terabytes as floats."""
    bundle = write(tmp_path)
    if is_protocol:
        lowered = net(SMALL)
        weights = open_weights(tmp_path / "weights.safetensors")
        write_protocol_bundle([(lowered, weights)], bundle, CompileOptions())
    rewrite(bundle, {"test.scales": [65536]})
    with refused("VGG530(.|\n)*65536 × 65536"):
        verify(bundle, device="cpu")
    rewrite(bundle, {"test.scales": [36, 65536]})
    watch = Notes()
    assert verify(bundle, device="cpu", watch=watch).passed
    assert watch.notes == ["5 shapes left out: too many pixels for one run"]


def test_a_manifest_that_is_not_the_graphs(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    for change in ({"input.name": "pixture"}, {"outputs.0.channels": 7, "labels": None}):
        saved = (bundle / MANIFEST).read_bytes()
        rewrite(bundle, change)
        with refused("VGG527"):
            verify(bundle, device="cpu")
        (bundle / MANIFEST).write_bytes(saved)


def test_weights_that_are_missing(tmp_path: Path) -> None:
    bundle = write(tmp_path, single_file=True)
    manifest = open_bundle(bundle).manifest
    model = onnx.load(bundle / MODEL)
    for tensor in model.graph.initializer:
        if tensor.name == "fc4.bias":
            tensor.name = "renamed"
    for node in model.graph.node:
        names = ["renamed" if name == "fc4.bias" else name for name in node.input]
        del node.input[:]
        node.input.extend(names)
    (bundle / MODEL).write_bytes(model.SerializeToString())
    files = (file_entry(bundle, MODEL),)
    (bundle / MANIFEST).write_text(replace(manifest, files=files).to_json(), "utf-8")
    with refused("VGG652(.|\n)*fc4.bias is missing"):
        verify(bundle, device="cpu")


def test_other_outputs_are_not_compared(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    bundle = write(tmp_path, precision="fp16")
    nine = write(tmp_path / "other", SMALL.replace("FC-10", "FC-9"), single_file=True)
    shutil.copy(nine / MODEL, bundle / REFERENCE)
    manifest = replace(
        open_manifest(bundle),
        files=tuple(file_entry(bundle, name) for name in (MODEL, REFERENCE, WEIGHTS)),
    )
    (bundle / MANIFEST).write_text(manifest.to_json(), "utf-8")
    with refused(r"VGG653(.|\n)*is \(1, 10\) in the bundle, \(1, 9\) in the reference"):
        verify(bundle, device="cpu")


def open_manifest(bundle: Path) -> Manifest:
    """The manifest; the files are not compared with it."""
    return read_manifest((bundle / MANIFEST).read_text("utf-8"), MANIFEST)


# Pictures.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one in a subfolder, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(6)
    for name, size in (("a.png", (60, 40)), ("b.jpg", (40, 70)), ("more/long.png", (400, 40))):
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_pictures_go_to_the_profiles_that_take_them(tmp_path: Path, folder: Path) -> None:
    bundle = write(tmp_path, SMALL + "\ntest:\n  scale 37, 50\n")
    watch = Notes()
    found = verify(bundle, images=folder, device="cpu", watch=watch)
    assert found.passed
    assert "1 file without an image's ending (notes.txt)" in watch.notes[0]
    # Landscape and portrait at two scales; one ten times as long as wide fits no profile.
    images = {each.profile: each.figures.images for each in found.comparisons}
    assert images == {0: 1, 1: 1, 2: 1, 3: 1, None: 2}
    assert list(images)[-1] is None
    assert found.num_images == 6
    assert watch.last == Progress(doing="comparing", done=3, total=3, unit="pictures")


def test_a_net_for_crops_sees_the_centre_of_a_picture(tmp_path: Path, folder: Path) -> None:
    found = verify(write(tmp_path, form="crop"), images=folder, device="cpu")
    assert found.passed
    assert [each.figures.images for each in found.comparisons] == [3]


def test_a_picture_that_is_smaller_than_the_crop(tmp_path: Path, folder: Path) -> None:
    bundle = write(tmp_path, form="crop")
    manifest = open_manifest(bundle)
    small = replace(manifest, test=replace(manifest.test, scales=(20,)))
    (bundle / MANIFEST).write_text(small.to_json(), "utf-8")
    with refused("a.png"):
        verify(bundle, images=folder, device="cpu")


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    bundle = write(tmp_path)
    (tmp_path / "empty").mkdir()
    with refused("VGG654"):
        verify(bundle, images=tmp_path / "empty", device="cpu")


# Engines, by a stand-in.


class Reader(OrtSession):
    """Runs the reference as the engine, its outputs rounded to fp16."""

    def run(self, feeds: Any) -> Any:
        arrays = super().run(feeds)
        return {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle = tmp_path / "engine"
    stand_in(bundle)

    def open_session(opened: Bundle, device: str) -> OrtSession:
        assert device == "tensorrt"
        assert opened.reference is not None
        return Reader(opened.reference, "cpu")

    monkeypatch.setattr(opening, "open_session", open_session)
    monkeypatch.setattr(machine, "this_machine", lambda: LINUX)
    return bundle


def test_an_engine_is_run_at_its_own_profiles(engine: Path) -> None:
    found = verify(engine)
    assert found.passed
    assert found.tolerance == default_tolerance("fp16")
    assert sorted({each.profile for each in found.comparisons}) == [0, 1, 2, 3]
    assert (8, 56, 112) in [each.shape for each in found.comparisons]
    assert found.arithmetic.is_run


def test_pictures_that_fit_no_profile_are_left_out(engine: Path, folder: Path) -> None:
    watch = Notes()
    found = verify(engine, images=folder, watch=watch)
    assert found.passed
    assert watch.notes[-1] == "2 rescaled pictures left out: no profile takes that size"
    assert found.num_images == 4
    for name in ("a.png", "b.jpg"):
        (folder / name).unlink()
    with refused("VGG654"):
        verify(engine, images=folder)


def test_an_engine_without_weights_has_no_torch(engine: Path) -> None:
    (engine / WEIGHTS).unlink()
    with refused("VGG652"):
        verify(engine)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (BARE, "the bundle cannot run here: version: built by TensorRT-RTX"),
        (with_gpus(H200), "does not run on compute capability 9.0"),
    ],
)
def test_an_engine_is_not_loaded_where_it_cannot_run(
    found: machine.Machine, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "engine")
    monkeypatch.setattr(machine, "this_machine", lambda: found)
    with pytest.raises(MissingLibraryError, match="run `vggspec doctor") as caught:
        verify(tmp_path / "engine")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engine_runs_on_its_own_device(device: Device, engine: Path) -> None:
    with pytest.raises(ArgumentError, match="TensorRT engine"):
        verify(engine, device=device)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_real_engine_agrees(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, *_ = machine.this_machine().gpus
    flavour = "tensorrt_rtx" if rtx_supports(gpu) else "tensorrt"
    skip_unless_built(flavour)
    (tmp_path / "small.vgg").write_text(SMALL + "\ntest:\n  scale 37, 50\n")
    random_weights(net(SMALL), tmp_path / "small.safetensors")
    monkeypatch.chdir(tmp_path)
    options = ("--trt", "--trt-flavor", flavour, "--precision", precision, "--map")
    assert run(["compile", "small.vgg", "--weights", "small.safetensors", *options]) == 0
    assert verify("small").passed
