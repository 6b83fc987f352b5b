"""``vggspec verify``: on real bundles on the CPU, whole and damaged; engines by a stand-in."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from tests.engines import skip_unless_built, stand_in
from tests.nets import SMALL, net, random_weights
from tests.runtime.bundles import rewrite
from tests.runtime.test_compatibility import BARE, LINUX
from vggspec.bundle.manifest import (
    MANIFEST,
    MODEL,
    OWN_SHA256,
    REFERENCE,
    WEIGHTS,
    Manifest,
    file_entry,
    open_bundle,
    read_manifest,
)
from vggspec.cli import run
from vggspec.compiler.backends.onnx.model import OnnxOptions, prepare
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.bundles.net import lowered_of
from vggspec.compiler.bundles.protocol import ProtocolOptions, write_protocol_bundle
from vggspec.compiler.bundles.writer import write_bundle
from vggspec.compiler.weights import describe, open_weights, save
from vggspec.runtime import machine, session
from vggspec.runtime.compatibility import profiles_of
from vggspec.runtime.ort_session import OrtSession
from vggspec.runtime.preprocess import normalise
from vggspec.studies.verify.agreement import cases, default_tolerance, natural_images

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

Capture = pytest.CaptureFixture[str]


def write(folder: Path, text: str = SMALL, name: str = "test.vgg", **options: Any) -> Path:
    lowered = net(text, name)
    weights = random_weights(lowered, folder / "weights.safetensors")
    write_bundle(lowered, weights, folder / "bundle", OnnxOptions(copy_weights=True, **options))
    return folder / "bundle"


@pytest.fixture
def verify(capsys: Capture) -> Callable[..., tuple[int, str, str]]:
    def call(*args: object) -> tuple[int, str, str]:
        code = run(["verify", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


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
def test_a_whole_bundle_agrees(
    text: str, options: dict[str, Any], tmp_path: Path, verify: Any
) -> None:
    bundle = write(tmp_path, text, **options)
    code, out, err = verify(bundle, "--device", "cpu", "--json")
    assert (code, err) == (0, ""), out
    found = json.loads(out)
    has_reference = options.get("precision") == "fp16" and "single_file" not in options
    assert found["against"] == ("onnxrt" if has_reference else "torch")
    assert found["passed"]
    assert found["tolerance"] == default_tolerance(options.get("precision", "fp32"))
    for row in found["rows"]:
        assert row["error"] <= found["tolerance"] / 2  # there is room, and not too much
        assert row["top1"] == row["top5"] == row["images"]
    if options.get("precision") == "fp16":
        assert max(row["error"] for row in found["rows"]) > default_tolerance("fp32") / 2


def test_every_profile_has_its_rows(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path, SMALL + "\ntest:\n  scale 37, 50\n")
    _, out, _ = verify(bundle, "--device", "cpu")
    rows = [line.split("  ")[0] for line in out.splitlines() if line[:1].isdigit()]
    assert rows[0] == "0 min"
    assert {"0 opt", "0 max", "1 opt", "1 max", "2 opt", "2 max", "3 opt", "3 max"} <= set(rows)
    assert "2 × 37 × 49" in out
    assert "2 × 49 × 37" in out
    assert "8 × 100 × 50" in out
    assert "images agree: no error beyond 8.3e-05" in out
    assert max(map(len, out.splitlines()[2:])) <= 100


def test_a_lower_precision_can_be_held_against_torch(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path, precision="fp16")
    errors = {}
    for against in ("onnxrt", "torch"):
        code, out, _ = verify(bundle, "--against", against, "--device", "cpu", "--json")
        assert code == 0
        errors[against] = [row["error"] for row in json.loads(out)["rows"]]
    assert errors["torch"] == pytest.approx(errors["onnxrt"], rel=0.05)


def test_a_net_named_by_its_file_and_one_of_several(tmp_path: Path, verify: Any) -> None:
    (tmp_path / "a").mkdir()
    unnamed = SMALL.partition("\n")[2]
    assert verify(write(tmp_path / "a", unnamed, "mine.vgg"), "--device", "cpu")[0] == 0


def test_boxes_are_compared_too(tmp_path: Path, verify: Any) -> None:
    code, out, err = verify(write(tmp_path, BOXES), "--device", "cpu", "--json")
    assert code == 0, err
    assert all(row["error"] < 1e-4 for row in json.loads(out)["rows"])


# Damage.


def damage(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the weights that a bundle's graph computes with, and make the digests right."""
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
    change: Callable[[dict[str, Any]], None], tmp_path: Path, verify: Any
) -> None:
    bundle = write(tmp_path, precision="fp16", keep_map=True)
    assert verify(bundle, "--device", "cpu")[0] == 0
    damage(bundle, change)
    code, out, _ = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "beyond 4.3e-03. The worst is profile" in out
    if change is one_bias:
        assert "class 7" in out.splitlines()[-1]
    assert verify(bundle, "--device", "cpu", "--tolerance", "1000")[0] == 0


