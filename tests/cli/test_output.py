"""What commands write, wherever it goes: links, pipes, devices, a full disk, few letters."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.run import vggspec
from tests.nets import SMALL, net, random_weights
from tests.runtime.bundles import make
from vggspec.bundle.options import CompileOptions
from vggspec.cli import run
from vggspec.compiler.bundling.graph import write_bundle

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes, devices")

#: Commands that write a file, with the place for it.
WRITERS = {
    "init": ["init", "small.vgg", "-o", "{}"],
    "import": ["import", "small.vgg", "small.safetensors", "-o", "{}"],
    "compile": ["compile", "small.vgg", "--torch", "-o", "{}"],
    "show": ["show", "small.vgg", "--svg", "{}"],
    "features": ["features", "b", "--layer", "conv1_1", "--data", "images", "-o", "{}"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net, its weights, a bundle and images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("small.vgg").write_text(SMALL)
    lowered = net(SMALL)
    write_bundle(lowered, random_weights(lowered, Path("small.safetensors")), "b", CompileOptions())
    Path("images/val/a").mkdir(parents=True)
    Image.new("RGB", (300, 300)).save("images/val/a/1.png")
    return tmp_path


def write(command: str, place: str) -> bytes:
    """What the command writes into a file; then it is run with another place."""
    args = WRITERS[command]
    assert run([part.format("plain") for part in args]) == 0
    assert run([part.format(place) for part in args]) == 0
    return Path("plain").read_bytes()


@pytest.mark.parametrize("command", WRITERS)
def test_a_link_is_written_through(here: Path, command: str) -> None:
    Path("disk").mkdir()
    Path("link").symlink_to("disk/file")  # which is not there yet
    expected = write(command, "link")
    assert Path("link").is_symlink()
    assert Path("disk/file").read_bytes() == expected
    assert os.listdir("disk") == ["file"]
    if command != "init":  # it replaces nothing
        Path("disk/file").write_bytes(b"old")
        assert write(command, "link") == Path("disk/file").read_bytes() == expected
        assert Path("link").is_symlink()


@pytest.mark.parametrize("command", WRITERS)
def test_a_pipe_is_written_into(here: Path, command: str) -> None:
    os.mkfifo("pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_bytes()), daemon=True)
    reader.start()
    expected = write(command, "pipe")
    reader.join(60)
    assert read == [expected]
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


@pytest.mark.parametrize("command", WRITERS)
def test_a_device_stays_one(here: Path, command: str) -> None:
    try:
        os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.close(os.open("null", os.O_WRONLY))
    except PermissionError:
        pytest.skip("who is not root makes no devices")
    write(command, "null")
    assert stat.S_ISCHR(os.stat("null").st_mode)


def test_standard_output_gets_the_file_alone(here: Path) -> None:
    done = vggspec("compile", "small.vgg", "--torch", "-o", "/dev/stdout", cwd=here)
    assert (done.returncode, done.stderr) == (0, "/dev/stdout\n")
    assert run(["compile", "small.vgg", "--torch", "-o", "net.py"]) == 0
    assert done.stdout == Path("net.py").read_text()


def test_a_folder_is_replaced_where_a_link_leads(here: Path) -> None:
    Path("disk").mkdir()
    Path("b").rename("disk/b")
    Path("b").symlink_to("disk/b")
    before = os.stat("disk/b").st_ino
    assert run(["compile", "small.vgg", "--weights", "small.safetensors", "-o", "b"]) == 0
    assert Path("b").is_symlink()
    assert os.stat("disk/b").st_ino != before
    assert os.listdir("disk") == ["b"]
    Path("new").symlink_to("disk/new")
    assert run(["compile", "small.vgg", "--weights", "small.safetensors", "-o", "new"]) == 0
    assert Path("disk/new/manifest.json").is_file()


@pytest.mark.parametrize("place", ["pipe", "file", "images", "to-images"])
def test_nothing_but_a_bundle_is_replaced_by_one(here: Path, place: str) -> None:
    os.mkfifo("pipe")
    Path("file").touch()
    Path("to-images").symlink_to("images")
    assert run(["compile", "small.vgg", "--weights", "small.safetensors", "-o", place]) == 1
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    assert Path("file").is_file()
    assert os.listdir("images") == ["val"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_output_is_one_line(here: Path) -> None:
    for args in (["show", "small.vgg"], ["--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "vggspec", *args],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        words = "error: standard output cannot be written: no space left on device\n"
        assert (done.returncode, done.stderr) == (1, words)
    with open("/dev/full", "w") as full:  # notes are of less use than results
        done = subprocess.run(
            [sys.executable, "-m", "vggspec", "show", "small.vgg", "--svg", "out.svg"],
            stdout=subprocess.PIPE, stderr=full, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.startswith("small")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_what_an_encoding_lacks_is_written_as_numbers(tmp_path: Path, encoding: str) -> None:
    labels = ("好", "ä", "a", "b", "c")
    bundle = make(tmp_path / "b", labels=labels).path
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    command = [sys.executable, "-m", "vggspec", "predict", str(bundle), str(tmp_path / "1.png")]
    env = os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    for args in (["--top", "9"], ["--top", "9", "--json"]):
        done = subprocess.run([*command, *args], env=env, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        if "--json" in args:
            data = json.loads(done.stdout.decode("ascii"))
            assert {each["label"] for each in data[0]["top"]} == set(labels)
        elif encoding != "ascii":  # of which click thinks it is not meant
            assert "\\u597d" in done.stdout.decode(encoding)
            assert "ä" in done.stdout.decode(encoding)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize(
    "args",
    [
        ["predict", "{}/b", "{}/images/val/a/1.png"],
        ["eval", "{}/b", "--data", "{}/images", "--report", "{}/report"],
        ["features", "{}/b", "--layer", "conv1_1", "--data", "{}/images", "-o", "{}/f"],
        ["verify", "{}/b"],
        ["doctor", "{}/b"],
        ["inspect", "{}/b"],
        ["import", "{}/small.vgg", "{}/small.safetensors", "-o", "{}/i.safetensors"],
        ["merge", "{}/small.vgg", "--weights", "{}/small.safetensors", "-o", "{}/m.vgg"],
        ["compile", "{}/small.vgg", "--weights", "{}/small.safetensors", "-o", "{}/c"],
    ],
    ids=lambda args: args[0],
)
def test_a_folder_whose_name_is_no_text_does(
    here: Path, args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in (sys.stdout, sys.stderr):  # as `main` does
        stream.reconfigure(errors="backslashreplace")
    folder = os.fsdecode(b"lat\xe9n")
    os.mkdir(folder)
    for name in ("small.vgg", "small.safetensors"):
        shutil.copy(name, folder)
    for name in ("b", "images"):
        shutil.copytree(name, f"{folder}/{name}")
    Path(folder, "images/val/b").mkdir()
    Image.new("RGB", (300, 300)).save(f"{folder}/images/val/b/" + os.fsdecode(b"\xe9.png"))
    code = run([part.format(folder) for part in args])
    errors = capsys.readouterr().err
    # The classes of `eval` are not those of this net, which is its answer at any place.
    assert code == 0 or (args[0] == "eval" and "VGG69" in errors), errors
