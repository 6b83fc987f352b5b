"""``vggspec init``: random weights, repeatable."""

from pathlib import Path

import pytest
import safetensors.numpy

from tests.cli.run import vggspec
from tests.nets import SMALL


def test_init_writes_what_the_recipe_says(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(f"{SMALL}train:\n  scale 32\n  start normal 0.05\n")
    done = vggspec("init", "small.vgg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "small.safetensors\n")
    found = safetensors.numpy.load_file(tmp_path / "small.safetensors")
    assert abs(found["fc3.weight"].std() - 0.05) < 2e-3
    assert (found["fc3.bias"] == 0).all()


def test_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    for out, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        vggspec("init", "small.vgg", "-o", out, "--seed", seed, cwd=tmp_path)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_mean_of_the_spec_goes_with_the_weights(tmp_path: Path) -> None:
    from vggspec.compiler.weights import open_weights

    (tmp_path / "small.vgg").write_text(SMALL)
    vggspec("init", "small.vgg", cwd=tmp_path)
    assert open_weights(tmp_path / "small.safetensors").metadata.mean == (120, 115, 100)


@pytest.mark.parametrize("args", [[], ["-o", "small.safetensors"], ["-o", "small.vgg"]])
def test_what_is_there_is_left_alone(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "small.vgg").write_text(SMALL)
    (tmp_path / "small.safetensors").write_bytes(b"trained")
    done = vggspec("init", "small.vgg", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "VGG512" in done.stderr
    assert "a file already exists here" in done.stderr
    assert (tmp_path / "small.vgg").read_text() == SMALL
    assert (tmp_path / "small.safetensors").read_bytes() == b"trained"


def test_a_spec_with_mistakes_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.vgg").write_text("conv64")
    done = vggspec("init", "bad.vgg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "VGG102" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.vgg"]
