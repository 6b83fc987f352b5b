"""``vggspec compile`` and ``vggspec init``: what they find, write, say, and leave alone."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.run import vggspec
from tests.nets import SMALL, images, net, random_weights, run_onnx, session


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a spec and its weights in it."""
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "small.safetensors")
    return tmp_path


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_from_weights_beside_the_spec(here: Path) -> None:
    done = vggspec("compile", "small.vgg", cwd=here)
    assert (done.returncode, done.stdout) == (0, "small\n")
    assert "weights: small.safetensors" in done.stderr
    files = {"manifest.json", "config.pbtxt", "1/model.onnx", "1/model.safetensors"}
    assert listing(here / "small") == files
    inside = (here / "small/1/model.safetensors").stat()
    assert (inside.st_nlink, inside.st_size) == (1, (here / "small.safetensors").stat().st_size)
    assert json.loads((here / "small/manifest.json").read_text())["net"] == "small"


def test_the_best_of_the_newest_run_comes_first(here: Path) -> None:
    for run, seed in (("2026-01-02-1", 1), ("2026-01-02-10", 10), ("2026-01-02-9", 9)):
        (here / "runs/small" / run).mkdir(parents=True)
        random_weights(net(SMALL), here / "runs/small" / run / "best.safetensors", seed)
    done = vggspec("compile", "small.vgg", "-o", "out", cwd=here)
    assert done.returncode == 0
    assert "weights: runs/small/2026-01-02-10/best.safetensors" in done.stderr


def test_weights_are_found_where_import_and_init_write_them(here: Path) -> None:
    (here / "specs").mkdir()
    (here / "small.vgg").rename(here / "specs/small.vgg")
    (here / "small.safetensors").unlink()
    for command in (["init", "specs/small.vgg"], ["compile", "specs/small.vgg", "-o", "out"]):
        done = vggspec(*command, cwd=here)
        assert done.returncode == 0, done.stderr
    assert "weights: small.safetensors" in done.stderr


def test_without_weights_it_says_how_to_get_some(here: Path) -> None:
    (here / "small.safetensors").unlink()
    done = vggspec("compile", "small.vgg", cwd=here)
    assert done.returncode == 1
    assert "error[VGG501]: no weights for net `small`" in done.stderr
    for command in ("vggspec train", "vggspec import", "vggspec init"):
        assert command in done.stderr
    assert listing(here) == {"small.vgg"}


def test_a_bundle_is_replaced_and_nothing_else_is(here: Path) -> None:
    assert vggspec("compile", "small.vgg", "-o", "b", cwd=here).returncode == 0
    (here / "b/stale").write_text("x")
    assert vggspec("compile", "small.vgg", "-o", "b", "--crop", cwd=here).returncode == 0
    assert json.loads((here / "b/manifest.json").read_text())["options"]["form"] == "crop"
    assert "stale" not in listing(here / "b")
    (here / "mine").mkdir()
    (here / "mine/thesis.tex").write_text("x")
    done = vggspec("compile", "small.vgg", "-o", "mine", cwd=here)
    assert done.returncode == 1
    assert "VGG512" in done.stderr
    assert listing(here / "mine") == {"thesis.tex"}
    done = vggspec("compile", "small.vgg", "-o", "small.vgg", cwd=here)
    assert "VGG512" in done.stderr
    assert (here / "small.vgg").read_text() == SMALL
    done = vggspec("compile", "small.vgg", "--torch", "-o", "small.vgg", cwd=here)
    assert done.returncode == 2
    assert "`-o small.vgg` is a file that is read" in done.stderr
    assert (here / "small.vgg").read_text() == SMALL


