"""A step of training: forward, backward, update, on this rank's part of a batch.

Source: Simonyan & Zisserman 2015, section 3.1: mini-batch gradient descent with momentum, unless
the recipe names another optimiser.
"""

import contextlib
import gc
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.backends.torch.module import SpecModule
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.trained_layers import frozen_layers
from vggspec.training.batches import Batch, Normalise
from vggspec.training.dropout import Dropouts
from vggspec.training.mixing import Mixture, mixture
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
        class_weights: tuple[float, ...] | None = None,
    ) -> None:
        self.model = model
        self.place = next(model.parameters()).device
        self._normalise = normalise
        self._ranks = ranks
        self._objective = objective_of(model.network, recipe.smooth_labels, class_weights)
        self._precision = precision
        self._at_a_time = at_a_time
        share = -(-recipe.batch // ranks.size)
        self._seed = seed
        self._dropouts = Dropouts(model, seed, recipe.batch)
        normalise_over_ranks(model, ranks)
        self._is_static = share <= at_a_time and not is_compiled
        self._is_compiled = is_compiled
        self.rate = recipe.rate
        self._recipe = recipe
        self._parameters = dict(model.named_parameters())
        self._groups = _groups(recipe, model)
        self._frozen: set[str] | None = None
        self._parallel: nn.Module = model
        self._call: nn.Module = model
        self.begin_epoch(1)
        self._optimiser = optimiser_of(recipe, self._parameters)
        self.memory = self._optimiser.memory
        keep = recipe.average_weights
        self.mean = None if keep is None else WeightMean(model, keep)

    def begin_epoch(self, epoch: int) -> None:
        """Take the mode of training, with the layers frozen that the recipe freezes in an epoch,
        counted from 1.
        """
        network, recipe = self.model.network, self._recipe
        part = next((one for one in reversed(recipe.frozen) if one.after < epoch), None)
        frozen = frozen_layers(network, part.up_to if part else None)
        norms = {layer.name for layer in network.layers if isinstance(layer.op, BatchNorm)}
        if recipe.freeze_batch_norm:
            frozen |= norms
        self.model.train()
        for name in frozen & norms:
            self.model.get_submodule(name).eval()
        if frozen == self._frozen:
            return
        is_first, self._frozen = self._frozen is None, frozen
        for layer in network.layers:
            for param in layer.params:
                if param.name in self._parameters:
                    parameter = self._parameters[param.name]
                    parameter.requires_grad_(layer.name not in frozen).grad = None
        if not is_first:  # what averaged gradients before still would, until nothing refers to it
            self._parallel = self._call = self.model
            if self._is_compiled:
                torch.compiler.reset()
            gc.collect()
        self._parallel = self._ranks.parallel(self.model, is_static=self._is_static)
        self._call = self._parallel
        if self._is_compiled:
            self._call = torch.compile(self._parallel)  # type: ignore[assignment]

    def __call__(self, batch: Batch, number: int, step: int) -> Tensor:
        """Learn from a batch of all ranks; this rank's losses, added up.

        The loss is their sum over all ranks, divided by ``number``.

        Raises:
            VggspecError: another rank is gone.
        """
        for parameter in self._parameters.values():
            parameter.grad = None
        with lost_ranks():
            loss = self.add_gradients(batch, number, step)
        if self._recipe.clip_gradients is not None:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._recipe.clip_gradients)
        for by, names in self._groups.items():
            trained = [name for name in names if self._parameters[name].requires_grad]
            if trained:
                self._optimiser.update(trained, by * self.rate)
        if self.mean is not None:
            self.mean.update(step)
        return loss

    def add_gradients(self, batch: Batch, number: int, step: int) -> Tensor:
        """Forward and backward, part by part; gradients are averaged over ranks at the end."""
        total = torch.zeros((), device=self.place)
        image = self.model.network.input
        mixed = mixture(self._recipe, (image.height, image.width), self._seed, step)
        # A rank without images takes part too: the others wait for its gradients.
        starts = range(0, max(1, len(batch.labels)), self._at_a_time)
        for start in starts:
            part = batch.part(slice(start, start + self._at_a_time))
            self._dropouts.draw(step, part.rows, self.place)
            with self._averaged(is_last=start == starts[-1]):
                images = self._normalise(part)
                if mixed is not None and part.others is not None:
                    images = mixed.of(images, self._normalise(part.others))
                with self.precision():
                    outputs = self._call(images)
                loss = self._loss(outputs.float(), part, mixed)
                (loss * (self._ranks.size / number)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, outputs: Tensor, part: Batch, mixed: Mixture | None) -> Tensor:
        """The losses of a part, added up; of mixed images, those of both labels."""
        loss = self._objective.loss(outputs, part)
        if mixed is None or part.others is None:
            return loss
        other = self._objective.loss(outputs, part.others)
        return mixed.own * loss + (1 - mixed.own) * other

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


def _groups(recipe: TrainRecipe, model: SpecModule) -> dict[float, list[str]]:
    """The parameters by the factor of their rate, all of a factor in their order."""
    of = dict(recipe.rates_of)
    found: dict[float, list[str]] = {}
    by_name = {param.name: layer.name for layer in model.network.layers for param in layer.params}
    for name, _ in model.named_parameters():
        found.setdefault(of.get(by_name[name], 1.0), []).append(name)
    return found
