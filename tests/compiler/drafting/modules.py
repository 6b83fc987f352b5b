"""Nets in PyTorch that no spec was written for, by hand and at random, and their ONNX models."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.peers import set_statistics

UNFOLDED = {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
OPEN_BATCH = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}}

Layers = Sequence[nn.Module]


class Sum(nn.Module):
    """Two paths, or one and what enters it."""

    def __init__(self, main: Layers, other: Layers = (), *, is_turned: bool = False) -> None:
        super().__init__()
        self.main, self.other = nn.Sequential(*main), nn.Sequential(*other)
        self.is_turned = is_turned

    def forward(self, x: Tensor) -> Tensor:
        if self.is_turned:
            return self.other(x) + self.main(x)
        return self.main(x) + self.other(x)


class Joined(nn.Module):
    """The channels of paths."""

    def __init__(self, *paths: Layers) -> None:
        super().__init__()
        self.paths = nn.ModuleList(nn.Sequential(*path) for path in paths)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


class Crossed(nn.Module):
    """Paths that cross, so that brackets alone do not say them."""

    def __init__(self, first: Layers, second: Layers, third: Layers, *, is_long: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Sequential(*first), nn.Sequential(*second)
        self.third, self.is_long = nn.Sequential(*third), is_long

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(a) + x if self.is_long else self.second(a)
        c = self.third(b)
        return torch.cat([c + a, b, x] if self.is_long else [c + a, b + x], 1)


def conv(before: int, after: int, size: int = 3, stride: int = 1, **more: Any) -> nn.Conv2d:
    """A conv that keeps the resolution at stride 1."""
    return nn.Conv2d(before, after, size, stride, padding=size // 2, **more)


def normed(before: int, after: int, size: int = 3, stride: int = 1, **more: Any) -> list[nn.Module]:
    """A conv without a bias, and batch normalisation."""
    return [conv(before, after, size, stride, bias=False, **more), nn.BatchNorm2d(after)]


def head(channels: int, classes: int) -> list[nn.Module]:
    """The mean over space, and an FC layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def exported(layers: Layers, path: Path, *shape: int, **options: Any) -> nn.Module:
    """A net of these layers in a file, and as a module; ``shape`` is that of an image."""
    torch.manual_seed(0)
    net = nn.Sequential(*layers).eval()
    x = torch.randn(1, *shape)
    net(x)  # what is lazy gets its shape
    set_statistics(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {"dynamo": False, "verbose": False} | options
        torch.onnx.export(net, (x,), path, **more)
    return net


class Random:
    """A net by chance: of plain layers, sums, joined channels and paths that cross."""

    def __init__(self, seed: int) -> None:
        self._by = random.Random(seed)
        kinds = [nn.ReLU, nn.ReLU6, nn.SiLU]
        self._kinds = [self._by.choice(kinds)] if self._by.random() < 0.7 else kinds
        self.shape = (self._by.choice([1, 3]), 8, self._by.choice([8, 9]))
        self.options = self._by.choice([{}, UNFOLDED, OPEN_BATCH])
        channels, self.layers = self.shape[0], list[nn.Module]()
        for _ in range(self._by.randint(1, 6)):
            more, channels = self._some(channels)
            self.layers += more
        self.layers += self._end(channels)

    def _activation(self) -> nn.Module:
        return self._by.choice(self._kinds)()

    def _unit(self, before: int, after: int, stride: int = 1, *, acts: bool = True) -> Layers:
        groups = before if before == after and self._by.random() < 0.3 else 1
        has_bias = self._by.random() < 0.6
        size = self._by.choice([1, 3])
        found: list[nn.Module] = [conv(before, after, size, stride, groups=groups, bias=has_bias)]
        if self._by.random() < 0.5:
            found.append(nn.BatchNorm2d(after, eps=self._by.choice([1e-5, 1e-3])))
        if acts and self._by.random() < 0.8:
            found.append(self._activation())
        if self._by.random() < 0.1:
            found.append(nn.BatchNorm2d(after))
        if self._by.random() < 0.1:
            found.append(nn.ReLU())
        return found

    def _path(self, before: int, after: int, stride: int, layers: int) -> Layers:
        found: list[nn.Module] = []
        if self._by.random() < 0.2:
            found += [nn.BatchNorm2d(before), self._activation()]
        for i in range(layers):
            acts = i < layers - 1 or self._by.random() < 0.3
            found += self._unit(before, after, 1 if i else stride, acts=acts)
            before = after
        return found

    def _some(self, channels: int) -> tuple[list[nn.Module], int]:
        kind, after = self._by.random(), self._by.choice([4, 6])
        if kind < 0.3:
            return [*self._unit(channels, after, self._by.choice([1, 1, 2]))], after
        if kind < 0.4:
            pools = (
                nn.MaxPool2d(3, 2, 1),
                nn.AvgPool2d(3, 1, 1, count_include_pad=False),
                nn.AvgPool2d(3, 2, 1),
                nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            )
            return [self._by.choice(pools)], channels
        if kind < 0.65:
            return self._sums(channels, after), after
        if kind < 0.85 or channels > 8:
            paths = [self._path(channels, 4, 1, self._by.randint(1, 2)) for _ in range(2)]
            is_dense = self._by.random() < 0.5
            return [Joined(*([()] * is_dense), *paths)], 8 + channels * is_dense
        is_long = self._by.random() < 0.5
        paths = [self._path(channels, channels, 1, 1) for _ in range(3)]
        return [Crossed(*paths, is_long=is_long)], channels * (3 if is_long else 2)

    def _sums(self, channels: int, after: int) -> list[nn.Module]:
        found: list[nn.Module] = []
        for i in range(self._by.randint(1, 3)):
            stride = 1 if i else self._by.choice([1, 2])
            other: list[nn.Module] = []
            if channels != after or stride != 1:
                has_bias = self._by.random() < 0.5
                other = [nn.Conv2d(channels, after, 1, stride, bias=has_bias)]
                other += [nn.BatchNorm2d(after)] if self._by.random() < 0.5 else []
            main = self._path(channels, after, stride, self._by.randint(1, 2))
            found.append(Sum(main, other, is_turned=self._by.random() < 0.3))
            found += [self._activation()] if self._by.random() < 0.7 else []
            channels = after
        return found

    def _end(self, channels: int) -> list[nn.Module]:
        kind = self._by.random()
        end = head(channels, 5)
        if kind < 0.3:
            end = [conv(channels, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        elif kind < 0.6:
            end = [nn.Flatten(), nn.LazyLinear(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3)]
        return [*end, nn.Softmax(1)] if self._by.random() < 0.3 else end
