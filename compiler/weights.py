"""Weights files: named float32 arrays in the safetensors format, laid out to be used in place.

The header is padded so that the data begins at a multiple of 256 bytes, and tensors whose size is
a multiple of 256 come first: GPU libraries and vector units want them aligned, and the format
allows no gaps. The metadata holds what goes with the weights: the net, a hash of its layers, the
mean of the training images and what else the net expects of its input, the labels, and the SHA-256
of the tensor data, so that nothing that only points at the weights has to read them.

Source: the safetensors format, https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vggspec.bundle import WEIGHTS, digest
from vggspec.catalogue import artefacts
from vggspec.compiler.ir import Color, ImageInput, Network, Shape
from vggspec.diagnostic import VggspecError, report
from vggspec.files import replacing_file
from vggspec.source import reason
from vggspec.tensors import ALIGNMENT, BadTensorsError, Tensor, header, read_layout, short

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What goes with the weights."""

    net: str | None = None
    layers_sha256: str | None = None
    """Hash of the names and shapes of the net's parameters."""

    mean: tuple[float, ...] | None = None
    """Mean of the training images, a number a channel, 0 to 255; None where not measured."""

    std: tuple[float, ...] | None = None
    scale: float | None = None
    """What else the weights expect of their input, as ``ImageInput`` has it. Where ``scale`` is
    None, the spec alone says it; else a ``std`` of None is 1.
    """

    color: Color | None = None
    """The order of the channels of ``mean``, ``std`` and the first layer."""

    source: str | None = None
    """Whose weights they are, where they were imported."""

    labels: tuple[str, ...] | None = None
    data_sha256: str | None = None
    """SHA-256 of the tensor data, which is everything after the header."""

    more: Mapping[str, str] = field(default_factory=dict)
    """Whatever else the file says."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file whose header has been read and checked; the data has not."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: Metadata
    data_start: int
    bytes: int

    def read(self, name: str) -> NDArray[Any]:
        """A tensor, mapped from the file rather than read."""
        tensor = self.tensors[name]
        mapped = np.memmap(
            self.path,
            dtype=np.dtype("<f4"),
            mode="r",
            offset=tensor.offset,
            shape=tensor.shape or (1,),
        )
        return mapped.reshape(tensor.shape)

    def data_sha256(self) -> str:
        """The digest of the tensor data: from the metadata, or, where a stranger wrote the file,
        computed, which reads all of it.
        """
        return self.metadata.data_sha256 or digest(self.path, self.data_start)


def layers_sha256(network: Network) -> str:
    """Hash of what the net asks of a weights file: names and stored shapes."""
    wanted = [[param.name, list(param.stored)] for param in network.params()]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Read and check the header of a weights file.

    Raises:
        VggspecError: it cannot be opened, is cut off, or its header is not to be believed.
    """
    try:
        layout = read_layout(path)
    except (OSError, ValueError) as error:
        inside = Path(path) / WEIGHTS
        why = f"it is a bundle; name `{inside}`" if inside.is_file() else reason(error)
        what = artefacts.NoSuchFile(kind="weights file", reason=why)
        raise VggspecError(report(what, path=str(path))) from error
    except BadTensorsError as error:
        what_bad = artefacts.BadWeightsFile(reason=str(error))
        raise VggspecError(report(what_bad, path=str(path))) from error
    metadata = metadata_of(layout.metadata)
    return WeightsFile(Path(path), layout.tensors, metadata, layout.data_start, layout.bytes)


def check_fits(weights: WeightsFile, network: Network) -> None:
    """Make sure that the file holds the parameters of the net, all of them and no others; of a net
    that was cut it holds those of the rest too.

    Raises:
        VggspecError: it is another net's, or of another number type.
    """
    path = str(weights.path)
    wanted = {param.name: param for param in network.params()}
    missing = tuple(name for name in wanted if name not in weights.tensors)
    unknown = tuple(
        short(name)
        for name in weights.tensors
        if name not in wanted and not name.endswith(".num_batches_tracked") and not network.is_cut
    )
    unlike = tuple(
        f"{name}: {_by(weights.tensors[name].shape)} in the file, {_by(param.stored)} in the net"
        for name, param in wanted.items()
        if name in weights.tensors and weights.tensors[name].shape != param.stored
    )
    if missing or unknown or unlike:
        what = artefacts.OtherWeights(
            net=network.name,
            missing=missing,
            unlike=unlike,
            unknown=unknown,
            made_for=weights.metadata.net,
        )
        raise VggspecError(report(what, path=path))
    for name in wanted:
        dtype = weights.tensors[name].dtype
        if dtype != "F32":
            raise VggspecError(
                report(artefacts.WrongNumberType(tensor=name, dtype=dtype), path=path)
            )


