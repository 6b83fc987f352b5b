"""Files and folders are written whole or not at all, and what stood there before survives."""

import os
from pathlib import Path

import pytest

from vggspec.diagnostic import VggspecError
from vggspec.files import replacing_file, replacing_folder, write_text


def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_file(path) as file:  # noqa: PT012 (the block is the test)
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old").touch()
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder") as folder:  # noqa: PT012 (the block is the test)
        (folder / "half").touch()
        raise ZeroDivisionError
    assert os.listdir(tmp_path / "folder") == ["old"]
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("failure", [OSError("no"), KeyboardInterrupt()])
def test_a_swap_cut_short_puts_the_old_folder_back(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between the two renames is the only one in which nothing has the name."""
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    real = os.replace
    calls = 0

    def second_fails(source: Path, destination: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise failure
        real(source, destination)

    monkeypatch.setattr(os, "replace", second_fails)
    expected = VggspecError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replacing_folder(target) as folder:
        (folder / "new").touch()
    assert calls == 3
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["folder"]
