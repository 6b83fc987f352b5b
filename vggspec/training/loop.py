"""The training loop, in reading order: data, model, checkpoint, loop.

Source: Simonyan & Zisserman 2015, section 3.1: mini-batch gradient descent with momentum; the rate
falls when validation accuracy stops improving. Appendix A.1 for boxes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vggspec.base.catalogue.annotations import BoxesOnCrops
from vggspec.base.catalogue.data import Diverged, LostWorker, TooManyBadImages
from vggspec.base.catalogue.masks import TooManyBadMasks
from vggspec.base.catalogue.ranks import TooManyRanks
from vggspec.base.catalogue.runs import BadCheckpoint, BadRecord
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.optional import has_library
from vggspec.base.run_record import RECORD
from vggspec.base.wording import count
from vggspec.compiler.backends.torch.module import SpecModule, emit
from vggspec.compiler.ir import Network
from vggspec.compiler.lower import Lowered
from vggspec.compiler.sizes import sizes
from vggspec.compiler.weights import describe, expecting
from vggspec.data.annotated import Examples
from vggspec.data.left_out import LeftOut
from vggspec.data.masked import Masked
from vggspec.training import mlflow_log
from vggspec.training.augment import CentreCrops, TrainCrops, WholeImages, decoded_scale
from vggspec.training.batches import Batch, Loader, Normalise, children_may_end, lost_worker
from vggspec.training.box_crops import CentreBoxCrops, TrainBoxCrops
from vggspec.training.checkpoint import Checkpoint, publish, read_checkpoint, write_checkpoint
from vggspec.training.class_weights import class_weights
from vggspec.training.curves import CURVES, draw
from vggspec.training.dataset import DataSet
from vggspec.training.device import (
    computing,
    images_at_a_time,
    pick_device,
    pick_layout,
    pick_precision,
    usual_workers,
)
from vggspec.training.freed_memory import return_freed_memory
from vggspec.training.images import Images, Pairs, fit_in_memory
from vggspec.training.learning_check import Learning, against_divergence
from vggspec.training.mask_crops import CentreMaskCrops, TrainMaskCrops, WholeMasks
from vggspec.training.meter import Meter
from vggspec.training.objective import LabelMaps, Localisation, objective_of
from vggspec.training.optimisers import TRAINED
from vggspec.training.order import BatchesInOrder, ShuffledBatches
from vggspec.training.progress import Epoch, Step, TrainResult, TrainWatcher, Validation
from vggspec.training.ranks import Ranks
from vggspec.training.record import (
    Log,
    check_same,
    describe_result,
    describe_run,
    read_record,
    resumed_record,
    save_record,
    write_held_out,
)
from vggspec.training.request import SAVE_EVERY_S, TrainPrecision, Validate
from vggspec.training.runs import BEST, LOG, RUNS
from vggspec.training.schedule import RateSchedule
from vggspec.training.start import (
    expected_input,
    initial_weights,
    origins,
    recorded_origins,
    started_metadata,
)
from vggspec.training.state import TrainState
from vggspec.training.statistics import Statistics, measured
from vggspec.training.step import Stepper
from vggspec.training.tensorboard_log import Board
from vggspec.training.trainable import normalised_vector, training_network
from vggspec.training.validation import dense_form, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options outside the recipe. ``None`` depends on the machine and the data."""

    seed: int = 0
    settings: Sequence[str] = ()
    """The settings of the spec that were changed for this run, for the record."""

    weights: Sequence[str] = ()
    """Weights of nets to start from, instead of those that would be found."""

    gpus: int | None = None
    """0 for the CPU."""

    workers: int | None = None
    """Processes that decode images, for each rank."""

    precision: TrainPrecision | None = None
    micro_batch: int | None = None
    """Images that a rank computes at once; the gradients of a batch are added up."""

    is_compiled: bool = False
    """Let ``torch.compile`` fuse what it can."""

    validate: Validate = "crop"
    """Validate on the central crop of an image, or densely on all of it."""

    save_every_s: float = SAVE_EVERY_S
    keep_every: int | None = None
    """Keep the weights of every N epochs."""


