"""``train`` as a call: what it returns, reports and raises, with one process or several."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from tests.refusals import refused
from tests.training.folders import TINY, write_folder
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.interrupt import LAUNCHER
from vggspec.base.watcher import Progress, Watcher
from vggspec.compiler.weights import open_weights
from vggspec.lang.packaged import find_packaged
from vggspec.training.launch import ending_with_launcher, is_launched_here
from vggspec.training.plan import TrainPlan
from vggspec.training.progress import Epoch, Step, TrainWatcher
from vggspec.training.rehearse import dry_run, find_rate, overfit
from vggspec.training.request import read_target
from vggspec.training.train import train


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``tiny.vgg`` and its images in ``images``."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


class Heard(TrainWatcher):
    def __init__(self) -> None:
        self.plans: list[TrainPlan] = []
        self.steps: list[Step] = []
        self.epochs: list[Epoch] = []

    def begin(self, plan: TrainPlan) -> None:
        self.plans.append(plan)

    def step(self, now: Step) -> None:
        self.steps.append(now)

    def epoch(self, now: Epoch) -> None:
        self.epochs.append(now)


@pytest.mark.parametrize("procs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_is_one_call(here: Path, procs: int) -> None:
    watch = Heard()
    result = train(here / "tiny.vgg", data="images", run="run", procs=procs, watch=watch)
    (plan,) = watch.plans
    assert (plan.net, plan.ranks, plan.begins) == ("tiny", procs, "new")
    assert (plan.train_images, plan.val_images) == (30, 12)
    assert [each.epoch for each in watch.epochs] == [1, 2, 3]
    assert result.best in watch.epochs
    assert (result.step, result.was_stopped, result.stopped_by) == (12, False, None)
    assert result.spec == str(here / "tiny.vgg")
    open_weights(result.weights)
    with refused("there is no training data"):
        train("tiny.vgg", data="none", procs=procs)


def test_a_net_with_branches_is_trained(here: Path) -> None:
    """Sums and joined channels are no modules; dropout in a branch is drawn all the same."""
    text = TINY.replace(
        "maxpool", "[conv3-4 dropout(0.2) conv3-4 + shortcut] x2 [conv1-2 & identity] maxpool", 1
    )
    assert text != TINY
    (here / "graph.vgg").write_text(text)
    watch = Heard()
    result = train(here / "graph.vgg", data="images", run="graph", gpus=0, watch=watch)
    assert [each.epoch for each in watch.epochs] == [1, 2, 3]
    weights = open_weights(result.weights)
    assert "block2_conv2.weight" in weights.tensors


def test_a_general_watcher_hears_of_steps(here: Path) -> None:
    heard: list[Progress] = []

    class General(Watcher):
        def progress(self, now: Progress) -> None:
            heard.append(now)

    train("tiny.vgg", data="images", gpus=0, watch=General())
    last = heard[-1]
    assert (last.doing, last.done, last.total, last.unit) == ("training", 12, 12, "steps")
    assert last.details[0] == "epoch 3"
    assert last.details[-1].startswith("error ")


def test_a_run_is_stopped_by_an_event_or_a_signal_and_resumed(here: Path) -> None:
    stop = Event()

    class Stopping(TrainWatcher):
        def epoch(self, now: Epoch) -> None:
            if now.epoch == 1:
                stop.set()
            else:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    result = train("tiny.vgg", data="images", run="run", gpus=0, watch=Stopping(), stop=stop)
    assert (result.was_stopped, result.stopped_by) == (True, None)
    assert result.step < 12
    result = train("run", resume=True, gpus=0, watch=Stopping())
    assert (result.was_stopped, result.stopped_by) == (True, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    watch = Heard()
    result = train("run", resume=True, gpus=0, watch=watch)
    assert watch.plans[0].begins == "resumed"
    assert (result.was_stopped, result.step) == (False, 12)
    assert Path(result.spec.rpartition(":")[0]).name == "tiny.vgg"


def test_ranks_are_stopped_by_an_event(here: Path) -> None:
    stop = Event()

    class Stopping(Heard):
        def epoch(self, now: Epoch) -> None:
            super().epoch(now)
            stop.set()

    settings, watch = ["stop=after 1000000 epochs"], Stopping()
    result = train("tiny.vgg", data="images", procs=2, settings=settings, watch=watch, stop=stop)
    (plan,) = watch.plans
    assert (plan.net, plan.ranks, plan.begins) == ("tiny", 2, "new")
    assert (plan.train_images, plan.val_images) == (30, 12)
    assert [each.epoch for each in watch.epochs] == [*range(1, len(watch.epochs) + 1)]
    assert result.best in watch.epochs
    assert (result.was_stopped, result.stopped_by) == (True, None)
    assert result.spec == "tiny.vgg"
    open_weights(result.weights)


def test_a_rank_stops_when_its_launcher_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for launcher, is_there in ((ended.pid, False), (os.getppid(), True)):
        monkeypatch.setenv(LAUNCHER, str(launcher))
        stop = Event()
        with ending_with_launcher(stop):
            assert stop.wait(2.0 if is_there else 60.0) is not is_there
    monkeypatch.delenv(LAUNCHER)
    with ending_with_launcher(Event()):
        assert not is_launched_here()


def test_wrong_arguments(here: Path) -> None:
    with pytest.raises(ArgumentError, match="give one of them"):
        train("tiny.vgg", procs=2, gpus=2)
    with pytest.raises(ArgumentError, match="a folder, but not that of a run"):
        train("images")
    assert not Path("runs").exists()


@pytest.mark.parametrize("content", [None, "train/cat/1.png", "manifest.json"])
def test_a_folder_that_is_no_run_does_not_hide_a_spec(here: Path, content: str | None) -> None:
    """Neither one of data nor a bundle: the file ``tiny.vgg``, else the packaged spec."""
    for name in ("tiny", "digits"):
        Path(name).mkdir()
        if content is not None:
            (Path(name) / content).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / content).touch()
    spec, record = read_target("tiny")
    assert (spec.source.name, record) == ("tiny.vgg", None)
    assert read_target("digits")[0].source.name == find_packaged("digits")


def test_one_setting_and_one_weights_file_need_no_list(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused("VGG402(.|\n)*rate=fast"):
        train("tiny.vgg", settings="rate=fast")
    for call in (dry_run, find_rate):
        with refused("VGG402(.|\n)*rate=fast"):
            call("tiny.vgg", settings="rate=fast")
    with refused("VGG402(.|\n)*rate=fast"):
        overfit("tiny.vgg", 1, settings="rate=fast")


def test_the_seed_of_a_record_is_a_number(here: Path) -> None:
    given: Any = {"seed": np.int64(1), "settings": "stop=after 1 iterations"}
    result = train("tiny.vgg", data="images", run="run", **given)
    assert json.loads((result.run / "run.json").read_text())["seed"] == 1


def test_mistakes_are_found_without_pytorch(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with refused("VGG402"):
        train("tiny.vgg", settings=["rate=fast"])


def test_a_run_lists_the_images_that_it_keeps_apart(here: Path) -> None:
    """Repeated with another seed it has the same ones; resumed with another share it is refused."""
    settings = ["validate=on 20%", "stop=after 1 iterations"]
    watch = Heard()
    train("tiny.vgg", data="images/train", run="run", settings=settings, watch=watch)
    (plan,) = watch.plans
    assert (plan.train_images, plan.val_images) == (24, 6)
    kept = (here / "run" / "validation.txt").read_text().splitlines()
    assert Counter(name.split("/")[0] for name in kept) == {"blue": 2, "green": 2, "red": 2}
    assert all((here / "images" / "train" / name).is_file() for name in kept)
    train("run", run="again", seed=7)
    assert (here / "again" / "validation.txt").read_text().splitlines() == kept
    with refused("train validate_on: 0.2 in the run, 0.3 here"):
        train("run", run="run", resume=True, settings=["validate=on 30%"])


def test_an_unknown_class_is_found_before_a_folder_is_made(here: Path) -> None:
    for settings in (["class=weights blu 2"], ["class=weights cat 2", "stop=after 1 epochs"]):
        with refused("VGG412"):
            train("tiny.vgg", data="images", run="run", settings=settings)
        assert not (here / "run").exists()
