"""``vggspec train``."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

import vggspec as vggspec_package
from tests.cli.run import Started, start, vggspec
from tests.training.folders import (
    TINY,
    TO_BOXES,
    TO_SHARED_BOXES,
    write_annotated,
    write_folder,
)
from vggspec.base import interrupt
from vggspec.bundle.opening import open_bundle
from vggspec.cli import run
from vggspec.compiler.weights import open_weights
from vggspec.training.interruption import stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

Captured = pytest.CaptureFixture[str]
NAMES = {"best.safetensors", "checkpoints", "last.safetensors", "log.jsonl", "run.json"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.vgg`` and its images in ``images``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VGGSPEC_DATA", raising=False)
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


def test_a_run_prints_the_path_of_the_best_weights(here: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--data", "images"]) == 0
    captured = capsys.readouterr()
    best = Path(captured.out.strip())
    assert best.match("runs/tiny/20*-1/best.safetensors")
    open_weights(best)
    assert "3 classes, 30 training and 12 validation images" in captured.err
    words = " ".join(captured.err.split())
    assert "batch 8, momentum 0.9, weight-decay 0.0005, dropout 0.2, rate 0.01" in words
    assert captured.err.count("\nepoch ") == 3
    assert f"vggspec compile tiny.vgg --weights {best}" in captured.err
    assert run(["train", "tiny.vgg", "--data", "images"]) == 0
    assert Path(capsys.readouterr().out.strip()).parent.name.endswith("-2")
    assert run(["compile", "tiny.vgg", "-o", "bundle"]) == 0
    assert "-2/best.safetensors" in capsys.readouterr().err


def test_what_it_says_in_the_end_can_be_typed(here: Path, capsys: Captured) -> None:
    """Also where a run is repeated; and what comes out is a bundle, which cannot be trained."""
    stop = ["--set", "stop=after 1 iterations"]
    for spec, out in (("tiny.vgg", "first"), ("first", "a second")):
        assert run(["train", spec, "--data", "images", "-o", out, *stop]) == 0
        command = shlex.split(capsys.readouterr().err.splitlines()[-1])
        assert command[0] == "vggspec"
        assert run([*command[1:], "-o", f"{out} bundle"]) == 0
        capsys.readouterr()
    assert run(["train", "first bundle"]) == 2
    assert "`first bundle` is a bundle; name a spec" in capsys.readouterr().err


def test_a_quiet_run_prints_its_results_alone(here: Path, capsys: Captured) -> None:
    args = ["train", "tiny.vgg", "--data", "images", "-q", "--set", "stop=after 1 epochs"]
    assert run(args) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(r"best validation .* after epoch 1; .* in all\n", captured.err)
    assert run(["compile", "tiny.vgg", "-q"]) == 0
    assert capsys.readouterr() == ("tiny\n", "")


def test_the_command_that_compiles_avoids_folders_of_data(here: Path, capsys: Captured) -> None:
    """A folder of the net's name hides neither its spec nor its runs."""
    Path("images").rename("tiny")
    args = ["train", "tiny", "--data", "tiny", "--set", "stop=after 1 epochs"]
    for out in ("tiny-bundle", "tiny-bundle-2"):
        assert run(args) == 0
        command = shlex.split(capsys.readouterr().err.splitlines()[-1])
        assert command[-2:] == ["-o", out]
        assert run(command[1:]) == 0
        capsys.readouterr()
    assert run([*args[:4], "--resume", "--set", "stop=after 2 epochs"]) == 0
    assert "tiny.vgg" not in capsys.readouterr().err


def test_a_start_that_is_not_there_leaves_no_folder(here: Path, capsys: Captured) -> None:
    start = ["--set", 'start=from "other.vgg": first 1 conv']
    (here / "other.vgg").write_text(TINY.replace("net tiny", "net other"))
    for out in ([], ["-o", "out"]):
        assert run(["train", "tiny.vgg", "--data", "images", *start, *out]) == 1
        assert "error[VGG501]" in capsys.readouterr().err
    assert not Path("runs").exists()
    assert not Path("out").exists()


