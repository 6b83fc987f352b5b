"""Runs that are cut off and resumed, against runs that were left alone."""

import json
import os
import random
import re
import time
from errno import ENOSPC
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from tests.cli.run import start, vggspec
from tests.nets import net
from tests.peers import torchvision_models
from tests.refusals import refused
from tests.training.folders import JOINED, RESIDUAL, TINY, picture, tiny, write_folder
from vggspec.base.catalogue import artefacts, runs
from vggspec.base.catalogue import data as catalogue
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import open_weights
from vggspec.training.checkpoint import MOMENTUM, WEIGHTS, read_checkpoint
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.loop import Options, fit
from vggspec.training.optimisers import Sgd
from vggspec.training.progress import Epoch, Step, TrainResult, TrainWatcher
from vggspec.training.record import read_record, save_record
from vggspec.training.trainable import training_network

CPU = Options(gpus=0)
LONG = ("stop after 3 epochs", "stop after 12 epochs")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data(write_folder(tmp_path_factory.mktemp("data")), tiny().network)


class StopAt(TrainWatcher):
    """Stops a run after a number of steps."""

    def __init__(self, step: int) -> None:
        self.stop = Event()
        self._step = step

    def step(self, now: Step) -> None:
        if now.step >= self._step:
            self.stop.set()

    def epoch(self, now: Epoch) -> None:
        self.step(now)  # type: ignore[arg-type]


def go_on(
    run: Path, data: DataSet, lowered: Lowered, stop_at: int | None = None, options: Options = CPU
) -> TrainResult:
    watch = StopAt(stop_at or 10**9)
    is_resumed = run.exists()
    run.mkdir(exist_ok=True)
    return fit(lowered, data, run, options, is_resumed=is_resumed, stop=watch.stop, watch=watch)


def epochs(run: Path) -> list[dict[str, object]]:
    """What the log says of the epochs, but for how fast they were."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = ("step", "epoch", "loss", "validation", "rate", "is_best", "num_left_out")
    return [{key: line[key] for key in kept} for line in lines if "validation" in line]


def state(run: Path, lowered: Lowered) -> dict[str, object]:
    """The state of the newest checkpoint, but for what time it took."""
    checkpoint = read_checkpoint(run, training_network(lowered))
    assert checkpoint is not None
    table = checkpoint.state.as_json()
    of_time = ("seconds", "log_bytes", "best")  # the best epoch is in the log
    return {key: value for key, value in table.items() if key not in of_time}


def assert_same(one: Path, other: Path, lowered: Lowered | None = None) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    ours, theirs = (
        open_weights(next((run / "checkpoints").iterdir()) / MOMENTUM) for run in (one, other)
    )
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name in ours.tensors:
        np.testing.assert_array_equal(ours.read(name), theirs.read(name))
    assert epochs(one) == epochs(other)
    lowered = lowered or tiny()
    assert state(one, lowered) == state(other, lowered)


#: Everything beyond the paper that two recipes can have.
ADAMW = """\
  optimiser adamw
  warm up 2 epochs
  decay cosine
  clip gradients 0.5
  average weights 0.9
  smooth labels 0.1
"""
NESTEROV = """\
  nesterov
  decay 3 at 2, 5, 9 epochs
  average weights 0.99
  stop when no better for 12 epochs
"""
#: Of the residual net; the second stage begins in the middle of the run.
STAGED = """\
  rate 1e-2
  freeze up to block2_add_relu
  freeze batch norm
  after 2 epochs: freeze up to conv1_1
  after 6 epochs: free all
  rate of fc2 x 3
"""
#: What is drawn and mixed beyond the paper.
DRAWN = """\
  crop pad 2
  erase 0.5
  mixup 0.4
  cutmix 1.0
  classes balanced
  class weights red 2, blue 0.5
"""
AREA = """\
  scale 20%..100% of area
  randaugment 2 magnitude 9
  cutmix 1.0
  class weights balanced
