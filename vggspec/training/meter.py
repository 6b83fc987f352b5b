"""Losses, times and speeds. Losses are fetched from the device about once a second."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vggspec.base.diagnostic import VggspecError
from vggspec.training.progress import Epoch, Step, Validation
from vggspec.training.ranks import Ranks
from vggspec.training.state import TrainState

LOOK_SECONDS = 1.0  # between two reads of the loss, each of which waits for the device

#: The pace before an interruption counts like that of this many seconds after it.
TRUSTED_SECONDS = 60.0


class Meter:
    """Measures a run whose state it keeps."""

    def __init__(
        self,
        state: TrainState,
        last_step: int,
        ranks: Ranks,
        diverged: Callable[[int], VggspecError],
    ) -> None:
        self._state = state
        self._last_step = last_step
        self._ranks = ranks
        self._diverged = diverged
        self._began = time.perf_counter()
        self._seconds_before = state.seconds
        self._first_step = state.step
        self.rate = 0.0
        """Of the last step."""

        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Reset the speed at the start of an epoch."""
        self._pending: list[tuple[int, int, int, Tensor]] = []
        self._images = 0
        self._epoch_began = self._looked = self._added = time.perf_counter()
        self._step_seconds = 0.0

    def add(self, step: int, loss: Tensor, images: int, number: int) -> None:
        """Remember a step of all ranks' ``images``; this rank's ``loss`` stays on the device.

        The loss is a mean over ``number`` of them, or of their positions.
        """
        self._pending.append((step, images, number, loss))
        now = time.perf_counter()
        self._step_seconds, self._added = now - self._added, now

    def is_due(self) -> bool:
        """Whether the next read of the loss is due after the next step."""
        return time.perf_counter() + self._step_seconds - self._looked >= LOOK_SECONDS

    def look(self) -> Step:
        """The state since the last read; all ranks read at the same step.

        Raises:
            VggspecError: a loss is not finite, or a rank is lost.
        """
        losses: list[float] = []
        if self._pending:
            losses = self._ranks.sum(torch.stack([loss for *_, loss in self._pending]).tolist())
        state = self._state
        total, images, number = 0.0, 0, 0
        for (step, of_images, of_loss, _), loss in zip(self._pending, losses, strict=True):
            if not math.isfinite(loss):
                raise self._diverged(step)
            total += loss
            images += of_images
            number += of_loss
            state.loss += loss  # one by one: the sum does not depend on when it was read
        now = time.perf_counter()
        seconds = max(now - self._looked, 1e-9)
        state.number += number
        self._images += images
        self._looked = now
        self._pending.clear()
        state.seconds = self.seconds()
        return Step(
            step=state.step,
            last_step=self._last_step,
            epoch=state.epoch,
            loss=total / max(number, 1),
            rate=self.rate,
            images_per_s=images / seconds,
            left_s=self._left(),
        )

    def epoch(self, validation: Validation, num_left_out: int) -> Epoch:
        """The state after the epoch's validation, which followed the last read.

        Raises:
            VggspecError: the validation loss is not finite.
        """
        state = self._state
        if not math.isfinite(validation.loss):
            raise self._diverged(state.step)
        best = state.best.validation if state.best else None
        ours = validation.error, validation.loss
        return Epoch(
            step=state.step,
            last_step=self._last_step,
            epoch=state.epoch,
            loss=state.loss / max(state.number, 1),
            validation=validation,
            rate=self.rate,
            images_per_s=self._images / max(self._looked - self._epoch_began, 1e-9),
            left_s=self._left(),
            is_best=best is None or ours < (best.error, best.loss),
            num_left_out=num_left_out,
        )

    def seconds(self) -> float:
        """Training time so far, without interruptions."""
        return self._seconds_before + time.perf_counter() - self._began

    def _left(self) -> float:
        """Estimated seconds to the end, at the pace so far.

        The first steps after an interruption are slow: they wait for workers and for the device to
        warm up. So the pace before it counts at first.
        """
        seconds = time.perf_counter() - self._began
        steps = float(self._state.step - self._first_step)
        if self._first_step and self._seconds_before:
            trusted = min(TRUSTED_SECONDS, self._seconds_before)
            seconds += trusted
            steps += trusted * self._first_step / self._seconds_before
        per_step = seconds / steps if steps else seconds
        # A run that is resumed with an earlier end than before still finishes its epoch.
        return per_step * max(0, self._last_step - self._state.step)
