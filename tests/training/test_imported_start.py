"""Training that starts from imported weights gives them the input that they expect."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.nets import random_weights
from tests.refusals import refused
from tests.training.folders import TINY, write_folder
from tests.training.test_resume import go_on
from vggspec.base.diagnostic import VggspecError
from vggspec.cli import run
from vggspec.compiler.input_contract import complete
from vggspec.compiler.lower import Lowered, load_network
from vggspec.compiler.weights import expecting, open_weights, save
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.loop import Options
from vggspec.training.start import origins

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
OPTIONS = Options(seed=1, gpus=0, workers=0)
SAID = "RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)"
SPEC = TINY.replace("RGB(std 64)", "RGB").replace("stop after 3 epochs", "stop after 2 iterations")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    lowered = spec(tmp_path, "tiny", SPEC)
    return open_data(write_folder(tmp_path / "data", 3, 2), lowered.network)


def spec(folder: Path, name: str, text: str) -> Lowered:
    path = folder / f"{name}.vgg"
    path.write_text(text.replace("net tiny", f"net {name}"))
    return load_network(str(path))


def imported(folder: Path, *, says_it: bool) -> None:
    """Weights of a net ``other`` beside its spec, as `import` writes them, or as `init` does."""
    other = spec(folder, "other", SPEC)
    path = folder / "other.safetensors"
    weights = random_weights(other, path, seed=3)
    image = replace(other.network.input, mean=MEAN, std=STD)
    metadata = replace(weights.metadata, data_sha256=None)
    if says_it:
        metadata = expecting(metadata, image, "torchvision")
    save(path, {name: np.array(weights.read(name)) for name in weights.tensors}, metadata)


def trained(folder: Path, lowered: Lowered, data: DataSet, run: str) -> dict[str, np.ndarray]:
    go_on(folder / run, data, lowered, options=OPTIONS)
    return arrays(folder / run)


def arrays(run: Path) -> dict[str, np.ndarray]:
    weights = open_weights(run / "last.safetensors")
    return {name: np.array(weights.read(name)) for name in weights.tensors}


def test_the_spec_may_leave_it_to_the_weights(data: DataSet, tmp_path: Path) -> None:
    start = 'start from "other.vgg"'
    imported(tmp_path, says_it=False)
    explicit = spec(tmp_path, "a", SPEC.replace("start he", start).replace("RGB", SAID))
    expected = trained(tmp_path, explicit, data, "said")
    imported(tmp_path, says_it=True)
    left = spec(tmp_path, "c", SPEC.replace("start he", start))
    go_on(tmp_path / "left", data, left, stop_at=1, options=OPTIONS)
    (tmp_path / "other.safetensors").unlink()  # the checkpoint says it, too
    go_on(tmp_path / "left", data, left, options=OPTIONS)
    found = arrays(tmp_path / "left")
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    metadata = open_weights(tmp_path / "left" / "last.safetensors").metadata
    assert (metadata.mean, metadata.std, metadata.scale) == (MEAN, STD, 1)
    assert metadata.source == "torchvision"
    metadata = open_weights(tmp_path / "said" / "last.safetensors").metadata
    assert (metadata.std, metadata.scale, metadata.source) == (STD, 1, None)


def test_a_spec_that_says_something_else_is_refused(data: DataSet, tmp_path: Path) -> None:
    imported(tmp_path, says_it=True)
    other = SPEC.replace("start he", 'start from "other.vgg"').replace("RGB", "RGB(mean 1)")
    with refused("VGG543"):
        trained(tmp_path, spec(tmp_path, "d", other), data, "run")
    # Where the first layer starts from nothing, the weights do not matter.
    last = other.replace('"other.vgg"', '"other.vgg": last 1 FC')
    trained(tmp_path, spec(tmp_path, "e", last), data, "run2")


def test_trained_weights_say_the_whole_of_what_they_expect(data: DataSet, tmp_path: Path) -> None:
    """A spec whose deviations were changed after training would give other answers."""
    trained(tmp_path, spec(tmp_path, "own", SPEC.replace("RGB", "RGB(std 64)")), data, "run")
    path = tmp_path / "run" / "last.safetensors"
    metadata = open_weights(path).metadata
    assert metadata.mean is not None
    assert (metadata.std, metadata.scale, metadata.color) == ((64.0,) * 3, 1.0, "RGB")
    assert metadata.source is None
    image = spec(tmp_path, "none", SPEC).network.input
    assert complete(image, metadata, "w") == (
        replace(image, mean=metadata.mean, std=metadata.std),
        "weights",
    )
    with refused("the weights expect"):
        complete(replace(image, std=(32.0,) * 3), metadata, "w")


def test_what_was_taken_of_the_weights_is_said(
    data: DataSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    imported(tmp_path, says_it=True)
    spec(tmp_path, "c", SPEC.replace("start he", 'start from "other.vgg"'))
    args = ["train", tmp_path / "c.vgg", "--data", data.root, "-o", tmp_path / "run"]
    assert run([*map(str, args), "--workers", "0", "--gpus", "0"]) == 0
    err = capfd.readouterr().err
    assert "start from other: " in err
    assert "(x - (123.675 116.28 103.53)) / (58.395 57.12 57.375), as the weights expect" in err
    assert "(torchvision)" in err


def test_imported_weights_may_be_named(data: DataSet, tmp_path: Path) -> None:
    """They are taken where a run of the net would be, and nothing else is."""
    start = 'start from "other.vgg" torchvision: all but last FC'
    lowered = spec(tmp_path, "c", SPEC.replace("start he", start))
    runs = tmp_path / "runs"
    imported(tmp_path, says_it=False)
    with pytest.raises(VggspecError) as caught:
        origins(lowered, runs)
    (report,) = caught.value.reports
    assert report.what.code == "VGG414"
    assert report.what.title() == "no weights of torchvision are imported for net `other`"
    assert str(report.what.help()).replace(str(tmp_path), "$DIR") == (
        "looked for $DIR/other.safetensors and other.safetensors;"
        " `$DIR/other.safetensors` is from elsewhere\n"
        "vggspec import other.vgg CHECKPOINT"
    )
    imported(tmp_path, says_it=True)
    own = spec(tmp_path, "other", SPEC)
    go_on_in(runs / "other" / "2026-01-01-1", data, own)
    (found,) = origins(lowered, runs)
    assert found.weights.path == tmp_path / "other.safetensors"
    plain = spec(tmp_path, "d", SPEC.replace("start he", start.replace(" torchvision", "")))
    (newest,) = origins(plain, runs)
    assert newest.weights.path.parent.parent == runs / "other"
    keras = spec(tmp_path, "e", SPEC.replace("start he", start.replace("torchvision", "keras")))
    with refused("is from torchvision"):
        origins(keras, runs)


def go_on_in(run: Path, data: DataSet, lowered: Lowered) -> None:
    run.parent.mkdir(parents=True)
    go_on(run, data, lowered, options=OPTIONS)
