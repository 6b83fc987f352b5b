"""Which files of a folder are images of which class, and what is said of the others."""

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.refusals import refused
from tests.training.folders import tiny, write_folder
from vggspec.base.catalogue import data
from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.diagnostic import Diagnostic, VggspecError
from vggspec.data.classed import open_classed
from vggspec.data.digest import Digest
from vggspec.data.folder import Skipped, images_below, list_folder, subfolders
from vggspec.data.labelled import open_labelled
from vggspec.data.read import ENDINGS, FORMATS
from vggspec.training.dataset import open_data

NETWORK = tiny().network
NFC, NFD = "caf\u00e9", "cafe\u0301"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def mistake(root: Path) -> Diagnostic:
    with pytest.raises(VggspecError) as caught:
        open_data(root, NETWORK)
    (one,) = caught.value.reports
    return one.what


def test_all_of_pillows_names_for_the_formats_that_are_read_are_images() -> None:
    Image.init()
    theirs = {ending for ending, name in Image.registered_extensions().items() if name in FORMATS}
    assert theirs <= ENDINGS


def test_nested_folders_and_links_are_read_as_os_walk_does(tmp_path: Path) -> None:
    cat = tmp_path / "cat"
    touch(cat / "b.PNG", cat / "a.jpeg", cat / "z" / "y" / "1.webp", cat / "k" / "2.tif")
    touch(tmp_path / "store" / "3.gif")
    (cat / "to").symlink_to(tmp_path / "store")
    (cat / "4.bmp").symlink_to(tmp_path / "store" / "3.gif")
    expected = {
        os.path.relpath(os.path.join(folder, name), cat)
        for folder, _, names in os.walk(cat, followlinks=True)
        for name in names
    }
    found = [name for name, _ in images_below(cat)]
    assert set(found) == expected
    assert found == ["4.bmp", "a.jpeg", "b.PNG", "k/2.tif", "to/3.gif", "z/y/1.webp"]
    split = list_folder(tmp_path, ("cat",), Digest())
    assert [split.name(i) for i in range(len(split))] == [str(cat / name) for name in found]
    assert all(split.read(i) == b"" for i in range(len(split)))


def test_a_flat_folder_is_the_same_data_as_before(tmp_path: Path) -> None:
    """By the digest that runs and journals of earlier versions hold."""
    touch(tmp_path / "val" / "cat" / "b.png", tmp_path / "val" / "cat" / "a.png")
    digest = Digest()
    list_folder(tmp_path / "val", ("cat",), digest)
    lines = b"val/cat/a.png\x000\nval/cat/b.png\x000\n"
    assert digest.fingerprint() == hashlib.sha256(lines).hexdigest()


