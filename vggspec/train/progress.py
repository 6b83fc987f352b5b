"""What is known of a run while it goes on, and at its end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vggspec.base.fields import Fields


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
    errors: dict[str, float]
    """Shares of the images that the net gets wrong, by kind, the one that counts first: ``top-1``,
    whose class is not the likeliest, and ``top-5``, not among the five likeliest; of boxes
    ``localisation``, where none of the true ones is found."""

    class_errors: dict[str, float]
    """The first of the errors for each class that has validation images."""

    @property
    def error(self) -> float:
        """The one that counts."""
        return next(iter(self.errors.values()))

    def in_words(self) -> str:
        """The errors in a line: ``12.50% (top-5 2.50%)``."""
        first, *others = self.errors.items()
        more = ", ".join(f"{kind} {error:.2%}" for kind, error in others)
        return f"{first[1]:.2%} ({more})" if more else f"{first[1]:.2%}"


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


def epoch_of(fields: Fields) -> Epoch:
    """An epoch from what ``dataclasses.asdict`` gave, once it has been through JSON.

    Raises:
        BadFieldError: it is something else.
    """
    validation = fields.object("validation")
    errors = validation.number_table("errors")
    if not errors:
        raise validation.bad("errors", "is empty")
    return Epoch(
        step=fields.integer("step"),
        last_step=fields.integer("last_step"),
        epoch=fields.integer("epoch", 1),
        loss=fields.number("loss"),
        validation=Validation(
            loss=validation.number("loss"),
            errors=errors,
            class_errors=validation.number_table("class_errors"),
        ),
        rate=fields.number("rate"),
        images_per_s=fields.number("images_per_s"),
        left_s=fields.number("left_s"),
        is_best=fields.boolean("is_best"),
        num_left_out=fields.integer("num_left_out"),
    )


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
