"""Which images are kept in memory."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.folders import picture, tiny, write_folder
from vggspec.data.decode import Pixels
from vggspec.training.dataset import open_data
from vggspec.training.images import Images, fit_in_memory
from vggspec.training.loop import Options, fit

NETWORK = tiny().network


def test_images_are_read_once_where_they_are_kept(tmp_path: Path) -> None:
    data = open_data(write_folder(tmp_path), NETWORK)
    kept, read = (Images(data.train, "RGB", (18, 18), are_kept=are) for are in (True, False))
    first = kept.read(0)
    np.testing.assert_array_equal(first, read.read(0))
    assert first.shape == (20, 24, 3)
    Path(data.train.name(0)).unlink()
    assert kept.read(0) is first


def test_only_small_data_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data(write_folder(tmp_path), NETWORK)
    number = (30 + 12) * 21 * 24 * 3  # about
    monkeypatch.setattr("vggspec.training.images.KEPT_BYTES", int(number * 1.1))
    assert fit_in_memory(data, "RGB", (20, 20), (19, 19))
    monkeypatch.setattr("vggspec.training.images.KEPT_BYTES", int(number * 0.9))
    assert not fit_in_memory(data, "RGB", (20, 20), (19, 19))
    assert fit_in_memory(data, "gray", (20, 20), (19, 19))


def test_images_are_counted_at_the_size_they_are_decoded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            (tmp_path / split / name).mkdir(parents=True)
            picture((0, 0, 99), (240, 300), 0).save(tmp_path / split / name / "0.jpg")
    data = open_data(tmp_path, NETWORK)
    monkeypatch.setattr("vggspec.training.images.KEPT_BYTES", 6 * 60 * 75 * 3)
    assert Images(data.train, "RGB", (1, 20), are_kept=True).read(0).shape == (60, 75, 3)
    assert Images(data.train, "RGB", (1, 21), are_kept=True).read(0).shape == (120, 150, 3)
    assert fit_in_memory(data, "RGB", (18, 20), (20, 20))
    assert not fit_in_memory(data, "RGB", (18, 21), (20, 20))


def test_torchvisions_longer_side_is_that_of_the_whole_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            (tmp_path / split / name).mkdir(parents=True)
            picture((0, 0, 99), (240, 300), 0).save(tmp_path / split / name / "0.jpg")
    seen: dict[str, set[tuple[int, ...]]] = {"train": set(), "val": set()}

    class Seen(Images):
        def read(self, index: int) -> Pixels:
            pixels = super().read(index)
            split = "val" if "/val/" in self.split.name(index) else "train"
            seen[split].add(pixels.shape)
            return pixels

    monkeypatch.setattr("vggspec.training.loop.Images", Seen)
    lowered = tiny(("  scale 19\n", "  scale 19\n  resize torchvision\n"), ("after 3", "after 1"))
    fit(lowered, open_data(tmp_path, lowered.network), tmp_path, Options(gpus=0, workers=0))
    assert seen == {"train": {(60, 75, 3)}, "val": {(240, 300, 3)}}