"""
RECIPES = {
    "column": TINY,
    "drawn": TINY.replace("  batch 8\n", f"  batch 8\n{DRAWN}"),
    "area": TINY.replace("  scale 18..20\n", AREA),
    "residual": RESIDUAL,
    "joined": JOINED,
    "staged": RESIDUAL.replace("  rate 1e-2\n", STAGED),
    "adamw": RESIDUAL.replace("  rate 1e-2\n", ADAMW),
    "nesterov": TINY.replace("  batch 8\n", f"  batch 8\n{NESTEROV}"),
}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_a_run_in_parts_gives_the_bits_of_the_whole(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Stopped in the middle of epochs, where one step more or less would show."""
    monkeypatch.setattr("vggspec.training.meter.LOOK_SECONDS", 0.0)
    if "randaugment" in text:
        torchvision_models()
    lowered = net(text.replace(*LONG), "tiny.vgg")
    whole = go_on(tmp_path / "whole", data, lowered)
    assert whole.step == 48
    parts = [go_on(tmp_path / "parts", data, lowered, stop_at) for stop_at in (1, 2, 7, 17, 30)]
    assert all(part.was_stopped for part in parts)
    assert [part.step for part in parts] == [2, 4, 8, 18, 31]  # the step at hand is finished
    done = go_on(tmp_path / "parts", data, lowered)
    assert not done.was_stopped
    assert_same(tmp_path / "whole", tmp_path / "parts", lowered)
    again = go_on(tmp_path / "parts", data, lowered)
    assert (again.step, again.was_stopped) == (48, False)
    assert again.best == done.best


