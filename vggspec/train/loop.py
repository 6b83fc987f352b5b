"""The training loop, in reading order: data, model, optimiser, schedule, loop.

Source: Simonyan & Zisserman 2015, section 3.1: multinomial logistic regression by mini-batch
gradient descent with momentum; the rate falls when validation accuracy stops improving.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

import torch
from torch import Tensor, nn

from vggspec.catalogue.data import Diverged, NotTrainable
from vggspec.compiler.backends.torch_module import SpecModule, emit
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.passes import TRAINING
from vggspec.compiler.passes import run as apply_passes
from vggspec.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.train.augment import CentreCrops, Images, TrainCrops, fit_in_memory
from vggspec.train.batches import Batch, Normalise, loader, usual_workers
from vggspec.train.checkpoint import Log, describe_result, describe_run, save_record, save_weights
from vggspec.train.images import BadImageError, ImageFolder, LeftOut, Pixels
from vggspec.train.order import BatchesInOrder, ShuffledBatches
from vggspec.train.progress import Epoch, NoWatch, Result, Step, Validation, Watch
from vggspec.train.runs import BEST, LAST, RUNS
from vggspec.train.start import initial_weights
from vggspec.train.statistics import measure, sample

DeviceName = Literal["auto", "cpu", "cuda"]

LOOK_SECONDS = 1.0  # between two looks at the loss, each of which waits for the device


@dataclass(kw_only=True)
class Plateau:
    """The learning rate, which falls when validation accuracy has stopped improving."""

    rate: float
    decay: float
    decays_left: int
    patience: int
    best: float = -1.0
    waited: int = 0

    def after(self, accuracy: float) -> float:
        """The rate once an epoch has reached that validation accuracy."""
        if accuracy > self.best:
            self.best, self.waited = accuracy, 0
            return self.rate
        self.waited += 1
        if self.waited >= self.patience and self.decays_left > 0:
            self.rate /= self.decay
            self.decays_left -= 1
            self.waited = 0
        return self.rate


@dataclass(kw_only=True)
class TrainState:
    """Where a run is, besides its weights."""

    plateau: Plateau
    step: int = 0
    epoch: int = 0
    best: Epoch | None = None


def fit(
    lowered: Lowered,
    data: ImageFolder,
    run: Path,
    *,
    seed: int = 0,
    device: DeviceName = "auto",
    workers: int | None = None,
    stop: Event | None = None,
    watch: Watch | None = None,
    runs: Path = RUNS,
) -> Result:
    """Train a net as its spec says, from images to ``best.safetensors`` in the folder ``run``.

    ``workers`` processes decode images; None chooses. Once ``stop`` is set, the step at hand is
    finished, ``last.safetensors`` saved, and the result returned. Weights of other nets that the
    spec starts from are looked for under ``runs``.

    Raises:
        VggspecError: the net does not classify, weights to start from are missing, too many images
            are bad, the loss is not finite, or the system refuses to write.
        MissingLibraryError: the device cannot be had.
    """
    stop, watch = stop or Event(), watch or NoWatch()
    recipe, image = lowered.experiment.train, lowered.network.input
    network = training_network(lowered)
    place = pick_device(device)
    torch.manual_seed(seed)  # for dropout; all else has streams of its own

    q = _middle(lowered.experiment.test.scales)
    left_out = LeftOut(len(data.train) + len(data.val), data.root)
    are_kept = not workers and fit_in_memory(data, image.color, recipe.scale, (q, q))
    train = Images(data.train, image.color, recipe.scale, are_kept=are_kept)
    val = Images(data.val, image.color, (q, q), are_kept=are_kept)
    statistics = measure(_readable(train, sample(len(train), seed), left_out))
    mean = image.mean or statistics.mean
    crops = TrainCrops(train, image, recipe, statistics.axes(), seed)
    order = ShuffledBatches(len(train), recipe.batch, seed)
    if workers is None:
        workers = 0 if are_kept else usual_workers(place)
    batches = loader(crops, order, workers, place)
    val_order = BatchesInOrder(len(val), recipe.batch)
    val_batches = loader(CentreCrops(val, image, q), val_order, workers, place)

    model = emit(network)
    for name, array in initial_weights(lowered, seed, runs):
        model.state_dict()[name].copy_(torch.from_numpy(array))
    model.to(place)
    normalise = Normalise(image, mean).to(place)

    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    plateau = Plateau(
        rate=recipe.rate, decay=recipe.decay, decays_left=recipe.decays, patience=recipe.patience
    )
    state = TrainState(plateau=plateau)
    last_step = recipe.iterations or (recipe.epochs or 0) * len(order)
    least_images = 2 if _normalised_vector(network) else 1

    def save(name: str) -> None:
        if not _is_finite(model):
            raise _diverged(run, state.step, plateau.rate)
        save_weights(run / name, network, model.state_dict(), mean=mean, labels=data.classes)

    record = describe_run(lowered, data, statistics, seed, str(place))
    save_record(run, record)
    saved_step = 0
    with Log(run) as log:
        meter = Meter(run, last_step)
        while state.step < last_step and not stop.is_set():
            state.epoch += 1
            order.epoch = state.epoch
            meter.begin_epoch()
            model.train()
            for batch in batches:
                state.step += 1
                _leave_out(batch, left_out)
                if len(batch.labels) >= least_images:
                    labels = batch.labels.to(place, non_blocking=True)
                    loss = nn.functional.cross_entropy(_scores(model, normalise(batch)), labels)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                    meter.add(state.step, loss.detach(), len(labels))
                if state.step == last_step or stop.is_set():
                    break
                if meter.is_due():
                    now = meter.look(state)
                    log.add(now)
                    watch.step(now)
            meter.look(state)
            validation = validate(model, normalise, val_batches, data.classes, left_out, stop)
            if validation is None:
                break
            done = meter.epoch(state, validation, len(left_out))
            save(LAST)
            saved_step = state.step
            if done.is_best:
                save(BEST)
                state.best = done
            rate = plateau.after(1 - validation.top1_error)
            for group in optimiser.param_groups:
                group["lr"] = rate
            log.add(done)
            watch.epoch(done)
    was_stopped = saved_step < last_step
    if was_stopped:
        save(LAST)
    result = Result(
        run=run,
        best=state.best,
        step=state.step,
        was_stopped=was_stopped,
        seconds=meter.seconds(),
        num_left_out=len(left_out),
        left_out=left_out.first(),
    )
    save_record(run, record | describe_result(result))
    return result


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; ``auto`` is a GPU where there is one.

    Raises:
        MissingLibraryError: there is no GPU that PyTorch can use.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise MissingLibraryError("PyTorch finds no CUDA device here: train with --device cpu")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def training_network(lowered: Lowered) -> Network:
    """The net as it is trained: it ends in class scores.

    Raises:
        VggspecError: it does not classify, or its batches are too small to be normalised.
    """
    network = lowered.network
    last = network[network.outputs[0].layer]
    if isinstance(last.op, Boxes):
        raise _not_trainable(last, "it ends in boxes")
    if not network.weight_layers:
        raise _not_trainable(last, "it has no weight layer")
    network = apply_passes(TRAINING, network)
    norm = _normalised_vector(network)
    if norm is not None and lowered.experiment.train.batch < 2:
        raise _not_trainable(norm, "batch normalisation of vectors needs two images a batch")
    return network


def validate(
    model: SpecModule,
    normalise: Normalise,
    batches: Iterable[Batch],
    classes: tuple[str, ...],
    left_out: LeftOut,
    stop: Event,
) -> Validation | None:
    """Loss and errors of the net as it is; None once ``stop`` is set.

    Raises:
        VggspecError: too many images are bad.
    """
    # For each class: images, those not recognised, those not among the five likeliest.
    counts = torch.zeros(3, len(classes), dtype=torch.int64)
    total_loss = 0.0
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            _leave_out(batch, left_out)
            if stop.is_set():
                return None
            if len(batch.labels) == 0:
                continue
            scores = _scores(model, normalise(batch)).cpu()
            total_loss += float(nn.functional.cross_entropy(scores, batch.labels, reduction="sum"))
            likeliest = scores.topk(min(5, len(classes))).indices == batch.labels[:, None]
            wrong = ~likeliest[:, 0], ~likeliest.any(dim=1)
            for row, labels in zip(
                counts, (batch.labels, *(batch.labels[w] for w in wrong)), strict=True
            ):
                row += labels.bincount(minlength=len(classes))
    images, top1, top5 = counts.tolist()
    total = max(1, sum(images))
    return Validation(
        loss=total_loss / total,
        top1_error=sum(top1) / total,
        top5_error=sum(top5) / total,
        class_errors={
            name: wrong / number
            for name, wrong, number in zip(classes, top1, images, strict=True)
            if number
        },
    )


class Meter:
    """Losses, times and speeds. It looks at the device now and then, not at every step."""

    def __init__(self, run: Path, last_step: int) -> None:
        self._run = run
        self._last_step = last_step
        self._began = time.perf_counter()
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget the epoch before."""
        self._pending: list[tuple[int, int, Tensor]] = []
        self._loss = 0.0
        self._images = 0
        self._epoch_began = self._looked = time.perf_counter()

    def add(self, step: int, loss: Tensor, images: int) -> None:
        """Remember a step; its loss stays on the device."""
        self._pending.append((step, images, loss))

    def is_due(self) -> bool:
        """Whether the last look is long enough ago."""
        return time.perf_counter() - self._looked >= LOOK_SECONDS

    def look(self, state: TrainState) -> Step:
        """How things stand since the last look.

        Raises:
            VggspecError: a loss is not finite.
        """
        losses = (
            torch.stack([loss for _, _, loss in self._pending]).tolist() if self._pending else []
        )
        loss = 0.0
        images = 0
        for (step, number, _), value in zip(self._pending, losses, strict=True):
            if not math.isfinite(value):
                raise _diverged(self._run, step, state.plateau.rate)
            loss += number * value
            images += number
        now = time.perf_counter()
        seconds = max(now - self._looked, 1e-9)
        self._loss += loss
        self._images += images
        self._looked = now
        self._pending.clear()
        return Step(
            step=state.step,
            last_step=self._last_step,
            epoch=state.epoch,
            loss=loss / max(images, 1),
            rate=state.plateau.rate,
            images_per_s=images / seconds,
            left_s=self._left(state),
        )

    def epoch(self, state: TrainState, validation: Validation, num_left_out: int) -> Epoch:
        """How things stand after the epoch's validation, which followed the last look.

        Raises:
            VggspecError: the validation loss is not finite.
        """
        if not math.isfinite(validation.loss):
            raise _diverged(self._run, state.step, state.plateau.rate)
        best = state.best.validation if state.best else None
        ours = validation.top1_error, validation.loss
        return Epoch(
            step=state.step,
            last_step=self._last_step,
            epoch=state.epoch,
            loss=self._loss / max(self._images, 1),
            validation=validation,
            rate=state.plateau.rate,
            images_per_s=self._images / max(self._looked - self._epoch_began, 1e-9),
            left_s=self._left(state),
            is_best=best is None or ours < (best.top1_error, best.loss),
            num_left_out=num_left_out,
        )

    def seconds(self) -> float:
        """Since the first step."""
        return time.perf_counter() - self._began

    def _left(self, state: TrainState) -> float:
        return self.seconds() / max(state.step, 1) * (self._last_step - state.step)


