"""``vggspec distance``, and ``vggspec compile --distance`` before it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vggspec as library
from tests.cli.run import vggspec
from tests.nets import net, random_weights

TEXT = """\
net small
input 32x32 RGB(mean 120 115 100)
conv3-4
maxpool
conv3-6
outputs conv1_1 conv2_1
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle ``small``, and pictures."""
    folder = tmp_path_factory.mktemp("distance")
    (folder / "small.vgg").write_text(TEXT)
    random_weights(net(TEXT), folder / "small.safetensors")
    state = {f"lin{i}.model.1.weight": torch.rand(n) for i, n in enumerate((4, 6))}
    torch.save(state, folder / "lin.pth")
    rng = np.random.default_rng(0)
    (folder / "results").mkdir()
    (folder / "val" / "ant").mkdir(parents=True)
    for name in ("photo", "results/a", "results/b", "val/ant/a"):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / "other.png")
    done = vggspec("compile", "small.vgg", "--distance", "--factors", "lin.pth", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "small\n"), done.stderr
    return folder


def test_a_folder_against_a_picture(here: Path) -> None:
    done = vggspec("distance", "small", "photo.png", "results", "--device", "cpu", cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    with library.load(here / "small", device="cpu") as predictor:
        expected = [
            f"{predictor.distance(here / 'photo.png', here / f'results/{name}.png'):.6f}"
            f"  results/{name}.png"
            for name in "ab"
        ]
    assert done.stdout.splitlines() == expected


def test_json_and_a_picture_that_is_not_compared(here: Path) -> None:
    pictures = ("photo.png", "other.png", "photo.png")
    done = vggspec("distance", "small", *pictures, "--json", cwd=here)
    assert done.returncode == 1
    assert json.loads(done.stdout) == [{"file": "photo.png", "distance": 0.0}]
    assert "error[VGG719]" in done.stderr
    assert "--> other.png" in done.stderr


def test_wrong_use(here: Path) -> None:
    (here / "empty").mkdir()
    done = vggspec("distance", "small", "photo.png", "empty", cwd=here)
    assert done.returncode == 2
    assert "there are no images in it" in done.stderr
    done = vggspec("predict", "small", "photo.png", cwd=here)
    assert done.returncode == 1
    assert "VGG717" in done.stderr
    assert "vggspec distance" in done.stderr
    for more in (("--crop",), ("--torch",), ("--stride", "8")):
        done = vggspec("compile", "small.vgg", "--distance", *more, cwd=here)
        assert done.returncode == 2, more
        assert {"--distance", more[0]} <= set(done.stderr.replace(":", "").split())


def test_other_commands_know_it(here: Path) -> None:
    done = vggspec("inspect", "small", cwd=here)
    assert "first and second: float32 N × 3 × H × W" in done.stdout
    done = vggspec("doctor", "small", cwd=here)
    assert done.returncode == 0, done.stdout
    done = vggspec("eval", "small", "--data", ".", cwd=here)
    assert (done.returncode, "VGG717" in done.stderr) == (1, True), done.stderr


def test_an_engine(here: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    flags = ("--distance", "--factors", "lin.pth", "--trt", "--trt-flavor", "tensorrt_rtx")
    profile = ("--profile", "1x20x20,1x20x24,4x40x40")
    done = vggspec("compile", "small.vgg", *flags, *profile, "-o", "engine", cwd=here)
    assert done.returncode == 0, done.stderr
    done = vggspec("inspect", "engine", cwd=here)
    assert "first and second: float32 N × 3 × H × W" in done.stdout
    assert "4 × 40 × 40" in done.stdout
    assert "1/factors.safetensors" in done.stdout
    # The reference beside the plan compares them as the graph alone does.
    pictures = ("photo.png", "results/a.png", "--device", "cpu")
    of_engine, of_graph = (
        vggspec("distance", bundle, *pictures, cwd=here) for bundle in ("engine", "small")
    )
    assert (of_engine.returncode, of_engine.stdout) == (0, of_graph.stdout), of_engine.stderr
    done = vggspec("distance", "engine", *pictures[:2], cwd=here)
    assert (done.returncode, "VGG630" in done.stderr) == (1, True)
    done = vggspec("refit", "engine", "small.safetensors", "-o", "other", cwd=here)
    assert (done.returncode, "VGG588" in done.stderr) == (1, True)
    for more in ("--refittable", "--strip-weights"):
        done = vggspec("compile", "small.vgg", *flags, more, cwd=here)
        assert done.returncode == 2
        assert f"{more} cannot be used with --distance" in done.stderr
