"""What ``data_report`` says about a folder with every kind of trouble."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.refusals import refused
from tests.training.folders import TINY, picture, write_annotated, write_folder
from vggspec.base.watcher import Progress, Watcher
from vggspec.data.data_report import DataReport
from vggspec.training.data_report import data_report

RED = (210, 50, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Broken, empty, truncated, foreign, copied, leaked, turned, odd and skipped files."""
    root = write_folder(tmp_path_factory.mktemp("data") / "images")
    red, blue = root / "train" / "red", root / "train" / "blue"
    (blue / "empty.jpg").write_bytes(b"")
    (blue / "text.jpg").write_bytes(b"not an image")
    picture(RED, (40, 50), 1).save(red / "whole.jpg")
    whole = (red / "whole.jpg").read_bytes()
    (red / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (red / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    shutil.copy(blue / "0.png", blue / "copy.png")
    shutil.copy(blue / "1.png", red / "mislabelled.png")
    shutil.copy(red / "2.png", root / "val" / "red" / "leaked.png")
    with Image.open(red / "3.png") as image:
        image.save(root / "val" / "red" / "leaked.bmp")
    turned = picture(RED, (40, 60), 2)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(red / "turned.jpg", exif=exif)
    picture(RED, (40, 50), 3).convert("CMYK").save(red / "cmyk.jpg")
    picture(RED, (40, 50), 4).convert("L").save(red / "gray.png")
    picture(RED, (12, 90), 5).save(red / "long.png")
    (root / "train" / "notes.txt").write_text("x")
    (root / "train" / "purple").mkdir()
    (root / "val" / "cyan").mkdir()
    picture(RED, (30, 30), 6).save(root / "val" / "cyan" / "0.png")
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> DataReport:
    return data_report(folder)


def names(files: object) -> set[str]:
    assert isinstance(files, dict)
    return {Path(name).name for name in files}


def test_counts_sizes_and_formats(found: DataReport, folder: Path) -> None:
    train, val = found.splits
    assert (train.name, val.name) == ("train", "val")
    assert train.classes == {"blue": 13, "green": 10, "purple": 0, "red": 18, "cyan": 0}
    assert val.classes == {"blue": 4, "green": 4, "purple": 0, "red": 6, "cyan": 1}
    assert found.imbalance == pytest.approx(1.8)
    assert train.images == sum(train.classes.values())
    sizes = []
    for path in (folder / "train").glob("*/*"):
        if path.name not in names(train.broken):
            with Image.open(path) as image:
                turn = path.name == "turned.jpg"
                sizes.append(image.size if turn else image.size[::-1])
    sizes.sort(key=lambda size: size[0] * size[1])
    assert (train.smallest, train.largest) == (sizes[0], sizes[-1])
    assert train.median is not None
    assert np.prod(train.median) == sorted(np.prod(sizes, axis=1))[(len(sizes) - 1) // 2]
    assert train.formats == {"PNG RGB": 33, "JPEG RGB": 2, "JPEG CMYK": 1, "PNG L": 1}
    assert train.turned == 1
    assert names(train.odd) == {"long.png"}


def test_broken_files_have_their_reason(found: DataReport) -> None:
    broken = {Path(name).name: why for name, why in found.splits[0].broken.items()}
    assert broken.keys() == {"empty.jpg", "text.jpg", "truncated.jpg", "phone.heic"}
    assert broken["empty.jpg"] == "it is empty"
    assert broken["text.jpg"] == "it is not an image"
    assert "truncated" in broken["truncated.jpg"]
    assert "HEIC" in broken["phone.heic"]


def test_copies_are_those_that_sha256_and_pillow_find(found: DataReport, folder: Path) -> None:
    copies = {
        tuple(str(Path(place.file).relative_to(folder)) for place in one.places): one
        for one in found.copies
    }
    assert {one.same for one in found.copies} == {"file", "pixels"}
    for files, one in copies.items():
        contents = {hashlib.sha256((folder / file).read_bytes()).digest() for file in files}
        assert (len(contents) == 1) == (one.same == "file"), files
        pixels = {Image.open(folder / file).convert("RGB").tobytes() for file in files}
        assert len(pixels) == 1
    assert {files for files, one in copies.items() if one in found.leaked} == {
        ("train/red/2.png", "val/red/leaked.png"),
        ("train/red/3.png", "val/red/leaked.bmp"),
    }
    assert {files for files, one in copies.items() if one in found.contradictions} == {
        ("train/blue/1.png", "train/red/mislabelled.png")
    }
    assert ("train/blue/0.png", "train/blue/copy.png") in copies
    assert len(copies) == 4
    assert found.duplicates == {"train": 2, "val": 0}


def test_what_training_would_refuse(found: DataReport, folder: Path, tmp_path: Path) -> None:
    assert {each.what.code for each in found.refused} == {"VGG423", "VGG424", "VGG426"}
    larger = (
        TINY.replace("16x16", "24x24").replace("18..20", "24..26").replace("scale 19", "scale 25")
    )
    (tmp_path / "tiny.vgg").write_text(larger)
    ours = data_report(folder, tmp_path / "tiny.vgg")
    assert {each.what.code for each in ours.refused} == {"VGG422", "VGG423", "VGG424", "VGG426"}
    assert names(ours.splits[0].enlarged) >= {"long.png", "0.png"}
    assert "whole.jpg" not in names(ours.splits[0].enlarged)
    assert found.splits[0].enlarged == {}


def test_notes_and_progress(folder: Path) -> None:
    seen: list[Progress] = []

    class Watching(Watcher):
        def progress(self, now: Progress) -> None:
            seen.append(now)

    found = data_report(folder, watch=Watching())
    assert any("notes.txt" in note for note in found.splits[0].notes)
    assert [now.done for now in seen[:3]] == [1, 2, 3]
    assert seen[-1].done == seen[-1].total == len(os.listdir(folder / "val" / "red")) + 9


def test_an_interrupted_report_ends_its_threads(folder: Path) -> None:
    class Impatient(Watcher):
        def progress(self, now: Progress) -> None:
            if now.done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data_report(folder, watch=Impatient())


def test_json_has_everything(found: DataReport) -> None:
    data = json.loads(json.dumps(found.as_data()))
    assert data["classes"] == ["blue", "green", "purple", "red", "cyan"]
    assert len(data["copies"]) == 4
    assert sum(one["is_leaked"] for one in data["copies"]) == 2
    assert {each["why"] for each in data["splits"][0]["broken"]} >= {"it is empty"}


def test_the_sheet_shows_some_images_of_each_class(folder: Path, tmp_path: Path) -> None:
    data_report(folder, sheet=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"), np.int32)
    # Blue, green, no image at all, red: from the top, in the middle of the first thumbnail.
    column = pixels[:, 16 + 150 + 30 : 16 + 150 + 60].mean(axis=1)
    middles = [column[44 + 102 * row + 38 : 44 + 102 * row + 58].mean(axis=0) for row in range(4)]
    assert [int(middle.argmax()) for middle in (middles[0], middles[1], middles[3])] == [2, 1, 0]
    assert np.ptp(middles[2]) < 3


def test_a_folder_without_splits_and_one_with_annotations(tmp_path: Path) -> None:
    write_folder(tmp_path / "images")
    whole = data_report(tmp_path / "images" / "train")
    assert [(split.name, split.images) for split in whole.splits] == [("all", 30)]
    assert not whole.refused
    write_annotated(tmp_path / "boxes")
    boxes = data_report(tmp_path / "boxes")
    assert [split.images for split in boxes.splits] == [30, 12]
    assert boxes.splits[0].classes["red"] >= 10


def test_images_of_mnist(tmp_path: Path) -> None:
    """What has no split for validation is validated on its test images, which count once."""
    random = np.random.default_rng(0)
    for split, number in (("train", 20), ("t10k", 8)):
        pixels = random.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        head = np.array([0x803, number, 28, 28], ">u4").tobytes()
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = np.array([0x801, number], ">u4").tobytes()
        labels = np.arange(number, dtype=np.uint8) % 10
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    found = data_report(tmp_path)
    assert [(split.name, split.images) for split in found.splits] == [("train", 20), ("val", 8)]
    assert found.splits[0].median == (28, 28)
    assert not found.copies
    assert not found.refused


def test_a_folder_without_images(tmp_path: Path) -> None:
    with refused("VGG696"):
        data_report(tmp_path)
