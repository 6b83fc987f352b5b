"""Weights files: named float32 arrays in the safetensors format, laid out to be used in place.

The header is padded so that the data begins at a multiple of 256 bytes, and tensors whose size is a
multiple of 256 come first: GPU libraries and vector units need them aligned, and the format allows
no gaps. The metadata describes the weights: the net, a hash of its layers, the mean of the training
images and what else the net expects of its input, the labels, the SHA-256 of the tensor data, and
whether all numbers are finite, so that a graph that points at the weights can be written without
reading them. The header contains a SHA-256 of itself. Code that reads all numbers compares them
with the header (``checked``).

Source: the safetensors format, https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields, parse, short
from vggspec.base.files import replacing_file
from vggspec.base.regular_files import open_file
from vggspec.base.safetensors_header import (
    ALIGNMENT,
    DATA_SHA256,
    BadTensorsError,
    Layout,
    Tensor,
    header,
    read_layout,
)
from vggspec.base.shape import Shape
from vggspec.base.wording import count, reason
from vggspec.bundle.digests import digest
from vggspec.bundle.manifest import WEIGHTS
from vggspec.bundle.opening import HASHED_ON_OPEN_BYTES
from vggspec.compiler.ir import Color, ImageInput, Network
from vggspec.compiler.results import result_of

Array = NDArray[np.float32]

FINITE = "vggspec.finite"
HEADER_SHA256 = "vggspec.header_sha256"
READ_AT_A_TIME = 4 << 20  # bytes

MAX_PIXEL = 1e6
"""Means and deviations of pixels are smaller."""

LEAST_FACTOR = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The metadata of weights."""

    net: str | None = None
    layers_sha256: str | None = None
    """Hash of the names and shapes of the net's parameters."""

    mean: tuple[float, ...] | None = None
    """Mean of the training images, a number a channel, 0 to 255; None where not measured."""

    std: tuple[float, ...] | None = None
    scale: float | None = None
    """The rest of the input that the weights expect, as in ``ImageInput``. Where ``scale`` is
    None, the spec alone says it; else a ``std`` of None is 1.
    """

    color: Color | None = None
    """The order of the channels of ``mean``, ``std`` and the first layer."""

    source: str | None = None
    """The source of imported weights."""

    labels: tuple[str, ...] | None = None
    data_sha256: str | None = None
    """SHA-256 of the tensor data, which is everything after the header."""

    is_finite: bool = False
    """Whether the writer of the file checked that all numbers are finite."""

    more: Mapping[str, str] = field(default_factory=dict)
    """All other metadata."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A weights file whose header has been read and checked; the data has not."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: Metadata
    data_start: int
    bytes: int
    is_read: bool = False
    """Whether the numbers were read and match the digest in the metadata."""

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
        """The digest of the tensor data: from the metadata, or, for files of other tools, computed
        by reading the file.
        """
        return self.metadata.data_sha256 or digest(self.path, self.data_start)


def layers_sha256(network: Network) -> str:
    """Hash of the names and stored shapes that the net expects in a weights file."""
    expected = [[param.name, list(param.stored)] for param in network.params()]
    return hashlib.sha256(json.dumps(expected).encode()).hexdigest()


def open_weights(path: str | os.PathLike[str]) -> WeightsFile:
    """Read and check the header of a weights file.

    Raises:
        VggspecError: it cannot be opened, is truncated, or its header is invalid.
    """
    try:
        layout = read_layout(path)
        metadata = metadata_of(layout.metadata)
    except (OSError, ValueError) as error:
        inside = Path(path) / WEIGHTS
        why = f"it is a bundle; name `{inside}`" if inside.is_file() else reason(error)
        what = artefacts.NoSuchFile(kind="weights file", reason=why)
        raise VggspecError(report(what, path=str(path))) from error
    except (BadTensorsError, BadFieldError) as error:
        what_bad = artefacts.BadWeightsFile(reason=str(error))
        raise VggspecError(report(what_bad, path=str(path))) from error
    if _is_header_changed(layout):
        raise VggspecError(report(artefacts.ChangedWeights(part="header"), path=str(path)))
    return WeightsFile(Path(path), layout.tensors, metadata, layout.data_start, layout.bytes)


def changed_part(path: str | os.PathLike[str]) -> Literal["numbers", "header"] | None:
    """The part of a file whose SHA-256 differs from the one stated; None if all match or none is
    stated.
    """
    try:
        layout = read_layout(path)
        stated = layout.metadata.get(DATA_SHA256)
        if stated is not None and stated != digest(path, layout.data_start):
            return "numbers"
    except (OSError, BadTensorsError):
        return None
    return "header" if _is_header_changed(layout) else None


def _is_header_changed(layout: Layout) -> bool:
    stated = layout.metadata.get(HEADER_SHA256)
    # They are written together, so if one name is damaged the other shows it.
    if stated is None and FINITE not in layout.metadata:
        return False
    tensors = [(name, each.dtype, each.shape, each.offset) for name, each in layout.tensors.items()]
    return stated != _header_sha256(tensors, layout.metadata)


def check_fits(
    weights: WeightsFile, network: Network, *, needed: Collection[str] | None = None
) -> None:
    """Check that the file contains exactly the parameters of the net. For a net that was cut, and
    for one whose outputs are those of inner layers, it may also contain those of other layers. Of
    ``needed`` parameters, all by default, none may be missing.

    Raises:
        VggspecError: it is another net's, or of another number type.
    """
    path = str(weights.path)
    is_part = network.is_cut or result_of(network) == "activations"
    wanted = {param.name: param for param in network.params()}
    lost = [name for name in wanted if name not in weights.tensors]
    missing = tuple(name for name in lost if needed is None or name in needed)
    unknown = tuple(
        short(name)
        for name in weights.tensors
        if name not in wanted and not name.endswith(".num_batches_tracked") and not is_part
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
    made_for = weights.metadata.layers_sha256
    if made_for is not None and not is_part and made_for != layers_sha256(network):
        what_order = artefacts.OtherOrder(net=network.name, made_for=weights.metadata.net)
        raise VggspecError(report(what_order, path=path))
    for name in (name for name in wanted if name not in lost):
        dtype = weights.tensors[name].dtype
        if dtype != "F32":
            raise VggspecError(
                report(artefacts.WrongNumberType(tensor=name, dtype=dtype), path=path)
            )


def checked(weights: WeightsFile, used: Iterable[str], *, is_read: bool) -> WeightsFile:
    """The file, after checking that its numbers match the digest and that the tensors ``used`` are
    finite. With ``is_read`` the numbers are read and compared. Otherwise the header is trusted, if
    it states both and the file is larger than files that are hashed whenever a bundle is opened.

    Raises:
        VggspecError: the numbers do not match the digest in the header, or are not finite.
    """
    if weights.is_read:
        return weights
    metadata = weights.metadata
    is_vouched_for = metadata.is_finite and metadata.data_sha256 is not None
    if not is_read and is_vouched_for and weights.bytes > HASHED_ON_OPEN_BYTES:
        return weights
    sha256, wanted, flaws = hashlib.sha256(), set(used), []
    buffer = memoryview(bytearray(READ_AT_A_TIME))
    with reading(weights) as file:
        for name, tensor in sorted(weights.tensors.items(), key=lambda item: item[1].offset):
            counted, left = Finiteness(name), tensor.bytes
            while left > 0:
                part = buffer[: min(left, READ_AT_A_TIME)]
                if file.readinto(part) != len(part):
                    raise OSError("it has become shorter")
                sha256.update(part)
                if name in wanted:
                    counted.add(np.frombuffer(part, "<f4"))
                left -= len(part)
            flaw = counted.flaw()
            if flaw is not None:
                flaws.append(flaw)
    found = sha256.hexdigest()
    if metadata.data_sha256 not in (None, found):
        what = artefacts.ChangedWeights(part="numbers")
        raise VggspecError(report(what, path=str(weights.path)))
    if flaws:
        what_flaws = artefacts.NotFiniteWeights(tensors=tuple(flaws))
        raise VggspecError(report(what_flaws, path=str(weights.path)))
    return replace(weights, metadata=replace(metadata, data_sha256=found), is_read=True)


def for_net(weights: WeightsFile, network: Network, *, is_read: bool = False) -> WeightsFile:
    """The file as the weights of a net: they fit it, and are ``checked``.

    Raises:
        VggspecError: as ``check_fits`` and ``checked``.
    """
    check_fits(weights, network)
    return checked(weights, [param.name for param in network.params()], is_read=is_read)


@contextmanager
def reading(weights: WeightsFile) -> Iterator[BufferedReader]:
    """The file at the first of its numbers.

    Raises:
        VggspecError: it cannot be opened, or the block fails to read it.
    """
    try:
        with open_file(weights.path) as file:
            file.seek(weights.data_start)
            yield file
    except OSError as error:
        what = artefacts.NoSuchFile(kind="weights file", reason=reason(error))
        raise VggspecError(report(what, path=str(weights.path))) from error


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
    sha256, is_finite = hashlib.sha256(), True
    with replacing_file(path) as file:
        file.write(header(tensors, _texts(tensors, metadata, "0" * 64, is_finite=False)))
        for name in order:
            written = 0
            for chunk in chunks(name):
                numbers = np.ascontiguousarray(chunk, dtype="<f4")
                is_finite = is_finite and bool(np.isfinite(numbers).all())
                data = numbers.data.cast("B")
                sha256.update(data)
                file.write(data)
                written += data.nbytes
            assert written == 4 * prod(shapes[name]), name
        file.seek(0)
        texts = _texts(tensors, metadata, sha256.hexdigest(), is_finite=is_finite)
        file.write(header(tensors, texts))
    return sha256.hexdigest()


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Metadata) -> str:
    """Write arrays that are in memory; the SHA-256 of the data.

    Raises:
        VggspecError: the system refuses.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    return write(path, shapes, lambda name: iter((arrays[name].reshape(-1),)), metadata)


