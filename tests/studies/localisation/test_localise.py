"""``localise`` from Python: images and data sets, what it hears, what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.refusals import refused
from tests.studies.localisation.localisers import Made, make
from tests.studies.tasks.rank_threads import by_ranks
from tests.training.folders import HUES, write_annotated
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.watcher import Progress, Watcher
from vggspec.studies.localisation.localise import localise
from vggspec.studies.localisation.result import Localisation, LocalisedImage


class Heard(Watcher):
    """Keeps what it hears, and may interrupt the work."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.topics: dict[str, str] = {}
        self.notes: list[str] = []
        self.done: list[tuple[int, int]] = []
        self._stop_after = stop_after

    def progress(self, now: Progress) -> None:
        if now.doing == "localising":
            self.done.append((now.done, now.total))
            if now.done == self._stop_after:
                raise KeyboardInterrupt

    def about(self, topic: str, text: str) -> None:
        self.topics[topic] = text

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("nets")
    hues = tuple(sorted(HUES))
    return {
        "shared": make(folder / "shared", "shared", spread=0.02, labels=hues),
        "pcr": make(folder / "pcr", "per-class", seed=1, spread=0.02, labels=hues),
        "judge": make(folder / "judge", "classes", seed=2, labels=hues),
    }


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(6)
    paths = [tmp_path / f"photo{k}.png" for k in range(3)]
    for path in paths:
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 40)).save(path)
    return paths


def test_boxes_come_one_by_one_and_together(made: dict[str, Made], photos: list[Path]) -> None:
    pcr, judge = made["pcr"].bundle.path, made["judge"].bundle.path
    each: list[LocalisedImage] = []
    watch = Heard()
    found = localise(pcr, photos, classifiers=judge, classes=2, on_image=each.append, watch=watch)
    assert [image.file for image in found.images] == [str(path) for path in photos]
    assert list(found.images) == each
    assert watch.done == [(1, 3), (2, 3), (3, 3)]
    assert found.tally is None
    assert [len(image.boxes) for image in found.images] == [2, 2, 2]
    assert found.as_data() == json.loads(json.dumps(found.as_data()))
    assert found.images[0].picture().size == (800, 533)
    (named,) = localise(pcr, photos[:1], classifiers=judge, label=0).images
    assert [box.label for box in named.boxes] == [0]
    (alone,) = localise(pcr, photos[0], label=sorted(HUES)[2]).images
    assert [box.label for box in alone.boxes] == [2]


def test_an_unreadable_image_costs_no_other(made: dict[str, Made], photos: list[Path]) -> None:
    photos[1].write_text("no image")
    found = localise(made["shared"].bundle.path, photos, scales=24)
    assert [image.unread is None for image in found.images] == [True, False, True]
    assert [image.error is None for image in found.images] == [True, False, True]
    assert len(found.as_data()) == 2


def test_a_class_must_exist(made: dict[str, Made], photos: list[Path]) -> None:
    pcr, shared = made["pcr"].bundle.path, made["shared"].bundle.path
    with pytest.raises(ArgumentError, match="no class `violet`"):
        localise(pcr, photos, label="violet")
    with pytest.raises(ArgumentError, match="one box for all classes"):
        localise(shared, photos, label="red")
    with refused("VGG704"):
        localise(pcr, photos)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "either `images` or `data`"),
        ({"images": ["a.png"], "data": "d"}, "either `images` or `data`"),
        ({"data": "d", "label": "red"}, "`label`"),
        ({"images": ["a.png"], "label": "red", "classes": 2}, "`label`"),
        ({"images": ["a.png"], "resume": True}, "go with `data`"),
        ({"images": ["a.png"], "literal": True}, "requires `match`"),
        ({"images": ["a.png"], "crops": 3}, "`crops` requires `classifiers`"),
        ({"data": "d", "procs": 1, "gpus": 1}, "exclude"),
    ],
)
def test_arguments_are_checked_first(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        localise("missing", **given)


def test_a_data_set_is_resumed(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_annotated(tmp_path / "data", train=1, val=2)
    nets = [made[name].bundle.path for name in ("pcr", "shared")]
    given: dict[str, Any] = {
        "data": data,
        "classifiers": made["judge"].bundle.path,
        "scales": (20, 24),
        "device": "cpu",
    }
    watch = Heard()
    whole = localise(nets, watch=watch, **given)
    assert whole.tally is not None
    assert whole.tally.images == len(whole.images) == 6
    assert whole.top == 3
    assert watch.topics["test"] == "Q 20, 24, dense, with mirror images"
    assert watch.topics["nets"] == ", ".join(map(str, nets))

    def refuse(_found: Localisation) -> None:
        raise OSError("full")

    with pytest.raises(KeyboardInterrupt):
        localise(nets, watch=Heard(stop_after=2), **given)
    with pytest.raises(OSError, match="full"):
        localise(nets, resume=True, finish=refuse, **given)
    watch = Heard()
    again = localise(nets, resume=True, watch=watch, **given)
    assert "6 of 6 images were done before" in watch.notes
    assert again.as_data() == whole.as_data()
    assert not list((tmp_path / "cache").rglob("*.jsonl"))


def test_ranks_find_the_boxes_of_one_process(
    made: dict[str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = write_annotated(tmp_path / "data", train=1, val=3)
    net, finished = made["shared"].bundle.path, list[int]()

    def call(rank: int = 0) -> dict[str, Any]:
        def finish(_: Localisation) -> None:
            finished.append(rank)

        return localise(net, data=data, device="cpu", finish=finish).as_data()

    alone = call()
    assert by_ranks(2, call, monkeypatch) == [alone] * 2
    assert finished == [0, 0]
