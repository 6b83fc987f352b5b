"""What is known of a run while it goes on, and at its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How things stand in the middle of an epoch."""

    step: int
    last_step: int
    epoch: int
    loss: float
    """Mean since the last look."""

    rate: float
    images_per_s: float
    left_s: float
    """Estimated time to the end, validation included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How well the net does on the validation images."""

    loss: float
    top1_error: float
    """Share of the images whose class is not the likeliest."""

    top5_error: float
    """Share of those whose class is not among the five likeliest."""

    class_errors: dict[str, float]
    """Top-1 error of each class that has validation images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How things stand after an epoch."""

    step: int
    last_step: int
    epoch: int
    loss: float
    """Mean over this epoch's training crops."""

    validation: Validation
    rate: float
    images_per_s: float
    left_s: float
    is_best: bool
    num_left_out: int
    """Images that could not be read so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a run."""

    run: Path
    best: Epoch | None
    """None where no epoch came to its end."""

    step: int
    was_stopped: bool
    seconds: float
    num_left_out: int
    left_out: tuple[str, ...]
    """The first of the images that could not be read, each with the reason."""


class Watch(Protocol):
    """Who wants to know how training goes."""

    def step(self, now: Step) -> None:
        """About once a second."""

    def epoch(self, now: Epoch) -> None:
        """After each epoch."""


class NoWatch:
    """Nobody."""

    def step(self, now: Step) -> None:
        pass

    def epoch(self, now: Epoch) -> None:
        pass