@dataclass(slots=True)
class Finiteness:
    """How many numbers of an array are finite, counted a piece at a time."""

    name: str
    total: int = 0
    nan: int = 0
    inf: int = 0
    minus_inf: int = 0

    def add(self, part: NDArray[Any]) -> None:
        """Count the next numbers."""
        self.total += part.size
        if not np.isfinite(part).all():
            nan, inf = int(np.isnan(part).sum()), int(np.isposinf(part).sum())
            self.nan += nan
            self.inf += inf
            self.minus_inf += int(np.isneginf(part).sum())

    def flaw(self) -> str | None:
        """``1 of 1000 numbers in `fc8.bias` is -inf``; None where all are finite."""
        counted = ((self.nan, "NaN"), (self.inf, "inf"), (self.minus_inf, "-inf"))
        found = [(number, word) for number, word in counted if number]
        if not found:
            return None
        bad = sum(number for number, _ in found)
        words = [word if len(found) == 1 else f"{number} {word}" for number, word in found]
        are = "is" if bad == 1 else "are"
        what = words[0] if len(words) == 1 else f"not finite ({', '.join(words)})"
        return f"{bad} of {count(self.total, 'number')} in `{short(self.name)}` {are} {what}"


def not_finite(arrays: Mapping[str, NDArray[Any]]) -> artefacts.NotFiniteWeights | None:
    """The mistake that these arrays, by name, contain NaN or infinities; None if all are finite."""
    flaws = []
    for name, array in arrays.items():
        counted = Finiteness(name)
        counted.add(array)
        flaws.append(counted.flaw())
    found = tuple(flaw for flaw in flaws if flaw is not None)
    return artefacts.NotFiniteWeights(tensors=found) if found else None


