"""Folders of images: what is checked before anything is opened, and what tells one from another."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.refusals import refused
from tests.training.folders import tiny, write_folder
from vggspec.base.catalogue import data
from vggspec.base.diagnostic import VggspecError
from vggspec.data.decode import BadImageError
from vggspec.training.dataset import open_data

NETWORK = tiny().network


def mistakes(root: Path) -> list[str]:
    with pytest.raises(VggspecError) as caught:
        open_data(root, NETWORK)
    return [one.what.code for one in caught.value.reports]


def test_classes_are_the_sorted_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, train=2, val=1)
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "red" / ".DS_Store").touch()
    found = open_data(tmp_path, NETWORK)
    assert found.classes == ("blue", "green", "red")
    assert found.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    names = [found.train.name(index) for index in range(6)]
    folders = ("blue", "green", "red")
    assert names == [str(tmp_path / "train" / f / f"{i}.png") for f in folders for i in (0, 1)]
    for index, name in enumerate(names):
        assert found.train.read(index) == Path(name).read_bytes()


def test_images_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    for number in (7, 3, 9, 1, 8, 2, 6, 4, 5):
        (tmp_path / "train" / "blue" / f"{number}.png").touch()
    found = open_data(tmp_path, NETWORK).train
    assert [Path(found.name(i)).name for i in range(10)] == [f"{i}.png" for i in range(10)]


def test_val_may_lack_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    for name in ("blue", "green"):
        (tmp_path / "val" / name / "0.png").unlink()
        (tmp_path / "val" / name).rmdir()
    found = open_data(tmp_path, NETWORK)
    assert found.val.labels.tolist() == [2]
    assert found.val.name(0) == str(tmp_path / "val" / "red" / "0.png")


def test_any_name_of_a_file_will_do(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    for name in (os.fsdecode(b"\xff\xfe.png"), "ü and \n.png", f"{'long' * 50}.png"):
        path = tmp_path / "train" / "red" / name
        path.write_text(name, errors="surrogateescape")
        found = open_data(tmp_path, NETWORK).train
        names = [found.name(index) for index in range(len(found))]
        assert found.read(names.index(str(path))) == path.read_bytes()


def test_the_fingerprint_tells_other_data(tmp_path: Path) -> None:
    write_folder(tmp_path, train=2, val=1)
    before = open_data(tmp_path, NETWORK)
    assert open_data(tmp_path, NETWORK).stamp == before.stamp
    image = tmp_path / "val" / "red" / "0.png"
    os.utime(image, ns=(0, 0))
    touched = open_data(tmp_path, NETWORK)
    assert touched.fingerprint == before.fingerprint
    assert touched.stamp != before.stamp
    renamed = image.rename(tmp_path / "val" / "red" / "1.png")
    other = open_data(tmp_path, NETWORK).fingerprint
    with renamed.open("ab") as file:
        file.write(b"\0")
    assert len({before.fingerprint, other, open_data(tmp_path, NETWORK).fingerprint}) == 3


def test_mistakes_are_found_by_names_alone(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "nowhere") == [data.NoData.code]
    for split in ("train", "val"):
        for name in ("blue", "green", "red"):
            (tmp_path / split / name).mkdir(parents=True)
    assert mistakes(tmp_path) == [data.EmptyClass.code] * 3
    for name in ("blue", "green", "red"):
        (tmp_path / "train" / name / "0.png").touch()
    assert mistakes(tmp_path) == [data.NoData.code]  # val holds no images
    (tmp_path / "val" / "red" / "0.png").touch()
    open_data(tmp_path, NETWORK)
    (tmp_path / "val" / "violet").mkdir()
    (tmp_path / "train" / "yellow").mkdir()
    assert sorted(mistakes(tmp_path)) == [data.ClassMismatch.code, data.UnlikeClasses.code]


def test_the_name_of_a_class_has_to_be_text(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "red").rename(tmp_path / "train" / os.fsdecode(b"caf\xe9"))
    with refused(r"the name of folder `caf\\xe9` is not UTF-8") as caught:
        open_data(tmp_path, NETWORK)
    assert caught.value.reports[0].what.code == data.NoData.code


def test_class_mismatch_names_the_last_layer(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "yellow").mkdir()
    with refused("`fc3` has 3 outputs"):
        open_data(tmp_path, NETWORK)


def test_classes_that_are_folders_of_a_class_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    for split in ("train", "val"):
        (tmp_path / split / "colours").mkdir()
        for name in ("blue", "red"):
            (tmp_path / split / name).rename(tmp_path / split / "colours" / name)
    with pytest.raises(VggspecError) as caught:
        open_data(tmp_path, NETWORK)
    text = str(caught.value.reports[0].what.help())
    assert text.endswith("\nif the folders in `colours` are classes, move them up")


def test_an_image_that_is_gone_is_bad(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    found = open_data(tmp_path, NETWORK).train
    Path(found.name(1)).unlink()
    with pytest.raises(BadImageError, match="no such file"):
        found.read(1)
    assert np.array_equal(found.labels, [0, 1, 2])
