"""``predict`` with a net that labels pixels."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vggspec
from tests.cli.run import vggspec as run
from tests.nets import any_weights
from tests.refusals import refused
from tests.runtime.bundles import make
from vggspec.compiler.lower import load_network

SPEC = """\
net maps
input 32x32 RGB(mean 120 115 100, std 60)
conv3-6 maxpool conv1-3
soft-max(map)
test:
  scale 40
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "maps.vgg").write_text(SPEC, "utf-8")
    any_weights(load_network(str(folder / "maps.vgg")), folder / "w.safetensors")
    vggspec.compile(folder / "maps.vgg", weights=folder / "w.safetensors", out=folder / "b")
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        pixels = rng.integers(0, 256, (50, 70, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_masks_overlays_and_shares_agree(bundle: Path, tmp_path: Path) -> None:
    done = run(
        "predict", bundle / "b", bundle / "one.png", "--json", "--mask", tmp_path / "m.png",
        "--overlay", tmp_path / "o.png",
    )  # fmt: skip
    (found,) = json.loads(done.stdout)
    assert found["size"] == [50, 70]
    with Image.open(tmp_path / "m.png") as mask, Image.open(tmp_path / "o.png") as overlay:
        labels = np.asarray(mask)
        assert overlay.mode == "RGB"
    assert labels.shape == (50, 70)
    pixels = {area["index"]: area["pixels"] for area in found["areas"]}
    assert pixels == {i: n for i, n in enumerate(np.bincount(labels.ravel())) if n}
    assert sum(area["share"] for area in found["areas"]) == pytest.approx(1)
    with vggspec.load(bundle / "b") as predictor:
        again = predictor(bundle / "one.png", tile=8, keep_posteriors=True)
    assert again.label_map is not None
    np.testing.assert_array_equal(again.label_map.labels, labels)
    assert again.label_map.posteriors is not None
    assert again.label_map.posteriors.shape == (3, 50, 70)


def test_tables_have_a_row_a_class(bundle: Path) -> None:
    done = run("predict", bundle / "b", bundle / "one.png", bundle / "two.png", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["file"] for row in rows} == {str(bundle / "one.png"), str(bundle / "two.png")}
    assert sum(int(row["pixels"]) for row in rows) == 2 * 50 * 70
    text = run("predict", bundle / "b", bundle / "one.png", "--tile", "16").stdout
    assert "shares of the image's pixels" in text
    assert "class " in text


def test_pictures_of_another_kind_are_refused(bundle: Path, tmp_path: Path) -> None:
    done = run("predict", bundle / "b", bundle / "one.png", "--heatmap", tmp_path / "h.png")
    assert "VGG591" in done.stderr
    assert "--overlay" in done.stderr
    classes = make(tmp_path / "classes").path
    done = run("predict", classes, bundle / "one.png", "--mask", tmp_path / "m.png")
    assert "VGG592" in done.stderr
    with vggspec.load(classes) as predictor, refused("not a label for each pixel"):
        predictor(np.zeros((32, 32, 3), np.uint8), tile=8)


def test_each_image_needs_a_name_of_its_own(bundle: Path) -> None:
    done = run(
        "predict", bundle / "b", bundle / "one.png", bundle / "two.png", "--mask", "m.png",
    )  # fmt: skip
    assert "2 images need 2 label maps" in done.stderr
