"""What a run will do: everything that is known before its first step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vggspec.base.recipe import TrainRecipe
from vggspec.base.wording import count
from vggspec.compiler.ir import ImageInput
from vggspec.training.runs import FoundWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """The net, the data, the recipe, and where the run is written."""

    net: str
    weight_layers: int
    parameters: int
    input: ImageInput
    data: Path
    classes: int
    train_images: int
    """Of a net of boxes, examples: an image counts once for each class on it."""

    val_images: int
    has_boxes: bool
    recipe: TrainRecipe
    run: Path
    begins: Literal["new", "resumed", "nothing to resume"]
    """How the run begins; ``nothing to resume`` is a new run that was to be resumed if it
    existed.
    """

    ranks: int
    notes: tuple[str, ...] = ()
    """The unused parts of the data, in words."""

    started_from: tuple[tuple[str, FoundWeights], ...] = ()
    """The nets that a new run starts from, each with its weights."""

    expected_input: ImageInput | None = None
    """The input that these weights expect, where the spec leaves it open."""

    expected_by: str = ""
    """The tool whose convention that is."""


def recipe_in_words(recipe: TrainRecipe) -> str:
    """The recipe in a line, in the words of a spec."""
    low, high = recipe.scale
    parts = [
        *([] if recipe.area else [f"scale {low}" if low == high else f"scale {low}..{high}"]),
        "flip" if recipe.flip else "flip off",
        f"colour-shift {recipe.colour_shift:g}",
        f"batch {recipe.batch}",
        *([] if recipe.optimiser == "adamw" else [f"momentum {recipe.momentum:g}"]),
        f"weight-decay {recipe.weight_decay:g}",
        f"dropout {recipe.dropout:g}",
        f"rate {recipe.rate:g}",
        f"decay {recipe.decays_in_words()}",
        f"stop after {count(recipe.epochs, 'epoch')}"
        if recipe.epochs
        else f"stop after {count(recipe.iterations or 0, 'iteration')}",
        f"start normal {recipe.start_std:g}"
        if recipe.start == "normal"
        else f"start {recipe.start}",
        *(f"start from {other.write()}" for other in recipe.start_from),
        *(
            value if setting in ("frozen", "area") else f"{setting} {value}"
            for setting, value in recipe.additions_in_words().items()
            if value not in ("off", "sgd")
        ),
    ]
    return ", ".join(parts)