def test_a_failed_compile_leaves_nothing(here: Path) -> None:
    before = listing(here)
    weights = here / "small.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    done = vggspec("compile", "small.vgg", "-o", "b", cwd=here)
    assert done.returncode == 1
    assert "VGG502" in done.stderr
    assert "Traceback" not in done.stderr
    weights.write_bytes(whole)
    (here / "small.vgg").write_text(SMALL.replace("FC-24", "FC-25"))
    done = vggspec("compile", "small.vgg", "-o", "b", cwd=here)
    assert "VGG503" in done.stderr
    assert listing(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(here: Path) -> None:
    (here / "locked").mkdir()
    (here / "locked").chmod(0o500)
    done = vggspec("compile", "small.vgg", "-o", "locked/b", cwd=here)
    assert (done.returncode, "VGG511" in done.stderr) == (1, True)


def test_a_path_below_a_file_cannot_be_written(here: Path) -> None:
    done = vggspec("compile", "small.vgg", "-o", "small.vgg/b", cwd=here)
    assert done.returncode == 1
    assert "VGG511" in done.stderr


INTERRUPTED = """
import os, sys
from vggspec.compiler.bundling import staging
def slow(*args, **kwargs):
    print("placing", flush=True)
    import time
    time.sleep(60)
staging.place = slow
from vggspec.cli import main
sys.argv[1:] = ["compile", "small.vgg", "-o", "b"]
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_compile_leaves_the_old_bundle(here: Path, number: signal.Signals) -> None:
    vggspec("compile", "small.vgg", "-o", "b", cwd=here)
    before = {path: (here / path).read_bytes() for path in listing(here)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "placing\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in stderr
    assert {path: (here / path).read_bytes() for path in listing(here)} == before


def test_options_reach_the_graph(here: Path) -> None:
    done = vggspec(
        "compile", "small.vgg", "-o", "b", "--map", "--input", "raw", "--single-file", cwd=here
    )
    assert done.returncode == 0, done.stderr
    assert listing(here / "b") == {"manifest.json", "1/model.onnx", "config.pbtxt"}
    shutil.rmtree(here / "small", ignore_errors=True)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 48, 3), dtype=np.uint8)
    found = run_onnx(session(here / "b/1/model.onnx"), pixels)
    assert found["score_map"].shape == (1, 10, 3, 5)
    assert found["posteriors"].sum() == pytest.approx(1)
    averaged = vggspec("compile", "small.vgg", "-o", "c", "--average", "posteriors", cwd=here)
    assert averaged.returncode == 0
    assert json.loads((here / "c/manifest.json").read_text())["options"]["average"] == "posteriors"


def test_the_source_file_needs_torch_alone(here: Path) -> None:
    sizes = {"crop": (32, 32), "dense": (41, 36)}
    for form, size in sizes.items():
        done = vggspec("compile", "small.vgg", "--torch", f"--{form}", "-o", f"{form}.py", cwd=here)
        assert (done.returncode, done.stdout) == (0, f"{form}.py\n")
        vggspec("compile", "small.vgg", f"--{form}", "-o", form, cwd=here)
        np.save(here / f"{form}-x.npy", images(2, 3, *size))
    # An interpreter in which only torch (and its own needs) can be imported.
    program = (
        "import sys, torch\n"
        "for name in ('vggspec', 'safetensors', 'onnx'):\n"
        "    sys.modules[name] = None\n"
        "import numpy, crop, dense\n"
        "for net in (crop, dense):\n"
        "    module = net.load('small.safetensors')\n"
        "    with torch.inference_mode():\n"
        "        y = module(torch.from_numpy(numpy.load(f'{net.__name__}-x.npy')))\n"
        "    numpy.save(f'{net.__name__}-y.npy', y.numpy())\n"
        "    print(','.join(module.state_dict()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for form, names in zip(sizes, ran.stdout.splitlines(), strict=True):
        x, y = (np.load(here / f"{form}-{of}.npy") for of in "xy")
        expected = run_onnx(session(here / form / "1/model.onnx"), x)["posteriors"]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-6)
        assert "conv1_1.weight" in names.split(",")


def test_a_finer_stride_rounding_and_a_layer(here: Path) -> None:
    x = images(1, 3, 41, 45)
    finer = ("--stride", "1", "--pool", "ceil", "--map")
    done = vggspec("compile", "small.vgg", *finer, "-o", "b", cwd=here)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((here / "b/manifest.json").read_text())
    assert (manifest["window"], manifest["stride"]) == ([32, 32], [1, 1])
    options = manifest["options"]
    assert (options["pool"], options["stride"], options["layer"]) == ("ceil", 1, None)
    expected = run_onnx(session(here / "b/1/model.onnx"), x)
    assert expected["score_map"].shape == (1, 10, 13, 17)
    # The source says the same, padding of minus infinity and all.
    done = vggspec("compile", "small.vgg", "--torch", "--dense", *finer, "-o", "net.py", cwd=here)
    assert done.returncode == 0, done.stderr
    found = sourced(here / "net.py", here / "small.safetensors", x)
    np.testing.assert_allclose(found["score_map"], expected["score_map"], rtol=1e-4, atol=1e-5)

    done = vggspec("compile", "small.vgg", "--layer", "fc3", "-o", "c", cwd=here)
    assert done.returncode == 0, done.stderr
    features = run_onnx(session(here / "c/1/model.onnx"), x)["features"]
    assert features.shape == (1, 24)
    done = vggspec("compile", "small.vgg", "--torch", "--dense", "--layer", "fc3", cwd=here)
    assert done.returncode == 0, done.stderr
    found = sourced(here / "small.py", here / "small.safetensors", x)
    np.testing.assert_allclose(found["features"], features, rtol=1e-4, atol=1e-5)


def sourced(path: Path, weights: Path, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What a source file computes; of one output, under the name of features."""
    import torch

    scope = runpy.run_path(str(path))
    with torch.inference_mode():
        found = scope["load"](str(weights))(torch.from_numpy(x))
    named = found if isinstance(found, dict) else {"features": found}
    return {name: tensor.numpy() for name, tensor in named.items()}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--stride", "3"), 1, "VGG660"),
        (("--stride", "2", "--crop"), 1, "VGG661"),
        (("--torch", "--stride", "2"), 1, "VGG661"),
        (("--layer", "relu9"), 1, "VGG663"),
        (("--layer", "fc3", "--map"), 1, "VGG303"),
        (("--torch", "--dense", "--layer", "fc3", "--map"), 1, "VGG303"),
        (("--layer", "fc3", "--average", "scores"), 2, "--average applies to class scores"),
        (("--stride", "0"), 2, "--stride"),
        (("--pool", "up"), 2, "--pool"),
    ],
)
def test_forms_that_there_are_not(here: Path, args: tuple[str, ...], code: int, words: str) -> None:
    before = listing(here)
    done = vggspec("compile", "small.vgg", *args, cwd=here)
    assert done.returncode == code
    assert words in done.stderr
    assert listing(here) == before


