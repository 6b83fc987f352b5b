"""Nets that label positions, from the spec to a bundle, against torch written out here."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

import vggspec
from tests.nets import disagreement, images, random_weights, session
from tests.refusals import refused
from vggspec.bundle.manifest import MANIFEST, MODEL
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.compiler.lower import load_network
from vggspec.compiler.passes import TRAINING, run

COARSE = """\
net coarse
input 32x48 RGB(mean 120 115 100)
conv3-8 maxpool3/2(pad 1) conv3-12(pad 0) maxpool
conv1-5
soft-max(map)
"""


def compiled(folder: Path, text: str = COARSE, **options: object) -> tuple[Path, Path]:
    spec, weights = folder / "net.vgg", folder / "w.safetensors"
    spec.write_text(text, "utf-8")
    random_weights(load_network(str(spec)), weights)
    vggspec.compile(spec, weights=weights, out=folder / "b", **options)
    return folder / "b", weights


def expected(weights: Path, x: torch.Tensor) -> torch.Tensor:
    state = load_file(weights)

    def conv(name: str, x: torch.Tensor, padding: int) -> torch.Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    x = functional.max_pool2d(functional.relu(conv("conv1_1", x, 1)), 3, 2, padding=1)
    x = functional.max_pool2d(functional.relu(conv("conv2_1", x, 0)), 2)
    return functional.softmax(conv("conv3_1", x, 0), dim=1)


@pytest.mark.parametrize("average", [None, "scores"])
def test_posteriors_stay_apart(average: str | None, tmp_path: Path) -> None:
    bundle, weights = compiled(tmp_path, average=average)
    net = session(bundle / MODEL)
    for size in ((32, 48), (35, 61)):
        x = images(2, 3, *size)
        (found,) = net.run(["posterior_map"], {"image": x})
        wanted = expected(weights, torch.from_numpy(x)).numpy()
        assert found.shape == wanted.shape
        assert disagreement(found, wanted) < 1e-5


def test_the_manifest_says_where_positions_lie(tmp_path: Path) -> None:
    bundle, _ = compiled(tmp_path)
    assert json.loads((bundle / MANIFEST).read_text("utf-8"))["format"] == 6
    manifest = open_bundle(bundle).manifest
    assert manifest.segments
    assert manifest.gives == "posteriors of each position"
    (output,) = manifest.outputs
    assert output.position is not None
    # Pooling 3/2 pad 1 begins at pixel 0, the conv two pixels later, the last pooling between.
    assert output.position.place == (3.0, 3.0)
    assert output.position.stride == (4, 4)
    assert manifest.window == (32, 48)


def test_profiles_are_of_images_that_have_been_continued(tmp_path: Path) -> None:
    text = (
        "net u\ninput 60x60 RGB(mean 1 2 3)\nconv3-6(pad 0) as first maxpool conv3-8(pad 0)\n"
        "upconv2-6/2 as larger [identity & from first crop(larger)] conv3-5(pad 0)\n"
        "soft-max(map)\ntest:\n  scale 40\n"
    )
    bundle, _ = compiled(tmp_path, text)
    manifest = open_bundle(bundle).manifest
    assert manifest.result.position is not None
    assert manifest.result.position.margin == (4, 4)
    landscape = profiles_of(manifest)[0]
    assert landscape.min[1:] == (48, 48)
    assert landscape.opt[1:] == (48, 61)
    assert manifest.input.sizes == "any"


def test_a_bundle_without_a_place_is_refused(tmp_path: Path) -> None:
    bundle, _ = compiled(tmp_path)
    data = json.loads((bundle / MANIFEST).read_text("utf-8"))
    data["outputs"][0]["position"]["place"] = None
    del data["manifest_sha256"]
    (bundle / MANIFEST).write_text(json.dumps(data), "utf-8")
    with refused("positions that lie nowhere"):
        open_bundle(bundle)


def test_options_of_one_class_an_image_are_refused(tmp_path: Path) -> None:
    with refused("the net's own output is a map"):
        compiled(tmp_path, keep_map=True)
    with refused("does not end in `soft-max`"):
        compiled(tmp_path, average="posteriors")


def test_training_takes_scores_of_each_position(tmp_path: Path) -> None:
    spec = tmp_path / "net.vgg"
    spec.write_text(COARSE, "utf-8")
    network = run(TRAINING, load_network(str(spec)).network)
    assert [output.name for output in network.outputs] == ["score_map"]
    assert network.type_of(network.outputs[0].layer).shape == (5, 7, 11)


def test_torch_gives_the_same_map(tmp_path: Path) -> None:
    _, weights = compiled(tmp_path)
    module = vggspec.torch_module(tmp_path / "net.vgg", weights)
    x = torch.from_numpy(images(1, 3, 32, 48))
    with torch.no_grad():
        found = module(x)
    np.testing.assert_allclose(found.numpy(), expected(weights, x).numpy(), atol=1e-6)
