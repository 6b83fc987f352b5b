"""``vggspec.export_weights``: weights as torchvision, timm and Keras name them and lay them out."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import StrPath
from vggspec.base.catalogue import exporting
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.files import is_same_file, replacing_file
from vggspec.base.optional import require
from vggspec.base.render import shown
from vggspec.base.safetensors_header import header
from vggspec.base.short_repr import short_repr
from vggspec.base.version import __version__
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import either
from vggspec.compiler.importing.collection_names import (
    IN_WORDS,
    Collection,
    NoNamesError,
    check_epsilons,
    names_in,
)
from vggspec.compiler.importing.layouts import Slot, change_for, slots_of
from vggspec.compiler.importing.sources import SOURCES, in_color, turn_first_layer
from vggspec.compiler.input_contract import agree, in_words, settled
from vggspec.compiler.ir import ImageInput, Network
from vggspec.compiler.lower import load_network
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.weights import Array, for_net, open_weights

_TORCH = (".pth", ".pt", ".bin")

#: The ends of names that a collection's files have; the first is the default.
SUFFIXES: dict[Collection, tuple[str, ...]] = {
    "torchvision": (*_TORCH, ".safetensors"),
    "timm": (*_TORCH, ".safetensors"),
    "keras": (".weights.h5", ".h5"),
}

#: What Keras calls the parts of a batch normalisation, in its order.
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedWeights:
    """Weights in a file of another tool."""

    path: str
    names: dict[str, str]
    """Our layers, each with its name there."""

    input: ImageInput
    """The input that the weights expect."""

    is_turned: bool
    """Whether the first layer takes its channels in another order than the spec's."""


def export_weights(
    spec: StrPath,
    weights: StrPath,
    *,
    to: Collection,
    out: StrPath | None = None,
    keep_input: bool = False,
    watch: Watcher = SILENT,
) -> ExportedWeights:
    """Write the weights of a net as a collection names them and lays them out.

    Models of torchvision and timm load the file with ``load_state_dict``, those of
    ``keras.applications`` with ``load_weights``. The numbers are those of the weights file. The
    first layer is turned where the collection has its channels in another order; where it
    normalises images otherwise, nothing is written, unless ``keep_input`` is true.

    ``out`` is ``<net>.pth`` or ``<net>.weights.h5`` by default. Its end decides the format:
    ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` for torchvision and timm, ``.weights.h5`` or
    ``.h5`` for Keras. A file there is replaced, with a note to ``watch``.

    Raises:
        VggspecError: the spec has mistakes, the weights are another net's, or the collection has no
            such net or normalises its input otherwise.
        ArgumentError: ``out`` has another end, or is a file that is read.
        MissingLibraryError: torch or h5py is not installed.
    """
    if to not in SUFFIXES:
        raise ArgumentError(f"`to` is {either(tuple(SUFFIXES))}, not {to!r}")
    lowered = load_network(spec)
    path = lowered.network.name + SUFFIXES[to][0] if out is None else os.fspath(out)
    if not path.endswith(SUFFIXES[to]):
        raise ArgumentError(f"`{shown(path)}` must end in {either(SUFFIXES[to])} for {to}")
    if any(is_same_file(path, read) for read in (lowered.spec.source.name, os.fspath(weights))):
        raise ArgumentError(f"`{shown(path)}` is a file that is read; name another one.")
    try:
        names = names_in(lowered.network, to)
        check_epsilons(lowered.network, to)
    except NoNamesError as error:
        what = exporting.NotInCollection(
            net=lowered.network.name, collection=to, reason=str(error), nets=IN_WORDS[to]
        )
        raise VggspecError(report(what, path=lowered.spec.source.name)) from error
    file = for_net(open_weights(weights), lowered.network, is_read=True)
    network = settled(lowered, file)[0].network
    arrays: dict[str, Array] = {param.name: file.read(param.name) for param in network.params()}
    image = network.input if keep_input else _input_there(network, to, str(file.path))
    is_turned = image.color != network.input.color
    if is_turned:
        turn_first_layer(network, arrays, str(file.path))
    existed = os.path.isfile(path)
    if to == "keras":
        _write_keras(path, network, names, arrays)
    else:
        state = dict(_state(network, names, arrays, to))
        (_write_torch if path.endswith(_TORCH) else _write_safetensors)(path, state)
    if existed:
        watch.note(f"{shown(path)} existed and was replaced")
    return ExportedWeights(path=path, names=names, input=image, is_turned=is_turned)


