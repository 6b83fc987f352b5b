"""``vggspec compile --protocol``: from specs to a bundle that every other command understands."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.cli.run import vggspec
from tests.nets import SMALL, net, random_weights
from tests.runtime.bundles import rewrite


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two specs, their weights, a picture, and the bundles ``one`` and ``small+other``."""
    folder = tmp_path_factory.mktemp("specs")
    for seed, name in enumerate(("small", "other")):
        text = SMALL.replace("net small", f"net {name}")
        (folder / f"{name}.vgg").write_text(text)
        random_weights(net(text), folder / f"{name}.safetensors", seed)
    pixels = np.random.default_rng(0).integers(0, 256, (45, 61, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    done = vggspec("compile", "small.vgg", "--protocol", "-o", "one", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "one\n"), done.stderr
    assert "weights: small.safetensors" in done.stderr
    done = vggspec("compile", "small.vgg", "other.vgg", "--protocol", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "small+other\n"), done.stderr
    for name in ("small", "other"):
        assert vggspec("compile", f"{name}.vgg", "-o", f"{name}-net", cwd=folder).returncode == 0
    return folder


def posteriors(here: Path, bundle: str, *more: str) -> NDArray[np.float64]:
    asked = ("--scales", "32,40", "--top", "10", "--json", "--device", "cpu", "--threads", "1")
    done = vggspec("predict", bundle, "photo.png", *asked, *more, cwd=here)
    assert done.returncode == 0, done.stderr
    found = np.zeros(10)
    for each in json.loads(done.stdout)[0]["top"]:
        found[each["index"]] = each["posterior"]
    return found


def test_predict_gives_the_answer_of_the_nets(here: Path) -> None:
    small, other = (posteriors(here, f"{name}-net") for name in ("small", "other"))
    np.testing.assert_allclose(posteriors(here, "one"), small, atol=2e-3)
    np.testing.assert_allclose(posteriors(here, "small+other"), (small + other) / 2, atol=2e-3)


def test_weights_are_given_in_the_order_of_the_specs(here: Path) -> None:
    done = vggspec(
        *("compile", "small.vgg", "other.vgg", "--protocol", "-o", "turned"),
        *("--weights", "other.safetensors", "--weights", "small.safetensors"),
        cwd=here,
    )
    assert done.returncode == 0, done.stderr
    swapped = (here / "turned/1/small.safetensors").read_bytes()
    assert swapped == (here / "other.safetensors").read_bytes()
    done = vggspec(
        *("compile", "small.vgg", "other.vgg", "--protocol", "-o", "turned"),
        *("--weights", "other.safetensors"),
        cwd=here,
    )
    assert done.returncode == 2
    assert "2 specs, 1 weights files" in done.stderr


def test_mirror_images_are_an_option(here: Path) -> None:
    arguments = ("compile", "small.vgg", "--protocol", "--no-flip", "-o", "plain")
    assert vggspec(*arguments, cwd=here).returncode == 0
    found = posteriors(here, "plain")
    np.testing.assert_allclose(found, posteriors(here, "small-net", "--no-flip"), atol=2e-3)
    done = vggspec("predict", "plain", "photo.png", "--flip", cwd=here)
    assert done.returncode == 1
    assert "VGG676" in done.stderr
    assert "--protocol --flip" in done.stderr


def test_a_finer_stride_is_an_option(here: Path) -> None:
    options = ("--stride", "2", "--pool", "floor")
    for name, more in (("fine", ["--protocol"]), ("fine-net", [])):
        done = vggspec("compile", "small.vgg", *more, *options, "-o", name, cwd=here)
        assert done.returncode == 0, done.stderr
    found = posteriors(here, "fine")
    np.testing.assert_allclose(found, posteriors(here, "fine-net"), atol=2e-3)
    assert vggspec("verify", "fine", "--device", "cpu", cwd=here).returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--torch"],
        ["--trt"],
        ["--crop"],
        ["--input", "raw"],
        ["--map"],
        ["--layer", "conv1_1"],
        ["--precision", "fp16"],
        ["--keep-fp32", "conv1_1"],
    ],
    ids=lambda options: options[0],
)
def test_options_without_a_meaning_are_refused(options: list[str], here: Path) -> None:
    done = vggspec("compile", "small.vgg", "--protocol", *options, "-o", "never", cwd=here)
    assert done.returncode == 2
    assert f"{options[0]} cannot be used with --protocol" in done.stderr
    assert not (here / "never").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["small.vgg", "other.vgg"], "only with --protocol"),
        (["small.vgg", "--weights", "a", "--weights", "b"], "only with --protocol"),
        (["small.vgg", "--no-flip"], "with --protocol"),
        ([], "Missing argument"),
    ],
)
def test_what_wants_the_protocol(arguments: list[str], said: str, here: Path) -> None:
    done = vggspec("compile", *arguments, "-o", "never", cwd=here)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_nets_that_do_not_fit_are_not_fused(here: Path) -> None:
    text = SMALL.replace("net small", "net eleven").replace("FC-10", "FC-11")
    (here / "eleven.vgg").write_text(text)
    random_weights(net(text), here / "eleven.safetensors")
    done = vggspec("compile", "small.vgg", "eleven.vgg", "--protocol", "-o", "never", cwd=here)
    assert done.returncode == 1
    assert "error[VGG671]: it has 11 classes and net `small` has 10" in done.stderr
    assert not (here / "never").exists()


