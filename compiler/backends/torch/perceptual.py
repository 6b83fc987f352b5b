"""The perceptual distance LPIPS as a module of PyTorch."""

from collections.abc import Sequence
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggspec.compiler.backends.torch.module import SpecModule
from vggspec.compiler.input_contract import gain, known_mean

#: Added to a sum of squares before its root, whose slope at zero is infinite.
_LEAST = 1e-20


class Perceptual(nn.Module):
    """The distance of two batches of images; see ``vggspec.perceptual``."""

    weights_sha256: str
    """The digest of the weights' numbers."""

    _mean: Tensor
    _gain: Tensor

    def __init__(
        self,
        features: SpecModule,
        factors: Sequence[NDArray[np.float32]],
        pixels: tuple[float, float],
    ) -> None:
        super().__init__()
        image = features.network.input
        self.taps = tuple(output.name for output in features.network.outputs)
        self.features = features
        self._is_bgr = image.color == "BGR"
        self._low, self._levels = pixels[0], 255.0 / (pixels[1] - pixels[0])
        for name, values in (("_mean", known_mean(image)), ("_gain", gain(image))):
            column = torch.tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1)
            self.register_buffer(name, column, persistent=False)
        for tap, array in zip(self.taps, factors, strict=True):
            column = torch.from_numpy(np.array(array, np.float32)).reshape(1, -1, 1, 1)
            self.register_buffer(f"factors_{tap}", column)
        self.requires_grad_(requires_grad=False)
        self.train(mode=False)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001 (torch's signature)
        """Stay in ``eval()`` mode: a distance does not change while a net is trained with it."""
        return super().train(mode=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The distances ``(N,)`` of two batches ``(N, C, H, W)``."""
        if first.shape != second.shape:
            shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
            raise ValueError(f"both batches must have the same shape, not {shapes}")
        distance = first.new_zeros(len(first))
        one, other = self._maps(first), self._maps(second)
        for tap in self.taps:
            difference = (_unit(one[tap]) - _unit(other[tap])).square()
            factors = cast("Tensor", getattr(self, f"factors_{tap}"))
            distance = distance + (difference * factors).sum(1).mean((1, 2))
        return distance

    def _maps(self, images: Tensor) -> dict[str, Tensor]:
        x = (images - self._low) * self._levels
        if self._is_bgr:
            x = x.flip(1)
        found = self.features((x - self._mean) * self._gain)
        return found if isinstance(found, dict) else {self.taps[0]: found}


def _unit(x: Tensor) -> Tensor:
    """The numbers of each position divided by their length over the channels."""
    return x / (x.square().sum(1, keepdim=True) + _LEAST).sqrt()
