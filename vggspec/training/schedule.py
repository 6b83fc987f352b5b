"""The learning rate of each step, as a function of the step.

Sources: Simonyan & Zisserman 2015, section 3.1, for the plateau; Goyal et al. 2017, section 2.2,
for the warm-up; Loshchilov & Hutter 2017, equation 5 without restarts, for the cosine.
"""

import math
from dataclasses import dataclass

from vggspec.base.recipe import TrainRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSchedule:
    """The rates of a run."""

    recipe: TrainRecipe
    steps_per_epoch: int
    last_step: int

    def rate(self, step: int, plateau: float) -> float:
        """The rate of a step, counted from 1; ``plateau`` is the rate that a plateau left."""
        warming = self.recipe.warm_up * self.steps_per_epoch
        rate = self._warm(step, plateau, warming)
        return rate * step / warming if step < warming else rate

    def _warm(self, step: int, plateau: float, warming: int) -> float:
        recipe = self.recipe
        if recipe.schedule == "cosine":
            done = max(0, step - 1 - warming) / max(1, self.last_step - warming)
            return recipe.rate * (1 + math.cos(math.pi * min(1.0, done))) / 2
        if recipe.schedule == "epochs":
            epochs = (step - 1) // self.steps_per_epoch
            return recipe.rate / recipe.decay ** sum(epochs >= end for end in recipe.decay_at)
        return plateau
