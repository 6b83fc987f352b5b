"""The state of a run except its weights: everything that a checkpoint stores as text."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from vggspec.base.fields import Fields
from vggspec.base.recipe import TrainRecipe
from vggspec.training.progress import Epoch, epoch_of


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
    """The state of a run."""

    plateau: Plateau
    step: int = 0
    epoch: int = 1
    """The current one, or the next where ``batches`` is 0."""

    batches: int = 0
    """Of this epoch, done."""

    loss: float = 0.0
    """Of this epoch, added up over ``number`` images, or positions of label maps."""

    number: int = 0
    best: Epoch | None = None
    unread: dict[str, str] = field(default_factory=dict)
    """Images that could not be read, with the reasons."""

    seconds: float = 0.0
    log_bytes: int = 0
    """Length of the log; later lines are not part of a run that is resumed here."""

    @classmethod
    def at_start(cls, recipe: TrainRecipe) -> Self:
        """Before the first step."""
        plateau = Plateau(
            rate=recipe.rate,
            decay=recipe.decay,
            decays_left=recipe.decays,
            patience=recipe.patience,
        )
        return cls(plateau=plateau)

    def as_json(self) -> dict[str, Any]:
        """As tables, numbers and texts."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """The inverse of ``as_json``, after JSON.

        Raises:
            BadFieldError: it is malformed.
        """
        plateau = fields.object("plateau")
        return cls(
            plateau=Plateau(
                rate=plateau.number("rate", 0),
                decay=plateau.number("decay", 0),
                decays_left=plateau.integer("decays_left"),
                patience=plateau.integer("patience"),
                best=plateau.number("best"),
                waited=plateau.integer("waited"),
            ),
            step=fields.integer("step"),
            epoch=fields.integer("epoch", 1),
            batches=fields.integer("batches"),
            loss=fields.number("loss"),
            # Earlier versions had images alone.
            number=fields.integer("number" if "number" in fields.names() else "images"),
            best=None if fields.is_null("best") else epoch_of(fields.object("best")),
            unread=fields.text_table("unread"),
            seconds=fields.number("seconds"),
            log_bytes=fields.integer("log_bytes"),
        )
