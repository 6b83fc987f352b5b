"""A net whose branches do not meet for every image: who says so, and when."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.nets import net, random_weights, run_torch
from tests.refusals import refused, told
from vggspec.base.watcher import SILENT
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions, EngineOptions
from vggspec.bundle.profile import Profile, parse_profile
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.bundle.sizes import Remainders, Sizes, check_ranges
from vggspec.cli import run
from vggspec.cli.show import print_summary
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.bundling.deepstream import config as deepstream_config
from vggspec.compiler.bundling.description import sizes_of
from vggspec.compiler.bundling.engine import check_profiles, write_engine_bundle
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.protocol import write_protocol_bundle
from vggspec.compiler.ir import IMAGE, ImageInput, Node, Output, build
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.summary import summary_of
from vggspec.compiler.weights import WeightsFile
from vggspec.runtime.net import BundleNet
from vggspec.runtime.ort_session import for_tensorrt
from vggspec.runtime.predictor import Predictor
from vggspec.studies.verification.images import pictures, synthetic

Captured = pytest.CaptureFixture[str]

MULTIPLES = Remainders(4, (0,))
SPEC = """\
net fork
input 32x32 gray(mean 120)
conv3-4
maxpool
FC-5
soft-max
test:
  scale 36
"""


def fork(pool: MaxPool | None = None) -> Lowered:
    """Twice a pooling, rounding down, beside a conv of its stride, which rounds up."""
    pool = pool or MaxPool()
    conv = Conv(kernel_size=(3, 3), out_channels=4, padding=(1, 1))
    nodes = [
        Node(name="conv1", op=conv, inputs=(IMAGE,)),
        Node(name="pool1", op=pool, inputs=("conv1",)),
        Node(name="conv2", op=replace(conv, stride=2), inputs=("conv1",)),
        Node(name="sum", op=Add(), inputs=("pool1", "conv2")),
        Node(name="relu", op=Relu(), inputs=("sum",)),
        Node(name="pool2", op=pool, inputs=("relu",)),
        Node(name="conv3", op=replace(conv, stride=2), inputs=("relu",)),
        Node(name="both", op=Concat(), inputs=("pool2", "conv3")),
        Node(name="flat", op=Flatten(), inputs=("both",)),
        Node(name="fc", op=Linear(out_channels=5), inputs=("flat",)),
        Node(name="prob", op=Softmax(), inputs=("fc",)),
    ]
    lowered = net(SPEC)
    network = build("fork", lowered.network.input, nodes, [Output("posteriors", "prob")])
    return replace(lowered, network=network)


@pytest.fixture
def lowered() -> Lowered:
    return fork()


@pytest.fixture
def weights(lowered: Lowered, tmp_path: Path) -> WeightsFile:
    return random_weights(lowered, tmp_path / "fork.safetensors")


@pytest.fixture
def bundle(lowered: Lowered, weights: WeightsFile, tmp_path: Path) -> Path:
    write_bundle(lowered, weights, tmp_path / "fork", CompileOptions())
    return tmp_path / "fork"


def test_the_manifest_names_the_sizes(bundle: Path, capsys: Captured) -> None:
    contract = open_bundle(bundle).manifest.input
    assert contract.size == (32, 32)
    assert contract.sizes == Sizes(MULTIPLES, MULTIPLES)
    written = json.loads((bundle / "manifest.json").read_text("utf-8"))["input"]["sizes"]
    axis = {"period": 4, "remainders": [0]}
    assert written == {"rows": axis, "columns": axis}
    assert run(["inspect", str(bundle)]) == 0
    assert "at least 32 × 32; sizes multiples of 4" in capsys.readouterr().out


def test_rounding_up_lets_branches_meet(weights: WeightsFile, tmp_path: Path) -> None:
    for given in (CompileOptions(pool="ceil"), CompileOptions(form="crop")):
        write_bundle(fork(), weights, tmp_path / "fork", given)
        assert open_bundle(tmp_path / "fork").manifest.input.sizes == "any"


def test_an_image_of_another_size_is_refused(
    bundle: Path, lowered: Lowered, weights: WeightsFile
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (36, 40), np.uint8)
    with Predictor(bundle, device="cpu") as predict:
        found = predict(image, scales=36, flip=False)
        with refused(r"VGG262(.|\n)*37 × 41(.|\n)*36 × 40 and 40 × 44 fit(.|\n)*multiples of 4"):
            predict(image, scales=37, flip=False)
    x = image[None, None].astype(np.float32) - 120
    expected = run_torch(lowered, weights, CompileOptions(), x)["posteriors"]
    assert found.posteriors is not None
    np.testing.assert_allclose(found.posteriors, expected[0], atol=1e-5)


def test_the_smallest_size_that_fits_is_named(bundle: Path) -> None:
    image = np.zeros((33, 35), np.uint8)
    with Predictor(bundle, device="cpu") as predict, refused("32 × 32 and 36 × 36 fit"):
        predict(image, scales=33)


def test_verify_takes_sizes_that_fit(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("L", (51, 45)).save(tmp_path / "photos" / "gray.png")
    opened = open_bundle(bundle)
    manifest = opened.manifest
    profiles = profiles_of(manifest)
    made = list(synthetic(opened, profiles, 0, SILENT))
    found = list(pictures(tmp_path / "photos", manifest, profiles, SILENT, is_bounded=False))
    assert [each.images.shape[1:3] for each in found] == [(36, 40)]  # of 36 × 41
    assert {each.shape for each in made if each.shape} >= {(1, 36, 36), (2, 36, 48), (8, 36, 72)}
    with BundleNet(opened, device="cpu") as applied:
        for each in (*made, *found):
            assert applied(each.images)["posteriors"].shape == (len(each.images), 5)


def test_an_engine_with_sizes_that_do_not_fit_is_not_built(
    lowered: Lowered, weights: WeightsFile, tmp_path: Path
) -> None:
    def options(*profiles: Profile) -> CompileOptions:
        return CompileOptions(engine=EngineOptions(flavour="tensorrt_rtx", profiles=profiles))

    profile = Profile((1, 32, 32), (2, 32, 41), (8, 32, 48))
    for given in (options(profile), options()):
        with refused(r"VGG263(.|\n)*do not meet(.|\n)*--profile \dx(.|\n)*sizes that fit: mul"):
            write_engine_bundle(lowered, weights, tmp_path / "fork", given)
    assert not (tmp_path / "fork").exists()


def test_what_is_suggested_in_place_of_default_profiles_is_taken(
    lowered: Lowered, weights: WeightsFile, tmp_path: Path
) -> None:
    """As written in the error: the square and the usual images of the scale, where they fit."""
    derived = CompileOptions(engine=EngineOptions(flavour="tensorrt_rtx"))
    with refused("VGG263(.|\n)*which follows from `test:`") as caught:
        write_engine_bundle(lowered, weights, tmp_path / "fork", derived)
    texts = re.findall(r"--profile (\S+?)[ `]", " ".join(told(caught.value).split()))
    assert texts == [
        "1x36x36,2x36x36,8x36x36",
        "1x36x48,2x36x48,8x36x48",
        "1x48x36,2x48x36,8x48x36",
    ]
    profiles = tuple(parse_profile(text, 1) for text in texts)
    check_ranges(profiles, Sizes(MULTIPLES, MULTIPLES), path="fork")
    options = replace(derived, engine=replace(derived.engine, profiles=profiles))
    check_profiles(prepare(lowered.network, options), options, profiles)


def test_a_profile_of_one_size_that_fits_is_taken() -> None:
    sizes = Sizes(MULTIPLES, Remainders(1, (0,)))
    check_ranges([Profile((1, 32, 32), (2, 32, 41), (8, 32, 99))], sizes, path="fork")
    check_ranges([Profile((1, 32, 32), (2, 33, 41), (8, 48, 99))], "any", path="fork")
    rows = Profile((1, 33, 40), (2, 33, 40), (4, 33, 40))
    with refused("`--profile 1x36x40,2x36x40,4x36x40`"):
        check_ranges([rows], sizes, path="fork")


def test_tensorrt_of_onnx_runtime_is_refused(bundle: Path) -> None:
    with refused("VGG263(.|\n)*--device cuda"):
        for_tensorrt(open_bundle(bundle).manifest)


def test_no_graph_for_pictures_of_any_size(
    lowered: Lowered, weights: WeightsFile, tmp_path: Path
) -> None:
    with refused("VGG264(.|\n)*multiples of 4"):
        write_protocol_bundle([(lowered, weights)], tmp_path / "fork", CompileOptions())
    options = CompileOptions(pool="ceil")
    written = write_protocol_bundle([(lowered, weights)], tmp_path / "fork", options)
    assert written.manifest.members[0].input.sizes == "any"


def test_frames_of_deepstream_fit(bundle: Path) -> None:
    text = deepstream_config(open_bundle(bundle).manifest)
    assert text is not None
    assert "infer-dims=1;36;64\n" in text


def test_an_average_that_moves_hides_no_join() -> None:
    """The average climbs past the sum: what it averages must meet nevertheless."""
    conv = Conv(kernel_size=(1, 1), out_channels=3)
    nodes = [
        Node(name="pool", op=MaxPool(), inputs=(IMAGE,)),
        Node(name="skip", op=MaxPool(ceil=True), inputs=(IMAGE,)),
        Node(name="a", op=conv, inputs=("pool",)),
        Node(name="b", op=conv, inputs=("skip",)),
        Node(name="sum", op=Add(), inputs=("a", "b")),
    ]
    network = build("t", ImageInput(height=8, width=8), nodes, [Output("scores", "sum")])
    found = sizes_of(network, CompileOptions(form="dense"))
    assert str(found.sizes) == "multiples of 2"
    assert found.least == (2, 2)


def test_show(capsys: Captured) -> None:
    print_summary(summary_of(fork()))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("sizes"))
    assert line.split(maxsplit=2)[1:] == ["some", "multiples of 4, at least 32 × 32, with --dense"]
    print_summary(summary_of(fork(MaxPool(ceil=True)), dense=True))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("sizes"))
    assert line.split(maxsplit=2)[1:] == ["any", "at least 29 × 29"]
    data = summary_of(fork()).as_data()
    axis = {"period": 4, "remainders": (0,)}
    assert data["sizes"] == {"rows": axis, "columns": axis}
    assert data["least_size"] == [32, 32]


def test_show_says_nothing_of_columns(capsys: Captured) -> None:
    column = summary_of(net(SPEC))
    print_summary(column)
    assert "sizes" not in capsys.readouterr().out
    assert "sizes" not in column.as_data()
