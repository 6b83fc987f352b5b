"""A step of training: forward, backward, update, on this rank's part of a batch.

Source: Simonyan & Zisserman 2015, section 3.1: mini-batch gradient descent with momentum, unless
the recipe names another optimiser.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.backends.torch.module import SpecModule
from vggspec.training.batches import Batch, Normalise
from vggspec.training.dropout import Dropouts
from vggspec.training.objective import objective_of
from vggspec.training.optimisers import WeightMean, optimiser_of
from vggspec.training.ranks import Ranks, lost_ranks, normalise_over_ranks
from vggspec.training.request import TrainPrecision


class Stepper:
    """A model, what its optimiser keeps, the mean of its weights, and how they are computed.

    A batch is computed at most ``at_a_time`` images at once; the gradients add up to the same.
    ``rate`` may be changed, and the tensors of ``memory``.
    """

    def __init__(
        self,
        model: SpecModule,
        normalise: Normalise,
        recipe: TrainRecipe,
        ranks: Ranks,
        *,
        seed: int,
        precision: TrainPrecision,
        at_a_time: int,
        is_compiled: bool = False,
    ) -> None:
        self.model = model
        self.place = next(model.parameters()).device
        self._normalise = normalise
        self._ranks = ranks
        self._objective = objective_of(model.network, recipe.smooth_labels)
        self._precision = precision
        self._at_a_time = at_a_time
        share = -(-recipe.batch // ranks.size)
        self._dropouts = Dropouts(model, seed, recipe.batch)
        normalise_over_ranks(model, ranks)
        is_static = share <= at_a_time and not is_compiled
        parallel = ranks.parallel(model, is_static=is_static)
        self._parallel = parallel
        self._call = torch.compile(parallel) if is_compiled else parallel
        self.rate = recipe.rate
        self._recipe = recipe
        self._parameters = dict(model.named_parameters())
        self._optimiser = optimiser_of(recipe, self._parameters)
        self.memory = self._optimiser.memory
        keep = recipe.average_weights
        self.mean = None if keep is None else WeightMean(model, keep)

    def __call__(self, batch: Batch, number: int, step: int) -> Tensor:
        """Learn from the ``number`` images of all ranks; this rank's losses, added up.

        Raises:
            VggspecError: another rank is gone.
        """
        for parameter in self._parameters.values():
            parameter.grad = None
        with lost_ranks():
            loss = self.add_gradients(batch, number, step)
        if self._recipe.clip_gradients is not None:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._recipe.clip_gradients)
        self._optimiser.update(self.rate)
        if self.mean is not None:
            self.mean.update(step)
        return loss

    def add_gradients(self, batch: Batch, number: int, step: int) -> Tensor:
        """Forward and backward, part by part; gradients are averaged over ranks at the end."""
        total = torch.zeros((), device=self.place)
        # A rank without images takes part too: the others wait for its gradients.
        starts = range(0, max(1, len(batch.labels)), self._at_a_time)
        for start in starts:
            part = batch.part(slice(start, start + self._at_a_time))
            self._dropouts.draw(step, part.rows, self.place)
            with self._averaged(is_last=start == starts[-1]):
                with self.precision():
                    outputs = self._call(self._normalise(part))
                loss = self._objective.loss(outputs.float(), part)
                (loss * (self._ranks.size / number)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def precision(self) -> contextlib.AbstractContextManager[None]:
        """Multiply in the precision of this training."""
        is_mixed = self._precision == "bf16"
        return torch.autocast(self.place.type, torch.bfloat16, enabled=is_mixed)

    @contextlib.contextmanager
    def _averaged(self, *, is_last: bool) -> Iterator[None]:
        """Average gradients over the ranks with the last part of a batch, not with each."""
        if is_last or not isinstance(self._parallel, DistributedDataParallel):
            yield
            return
        with self._parallel.no_sync():
            yield
