"""Whatever is read must be a file: a pipe, a socket or a device is an error, and never a wait."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.refusals import told
from tests.runtime.bundles import make
from vggspec.base.diagnostic import VggspecError
from vggspec.base.regular_files import open_file, read_file
from vggspec.bundle.manifest import MANIFEST, MODEL
from vggspec.bundle.opening import open_bundle
from vggspec.cli import run
from vggspec.compiler.weights import open_weights
from vggspec.data.annotated import open_annotated
from vggspec.data.annotation import BadAnnotationError
from vggspec.data.cache import recall, remember
from vggspec.data.coco import read_coco
from vggspec.data.decode import BadImageError
from vggspec.data.folder import FolderSplit
from vggspec.data.read import read_image
from vggspec.data.shards import read_classes
from vggspec.data.voc import read_voc
from vggspec.lang.loading import load
from vggspec.studies.features.file import open_features
from vggspec.studies.tasks.journal import journal
from vggspec.training.curves import read_log
from vggspec.training.record import read_record
from vggspec.training.runs import RECORD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes in the file system")

Refused = (VggspecError, BadAnnotationError, BadImageError, OSError)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A wait fails."""

    def late(_number: int, _frame: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def other(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Path]]:
    """Puts something else where a file is expected."""
    kept: list[socket.socket] = []

    def put(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "socket":
            kept.append(socket.socket(socket.AF_UNIX))
            inside = os.open(path.parent, os.O_RDONLY)  # names of sockets are short
            kept[-1].bind(f"/proc/self/fd/{inside}/{path.name}")
            os.close(inside)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        return path

    yield put
    for each in kept:
        each.close()


def _bundle_with(name: str) -> Callable[[Path, Callable[[Path], Path]], object]:
    def read(folder: Path, put: Callable[[Path], Path]) -> object:
        bundle = make(folder / "bundle").path
        put(bundle / name)
        return open_bundle(bundle)

    return read


def _listed(folder: Path, put: Callable[[Path], Path]) -> object:
    put(folder / "ImageSets" / "Main" / "val.txt")
    return open_annotated(folder)


def _image(folder: Path, put: Callable[[Path], Path]) -> object:
    put(folder / "a" / "1.png")
    return FolderSplit(folder, ("a",), np.zeros(1, np.int32), ["1.png"]).read(0)


def _journal(folder: Path, put: Callable[[Path], Path]) -> object:
    task: Any = None
    with journal(task, put(folder / "j")):
        return None


READERS: dict[str, Callable[[Path, Callable[[Path], Path]], object]] = {
    "any file": lambda folder, put: open_file(put(folder / "x")),
    "bytes": lambda folder, put: read_file(put(folder / "x"), 9),
    "manifest": _bundle_with(MANIFEST),
    "model": _bundle_with(MODEL),
    "weights": lambda folder, put: open_weights(put(folder / "w.safetensors")),
    "features": lambda folder, put: open_features(put(folder / "f.safetensors")),
    "spec": lambda folder, put: load(str(put(folder / "x.vgg"))),
    "image": lambda folder, put: read_image(put(folder / "x.png")),
    "image of a folder": _image,
    "XML": lambda folder, put: read_voc(put(folder / "x.xml")),
    "COCO": lambda folder, put: read_coco(put(folder / "x.json")),
    "list of images": _listed,
    "classes": lambda folder, put: read_classes(put(folder / "classes.txt").parent),
    "record": lambda folder, put: read_record(put(folder / RECORD).parent),
    "log": lambda folder, put: read_log(put(folder / "log.jsonl")),
    "journal": _journal,
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused(
    reader: str, other: Callable[[Path], Path], tmp_path: Path
) -> None:
    with pytest.raises(Refused) as error:
        READERS[reader](tmp_path, other)
    words = ("not a regular file", "directory", "has no")
    assert any(word in told(error.value) for word in words)


def test_what_is_no_file_was_not_remembered(
    other: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remember("test", [1], 2)
    assert recall("test", [1]) == 2
    for path in (tmp_path / "vggspec").iterdir():
        other(path)
    assert recall("test", [1]) is None


@pytest.mark.parametrize(
    "words",
    [
        ["check", "PIPE"],
        ["show", "PIPE"],
        ["import", "a.vgg", "PIPE"],
        ["import", "a.vgg", "PIPE", "--labels", "PIPE"],
        ["compile", "a.vgg", "--weights", "PIPE"],
        ["predict", "bundle", "PIPE"],
        ["predict", "PIPE", "x.png"],
        ["inspect", "PIPE"],
        ["verify", "PIPE"],
        ["train", "PIPE"],
        ["features", "bundle", "PIPE", "-o", "f.safetensors"],
        ["localise", "bundle", "PIPE"],
        ["eval", "bundle", "--data", "PIPE"],
    ],
    ids=lambda words: " ".join(words),
)
def test_commands_do_not_wait(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("a.vgg").write_text("net a\ninput 8x8 RGB\nconv3-4\nFC-3\nsoft-max\n")
    make(tmp_path / "bundle")
    assert run([word.replace("PIPE", "pipe") for word in words]) not in (0, None)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err


def test_a_link_in_a_ring_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to("x")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(tmp_path / "x")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    with pytest.raises(OSError, match="no file can have this name"):
        open_file(name)


def test_a_file_is_opened_through_links(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    (tmp_path / "y").symlink_to("x")
    assert read_file(tmp_path / "y", 3) == b"abc"
    with pytest.raises(OSError, match="too long"):
        read_file(tmp_path / "y", 2)
