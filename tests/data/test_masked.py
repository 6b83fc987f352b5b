"""Pictures with masks, in each layout, and what is wrong with them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.refusals import refused
from vggspec.data.decode import BadImageError
from vggspec.data.masked import CITYSCAPES, VOC, open_masked

NAMES = ("0", "1", "2")
CLASSES = "sky\nsea\nsand\n"


def labels(number: int, classes: int = 3) -> NDArray[np.uint8]:
    random = np.random.default_rng(number)
    found = random.integers(0, classes, (5 + number, 7)).astype(np.uint8)
    found[0, 0] = 255
    return found


def write(picture: Path, mask: Path | None, of: NDArray[np.uint8]) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", of.shape[::-1], (90, 120, 150)).save(picture)
    if mask is not None:
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(of).save(mask)


def folders(root: Path, number: int = 3, *, split_first: bool = False) -> Path:
    for i in range(number):
        for split in ("train", "val"):
            places = (f"{split}/images", f"{split}/masks")
            if not split_first:
                places = (f"images/{split}", f"masks/{split}")
            picture, mask = (root / place / "beach" for place in places)
            write(picture / f"{i}.jpg", mask / f"{i}.png", labels(i))
    (root / "classes.txt").write_text(CLASSES)
    return root


@pytest.mark.parametrize("split_first", [False, True])
def test_folders_of_pictures_and_of_masks(split_first: bool, tmp_path: Path) -> None:
    found = open_masked(folders(tmp_path, split_first=split_first), "train")
    assert found.classes == ("sky", "sea", "sand")
    assert len(found) == 3
    assert found.labels.tolist() == [0, 0, 0]
    for i in range(3):
        assert found.name(i).endswith(f"beach/{i}.jpg")
        np.testing.assert_array_equal(found.mask(i, (5 + i, 7)), labels(i))
    assert not found.notes


def test_pascal_voc(tmp_path: Path) -> None:
    for i in range(3):
        mask = tmp_path / "SegmentationClass" / f"2007_{i}.png"
        write(tmp_path / "JPEGImages" / f"2007_{i}.jpg", mask, labels(i, 21))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("2007_2\n2007_0\n")
    found = open_masked(tmp_path, "val")
    assert found.classes == VOC
    assert [Path(found.name(i)).name for i in range(2)] == ["2007_0.jpg", "2007_2.jpg"]
    np.testing.assert_array_equal(found.mask(1, (7, 7)), labels(2, 21))
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(25)))
    assert len(open_masked(tmp_path, "val").classes) == 25
    (lists / "val.txt").write_text("../2007_2\n")
    with refused("no file below the folder"):
        open_masked(tmp_path, "val")


#: The table of Cityscapes' own scripts, from its labels to those of training.
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(kind: str, tmp_path: Path) -> None:
    ids = np.arange(40, dtype=np.uint8).reshape(5, 8)
    ids[ids > 33] = 0
    ids[0, 0] = 255  # -1, a licence plate
    wanted = np.array([[TRAIN_IDS.get(int(i), 255) for i in row] for row in ids], np.uint8)
    for city in ("ulm", "bonn"):
        picture = tmp_path / "leftImg8bit" / "train" / city / f"{city}_0_leftImg8bit.png"
        folder = tmp_path / "gtFine" / "train" / city
        write(picture, folder / f"{city}_0_gtFine_labelIds.png", ids)
        if kind == "labelTrainIds":
            write(picture, folder / f"{city}_0_gtFine_labelTrainIds.png", wanted)
        (folder / f"{city}_0_gtFine_polygons.json").write_text("{}")
    found = open_masked(tmp_path, "train")
    assert found.classes == CITYSCAPES
    assert [Path(found.path_of_mask(i)).name for i in range(2)] == [
        f"{city}_0_gtFine_{kind}.png" for city in ("bonn", "ulm")
    ]
    np.testing.assert_array_equal(found.mask(0, (5, 8)), wanted)


def test_a_mask_that_does_not_belong_to_its_picture(tmp_path: Path) -> None:
    root = folders(tmp_path)
    found = open_masked(root, "train")
    with pytest.raises(BadImageError, match="its mask: it has 7 × 5 pixels, the picture 5 × 7"):
        found.mask(0, (7, 5))
    bad = labels(1)
    bad[2, 3] = 3
    Image.fromarray(bad).save(found.path_of_mask(1))
    with pytest.raises(BadImageError, match="its mask: it has the label 3, of no class"):
        found.mask(1, (6, 7))
    Image.fromarray(np.full_like(bad, 255)).save(found.path_of_mask(1))
    with pytest.raises(BadImageError, match="its mask: it labels no pixel"):
        found.mask(1, (6, 7))


def test_missing_masks_are_counted(tmp_path: Path) -> None:
    root = folders(tmp_path, 101)
    missing = root / "masks/train/beach/7.png"
    missing.unlink()
    write(root / "more.jpg", root / "masks/train/beach/other.png", labels(0))
    found = open_masked(root, "train")
    assert len(found) == 100
    other, left_out = found.notes
    assert other == "1 mask in masks/train without a picture (beach/other.png)"
    assert left_out.startswith("1 picture of train left out:\n")
    assert left_out.endswith("7.jpg: it has no mask")
    (root / "masks/train/beach/8.png").unlink()
    with refused("VGG442(?s:.*)2 of 101 pictures cannot be used with their masks"):
        open_masked(root, "train")


def test_where_there_is_nothing(tmp_path: Path) -> None:
    with refused("VGG437(?s:.*)no `images/train` with `masks/train`"):
        open_masked(tmp_path, "train")
    root = folders(tmp_path / "data")
    (root / "classes.txt").unlink()
    with refused("VGG438(?s:.*)there is no `classes.txt`"):
        open_masked(root, "train")
    (root / "classes.txt").write_text("\n".join(map(str, range(256))))
    with refused("VGG438(?s:.*)it names 256"):
        open_masked(root, "train")
    shutil.rmtree(root / "images/train/beach")
    (root / "classes.txt").write_text(CLASSES)
    with refused("has no pictures of train"):
        open_masked(root, "train")


def test_colours_and_two_values_are_refused_at_once(tmp_path: Path) -> None:
    root = folders(tmp_path)
    mask = root / "masks/train/beach/1.png"
    Image.new("RGB", (7, 6)).save(mask)
    with refused(r"1\.png(?s:.*)VGG440|VGG440(?s:.*)in colours \(RGB\)"):
        open_masked(root, "train")
    for i in range(3):
        two = np.where(labels(i) > 0, 255, 0).astype(np.uint8)
        Image.fromarray(two).save(root / f"masks/train/beach/{i}.png")
    with refused("VGG441"):
        open_masked(root, "train")
    Image.fromarray(labels(1)).save(mask)
    assert len(open_masked(root, "train")) == 3
