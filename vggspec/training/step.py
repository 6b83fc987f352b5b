"""A step of training: forward, backward, update, on this rank's part of a batch.

Source: Simonyan & Zisserman 2015, section 3.1: mini-batch gradient descent with momentum.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.sgd import sgd

from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.backends.torch.module import SpecModule
from vggspec.training.batches import Batch, Normalise
from vggspec.training.dropout import Dropouts
from vggspec.training.objective import objective_of
from vggspec.training.ranks import Ranks, lost_ranks, normalise_over_ranks
from vggspec.training.request import TrainPrecision


class Stepper:
    """A model, its momentum, and how they are computed.

    A batch is computed at most ``at_a_time`` images at once; the gradients add up to the same.
    ``rate`` may be changed, and ``momentum``, the velocity of each parameter by its name.
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
        self._objective = objective_of(model.network)
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
        self.momentum = {name: torch.zeros_like(p) for name, p in self._parameters.items()}

    def __call__(self, batch: Batch, number: int, step: int) -> Tensor:
        """Learn from the ``number`` images of all ranks; this rank's losses, added up.

        Raises:
            VggspecError: another rank is gone.
        """
        for parameter in self._parameters.values():
            parameter.grad = None
        with lost_ranks():
            loss = self.add_gradients(batch, number, step)
        self._update()
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

    def _update(self) -> None:
        """``v = momentum v + gradient + decay w; w = w - rate v`` for all parameters at once.

        PyTorch's own function; its class, ``torch.optim.SGD``, loads all of its compiler first,
        for three seconds.
        """
        with torch.no_grad():
            sgd(
                list(self._parameters.values()),
                [_gradient(parameter) for parameter in self._parameters.values()],
                list(self.momentum.values()),
                fused=True,
                lr=self.rate,
                momentum=self._recipe.momentum,
                weight_decay=self._recipe.weight_decay,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )

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


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "every parameter leads to the loss"
    return parameter.grad
