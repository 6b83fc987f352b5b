"""Files and folders are written whole or not at all, and what stood there before survives."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vggspec import files
from vggspec.diagnostic import VggspecError
from vggspec.files import (
    BOOT_ID,
    completing_file,
    replacing_file,
    replacing_folder,
    scratch_folder,
    write_text,
)

#: Fills a folder, names it, and holds it until its input ends.
HOLDER = """
import sys
from pathlib import Path
from vggspec.files import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".D-") as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


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


def test_what_fails_in_the_block_of_a_file_gone_on_with_is_not_the_files_refusal(
    tmp_path: Path,
) -> None:
    path, scratch = tmp_path / "file", tmp_path / "part"
    with pytest.raises(FileNotFoundError), completing_file(path, scratch) as file:  # noqa: PT012 (the block is the test)
        file.write(b"half")
        (tmp_path / "missing").read_bytes()
    assert scratch.read_bytes() == b"half"
    with completing_file(path, scratch) as file:
        assert file.read() == b"half"
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    path.unlink()
    path.mkdir()
    with pytest.raises(VggspecError, match="cannot be written"), completing_file(path, scratch):
        pass


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
    """Where two folders cannot change places in one step, nothing has the name for a moment."""
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
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    expected = VggspecError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replacing_folder(target) as folder:
        (folder / "new").touch()
    assert calls == 3
    assert os.listdir(target) == ["old"]
    assert os.listdir(tmp_path) == ["folder"]


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a scratch folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


def test_where_nothing_can_be_written_the_systems_folder_serves(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with scratch_folder(tmp_path / "file", ".D-") as folder:
        assert folder.is_dir()
        assert folder.is_relative_to(tempfile.gettempdir())
    assert not folder.exists()


def test_a_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".D-") as folder, scratch_folder(tmp_path, ".D-") as other:
        assert folder.parent == other.parent == tmp_path
        assert folder != other
        (folder / "file").touch()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ZeroDivisionError), scratch_folder(tmp_path, ".D-"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not BOOT_ID.exists(), reason="a kernel that does not tell when it was started")
def test_what_a_killed_process_left_goes_with_the_next_use(tmp_path: Path) -> None:
    """Its folder alone: not one in use, of another name, or of another machine."""
    stays = [".D-fp16-abc", ".D-0123456789abcdef0123456789abcdef-abc", "D"]
    for name in stays:
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    (killed, left), (alive, used) = holder(tmp_path), holder(tmp_path)
    killed.kill()
    killed.communicate()
    assert (left / "sub" / "file").exists()
    with scratch_folder(tmp_path, ".D-") as folder:
        assert {each.name for each in tmp_path.iterdir()} == {*stays, used.name, folder.name}
        assert (used / "sub" / "file").exists()
    alive.communicate("")
    assert alive.returncode == 0
    assert sorted(os.listdir(tmp_path)) == sorted(stays)
