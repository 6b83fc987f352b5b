"""``vggspec compile --trt`` as a user has it, with real builds by TensorRT-RTX."""

import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vggspec as front_door
from tests.cli.run import vggspec
from tests.nets import SMALL, net, random_weights
from vggspec.bundle.opening import open_bundle
from vggspec.runtime.machine import ask_driver

WITHOUT_GPU = pytest.mark.skipif(ask_driver() is not None, reason="this machine has a GPU")
TRT = ("--trt", "--trt-flavor", "tensorrt_rtx")

#: Without any TensorRT: as if neither were installed.
BARE = """
import sys
from vggspec.runtime.tensorrt import library as trt
trt.has_library = lambda name: False
from vggspec.cli import main
main()
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "small.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "small.safetensors")
    return tmp_path


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_engine_of_a_spec_that_says_how_it_is_tested(here: Path) -> None:
    (here / "small.vgg").write_text(SMALL + "\ntest:\n  scale 32, 40\n")
    done = vggspec("compile", "small.vgg", *TRT, "--precision", "fp16", "-o", "b", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b\n"
    lines = [line.split() for line in done.stderr.splitlines()]
    assert lines[1][:4] == ["profile", "min", "opt", "max"]
    assert [line[1:4] for line in lines[2:6]] == [
        ["1x32x32", "2x32x43", "8x32x64"],
        ["1x32x32", "2x43x32", "8x64x32"],
        ["1x40x40", "2x40x53", "8x40x80"],
        ["1x40x40", "2x53x40", "8x80x40"],
    ]
    assert done.stderr.splitlines()[6].startswith("TensorRT-RTX ")
    manifest = open_bundle(here / "b", deep=True).manifest
    assert manifest.engine is not None
    assert len(manifest.engine.profiles) == 4
    assert listing(here / "b") >= {"1/model.plan", "1/reference.onnx", "1/model.safetensors"}


def test_profiles_as_written(here: Path) -> None:
    profiles = ("1x32x32,1x48x48,2x64x64", "1x3x64x64,2x3x64x64,4x3x64x96")
    more = [word for profile in profiles for word in ("--profile", profile)]
    done = vggspec("compile", "small.vgg", *TRT, *more, "-o", "b", cwd=here)
    assert done.returncode == 0, done.stderr
    engine = open_bundle(here / "b").manifest.engine
    assert engine is not None
    assert [str(p) for p in engine.profiles] == [profiles[0], "1x64x64,2x64x64,4x64x96"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--profile", "1x32x32"), 1, "VGG601"),
        (("--profile", "1x16x16,1x32x32,1x32x32"), 1, "VGG610"),
        (("--keep-fp32", "conv1_7"), 1, "VGG603"),
        (("--capability", "9.0"), 1, "VGG605"),
        (("--precision", "bf16", "--capability", "7.5"), 1, "VGG605"),
        (("--hardware-compatible", "ampere_plus"), 1, "VGG605"),
        (("--version-compatible",), 1, "VGG605"),
        (("--single-file",), 2, "--single-file"),
        (("--torch",), 2, "--trt cannot be used with --torch"),
        (("--precision", "int8"), 2, "int8"),
        (("--opt-level", "9"), 2, "--opt-level"),
    ],
)
def test_what_cannot_be_built_is_said_and_nothing_is_written(
    options: tuple[str, ...], code: int, words: str, here: Path
) -> None:
    before = listing(here)
    done = vggspec("compile", "small.vgg", *TRT, *options, "-o", "b", cwd=here)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert words in done.stderr
    assert listing(here) == before


@WITHOUT_GPU
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--trt-flavor", "tensorrt"), "builds an engine on the GPU that will run it"),
        ((*TRT[1:], "--refittable"), "with `--refittable` TensorRT-RTX requires a GPU"),
        ((*TRT[1:], "--strip-weights"), "with `--strip-weights` TensorRT-RTX requires a GPU"),
    ],
)
def test_what_wants_a_gpu_is_said_before_the_build(
    options: tuple[str, ...], words: str, here: Path
) -> None:
    done = vggspec("compile", "small.vgg", "--trt", *options, "-o", "b", cwd=here)
    assert done.returncode == 1
    assert "VGG606" in done.stderr
    assert words in done.stderr
    assert "profile  min" not in done.stderr


def test_engine_options_want_an_engine(here: Path) -> None:
    for option in (["--max-batch", "2"], ["--tf32"], ["--capability", "8.9"], ["--opt-level", "0"]):
        done = vggspec("compile", "small.vgg", *option, "-o", "b", cwd=here)
        assert done.returncode == 2, option
        assert f"{option[0]} says how an engine is built: it requires --trt" in done.stderr


def test_without_tensorrt_one_line_says_what_to_install(here: Path) -> None:
    command = [sys.executable, "-c", BARE, "compile", "small.vgg", "--trt", "-o", "b"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert 'pip install "vggspec[rtx]"' in done.stderr
    assert not (here / "b").exists()


def test_the_classic_flavour_that_is_not_installed_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggspec.runtime.tensorrt import library as trt

    with pytest.raises(front_door.MissingLibraryError, match=r'pip install "vggspec\[trt\]"'):
        trt.load("tensorrt", "building an engine")
    (here / "tensorrt_rtx.py").write_text("raise ImportError('libtensorrt_rtx.so.1: too short')")
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    with pytest.raises(
        front_door.MissingLibraryError, match=r"\(libtensorrt_rtx.so.1: too short\)"
    ):
        trt.load("tensorrt_rtx", "building an engine")
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)


def test_an_fp16_graph_for_onnx_runtime_keeps_its_reference(here: Path) -> None:
    keep = ("--keep-fp32", "conv1_1")
    done = vggspec("compile", "small.vgg", "--precision", "fp16", *keep, "-o", "b", cwd=here)
    assert done.returncode == 0, done.stderr
    bundle = open_bundle(here / "b", deep=True)
    assert bundle.reference is not None
    assert (bundle.manifest.precision, bundle.manifest.fp32_layers) == ("fp16", ("conv1_1",))


def test_what_tensorrt_says_is_shown_when_asked(here: Path) -> None:
    quiet, loud = (
        vggspec("compile", "small.vgg", *TRT, *more, "-o", "b", cwd=here) for more in ((), ("-vv",))
    )
    assert "TensorRT verbose:" not in quiet.stderr
    assert "TensorRT verbose:" in loud.stderr


def test_a_terminal_sees_the_build_go_on(here: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "vggspec", "compile", "small.vgg", *TRT, "-o", "b"]
    process = subprocess.Popen(
        command,
        cwd=here,
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            data = os.read(leader, 4096)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(leader)
    assert process.wait() == 0
    assert "━".encode() in shown
    assert b"TensorRT-RTX" in shown


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_a_disk_that_fills_up_leaves_nothing(here: Path) -> None:
    before = listing(here)
    command = [sys.executable, "-m", "vggspec", "compile", "small.vgg", *TRT, "-o", "b"]
    done = subprocess.run(
        command, cwd=here, capture_output=True, text=True, check=False, preexec_fn=limit_files
    )
    assert done.returncode == 1
    assert "VGG511" in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(here) == before


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_build_that_is_interrupted_leaves_nothing(here: Path, number: signal.Signals) -> None:
    """While TensorRT builds: the plan's file is there, and empty."""
    text = SMALL.replace("FC-24", "FC-4096").replace("FC-10\n", "FC-4096\nFC-10\n")
    (here / "small.vgg").write_text(text)
    random_weights(net(text), here / "small.safetensors")
    before = listing(here)
    many = [f"--profile=1x32x{32 + i},2x32x{40 + i},4x32x{64 + i}" for i in range(20)]
    process = subprocess.Popen(
        [sys.executable, "-m", "vggspec", "compile", "small.vgg", *TRT, *many, "-o", "b"],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(here.glob(".b.*.tmp/1/model.plan")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (128 + number, "")
    assert "Traceback" not in stderr
    assert listing(here) == before


def test_a_failed_build_leaves_the_old_bundle(here: Path) -> None:
    assert vggspec("compile", "small.vgg", *TRT, "-o", "b", cwd=here).returncode == 0
    before = {path: (here / path).read_bytes() for path in listing(here)}
    data = bytearray((here / "small.safetensors").read_bytes())
    shutil.copy(here / "small.safetensors", here / "kept")
    data[-1] ^= 1
    (here / "small.safetensors").unlink()
    (here / "small.safetensors").write_bytes(data)
    done = vggspec("compile", "small.vgg", *TRT, "-o", "b", cwd=here)
    assert (done.returncode, "VGG507" in done.stderr) == (1, True)
    os.replace(here / "kept", here / "small.safetensors")
    assert {path: (here / path).read_bytes() for path in listing(here)} == before


def test_from_python(here: Path) -> None:
    out = front_door.compile(
        str(here / "small.vgg"),
        weights=here / "small.safetensors",
        out=here / "b",
        trt=True,
        flavour="tensorrt_rtx",
        precision="bf16",
        profiles=["1x32x32,1x32x32,2x64x64"],
        capabilities=["8.9"],
    )
    manifest = open_bundle(out).manifest
    assert manifest.engine is not None
    assert (manifest.precision, manifest.engine.capabilities) == ("bf16", ("8.9",))
    assert [str(p) for p in manifest.engine.profiles] == ["1x32x32,1x32x32,2x64x64"]
