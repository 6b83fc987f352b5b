"""Folders of images: what is checked before anything is opened, and what tells one from another."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.refusals import refused
from tests.training.folders import tiny, write_folder
from vggspec.base.catalogue import data
from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text
from vggspec.data.decode import BadImageError
from vggspec.training.class_weights import class_weights
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


def one_folder(root: Path, **images: int) -> Path:
    for name, number in (images or {"blue": 10, "green": 25, "red": 4}).items():
        (root / name).mkdir(parents=True)
        for i in range(number):
            (root / name / f"{i}.png").write_bytes(f"{name} {i}".encode())
    return root


def test_a_share_of_each_class_is_kept_apart(tmp_path: Path) -> None:
    """Stratified, whole, the same for a copy of the folder, and for most of a larger one."""
    root = one_folder(tmp_path / "here")
    found = open_data(root, NETWORK, validate_on=0.2)
    assert found.classes == ("blue", "green", "red")
    assert np.bincount(found.val.labels).tolist() == [2, 5, 1]
    assert np.bincount(found.train.labels).tolist() == [8, 20, 3]
    names = {found.val.name(index) for index in range(8)}
    assert len(names) == 8
    for split in (found.train, found.val):
        for index in range(len(split)):
            path = Path(split.name(index))
            assert path.parent.name == found.classes[split.labels[index]]
            assert split.read(index) == path.read_bytes()
            assert (str(path) in names) == (split is found.val)
    assert found.notes == ("8 images kept apart for validation, 20% of each class",)
    copy = shutil.copytree(root, tmp_path / "there")
    again = open_data(copy, NETWORK, validate_on=0.2)
    assert {str(root / Path(again.val.name(i)).relative_to(copy)) for i in range(8)} == names
    assert again.fingerprint == found.fingerprint
    in_train = tmp_path / "split"
    in_train.mkdir()
    root.rename(in_train / "train")
    assert open_data(in_train, NETWORK, validate_on=0.2).fingerprint == found.fingerprint
    other = open_data(copy, NETWORK, validate_on=0.3)
    assert other.fingerprint != found.fingerprint
    assert other.stamp != again.stamp  # the mean is that of other images
    for i in range(25, 28):
        (copy / "green" / f"{i}.png").write_bytes(b"more")
    larger = open_data(copy, NETWORK, validate_on=0.2)
    kept = {Path(larger.val.name(i)).relative_to(copy) for i in range(len(larger.val))}
    assert len(kept & {Path(name).relative_to(root) for name in names}) >= 5


def test_shards_are_split_too(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", train=10, val=1)
    (tmp_path / "data" / "train").mkdir(parents=True)
    with tarfile.open(tmp_path / "data" / "train" / "0.tar", "w") as tar:
        for number, path in enumerate(sorted((tmp_path / "images" / "train").glob("*/*.png"))):
            tar.add(path, f"{number:03}.png")
            label = tarfile.TarInfo(f"{number:03}.cls")
            label.size = 1
            tar.addfile(label, io.BytesIO(b"%d" % (number // 10)))
    found = open_data(tmp_path / "data", NETWORK, validate_on=0.3)
    assert found.classes == ("0", "1", "2")
    assert np.bincount(found.val.labels).tolist() == [3, 3, 3]
    assert len(found.train) == 21


def refused_split(root: Path, share: float = 0.1) -> tuple[str, str, str | None]:
    with pytest.raises(VggspecError) as caught:
        open_data(root, NETWORK, validate_on=share)
    what = caught.value.reports[0].what
    return what.code, what.title(), what.help()


def test_a_split_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    none_left = "none of which would be left to train on"
    lonely = one_folder(tmp_path / "lonely", blue=10, green=1, red=10)
    assert refused_split(lonely) == (
        "VGG428",
        f"`validate on` cannot split this data: class `green` has 1 image, {none_left}",
        "add images, or keep a smaller share apart",
    )
    small = one_folder(tmp_path / "small", blue=10, green=10, red=3)
    assert "`red` has 3 images" in refused_split(small, 0.9)[1]
    whole = write_folder(tmp_path / "whole", train=2, val=1)
    assert refused_split(whole) == (
        "VGG428",
        "`validate on` cannot split this data: the data has a `val` of its own",
        "leave `validate on` out, or name the folder of the classes after `--data`",
    )
    assert len(open_data(whole / "train", NETWORK, validate_on=0.5).val) == 3
    (small / "violet").mkdir()
    assert refused_split(small)[0] == data.ClassMismatch.code
    (small / "violet").rename(tmp_path / "empty")
    for path in (small / "red").iterdir():
        path.unlink()
    assert refused_split(small)[0] == data.EmptyClass.code
    assert refused_split(tmp_path / "nowhere")[0] == data.NoData.code
    with pytest.raises(VggspecError) as caught:
        open_data(small, NETWORK)
    assert "`validate on 10%`" in str(caught.value.reports[0].what.help())


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = one_folder(tmp_path, ship=4, train=4, val=4)
    found = open_data(root, NETWORK, validate_on=0.25)
    assert found.classes == ("ship", "train", "val")


def weights(root: Path, setting: str) -> tuple[float, ...] | None:
    lowered = tiny(("  batch 8\n", f"  batch 8\n  {setting}\n"))
    return class_weights(lowered, open_data(root, lowered.network, validate_on=0.5))


def test_classes_have_the_weights_that_are_written(tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    root = one_folder(tmp_path, blue=20, green=8, red=4)
    assert weights(root, "mixup 0") is None
    assert weights(root, "class weights off") is None
    assert weights(root, "class weights red 3, blue 0.5") == (0.5, 1.0, 3.0)
    found = weights(root, "class weights balanced")
    labels = open_data(root, NETWORK, validate_on=0.5).train.labels
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert found == pytest.approx(expected.tolist())


def test_weights_of_unknown_classes_are_refused_at_their_place(tmp_path: Path) -> None:
    root = one_folder(tmp_path)
    with pytest.raises(VggspecError) as caught:
        weights(root, 'class weights grene 2, "blue" 1, cat 3')
    assert (
        as_text(caught.value.reports)
        == """\
error[VGG412]: the data has no class `grene`
  --> tiny.vgg:11:17
   |
11 |   class weights grene 2, "blue" 1, cat 3
   |                 ^^^^^
   = help: did you mean `green`?

error[VGG412]: the data has no class `cat`
  --> tiny.vgg:11:36
   |
11 |   class weights grene 2, "blue" 1, cat 3
   |                                    ^^^
   = help: it has `blue`, `green`, `red`"""
    )
