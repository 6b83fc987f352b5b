"""Before hours are spent: a dry run, a few images by heart, a range of rates."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.nets import net
from tests.refusals import refused, told
from tests.training.folders import TINY, TO_BOXES, write_annotated, write_folder
from vggspec.base.diagnostic import ArgumentError
from vggspec.compiler.cost import cost
from vggspec.training.find_rate import smooth, suggestion
from vggspec.training.rehearse import dry_run, find_rate, overfit
from vggspec.training.train import train
from vggspec.training.trainable import training_network


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.vgg`` and its images in ``images``."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


def test_a_dry_run_leaves_two_pictures_and_nothing_else(here: Path) -> None:
    found = dry_run("tiny.vgg", data="images")
    assert not found.refused
    trial = found.trial
    assert trial is not None
    assert (trial.batch, trial.steps, trial.epochs) == (8, 12, 3)
    assert trial.loss_of_chance == pytest.approx(math.log(3))
    lowered = net(TINY, "tiny.vgg")
    counted = cost(training_network(lowered))
    assert trial.memory >= counted.training_bytes(8)
    assert trial.seconds > trial.steps * trial.step_s
    files = sorted(str(path) for path in Path("runs").rglob("*") if path.is_file())
    assert files == ["runs/tiny/dry-run/crops.png", "runs/tiny/dry-run/images.png"]
    assert json.loads(json.dumps(found.as_data()))["trial"]["batch"] == 8
    assert found.data.splits[0].images == 30


def test_the_loss_of_a_dry_run_is_that_of_the_training(here: Path) -> None:
    """The first step of a run with the same seed has the same loss, to the bit."""
    trial = dry_run("tiny.vgg", data="images", seed=3).trial
    result = train("tiny.vgg", data="images", seed=3, settings=["stop=after 1 iterations"])
    first = json.loads((result.run / "log.jsonl").read_text().splitlines()[-1])
    assert trial is not None
    assert trial.loss == first["loss"]


def test_the_crops_are_those_of_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gray levels of flat pictures come through normalisation and back."""
    for split in ("train", "val"):
        for path in (here / "images" / split).glob("*/*.png"):
            shade = {"blue": 30, "green": 120, "red": 220}[path.parent.name]
            Image.new("RGB", (24, 20), (shade, shade, shade)).save(path)
    found = dry_run("tiny.vgg", data="images", settings=["colour-shift=0"])
    assert found.crops is not None
    with Image.open(found.crops) as sheet:
        pixels = np.asarray(sheet)
    shown = {tuple(color) for color in pixels[:, 200].tolist()}
    assert {(30, 30, 30), (120, 120, 120), (220, 220, 220)} <= shown


def test_recipes_beyond_the_paper_are_rehearsed(here: Path) -> None:
    """Mixed images have rows of their own; a folder without ``val`` is split as training does."""
    plain = dry_run("tiny.vgg", data="images", out="plain")
    mixed = ["mixup=0.2", "cutmix=1", "crop=pad 4", "classes=balanced", "erase=0.5"]
    found = dry_run("tiny.vgg", data="images", out="mixed", settings=mixed)
    assert plain.crops is not None
    assert found.crops is not None
    with Image.open(plain.crops) as before, Image.open(found.crops) as after:
        assert after.height - before.height == 3 * (112 + 6)
    assert found.trial is not None
    assert overfit("tiny.vgg", 5, data="images", settings=mixed).has_learned
    apart = dry_run("tiny.vgg", data="images/train", settings=["validate=on 20%"])
    assert not apart.refused
    assert [split.images for split in apart.data.splits] == [24, 6]


def test_all_that_training_would_refuse_is_in_the_result(here: Path) -> None:
    shutil.rmtree(here / "images" / "train" / "red")
    (here / "images" / "train" / "blue" / "0.png").write_bytes(b"x")
    found = dry_run("tiny.vgg", data="images")
    assert {each.what.code for each in found.refused} == {"VGG422", "VGG424", "VGG426"}
    assert found.trial is None
    assert found.crops is None
    assert found.images.exists()


def test_a_loss_that_is_not_finite_is_refused(here: Path) -> None:
    (here / "tiny.vgg").write_text(TINY.replace("std 64", "std 1e-3"))
    found = dry_run("tiny.vgg", data="images", settings=["start=normal 1000", "rate=1000"])
    assert [each.what.code for each in found.refused] == ["VGG425"]
    assert "try" in told_of(found.refused[0])


def told_of(report: object) -> str:
    from vggspec.base.diagnostic import Report, VggspecError

    assert isinstance(report, Report)
    return told(VggspecError(report))


def test_a_run_is_left_alone(here: Path) -> None:
    run = train("tiny.vgg", data="images", settings=["stop=after 1 epochs"]).run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for rehearse in (dry_run, find_rate):
        with refused("VGG512"):
            rehearse("tiny.vgg", data="images", out=run)
    assert dry_run(run).trial is not None
    assert overfit(run, 3, steps=5).steps <= 5
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_net_learns_a_few_images(here: Path) -> None:
    found = overfit("tiny.vgg", 7, data="images")
    assert found.has_learned
    assert (found.images, found.classes, found.wrong, found.advice) == (7, 3, (), ())
    assert found.errors[-1] == 0
    assert found.losses[-1] < found.losses[0]
    assert not Path("runs").exists()
    assert overfit("tiny.vgg", 1000, data="images", steps=1).images == 30


