"""Images to test on, found with a split and without, as folders and as shards."""

import io
import os
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.refusals import refused
from vggspec.data.labelled import open_labelled


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write_folders(root: Path) -> None:
    for name, number in (("bee", 2), ("ant", 1), ("empty", 0)):
        (root / name).mkdir(parents=True)
        for i in range(number):
            (root / name / f"{i}.png").write_bytes(picture(i))


@pytest.mark.parametrize("split", ["val", ""])
def test_class_folders_lie_in_the_split_or_right_there(tmp_path: Path, split: str) -> None:
    write_folders(tmp_path / split)
    found = open_labelled(tmp_path)
    assert found.folder == tmp_path / split
    assert found.classes == ("ant", "bee", "empty")
    assert found.images.labels.tolist() == [0, 1, 1]
    assert found.images.read(2) == picture(1)
    assert found.images.name(1).endswith("bee/0.png")


def test_another_split_is_taken_by_name(tmp_path: Path) -> None:
    write_folders(tmp_path / "val")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    (tmp_path / "test" / "cat" / "9.png").write_bytes(picture(9))
    assert open_labelled(tmp_path, "test").classes == ("cat",)


def test_the_name_of_a_class_has_to_be_text(tmp_path: Path) -> None:
    (tmp_path / "val" / os.fsdecode(b"caf\xe9")).mkdir(parents=True)
    with refused(r"the name of folder `caf\\xe9` is not UTF-8"):
        open_labelled(tmp_path)


@pytest.mark.parametrize("split", ["val", ""])
@pytest.mark.parametrize("names", ["ant\nbee\n", None])
def test_shards_are_read_too(tmp_path: Path, split: str, names: str | None) -> None:
    pytest.importorskip("webdataset")
    folder = tmp_path / split
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "000000.tar", "w") as tar:
        for i, label in enumerate([1, 0, 1]):
            for ending, data in (("png", picture(i)), ("cls", str(label).encode())):
                entry = tarfile.TarInfo(f"{i}.{ending}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    if names is not None:
        (tmp_path / "classes.txt").write_text(names)
    found = open_labelled(tmp_path)
    assert found.classes == (None if names is None else ("ant", "bee"))
    assert found.images.labels.tolist() == [1, 0, 1]
    assert found.images.read(1) == picture(1)


def test_other_files_have_another_stamp(tmp_path: Path) -> None:
    write_folders(tmp_path)
    before = open_labelled(tmp_path).stamp
    assert open_labelled(tmp_path).stamp == before
    path = tmp_path / "ant" / "0.png"
    path.write_bytes(picture(0) + b"\0")
    longer = open_labelled(tmp_path).stamp
    os.utime(path, ns=(1, 1))
    assert len({before, longer, open_labelled(tmp_path).stamp}) == 3


@pytest.mark.parametrize("make", ["nothing", "a file", "an empty folder", "images alone"])
def test_where_there_are_no_images_it_says_so(tmp_path: Path, make: str) -> None:
    root = tmp_path / "data"
    if make == "a file":
        root.write_bytes(picture(0))
    elif make != "nothing":
        root.mkdir()
    if make == "images alone":
        (root / "0.png").write_bytes(picture(0))
    with refused("there are no images") as caught:
        open_labelled(root)
    assert str(root) in caught.value.reports[0].what.title()
