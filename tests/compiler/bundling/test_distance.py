"""``compile --distance``: two pictures in, their distance out, as PyTorch computes it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import vggspec
from tests.nets import net, random_weights, session
from tests.refusals import refused
from tests.runtime.bundles import rewrite
from vggspec.base.diagnostic import ArgumentError
from vggspec.bundle.manifest import FACTORS, MODEL, read_manifest
from vggspec.bundle.opening import open_bundle
from vggspec.compiler.bundling.variant import Changes, write_variant
from vggspec.compiler.compiling import Compiled
from vggspec.runtime.compatibility import compile_command

TEXT = """\
net small
input 32x32 BGR(mean 104 117 123, scale 0.02)
conv3-4 BN
maxpool
conv3-6
maxpool
conv3-3
outputs conv1_1 conv2_1 conv3_1
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, its weights, and factors of its taps."""
    folder = tmp_path_factory.mktemp("distance")
    (folder / "small.vgg").write_text(TEXT)
    random_weights(net(TEXT, "small.vgg"), folder / "w.safetensors")
    rng = np.random.default_rng(0)
    state = {
        f"lin{i}.model.1.weight": torch.from_numpy(rng.random((1, n, 1, 1), np.float32))
        for i, n in enumerate((4, 6, 3))
    }
    torch.save(state, folder / "factors.pth")
    return folder


Build = Callable[..., Compiled]


@pytest.fixture(scope="module")
def build(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    def built(text: str | None = None, **options: Any) -> Compiled:
        out = tmp_path_factory.mktemp("bundle") / "small"
        spec = here / "small.vgg"
        if text is not None:
            spec = out.parent / "small.vgg"
            spec.write_text(text)
        options = {"weights": here / "w.safetensors", "distance": True, **options}
        return vggspec.compile(spec, out=out, **options)

    return built


def pairs(number: int, rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng((number, rows, columns))
    shape = (2, number, rows, columns, 3)
    first, second = rng.integers(0, 256, shape, np.uint8)
    return first, second


def in_torch(
    here: Path, first: NDArray[np.uint8], second: NDArray[np.uint8], factors: Path | None
) -> NDArray[np.float32]:
    module = vggspec.perceptual(
        here / "small.vgg", here / "w.safetensors", factors=factors, pixels=(0, 255)
    )
    with torch.inference_mode():
        planes = [
            torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)) for x in (first, second)
        ]
        return module(*planes).numpy()


@pytest.mark.parametrize("is_learned", [True, False])
@pytest.mark.parametrize("contract", ["float", "raw"])
def test_the_graph_is_the_module(
    contract: str, here: Path, build: Build, *, is_learned: bool
) -> None:
    factors = here / "factors.pth" if is_learned else None
    made = build(contract=contract, factors=factors)
    onnx.checker.check_model(made.path / MODEL, full_check=True)
    graph = session(made.path / MODEL)
    assert [(each.name, each.shape) for each in graph.get_outputs()] == [("distance", ["N"])]
    for shape in ((1, 32, 32), (3, 21, 34), (2, 4, 5)):
        first, second = pairs(*shape)
        feeds = {"first": first, "second": second}
        if contract == "float":
            mean = np.array([104, 117, 123], np.float32)
            feeds = {
                name: ((x[..., ::-1] - mean) * np.float32(0.02)).transpose(0, 3, 1, 2)
                for name, x in feeds.items()
            }
        (found,) = graph.run(None, feeds)
        expected = in_torch(here, first, second, factors)
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_pictures_that_are_alike(build: Build) -> None:
    """Black ones too, whose features may be 0 everywhere."""
    with vggspec.load(build()) as predictor:
        black = np.zeros((16, 16, 3), np.uint8)
        (first,), _ = pairs(1, 16, 16)
        assert predictor.distance(black, black) == predictor.distance(first, first) == 0
        assert predictor.distance(black, first) == pytest.approx(predictor.distance(first, black))


def test_it_is_built_again_from_the_bundle_alone(here: Path, build: Build, tmp_path: Path) -> None:
    made = build(factors=here / "factors.pth", pool="ceil")
    _, line = compile_command(made.manifest, bundle="B")
    assert line == (
        "vggspec compile small.vgg --pool ceil --distance --weights B/1/model.safetensors"
        " --factors B/1/factors.safetensors -o B-rebuilt"
    )
    (tmp_path / "small.vgg").write_text(made.manifest.spec_text)
    again = vggspec.compile(
        tmp_path / "small.vgg",
        weights=made.path / "1/model.safetensors",
        factors=made.path / FACTORS,
        distance=True,
        pool="ceil",
        out=tmp_path / "again",
    )
    assert (again.path / MODEL).read_bytes() == (made.path / MODEL).read_bytes()
    assert again.manifest.files == made.manifest.files


def test_the_manifest_says_which_net_and_which_factors(here: Path, build: Build) -> None:
    plain, learned = build(), build(factors=here / "factors.pth")
    text = (learned.path / "manifest.json").read_text()
    assert str(here) not in text
    manifest = read_manifest(text, "manifest.json")
    assert (manifest.format, manifest.result.kind, manifest.labels) == (4, "distance", None)
    assert manifest.inputs == ("first", "second")
    assert manifest.input.size == (4, 4)
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    weights = vggspec.perceptual(here / "small.vgg", here / "w.safetensors").weights_sha256
    assert digests["1/model.safetensors"] == weights
    assert len(digests[FACTORS]) == 64
    assert FACTORS not in {entry.path for entry in plain.manifest.files}
    metadata = {
        p.key: p.value
        for p in onnx.load(learned.path / MODEL, load_external_data=False).metadata_props
    }
    assert metadata["vggspec.weights_sha256"] == weights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 3}, "format"),
        ({"options.distance": False}, "one distance"),
        ({"outputs.0.channels": 2}, "one distance"),
        ({"outputs.0.kind": "scores"}, "one distance"),
        ({"input.is_dynamic": False}, "not for any size"),
        ({"input.name": "second"}, "input.name"),
        ({"labels": ["one"]}, "labels"),
    ],
)
def test_a_manifest_that_contradicts_itself(
    change: dict[str, Any], words: str, build: Build
) -> None:
    made = build()
    rewrite(made.path, change)
    with refused(f"VGG5.*{words}"):
        open_bundle(made.path)


def test_a_graph_that_is_not_the_manifests(build: Build) -> None:
    made = build()
    rewrite(made.path, {"input.name": "other"})
    with refused("it takes `first`.*the manifest says `other`"):
        vggspec.load(made, device="cpu")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trt": True, "refittable": True}, "--refittable cannot be used with --distance"),
        ({"form": "crop"}, "--crop cannot be used with --distance"),
        ({"protocol": True}, "--protocol cannot be used with --distance"),
        ({"layer": "conv1_1"}, "--layer cannot be used with --distance"),
        ({"stride": 2}, "--stride cannot be used with --distance"),
        ({"keep_map": True}, "--map cannot be used with --distance"),
        ({"average": "posteriors"}, "--average cannot be used with --distance"),
        ({"distance": False, "factors": "f.pth"}, "--factors says"),
    ],
)
def test_options_that_do_not_go_with_it(options: dict[str, Any], words: str, build: Build) -> None:
    with pytest.raises(ArgumentError, match=words):
        build(**options)


def test_a_net_without_maps_and_factors_of_another(
    here: Path, build: Build, tmp_path: Path
) -> None:
    with refused("(?s)VGG667.*outputs conv1_2"):
        build(TEXT.replace("outputs conv1_1 conv2_1 conv3_1", "FC-5\nsoft-max"))
    other = tmp_path / "f.pth"
    torch.save({"lin0.model.1.weight": torch.ones(1, 5, 1, 1)}, other)
    with refused("VGG668.*taps of 5 channels"):
        build(factors=other)
    torch.save(
        {f"lin{i}.model.1.weight": torch.full((n,), np.nan) for i, n in enumerate((4, 6, 3))}, other
    )
    with refused("lin0.model.1.weight.*NaN"):
        build(factors=other)


def test_a_net_without_the_line_outputs_compares_its_last_map(here: Path, build: Build) -> None:
    """As ``vggspec.perceptual`` does: nothing is averaged over space before."""
    made = build(TEXT[: TEXT.index("outputs")])
    first, second = pairs(1, 20, 24)
    with vggspec.load(made) as predictor:
        found = predictor.distance(first[0], second[0])
    module = vggspec.perceptual(
        here / "small.vgg", here / "w.safetensors", taps=("conv3_1",), pixels=(0, 255)
    )
    planes = [torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float32)) for x in (first, second)]
    assert found == pytest.approx(module(*planes).item(), rel=2e-5)


def test_who_wants_one_picture_is_told(here: Path, build: Build, tmp_path: Path) -> None:
    made = build()
    (picture,), _ = pairs(1, 16, 16)
    with vggspec.load(made) as predictor:
        for call in (predictor, predictor.outputs):
            with refused("(?s)VGG717.*vggspec distance"):
                call(picture)
    (tmp_path / "images" / "val" / "ant").mkdir(parents=True)
    torch.save({}, tmp_path / "x.pth")
    Image.fromarray(picture).save(tmp_path / "images/val/ant/one.png")
    with refused("VGG717"):
        next(vggspec.predict(made, picture))
    with refused("VGG717"):
        vggspec.evaluate(made, tmp_path / "images")
    with refused("VGG717"):
        vggspec.features(made, tmp_path / "images", out=tmp_path / "f.safetensors")
    with refused("VGG717"):
        next(iter(vggspec.localise(made, [tmp_path / "images/val/ant/one.png"])))
    with refused("VGG717"):
        write_variant(open_bundle(made), tmp_path / "variant", Changes(pool="ceil"))
    with refused("VGG62"):
        vggspec.refit(made, here / "w.safetensors")


def test_what_servers_read(build: Build) -> None:
    made = build()
    text = (made.path / "config.pbtxt").read_text()
    for name in ("first", "second"):
        assert f'input {{\n  name: "{name}"\n  data_type: TYPE_FP32\n  format: FORMAT_NCHW' in text
        assert f'key: "{name}"' in text
    wanted = 'output {\n  name: "distance"\n  data_type: TYPE_FP32\n  dims: [ 1 ]\n'
    assert f"{wanted}  reshape {{ shape: [ ] }}\n}}" in text
    assert not (made.path / "nvinfer.txt").exists()


def test_what_inspect_says(here: Path, build: Build) -> None:
    made = build(factors=here / "factors.pth")
    (facts, *_) = vggspec.inspect(made).sections()
    rows = dict(facts.rows)
    assert rows["input"].startswith("first and second: float32 N × 3 × H × W, at least 4 × 4")
    assert rows["output"] == "distance: float32 N"
    assert rows["factors"] == "learned, one for each channel"
    assert not {"test", "classes", "window"} & rows.keys()
    json.dumps(vggspec.inspect(made).as_data())
    assert 'net.distance("photo.jpg", "other.jpg")' in vggspec.card(made)


@pytest.mark.parametrize("options", [{}, {"single_file": True}, {"precision": "fp16"}])
def test_it_is_verified(options: dict[str, Any], here: Path, build: Build) -> None:
    text = f"{TEXT}test:\n  scale 32\n  flip off\n"
    made = build(text, factors=here / "factors.pth", **options)
    found = vggspec.verify(made, device="cpu")
    assert found.passed, found
    assert found.num_images > 1
    largest = 0 if "precision" in options else 1e-5
    assert all(each.figures.error <= (largest or 4.3e-3) for each in found.comparisons)


def test_other_factors_are_found(here: Path, build: Build) -> None:
    """Those in the graph against those beside it."""
    made = build(f"{TEXT}test:\n  scale 32\n", factors=here / "factors.pth")
    model = onnx.load(made.path / MODEL, load_external_data=False)
    (factors,) = (each for each in model.graph.initializer if each.name == "factors")
    factors.raw_data = np.ones(13, np.float32).tobytes()
    data = model.SerializeToString()
    (made.path / MODEL).write_bytes(data)
    at = [entry.path for entry in made.manifest.files].index(MODEL)
    rewrite(
        made.path,
        {f"files.{at}.sha256": hashlib.sha256(data).hexdigest(), f"files.{at}.bytes": len(data)},
    )
    assert not vggspec.verify(made, device="cpu").passed


def test_tensorrt_rtx_parses_it(here: Path, build: Build) -> None:
    rtx = pytest.importorskip("tensorrt_rtx")
    made = build(factors=here / "factors.pth", contract="raw")
    log = rtx.Logger(rtx.Logger.ERROR)
    definition = rtx.Builder(log).create_network(
        1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    parser = rtx.OnnxParser(definition, log)
    assert parser.parse_from_file(str(made.path / MODEL)), parser.get_error(0).desc()
    assert [definition.get_input(i).name for i in range(2)] == ["first", "second"]
    assert tuple(definition.get_output(0).shape) == (-1,)
