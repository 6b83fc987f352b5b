"""Detects classifiers that do not learn, and suggests what to try.

A net that has learned nothing names one class for every image, and its loss is the entropy of the
classes: ln K for K classes with equally many images.
"""

import math

import numpy as np
from numpy.typing import NDArray

from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.ir import Network
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.training.objective import Classification, objective_of
from vggspec.training.progress import Epoch, Validation

#: A loss below this share of the loss of a net without knowledge shows learning.
LEARNED = 0.95

#: A mean loss of an epoch above this multiple of that loss shows divergence.
BLOWN_UP = 10.0

#: An error rate this close to 0 or 1 counts as 0 or 1.
ALMOST = 0.02

#: The first epochs of a run may all be alike.
EPOCHS = 2

#: The paper trained its deeper nets from one with that many weight layers (section 3.1).
SHALLOW = 11


class Learning:
    """Judges each epoch of a run."""

    def __init__(
        self,
        network: Network,
        recipe: TrainRecipe,
        labels: NDArray[np.int32],
        weights: tuple[float, ...] | None = None,
    ) -> None:
        self._network, self._recipe = network, recipe
        self._names_classes = isinstance(objective_of(network), Classification)
        shares = np.bincount(labels) / max(len(labels), 1)
        if recipe.classes_balanced:
            shares = (shares > 0) / max((shares > 0).sum(), 1)
        weighted = shares if weights is None else shares * np.array(weights)[: len(shares)]
        weighted = weighted[weighted > 0]
        # Of a net that knows how much each class weighs in the loss, and nothing of the images.
        self._of_nothing = float(-(weighted * np.log(weighted / weighted.sum())).sum())
        self._classes = int((shares > 0).sum())
        self._has_spoken = False

    def remark(self, now: Epoch) -> str | None:
        """A remark about an epoch, in lines, or None; at most one in a run."""
        if self._has_spoken or not self._names_classes:
            return None
        if self._is_blown_up(now):
            text = f"a loss of {now.loss:,.0f} is that of steps that were far too large"
            advice = against_divergence(self._network, self._recipe)
        elif self.has_learned_nothing(now) and (now.epoch >= EPOCHS or now.step == now.last_step):
            text = "it has learned nothing so far: it names one class for every image"
            text += f", and {self._loss_in_words(now)}"
            advice = against_standstill(self._network, self._recipe)
        else:
            return None
        self._has_spoken = True
        return "\n".join((f"{text}; try", *(f"  {each}" for each in advice)))

    def has_learned_nothing(self, now: Epoch) -> bool:
        """Whether the net names one class for every image, at a loss no better than chance."""
        is_far = now.loss >= LEARNED * self._of_nothing
        return self._names_classes and self._classes > 1 and is_far and _says_one(now.validation)

    def _is_blown_up(self, now: Epoch) -> bool:
        return now.loss > BLOWN_UP * max(self._of_nothing, 1.0)

    def _loss_in_words(self, now: Epoch) -> str:
        is_even = math.isclose(self._of_nothing, math.log(self._classes), rel_tol=0.01)
        nothing = (
            f"ln {self._classes} = {self._of_nothing:.3f}"
            if is_even
            else (f"{self._of_nothing:.3f}, that of knowing how often each class comes")
        )
        return f"its loss of {now.loss:.3f} has not left {nothing}"


def _says_one(validation: Validation) -> bool:
    """Whether the net names one class for all validation images."""
    errors = sorted(validation.class_errors.values())
    return len(errors) > 1 and errors[0] <= ALMOST and errors[1] >= 1 - ALMOST


def against_divergence(network: Network, recipe: TrainRecipe) -> tuple[str, ...]:
    """Suggestions if the steps are too large, except settings that are in effect already."""
    found = [f"a lower rate: --set rate={recipe.rate / 10:g}"]
    image = network.input
    if image.std is None and image.scale == 1:
        found.append(f"`{image.color}(std 58)` in the spec, which divides the input by its spread")
    return (*found, *_steadier(network, recipe))


def against_standstill(network: Network, recipe: TrainRecipe) -> tuple[str, ...]:
    """Suggestions if the loss does not fall, except settings that are in effect already."""
    rate = recipe.rate
    return (
        *_steadier(network, recipe),
        f"another rate: --set rate={rate / 10:g}, or --set rate={rate * 10:g}",
        "and check that the images of each class are in the folder of its name",
    )


def _steadier(network: Network, recipe: TrainRecipe) -> tuple[str, ...]:
    has_norm = any(isinstance(layer.op, BatchNorm) for layer in network.layers)
    found = []
    if recipe.start != "he":
        found.append("random weights by He et al.: --set start=he")
    if not has_norm:
        found.append("`BN` after each conv in the spec")
    if len(network.weight_layers) > SHALLOW and not recipe.start_from:
        found.append(
            "layers of a shallower net that is trained first, as in the paper:"
            " --set 'start=from \"A.vgg\": first 4 conv, last 3 FC'"
        )
    return tuple(found)
