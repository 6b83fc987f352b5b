"""Checkpoints of other tools as the parameters of a net.

A checkpoint names its tensors in its own way, torchvision's ``features.0.weight`` for instance, so
layers are matched by their order and checked by their shapes. Nothing is unpickled but tensors.

torchvision, timm and Caffe conversions keep conv weights as ``(out, in, rows, columns)`` and the
first FC with its columns in the order C, H, W: the layout of ours.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue import artefacts
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.weights import Array
from vggspec.diagnostic import VggspecError, report
from vggspec.optional import require
from vggspec.source import reason

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


def read_checkpoint(path: str) -> dict[str, Array]:
    """The tensors of a ``.safetensors``, ``.npz`` or PyTorch file, by name.

    Raises:
        VggspecError: it cannot be read, or holds numbers that are not finite.
        MissingLibraryError: a PyTorch file, and PyTorch is not installed.
    """
    if not os.path.isfile(path):
        what = artefacts.NoSuchFile(kind="checkpoint", reason="no such file")
        raise VggspecError(report(what, path=path))
    try:
        if path.endswith(".safetensors"):
            tensors = _read_safetensors(path)
        elif path.endswith(".npz"):
            with np.load(path, allow_pickle=False) as archive:
                tensors = {name: archive[name] for name in archive.files}
        else:
            tensors = _read_torch(path)
    except OSError as error:
        what = artefacts.NoSuchFile(kind="checkpoint", reason=reason(error))
        raise VggspecError(report(what, path=path)) from error
    except _BadCheckpointError as error:
        raise _refuse(path, str(error)) from error
    except ValueError as error:
        raise _refuse(path, f"it is damaged ({error})") from error
    found: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f":
            found[name] = np.ascontiguousarray(tensor, np.float32)
            if not np.isfinite(found[name]).all():
                raise _refuse(path, f"`{name}` holds numbers that are not finite")
    if not found:
        raise _refuse(path, "it holds no tensors")
    return found


class _BadCheckpointError(Exception):
    """The file is not a checkpoint that can be read."""


def _read_safetensors(path: str) -> Mapping[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _BadCheckpointError(f"it is damaged ({error})") from error
    except TypeError:  # numpy has no bfloat16
        require("torch", "a checkpoint in bfloat16")
        from safetensors.torch import load_file as load_torch

        return {name: tensor.float().numpy() for name, tensor in load_torch(path).items()}


def _read_torch(path: str) -> Mapping[str, NDArray[Any]]:
    import pickle

    torch = require("torch", "a PyTorch checkpoint")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "it is damaged"
        raise _BadCheckpointError(f"PyTorch refuses it ({first[:120]})") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise _BadCheckpointError("it holds no table of tensors")
    return {
        str(name): tensor.detach().to(torch.float32).numpy()
        for name, tensor in loaded.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def match(network: Network, tensors: Mapping[str, Array], path: str) -> dict[str, Array]:
    """The net's parameters, by our names and in our shapes.

    Raises:
        VggspecError: the checkpoint is another net's.
    """
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
