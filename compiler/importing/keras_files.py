"""Keras's files of weights and of models. No layer is built and no code of a file is run.

A legacy ``.h5`` lists its layers in their order, with the names of their variables, as weights
alone or, beside the description of the model, in the group ``model_weights``. A ``.weights.h5`` of
Keras 3 has a group for each layer, called by its class and its number among those of the class,
with numbered variables and since Keras 3.2 the layer's own name. A ``.keras`` archive contains such
a file and the description of the model, which has the names and the order.

Sources: ``legacy_h5_format.py`` and ``saving_lib.py`` of Keras 3, and of Keras 2.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from vggspec.base.catalogue import checkpoint_files
from vggspec.base.fields import BadFieldError, parse, short
from vggspec.compiler.importing.archives import Archive
from vggspec.compiler.importing.hdf5_files import Hdf5
from vggspec.compiler.importing.modules import is_part
from vggspec.compiler.importing.stored import BadFileError, RefusedError, Stored

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MAX_DEPTH = 16

#: Groups of layers within those of a model: of Keras 3 and of Keras 2.12 and later.
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")

#: The variables of a layer by its class, in the order of their numbers; the last may be missing.
_VARIABLES: dict[str, tuple[str, ...]] = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise/kernel", "pointwise/kernel", "pointwise/bias"),
    "dense": ("kernel", "bias"),
}
_NORMS = ("batch_normalization", "sync_batch_normalization")
_STATISTICS = ("moving_mean", "moving_variance")

#: The names of variables in legacy files that are not those of ``modules_of``.
_RENAMED = {
    "depthwise_kernel": "kernel",
    "running_std": "moving_variance",  # Keras 1 called the variance so
}

#: What variables of unknown kinds are: a part of a layer that is not left out in silence.
_UNKNOWN = "weight"

#: Layers that change numbers and have no weights that are taken.
_COMPUTING = ("Lambda", "Rescaling", "Normalization")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The variables of a model by layer: ``block1_conv1/kernel``, in the order of the layers."""

    tensors: dict[str, Stored]
    epsilons: dict[str, float]
    """Of the batch normalisations, by name; empty where the file does not describe the model."""

    computing: tuple[str, ...]
    """Layers that change what they are given by something other than weights."""


@dataclass(frozen=True, slots=True)
class _Described:
    """A layer in the description of a model."""

    name: str
    kind: str
    """Its class in lower case: ``conv2d``."""

    settings: Mapping[str, Any]
    layers: "list[_Described]" = field(default_factory=list)
    """Of a model within a model."""


def read_file(path: str, stack: ExitStack) -> Weights:
    """An ``.h5`` or a ``.weights.h5``, open as long as the stack.

    Raises:
        BadFileError: it is damaged.
        RefusedError: Keras did not write it, or its numbers cannot be read.
        MissingLibraryError: h5py is not installed.
    """
    return _read(stack.enter_context(Hdf5(path)), None)


def read_archive(archive: Archive, stack: ExitStack) -> Weights:
    """A ``.keras`` archive.

    Raises:
        BadFileError: it is damaged.
        RefusedError: its numbers cannot be read.
        MissingLibraryError: h5py is not installed.
    """
    described = None
    if CONFIG in archive.members:
        described = _model(archive.read(CONFIG).tobytes(), f"`{CONFIG}`")
    return _read(stack.enter_context(Hdf5(archive.read(WEIGHTS).tobytes())), described)


def _read(file: Hdf5, described: list[_Described] | None) -> Weights:
    root = "model_weights" if "model_weights" in file.groups else ""
    names = file.texts(root, "layer_names")
    if names is not None:
        text = file.text("", "model_config")
        if text is not None:
            described = _model(text.encode(), "`model_config`")
        tensors = _legacy(file, root, names)
    elif any(path == "vars" or path.endswith("/vars") for path in file.groups):
        tensors = _numbered(file, described)
    else:
        is_a = "an HDF5 file that Keras did not write"
        way = "where it was written, save its arrays: np.savez('weights.npz', **{name: array})"
        raise RefusedError(checkpoint_files.OtherFormat(is_a=is_a, way=way))
    layers = list(_all_layers(described or [], ""))
    return Weights(
        tensors=tensors,
        epsilons={
            name: float(layer.settings["epsilon"])
            for name, layer in layers
            if layer.kind in _NORMS and isinstance(layer.settings.get("epsilon"), float)
        },
        computing=tuple(
            name for name, layer in layers if layer.kind in map(_snake_case, _COMPUTING)
        ),
    )