class _Recorder(Protocol):
    """Records how a run goes."""

    def step(self, now: Step) -> None: ...

    def epoch(self, now: Epoch) -> None: ...


def fit(
    lowered: Lowered,
    data: DataSet,
    run: Path,
    options: Options | None = None,
    *,
    ranks: Ranks | None = None,
    is_resumed: bool = False,
    stop: Event | None = None,
    watch: TrainWatcher | None = None,
    runs: Path = RUNS,
) -> TrainResult:
    """Train a net as its spec says, from images to ``best.safetensors`` in the folder ``run``.

    Once ``stop`` is set on a rank, the step at hand is finished, a checkpoint written, and the
    result returned; ``is_resumed`` resumes from the newest one. Weights of other nets that the spec
    starts from are looked for under ``runs``.

    Raises:
        VggspecError: the net cannot be trained, weights to start from are missing, too many images
            are bad, the loss is not finite, the run to resume is another, a rank is lost, or
            the system refuses to write.
        MissingLibraryError: the device does not exist.
    """
    options, ranks = options or Options(), ranks or Ranks()
    with ExitStack() as stack:
        training = Training(lowered, data, run, options, ranks, stack, runs, is_resumed=is_resumed)
        heard = watch if watch and ranks.is_first else TrainWatcher()
        return training.train(stop or Event(), heard)


