"""What is kept of many XML files: never another answer than the files give."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_annotated import xml
from vggspec.data import xml_files
from vggspec.data.annotation import Written
from vggspec.data.voc import read_voc
from vggspec.data.xml_files import read_files

NAMES = ["a/1.xml", "a/2.xml", "b/1.xml", "b/3.xml"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is kept; four files count as many."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(xml_files, "MANY", len(NAMES))
    return tmp_path / "cache" / "vggspec"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    objects = [("cat", 0, 0, 4, 4), ("dög", 1, 2, 3, 4)]
    for number, name in enumerate(NAMES):
        xml(tmp_path / "xml" / name, (8, 9), objects[: number % 3])
    text = (tmp_path / "xml" / NAMES[1]).read_text().replace("<xmax>4<", "<xmax>3.1<")
    (tmp_path / "xml" / NAMES[1]).write_text(text)
    return tmp_path / "xml"


def read(folder: Path, split: str = "val", names: list[str] = NAMES) -> list[Written | str]:
    return list(read_files(str(folder), names, split))


def plain(folder: Path) -> list[Written | str]:
    return [read_voc(folder / name) for name in NAMES]


class Readings:
    """Counts which files are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.names: list[str] = []

        def counted(path: str) -> Written:
            self.names.append(os.path.relpath(path, folder))
            return read_voc(path)

        monkeypatch.setattr(xml_files, "read_voc", counted)


def test_files_are_read_once(cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(folder)
    assert expected[1] == Written((8, 9), [("cat", (0, 0, 3.1, 4))])
    readings = Readings(monkeypatch, folder)
    assert read(folder) == expected
    assert read(folder) == expected
    assert readings.names == NAMES
    assert len(list(cache.iterdir())) == 1
    assert read(folder, "train") == expected  # a list of its own
    assert readings.names == NAMES * 2


def test_what_changed_is_read_again(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the same size, or the same time; a new one, and one that is gone."""
    read(folder)
    readings = Readings(monkeypatch, folder)
    path = folder / NAMES[1]
    old = path.stat()
    path.write_text(path.read_text().replace("3.1", "3.2"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert read(folder) == plain(folder)
    path.write_text(path.read_text().replace("3.2", "3.25"))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + 1))
    assert read(folder) == plain(folder)
    xml(folder / "a" / "0.xml", (5, 6), [("emu", 0, 0, 1, 1)])
    found = read(folder, names=["a/0.xml", *NAMES])
    assert found == [read_voc(folder / "a/0.xml"), *plain(folder)]
    assert readings.names == [NAMES[1], NAMES[1], "a/0.xml"]
    path.unlink()
    assert read(folder)[1] == "2.xml: no such file or directory"
    xml(path, (8, 9), [])
    assert read(folder) == plain(folder)


def test_what_is_wrong_is_not_kept(cache: Path, folder: Path) -> None:
    (folder / NAMES[0]).write_text("<annotation>")
    xml(folder / NAMES[2], (0, 0), [("cat", 0, 0, 4, 4)])
    for _ in range(2):
        found = read(folder)
        assert "not XML" in str(found[0])
        assert found[1:] == plain_after_first(folder)


def plain_after_first(folder: Path) -> list[Written]:
    found = [read_voc(folder / name) for name in NAMES[1:]]
    assert found[1].size is None
    return found


def test_few_files_are_not_kept(cache: Path, folder: Path) -> None:
    assert read(folder, names=NAMES[:3]) == plain(folder)[:3]
    assert not cache.exists()


def test_a_folder_of_another_name_is_another(cache: Path, folder: Path, tmp_path: Path) -> None:
    read(folder)
    shutil.copytree(folder, tmp_path / "copy")
    xml(tmp_path / "copy" / NAMES[0], (3, 3), [])
    assert read(tmp_path / "copy") == plain(tmp_path / "copy")
    assert read(folder) == plain(folder)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_damaged_file_is_nothing(cache: Path, folder: Path, part: float, *, is_cut: bool) -> None:
    read(folder)
    (path,) = cache.iterdir()
    good = path.read_bytes()
    at = int(part * len(good))
    path.write_bytes(good[:at] if is_cut else good[:at] + b"\xff" * 16 + good[at + 16 :])
    assert read(folder) == plain(folder)
    assert read(folder) == plain(folder)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("files", lambda array: array[:-1]),
        ("files", lambda array: array[:, :5]),
        ("files", lambda array: array + np.array([0, 0, 0, 0, 0, 99])),
        ("files", lambda array: array - np.array([0, 0, 0, 0, 9, 0])),
        ("files", lambda array: array.astype(np.int32)),
        ("labels", lambda array: array + 2),
        ("labels", lambda array: array - 1),
        ("boxes", lambda array: array[1:]),
        ("boxes", lambda array: array[:, :3]),
        ("names", lambda array: array[:-6]),
        ("names", lambda array: array.view("S1")),
    ],
)
def test_other_arrays_are_nothing(cache: Path, folder: Path, name: str, made: object) -> None:
    assert callable(made)
    read(folder)
    (path,) = cache.iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = made(arrays[name])
    np.savez(path, **arrays)
    assert read(folder) == plain(folder)
    del arrays[name]
    np.savez(path, **arrays)
    assert read(folder) == plain(folder)


def test_files_that_hold_nothing(cache: Path, folder: Path) -> None:
    for name in NAMES:
        xml(folder / name, (8, 9), [])
    assert read(folder) == plain(folder) == [Written((8, 9), [])] * 4
    assert read(folder) == plain(folder)
    for name in NAMES:
        (folder / name).unlink()
    assert all("no such file" in str(each) for each in read(folder))


def test_objects_in_a_pickle_are_not_read(cache: Path, folder: Path, tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> object:
            return Path.touch, (tmp_path / "opened",)

    read(folder)
    (path,) = cache.iterdir()
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "classes": np.array([Bad()], object)})
    assert read(folder) == plain(folder)
    assert not (tmp_path / "opened").exists()
