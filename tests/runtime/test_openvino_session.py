"""What OpenVINO has of its own: links, paths, number types. ``test_session.py`` has the rest."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import vggspec
from tests.nets import SMALL, images, net, random_weights
from tests.refusals import refused
from tests.runtime.bundles import make
from vggspec.base.arguments import Device
from vggspec.base.diagnostic import MissingLibraryError
from vggspec.bundle.manifest import MODEL, WEIGHTS
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.runtime.compatibility import compile_command
from vggspec.runtime.open_session import open_session
from vggspec.runtime.openvino_session import OpenvinoSession, cleaned, has_bf16
from vggspec.runtime.session import Arrays

LOWERED = net(SMALL)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    weights = random_weights(LOWERED, tmp_path / "w.safetensors")
    write_bundle(LOWERED, weights, tmp_path / "b", CompileOptions(keep_map=True))
    return tmp_path / "b"


def run(bundle: Path, device: Device, *shape: int) -> Arrays:
    with open_session(open_bundle(bundle), device, threads=1) as session:
        return session.run({"image": images(*shape)})


def assert_equal(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_many_sizes_of_one_compiled_net(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with open_session(opened, "openvino") as ours, open_session(opened, "cpu") as theirs:
        for rows, columns in ((32, 32), (33, 64), (90, 41), (32, 200), (32, 32)):
            for n in (1, 3):
                fed = {"image": images(n, 3, rows, columns)}
                assert_equal(ours.run(fed), theirs.run(fed))


def test_arrays_are_the_callers(bundle: Path) -> None:
    """Those that are read-only or in another order are taken; results do not change later."""
    opened = open_bundle(bundle)
    with open_session(opened, "openvino") as session:
        turned = np.ascontiguousarray(images(1, 3, 40, 40).transpose(0, 2, 3, 1))
        turned.flags.writeable = False
        found = session.run({"image": turned.transpose(0, 3, 1, 2)})
        kept = {name: array.copy() for name, array in found.items()}
        assert all(array.flags.owndata and array.flags.writeable for array in found.values())
        session.run({"image": images(1, 3, 40, 40, seed=1)})
    assert_equal(found, kept)
    assert_equal(found, run(bundle, "cpu", 1, 3, 40, 40))


@pytest.mark.parametrize("name", ["model.safetensors", "other"])
def test_weights_may_be_links(name: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To another folder, under the same name or another, whatever the working folder is."""
    expected = run(bundle, "cpu", 2, 3, 40, 50)
    elsewhere = bundle.parent / "store" / name
    elsewhere.parent.mkdir()
    shutil.move(bundle / WEIGHTS, elsewhere)
    (bundle / WEIGHTS).symlink_to(elsewhere)
    assert_equal(run(bundle, "openvino", 2, 3, 40, 50), expected)
    monkeypatch.chdir(bundle)
    assert_equal(run(Path(), "openvino", 2, 3, 40, 50), expected)


def test_linked_weights_of_a_graph_with_the_protocol(tmp_path: Path) -> None:
    weights = random_weights(LOWERED, tmp_path / "w.safetensors")
    write_protocol_bundle([(LOWERED, weights)], tmp_path / "b", CompileOptions())
    shutil.move(tmp_path / "b" / WEIGHTS, tmp_path / "w")
    (tmp_path / "b" / WEIGHTS).symlink_to(tmp_path / "w")
    picture = np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)
    found = {}
    for device in ("openvino", "cpu"):
        with vggspec.load(tmp_path / "b", device=device) as predictor:
            found[device] = predictor(picture, scales=(40, 50)).posteriors
    np.testing.assert_allclose(found["openvino"], found["cpu"], atol=1e-5)


def test_weights_that_are_missing_or_too_short(bundle: Path) -> None:
    weights = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).unlink()
    with refused("VGG527.*model.safetensors"):
        OpenvinoSession(bundle / MODEL)
    elsewhere = bundle.parent / "w"
    (bundle / WEIGHTS).symlink_to(elsewhere)
    with refused("VGG527.*[Nn]o such file"):
        OpenvinoSession(bundle / MODEL)
    elsewhere.write_bytes(weights[:1000])
    with refused("VGG527.*buffer"):
        OpenvinoSession(bundle / MODEL)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_path_that_is_no_text(bundle: Path) -> None:
    other = os.fsdecode(os.fsencode(bundle.parent) + b"/\xff")
    shutil.move(bundle, other)
    assert_equal(run(Path(other), "openvino", 1, 3, 32, 32), run(Path(other), "cpu", 1, 3, 32, 32))


def test_a_distance(tmp_path: Path) -> None:
    lowered = net(
        "net small\ninput 32x32 RGB\nconv3-4\nmaxpool\nconv3-6\noutputs conv1_1 conv2_1\n"
    )
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions(distance=True))
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 40, 50, 3), np.uint8)
    found = {}
    for device in ("openvino", "cpu"):
        with vggspec.load(tmp_path / "b", device=device) as predictor:
            found[device] = predictor.distance(first, second)
    assert found["openvino"] == pytest.approx(found["cpu"], rel=1e-4)
    assert found["cpu"] > 0