class Training:
    """A run: set up, then trained, or rehearsed."""

    def __init__(
        self,
        lowered: Lowered,
        data: DataSet,
        run: Path,
        options: Options,
        ranks: Ranks,
        stack: ExitStack,
        runs: Path,
        *,
        is_resumed: bool,
    ) -> None:
        self.run, self.options, self.ranks, self.data = run, options, ranks, data
        self.recipe, self.input = lowered.experiment.train, lowered.network.input
        self.network = training_network(lowered)
        check_validation(self.network, options.validate)
        self.objective = objective_of(self.network)
        self.q = _middle(lowered.experiment.test.scales)
        self.resize = lowered.experiment.test.resize
        self.recorders: list[_Recorder] = []
        self.class_weights = class_weights(lowered, data)
        self.learning = Learning(self.network, self.recipe, data.train.labels, self.class_weights)
        _check_ranks(ranks, self.recipe.batch, len(data.train))
        self.place = pick_device(options.gpus, ranks)
        self.precision = pick_precision(options.precision, self.place, self.network)
        stack.enter_context(computing(self.place, self.precision, self.network))

        checkpoint = read_checkpoint(run, self.network) if is_resumed else None
        recorded = read_record(run) if is_resumed else None
        self.state = checkpoint.state if checkpoint else TrainState.at_start(self.recipe)
        self._set_up_input(lowered, checkpoint, runs)
        self._set_up_data(recorded)
        self._set_up_model(lowered, checkpoint, recorded, runs)
        self.last_step = self.recipe.iterations or (self.recipe.epochs or 0) * len(self.order)
        self.schedule = RateSchedule(
            recipe=self.recipe, steps_per_epoch=len(self.order), last_step=self.last_step
        )
        self.record = self._describe(lowered, recorded, runs, has_begun=checkpoint is not None)
        if checkpoint is not None:
            self._recall(checkpoint)
        if checkpoint is not None and ranks.is_first:
            publish(run, checkpoint.folder, checkpoint.state, options.keep_every)
        if ranks.is_first:
            save_record(run, self.record)
            if self.recipe.validate_on is not None:
                write_held_out(run, data)

    def _set_up_input(self, lowered: Lowered, checkpoint: Checkpoint | None, runs: Path) -> None:
        """The input that the first layer's initial weights expect: imported weights record it."""
        self.described = describe(self.network, labels=self.data.classes)
        if checkpoint is not None:
            found = checkpoint.weights.metadata, checkpoint.weights.path
        else:
            started = started_metadata(lowered, origins(lowered, runs, self.options.weights))
            if started is None:
                return
            found = started
        wanted = expected_input(self.input, found)
        if wanted is not None:
            self.input, source = wanted
            self.described = expecting(self.described, self.input, source)

    def _set_up_data(self, recorded: dict[str, Any] | None) -> None:
        """Images, their statistics, and the batches of both splits."""
        data, options, ranks = self.data, self.options, self.ranks
        color, recipe, q = self.input.color, self.recipe, self.q
        scale = decoded_scale(recipe, self.input)
        what = TooManyBadMasks if isinstance(data.train, Masked) else TooManyBadImages
        self.left_out = LeftOut(len(data.train) + len(data.val), root=data.root, what=what)
        for name, why in self.state.unread.items():
            self.left_out.add(name, why)
        # Of an image at a fraction of its size torchvision's longer side may be another.
        val_scale = None if self.resize == "torchvision" else (q, q)
        has_masks = isinstance(data.train, Masked)  # whose pictures are decoded at their full size
        scales = (None, None) if has_masks else (scale, val_scale)
        are_kept = not options.workers and fit_in_memory(data, color, *scales)
        train = Images(data.train, color, scale, are_kept=are_kept)
        val = Images(data.val, color, val_scale, are_kept=are_kept)
        if recorded is not None:
            self.statistics = self._recorded_statistics(recorded)
        else:
            mine = measured(data, color, self.left_out) if ranks.is_first else None
            self.statistics = ranks.from_first(mine)
        self.mean = self.input.mean or self.statistics.mean
        drawn = self.input, recipe, self.statistics.axes(), options.seed
        crops: TrainCrops | TrainBoxCrops | TrainMaskCrops
        seen: CentreCrops | WholeImages | CentreBoxCrops | CentreMaskCrops | WholeMasks
        is_dense = options.validate == "dense"
        if isinstance(data.train, Masked) and isinstance(data.val, Masked):
            crops = TrainMaskCrops(Pairs(data.train, color, are_kept=are_kept), *drawn)
            pairs, cut = Pairs(data.val, color, are_kept=are_kept), (self.input, q, self.resize)
            seen = CentreMaskCrops(pairs, *cut)
            if is_dense:
                seen = WholeMasks(pairs, *cut, fitting=sizes(self.network))
        elif isinstance(data.train, Examples) and isinstance(data.val, Examples):
            crops = TrainBoxCrops(train, data.train, *drawn)
            seen = CentreBoxCrops(val, data.val, self.input, q, self.resize)
        else:
            crops = TrainCrops(train, *drawn)
            seen = (WholeImages if is_dense else CentreCrops)(val, self.input, q, self.resize)
        self.crops = crops
        are_mixed = bool(recipe.mixup or recipe.cutmix)
        self.order = ShuffledBatches(
            len(train),
            recipe.batch,
            options.seed,
            ranks.share,
            balanced=data.train.labels if recipe.classes_balanced else None,
            follow=are_mixed,
        )
        if self.state.batches > len(self.order):
            why = f"it is {self.state.batches} batches into an epoch of {len(self.order)}"
            raise VggspecError(report(BadCheckpoint(reason=why), path=str(self.run)))
        in_order = BatchesInOrder(len(val), recipe.batch, ranks.share)
        workers = options.workers
        if workers is None:
            workers = 0 if are_kept else usual_workers(self.place, ranks)
        self.batches = Loader(crops, self.order, workers, self.place, are_mixed=are_mixed)
        self.val_batches = Loader(seen, in_order, workers, self.place)

    def _recorded_statistics(self, recorded: dict[str, Any]) -> Statistics:
        try:
            fields = Fields(recorded).object("statistics")
            return Statistics.from_fields(fields, self.input.channels)
        except BadFieldError as error:
            what = BadRecord(reason=str(error))
            raise VggspecError(report(what, path=str(self.run / RECORD))) from error

    def _set_up_model(
        self,
        lowered: Lowered,
        checkpoint: Checkpoint | None,
        recorded: dict[str, Any] | None,
        runs: Path,
    ) -> None:
        """The model with its weights and momentum, and what validates it."""
        ranks, options = self.ranks, self.options
        model = emit(self.network)
        parameters = (
            checkpoint.parameters(self.network)
            if checkpoint
            else initial_weights(lowered, options.seed, runs, options.weights)
        )
        state = model.state_dict()
        for name, array in parameters:
            state[name].copy_(torch.from_numpy(array))
        layout = pick_layout(self.place, self.precision)
        model.to(self.place).to(memory_format=layout)  # type: ignore[call-overload]
        self.normalise = Normalise(self.input, self.mean, layout).to(self.place)
        before = recorded["computed"] if recorded else {}
        at_a_time = options.micro_batch
        if at_a_time is None and before.get("ranks") == ranks.size:
            at_a_time = before["micro_batch"]  # the same parts add up to the same bits
        if at_a_time is None:
            share = -(-self.recipe.batch // ranks.size)
            copies = self.recipe.copies_kept
            trial = _trial(model, self.precision, copies)
            fitting = images_at_a_time(self.network, share, ranks, trial, copies_kept=copies)
            at_a_time = min(ranks.gather(fitting))
        self.at_a_time = at_a_time
        self.stepper = Stepper(
            model,
            self.normalise,
            self.recipe,
            ranks,
            seed=options.seed,
            precision=self.precision,
            at_a_time=at_a_time,
            is_compiled=options.is_compiled,
            class_weights=self.class_weights,
        )
        # A net of label maps is applied to all sizes as it is.
        is_dense = options.validate == "dense" and not isinstance(self.objective, LabelMaps)
        self.judge = dense_form(lowered.network, model) if is_dense else model

    def _recall(self, checkpoint: Checkpoint) -> None:
        """What the optimiser kept; and where the weights are a mean, the ones that are trained."""
        for name, tensor in self.stepper.memory.items():
            tensor.copy_(torch.from_numpy(checkpoint.kept(name, tuple(tensor.shape))))
        if self.stepper.mean is not None:
            for name, tensor in self.stepper.model.state_dict().items():
                kept = checkpoint.kept(TRAINED + name, tuple(tensor.shape))
                tensor.copy_(torch.from_numpy(kept))

    def _describe(
        self, lowered: Lowered, recorded: dict[str, Any] | None, runs: Path, *, has_begun: bool
    ) -> dict[str, Any]:
        """The record, which a resumed run must share.

        Raises:
            VggspecError: it does not.
        """
        options = self.options
        record = describe_run(
            lowered,
            self.data,
            self.statistics,
            seed=options.seed,
            settings=options.settings,
            options={
                "precision": self.precision,
                "validate": options.validate,
                "compile": options.is_compiled,
            },
            computed={
                "device": device_name(self.place),
                "ranks": self.ranks.size,
                "micro_batch": self.at_a_time,
                "threads": torch.get_num_threads(),
            },
            started_from=(
                recorded["started_from"]
                if recorded and has_begun
                else recorded_origins(origins(lowered, runs, options.weights))
            ),
        )
        if recorded is None:
            return record
        check_same(self.run, recorded, record)
        return resumed_record(recorded, record, self.state.step)

    def train(self, stop: Event, watch: TrainWatcher) -> TrainResult:
        """Train until the last step, or until ``stop`` is set."""
        with self.workers():
            return self._train(stop, watch)

    @contextmanager
    def workers(self, *, can_resume: bool = True) -> Iterator[None]:
        """The processes that decode images end with the block.

        Raises:
            VggspecError: one of them is lost.
        """
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            with children_may_end():
                how = lost_worker(error)
            if how is None:
                raise
            run = str(self.run) if can_resume else None
            raise VggspecError(report(LostWorker(how=how, run=run))) from error
        finally:
            with children_may_end():
                self.batches.close()
                self.val_batches.close()

    def _train(self, stop: Event, watch: TrainWatcher) -> TrainResult:
        state = self.state
        was_stopped = False
        self.meter = Meter(state, self.last_step, self.ranks, self._diverged)
        self.meter.rate = self.schedule.rate(max(1, state.step), state.plateau.rate)
        self.saved_at = time.perf_counter()
        self.watch = watch
        with ExitStack() as stack:
            self.log: Log | None = None
            if self.ranks.is_first:
                stack.callback(self._draw)
                self.log = stack.enter_context(Log(self.run, state.log_bytes))
                self.recorders = [self.log, watch]
                if has_library("tensorboard"):
                    board = stack.enter_context(Board(self.run, after_step=state.step))
                    self.recorders.append(board)
                if mlflow_log.is_asked_for():
                    sent = mlflow_log.MlflowRun(self.run, self.record, watch.note)
                    self.recorders.append(stack.enter_context(sent))
            while not self._has_ended() and not was_stopped:
                was_stopped = not self._epoch(stop)
            if was_stopped:
                self._save()
        result = self._result(was_stopped=was_stopped)
        if self.ranks.is_first:
            save_record(self.run, self.record | describe_result(result))
        return result

    def _has_ended(self) -> bool:
        state, most = self.state, self.recipe.no_better
        if state.batches:
            return False
        if most is not None and state.best is not None and state.epoch > state.best.epoch + most:
            if state.step < self.last_step:
                ended = f"training ended: no better for {count(most, 'epoch')}"
                self.watch.note(f"{ended} than epoch {state.best.epoch}")
            return True
        return state.step >= self.last_step

    def _epoch(self, stop: Event) -> bool:
        """The rest of an epoch and its validation; False where it was stopped within."""
        state, meter, ranks = self.state, self.meter, self.ranks
        least_images = 2 if normalised_vector(self.network) else 1
        self.order.epoch, self.order.skipped = state.epoch, state.batches
        meter.begin_epoch()
        self.stepper.begin_epoch(state.epoch)
        is_over = state.step == self.last_step or state.batches == len(self.order)
        for (batch,) in [] if is_over else self.batches:
            state.step += 1
            state.batches += 1
            self._leave_out([batch])
            images, number, is_stopped, is_look, is_save = ranks.sum(
                [
                    len(batch.labels),
                    self.objective.number(batch),
                    stop.is_set(),
                    ranks.is_first and meter.is_due(),
                    ranks.is_first
                    and time.perf_counter() - self.saved_at >= self.options.save_every_s,
                ]
            )
            meter.rate = self.stepper.rate = self.schedule.rate(state.step, state.plateau.rate)
            if images >= least_images:
                loss = self.stepper(batch, max(1, int(number)), state.step)
                meter.add(state.step, loss, int(images), int(number))
            if is_look or is_stopped or is_save:
                now = meter.look()
                if is_look:
                    for recorder in self.recorders:
                        recorder.step(now)
            if is_stopped:
                return False
            if state.step == self.last_step:
                break
            if is_save:
                self._save()
        meter.look()
        validation = self._validation(stop)
        if validation is None:
            return False
        self._merge_left_out()
        done = meter.epoch(validation, len(self.left_out))
        if self.recipe.schedule == "plateau":
            state.plateau.after(1 - validation.error)
        if done.is_best:
            state.best = done
        state.epoch, state.batches, state.loss, state.number = state.epoch + 1, 0, 0.0, 0
        for recorder in self.recorders:
            recorder.epoch(done)
        remark = self.learning.remark(done)
        if remark is not None:
            self.watch.note(remark)
        self._save()
        if ranks.is_first:
            save_record(self.run, self.record | describe_result(self._result(was_stopped=True)))
        return True

    def _validation(self, stop: Event) -> Validation | None:
        self.judge.eval()
        image = self.input

        def outputs_of(batch: Batch) -> Iterator[tuple[Batch, Tensor]]:
            rows, columns = batch.pixels.shape[1:3]
            number = max(1, self.at_a_time * image.height * image.width // (rows * columns))
            parts = [batch.part(slice(i, i + number)) for i in range(0, len(batch.labels), number)]
            with self.stepper.precision():
                found = (_output(self.judge, self.normalise(part)) for part in parts)
                if isinstance(self.objective, LabelMaps):  # too large to be kept, or moved
                    yield from ((p, x.float()) for p, x in zip(parts, found, strict=True))
                else:
                    yield batch, torch.cat(list(found)).float().cpu()

        mean = self.stepper.mean
        with mean.in_place() if mean is not None else nullcontext():
            found = validate(
                outputs_of,
                self.objective,
                self.val_batches,
                self.data.classes,
                self._leave_out,
                self.ranks,
                stop,
            )
        if self.place.type == "cpu":  # images of many sizes leave gaps
            return_freed_memory()
        return found

    def _save(self) -> None:
        """Write a checkpoint; the losses so far have been checked."""
        state, model, mean = self.state, self.stepper.model, self.stepper.mean
        self._merge_left_out()
        state.unread = dict(self.left_out.reasons)
        if self.log is not None:
            state.log_bytes = self.log.bytes
        state.seconds = self.meter.seconds()
        if not _is_finite(model):
            raise self._diverged(state.step)
        trained = {} if mean is None else {TRAINED + k: v for k, v in model.state_dict().items()}
        if self.ranks.is_first:
            write_checkpoint(
                self.run,
                self.network,
                model.state_dict() if mean is None else mean.tensors,
                self.stepper.memory | trained,
                state,
                described=expecting(
                    self.described, replace(self.input, mean=self.mean), self.described.source
                ),
                keep_every=self.options.keep_every,
            )
        self.saved_at = time.perf_counter()

    def _draw(self) -> None:
        """Draw the run, even if it failed; a failure to draw is ignored."""
        if has_library("matplotlib"):
            with suppress(VggspecError):
                draw(self.run / LOG, self.run / CURVES, self.network.name)

    def _leave_out(self, batches: list[Batch]) -> None:
        for unread in (unread for batch in batches for unread in batch.unread):
            self.left_out.add(unread.name, unread.why)

    def _merge_left_out(self) -> None:
        """Share the unreadable images of each rank with all ranks."""
        for found in self.ranks.gather(dict(self.left_out.reasons)):
            for path, why in found.items():
                self.left_out.add(path, why)

    def _diverged(self, step: int) -> VggspecError:
        best = self.run / BEST
        saved = str(best) if best.exists() else None
        advice = against_divergence(self.network, self.recipe)
        rate = self.meter.rate
        what = Diverged(step=step, rate=rate, saved=saved, advice=advice)
        return VggspecError(report(what))

    def _result(self, *, was_stopped: bool) -> TrainResult:
        best = self.state.best
        return TrainResult(
            run=self.run,
            best=best,
            step=self.state.step,
            was_stopped=was_stopped,
            seconds=self.meter.seconds(),
            num_left_out=len(self.left_out),
            left_out=self.left_out.first(),
            has_learned_nothing=best is not None and self.learning.has_learned_nothing(best),
        )


def check_validation(network: Network, validate: Validate) -> None:
    """Check that a net can be validated that way.

    Raises:
        VggspecError: it cannot.
    """
    if validate == "dense" and isinstance(objective_of(network), Localisation):
        raise VggspecError(report(BoxesOnCrops()))


def _check_ranks(ranks: Ranks, batch: int, images: int) -> None:
    if ranks.size > min(batch, images):
        of = "images in a batch" if batch <= images else "training images"
        what = TooManyRanks(ranks=ranks.size, available=min(batch, images), of=of)
        raise VggspecError(report(what))


def _trial(
    model: SpecModule, precision: TrainPrecision, copies_kept: int
) -> Callable[[int], None] | None:
    """Tries gradients for a number of images, on a device that raises when memory is short."""
    place = next(model.parameters()).device
    if place.type != "cuda":
        return None

    def trial(number: int) -> None:
        kept = [torch.empty_like(p) for p in model.parameters() for _ in range(copies_kept)]
        image = model.network.input
        images = torch.zeros((number, image.channels, image.height, image.width), device=place)
        images = images.contiguous(memory_format=pick_layout(place, precision))
        model.eval()  # running statistics stay as they are
        try:
            with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bf16"):
                output = _output(model, images)
            if output.dim() > 2:  # as much memory as the loss of a map takes
                output = output.float().log_softmax(dim=1)
            output.float().sum().backward()  # type: ignore[no-untyped-call]
        finally:
            model.zero_grad()
            del kept

    return trial


def device_name(place: torch.device) -> str:
    """The name of a GPU, or ``cpu``."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else place.type


def _output(model: nn.Module, images: Tensor) -> Tensor:
    output = model(images)
    assert isinstance(output, Tensor), "the training network has one output"
    return output


def _middle(scales: tuple[int, ...]) -> int:
    return sorted(scales)[len(scales) // 2]


def _is_finite(model: SpecModule) -> bool:
    finite = [torch.isfinite(tensor).all() for tensor in model.state_dict().values()]
    return bool(torch.stack(finite).all())
