"""What the command line shows of a training run: its plan, a line an epoch, and one that moves.

Steps are reported about once a second, so no thread is needed; none may run, since the processes
that decode images are forked while the run is shown.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vggspec.base.quantities import duration
from vggspec.base.render import shown as printable
from vggspec.base.wording import count
from vggspec.cli.progress import Shown, joined
from vggspec.cli.targets import say_weights
from vggspec.cli.terminal import is_quiet, say
from vggspec.training.progress import TrainWatcher

if TYPE_CHECKING:
    from rich.console import Console

    from vggspec.training.plan import TrainPlan
    from vggspec.training.progress import Epoch, Step

SILENT_S = 600.0  # at most, without a new line in a log file


class TrainShown(Shown, TrainWatcher):
    """Shows a run: on a terminal a line that moves below the epochs, else epochs as lines."""

    def __init__(
        self, console: "Console | None" = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(console, clock)
        self._said_at = clock()
        self._error: str | None = None

    def begin(self, plan: "TrainPlan") -> None:
        self.close()
        say_plan(plan)
        self.move("starting")

    def step(self, now: "Step") -> None:
        if self.move("starting"):
            self._draw(now)
        elif self._clock() - self._said_at >= SILENT_S:
            self._stay(lambda width: step_line(now, self._error, width))

    def epoch(self, now: "Epoch") -> None:
        self._error = "{} {:.2%}".format(*now.validation.deciding)
        self.move("starting")
        self._stay(lambda width: epoch_line(now, width))
        self._draw(now)

    def _draw(self, now: "Step | Epoch") -> None:
        self.draw(lambda width: step_line(now, self._error, width), now.step, now.last_step)

    def _stay(self, text_of: Callable[[int | None], str]) -> None:
        self.stay(text_of)
        self._said_at = self._clock()


@contextlib.contextmanager
def train_shown() -> Iterator[TrainWatcher]:
    """A watcher that shows a run's progress on standard error, unless the command is quiet."""
    if is_quiet():
        yield TrainWatcher()
        return
    with contextlib.closing(TrainShown()) as watcher:
        yield watcher


def say_plan(plan: "TrainPlan") -> None:
    """Show what a run will do."""
    from vggspec.training.plan import recipe_in_words

    image = plan.input
    of = "examples" if plan.has_boxes else "images"
    images = f"{plan.train_images} training and {plan.val_images} validation {of}"
    begins = {
        "new": "",
        "resumed": ", resumed",
        "nothing to resume": ", new: there was nothing to resume",
    }
    lines = {
        "net": f"{plan.net}, {count(plan.weight_layers, 'weight layer')}, {plan.parameters}"
        f" parameters, input {image.height} × {image.width} {image.color}",
        "data": f"{plan.data}, {count(plan.classes, 'class')}, {images}",
        "recipe": recipe_in_words(plan.recipe),
        "run": f"{plan.run}{begins[plan.begins]}",
    }
    if plan.ranks > 1:
        lines["ranks"] = f"{plan.ranks}, each with a part of every batch"
    for word, text in lines.items():
        say(word, printable(text))
    for note in plan.notes:
        say("", note)
    for net, weights in plan.started_from:
        say_weights(weights, f"start from {net}")
    if plan.expected_input is not None:
        from vggspec.compiler.input_contract import in_words

        text = in_words(plan.expected_input, with_color=True)
        say("input", f"{text}, as the weights expect ({printable(plan.expected_by)})")


def step_line(now: "Step | Epoch", error: str | None, width: int | None = None) -> str:
    """The state of a run, in a line; ``error`` is that of the last validation in words, if any."""
    parts = {
        "epoch": f"epoch {now.epoch}",
        "step": f"step {now.step}/{now.last_step}",
        "loss": f"loss {now.loss:.3f}",
        "error": error or "",
        "rate": f"rate {now.rate:g}",
        "speed": _speed(now),
        "left": f"{duration(now.left_s)} left",
    }
    return joined(parts, ("step", "rate", "speed", "error"), width)


def epoch_line(now: "Epoch", width: int | None = None) -> str:
    """The result of an epoch, in a line; a star marks the best so far."""
    validation = now.validation
    # With fewer classes, the five likeliest say little.
    has_many = "top-5" in validation.errors and len(validation.class_errors) > 20
    parts = {
        "epoch": f"epoch {now.epoch:3}",
        "loss": f"loss {now.loss:6.3f}",
        "error": "{} {:6.2%}".format(*validation.deciding),
        "top-5": f"top-5 {validation.errors['top-5']:6.2%}" if has_many else "",
        "rate": f"rate {now.rate:g}",
        "speed": _speed(now),
        "left": f"{duration(now.left_s)} left",
    }
    parts["top-5" if has_many else "error"] += " *" if now.is_best else "  "
    return joined(parts, ("left", "speed", "rate"), width)


def _speed(now: "Step | Epoch") -> str:
    """Nothing where a resumed run had no step left to do in the epoch."""
    return f"{now.images_per_s:.0f} images/s" if now.images_per_s else ""
