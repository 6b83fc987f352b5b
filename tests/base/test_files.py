"""Files and folders are written whole or not at all, and what stood there before survives."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.refusals import refused
from vggspec.base import files
from vggspec.base.diagnostic import VggspecError
from vggspec.base.files import (
    BOOT_ID,
    completing_file,
    replacing_file,
    replacing_folder,
    restored_on_failure,
    write_files,
    write_text,
)

#: Fills a folder, names it, and holds it until its input ends.
HOLDER = """
import sys
from pathlib import Path
from vggspec.base.files import replacing_folder
with replacing_folder(Path(sys.argv[1])) as folder:
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


@pytest.mark.parametrize("old", ["old", None])
def test_a_file_is_put_back_if_what_follows_fails(old: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
        path.chmod(0o640)
        os.utime(path, (1, 1))
    with pytest.raises(ZeroDivisionError), restored_on_failure(path):  # noqa: PT012 (the block is the test)
        write_text(path, "new")
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    if old is not None:
        assert path.read_text() == old
        assert (path.stat().st_mode & 0o777, path.stat().st_mtime) == (0o640, 1)
    with restored_on_failure(path):
        write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_files_of_a_folder_with_others_are_written_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").symlink_to("/dev/full")
    for texts in ({"a": "new", "b": "new"}, {"b": "new", "a": "new"}):
        with refused("no space"):
            write_files(tmp_path, texts)
        assert (tmp_path / "a").read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["a", "b", "other"]


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
    with refused("cannot be written"), completing_file(path, scratch):
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
    """A process that writes the folder ``D``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(parent / "D")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


@pytest.mark.skipif(not BOOT_ID.exists(), reason="a kernel that does not tell when it was started")
def test_what_a_killed_process_left_goes_with_the_next_use(tmp_path: Path) -> None:
    """Its folder alone: not one in use, of another name, or of another machine."""
    stays = [".D-fp16-abc", ".D.0123456789abcdef0123456789abcdef-abc.tmp", "D"]
    for name in stays:
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
    (killed, left), (alive, used) = holder(tmp_path), holder(tmp_path)
    killed.kill()
    killed.communicate()
    assert (left / "sub" / "file").exists()
    with replacing_folder(tmp_path / "D") as folder:
        assert {each.name for each in tmp_path.iterdir()} == {*stays, used.name, folder.name}
        assert (used / "sub" / "file").exists()
    alive.communicate("")
    assert alive.returncode == 0
    assert sorted(os.listdir(tmp_path)) == sorted(stays)


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_loops_of_links_and_folders_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to-folder").symlink_to("folder")
    for name in ("loop", "folder", "to-folder", "loop/file"):
        with refused("cannot be written"):
            write_text(tmp_path / name, "new")
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "to-folder"]


def test_no_reader_finds_no_folder_or_a_mixture(tmp_path: Path) -> None:
    """What is read through an open folder is of one time."""
    target = tmp_path / "folder"
    if not can_exchange(tmp_path):
        pytest.skip("a system on which two folders cannot change places")
    fill(target, 0)
    is_over, seen, failures = threading.Event(), set(), []

    def read() -> None:
        while not is_over.is_set():
            try:
                folder = os.open(target, os.O_RDONLY)
                os.close(folder)
                seen.add((target / "one").stat().st_ino)
            except OSError as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 100):
        fill(target, number)
    is_over.set()
    for reader in readers:
        reader.join()
    # A file of the old folder may be gone between the two; the folder itself never is.
    assert [error for error in failures if str(error.filename) == str(target)] == []
    assert seen
    assert os.listdir(tmp_path) == ["folder"]


def fill(target: Path, number: int) -> None:
    with replacing_folder(target) as folder:
        for name in ("one", "two"):
            (folder / name).write_text(str(number))


def can_exchange(folder: Path) -> bool:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    try:
        return files.exchange(folder / "a", folder / "b")
    finally:
        (folder / "a").rmdir()
        (folder / "b").rmdir()


#: Replaces a folder again and again, each time in a process that is killed one call later.
KILLED = """
import os, signal, sys
from pathlib import Path
from vggspec.base import files
target, how = Path(sys.argv[1]), sys.argv[2]
if how == "renames":
    files.exchange = lambda one, other: False
def fill(text):
    with files.replacing_folder(target) as folder:
        for name in ("one", "two"):
            (folder / name).write_text(text)
def count_calls(at):
    calls = 0
    def counted(module, name):
        real = getattr(module, name)
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(module, name, call)
    for name in ("open", "replace", "mkdir", "rmdir", "unlink", "scandir", "close"):
        counted(os, name)
    counted(files, "exchange")
    counted(files.shutil, "copymode")
for at in range(1, 100):
    fill("old")
    child = os.fork()
    if not child:
        count_calls(at)
        fill("new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    left = [] if target.exists() else files.left_behind(target)
    assert how == "renames" or not left, at
    found, = left or [target]
    texts = [path.read_text() for path in found.iterdir()]
    assert texts in (["old"] * 2, ["new"] * 2), (at, texts)
    fill("next")
    assert os.listdir(target.parent) == [target.name], (at, os.listdir(target.parent))
    if status == 0:
        break
print(at)
"""


@pytest.mark.skipif(not BOOT_ID.exists(), reason="a kernel that does not tell when it was started")
@pytest.mark.parametrize("how", ["exchange", "renames"])
def test_who_is_killed_at_any_call_leaves_the_old_folder_or_the_new(
    tmp_path: Path, how: str
) -> None:
    """And the next one who writes there finds it again, and removes what else is left."""
    if how == "exchange" and not can_exchange(tmp_path):
        pytest.skip("a system on which two folders cannot change places")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "folder"), how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert 10 < int(done.stdout) < 99