def test_what_is_not_finite_fails_whatever_the_tolerance(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path, precision="fp16")

    def spoil(arrays: dict[str, Any]) -> None:
        arrays["fc4.bias"][2] = math.nan

    damage(bundle, spoil)
    code, out, _ = verify(bundle, "--device", "cpu", "--tolerance", "1e30")
    assert code == 1
    assert "not finite" in out
    assert "is NaN" in out
    code, out, _ = verify(bundle, "--device", "cpu", "--json")
    assert code == 1
    rows = json.loads(out, parse_constant=lambda name: pytest.fail(name))["rows"]
    assert rows[0]["error"] is None
    assert rows[0]["is_finite"] is False


def test_a_net_that_is_too_sure_is_told(tmp_path: Path, verify: Any) -> None:
    """Pixels of 0 to 255, not scaled, through random weights."""
    sure = SMALL.replace("std 58 57 56", "std 0.1 0.1 0.1").replace(" LRN", "")
    (tmp_path / "map").mkdir()
    code, out, _ = verify(write(tmp_path, sure), "--device", "cpu")
    assert code == 0
    assert "saturated" in out
    assert "compile it with `--map`" in out
    _, out, _ = verify(write(tmp_path / "map", sure, keep_map=True), "--device", "cpu")
    assert "saturated" not in out


def test_a_layer_too_large_for_fp16_is_named(tmp_path: Path, verify: Any) -> None:
    """Weights that are each small enough give activations that are not."""
    lowered = net(SMALL)
    file = random_weights(lowered, tmp_path / "he.safetensors")
    arrays = {param.name: file.read(param.name).copy() for param in lowered.network.params()}
    arrays["conv2_1.weight"] *= 1e6 / 60
    metadata = describe(lowered.network)
    save(tmp_path / "large.safetensors", arrays, metadata)
    large = open_weights(tmp_path / "large.safetensors")
    write_bundle(lowered, large, tmp_path / "bundle", OnnxOptions(precision="fp16"))
    code, out, _ = verify(tmp_path / "bundle", "--device", "cpu")
    assert code == 1
    assert "not finite" in out
    assert "In fp32 `conv2_1` reaches" in out
    assert "--keep-fp32" in out
    assert "agree" not in out
    _, out, _ = verify(tmp_path / "bundle", "--device", "cpu", "--json")
    assert json.loads(out)["overflow"]["layer"] == "conv2_1"