def test_inspect_shows_the_nets_and_the_loop(here: Path) -> None:
    done = vggspec("inspect", "small+other", cwd=here)
    assert done.returncode == 0, done.stderr
    for text in (
        "picture: uint8 H × W × 3; scales: int64 K",
        "posteriors: float32 10",
        "1/other.safetensors",
        "scores averaged over space",
        "other/conv2_1",
        "DeepStream  no:",
    ):
        assert text in done.stdout
    facts = json.loads(vggspec("inspect", "small+other", "--json", cwd=here).stdout)
    assert [member["name"] for member in facts["members"]] == ["small", "other"]
    specs = vggspec("inspect", "small+other", "--spec", cwd=here).stdout
    assert specs == (here / "small.vgg").read_text() + (here / "other.vgg").read_text()


def test_verify_compares_with_the_nets_in_pytorch(here: Path) -> None:
    for bundle in ("one", "small+other"):
        done = vggspec("verify", bundle, "--device", "cpu", "--json", cwd=here)
        assert done.returncode == 0, done.stdout + done.stderr
        facts = json.loads(done.stdout)
        assert (facts["against"], facts["passed"]) == ("torch", True)
        assert all(row["max_abs"] < 1e-5 for row in facts["rows"])


def test_verify_finds_another_input(here: Path) -> None:
    """The manifest says what each net subtracts, and the graph does something else."""
    shutil.copytree(here / "small+other", here / "changed")
    rewrite(here / "changed", {"members.1.input.mean": [0.0, 0.0, 0.0]})
    done = vggspec("verify", "changed", "--device", "cpu", cwd=here)
    assert done.returncode == 1, done.stderr
    assert "beyond" in done.stdout


def test_doctor_says_how_to_rebuild_it(here: Path) -> None:
    done = vggspec("doctor", "one", "--json", cwd=here)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["rebuild"]
    assert "--protocol" in second
    text = vggspec(*shlex.split(first.partition(" > ")[0])[1:], cwd=here).stdout
    folder = here / "rebuilding"
    folder.mkdir()
    (folder / "small.vgg").write_text(text)
    (folder / "one").symlink_to(here / "one")
    done = vggspec(*shlex.split(second)[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    rebuilt = (folder / "one-rebuilt/1/model.onnx").read_bytes()
    assert rebuilt == (here / "one/1/model.onnx").read_bytes()
    done = vggspec("doctor", "small+other", "--json", cwd=here)
    assert json.loads(done.stdout)["rebuild"] == []


def test_a_graph_that_rescales_is_not_said_to_do_it_as_torchvision(here: Path) -> None:
    text = (here / "small.vgg").read_text()
    section = "" if "\ntest:" in text else "\ntest:"
    (here / "theirs.vgg").write_text(f"{text}{section}\n  resize torchvision\n")
    asked = ("compile", "theirs.vgg", "--weights", "small.safetensors")
    done = vggspec(*asked, "--protocol", "-o", "theirs", cwd=here)
    assert done.returncode == 1
    assert "error[VGG455]" in done.stderr
    done = vggspec("predict", "one", "photo.png", "--resize", "torchvision", cwd=here)
    assert done.returncode == 1
    assert "error[VGG455]" in done.stderr
    assert vggspec("inspect", "one", cwd=here).returncode == 0
