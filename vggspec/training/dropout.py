"""Dropout whose draws depend on the seed, the step and the row of the batch alone.

Ranks that share a batch, parts of a batch that are computed in turn, and resumed runs therefore
drop the same activations as one device in one run. PyTorch's own dropout draws from a stream whose
state depends on all earlier draws.

Source: Krizhevsky et al. 2012, section 4.2; Simonyan & Zisserman 2015, section 3.1.
"""

import hashlib

import torch
from torch import Tensor, nn

from vggspec.compiler.backends.torch.module import SpecModule


class RowDropout(nn.Module):
    """While training, zeroes a share of the numbers and scales up the rest.

    ``keep`` ``(N, ...)`` says what stays, 0 or 1 / (1 - rate); it is set before each pass.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.keep: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        assert self.keep is not None, "`Dropouts.draw` comes first"
        return x * self.keep.to(x.dtype)


class Dropouts:
    """All dropout of a model."""

    def __init__(self, model: SpecModule, seed: int, batch: int) -> None:
        self._seed = seed
        self._batch = batch
        self._layers: list[tuple[RowDropout, str, tuple[int, ...]]] = []
        modules = dict(model.named_children())  # sums and joined channels have none
        for layer in model.network.layers:
            module = modules.get(layer.name)
            if not isinstance(module, nn.Dropout):
                continue
            mine = RowDropout(module.p)
            setattr(model, layer.name, mine)
            self._layers.append((mine, layer.name, layer.type.shape))

    def draw(self, step: int, rows: Tensor, device: torch.device) -> None:
        """Draw for these rows of a step's batch."""
        for module, name, shape in self._layers:
            random = torch.Generator(device).manual_seed(self._key(name, step))
            keep = torch.empty((self._batch, *shape), device=device)
            keep.bernoulli_(1 - module.rate, generator=random).div_(1 - module.rate)
            module.keep = keep[rows.to(device)]

    def _key(self, name: str, step: int) -> int:
        text = f"dropout {self._seed} {name} {step}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