def _input_there(network: Network, to: Collection, path: str) -> ImageInput:
    """The net's input as the collection gives it, perhaps in another order of channels.

    Raises:
        VggspecError: it is normalised in another way.
    """
    source = SOURCES[to]
    image = network.input
    theirs = source.input(image)
    if image.channels != 3 or not agree(in_color(image, theirs.color), theirs):
        what = exporting.OtherInputThere(
            collection=to,
            ours=in_words(image, with_color=True),
            theirs=in_words(theirs, with_color=True),
        )
        raise VggspecError(report(what, path=path))
    return in_color(image, theirs.color)


def _state(
    network: Network, names: Mapping[str, str], arrays: Mapping[str, Array], to: Collection
) -> Iterator[tuple[str, NDArray[Any]]]:
    """The state dict of PyTorch's module."""
    kernels = {slot.layer.name: slot.kernel for slot in slots_of(network)}
    for layer, name in names.items():
        for param in network[layer].params:
            part = param.name.rpartition(".")[2]
            array = arrays[param.name]
            kernel = kernels[layer]
            if to == "timm" and name.startswith("pre_logits.") and part == "weight":
                assert kernel is not None
                array = array.reshape(kernel)  # timm's first FC layers are convs
            yield f"{name}.{part}", array
        if kernels[layer] is None:
            yield f"{name}.num_batches_tracked", np.zeros((), np.int64)


def _write_torch(path: str, state: Mapping[str, NDArray[Any]]) -> None:
    torch = require("torch", "a file of PyTorch")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    with replacing_file(path) as file:
        torch.save(tensors, file)


def _write_safetensors(path: str, state: Mapping[str, NDArray[Any]]) -> None:
    dtypes = {"f": "F32", "i": "I64"}
    tensors = {name: (dtypes[array.dtype.kind], array.shape) for name, array in state.items()}
    with replacing_file(path) as file:
        file.write(header(tensors, {"format": "pt"}))
        for array in state.values():
            file.write(np.ascontiguousarray(array).data.cast("B"))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as Keras has it: its class in paths, its name, and its variables in their order."""

    kind: str
    name: str
    variables: dict[str, Array]


def _write_keras(
    path: str, network: Network, names: Mapping[str, str], arrays: Mapping[str, Array]
) -> None:
    """A ``.weights.h5`` as Keras 3 writes it, or a legacy ``.h5`` of weights."""
    h5py = require("h5py", "a file of Keras")
    slots = {slot.layer.name: slot for slot in slots_of(network)}
    layers = [_in_keras(slots[layer], name, arrays) for layer, name in names.items()]
    with replacing_file(path) as file, h5py.File(file, "w") as h5:
        if path.endswith(".weights.h5"):
            numbers: dict[str, int] = {}
            for layer in layers:
                number = numbers[layer.kind] = numbers.get(layer.kind, -1) + 1
                group = h5.create_group(f"layers/{layer.kind}{f'_{number}' if number else ''}/vars")
                group.attrs["name"] = layer.name
                for place, array in enumerate(layer.variables.values()):
                    group[str(place)] = array
        else:
            h5.attrs["layer_names"] = [layer.name.encode() for layer in layers]
            h5.attrs["backend"] = b"tensorflow"  # whose layout of kernels it is
            h5.attrs["keras_version"] = f"3 (vggspec {__version__})".encode()
            for layer in layers:
                group = h5.create_group(layer.name)
                group.attrs["weight_names"] = [
                    f"{layer.name}/{part}:0".encode() for part in layer.variables
                ]
                for part, array in layer.variables.items():
                    group[f"{layer.name}/{part}:0"] = array


def _in_keras(slot: Slot, name: str, arrays: Mapping[str, Array]) -> _Layer:
    parts = {param.name.rpartition(".")[2]: arrays[param.name] for param in slot.layer.params}
    if slot.kernel is None:
        return _Layer("batch_normalization", name, {_NORM[part]: parts[part] for part in _NORM})
    out, channels, rows, columns = slot.kernel
    is_conv = isinstance(slot.layer.op, Conv)
    shape = (rows, columns, channels, out) if is_conv else (rows * columns * channels, out)
    change = change_for(slot, shape, "hwio")
    assert change is not None
    kernel = change.undo(np.asarray(parts["weight"]), shape)
    return _Layer("conv2d" if is_conv else "dense", name, {"kernel": kernel, "bias": parts["bias"]})
