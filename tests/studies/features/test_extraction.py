"""``features`` from Python: the facts about the file, what it hears, what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nets import SMALL, net, random_weights
from tests.refusals import refused
from tests.studies.tasks.rank_threads import by_ranks
from tests.training.folders import write_folder
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.watcher import Progress, Watcher
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.studies.features.extraction import WrittenFeatures, features


class Heard(Watcher):
    """Keeps what it hears, and may interrupt the work."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.topics: dict[str, str] = {}
        self.notes: list[str] = []
        self._stop_after = stop_after

    def progress(self, now: Progress) -> None:
        assert now.doing == "describing"
        if now.done == self._stop_after:
            raise KeyboardInterrupt

    def about(self, topic: str, text: str) -> None:
        self.topics[topic] = text

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    lowered = net(f"{SMALL}\ntest:\n  scale 36\n")
    write_bundle(lowered, random_weights(lowered, tmp_path / "w"), tmp_path / "b", CompileOptions())
    return tmp_path / "b"


def test_the_facts_are_those_of_the_file(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", train=40, val=2)
    bad = next((data / "train").rglob("*.png"))
    bad.write_text("no image")
    watch = Heard()
    found = features(
        bundle, data, out=tmp_path / "f", layer="conv1_1", scales=32, device="cpu", watch=watch
    )
    assert found.images == {"train": 119, "val": 6}
    assert list(found.left_out["train"]) == [str(bad)]
    assert watch.topics["net"] == "small up to conv1_1, Q 32, with the mirror image"
    assert [str(bad) in note for note in watch.notes] == [True]
    opened = found.open()
    assert opened.settings == found.settings
    for name, number in found.images.items():
        assert opened.splits[name].features.shape == (number, found.numbers)


def test_an_interrupted_call_is_resumed(bundle: Path, tmp_path: Path) -> None:
    data, out = write_folder(tmp_path / "data", train=3, val=1), tmp_path / "f"
    given: dict[str, Any] = {"out": out, "device": "cpu"}
    features(bundle, data, **given)
    whole = out.read_bytes()
    out.unlink()
    with pytest.raises(KeyboardInterrupt):
        features(bundle, data, watch=Heard(stop_after=5), **given)
    assert not out.exists()
    watch = Heard()
    features(bundle, data, resume=True, watch=watch, **given)
    assert "5 of 12 images were done before" in watch.notes
    assert out.read_bytes() == whole


def test_images_without_classes(bundle: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", train=1, val=1)
    one = next((data / "val").rglob("*.png"))
    found = features([bundle], images=[one, data / "val"], out=tmp_path / "f", device="cpu")
    split = found.open().splits["images"]
    assert split.labels is None
    assert split.names is not None
    assert found.images == {"images": 4}
    np.testing.assert_array_equal(split.features[0], split.features[split.names.index(str(one), 1)])
    alone = features(bundle, images=str(one), out=tmp_path / "g", device="cpu")
    assert alone.open().splits["images"].names == (str(one),)
    (tmp_path / "empty").mkdir()
    with refused(r"VGG696(.|\n)*name images, or folders that contain images"):
        features(bundle, images=[tmp_path / "empty"], out=tmp_path / "g")


def test_either_data_or_images(tmp_path: Path) -> None:
    for given in ({}, {"data": tmp_path, "images": [tmp_path]}):
        with pytest.raises(ArgumentError, match="either `data` or `images`"):
            features("missing", **given)  # type: ignore[arg-type]


def test_ranks_write_the_file_of_one_process(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_folder(tmp_path / "data", train=40, val=2)
    next((data / "train").rglob("*.png")).write_text("no image")
    alone = features(bundle, data, out=tmp_path / "f", device="cpu")
    for size in (2, 3):

        def call(rank: int, size: int = size) -> WrittenFeatures:
            out = tmp_path / f"{size}-{rank}"
            return features(bundle, data, out=out, device="cpu")

        found = by_ranks(size, call, monkeypatch)
        for one in found:
            assert (one.images, one.left_out) == (alone.images, alone.left_out)
        assert (tmp_path / f"{size}-0").read_bytes() == (tmp_path / "f").read_bytes()
        assert [path.name for path in tmp_path.glob(f"*{size}-*")] == [f"{size}-0"]
