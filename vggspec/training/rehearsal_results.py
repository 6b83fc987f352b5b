"""The results of rehearsals: of a dry run, of learning a few images, of a range of rates."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vggspec.base.diagnostic import Report
from vggspec.base.short_repr import short_repr
from vggspec.data.data_report import DataReport


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The first step of a training, run and thrown away."""

    device: str
    precision: str
    batch: int
    at_a_time: int
    """Images of a batch that are computed at once."""

    loss: float
    """The loss of the first batch, before anything is learned."""

    loss_of_chance: float | None
    """That of knowing no more than how often each class comes; None for a net of boxes."""

    step_s: float
    """Seconds of the second step, the wait for its images included."""

    steps: int
    """Of the whole training, at most."""

    epochs: int
    seconds: float
    """Of the whole training, estimated: all steps at that pace, and validation at a third of a
    step's time for each image.
    """

    memory: int
    """Bytes that a step takes, estimated."""

    measured_memory: int | None
    """Bytes that the step took on a GPU at most; None on a CPU."""

    @property
    def images_per_s(self) -> float:
        """The speed of training."""
        return self.batch / self.step_s


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What is known before a training begins."""

    data: DataReport
    trial: Trial | None
    """None if it was refused."""

    refused: tuple[Report, ...]
    """Why the training would not begin."""

    images: Path
    """A PNG with some images of each class."""

    crops: Path | None
    """A PNG with some images and the crops that training makes of them; None if refused."""

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON."""
        return {
            "data": self.data.as_data(),
            "trial": None
            if self.trial is None
            else asdict(self.trial) | {"images_per_s": self.trial.images_per_s},
            "refused": [str(each) for each in self.refused],
            "images": str(self.images),
            "crops": None if self.crops is None else str(self.crops),
        }


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Overfit:
    """Whether a net can learn a few images by heart."""

    images: int
    classes: int
    """How many classes these images have."""

    has_learned: bool
    """Whether the net is right on all of them."""

    steps: int
    """Steps that were done."""

    rate: float
    losses: tuple[float, ...]
    """The mean loss on the images, as they are: before the first step, after every tenth pass over
    them, or every pass if it has ten steps or more, and at the end.
    """

    errors: tuple[float, ...]
    """The share of them that was wrong then."""

    wrong: tuple[str, ...]
    """The images that are still wrong, each with its class."""

    diverged: bool
    """Whether the loss became NaN or infinite, or grew to more than ten times its beginning."""

    advice: tuple[str, ...]
    """What may help, if it has not learned."""

    left_out: tuple[str, ...]
    """Images that could not be read, each with the reason; others took their places."""

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON."""
        return asdict(self)


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class RateRange:
    """How the loss changes while the learning rate grows from step to step."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """The loss of each step's batch; the last one may be NaN or infinite."""

    smoothed: tuple[float, ...]
    """The same without the noise of single batches."""

    suggested: float | None
    """A rate to train at; None if the loss fell at none."""

    lowest: float | None
    """The rate at which the smoothed loss was least; of a flat valley its middle."""

    diverged: float | None
    """The rate at which the test ended because the loss had grown too far; None if it did not."""

    rate: float
    """The rate of the recipe, for comparison."""

    optimiser: str
    loss_of_chance: float | None
    """That of knowing no more than how often each class comes; None for a net of boxes."""

    picture: Path | None
    """The curve as PNG; None where matplotlib is not installed."""

    @property
    def has_learned(self) -> bool:
        """Whether the loss fell below that of chance. If not, nothing is known about rates at which
        the net learns, and the suggestion is a guess.
        """
        chance = self.loss_of_chance
        return chance is None or min(self.smoothed, default=chance) < 0.95 * chance

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON, without numbers that it does not have."""
        finite = [loss if abs(loss) < float("inf") else None for loss in self.losses]
        picture = None if self.picture is None else str(self.picture)
        learned = {"has_learned": self.has_learned}
        return asdict(self) | learned | {"losses": finite, "picture": picture}