def test_where_the_data_is(here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def data(*args: str) -> str:
        assert run(["train", *args, "--set", "stop=after 1 iterations"]) == 0
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
    changes += ["dropout=0", "flip=off", "rate=of fc2 x 10", "freeze=up to pool1"]
    args = [part for change in changes for part in ("--set", change)]
    assert run(["train", "tiny.vgg", "--data", "images", "-o", "out", *args]) == 0
    capsys.readouterr()
    record = json.loads(Path("out/run.json").read_text())
    recipe = record["recipe"]
    assert (recipe["rate"], recipe["decay"], recipe["patience"]) == (0.02, 5.0, 2)
    assert (recipe["decays"], recipe["epochs"], recipe["flip"]) == (4, 1, False)
    assert recipe["batch"] == 8  # as the spec says
    assert recipe["rates_of"] == [["fc2", 10.0]]
    assert recipe["frozen"] == [{"after": 0, "up_to": "pool1"}]
    assert record["spec_text"].startswith(TINY.rstrip())
    assert "# --set rate=0.02" in record["spec_text"]


def test_a_run_is_repeated_from_its_folder_alone(here: Path, capsys: Captured) -> None:
    first = ["train", "tiny.vgg", "--data", "images", "--set", "batch=7", "--set", "start=glorot"]
    assert run([*first, "--seed", "5", "-o", "first"]) == 0
    Path("tiny.vgg").unlink()
    assert run(["train", "first", "-o", "again"]) == 0
    assert run(["train", "first", "-o", "other", "--seed", "6", "--set", "batch=8"]) == 0
    capsys.readouterr()
    one, again, other = (Path(name, "last.safetensors") for name in ("first", "again", "other"))
    assert one.read_bytes() == again.read_bytes()
    assert one.read_bytes() != other.read_bytes()
    records = [json.loads(Path(name, "run.json").read_text()) for name in ("first", "again")]
    timeless = [{k: v for k, v in record.items() if k != "result"} for record in records]
    assert timeless[0] == timeless[1]
    assert json.loads(Path("other/run.json").read_text())["recipe"]["batch"] == 8
    assert run(["train", "images", "-o", "third"]) == 2
    assert "`images` is a folder, but not that of a run" in capsys.readouterr().err


def test_the_newest_run_of_a_net_is_resumed(here: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--resume"]) == 1
    assert "VGG491" in capsys.readouterr().err
    short = ["train", "tiny.vgg", "--data", "images", "--set", "stop=after 2 iterations"]
    for _ in range(2):
        assert run(short) == 0
    assert run(["train", "tiny.vgg", "--resume", "--set", "stop=after 1 epochs"]) == 0
    captured = capsys.readouterr()
    assert "-2, resumed" in captured.err
    record = json.loads((Path(captured.out.split()[-1]).parent / "run.json").read_text())
    assert (record["result"]["step"], record["settings"]) == (4, ["stop=after 1 epochs"])


def test_two_processes_do_not_train_in_one_folder(here: Path, capsys: Captured) -> None:
    with started("-o", "out", *ENDLESS):
        assert run(["train", "out", "--resume"]) == 1
    assert "error[VGG495]" in capsys.readouterr().err


def test_dense_validation_sees_whole_images(here: Path) -> None:
    """The net's window is 16, the images are 19 high: what is seen differs, the weights do not."""
    args = ["tiny.vgg", "--data", "images", "--precision", "fp32"]
    for kind in ("crop", "dense"):
        assert run(["train", *args, "-o", kind, "--validate", kind]) == 0
    crop, dense = (Path(kind, "last.safetensors").read_bytes() for kind in ("crop", "dense"))
    assert crop == dense
    found = {}
    for kind in ("crop", "dense"):
        lines = Path(kind, "log.jsonl").read_text().splitlines()
        found[kind] = json.loads(lines[-1])["validation"]
    assert found["crop"]["loss"] != found["dense"]["loss"]

    module = vggspec_package.torch_module("tiny.vgg", "dense/last.safetensors", dense=True).eval()
    mean = torch.tensor(open_weights("dense/last.safetensors").metadata.mean)
    losses = []
    for path in sorted(Path("images/val").glob("*/*.png")):
        image = Image.open(path)
        scale = 19 / min(image.size)
        size = [round(side * scale) for side in image.size]
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
        x = ((torch.from_numpy(pixels) - mean) / 64).permute(2, 0, 1)[None]
        posterior = module(x)[0, ["blue", "green", "red"].index(path.parent.name)]
        losses.append(-float(posterior.detach().log()))
    assert np.mean(losses) == pytest.approx(found["dense"]["loss"], rel=1e-3)


@pytest.fixture
def annotated(here: Path) -> Path:
    """A folder with nets of boxes beside ``tiny.vgg``, and annotated images in ``boxes``."""
    for name, change in (("per-class", TO_BOXES), ("shared", TO_SHARED_BOXES)):
        text = TINY.replace("net tiny", f"net {name}").replace(*change)
        (here / f"{name}.vgg").write_text(text)
    write_annotated(here / "boxes")
    return here


def test_a_net_of_boxes_starts_from_one_that_classifies(annotated: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--data", "images"]) == 0
    start = open_weights(capsys.readouterr().out.strip())
    changes = ['start=from "tiny.vgg": all but last FC', "rate=1e-9", "stop=after 1 iterations"]
    sets = [part for change in changes for part in ("--set", change)]
    assert run(["train", "per-class.vgg", "--data", "boxes", *sets]) == 0
    captured = capsys.readouterr()
    assert "3 classes, 35 training and 14 validation examples" in captured.err
    assert "best validation error 100.00% after epoch 1" in captured.err
    weights = open_weights(captured.out.strip())
    for name in ("conv1_1.weight", "fc2.weight", "fc2.bias"):
        np.testing.assert_allclose(weights.read(name), start.read(name), atol=1e-6)
    assert weights.tensors["fc3.weight"].shape == (12, 8)
    assert run(["compile", "per-class.vgg", "-o", "bundle"]) == 0
    assert open_bundle("bundle").manifest.labels == ("blue", "green", "red")


def test_ranks_of_torchrun_find_the_boxes_that_one_device_finds(annotated: Path) -> None:
    """Batches that the ranks do not divide; of the last one, one example, the second has none."""
    args = ["per-class.vgg", "--data", "boxes", "--precision", "fp32"]
    args += ["--set", "stop=after 6 iterations", "--set", "batch=17"]
    assert run(["train", *args, "-o", "1"]) == 0
    one = open_weights("1/last.safetensors")
    validation = json.loads(Path("1/run.json").read_text())["result"]["best"]["validation"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "vggspec", "train", *args, "-o", "2", "--gpus", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2/best.safetensors\n"
    assert json.loads(Path("2/run.json").read_text())["computed"]["ranks"] == 2
    other = open_weights("2/last.safetensors")
    for name in one.tensors:
        np.testing.assert_allclose(other.read(name), one.read(name), rtol=1e-4, atol=2e-6)
    found = json.loads(Path("2/run.json").read_text())["result"]["best"]["validation"]
    assert found["class_errors"] == validation["class_errors"]
    assert found["errors"] == validation["errors"]
    assert found["loss"] == pytest.approx(validation["loss"], rel=1e-5)


def test_reading_annotations_shows_how_far_it_is(
    annotated: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggspec.cli.progress.FIRST_LINE_S", 0.0)
    args = ["--data", "boxes", "--set", "stop=after 1 iterations"]
    assert run(["train", "shared.vgg", *args]) == 0
    err = capsys.readouterr().err
    assert "annotations of train  30/30 images\n" in err
    assert "annotations of val  12/12 images\n" in err


def test_boxes_that_do_not_fit_leave_no_folder(annotated: Path, capsys: Captured) -> None:
    (annotated / "more.vgg").write_text(
        TINY.replace(*TO_BOXES).replace("FC-12(linear)", "FC-16(linear)")
    )
    for words, code in (
        (["more.vgg", "--data", "boxes"], "VGG684"),
        (["shared.vgg", "--data", "images"], "VGG681"),
        (["shared.vgg", "--data", "boxes", "--validate", "dense"], "VGG685"),
    ):
        assert run(["train", *words]) == 1
        assert f"error[{code}]" in capsys.readouterr().err
    (annotated / "boxes/annotations/instances_val.json").write_text("{")
    assert run(["train", "shared.vgg", "--data", "boxes"]) == 1
    assert "error[VGG682]" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_stage_may_be_changed_for_a_run(here: Path) -> None:
    """The line that it follows is in the spec."""
    stages = "  freeze up to pool1\n  after 2 epochs: free all\n  batch 8"
    Path("tiny.vgg").write_text(TINY.replace("  batch 8", stages))
    for change in ("after=1 epoch: free all", "freeze=up to conv1_1"):
        changes = ["--set", change, "--set", "stop=after 1 iterations"]
        assert run(["train", "tiny.vgg", "--data", "images", "-o", change[:5], *changes]) == 0
    after, freeze = (
        json.loads(Path(f"{out}/run.json").read_text())["recipe"]["frozen"]
        for out in ("after", "freez")
    )
    free = {"after": 1, "up_to": None}
    assert after == [{"after": 0, "up_to": "pool1"}, free]
    assert freeze == [{"after": 0, "up_to": "conv1_1"}, {**free, "after": 2}]


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("rate=fast", "VGG402"),
        ("dropout=1.5", "VGG403"),
        ("ratio=3", "VGG401"),
        ("scale=12", "VGG406"),
        ("rate", "VGG402"),
        ("rate=of fc3 x", "VGG402"),
        ("rate=of fc9 x 2", "VGG410"),
        ("freeze=up to fc3", "VGG411"),
        ("warm=up 3 epochs", "VGG409"),
        ("after=1 epoch: free all", "VGG409"),
    ],
)
def test_a_wrong_setting_is_reported(here: Path, capsys: Captured, setting: str, code: str) -> None:
    assert run(["train", "tiny.vgg", "--data", "images", "--set", setting]) == 1
    err = capsys.readouterr().err
    assert code in err
    is_about_it = code in ("VGG401", "VGG402", "VGG403", "VGG406")  # not also about the spec
    assert f"--> --set{f' {setting}' if is_about_it else ''}\n" in err
    assert not Path("runs").exists()


def test_a_folder_with_files_is_not_written_into(here: Path, capsys: Captured) -> None:
    assert run(["train", "tiny.vgg", "--data", "images", "-o", "images"]) == 1
    assert "VGG512" in capsys.readouterr().err


ENDLESS = ["--set", "stop=after 1000000 epochs"]


@contextlib.contextmanager
def started(*arguments: str, line: str = "epoch") -> "Iterator[Started]":
    """``vggspec train`` as a process, once it has told of its first epoch, or what another line
    begins with; killed in the end.
    """
    with start("train", "tiny.vgg", "--data", "images", *arguments) as process:
        try:
            seen = ""
            while not seen.rpartition(f"\n{line}")[1]:
                told = process.stderr.readline()
                assert told, seen
                seen += told
            yield process
        finally:
            for pid in children(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("ranks", "number", "ranks_then"),
    [
        (1, signal.SIGINT, 1),
        (2, signal.SIGTERM, 1),  # see `test_a_rank_that_is_killed_ends_the_run` for 1, 2
        pytest.param(1, signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_leaves(
    here: Path, number: signal.Signals, ranks: int, ranks_then: int
) -> None:
    with started("-o", "out", "--procs", f"{ranks}", *ENDLESS) as process:
        process.send_signal(number)
        out, rest = process.communicate()
        assert process.returncode == 128 + number, rest
    assert out == ""
    assert rest.count("interrupted at step") == 1
    go_on = rest.splitlines()[-1]
    assert go_on == f"vggspec train out --resume --data images --procs {ranks}"
    assert {path.name for path in Path("out").iterdir()} >= NAMES
    assert run(["compile", "tiny.vgg", "--weights", "out/last.safetensors", "-o", "b"]) == 0
    last = json.loads(Path("out/run.json").read_text())["result"]["step"]
    words = [*go_on.split()[1:-1], f"{ranks_then}"]
    assert run([*words, "--set", f"stop=after {last + 3} iterations"]) == 0
    assert json.loads(Path("out/run.json").read_text())["result"]["step"] == last + 3


def test_a_second_signal_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "ECHO_S", 60)  # however busy the machine is
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)  # as `timeout` does, which means one
        monkeypatch.setattr(interrupt, "ECHO_S", 0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_rank_that_is_done_ignores_signals_to_its_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with stop_on_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


#: What the paper does not do; every rank has the same mean of the weights.
BEYOND = """\
  nesterov
  warm up 1 epoch
  decay 2 at 2 epochs
  clip gradients 1
  average weights 0.9
  smooth labels 0.1
  freeze up to stem
  after 1 epoch: free all
  rate of fc3 x 2
  crop pad 2
  erase 0.5
  mixup 0.4
  cutmix 1.0
  classes balanced
  class weights red 2, blue 0.5
"""


@pytest.mark.parametrize("ranks", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_ranks_train_what_one_device_trains(here: Path, ranks: int) -> None:
    """Five steps of a graph with dropout, BN, a bad image, and batches that no number of ranks
    divides.

    The last batch is of two images, so the third rank has none.
    """
    graph = "conv3-4 BN as stem [conv3-4/2 BN + shortcut(pad)] [identity & from stem conv1-2/2 BN]"
    text = TINY.replace("conv3-4\nmaxpool", graph).replace("FC-8", "FC-8 BN")
    text = text.replace("  batch 8", f"{BEYOND}  batch 8")
    assert "stem" in text
    assert BEYOND in text
    Path("tiny.vgg").write_text(text)
    write_folder(here / "more", train=35, val=1)  # enough for a bad one
    Path("images").rename("few")
    Path("more").rename("images")
    Path("images/train/red/7.png").write_bytes(b"")
    changes = ["stop=after 5 iterations", "batch=103"]
    args = ["tiny.vgg", "--data", "images", *(part for c in changes for part in ("--set", c))]
    args += ["--precision", "fp32"]
    assert run(["train", *args, "-o", "1"]) == 0
    one = open_weights("1/last.safetensors")
    validation = json.loads(Path("1/run.json").read_text())["result"]["best"]["validation"]
    done = vggspec("train", *args, "-o", f"{ranks}", "--procs", f"{ranks}", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ranks}/best.safetensors\n"
    assert "Warning" not in done.stderr
    other = open_weights(f"{ranks}/last.safetensors")
    for name in one.tensors:
        mine, theirs = one.read(name), other.read(name)
        np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=2e-6, err_msg=name)
    found = json.loads(Path(f"{ranks}/run.json").read_text())["result"]["best"]["validation"]
    assert found["class_errors"] == validation["class_errors"]
    assert found["loss"] == pytest.approx(validation["loss"], rel=1e-5)
    assert json.loads(Path(f"{ranks}/run.json").read_text())["result"]["num_left_out"] == 1


def test_a_rank_that_is_killed_ends_the_run(here: Path) -> None:
    """One that two ranks resume after one has trained."""
    short = ["--set", "stop=after 1 iterations"]
    assert run(["train", "tiny.vgg", "--data", "images", "-o", "out", *short]) == 0
    with started("-o", "out", "--resume", "--procs", "2", *ENDLESS) as process:
        ranks = children(process.pid)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        out, rest = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert rest.count("error[") == 1
    assert "error[VGG483]: a rank was lost: rank 1 was ended by SIGKILL" in rest
    assert "Traceback" not in rest
    open_weights("out/last.safetensors")


def test_an_error_of_one_rank_is_reported_once(here: Path) -> None:
    """The second rank alone meets the bad images, all of them more than one in a hundred."""
    for path in list(Path("images/train/red").iterdir())[:3]:
        path.write_bytes(b"")
    done = vggspec("train", "tiny.vgg", "--data", "images", "--procs", "2", cwd=here)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("error[") == 1
    assert "error[VGG426]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_signal_before_the_first_epoch_is_one_line(here: Path) -> None:
    """However far the ranks have come by then."""
    args = ["train", "tiny.vgg", "--data", "images", "--procs", "2"]
    with start(*args, is_leader=True) as process:
        while len(children(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        out, rest = process.communicate()
    assert (process.returncode, out, rest) == (143, "", "interrupted by SIGTERM\n")
    assert not Path("runs").exists()


def test_a_second_signal_ends_all_ranks_at_once(here: Path) -> None:
    with started("-o", "out", "--procs", "2", *ENDLESS, line="ranks:") as process:
        ranks = children(process.pid)
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)  # they cannot save
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)  # of two at once the system delivers one
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted"  # the launcher says it for all
    assert rest.count("interrupted") == 1
    assert all(ends(rank) for rank in ranks)


@pytest.mark.slow  # see `test_a_rank_stops_when_its_launcher_has_ended`
def test_ranks_end_with_the_process_that_started_them(here: Path) -> None:
    with started("-o", "out", "--procs", "2", *ENDLESS) as process:
        ranks = children(process.pid)
        process.kill()
        assert all(ends(rank) for rank in ranks)


def test_data_that_does_not_fit_leaves_no_folder(here: Path, capsys: Captured) -> None:
    write_folder(here / "more")
    (here / "more/train/violet").mkdir()
    assert run(["train", "tiny.vgg", "--data", "more"]) == 1
    assert "VGG422" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_more_ranks_than_there_is_work_for(here: Path) -> None:
    args = ["tiny.vgg", "--data", "images", "--set", "batch=1"]
    done = vggspec("train", *args, "--procs", "2", cwd=here)
    assert done.returncode == 1
    assert "error[VGG481]: 2 ranks are requested, and there are 1 images in a batch" in done.stderr
    assert done.stderr.count("error[") == 1
    assert run(["train", *args, "--procs", "2", "--gpus", "2"]) == 2
    assert run(["train", *args, "--gpus", "2"]) in (1, 3)  # by whether there is one GPU


def test_a_port_in_use_is_named(here: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        environment = {
            "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        done = vggspec("train", "tiny.vgg", "--data", "images", cwd=here, env=environment)
    assert done.returncode == 1
    assert f"error[VGG482]: the ranks cannot meet at 127.0.0.1:{port}" in done.stderr
    assert "MASTER_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def ends(pid: int, within_s: float = 30.0) -> bool:
    """Whether a process comes to its end."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # and nobody asks what became of it
            return True
        time.sleep(0.05)
    return False


def children(pid: int) -> list[int]:
    """The processes that a process has started, in the order of their ranks."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (path / "environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == pid:
            rank = next((int(v[5:]) for v in environment if v.startswith(b"RANK=")), None)
            if rank is not None:
                found[rank] = int(path.name)
    return [found[rank] for rank in sorted(found)]


def test_which_weights_are_taken_is_said_and_can_be_chosen(here: Path, capsys: Captured) -> None:
    """After a throwaway run: `compile` and `start from` say so, and name the better ones."""
    assert run(["train", "tiny.vgg", "--data", "images"]) == 0
    good = Path(capsys.readouterr().out.strip())
    short = ["--set", "stop=after 1 iterations", "--set", "rate=1e-9"]
    assert run(["train", "tiny.vgg", "--data", "images", *short]) == 0
    throwaway = Path(capsys.readouterr().out.strip())
    assert throwaway.parent.name.endswith("-2")
    assert run(["compile", "tiny.vgg", "-o", "bundle"]) == 0
    compiled = capsys.readouterr().err
    start = ["train", "tiny.vgg", "--data", "images", "--set", 'start=from "tiny.vgg"', *short]
    assert run([*start, "-o", "deeper"]) == 0
    started = capsys.readouterr().err
    for word, text in (("weights", compiled), ("start from tiny", started)):
        lines = [line for line in text.splitlines() if line.startswith((word, "note: "))]
        assert lines[0].startswith(f"{word}: {throwaway}, validation error ")
        length = "1 step, by `--set 'stop=after 1 iterations'`"
        assert lines[1] == f"note: {throwaway.parent} was trained for {length}"
        assert lines[2].startswith(f"note: {good.parent} did better by far, validation error ")
        assert lines[2].endswith(f"to take it: --weights {good}")
    option = shlex.split(lines[2].partition("to take it: ")[2])
    assert run(["compile", "tiny.vgg", "-o", "bundle", *option]) == 0
    assert run([*start, "-o", "chosen", *option]) == 0
    assert f"start from tiny: {good}\n" in capsys.readouterr().err
    record = json.loads(Path("chosen/run.json").read_text())
    assert [each["weights"] for each in record["started_from"]] == [str(good.resolve())]
    assert run(["train", "tiny.vgg", "--data", "images", *option]) == 1
    assert "error[VGG408]" in capsys.readouterr().err


def test_a_repeated_run_begins_with_the_weights_that_it_started_from(
    here: Path, capsys: Captured
) -> None:
    """Resumed without a checkpoint, or repeated, whatever was trained since."""
    short = ["--data", "images", "--set", "stop=after 1 iterations"]
    assert run(["train", "tiny.vgg", *short, "-o", "first"]) == 0
    chosen = ["--set", 'start=from "tiny.vgg"', "--weights", "first/best.safetensors"]
    assert run(["train", "tiny.vgg", *short, *chosen, "-o", "out"]) == 0
    begun = json.loads(Path("out/run.json").read_text())["started_from"]
    best = open_weights("out/best.safetensors").metadata.data_sha256
    assert run(["train", "tiny.vgg", *short, "--seed", "1"]) == 0  # newer, under runs/
    newer = capsys.readouterr().out.split()[-1]
    shutil.rmtree("out/checkpoints")
    for args in (["--resume"], ["-o", "again"]):
        assert run(["train", "out", *args]) == 0
        at = Path(capsys.readouterr().out.strip()).parent
        assert json.loads((at / "run.json").read_text())["started_from"] == begun
        assert open_weights(at / "best.safetensors").metadata.data_sha256 == best
    shutil.rmtree("out/checkpoints")
    shutil.copy(newer, "first/best.safetensors")
    assert run(["train", "out", "--resume"]) == 1
    assert "the weights that it starts from are not those" in capsys.readouterr().err


def test_a_dry_run_prints_data_and_estimates(
    here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["train", "tiny.vgg", "--data", "images", "--dry-run", "-o", "dry"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for words in ("nothing suspicious", "12 steps in 3 epochs", "crops:  dry/crops.png", "memory:"):
        assert words in out
    assert {path.name for path in Path("dry").iterdir()} == {"crops.png", "images.png"}
    assert not Path("runs").exists()
    (here / "images" / "val" / "red" / "0.png").write_bytes(b"x")
    assert run(["train", "tiny.vgg", "--data", "images", "--dry-run", "-o", "dry"]) == 1
    assert "VGG426" in capsys.readouterr().out


def test_learning_a_few_images(here: Path, capsys: Captured) -> None:
    args = ["train", "tiny.vgg", "--data", "images", "--overfit", "6"]
    assert run(args) == 0
    assert "it has learned 6 images of 3 classes after" in capsys.readouterr().out
    assert run([*args, "--steps", "10", "--set", "rate=1e-9"]) == 1
    out = capsys.readouterr().out
    assert "it has not learned 6 images of 3 classes in 10 steps at rate 1e-09" in out
    assert "try\n" in out


def test_the_suggested_rate(here: Path, capsys: Captured) -> None:
    args = ["train", "tiny.vgg", "--data", "images", "--find-rate", "--steps", "30"]
    assert run(args) == 0
    assert "suggested: --set rate=" in capsys.readouterr().out
    assert run([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suggested"] > 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--dry-run", "--find-rate"], "exclude each other"),
        (["--dry-run", "--resume"], "--resume cannot be used with --dry-run"),
        (["--overfit", "3", "--procs", "2"], "--procs cannot be used with --overfit"),
        (["--overfit", "3", "-o", "x"], "--out cannot be used with --overfit"),
        (["--find-rate", "--gpus", "2"], "one device"),
        (["--steps", "3"], "--steps is for"),
        (["--json"], "--json is for"),
    ],
)
def test_options_that_a_rehearsal_does_not_take(
    args: list[str], words: str, here: Path, capsys: Captured
) -> None:
    assert run(["train", "tiny.vgg", *args]) == 2
    assert words in capsys.readouterr().err