def _legacy(file: Hdf5, root: str, layers: list[str]) -> dict[str, Stored]:
    """The variables by the names that a legacy file lists."""
    if (file.text(root, "keras_version") or "1").startswith("1") and _is_of_theano(file, root):
        raise RefusedError(
            checkpoint_files.UnusableTensor(
                tensor=short(layers[0] if layers else root),
                is_a="of Keras 1 on Theano, whose kernels may be upside down",
                way="load it into Keras with TensorFlow, and save it there",
            )
        )
    found: dict[str, Stored] = {}
    for layer in layers:
        group = f"{root}/{layer}".lstrip("/")
        names = file.texts(group, "weight_names") if group in file.groups else None
        if names is None:
            raise BadFileError(f"`{short(layer)}` is in its list of layers, and not in the file")
        for name in names:
            stored = file.datasets.get(f"{group}/{name}")
            if stored is None:
                raise BadFileError(f"`{short(name)}` is in its list of weights, and not there")
            _add(found, _named(layer, name), stored)
    return found


def _is_of_theano(file: Hdf5, root: str) -> bool:
    """Whether a file of Keras 1 says so, or has a kernel that only Theano's layout explains."""
    backend = file.text(root, "backend")
    if backend is not None:
        return backend == "theano"
    kernels = [stored.shape for stored in file.datasets.values() if len(stored.shape) == 4]
    return any(rows != columns for rows, columns, _, _ in kernels) and all(
        rows == columns for _, _, rows, columns in kernels
    )


def _named(layer: str, name: str) -> str:
    """``conv/kernel`` for the variable of a layer that the file calls ``net/conv/kernel:0`` or, as
    Keras 1 did, ``conv_W_1:0``; of a model within the model with the names of its layers.
    """
    parts = name.split("/")
    if layer in parts:
        parts = parts[len(parts) - parts[::-1].index(layer) :] or parts
    last = parts[-1].removeprefix(f"{layer}_")
    word, mark, number = last.partition(":")
    if word in ("depthwise_kernel", "pointwise_kernel") and "separable" in layer:
        word = word.replace("_", "/")
    named = "/".join((layer, *parts[:-1], _RENAMED.get(word, word) + mark + number))
    return named if is_part(named) else f"{named}/{_UNKNOWN}"


def _numbered(file: Hdf5, described: list[_Described] | None) -> dict[str, Stored]:
    """The variables by their numbers, as Keras 3 writes them."""
    root = next((name for name in _CONTAINERS if name in file.groups), None)
    found: dict[str, Stored] = {}
    if root is None:  # a class of one's own, whose layers are attributes
        for child in _groups(file, ""):
            if child not in ("vars", "optimizer"):
                _add_layer(found, file, child, child, None, _kind(child))
        return found
    _add_layers(found, file, root, "", described)
    return found


def _add_layers(
    found: dict[str, Stored],
    file: Hdf5,
    container: str,
    prefix: str,
    described: list[_Described] | None,
) -> None:
    """Add the layers of a model, in the order of its description, else by class and number."""
    children = _groups(file, container)
    about: dict[str, _Described] = {}
    if described is not None:
        about = _paired(file, container, children, described)
        places = {id(layer): place for place, layer in enumerate(described)}
        children.sort(key=lambda child: places[id(about[child])] if child in about else -1)
    for child in children:
        path, layer = f"{container}/{child}", about.get(child)
        own = _own_name(file, path)
        name = prefix + (layer.name if layer else own or child)
        inner = next(
            (f"{path}/{each}" for each in _CONTAINERS if f"{path}/{each}" in file.groups), ""
        )
        if inner:
            _add_layers(found, file, inner, f"{name}/", layer.layers if layer else None)
        else:
            _add_layer(found, file, path, name, layer, _kind(child))


def _paired(
    file: Hdf5, container: str, children: list[str], described: list[_Described]
) -> dict[str, _Described]:
    """The groups of layers that have weights, each with the layer that the description lists."""
    weighted = [child for child in children if _has_weights(file, f"{container}/{child}")]
    by_name = {layer.name: layer for layer in described}
    found: dict[str, _Described] = {}
    for kind in dict.fromkeys(map(_kind, weighted)):
        groups = [child for child in weighted if _kind(child) == kind]
        owns = [_own_name(file, f"{container}/{child}") for child in groups]
        layers = [layer for layer in described if layer.kind == kind]
        if all(own is not None for own in owns):
            layers = [by_name[own] for own in owns if own in by_name]
        if len(layers) != len(groups):
            why = f"has {len(groups)} layers `{short(kind)}` with weights, and describes others"
            raise BadFileError(f"its model {why}")
        found |= dict(zip(groups, layers, strict=True))
    return found


