"""Updates of the parameters by their gradients, and the running mean of the weights.

PyTorch's own functions: its classes, such as ``torch.optim.SGD``, load all of its compiler first,
for three seconds.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from vggspec.base.recipe import TrainRecipe

#: Of the names of tensors in a checkpoint: the mean squares of gradients, and the weights that are
#: trained where those of the net are their mean.
SQUARES, TRAINED = "squares/", "trained/"
_UPDATES = "updates"


class Optimiser(Protocol):
    """How parameters change by their gradients."""

    memory: dict[str, Tensor]
    """What it keeps from step to step, by name: that of a parameter for its velocity or mean
    gradient.
    """

    def update(self, names: Sequence[str], rate: float) -> None:
        """Change these parameters, which have gradients."""


class Sgd:
    """``v = momentum v + gradient + decay w; w = w - rate v`` (section 3.1)."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: TrainRecipe) -> None:
        self._parameters = parameters
        self._recipe = recipe
        self.memory = {name: torch.zeros_like(p) for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, names: Sequence[str], rate: float) -> None:
        """Change these parameters at once."""
        sgd(
            [self._parameters[name] for name in names],
            [_gradient(self._parameters[name]) for name in names],
            [self.memory[name] for name in names],
            fused=True,
            lr=rate,
            momentum=self._recipe.momentum,
            weight_decay=self._recipe.weight_decay,
            dampening=0.0,
            nesterov=self._recipe.nesterov,
            maximize=False,
        )


class AdamW:
    """Steps by the mean gradient over the root of its mean square, and decay apart from them
    (Loshchilov & Hutter 2019, algorithm 2).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], recipe: TrainRecipe) -> None:
        self._parameters = parameters
        self._recipe = recipe
        self._places = {name: i for i, name in enumerate(parameters)}
        self._updates = torch.zeros(len(parameters))
        """Of each parameter: one that is frozen at first has fewer."""

        self.memory = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.memory |= {SQUARES + name: torch.zeros_like(p) for name, p in parameters.items()}
        self.memory[_UPDATES] = self._updates

    @torch.no_grad()
    def update(self, names: Sequence[str], rate: float) -> None:
        """Change these parameters at once."""
        parameters: list[Tensor] = [self._parameters[name] for name in names]
        places = [self._places[name] for name in names]
        adamw(
            parameters,
            [_gradient(parameter) for parameter in parameters],
            [self.memory[name] for name in names],
            [self.memory[SQUARES + name] for name in names],
            [],
            # Copies: it counts the updates of each parameter, on the parameter's device.
            [
                self._updates[i].to(p.device, copy=True)
                for i, p in zip(places, parameters, strict=True)
            ],
            fused=True,
            amsgrad=False,
            beta1=self._recipe.betas[0],
            beta2=self._recipe.betas[1],
            lr=rate,
            weight_decay=self._recipe.weight_decay,
            eps=1e-8,
            maximize=False,
        )
        self._updates[places] += 1


def optimiser_of(recipe: TrainRecipe, parameters: Mapping[str, nn.Parameter]) -> Optimiser:
    """The optimiser of a recipe."""
    kind = AdamW if recipe.optimiser == "adamw" else Sgd
    return kind(parameters, recipe)


class WeightMean:
    """The running mean of a model's weights and statistics over the steps.

    After ``n`` updates it keeps ``min(keep, (1 + n) / (10 + n))`` of itself, so that the random
    weights of the beginning are soon forgotten.

    Source: Polyak & Juditsky 1992; TensorFlow's ``ExponentialMovingAverage`` for the beginning.
    """

    def __init__(self, model: nn.Module, keep: float) -> None:
        self._keep = keep
        self._now = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        self.tensors = {name: tensor.clone() for name, tensor in self._now.items()}
        """By their names in the model."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        keep = min(self._keep, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._now.values()), 1 - keep)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """During the block the model has the mean."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, tensor in self._now.items():
            kept = tensor.clone()
            tensor.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "every trained parameter leads to the loss"
    return parameter.grad