def write(
    path: str | os.PathLike[str],
    shapes: Mapping[str, Shape],
    chunks: Callable[[str], Iterator[Array]],
    metadata: Metadata,
) -> str:
    """Write a weights file, whole or not at all; the SHA-256 of its data.

    ``chunks`` gives a tensor's numbers in flat pieces, so that no more than a piece is in memory.

    Raises:
        VggspecError: the system refuses.
    """
    order = sorted(shapes, key=lambda name: (4 * prod(shapes[name])) % ALIGNMENT != 0)
    tensors = {name: ("F32", shapes[name]) for name in order}
    sha256 = hashlib.sha256()
    with replacing_file(path) as file:
        file.write(header(tensors, _texts(metadata, "0" * 64)))
        for name in order:
            written = 0
            for chunk in chunks(name):
                data = np.ascontiguousarray(chunk, dtype="<f4").data.cast("B")
                sha256.update(data)
                file.write(data)
                written += data.nbytes
            assert written == 4 * prod(shapes[name]), name
        file.seek(0)
        file.write(header(tensors, _texts(metadata, sha256.hexdigest())))
    return sha256.hexdigest()


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Metadata) -> str:
    """Write arrays that are in memory; the SHA-256 of the data.

    Raises:
        VggspecError: the system refuses.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    return write(path, shapes, lambda name: iter((arrays[name].reshape(-1),)), metadata)


def describe(network: Network, **more: Any) -> Metadata:
    """Metadata for the weights of a net."""
    return Metadata(net=network.name, layers_sha256=layers_sha256(network), **more)


def expecting(metadata: Metadata, image: ImageInput, source: str) -> Metadata:
    """The metadata of weights that expect that input, all of it."""
    return replace(
        metadata,
        mean=image.mean,
        std=image.std,
        scale=image.scale,
        color=image.color,
        source=source,
    )


def _texts(metadata: Metadata, data_sha256: str) -> dict[str, str]:
    text = dict(metadata.more)
    text["format"] = "pt"  # what transformers and others look for
    text["vggspec.data_sha256"] = data_sha256
    if metadata.net is not None:
        text["vggspec.net"] = metadata.net
    if metadata.layers_sha256 is not None:
        text["vggspec.layers_sha256"] = metadata.layers_sha256
    if metadata.mean is not None:
        text["vggspec.mean"] = json.dumps(metadata.mean)
    if metadata.std is not None:
        text["vggspec.std"] = json.dumps(metadata.std)
    if metadata.scale is not None:
        text["vggspec.scale"] = json.dumps(metadata.scale)
    if metadata.color is not None:
        text["vggspec.color"] = metadata.color
    if metadata.source is not None:
        text["vggspec.source"] = metadata.source
    if metadata.labels is not None:
        text["vggspec.labels"] = json.dumps(metadata.labels, ensure_ascii=False)
    return text


def metadata_of(text: Mapping[str, str]) -> Metadata:
    """What the header of a weights file says beside its tensors; what is malformed counts as not
    there.
    """
    sha256 = text.get("vggspec.data_sha256")
    std = _numbers(text, "vggspec.std", low=1e-6)
    scale = _numbers(text, "vggspec.scale", low=1e-9, are_several=False)
    is_whole = scale is not None and (std is not None or "vggspec.std" not in text)
    color = text.get("vggspec.color")
    return Metadata(
        net=text.get("vggspec.net"),
        layers_sha256=text.get("vggspec.layers_sha256"),
        mean=_numbers(text, "vggspec.mean"),
        std=std,
        scale=scale[0] if scale is not None and is_whole else None,
        color=next((known for known in get_args(Color) if known == color), None),
        source=text.get("vggspec.source"),
        labels=_labels(text),
        data_sha256=sha256 if sha256 is not None and len(sha256) == 64 else None,
        more={key: value for key, value in text.items() if not key.startswith("vggspec.")},
    )


def _numbers(
    text: Mapping[str, str], key: str, *, low: float = -1e6, are_several: bool = True
) -> tuple[float, ...] | None:
    try:
        found = json.loads(text.get(key, "null"))
        numbers = found if are_several else [found]
        if isinstance(numbers, list) and all(
            type(value) in (int, float) and low <= value <= 1e6 for value in numbers
        ):
            return tuple(float(value) for value in numbers)
    except (ValueError, RecursionError):
        pass
    return None


def _labels(text: Mapping[str, str]) -> tuple[str, ...] | None:
    try:
        found = json.loads(text.get("vggspec.labels", "null"))
        if isinstance(found, list) and all(isinstance(value, str) for value in found):
            "".join(found).encode()  # a ValueError for half a character
            return tuple(found)
    except (ValueError, RecursionError):
        pass
    return None


def _by(shape: Shape) -> str:
    return " × ".join(str(n) for n in shape)