def _add_layer(
    found: dict[str, Stored],
    file: Hdf5,
    path: str,
    name: str,
    described: _Described | None,
    kind: str,
) -> None:
    """Add the variables of a layer, and of what is within it."""
    numbers = sorted(_variables(file, path), key=lambda number: _by_number(f"_{number}"))
    roles = _roles(name, kind, len(numbers), described)
    for place, number in enumerate(numbers):
        stored = file.datasets[f"{path}/vars/{number}"]
        role = roles[place] if place < len(roles) else f"{number}/{_UNKNOWN}"
        if kind in _VARIABLES and not stored.is_float:
            raise RefusedError(
                checkpoint_files.UnusableTensor(
                    tensor=short(f"{name}/{number}"),
                    is_a="quantised",
                    way="save the weights as they are before model.quantize()",
                )
            )
        _add(found, f"{name}/{role}", stored)
    for child in _groups(file, path):
        if child not in ("vars", "seed_generator"):
            _add_layer(found, file, f"{path}/{child}", f"{name}/{child}", None, _kind(child))


def _roles(name: str, kind: str, number: int, described: _Described | None) -> tuple[str, ...]:
    """What the variables of a layer are, by their number."""
    if kind not in _NORMS:
        known = _VARIABLES.get(kind, ())
        return known if number <= len(known) else ()
    settings = described.settings if described is not None else {}
    learned = tuple(
        part for part, word in (("gamma", "scale"), ("beta", "center")) if settings.get(word, True)
    )
    if number == len(learned) + 2:
        return (*learned, *_STATISTICS)
    if number == 2:
        return _STATISTICS
    raise RefusedError(
        checkpoint_files.UnusableTensor(
            tensor=short(name),
            is_a=f"a batch normalisation with {number} variables, and not clear which",
            way="save the model, which describes them: model.save('model.keras')",
        )
    )


def _groups(file: Hdf5, path: str) -> list[str]:
    """The groups directly inside a group, in the order of their classes and numbers."""
    begin = f"{path}/" if path else ""
    return sorted(
        (name for name in file.inside[path] if begin + name in file.groups), key=_by_number
    )


def _variables(file: Hdf5, path: str) -> list[str]:
    """The variables of a layer itself."""
    names = file.inside.get(f"{path}/vars", ())
    return [name for name in names if f"{path}/vars/{name}" in file.datasets]


def _has_weights(file: Hdf5, path: str) -> bool:
    if _variables(file, path):
        return True
    return any(_has_weights(file, f"{path}/{name}") for name in _groups(file, path))


def _own_name(file: Hdf5, path: str) -> str | None:
    """The name that the layer has in its model, where the file says it."""
    return file.text(f"{path}/vars", "name") if f"{path}/vars" in file.groups else None


def _kind(child: str) -> str:
    """The class of a layer by its group: ``conv2d`` for ``conv2d_12``."""
    return re.sub(r"_\d+$", "", child)


def _by_number(child: str) -> tuple[str, int, str]:
    """Sorts groups by class and number: ``conv2d`` before ``conv2d_1`` before ``conv2d_10``."""
    number = child[len(_kind(child)) + 1 :]
    return (_kind(child), len(number), number)


def _snake_case(name: str) -> str:
    """A class as Keras writes it in paths: ``depthwise_conv2d`` for ``DepthwiseConv2D``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _add(found: dict[str, Stored], name: str, stored: Stored) -> None:
    if name in found:
        raise BadFileError(f"`{short(name)}` is in it twice")
    found[name] = stored


def _model(text: bytes, where: str) -> list[_Described]:
    """The layers in the description of a model."""
    try:
        value = parse(text)
    except BadFieldError as error:
        raise BadFileError(f"{where}: {error}") from error
    return _described(value, where, 0)


def _described(value: object, where: str, depth: int) -> list[_Described]:
    inner = value.get("config") if isinstance(value, dict) else None
    listed = (
        inner.get("layers", []) if isinstance(inner, dict) else inner
    )  # a list before Keras 2.2
    if not isinstance(listed, list) or depth > _MAX_DEPTH:
        raise BadFileError(f"{where} describes no layers")
    found = []
    for layer in listed:
        about = layer if isinstance(layer, dict) else {}
        settings = about.get("config")
        own = settings if isinstance(settings, dict) else {}
        kind = about.get("class_name")
        name = own.get("name", about.get("name", kind))
        if not isinstance(kind, str) or not isinstance(name, str):
            raise BadFileError(f"{where} describes a layer without a class or a name")
        is_model = isinstance(settings, list) or "layers" in own
        inner_layers = _described(layer, where, depth + 1) if is_model else []
        found.append(_Described(name, _snake_case(kind), own, inner_layers))
    return found


def _all_layers(described: list[_Described], prefix: str) -> Iterator[tuple[str, _Described]]:
    for layer in described:
        yield f"{prefix}{layer.name}", layer
        yield from _all_layers(layer.layers, f"{prefix}{layer.name}/")