def describe(network: Network, **more: Any) -> Metadata:
    """Metadata for the weights of a net."""
    return Metadata(net=network.name, layers_sha256=layers_sha256(network), **more)


def expecting(metadata: Metadata, image: ImageInput, source: str | None) -> Metadata:
    """The metadata of weights that expect that input, all of it."""
    return replace(
        metadata,
        mean=image.mean,
        std=image.std,
        scale=image.scale,
        color=image.color,
        source=source,
    )


def _header_sha256(
    tensors: Iterable[tuple[str, str, Shape, int]], metadata: Mapping[str, str]
) -> str:
    """Hash of a header without this field: tensors by name, type, shape and place, in the order of
    their places, and the metadata.
    """
    text = {key: value for key, value in metadata.items() if key != HEADER_SHA256}
    places = sorted(tensors, key=lambda each: each[3])
    listed = [[name, dtype, list(shape)] for name, dtype, shape, _ in places]
    return hashlib.sha256(json.dumps([listed, sorted(text.items())]).encode()).hexdigest()


def _texts(
    tensors: Mapping[str, tuple[str, Shape]],
    metadata: Metadata,
    data_sha256: str,
    *,
    is_finite: bool,
) -> dict[str, str]:
    text = dict(metadata.more)
    text["format"] = "pt"  # what transformers and others look for
    text[DATA_SHA256] = data_sha256
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
    text[FINITE] = "yes" if is_finite else "not"  # as long as each other
    in_order = [(name, *about, place) for place, (name, about) in enumerate(tensors.items())]
    text[HEADER_SHA256] = _header_sha256(in_order, text)
    return text


def metadata_of(text: Mapping[str, str]) -> Metadata:
    """Read the metadata in the header of a weights file.

    Raises:
        BadFieldError: a value of ours is malformed.
    """
    values: dict[str, Any] = dict(text)
    for name in ("mean", "std", "scale", "labels"):
        key = f"vggspec.{name}"
        if key in text:
            try:
                values[key] = parse(text[key].encode())
            except BadFieldError as error:
                raise BadFieldError(f"`{key}`: {error}") from error
    fields = Fields(values)

    def known(key: str, read: Callable[[str], Any]) -> Any:
        return None if fields.is_null(key) else read(key)

    std = known("vggspec.std", lambda key: fields.numbers(key, high=MAX_PIXEL))
    if std is not None and min(std, default=0) < LEAST_FACTOR:
        raise fields.bad("vggspec.std", "has a number that nothing is divided by")
    return Metadata(
        net=known("vggspec.net", fields.text),
        layers_sha256=known("vggspec.layers_sha256", fields.sha256),
        mean=known("vggspec.mean", lambda key: fields.numbers(key, high=MAX_PIXEL)),
        std=std,
        scale=known("vggspec.scale", lambda key: fields.number(key, LEAST_FACTOR, MAX_PIXEL)),
        color=known("vggspec.color", lambda key: fields.choice(key, *get_args(Color))),
        source=known("vggspec.source", fields.text),
        labels=known("vggspec.labels", fields.texts),
        data_sha256=known(DATA_SHA256, fields.sha256),
        is_finite=text.get(FINITE) == "yes",
        more={key: value for key, value in text.items() if not key.startswith("vggspec.")},
    )


def _by(shape: Shape) -> str:
    return " × ".join(str(n) for n in shape)
