"""Images of a batch mixed with the ones before them, and their labels: mixup and CutMix.

What is drawn depends on the seed and the step alone, and is one for all images of a batch, so that
ranks, parts of a batch and resumed runs mix alike. The formulas are those of the papers and of
torchvision's ``v2.MixUp`` and ``v2.CutMix``.

Source: Zhang et al. 2018; Yun et al. 2019.
"""

import math
from typing import NamedTuple

from torch import Tensor

from vggspec.base.recipe import TrainRecipe
from vggspec.training.order import Ticket, stream


class Mixture(NamedTuple):
    """How much of each image is its own."""

    own: float
    """The weight of its label; with ``box`` None, also of each of its pixels."""

    box: tuple[int, int, int, int] | None = None
    """Top, bottom, left, right of the rectangle that shows the other image."""

    def of(self, images: Tensor, others: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` mixed with as many others."""
        if self.box is None:
            return images * self.own + others * (1 - self.own)
        top, bottom, left, right = self.box
        images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return images


def mixture(recipe: TrainRecipe, size: tuple[int, int], seed: int, step: int) -> Mixture | None:
    """The mixture of a step, for images of ``size``, rows and columns; None where none is asked."""
    parameters = [each for each in (recipe.mixup, recipe.cutmix) if each]
    if not parameters:
        return None
    random = stream(seed, "mixing", Ticket(step, 0))
    which, y, x = random.random(3)
    parameter = parameters[int(which * len(parameters))]
    own = float(random.beta(parameter, parameter))
    if not recipe.cutmix or (recipe.mixup and which < 0.5):
        return Mixture(own)
    rows, columns = size
    half = 0.5 * math.sqrt(1 - own)
    top, bottom = _cut(int(y * rows), int(half * rows), rows)
    left, right = _cut(int(x * columns), int(half * columns), columns)
    shown = (bottom - top) * (right - left) / (rows * columns)
    return Mixture(1 - shown, (top, bottom, left, right))


def _cut(middle: int, half: int, length: int) -> tuple[int, int]:
    return max(0, middle - half), min(length, middle + half)
