"""torchvision's nets: weights and class scores that we did not write."""

import glob
import importlib
import importlib.util
import os
from types import ModuleType

import pytest
import torch
from torch import nn


def torchvision_models() -> ModuleType:
    """``torchvision.models``; skips the test where torchvision is not installed.

    The library of a wheel for CUDA does not load beside a torch for CPUs. Then torchvision stops at
    the first operator that it describes but did not define; with the schemas of the two declared,
    its models work.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        pytest.skip("needs torchvision: pip install --no-deps torchvision")
    if not hasattr(torch.ops.torchvision, "nms"):
        _load_library(os.path.dirname(spec.origin))
    return importlib.import_module("torchvision.models")


_DECLARED: list[torch.library.Library] = []  # a declaration lives as long as its library


def _load_library(folder: str) -> None:
    try:
        for path in glob.glob(os.path.join(folder, "_C.*")):
            torch.ops.load_library(path)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        takes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(f"nms{takes}")
        library.define(f"qnms{takes}")
        _DECLARED.append(library)


def made(model: str, seed: int = 0, **options: object) -> nn.Module:
    """A net of torchvision with random weights and statistics, as it classifies images."""
    torch.manual_seed(seed)
    net: nn.Module = getattr(torchvision_models(), model)(weights=None, **options)
    set_statistics(net)
    return net.eval()


def set_statistics(net: nn.Module) -> None:
    """Let every batch normalisation differ from every other, and from doing nothing."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