def test_a_run_that_was_killed_three_times_gives_the_bits_of_the_whole(
    data: DataSet, tmp_path: Path
) -> None:
    """``kill -9`` at moments that chance picks, checkpoints all the time."""
    (tmp_path / "tiny.vgg").write_text(tiny().spec.source.text)
    args = ["train", "tiny.vgg", "--data", str(data.root)]
    args += ["--set", "stop=after 10 epochs", "--resume", "--save-every", "0", "-o"]
    assert vggspec(*args, "whole", cwd=tmp_path).returncode == 0
    folder = tmp_path / "parts" / "checkpoints"
    moment = random.Random(5)
    for _ in range(3):
        before = steps(folder)
        with start(*args, "parts", cwd=tmp_path) as process:
            while steps(folder) <= before + moment.randrange(2, 7):
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.002)
            time.sleep(moment.random() * 0.02)
    reached = steps(folder)
    assert 9 <= reached < 40
    done = vggspec(*args, "parts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "parts, resumed" in done.stderr
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert [path.name for path in folder.iterdir()] == ["000000040-epoch"]  # no half ones either


def steps(checkpoints: Path) -> int:
    """How many steps the newest whole checkpoint has behind it."""
    if not checkpoints.is_dir():
        return 0
    names = [re.match(r"\d+", path.name) for path in checkpoints.iterdir()]
    return max((int(name[0]) for name in names if name), default=0)


def test_the_result_is_the_mean_of_the_weights(data: DataSet, tmp_path: Path) -> None:
    """The net of the files is another than the one that is trained, which is kept."""
    run = tmp_path / "run"
    lowered = net(RECIPES["nesterov"], "tiny.vgg")
    go_on(run, data, lowered)
    folder = next((run / "checkpoints").iterdir())
    mean, kept = open_weights(folder / WEIGHTS), open_weights(folder / MOMENTUM)
    trained = {name for name in kept.tensors if name.startswith("trained/")}
    assert trained == {f"trained/{name}" for name in mean.tensors}
    weight = next(name for name in mean.tensors if name.endswith("weight"))
    assert not np.array_equal(mean.read(weight), kept.read(f"trained/{weight}"))


def test_a_run_ends_when_it_is_no_better(data: DataSet, tmp_path: Path) -> None:
    """A rate too low to change the loss: an early epoch stays the best, and the run is over."""
    change = "  rate 1e-12\n  stop when no better for 2 epochs\n"
    lowered = net(TINY.replace("  rate 1e-2\n", change).replace(*LONG), "tiny.vgg")
    watch = StopAt(10**9)
    run = tmp_path / "run"
    run.mkdir()
    notes: list[str] = []
    watch.note = notes.append  # type: ignore[method-assign]
    done = fit(lowered, data, run, CPU, is_resumed=False, stop=watch.stop, watch=watch)
    assert done.best is not None
    assert len(epochs(run)) == done.best.epoch + 2 < 12
    assert not done.was_stopped
    assert notes[-1] == f"training ended: no better for 2 epochs than epoch {done.best.epoch}"
    again = go_on(run, data, lowered)
    assert (again.step, again.was_stopped) == (done.step, False)


def test_a_cosine_of_another_length_is_another_run(data: DataSet, tmp_path: Path) -> None:
    """Its rates depend on the end, which other schedules may move."""
    cosine = ("rate 1e-2", "rate 1e-2\n  decay cosine")
    go_on(tmp_path / "run", data, tiny(cosine))
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", data, tiny(cosine, LONG))
    (found,) = caught.value.reports
    assert isinstance(found.what, runs.OtherRun)
    assert found.what.differences == ("train epochs: 3 in the run, 12 here",)


def test_a_longer_run_goes_on_from_a_shorter_one(data: DataSet, tmp_path: Path) -> None:
    go_on(tmp_path / "whole", data, tiny(LONG))
    go_on(tmp_path / "parts", data, tiny())
    longer = go_on(tmp_path / "parts", data, tiny(LONG))
    assert longer.step == 48
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_run_of_an_earlier_version_goes_on(data: DataSet, tmp_path: Path) -> None:
    """Its record says nothing of settings that there were not then."""
    go_on(tmp_path / "run", data, tiny(("after 3 epochs", "after 1 epochs")))
    record = read_record(tmp_path / "run")
    del record["test"]["resize"]
    for added in (
        "optimiser", "nesterov", "betas", "clip_gradients", "average_weights", "smooth_labels",
        "warm_up", "schedule", "decay_at", "no_better", "frozen", "freeze_batch_norm", "rates_of",
    ):  # fmt: skip
        del record["recipe"][added]
    save_record(tmp_path / "run", record)
    assert go_on(tmp_path / "run", data, tiny(("after 3 epochs", "after 2 epochs"))).step == 8


def test_names_that_a_crash_left_out_are_made_again(data: DataSet, tmp_path: Path) -> None:
    """The checkpoint is whole; ``last`` and ``best`` had not yet become its weights."""
    done = go_on(tmp_path / "run", data, tiny(("after 3 epochs", "after 1 epochs")))
    assert done.best is not None
    names = [tmp_path / "run" / f"{name}.safetensors" for name in ("last", "best")]
    whole = [path.read_bytes() for path in names]
    names[0].unlink()
    names[1].unlink()
    names[1].write_bytes(b"of an epoch before")
    go_on(tmp_path / "run", data, tiny(("after 3 epochs", "after 1 epochs")))
    assert [path.read_bytes() for path in names] == whole


def test_weights_of_epochs_are_kept_when_asked_for(data: DataSet, tmp_path: Path) -> None:
    go_on(tmp_path / "run", data, tiny(LONG), options=Options(gpus=0, keep_every=5))
    kept = sorted(path.name for path in (tmp_path / "run").glob("epoch-*"))
    assert kept == ["epoch-005.safetensors", "epoch-010.safetensors"]
    other = go_on(tmp_path / "other", data, tiny(("after 3 epochs", "after 5 epochs")))
    first = (tmp_path / "run" / kept[0]).read_bytes()
    assert first == (other.run / "last.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (("rate 1e-2", "rate 2e-2"), CPU, "train rate: 0.01 in the run, 0.02 here"),
        (("conv3-4", "conv5-4"), CPU, "conv1_1: conv5-4 is in the spec, not in the run"),
        (("RGB(std 64)", "RGB(std 32)"), CPU, "input std"),
        (("scale 19", "scale 20"), CPU, "test scales"),
        (("", ""), Options(gpus=0, seed=1), "--seed: 0 in the run, 1 here"),
        (("", ""), Options(gpus=0, validate="dense"), 'validate: "crop" in the run, "dense" here'),
        (("", ""), Options(gpus=0, precision="bf16"), 'precision: "fp32" in the run, "bf16" here'),
    ],
)
def test_another_spec_or_option_is_refused(
    data: DataSet, tmp_path: Path, change: tuple[str, str], options: Options, told: str
) -> None:
    go_on(tmp_path / "run", data, tiny(), 5)
    before = snapshot(tmp_path / "run")
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", data, tiny(change), options=options)
    what = caught.value.reports[0].what
    assert isinstance(what, runs.OtherRun | artefacts.OtherWeights)
    assert told in (what.help() or "") or isinstance(what, artefacts.OtherWeights)
    assert snapshot(tmp_path / "run") == before


def test_other_data_is_refused(data: DataSet, tmp_path: Path) -> None:
    go_on(tmp_path / "run", data, tiny(), 5)
    other = write_folder(tmp_path / "other")
    picture((9, 9, 9), (21, 30), 1).save(other / "train" / "red" / "more.png")
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", open_data(other, tiny().network), tiny())
    what = caught.value.reports[0].what
    assert isinstance(what, runs.OtherRun)
    assert "other are not those of" in what.differences[-1]


def test_images_that_were_added_are_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    go_on(tmp_path / "run", open_data(folder, tiny().network), tiny(), 5)
    picture((9, 9, 9), (21, 30), 1).save(folder / "train" / "red" / "more.png")
    with refused(f"images in {folder} were added, removed or changed since the run began"):
        go_on(tmp_path / "run", open_data(folder, tiny().network), tiny())


