"""Checkpoints of other tools as the parameters of a net.

A checkpoint names its tensors in its own way, torchvision's ``features.0.weight`` for instance, so
layers are matched by their order and checked by their shapes.

torchvision, timm and Caffe conversions keep conv weights as ``(out, in, rows, columns)`` and the
first FC with its columns in the order C, H, W: the layout of ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from vggspec.catalogue import artefacts
from vggspec.compiler.checkpoint import Checkpoint
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.weights import Array
from vggspec.diagnostic import VggspecError, report

#: Parts of a checkpoint in the order of the net, where the alphabet has another.
_ORDER = ("features", "pre_logits", "avgpool", "classifier", "head")
_WRAPPERS = ("module.", "model.", "backbone.", "_orig_mod.")


@dataclass
class _Module:
    """The tensors of one layer of a checkpoint."""

    name: str
    tensors: dict[str, Array] = field(default_factory=dict)

    @property
    def is_norm(self) -> bool:
        return "running_mean" in self.tensors

    @property
    def weight(self) -> Array:
        return self.tensors["weight"]


def match(network: Network, checkpoint: Checkpoint) -> dict[str, Array]:
    """The net's parameters, by our names and in our shapes.

    Raises:
        VggspecError: the checkpoint is another net's, or holds numbers that are not finite.
    """
    path, tensors = checkpoint.path, checkpoint.tensors
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise _refuse(path, f"`{name}` holds numbers that are not finite")
    wanted = {param.name: param.stored for param in network.params()}
    if wanted.keys() <= tensors.keys():
        return {name: _shaped(tensors[name], wanted[name], name, path) for name in wanted}
    modules = _modules(tensors)
    convs = [m for m in modules if not m.is_norm and m.weight.ndim in (2, 4)]
    norms = [m for m in modules if m.is_norm]
    found: dict[str, Array] = {}
    for kind, layers, theirs in (
        ("weight layers", list(network.weight_layers), convs),
        ("batch normalisations", [la for la in network.layers if la.op.keyword == "BN"], norms),
    ):
        if len(layers) != len(theirs):
            raise _refuse(path, f"it has {len(theirs)} {kind}, net {network.name} {len(layers)}")
        for layer, module in zip(layers, theirs, strict=True):
            found.update(_layer(layer, module, path))
    return found


def _modules(tensors: Mapping[str, Array]) -> list[_Module]:
    """Tensors by layer, in the order of the net."""
    modules: dict[str, _Module] = {}
    for name, tensor in tensors.items():
        bare = name
        for wrapper in _WRAPPERS:
            bare = bare.removeprefix(wrapper)
        owner, _, part = bare.rpartition(".")
        modules.setdefault(owner, _Module(owner)).tensors[part] = tensor
    complete = [module for module in modules.values() if "weight" in module.tensors]
    return sorted(complete, key=_order)


def _order(module: _Module) -> tuple[int, list[tuple[int, str]]]:
    first = module.name.partition(".")[0]
    part = _ORDER.index(first) if first in _ORDER else len(_ORDER)
    pieces = re.findall(r"\d+|\D+", module.name)
    return part, [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces]


def _layer(layer: Layer, module: _Module, path: str) -> dict[str, Array]:
    found = {}
    for param in layer.params:
        part = param.name.rpartition(".")[2]
        tensor = module.tensors.get(part)
        if tensor is None:
            raise _refuse(path, f"`{module.name}` has no {part}, which `{layer.name}` needs")
        found[param.name] = _shaped(tensor, param.stored, f"{module.name}.{part}", path)
    return found


def _shaped(tensor: Array, shape: tuple[int, ...], name: str, path: str) -> Array:
    if tensor.shape == shape:
        return tensor
    # An FC kept as a convolution is the same numbers.
    if tensor.size == prod(shape) and tensor.shape[:1] == shape[:1]:
        return tensor.reshape(shape)
    have, want = (" × ".join(map(str, sides)) for sides in (tensor.shape, shape))
    raise _refuse(path, f"`{name}` is {have}, the net wants {want} there")


def swap_red_and_blue(network: Network, arrays: dict[str, Array]) -> None:
    """Turn a first layer for BGR into one for RGB, or back: its input channels in reverse."""
    first = network.weight_layers[0].params[0].name
    arrays[first] = np.ascontiguousarray(arrays[first][:, ::-1])


def is_like_torchvision(tensors: Mapping[str, Array]) -> bool:
    """Whether the names are torchvision's, whose nets expect inputs divided by a ``std``."""
    return any(re.fullmatch(r"(module\.)?features\.0\.(weight|bias)", name) for name in tensors)


def _refuse(path: str, why: str) -> VggspecError:
    return VggspecError(report(artefacts.UnknownCheckpoint(reason=why), path=path))
