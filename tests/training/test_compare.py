"""Runs beside one another."""

import json
import os
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from tests.refusals import refused
from tests.training.folders import TINY, write_folder
from vggspec.base.diagnostic import ArgumentError
from vggspec.training.compare import compare
from vggspec.training.train import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of two epochs: the second with another rate, seed, and another last layer."""
    here = tmp_path_factory.mktemp("runs")
    images = write_folder(here / "images")
    settings = ["stop=after 2 epochs"]
    (here / "tiny.vgg").write_text(TINY)
    one = train(here / "tiny.vgg", data=images, run=here / "one", settings=settings)
    (here / "tiny.vgg").write_text(TINY.replace("FC-8", "FC-9"))
    other = train(
        here / "tiny.vgg", data=images, run=here / "two", seed=1, settings=[*settings, "rate=0.02"]
    )
    return one.run, other.run


def test_settings_that_differ_and_errors(runs: tuple[Path, Path]) -> None:
    found = compare(runs)
    assert found.settings.keys() == {"layers", "train rate", "seed"}
    assert found.settings["train rate"] == (0.01, 0.02)
    assert found.is_same_data
    assert found.picture is None
    for one, run in zip(found.runs, runs, strict=True):
        result = json.loads((run / "run.json").read_text())["result"]
        assert one.best is not None
        assert one.best.errors == result["best"]["validation"]["errors"]
        assert one.best_epoch == result["best"]["epoch"]
        assert (one.epochs, one.steps, one.is_over) == (2, 8, True)
        assert one.seconds == result["seconds"]
    assert json.loads(json.dumps(found.as_data()))["settings"]["seed"] == [0, 1]


def test_curves_are_drawn(runs: tuple[Path, Path], tmp_path: Path) -> None:
    found = compare(runs, out=tmp_path / "curves.png")
    assert found.picture == tmp_path / "curves.png"
    with Image.open(found.picture) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(0x2F, 0x6D, 0xB3), (0xD9, 0x69, 0x1E)} <= colors  # one for each run


def test_a_name_that_is_no_text_is_drawn(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x01"))
    shutil.copytree(runs[1], other)
    found = compare([runs[0], other], out=tmp_path / "curves.svg")
    assert found.picture is not None
    ET.parse(found.picture)


def test_a_run_that_has_not_come_far(runs: tuple[Path, Path], tmp_path: Path) -> None:
    young = tmp_path / "young"
    shutil.copytree(runs[0], young)
    (young / "log.jsonl").unlink()
    record = json.loads((young / "run.json").read_text())
    del record["result"]
    record["data"]["fingerprint"] = "other"
    (young / "run.json").write_text(json.dumps(record))
    found = compare([runs[0], young], out=tmp_path / "curves.png")
    assert found.runs[1].best is None
    assert (found.runs[1].epochs, found.runs[1].is_over) == (0, False)
    assert not found.is_same_data
    assert found.picture is not None
    empty = compare([young, runs[1]])
    assert empty.runs[0].seconds is None


def test_a_run_of_an_earlier_version_differs_in_nothing_new(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(runs[0], old)
    record = json.loads((old / "run.json").read_text())
    for setting in ("optimiser", "warm_up", "smooth_labels"):
        del record["recipe"][setting]
    (old / "run.json").write_text(json.dumps(record))
    assert compare([runs[0], old]).settings == {}


def test_what_is_no_run_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with refused("VGG471.*there is nothing here"):
        compare([runs[0], tmp_path / "nothing"])
    with refused("(?s)VGG471.*has no run.json.*such as .*two"):
        compare([runs[0], runs[0].parent])
    (tmp_path / "file").touch()
    with refused("VGG471.*it is a file"):
        compare([runs[0], tmp_path / "file"])
    shutil.copytree(runs[0], tmp_path / "damaged")
    (tmp_path / "damaged" / "run.json").write_text("{")
    with refused("VGG494"):
        compare([runs[0], tmp_path / "damaged"])
    for wrong in ([runs[0]], [runs[0], runs[0]]):
        with pytest.raises(ArgumentError):
            compare(wrong)
    with pytest.raises(ArgumentError, match="two runs or more"):
        compare(str(runs[0]))