#: Small, and without anything that would hide how large a layer's numbers are.
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
    """A bundle of a net whose second layer is ``factor`` times as large, and whose later ones take
    it back.
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
        OnnxOptions(**options),
    )
    return folder / "bundle"


@pytest.mark.parametrize("against", ["onnxrt", "torch"])
def test_numbers_beyond_fp16_are_named_though_the_cpu_computes_in_fp32(
    tmp_path: Path, verify: Any, against: str
) -> None:
    """The largest is PyTorch's, of the layer itself."""
    bundle = overflowing(tmp_path, precision="fp16")
    code, out, _ = verify(bundle, "--device", "cpu", "--against", against, "--json")
    facts = json.loads(out)
    assert (code, facts["passed"]) == (1, False)
    assert all(row["passed"] for row in facts["rows"])  # what was run agrees
    assert facts["overflow"]["layer"] == "conv1_2"
    assert facts["overflow"]["limit"] == 65504
    assert facts["keep_fp32"] == ["conv1_2", "fc2"]
    assert facts["arithmetic"] == {"stated": "fp16", "layers": 4, "run": 0}
    code, out, _ = verify(bundle, "--device", "cpu", "--against", against)
    assert code == 1
    assert "Compile it with `--keep-fp32 conv1_2 --keep-fp32 fc2`." in out
    assert "agree" not in out


def test_the_largest_number_is_that_of_the_layer_itself(tmp_path: Path, verify: Any) -> None:
    bundle = overflowing(tmp_path, precision="fp16")
    opened = open_bundle(bundle)
    _, out, _ = verify(bundle, "--device", "cpu", "--json")
    lowered = lowered_of(opened)
    options = OnnxOptions(layer="conv1_2")
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
    found = json.loads(out)["overflow"]["largest"]
    assert math.isclose(found, max(seen), rel_tol=1e-4)
    assert found > 65504


def test_what_mends_a_number_that_is_too_large_does_so(tmp_path: Path, verify: Any) -> None:
    bundle = overflowing(tmp_path, precision="fp16", keep_fp32=("conv1_2",))
    code, out, _ = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "In fp32 the input of `fc2` reaches" in out
    (tmp_path / "both").mkdir()
    bundle = overflowing(tmp_path / "both", precision="fp16", keep_fp32=("conv1_2", "fc2"))
    code, out, _ = verify(bundle, "--device", "cpu")
    assert code == 0
    assert "In fp32" not in out
    assert "Not certified: fp16 arithmetic was not run." in out
    assert "agree" not in out


def test_an_input_beyond_fp16_is_named(tmp_path: Path, verify: Any) -> None:
    text = SMALL.replace("std 58 57 56", "std 0.001 57 56")
    code, out, _ = verify(write(tmp_path, text, precision="fp16"), "--device", "cpu", "--json")
    assert code == 1
    first = json.loads(out)["overflow"]
    assert (first["layer"], first["what"]) == ("conv1_1", "input")


def test_weights_beyond_fp16_are_named(tmp_path: Path, verify: Any) -> None:
    code, out, _ = verify(overflowing(tmp_path, 1e8, precision="fp16"), "--device", "cpu", "--json")
    assert code == 1
    first = json.loads(out)["overflow"]
    assert (first["layer"], first["what"]) == ("conv1_2", "weights")


def test_an_fp32_bundle_is_certified(tmp_path: Path, verify: Any) -> None:
    code, out, _ = verify(overflowing(tmp_path), "--device", "cpu")
    assert code == 0
    assert "images agree" in out
    assert "Not certified" not in out


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, REFERENCE])
def test_a_file_that_was_changed_is_named(name: str, tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path, precision="fp16")
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    code, out, err = verify(bundle, "--device", "cpu")
    assert (code, out) == (1, "")
    assert "VGG524" in err
    assert name in err


# References that are not there.


def test_an_fp32_graph_is_its_own_reference(tmp_path: Path, verify: Any) -> None:
    code, _, err = verify(write(tmp_path), "--against", "onnxrt", "--device", "cpu")
    assert code == 1
    assert "VGG650" in err
    assert "--against torch" in err


