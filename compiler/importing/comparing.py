"""An imported net beside that of the library which its weights come from, on the same images."""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vggspec.base.catalogue.importing import NoPeer, OtherScores
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.optional import has_library, require
from vggspec.compiler.importing.checkpoint import Checkpoint
from vggspec.compiler.importing.matching import Matched
from vggspec.compiler.input_contract import gain, known_mean
from vggspec.compiler.ir import ImageInput, Network

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_APART = 1e-3
"""The largest difference of scores, as a part of the largest, that rounding explains."""

_IMAGES = 1

#: The nets that are tried in each library, by the beginning of their names, and what is in the
#: name of one of their tensors.
_FAMILIES = {
    "torchvision": {
        "vgg": "features.0.", "alexnet": "features.0.", "resnet": "layer1.0.",
        "resnext": "layer1.0.", "wide_resnet": "layer1.0.", "squeezenet": ".squeeze.",
        "densenet": ".denseblock1.", "googlenet": "inception3a.",
        "mobilenet_v2": "features.1.conv.",
    },
    "timm": {
        "vgg": "pre_logits.", "resnet18": "layer1.0.", "resnet34": "layer1.0.",
        "resnet50": "layer1.0.", "resnet101": "layer1.0.", "resnet152": "layer1.0.",
        "resnext50_32x4d": "layer1.0.", "densenet": ".denseblock1.", "mobilenetv2_100": "blocks.0.",
        "repvgg_a0": "stages.0.",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """Scores of ours beside those of the library's net."""

    peer: str
    """Such as ``torchvision's vgg16``."""

    error: float
    """The largest difference of a score, divided by the largest score."""

    images: int
    size: tuple[int, int]
    """Height and width in pixels."""


def compare(
    network: Network, image: ImageInput, matched: Matched, checkpoint: Checkpoint, source: str
) -> Compared:
    """Run both nets on images of noise, each normalised as its own side says.

    Raises:
        VggspecError: the library has no net with these tensors, or the scores differ.
        MissingLibraryError: PyTorch or the library is not installed, or cannot be imported.
    """
    require("torch", "--check")
    import torch

    title, peer, mean, std = _peer(_libraries(source, checkpoint), checkpoint)
    height, width = network.input.height, network.input.width
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (_IMAGES, 3, height, width)).astype(np.float32))
    with torch.inference_mode():
        theirs = peer((pixels / 255 - _channels(mean)) / _channels(std))
        given = pixels if image.color == "RGB" else pixels.flip(1)
        ours = _scores(network, matched, (given - _channels(known_mean(image))) * _gain(image))
    error = float((ours - theirs).abs().max() / theirs.abs().max())
    if not error <= MOST_APART:
        raise VggspecError(report(OtherScores(peer=title, error=error), path=checkpoint.path))
    return Compared(title, error, _IMAGES, (height, width))


def _scores(network: Network, matched: Matched, x: "Tensor") -> "Tensor":
    import torch

    from vggspec.compiler.backends.torch import module
    from vggspec.compiler.passes import DropSoftmax, inference, run

    emitted = module.emit(run((DropSoftmax(), *inference("crop")), network))
    state = {name: torch.from_numpy(array) for name, array in matched.arrays.items()}
    emitted.load_state_dict(state, strict=False, assign=True)
    found: Tensor = emitted.eval()(x)
    return found


def _libraries(source: str, checkpoint: Checkpoint) -> list[str]:
    """The libraries to look in: the weights' own, or those that are here if it is not known."""
    if source in _FAMILIES:
        return [source]
    if source != "spec":
        why = f"{source}'s nets are in neither torchvision nor timm"
        raise VggspecError(report(NoPeer(reason=why), path=checkpoint.path))
    found = [library for library in _FAMILIES if has_library(library)]
    if not found:
        raise MissingLibraryError("--check needs torchvision or timm: pip install torchvision")
    return found


def _peer(
    sources: list[str], checkpoint: Checkpoint
) -> tuple[str, "nn.Module", tuple[float, ...], tuple[float, ...]]:
    """The net of a library that has these tensors, with its name, and how it normalises an image of
    0 to 1.
    """
    import torch

    state = {
        name.removeprefix("module."): torch.from_numpy(array)
        for name, array in checkpoint.tensors.items()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for source in sources:
        library = _library(source)
        for name in _names(source, library, state):
            with torch.device("meta"):
                net = _made(source, library, name)
            wanted = {
                key: tuple(tensor.shape)
                for key, tensor in net.state_dict().items()
                if tensor.is_floating_point()
            }
            if wanted == shapes:
                net = _made(source, library, name)
                net.load_state_dict(state, strict=False, assign=True)
                return f"{source}'s {name}", net.eval(), *_normalisation(source, library, name, net)
    why = f"{' and '.join(sources)} have no net with exactly these tensors"
    raise VggspecError(report(NoPeer(reason=why), path=checkpoint.path))


def _library(source: str) -> Any:
    name = "torchvision.models" if source == "torchvision" else source
    if not has_library(source):
        raise MissingLibraryError(f"--check needs {source}: pip install {source}")
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        message = f"--check needs {source}, which cannot be imported here: {error}"
        raise MissingLibraryError(message) from error


def _names(source: str, library: Any, tensors: Iterable[str]) -> Iterator[str]:
    """The library's nets that may have tensors of these names."""
    families = tuple(
        family
        for family, part in _FAMILIES[source].items()
        if any(part in name for name in tensors)
    )
    is_torchvision = source == "torchvision"
    listed = library.list_models(module=library) if is_torchvision else library.list_models()
    yield from (name for name in listed if name.startswith(families))


def _made(source: str, library: Any, name: str) -> "nn.Module":
    of_googlenet = {"init_weights": False} if name == "googlenet" else {}
    found: nn.Module
    if source == "torchvision":
        found = library.get_model(name, weights=None, **of_googlenet)
    else:
        found = library.create_model(name, pretrained=False)
    return found


def _normalisation(
    source: str, library: Any, name: str, net: "nn.Module"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, as the library itself has them for its weights."""
    if source == "torchvision":
        transforms = library.get_model_weights(name).DEFAULT.transforms()
        return tuple(transforms.mean), tuple(transforms.std)
    config = library.data.resolve_model_data_config(net)
    return config["mean"], config["std"]


def _channels(numbers: tuple[float, ...]) -> "Tensor":
    import torch

    return torch.tensor(numbers)[:, None, None]


def _gain(image: ImageInput) -> "Tensor":
    return _channels(gain(image))
