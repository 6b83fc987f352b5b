"""The training loop on a net and a data set so small that a run takes a second."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing import resource_sharer
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.refusals import refused
from tests.training.folders import picture, tiny, write_folder
from vggspec.base.catalogue import data as catalogue
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.lower import Lowered
from vggspec.compiler.weights import open_weights
from vggspec.training.augment import CentreCrops, TrainCrops
from vggspec.training.batches import Batch, Loader, Normalise, _begin
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.device import pick_device
from vggspec.training.images import Images
from vggspec.training.loop import Options, fit
from vggspec.training.order import BatchesInOrder, ShuffledBatches
from vggspec.training.progress import Epoch, Step, TrainResult, TrainWatcher
from vggspec.training.ranks import Ranks
from vggspec.training.start import initial_weights
from vggspec.training.state import Plateau
from vggspec.training.trainable import training_network

CPU = torch.device("cpu")
NAMES = {
    "best.safetensors", "checkpoints", "curves.png", "last.safetensors", "log.jsonl", "run.json",
    "tensorboard",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root = write_folder(tmp_path_factory.mktemp("data"))
    return open_data(root, tiny().network)


def train(
    lowered: Lowered, data: DataSet, run: Path, seed: int = 0, workers: int | None = None
) -> TrainResult:
    run.mkdir()
    return fit(lowered, data, run, Options(seed=seed, gpus=0, workers=workers))


def test_the_rate_falls_when_accuracy_stops_improving() -> None:
    plateau = Plateau(rate=1.0, decay=10.0, decays_left=2, patience=2)
    # accuracy      .5   .6   .6   .55  .7   .7   .6   .65  .7   .7   .8
    # waited         0    0    1    2→0  0    1    2→0  1    2    3    0
    accuracies = [0.5, 0.6, 0.6, 0.55, 0.7, 0.7, 0.6, 0.65, 0.7, 0.7, 0.8]
    rates = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01]
    assert [plateau.after(accuracy) for accuracy in accuracies] == pytest.approx(rates)


@pytest.mark.curves
def test_a_run_leaves_weights_a_log_and_a_record(data: DataSet, tmp_path: Path) -> None:
    lowered = tiny()
    result = train(lowered, data, tmp_path / "run")
    names = {path.name for path in result.run.iterdir()}
    assert names == NAMES
    assert not result.was_stopped
    assert result.step == 3 * 4  # 30 images in batches of 8: the last one of 6
    assert result.best is not None
    assert result.best.validation.errors["top-1"] < 0.2
    assert result.best.validation.errors["top-5"] == 0.0

    record = json.loads((result.run / "run.json").read_text())
    assert record["spec_text"] == lowered.spec.source.text
    assert record["recipe"]["batch"] == 8
    assert record["data"]["fingerprint"] == data.fingerprint
    assert record["data"]["classes"] == ["blue", "green", "red"]
    assert record["versions"]["torch"] == torch.__version__
    best = record["result"]["best"]
    assert best["validation"]["errors"] == result.best.validation.errors
    log = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    epochs = [line for line in log if "validation" in line]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert epochs[-1]["step"] == 12


@pytest.mark.parametrize("more", ["", "average weights 0.9\n  smooth labels 0.2\n  "])
def test_the_best_weights_are_the_ones_that_were_measured(
    data: DataSet, tmp_path: Path, more: str
) -> None:
    """Validation measures the plain loss, and the mean of the weights where it is the result."""
    lowered = tiny(("batch 8", f"{more}batch 8"))
    result = train(lowered, data, tmp_path / "run")
    assert result.best is not None
    weights = open_weights(result.run / "best.safetensors")
    assert weights.metadata.labels == ("blue", "green", "red")
    assert weights.metadata.net == "tiny"
    mean = weights.metadata.mean
    assert mean == pytest.approx((100, 100, 104), abs=12)
    module = torch_module.loaded(training_network(lowered), weights).eval()
    assert mean is not None
    normalise = Normalise(lowered.network.input, mean)
    images = Images(data.val, "RGB", (19, 19), are_kept=False)
    crops = CentreCrops(images, lowered.network.input, 19)
    wrong, loss = 0, 0.0
    with torch.inference_mode():
        for (batch,) in Loader(crops, BatchesInOrder(12, 5), 0, CPU):
            scores = module(normalise(batch))
            wrong += int((scores.argmax(1) != batch.labels).sum())
            loss += float(nn.functional.cross_entropy(scores, batch.labels, reduction="sum"))
    assert wrong / 12 == result.best.validation.error
    assert loss / 12 == pytest.approx(result.best.validation.loss, rel=1e-5)


def test_two_steps_are_those_of_the_textbook(data: DataSet, tmp_path: Path) -> None:
    """``v = momentum v + gradient + decay w; w = w - rate v``, dropout off."""
    lowered = tiny(("dropout 0.2", "dropout 0"), ("stop after 3 epochs", "stop after 2 iterations"))
    recipe, image = lowered.experiment.train, lowered.network.input
    result = train(lowered, data, tmp_path / "run", seed=3)
    assert result.step == 2
    saved = open_weights(result.run / "last.safetensors")
    assert saved.metadata.mean is not None
    statistics = json.loads((result.run / "run.json").read_text())["statistics"]

    weights = {name: torch.from_numpy(a) for name, a in initial_weights(lowered, 3)}
    velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    normalise = Normalise(image, saved.metadata.mean)
    for batch in first_batches(lowered, data, statistics["covariance"], seed=3)[:2]:
        for weight in weights.values():
            weight.requires_grad_()
        loss = nn.functional.cross_entropy(forward(weights, normalise(batch)), batch.labels)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            velocity[name] = 0.9 * velocity[name] + gradient + recipe.weight_decay * weight
            weights[name] = (weight - recipe.rate * velocity[name]).detach()
    for name, weight in weights.items():
        np.testing.assert_allclose(saved.read(name), weight, rtol=2e-4, atol=2e-6, err_msg=name)


def first_batches(
    lowered: Lowered, data: DataSet, covariance: list[list[float]], seed: int
) -> list[Batch]:
    recipe = lowered.experiment.train
    variances, vectors = np.linalg.eigh(np.array(covariance))
    vectors *= np.sign(vectors[np.abs(vectors).argmax(axis=0), range(3)])
    images = Images(data.train, "RGB", recipe.scale, are_kept=False)
    axes = vectors * np.sqrt(variances)
    crops = TrainCrops(images, lowered.network.input, recipe, axes, seed)
    order = ShuffledBatches(len(images), recipe.batch, seed)
    order.epoch = 1
    return [batch for (batch,) in Loader(crops, order, 0, CPU)]


def forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    x = nn.functional.relu(
        nn.functional.conv2d(x, weights["conv1_1.weight"], weights["conv1_1.bias"], padding=1)
    )
    x = nn.functional.max_pool2d(x, 2).flatten(1)
    x = nn.functional.relu(nn.functional.linear(x, weights["fc2.weight"], weights["fc2.bias"]))
    return nn.functional.linear(x, weights["fc3.weight"], weights["fc3.bias"])


def test_a_seed_gives_one_result_with_any_number_of_workers(data: DataSet, tmp_path: Path) -> None:
    lowered = tiny()
    runs = [
        train(lowered, data, tmp_path / f"{i}", seed, workers)
        for i, (seed, workers) in enumerate(((0, None), (0, 2), (1, None)))
    ]
    first, again, other = ((one.run / "last.safetensors").read_bytes() for one in runs)
    assert first == again
    assert first != other


def test_running_statistics_are_saved(data: DataSet, tmp_path: Path) -> None:
    lowered = tiny(("conv3-4", "conv3-4 BN"), ("FC-8", "FC-8 BN"))
    result = train(lowered, data, tmp_path / "run")
    weights = open_weights(result.run / "last.safetensors")
    assert np.abs(weights.read("bn1_1.running_mean")).max() > 1e-3
    torch_module.loaded(lowered.network, weights)


def test_a_batch_of_one_image_does_not_stop_batch_normalisation(
    data: DataSet, tmp_path: Path
) -> None:
    lowered = tiny(("FC-8", "FC-8 BN"), ("batch 8", "batch 29"))
    assert train(lowered, data, tmp_path / "run").step == 6
    with pytest.raises(VggspecError) as caught:
        training_network(tiny(("FC-8", "FC-8 BN"), ("batch 8", "batch 1")))
    assert isinstance(caught.value.reports[0].what, catalogue.NotTrainable)


class Heard(TrainWatcher):
    """Remembers what it sees, and does something after an epoch."""

    def __init__(self, stop: Event | None = None, after: int = 0) -> None:
        self.epochs: list[Epoch] = []
        self._stop = stop
        self._after = after

    def step(self, now: Step) -> None:
        pass

    def epoch(self, now: Epoch) -> None:
        self.epochs.append(now)
        if self._stop is not None and len(self.epochs) == self._after:
            self._stop.set()


def test_training_stops_when_it_is_asked_to(data: DataSet, tmp_path: Path) -> None:
    stop = Event()
    watch = Heard(stop, after=2)
    result = fit(tiny(), data, tmp_path, Options(gpus=0), stop=stop, watch=watch)
    assert result.was_stopped
    assert result.step == 9  # the step at hand is finished
    assert len(watch.epochs) == 2
    open_weights(tmp_path / "last.safetensors")
    assert json.loads((tmp_path / "run.json").read_text())["result"]["was_stopped"]


@pytest.mark.curves
def test_a_loss_that_is_not_finite_ends_the_run(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(plateau: Plateau, accuracy: float) -> float:
        plateau.rate = 1e20
        return plateau.rate

    monkeypatch.setattr(Plateau, "after", explode)
    with pytest.raises(VggspecError) as caught:
        fit(tiny(), data, tmp_path, Options(gpus=0))
    what = caught.value.reports[0].what
    assert isinstance(what, catalogue.Diverged)
    assert 5 < what.step <= 8  # in the second epoch
    assert what.rate == 1e20
    assert what.saved == str(tmp_path / "best.safetensors")
    for name in ("best", "last"):
        weights = open_weights(tmp_path / f"{name}.safetensors")
        assert all(np.isfinite(weights.read(tensor)).all() for tensor in weights.tensors)
    assert {path.name for path in tmp_path.iterdir()} == NAMES


def test_bad_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", train=60, val=15)
    bad = [root / "train/red/0.png", root / "val/red/0.png"]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:300])
    lowered = tiny(("stop after 3 epochs", "stop after 1 epochs"))
    result = train(lowered, open_data(root, lowered.network), tmp_path / "run")
    assert result.num_left_out == 2
    assert {Path(line.split(": ")[0]) for line in result.left_out} == set(bad)
    assert result.best is not None
    assert result.best.num_left_out == 2
    (root / "train/blue/1.png").write_text("no image")
    with pytest.raises(VggspecError) as caught:
        train(lowered, open_data(root, lowered.network), tmp_path / "again")
    assert isinstance(caught.value.reports[0].what, catalogue.TooManyBadImages)


def test_gray_and_bgr_nets_see_their_channels(tmp_path: Path) -> None:
    """Means in the order of the net's channels; blue first for BGR."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        for number, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for i in range(3):
                path = root / split / name / f"{i}.png"
                picture((200, 100, 30), (20, 20), 10 * number + i).save(path)
    for color, mean in (("BGR", (33, 100, 198)), ("gray", (122,))):
        lowered = tiny(("RGB(std 64)", color), ("rate 1e-2", "rate 1e-6"))
        result = train(lowered, open_data(root, lowered.network), tmp_path / color)
        found = open_weights(result.run / "last.safetensors").metadata.mean
        assert found == pytest.approx(mean, abs=4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_named() -> None:
    assert pick_device(None, Ranks()) == CPU
    with pytest.raises(MissingLibraryError, match="--gpus 0"):
        pick_device(1, Ranks())


class _Ending(TrainWatcher):
    """Ends a worker after the first epoch, or lets it stand still."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def step(self, now: Step) -> None:
        pass

    def epoch(self, now: Epoch) -> None:
        workers = multiprocessing.active_children()
        if self._number == signal.SIGKILL:
            del workers[1:]  # the end of another may be reported wherever the program is by then
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, self._number)


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGKILL, r"(was ended by a signal: Killed|has ended) \(process \d+\)"),
        (signal.SIGSTOP, "has given nothing for"),
    ],
)
def test_a_lost_worker_is_reported(
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    how: str,
) -> None:
    monkeypatch.setattr("vggspec.training.batches.PATIENCE_S", 2)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    lowered = tiny(("stop after 3 epochs", "stop after 1000 epochs"))
    with refused(how) as caught:
        fit(lowered, data, tmp_path, Options(gpus=0, workers=1), watch=_Ending(number))
    (found,) = caught.value.reports
    assert str(found.what.help()).endswith(f"vggspec train {tmp_path} --resume")
    assert not multiprocessing.active_children()
    shorter = tiny(("stop after 3 epochs", "stop after 2 epochs"))
    resumed = fit(shorter, data, tmp_path, Options(gpus=0, workers=0), is_resumed=True)
    assert resumed.step == 8


def _share(connection: Connection, begin: Callable[[int], None]) -> None:
    """What a worker does to hand a batch over: whoever takes it asks for a descriptor."""
    begin(0)
    for _ in range(50):
        connection.send(resource_sharer.DupFd(0)._id)
        connection.recv()
    time.sleep(0.2)


@pytest.mark.parametrize(("begin", "is_told"), [(_begin, False), (int, True)])
def test_a_worker_whose_batch_is_no_longer_taken_says_nothing(
    capfd: pytest.CaptureFixture[str], begin: Callable[[int], None], is_told: bool
) -> None:
    """As when another worker was killed, and the training process ends."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_share, args=(theirs, begin))
    worker.start()
    for _ in range(50):
        resource_sharer._resource_sharer.get_connection(ours.recv()).close()
        ours.send(None)
    worker.join()
    assert ("BrokenPipeError" in capfd.readouterr().err) is is_told


def test_workers_are_gone_when_a_run_ends(data: DataSet, tmp_path: Path) -> None:
    """Those left to the interpreter's end are terminated under PyTorch's eyes: a traceback."""
    train(tiny(), data, tmp_path / "run", workers=2)
    assert not multiprocessing.active_children()
