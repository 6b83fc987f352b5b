"""``vggspec train``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.run import vggspec
from tests.train.folders import TINY, write_folder
from vggspec.cli import run
from vggspec.cli.train import duration, stop_on_signals
from vggspec.compiler.weights import open_weights

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.vgg`` and its images in ``images``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGGSPEC_DATA", raising=False)
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


def test_a_run_prints_the_path_of_the_best_weights(here: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--data", "images", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    best = Path(captured.out.strip())
    assert best.match("runs/tiny/20*-1/best.safetensors")
    open_weights(best)
    assert "3 classes, 30 training and 12 validation images" in captured.err
    assert "batch 8, momentum 0.9, weight-decay 0.0005, dropout 0.2, rate 0.01" in captured.err
    assert captured.err.count("\nepoch ") == 3
    assert f"vggspec compile tiny.vgg --weights {best}" in captured.err
    assert run(["train", "tiny.vgg", "--data", "images", "--device", "cpu"]) == 0
    assert Path(capsys.readouterr().out.strip()).parent.name.endswith("-2")
    assert run(["compile", "tiny.vgg", "-o", "bundle"]) == 0
    assert "-2/best.safetensors" in capsys.readouterr().err


def test_where_the_data_is(here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def data(*args: str) -> str:
        assert run(["train", *args, "--set", "stop=after 1 iterations", "--device", "cpu"]) == 0
        lines = capsys.readouterr().err.splitlines()
        return next(line for line in lines if line.startswith("data:")).split(",")[0].split()[1]

    assert run(["train", "tiny.vgg"]) == 1
    assert "VGG421" in capsys.readouterr().err
    write_folder(here / "data", train=1, val=1)
    assert data("tiny.vgg") == "data"
    monkeypatch.setenv("VGGSPEC_DATA", str(here / "images"))
    assert data("tiny.vgg") == str(here / "images")
    (here / "sub").mkdir()
    write_folder(here / "sub" / "pictures", train=1, val=1)
    (here / "sub" / "tiny.vgg").write_text(TINY.replace("train:", 'train:\n  data "pictures"'))
    assert data("sub/tiny.vgg") == "sub/pictures"
    assert data("sub/tiny.vgg", "--data", "data") == "data"


def test_settings_may_be_changed_for_a_run(here: Path, capsys: Captured) -> None:
    changes = ["rate=0.02", "decay=5 on plateau of 2 epochs, 4 times", "stop=after 1 epochs"]
    changes += ["dropout=0", "flip=off"]
    args = [part for change in changes for part in ("--set", change)]
    assert (
        run(["train", "tiny.vgg", "--data", "images", "-o", "out", "--device", "cpu", *args]) == 0
    )
    capsys.readouterr()
    record = json.loads(Path("out/run.json").read_text())
    recipe = record["recipe"]
    assert (recipe["rate"], recipe["decay"], recipe["patience"]) == (0.02, 5.0, 2)
    assert (recipe["decays"], recipe["epochs"], recipe["flip"]) == (4, 1, False)
    assert recipe["batch"] == 8  # as the spec says
    assert record["spec_text"].startswith(TINY.rstrip())
    assert "# --set rate=0.02" in record["spec_text"]


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("rate=fast", "VGG402"),
        ("dropout=1.5", "VGG403"),
        ("ratio=3", "VGG401"),
        ("scale=12", "VGG406"),
        ("rate", "VGG402"),
    ],
)
def test_a_wrong_setting_is_reported(here: Path, capsys: Captured, setting: str, code: str) -> None:
    assert run(["train", "tiny.vgg", "--data", "images", "--set", setting]) == 1
    err = capsys.readouterr().err
    assert code in err
    assert "--set" in err
    assert not Path("runs").exists()


def test_a_folder_with_files_is_not_written_into(here: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--data", "images", "-o", "images"]) == 1
    assert "VGG512" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(here: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "vggspec", "train", "tiny.vgg", "--data", "images"]
    command += ["-o", "out", "--device", "cpu", "--set", "stop=after 1000000 epochs"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        seen = iter(process.stderr)
        while not next(seen).startswith("epoch"):
            pass
        process.send_signal(number)
        rest = "".join(seen)
        assert process.wait() == 130
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert "interrupted at step" in rest
    assert "vggspec compile tiny.vgg --weights out/last.safetensors" in rest
    assert {path.name for path in Path("out").iterdir()} == {
        "best.safetensors", "last.safetensors", "log.jsonl", "run.json",
    }  # fmt: skip
    open_weights("out/last.safetensors")
    done = vggspec("compile", "tiny.vgg", "--weights", "out/last.safetensors", "-o", "b", cwd=here)
    assert done.returncode == 0, done.stderr


def test_a_second_signal_leaves_at_once() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_durations_are_short() -> None:
    assert [duration(s) for s in (8.4, 119, 7500, 3e5)] == ["8 s", "2 min", "2 h 05", "3 d 11 h"]