OTHER_RESULTS = {
    "boxes": "net boxes\ninput 32x32 RGB\nconv3-8\nmaxpool\nFC-12(linear)\nboxes(per-class)\n",
    "a label map": (
        "net map\ninput 64x64 RGB\nconv3-8 x2\nmaxpool as p1\nconv3-8\nmaxpool\nconv1-3(linear)\n"
        "[upconv4-3/2(no-bias) crop(p1) + from p1 conv1-3(linear)]\n"
        "upconv4-3/2(no-bias) crop(image)\nsoft-max(map)\n"
    ),
}


@pytest.mark.parametrize("result", OTHER_RESULTS)
def test_nets_that_give_no_classes(result: str, tmp_path: Path) -> None:
    lowered = net(OTHER_RESULTS[result])
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    write_bundle(lowered, weights, tmp_path / "b", CompileOptions())
    sides = (lowered.network.input.height, lowered.network.input.width)
    shape = (2, 3, *sides)
    found = run(tmp_path / "b", "openvino", *shape)
    assert all(np.ptp(array) > 0 for array in found.values())
    assert_equal(found, run(tmp_path / "b", "cpu", *shape))


def test_nan_is_an_error_and_no_ranking(tmp_path: Path) -> None:
    made = make(tmp_path / "b")
    broken = {name: np.full_like(array, np.nan) for name, array in made.weights.items()}
    made = make(tmp_path / "nan", of=broken)
    picture = np.zeros((24, 24, 3), np.uint8)
    with refused("VGG5"), vggspec.load(made.path, device="openvino") as predictor:
        predictor(picture)


def test_fp16_is_computed_in_fp32(tmp_path: Path) -> None:
    weights = random_weights(LOWERED, tmp_path / "w.safetensors")
    write_bundle(LOWERED, weights, tmp_path / "b", CompileOptions(precision="fp16"))
    found = vggspec.verify(tmp_path / "b", device="openvino")
    assert not found.failed
    assert (found.arithmetic.engine, found.arithmetic.run) == ("OpenVINO", 0)


def test_bf16_is_computed_where_the_processor_has_it(tmp_path: Path) -> None:
    """Its graph is that of fp32, which says nothing of bf16; the manifest does."""
    weights = random_weights(LOWERED, tmp_path / "w.safetensors")
    write_bundle(LOWERED, weights, tmp_path / "fp32", CompileOptions())
    write_bundle(LOWERED, weights, tmp_path / "b", CompileOptions(precision="bf16"))
    assert (tmp_path / "b" / MODEL).read_bytes() == (tmp_path / "fp32" / MODEL).read_bytes()
    manifest = open_bundle(tmp_path / "b").manifest
    assert "--precision bf16" in compile_command(manifest, bundle="b")[1]
    for device, can in (("openvino", has_bf16()), ("cpu", False)):
        found = vggspec.verify(tmp_path / "b", device=device)
        assert not found.failed
        assert found.arithmetic.is_run == can
        assert found.arithmetic.layers == 5
        if not can:
            assert f"{found.arithmetic.engine} computes all bf16 layers in fp32" in (
                found.arithmetic.in_words()
            )


def test_bf16_of_a_graph_is_no_matter_of_single_layers(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    weights = random_weights(LOWERED, tmp_path / "w.safetensors")
    with pytest.raises(vggspec.ArgumentError, match=r"--keep-fp32 cannot .* without --trt"):
        vggspec.compile(
            tmp_path / "small.vgg",
            weights=weights.path,
            out=tmp_path / "b",
            precision="bf16",
            keep_fp32=("conv1_1",),
        )


def test_without_the_library(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[openvino\]"'):
        open_session(open_bundle(bundle), "openvino")


SAID = {
    "Exception from src/inference/src/cpp/core.cpp:84:\nCheck 'false' failed at "
    "src/frontends/common/src/frontend.cpp:47:\nLoading input model\nPath 'w' is '/w'\n\n": (
        "path 'w' is '/w'"
    ),
    'Exception from src/inference/src/model_reader.cpp:148:\nUnable to read the model: "b" Please '
    'check that model format: ".onnx" is supported. Available frontends: ir tf \n\n': (
        "unable to read the model"
    ),
    "Exception from src/inference/src/cpp/infer_request.cpp:224:\nException from "
    "src/plugins/intel_cpu/src/node.cpp:794:\n[CPU] Convolution node with name 'fc6' Check "
    "'dim_stride.has_value()' failed at src/plugins/intel_cpu/src/memory_desc/x.cpp:164:\n"
    "getSize overflow\n\n\n": "[CPU] Convolution node with name 'fc6' getSize overflow",
    "": "not enough memory",
}


@pytest.mark.parametrize("text", SAID)
def test_what_openvino_says_comes_without_its_own_places(text: str) -> None:
    assert cleaned(RuntimeError(text), "b") == SAID[text]
