"""``vggspec compile --precision int8`` as a user has it."""

from pathlib import Path

import pytest

from tests.cli.run import vggspec
from tests.compiler.test_int8 import MIXED, SPEC
from tests.nets import random_weights
from tests.training.folders import write_folder
from vggspec.bundle.opening import open_bundle
from vggspec.cli import run
from vggspec.compiler.quantising import quantise
from vggspec.compiler.quantising.quantise import _answers

INT8 = ("compile", "mixed.vgg", "--precision", "int8", "-o", "b")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    (folder / "mixed.vgg").write_text(MIXED)
    random_weights(SPEC, folder / "mixed.safetensors")
    write_folder(folder / "data", train=0, val=8)
    return folder


def test_what_is_told(here: Path) -> None:
    kept = ("--keep-fp32", "fc4", "--max-drop", "100", "--calibration-images", "4")
    done = vggspec(*INT8, "--calibrate", "data", *kept, cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b\n"
    told = " ".join(done.stderr.split())
    assert "int8, calibrated with 4 images at 18 pixels: " in told
    assert "; fc4 in fp32" in told
    assert "top-1 accuracy on 20 held-out images: " in told
    done = vggspec("inspect", "b", cwd=here)
    assert "by the min-max of 4 images at 18 pixels" in done.stdout
    done = vggspec("doctor", "b", cwd=here)
    assert "ONNX Runtime computes int8 on a CPU" in " ".join(done.stdout.split())


def test_no_layer_is_kept_where_it_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the first and the last would be tried too."""
    tried = []

    def answers(*args: object) -> object:
        tried.append(args[-1])
        return _answers(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(quantise, "_answers", answers)
    monkeypatch.chdir(here)
    args = ("--calibrate", "data", "--max-drop", "100", "--calibration-images", "4")
    assert run([*INT8[:-1], "all", *args, "--keep-fp32", "none"]) == 0
    assert tried == ["testing fp32", "testing int8"]
    assert open_bundle(here / "all").manifest.fp32_layers == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--precision int8 requires --calibrate DIR"),
        (("--calibrate", "data", "--max-drop", "101"), "--max-drop"),
        (("--calibrate", "data", "--layer", "fc3"), "--layer cannot be used with --precision int8"),
        (
            ("--calibrate", "data", "--keep-fp32", "none", "--keep-fp32", "fc4"),
            "--keep-fp32 none cannot be used with layers",
        ),
        (("--calibrate", "data", "--torch"), "--precision cannot be used with --torch"),
    ],
)
def test_what_is_refused(here: Path, options: tuple[str, ...], words: str) -> None:
    done = vggspec(*INT8, *options, cwd=here)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
