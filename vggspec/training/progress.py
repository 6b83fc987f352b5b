"""What a run reports while it lasts, and its result."""

from dataclasses import dataclass, field
from pathlib import Path

from vggspec.base.fields import Fields
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import Progress, Watcher
from vggspec.training.plan import TrainPlan
from vggspec.training.runs import BEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The state of a run during an epoch."""

    step: int
    last_step: int
    epoch: int
    loss: float
    """Mean since the last report."""

    rate: float
    images_per_s: float
    left_s: float
    """Estimated time to the end, validation included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The result on the validation images."""

    loss: float
    errors: dict[str, float]
    """Shares of the images that are wrong, by kind, the deciding one first: ``top-1``, if the class
    is not the likeliest, and ``top-5``, if it is not among the five likeliest; for boxes
    ``localisation``, if no true box is found. None of them for label maps."""

    class_errors: dict[str, float]
    """The first of the errors for each class that has validation images."""

    scores: dict[str, float] = field(default_factory=dict)
    """Of label maps, the deciding one first: ``mean IoU`` and ``pixel accuracy``, over all labelled
    positions of all images together. Of these, larger ones are better."""

    class_scores: dict[str, float] = field(default_factory=dict)
    """The IoU of each class that has positions or is given to some."""

    @property
    def error(self) -> float:
        """The deciding error; of label maps, what the mean IoU lacks to 1."""
        if self.scores:
            return 1 - next(iter(self.scores.values()))
        return next(iter(self.errors.values()))

    @property
    def deciding(self) -> tuple[str, float]:
        """What decides, and its value: ``"error", 0.125`` or ``"mean IoU", 0.712``."""
        return next(iter(self.scores.items()), None) or ("error", self.error)

    def telling(self) -> dict[str, float]:
        """The scores or the errors, without top-5 where five classes or fewer have images: they
        are all among the five likeliest.
        """
        has_many = len(self.class_errors) > 5
        table = self.scores or self.errors
        return {kind: value for kind, value in table.items() if kind != "top-5" or has_many}

    def in_words(self) -> str:
        """All of it in a line: ``error 12.50% (top-5 2.50%)``."""
        _, *others = self.telling().items()
        first, *more = (f"{kind} {value:.2%}" for kind, value in (self.deciding, *others))
        return f"{first} ({', '.join(more)})" if more else first


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """The state of a run after an epoch."""

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
        BadFieldError: it is malformed.
    """
    validation = fields.object("validation")
    errors = validation.number_table("errors")
    scores, class_scores = (
        validation.number_table(key) if key in validation.names() else {}
        for key in ("scores", "class_scores")
    )
    if not errors and not scores:
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
            scores=scores,
            class_scores=class_scores,
        ),
        rate=fields.number("rate"),
        images_per_s=fields.number("images_per_s"),
        left_s=fields.number("left_s"),
        is_best=fields.boolean("is_best"),
        num_left_out=fields.integer("num_left_out"),
    )


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The outcome of a run."""

    run: Path
    """The folder of the run."""

    best: Epoch | None
    """The epoch with the least validation error, or the largest mean IoU; None before the end of
    the first epoch."""

    step: int
    """The number of steps done."""

    was_stopped: bool
    """Whether the run was stopped before its last step, and can be resumed."""

    seconds: float
    """The training time, without interruptions."""

    num_left_out: int
    """Images that could not be read."""

    left_out: tuple[str, ...]
    """The first of them, each with the reason."""

    has_learned_nothing: bool = False
    """Whether the net names one class for every image, at a loss no better than chance."""

    stopped_by: int | None = None
    """The number of the signal that stopped the run, if a signal did."""

    spec: str = ""
    """The spec of the net, as ``vggspec compile`` takes it."""

    is_reported_here: bool = True
    """Whether this process should report the result: False in all but one of several ranks."""

    @property
    def weights(self) -> Path:
        """The best weights."""
        return self.run / BEST


class TrainWatcher(Watcher):
    """A watcher of a training run; subclasses override what they need."""

    def begin(self, plan: TrainPlan) -> None:
        """The data has been read, and the run is about to begin."""

    def step(self, now: Step) -> None:
        """About once a second."""

    def epoch(self, now: Epoch) -> None:
        """After the validation of each epoch."""


class _General(TrainWatcher):
    """Reports a training run to a watcher that knows nothing about training."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch
        self._before: int | None = None
        self._error: tuple[str, ...] = ()

    def progress(self, now: Progress) -> None:
        self._watch.progress(now)

    def note(self, text: str) -> None:
        self._watch.note(text)

    def begin(self, plan: TrainPlan) -> None:
        for note in plan.notes:
            self.note(note)

    def step(self, now: Step) -> None:
        self._report(now)

    def epoch(self, now: Epoch) -> None:
        self._error = ("{} {:.2%}".format(*now.validation.deciding),)
        self._report(now)

    def _report(self, now: Step | Epoch) -> None:
        # The speed is measured from the first report on: a resumed run does not begin at step 0.
        self._before = now.step if self._before is None else self._before
        self.progress(
            Progress(
                doing="training",
                done=now.step,
                total=now.last_step,
                unit="steps",
                before=self._before,
                details=(f"epoch {now.epoch}", f"loss {now.loss:.3f}", *self._error),
            )
        )


def as_train_watcher(watch: Watcher) -> TrainWatcher:
    """The watcher itself if it knows about training, else one that reports to it in general."""
    return watch if isinstance(watch, TrainWatcher) else _General(watch)
