"""Images with their classes, wherever these are written."""

import json
import shutil
from pathlib import Path

import numpy as np

from tests.refusals import refused
from tests.training.folders import HUES, write_annotated, write_folder
from vggspec.data.classed import open_classed

NAMES = tuple(sorted(HUES))


def test_both_splits_of_class_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, train=3, val=2)
    train, val = open_classed(tmp_path)
    assert (train.split, val.split) == ("train", "val")
    assert train.classes == val.classes == NAMES
    np.testing.assert_array_equal(train.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    for one in (train, val):
        for i, label in enumerate(one.labels):
            assert Path(one.images.name(i)).parent.name == NAMES[label]
            assert one.images.read(i) == Path(one.images.name(i)).read_bytes()


def test_classes_are_numbered_as_in_train(tmp_path: Path) -> None:
    write_folder(tmp_path, train=3, val=2)
    shutil.rmtree(tmp_path / "val" / NAMES[0])
    train, val = open_classed(tmp_path)
    assert val.classes == train.classes == NAMES
    np.testing.assert_array_equal(val.labels, [1, 1, 2, 2])
    shutil.rmtree(tmp_path / "train" / NAMES[1])
    with refused("VGG424"):
        open_classed(tmp_path)


def test_one_split_or_a_folder_without_any(tmp_path: Path) -> None:
    write_folder(tmp_path, train=3, val=2)
    (only,) = open_classed(tmp_path, "val")
    assert (only.split, len(only.images)) == ("val", 6)
    (whole,) = open_classed(tmp_path / "train")
    assert (whole.split, len(whole.images)) == ("all", 9)
    with refused(
        r"VGG696.*no split `test`(.|\n)*it has `train`, `val`: name one by `--split train`"
    ):
        open_classed(tmp_path, "test")
    with refused("VGG696"):
        open_classed(tmp_path / "none")


def test_an_image_has_the_classes_of_its_objects(tmp_path: Path) -> None:
    write_annotated(tmp_path, train=4, val=2)
    train, val = open_classed(tmp_path)
    assert (len(train.images), len(val.images)) == (12, 6)
    assert train.classes is not None
    for one in (train, val):
        file = tmp_path / "annotations" / f"instances_{one.split}.json"
        table = json.loads(file.read_text())
        wanted = np.zeros((len(one.images), 3), np.uint8)
        for each in table["annotations"]:
            number = train.classes.index(list(HUES)[each["category_id"] - 1])
            wanted[each["image_id"], number] = 1
        np.testing.assert_array_equal(one.labels, wanted)
        assert one.labels.dtype == np.uint8
    assert (train.labels.sum(axis=1) > 1).any()


def test_folders_go_before_annotations(tmp_path: Path) -> None:
    """As in ILSVRC, where the boxes of an image are all of its folder's class."""
    write_folder(tmp_path, train=3, val=2)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text("{")
    assert [one.labels.ndim for one in open_classed(tmp_path)] == [1, 1]


def test_splits_of_two_kinds_do_not_go_together(tmp_path: Path) -> None:
    write_folder(tmp_path, train=3, val=2)
    shutil.rmtree(tmp_path / "val")
    other = tmp_path / "other"
    write_annotated(other, train=4, val=2)
    (other / "val").rename(tmp_path / "val")
    (other / "annotations").rename(tmp_path / "annotations")
    with refused("VGG716"):
        open_classed(tmp_path)