def test_everything_else_is_counted_and_named_once(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        folder = tmp_path / name
        touch(folder / "0.png", folder / "Thumbs.db", folder / "README.txt", folder / "0.jpg.part")
        touch(folder / "._0.png", folder / "@eaDir" / "0.png", folder / ".ipynb_checkpoints" / "1")
        (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
        (folder / "self.png").symlink_to("self.png")
        (folder / "up").symlink_to("..")
    (tmp_path / "ant" / "back").symlink_to(tmp_path / "ant")
    (tmp_path / "ant" / "bees").symlink_to(tmp_path / "bee")
    os.mkfifo(tmp_path / "ant" / "1.png")
    touch(tmp_path / "loose.png", tmp_path / "__MACOSX" / "ant" / "._0.png")
    (tmp_path / "cow").symlink_to(tmp_path / "nowhere")
    skipped = Skipped()
    classes = subfolders(tmp_path, skipped)
    assert classes == ("ant", "bee")
    split = list_folder(tmp_path, classes, Digest(), skipped)
    names = [os.path.relpath(split.name(i), tmp_path) for i in range(len(split))]
    assert names == ["ant/0.png", "bee/0.png"]
    assert skipped.in_words().split("; ") == [
        "6 files without an image's ending (0.jpg.part, README.txt, Thumbs.db, …)",
        "5 links that lead nowhere (cow, ant/gone.png, ant/self.png, bee/gone.png, …)",
        "1 device or pipe (ant/1.png)",
        "4 links to folders that are read anyway (ant/back, ant/bees, ant/up, bee/up)",
        "1 image outside of the class folders (loose.png)",
        "7 hidden files and folders (__MACOSX, ._0.png, .ipynb_checkpoints, @eaDir, …)",
    ]


@pytest.mark.parametrize("target", ["red", ".", ".."])
def test_an_image_is_of_one_class(tmp_path: Path, target: str) -> None:
    """A class folder may be a link, but not to another's images, nor to those of ``val``."""
    write_folder(tmp_path, train=1, val=1)
    before = open_classed(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "also").symlink_to(target)
    after = open_classed(tmp_path)
    assert [len(one.images) for one in after] == [len(one.images) for one in before]
    for one in after:
        assert one.notes[0] == (
            f"skipped in {one.split}: 1 link to a folder that is read anyway (also)"
        )
    with pytest.raises(VggspecError) as caught:
        open_data(tmp_path, tiny(("FC-3", "FC-4")).network)
    assert "it is a link" in str(caught.value.reports[0].what.help())


def test_what_is_passed_over_is_said_by_whatever_reads_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    touch(tmp_path / "train" / "red" / "Thumbs.db", tmp_path / "val" / "red" / "Thumbs.db")
    text = "1 file without an image's ending (Thumbs.db)"
    said = [f"skipped in {split}: {text}" for split in ("train", "val")]
    assert list(open_data(tmp_path, NETWORK).notes) == said
    assert list(open_labelled(tmp_path).notes) == said[1:]
    assert [note for one in open_classed(tmp_path) for note in one.notes] == said


def test_classes_without_images_are_said(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "val" / "red" / "0.png").unlink()
    said = ("val has no images of 1 class: `red`",)
    assert open_data(tmp_path, NETWORK).notes == said
    assert open_labelled(tmp_path).notes == said


def test_an_empty_class_says_what_its_folder_holds_instead(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "red" / "0.png").rename(tmp_path / "train" / "red" / "0")
    found = mistake(tmp_path)
    assert isinstance(found, data.EmptyClass)
    assert str(found.help()).endswith("its folder contains 1 file without an image's ending (0)")


def test_a_folder_too_many_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    touch(tmp_path / "train" / "__MACOSX" / "._x")
    open_data(tmp_path, NETWORK)
    (tmp_path / "train" / "violet").mkdir()
    found = mistake(tmp_path)
    assert "no images are in `violet`" in found.title()
    assert str(found.help()).startswith("remove `violet` from `train`, which has no images")
    touch(tmp_path / "train" / "violet" / "deep" / "0.png")
    assert str(mistake(tmp_path).help()).startswith("remove `violet` from `train`, which is not in")
    touch(tmp_path / "val" / "violet" / "0.png")
    found = mistake(tmp_path)
    assert str(found.help()).splitlines() == [
        "write `FC-4` as the last layer, or use other data",
        "the classes are `blue`, `green`, `red`, `violet`",
    ]


def test_a_class_that_is_a_dead_link_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "red").rename(tmp_path / "away")
    (tmp_path / "train" / "red").symlink_to(tmp_path / "nowhere")
    for folder in ("0.png", ""):
        path = tmp_path / "val" / "red" / folder
        path.unlink() if folder else path.rmdir()
    assert mistake(tmp_path).help() == "`red` in `train` are broken links: fix them"


def test_one_letter_written_in_two_ways_is_one_class(tmp_path: Path) -> None:
    assert unicodedata.normalize("NFC", NFD) == NFC
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "red").rename(tmp_path / "train" / NFC)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / NFD)
    found = open_data(tmp_path, NETWORK)
    assert found.classes == ("blue", NFC, "green")
    assert [found.val.name(i) for i in range(3)] == [
        str(tmp_path / "val" / name / "0.png") for name in ("blue", NFD, "green")
    ]
    train, val = open_classed(tmp_path)
    assert (train.classes, val.labels.tolist()) == (found.classes, [0, 1, 2])


@pytest.mark.parametrize(
    ("of_train", "of_val", "shown"),
    [
        (NFC, f"{NFD} ", '"cafe\\u0301 " (train has "caf\\u00e9")'),
        ("red", "red ", '"red " (train has "red")'),
        ("red", "r\u0435d", '"r\\u0435d" (train has "red")'),
        ("red", "red\u200b", '"red\\u200b" (train has "red")'),
        ("a b", "a\u00a0b", '"a\\u00a0b" (train has "a b")'),
    ],
)
def test_names_that_look_alike_are_shown_with_what_differs(
    tmp_path: Path, of_train: str, of_val: str, shown: str
) -> None:
    write_folder(tmp_path, train=1, val=1)
    (tmp_path / "train" / "red").rename(tmp_path / "train" / of_train)
    (tmp_path / "val" / "red").rename(tmp_path / "val" / of_val)
    found = mistake(tmp_path)
    assert found.title() == f"val has classes that train does not have: {shown}"
    assert found.help() == "rename them: these names look alike and differ"
    with pytest.raises(VggspecError) as caught:
        open_classed(tmp_path)
    assert caught.value.reports[0].what.title() == found.title()


def test_two_folders_of_one_class_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in (NFC, f" {NFD}"):
            touch(tmp_path / split / name / "0.png")
    found = mistake(tmp_path)
    assert isinstance(found, data.ClassTwice)
    assert found.title().endswith('one class: " cafe\\u0301" and "caf\\u00e9"')
    with refused("VGG433"):
        open_labelled(tmp_path)


def test_splits_are_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, train=1, val=1)
    with pytest.raises(VggspecError) as caught:
        open_labelled(tmp_path, "tset")
    found = caught.value.reports[0].what
    assert isinstance(found, NoImages)
    assert found.help() == "it has `train`, `val`: name one by `--split train`"
    touch(tmp_path / "toys" / "train" / "0.png", tmp_path / "toys" / "ship" / "0.png")
    assert open_labelled(tmp_path / "toys").classes == ("ship", "train")