def _scores(model: SpecModule, images: Tensor) -> Tensor:
    scores = model(images)
    assert isinstance(scores, Tensor), "the training network has one output"
    return scores


def _readable(images: Images, indices: list[int], left_out: LeftOut) -> Iterator[Pixels]:
    for index in indices:
        try:
            yield images.read(index)
        except BadImageError as error:
            left_out.add(images.split.paths[index], str(error))


def _leave_out(batch: Batch, left_out: LeftOut) -> None:
    for unread in batch.unread:
        left_out.add(unread.path, unread.why)


def _middle(scales: tuple[int, ...]) -> int:
    return sorted(scales)[len(scales) // 2]


def _normalised_vector(network: Network) -> Layer | None:
    """The first batch normalisation that sees one number a channel, so no variance of one image."""
    norms = (layer for layer in network.layers if isinstance(layer.op, BatchNorm))
    return next((layer for layer in norms if layer.type.size == (1, 1)), None)


def _is_finite(model: SpecModule) -> bool:
    finite = [torch.isfinite(tensor).all() for tensor in model.state_dict().values()]
    return bool(torch.stack(finite).all())


def _not_trainable(layer: Layer, because: str) -> VggspecError:
    what = NotTrainable(because=because)
    if layer.origin is None:
        return VggspecError(report(what))
    return VggspecError(report(what, layer.origin.source, layer.origin.span))


def _diverged(run: Path, step: int, rate: float) -> VggspecError:
    best = run / BEST
    what = Diverged(step=step, rate=rate, saved=str(best) if best.exists() else None)
    return VggspecError(report(what))