@pytest.mark.parametrize("name", [WEIGHTS, MOMENTUM])
@pytest.mark.parametrize("size", [0, 7, 300, -100])
def test_a_checkpoint_that_was_cut_off_is_refused(
    data: DataSet, tmp_path: Path, name: str, size: int
) -> None:
    go_on(tmp_path / "run", data, tiny(), 5)
    file = next((tmp_path / "run" / "checkpoints").iterdir()) / name
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:size])
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", data, tiny())
    assert isinstance(caught.value.reports[0].what, artefacts.BadWeightsFile)
    assert str(file) in str(caught.value.reports[0])


def test_a_checkpoint_of_two_moments_is_refused(data: DataSet, tmp_path: Path) -> None:
    go_on(tmp_path / "a", data, tiny(), 5)
    go_on(tmp_path / "b", data, tiny(), 9)
    a, b = (next((tmp_path / run / "checkpoints").iterdir()) for run in "ab")
    (a / WEIGHTS).unlink()
    (a / WEIGHTS).write_bytes((b / WEIGHTS).read_bytes())
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "a", data, tiny())
    assert isinstance(caught.value.reports[0].what, runs.BadCheckpoint)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seed": 1}', '{"seed": "1", "settings": 3}'])
def test_a_damaged_record_is_refused(data: DataSet, tmp_path: Path, text: str) -> None:
    go_on(tmp_path / "run", data, tiny(), 5)
    (tmp_path / "run" / "run.json").write_text(text)
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", data, tiny())
    assert isinstance(caught.value.reports[0].what, runs.BadRecord)


def test_a_full_disk_leaves_the_old_checkpoint(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered, run = tiny(LONG), tmp_path / "run"
    go_on(tmp_path / "whole", data, lowered)
    go_on(run, data, lowered, 5)
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    folders = [path.name for path in (run / "checkpoints").iterdir()]

    def full(descriptor: int) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vggspec.base.files.os.fsync", full)
        with pytest.raises(VggspecError) as caught:
            go_on(run, data, lowered)
    what = caught.value.reports[0].what
    assert isinstance(what, artefacts.CannotWrite)
    assert "no space left" in what.reason
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    assert [path.name for path in (run / "checkpoints").iterdir()] == folders
    go_on(run, data, lowered)
    assert_same(tmp_path / "whole", run)


def test_bad_images_are_remembered(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=60, val=15)
    bad = root / "train/red" / os.fsdecode(b"\xe9.png")  # no text
    (root / "train/red/0.png").unlink()
    bad.write_bytes(b"")
    lowered = tiny()
    data = open_data(root, lowered.network)
    go_on(tmp_path / "run", data, lowered, 25)  # in the second epoch
    (tmp_path / "link").symlink_to(root)  # another path to the same images
    done = go_on(tmp_path / "run", open_data(tmp_path / "link", lowered.network), lowered)
    assert done.num_left_out == 1
    (line,) = read_record(tmp_path / "run")["result"]["left_out"]
    assert line.startswith(f"{tmp_path / 'link' / 'train/red' / bad.name}: ")
    (root / "train/red/1.png").write_bytes(b"")  # of the same name and another size
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", open_data(root, lowered.network), lowered)
    assert isinstance(caught.value.reports[0].what, runs.OtherRun)


def test_a_diverged_run_keeps_its_last_good_checkpoint(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = tiny(LONG)
    first = go_on(tmp_path / "run", data, lowered, 5)
    before = snapshot(tmp_path / "run")
    monkeypatch.setattr("vggspec.training.optimisers.Sgd.update", _explode)
    with pytest.raises(VggspecError) as caught:
        go_on(tmp_path / "run", data, lowered)
    what = caught.value.reports[0].what
    assert isinstance(what, catalogue.Diverged)
    assert what.step == first.step + 2  # the one after the first that is too long
    after = snapshot(tmp_path / "run")
    kept = [name for name in before if name.endswith(".safetensors")]
    assert len(kept) == 4
    assert all(after[name] == before[name] for name in kept)


def _explode(optimiser: Sgd, names: list[str], rate: float) -> None:
    for name in names:
        parameter = optimiser._parameters[name]
        parameter.data.fill_(rate * float("inf"))


def snapshot(run: Path) -> dict[str, bytes]:
    """The files of a run, but for what a picture or TensorBoard shows of it."""
    files = [path for path in run.rglob("*") if path.is_file() and "tfevents" not in path.name]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}