def test_a_reference_may_be_deleted(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path, precision="fp16")
    (bundle / REFERENCE).unlink()
    code, out, _ = verify(bundle, "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["against"] == "torch"


def test_a_spec_like_another_is_whole_in_its_bundle(tmp_path: Path, verify: Any) -> None:
    (tmp_path / "base.vgg").write_text(SMALL)
    text = 'net child\nlike "base.vgg"\n'
    bundle = write(tmp_path, text, str(tmp_path / "child.vgg"))
    (tmp_path / "base.vgg").unlink()
    assert verify(bundle, "--device", "cpu")[0] == 0
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest[OWN_SHA256]
    (bundle / "base.vgg").write_text(SMALL)
    digest = hashlib.sha256(text.encode()).hexdigest()
    changed = manifest | {"spec_text": text, "spec_sha256": digest}
    (bundle / MANIFEST).write_text(json.dumps(changed))
    code, _, err = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "its spec takes layers from another file" in err


@pytest.mark.parametrize("is_protocol", [False, True])
def test_a_bundle_does_not_ask_for_all_memory(
    tmp_path: Path, verify: Any, *, is_protocol: bool
) -> None:
    """At Q = 65536 eight images would take terabytes as floats."""
    bundle = write(tmp_path)
    if is_protocol:
        lowered = net(SMALL)
        weights = open_weights(tmp_path / "weights.safetensors")
        write_protocol_bundle([(lowered, weights)], bundle, ProtocolOptions())
    rewrite(bundle, {"test.scales": [65536]})
    code, _, err = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "VGG530" in err
    assert "65536 × 65536" in err
    rewrite(bundle, {"test.scales": [36, 65536]})
    code, out, err = verify(bundle, "--device", "cpu")
    assert code == 0
    assert "All" in out
    assert "left out" in err


def test_a_manifest_that_is_not_the_graphs(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path)
    for change in ({"input.name": "pixture"}, {"outputs.0.channels": 7, "labels": None}):
        saved = (bundle / MANIFEST).read_bytes()
        rewrite(bundle, change)
        code, _, err = verify(bundle, "--device", "cpu")
        assert code == 1
        assert "VGG527" in err
        (bundle / MANIFEST).write_bytes(saved)


def test_weights_that_are_not_there(tmp_path: Path, verify: Any) -> None:
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
    code, _, err = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "VGG652" in err
    assert "fc4.bias is missing" in err


def test_other_outputs_are_not_compared(tmp_path: Path, verify: Any) -> None:
    (tmp_path / "other").mkdir()
    bundle = write(tmp_path, precision="fp16")
    nine = write(tmp_path / "other", SMALL.replace("FC-10", "FC-9"), single_file=True)
    shutil.copy(nine / MODEL, bundle / REFERENCE)
    manifest = replace(
        open_manifest(bundle),
        files=tuple(file_entry(bundle, name) for name in (MODEL, REFERENCE, WEIGHTS)),
    )
    (bundle / MANIFEST).write_text(manifest.to_json(), "utf-8")
    code, _, err = verify(bundle, "--device", "cpu")
    assert code == 1
    assert "VGG653" in err
    assert "is (1, 10) in the bundle, (1, 9) in the reference" in err


def open_manifest(bundle: Path) -> Manifest:
    """The manifest, without a look at the files."""
    return read_manifest((bundle / MANIFEST).read_text("utf-8"), MANIFEST)


# Pictures.


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(6)
    for name, size in (("a.png", (60, 40)), ("b.jpg", (40, 70)), ("more/long.png", (400, 40))):
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_pictures_go_to_the_profiles_that_hold_them(
    tmp_path: Path, pictures: Path, verify: Any
) -> None:
    bundle = write(tmp_path, SMALL + "\ntest:\n  scale 37, 50\n")
    code, out, err = verify(bundle, "--images", pictures, "--device", "cpu", "--json")
    assert code == 0
    assert "1 file without an image's ending (notes.txt)" in " ".join(err.split())
    rows = json.loads(out)["rows"]
    # Landscape and portrait at two scales; what is ten times as long as wide fits none.
    assert {row["profile"]: row["images"] for row in rows} == {0: 1, 1: 1, 2: 1, 3: 1, None: 2}
    code, out, _ = verify(bundle, "--images", pictures, "--device", "cpu")
    assert code == 0
    assert "All 6 images agree" in out


def test_a_net_for_crops_sees_the_middle_of_a_picture(
    tmp_path: Path, pictures: Path, verify: Any
) -> None:
    bundle = write(tmp_path, form="crop")
    code, out, _ = verify(bundle, "--images", pictures, "--device", "cpu", "--json")
    assert code == 0
    assert [row["images"] for row in json.loads(out)["rows"]] == [3]


def test_a_picture_that_is_smaller_than_the_crop(
    tmp_path: Path, pictures: Path, verify: Any
) -> None:
    bundle = write(tmp_path, form="crop")
    manifest = open_manifest(bundle)
    small = replace(manifest, test=replace(manifest.test, scales=(20,)))
    (bundle / MANIFEST).write_text(small.to_json(), "utf-8")
    code, _, err = verify(bundle, "--images", pictures, "--device", "cpu")
    assert code == 1
    assert "a.png" in err


def test_a_folder_without_pictures(tmp_path: Path, verify: Any) -> None:
    bundle = write(tmp_path)
    (tmp_path / "empty").mkdir()
    code, _, err = verify(bundle, "--images", tmp_path / "empty", "--device", "cpu")
    assert code == 1
    assert "VGG654" in err


# Engines, by a stand-in.


class Reader(OrtSession):
    """Gives the answers of the reference as the engine's, rounded as fp16 would."""

    def run(self, feeds: Any) -> Any:
        arrays = super().run(feeds)
        return {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "engine"
    stand_in(folder)
    asked: list[str] = []

    def fake_session(bundle: Any, device: str) -> OrtSession:
        asked.append(device)
        return Reader(bundle.reference, "cpu")

    monkeypatch.setattr(session, "open_session", fake_session)
    monkeypatch.setattr(machine, "this_machine", lambda: LINUX)
    return folder


def test_an_engine_is_run_at_its_own_profiles(engine: Path, verify: Any) -> None:
    code, out, err = verify(engine, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["tolerance"] == default_tolerance("fp16")
    assert sorted({row["profile"] for row in found["rows"]}) == [0, 1, 2, 3]
    assert [8, 56, 112] in [row["shape"] for row in found["rows"]]


def test_pictures_that_fit_no_profile_are_left_out(
    engine: Path, pictures: Path, verify: Any
) -> None:
    code, out, err = verify(engine, "--images", pictures, "--json")
    assert code == 0
    assert "2 rescaled pictures fit no profile" in err
    assert sum(row["images"] for row in json.loads(out)["rows"]) == 4
    for name in ("a.png", "b.jpg"):
        (pictures / name).unlink()
    code, _, err = verify(engine, "--images", pictures, "--json")
    assert code == 1
    assert "VGG654" in err


def test_an_engine_without_weights_has_no_torch(engine: Path, verify: Any) -> None:
    (engine / WEIGHTS).unlink()
    code, _, err = verify(engine)
    assert code == 1
    assert "VGG652" in err


def test_an_engine_is_not_loaded_where_it_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Any
) -> None:
    stand_in(tmp_path / "engine")
    monkeypatch.setattr(machine, "this_machine", lambda: BARE)
    code, out, err = verify(tmp_path / "engine")
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "the bundle cannot run here: version: built by TensorRT-RTX" in err
    assert "vggspec doctor" in err


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engine_runs_on_its_own_device(device: str, engine: Path, verify: Any) -> None:
    code, _, err = verify(engine, "--device", device)
    assert code == 2
    assert "TensorRT engine" in err


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_real_engine_agrees(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Any
) -> None:
    skip_unless_built("tensorrt_rtx")
    (tmp_path / "small.vgg").write_text(SMALL + "\ntest:\n  scale 37, 50\n")
    random_weights(net(SMALL), tmp_path / "small.safetensors")
    monkeypatch.chdir(tmp_path)
    options = ("--trt", "--trt-flavor", "tensorrt_rtx", "--precision", precision, "--map")
    assert run(["compile", "small.vgg", "--weights", "small.safetensors", *options]) == 0
    code, out, err = verify("small")
    assert code == 0, out + err