def test_one_image_in_two_classes_cannot_be_learned(here: Path) -> None:
    images = here / "images" / "train"
    shutil.copy(images / "blue" / "0.png", images / "red" / "0.png")
    found = overfit("tiny.vgg", 3, data="images", steps=100)
    assert not found.has_learned
    assert len(found.wrong) == 1
    assert found.wrong[0].startswith(("images/train/blue/0.png", "images/train/red/0.png"))
    assert any("vggspec data" in advice for advice in found.advice)


def test_why_a_net_does_not_learn(here: Path) -> None:
    slow = overfit("tiny.vgg", 6, data="images", steps=20, settings=["rate=1e-7"])
    assert not slow.has_learned
    assert slow.steps == 20
    assert any("--find-rate" in advice for advice in slow.advice)
    fast = overfit("tiny.vgg", 6, data="images", settings=["rate=100"])
    assert fast.diverged
    assert any("lower rate" in advice for advice in fast.advice)
    assert not fast.has_learned


def test_images_that_cannot_be_read_are_replaced(here: Path) -> None:
    for split in ("train", "val"):
        for path in list((here / "images" / split).glob("*/*.png")):
            for number in range(5):
                shutil.copy(path, path.with_name(f"{path.stem}-{number}.png"))
    broken = here / "images" / "train" / "blue" / "0-0.png"
    broken.write_bytes(b"x")
    found = overfit("tiny.vgg", 3, data="images", steps=1)
    assert found.images == 3
    assert found.left_out == ("images/train/blue/0-0.png: it is not an image",)


def test_boxes_are_rehearsed_too(here: Path) -> None:
    write_annotated(here / "boxes")
    (here / "boxes.vgg").write_text(TINY.replace(*TO_BOXES))
    found = dry_run("boxes.vgg", data="boxes")
    assert found.trial is not None
    assert found.trial.loss_of_chance is None
    assert found.data.splits[0].images == 30
    assert overfit("boxes.vgg", 2, data="boxes", steps=10).steps <= 10


def test_a_range_of_rates(here: Path) -> None:
    found = find_rate("tiny.vgg", data="images", steps=40)
    assert found.rates[0] == pytest.approx(1e-5)
    ratios = np.array(found.rates[1:]) / np.array(found.rates[:-1])
    np.testing.assert_allclose(ratios, 1e6 ** (1 / 39))
    assert len(found.rates) == len(found.losses)
    assert found.diverged == found.rates[-1]
    assert found.suggested is not None
    assert found.lowest is not None
    assert found.rates[0] < found.suggested < found.lowest < found.rates[-1]
    assert found.has_learned
    assert found.picture == Path("runs/tiny/find-rate/rate.png")
    with Image.open(found.picture) as picture:
        assert picture.width > 1000
    assert [path.name for path in Path("runs").rglob("*") if path.is_file()] == ["rate.png"]
    assert json.loads(json.dumps(found.as_data(), allow_nan=False))["suggested"] == found.suggested


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_least_loss() -> None:
    rates = np.geomspace(1e-5, 10, 61)
    bowl = 1 + (np.log10(rates) + 1) ** 2  # least at 0.1
    assert suggestion(rates, bowl) == (0.01, pytest.approx(0.1, rel=0.2))
    flat = np.maximum(bowl, 1.02)  # from 0.072 to 0.14: noise may make either the lowest
    flat[np.argmin(np.abs(rates - 0.14))] -= 0.001
    assert suggestion(rates, flat) == (0.01, pytest.approx(0.1, rel=0.3))
    assert suggestion(rates, np.full(61, 2.0)) == (None, None)
    assert suggestion(rates, np.linspace(1, 2, 61)) == (None, None)
    assert suggestion(rates[:0], bowl[:0]) == (None, None)


def test_a_net_that_learns_nothing_makes_the_suggestion_a_guess(here: Path) -> None:
    """Images without a pattern, two of each class."""
    random = np.random.default_rng(0)
    for path in (here / "images").glob("*/*/*.png"):
        pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    assert not find_rate("tiny.vgg", data="images", steps=20).has_learned


def test_smoothing_keeps_lines_within_and_has_no_lag() -> None:
    line = np.linspace(3, 1, 101)
    np.testing.assert_allclose(smooth(line, 3)[20:-20], line[20:-20], atol=1e-3)
    assert smooth(np.array([1.0, math.nan]), 1).tolist() == [1.0]


def test_numbers_that_make_no_sense(here: Path) -> None:
    for wrong in (
        lambda: overfit("tiny.vgg", 0, data="images"),
        lambda: find_rate("tiny.vgg", data="images", steps=3),
        lambda: dry_run("tiny.vgg", data="images", gpus=2),
    ):
        with pytest.raises(ArgumentError):
            wrong()