def test_torch_source_refuses_options_of_bundles(here: Path) -> None:
    done = vggspec("compile", "small.vgg", "--torch", "--single-file", cwd=here)
    assert done.returncode == 2
    assert "--single-file cannot be used with --torch" in done.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "it requires --torch"),
        (("--torch", "--layer", "fc3"), "cannot be used with --layer"),
        (("--torch", "--average", "posteriors"), "--scores outputs no posteriors"),
    ],
)
def test_scores_are_those_of_torch_source(here: Path, more: tuple[str, ...], words: str) -> None:
    before = listing(here)
    done = vggspec("compile", "small.vgg", "--scores", *more, cwd=here)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert listing(here) == before


def test_the_mean_is_the_specs_else_the_weights_else_ilsvrcs(here: Path) -> None:
    from vggspec.compiler.weights import Metadata, open_weights, save

    def mean(out: str) -> list[float]:
        done = vggspec("compile", "m.vgg", "--weights", "m.safetensors", "-o", out, cwd=here)
        assert done.returncode == 0, done.stderr
        assert ("ILSVRC" in done.stderr) == (out == "c")
        found = json.loads((here / out / "manifest.json").read_text())["input"]["mean"]
        assert isinstance(found, list)
        return found

    column = "conv3-4\nmaxpool\nFC-3\nsoft-max"
    (here / "m.vgg").write_text(f"net m\ninput 16x16 RGB(mean 1 2 3)\n{column}")
    weights = random_weights(net((here / "m.vgg").read_text()), here / "m.safetensors")
    arrays = {name: weights.read(name).copy() for name in weights.tensors}
    save(here / "m.safetensors", arrays, Metadata(mean=(4.0, 5.0, 6.0)))
    assert mean("a") == [1, 2, 3]
    (here / "m.vgg").write_text(f"net m\ninput 16x16 RGB\n{column}")
    assert mean("b") == [4, 5, 6]
    save(here / "m.safetensors", arrays, Metadata())
    assert open_weights(here / "m.safetensors").metadata.mean is None
    assert mean("c") == [123.68, 116.779, 103.939]


def test_labels_travel_with_the_weights(here: Path) -> None:
    from vggspec.compiler.weights import Metadata, open_weights, save

    weights = open_weights(here / "small.safetensors")
    arrays = {name: weights.read(name).copy() for name in weights.tensors}
    labels = tuple("abcdefghij")
    save(here / "small.safetensors", arrays, Metadata(labels=labels))
    vggspec("compile", "small.vgg", "-o", "b", cwd=here)
    assert json.loads((here / "b/manifest.json").read_text())["labels"] == list(labels)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_weights_are_pointed_at_and_not_read(tmp_path: Path) -> None:
    """Compiling a net of 134 MB takes no more memory than one whose weights are small."""
    program = (
        "import re, sys\n"
        "from vggspec.cli import run\n"
        "code = run(sys.argv[1:])\n"
        "status = open('/proc/self/status').read()\n"
        "print(code, re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
    )
    taken = []
    for name, units in ("small", 8), ("large", 4096):
        text = f"net {name}\ninput 64x64\nconv3-8\nmaxpool\nFC-{units}\nsoft-max\n"
        (tmp_path / f"{name}.vgg").write_text(text)
        assert vggspec("init", f"{name}.vgg", cwd=tmp_path).returncode == 0
        ran = subprocess.run(
            [sys.executable, "-c", program, "compile", f"{name}.vgg"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        code, kilobytes = ran.stdout.splitlines()[-1].split()
        assert code == "0"
        taken.append(int(kilobytes))
    assert (tmp_path / "large.safetensors").stat().st_size > 134_000_000
    assert taken[1] - taken[0] < 30_000
    assert taken[1] < 200_000
