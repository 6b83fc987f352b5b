"""The manifest of a bundle, a folder with a compiled net.

The manifest is the whole contract between the compiler and the runtime. It is read as untrusted
input: every value is checked, and no path in it leads out of the bundle.

    D/manifest.json          this module
    D/1/model.onnx           the graph, or
    D/1/model.plan           a TensorRT engine, nothing before or after it
    D/1/model.safetensors    the weights, unless the graph embeds them
    D/1/reference.onnx       the same net in fp32, to verify an engine against
    D/1/factors.safetensors  the learned factors of a distance
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Annotated, Any, Literal

from vggspec.base.bounds import AtMost, InnerPath, Range, Sha256
from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import MAX_SIDE, BadFieldError, Fields, parse_object, read
from vggspec.base.recipe import MAX_SCALE, Average, Form, Rounding, TestProtocol
from vggspec.base.short_repr import short_repr
from vggspec.bundle import format1
from vggspec.bundle.calibration import Calibration
from vggspec.bundle.engine import Engine
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.bundle.profile import Profile, Size
from vggspec.bundle.sizes import FittingSizes, fits

FORMAT = 6
"""Format 1 had no ``options``, 2 no ``activations``, 3 no ``distance``, 4 no ``int8``, 5 no
``posterior_map``; all are still read.
"""

MANIFEST = "manifest.json"
MODEL = "1/model.onnx"
PLAN = "1/model.plan"
WEIGHTS = "1/model.safetensors"
REFERENCE = "1/reference.onnx"
FACTORS = "1/factors.safetensors"
LAYERS = "layers.json"
SCALES = "scales"
"""The input beside a picture, int64 ``(K,)``: each Q in pixels."""

FIRST, SECOND = "first", "second"
"""The inputs of a graph that compares pictures; both are as ``InputContract`` says."""

OWN_SHA256 = "manifest_sha256"
"""The key of the digest of the rest of a manifest; the earliest versions have none."""

MAX_SPEC = 1 << 20
"""Characters of a spec, with all layers that it takes from others."""

MAX_FILES = 256
"""Each is opened when the bundle is."""

MAX_CHANNELS = 1 << 22
"""Of an output: four for each of a million classes."""

Contract = Literal["float", "raw", "picture"]
OutputKind = Literal[
    "posteriors",
    "scores",
    "boxes",
    "score_map",
    "posterior_map",
    "features",
    "activations",
    "distance",
]
"""``posterior_map`` has posteriors of the classes at each position, where a net labels positions
and not the image; ``features`` are the activations of one layer, averaged over space;
``activations`` are those of a layer that the spec names as an output, as they are; ``distance`` is
that of two pictures."""


#: The first format that has a kind of output.
_SINCE: dict[OutputKind, int] = {"activations": 3, "distance": 4, "posterior_map": 6}

#: The first format that has the precision int8.
_SINCE_INT8 = 5

#: Bytes of a number.
BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """The content of the graph's input tensor.

    ``float``: float32 ``(N, C, H, W)``, ``(x - mean) * scale / std`` for x from 0 to 255, channels
    in the order of ``color``. ``raw``: uint8 ``(N, H, W, C)``, RGB or gray; the graph does the
    rest. ``picture``: uint8 ``(H, W, C)`` of any size, RGB or gray, with ``scales`` beside it; the
    graph contains the test protocol too, and the means of its nets are in ``Manifest.members``.
    """

    contract: Contract
    color: Literal["RGB", "BGR", "gray"]
    mean: tuple[float, ...]
    """One number a channel, in the order of ``color``, in units of 0 to 255."""

    std: tuple[float, ...] | None
    scale: float
    size: Annotated[Size, Range(1, MAX_SCALE)]
    """Rows and columns of the net's window: the input of a crop, the least input of a dense net."""

    is_dynamic: bool
    """Whether larger sizes will do."""

    name: str = "image"
    sizes: FittingSizes = "any"
    """The larger sizes at which the branches of the net meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the positions of a map see of the image, in pixels; pairs are (rows, columns).

    Position (i, j) sees ``window`` pixels from ``start + (i, j) * stride`` on, each axis by itself.
    """

    start: Annotated[Size, Range(-MAX_SIDE, MAX_SIDE)]
    """Where the window of the first position begins: below 0 where it sees padding."""

    window: Annotated[Size, Range(1, MAX_SIDE)]
    """How much a position sees, padding included."""

    stride: Annotated[Size, Range(1, MAX_SIDE)]
    """From one position to the next."""

    place: tuple[float, float] | None = None
    """Of a posterior map: where the first position lies, 0 in the middle of the first pixel. It is
    the middle of what the position sees, unless layers enlarge the map."""

    @property
    def margin(self) -> Size:
        """Of a posterior map: pixels at each edge of an image that are further from the nearest
        position than half a stride. The image is continued by as many.
        """
        if self.place is None:
            return 0, 0
        rows, columns = (
            max(0, ceil(place - (stride - 1) / 2))
            for place, stride in zip(self.place, self.stride, strict=True)
        )
        return rows, columns


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputContract:
    """An output tensor: ``(N, channels)``, or ``(N, channels, h, w)`` for maps; ``(N,)`` for
    distances.
    """

    name: str
    kind: OutputKind
    channels: Annotated[int, Range(1, MAX_CHANNELS)]
    is_map: bool = False
    size: Annotated[Size, Range(1, MAX_SIDE)] | None = None
    """Rows and columns of a map; None for a vector, and where they follow from the image's."""

    position: Position | None = None
    """Where in the image the positions of activations or of a posterior map lie; None for a vector,
    for maps of scores, which ``Manifest.window`` and ``Manifest.stride`` describe, and in older
    manifests."""

    @property
    def key(self) -> str:
        """Unlike that of any other output of the net: its kind, or its name for activations."""
        return self.name if self.kind == "activations" else self.kind

    def is_of(self, classes: int) -> bool:
        """Whether it fits this number of classes: boxes have four channels each, or four shared."""
        if self.kind == "boxes":
            return self.channels in (4, 4 * classes)
        return self.channels == classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the nets in a graph that contains the test protocol; posteriors are averaged."""

    name: str
    """Unlike that of any other; its nodes and weights are named ``<name>/…``."""

    net: str
    """Its name in the spec."""

    spec_text: Annotated[str, AtMost(MAX_SPEC)]
    spec_sha256: Sha256
    average: Average
    input: InputContract
    """How rescaled pixels become what its first layer takes; the graph does it."""

    weights: InnerPath
    """The weights file, from the bundle's folder; the model itself where it contains them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of the bundle and its digest."""

    path: InnerPath
    bytes: Annotated[int, Range(0)]
    sha256: Sha256
    from_byte: Annotated[int, Range(0)] = 0
    """Where the digested part begins: 0, or the first byte of a weights file's tensor data."""

    is_needed: bool = True
    """Whether the bundle does not run without it; else it may be deleted."""

    is_stated: bool = False
    """Whether the digest is the one that the file's own header states, and nobody read the file
    when the bundle was written."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is known about a bundle."""

    net: str
    spec_text: Annotated[str, AtMost(MAX_SPEC)]
    spec_sha256: Sha256
    options: CompileOptions
    """What the user chose, as far as it had an effect."""

    input: InputContract
    outputs: Annotated[tuple[OutputContract, ...], AtMost(MAX_FILES)]
    window: Annotated[Size, Range(1, MAX_SCALE)]
    """Rows and columns of the image that one position of the score map sees, without padding: the
    net's input. It is the net's input, too, where the main output is activations or a posterior
    map."""

    stride: Annotated[Size, Range(1, MAX_SIDE)]
    """Pixels of the image from one position of the score map to the next; of activations, the
    largest of their strides. Of a posterior map, the pixels by which an image may be moved so that
    the grids of all layers move by whole positions: a multiple of all strides."""

    labels: tuple[str, ...] | None
    test: TestProtocol
    tools: dict[str, str]
    files: Annotated[tuple[FileEntry, ...], AtMost(MAX_FILES)]
    model: InnerPath = MODEL
    engine: Engine | None = None
    """Facts about the plan, where ``model`` is one."""

    calibration: Calibration | None = None
    """How the ranges of an int8 net were measured; None for other precisions."""

    members: Annotated[tuple[Member, ...], AtMost(MAX_FILES)] = ()
    """The nets of a graph that takes pictures, else empty. ``spec_text`` is that of the first."""

    @property
    def form(self) -> Form:
        """Whether FC layers are applied as convolutions."""
        return self.options.form or "dense"

    @property
    def average(self) -> Average:
        """What is averaged over space."""
        return self.options.average or self.test.average

    @property
    def pool(self) -> Rounding | None:
        """How poolings round, where it differs from the spec."""
        return self.options.pool

    @property
    def layer(self) -> str | None:
        """The layer whose activations are the output, where it is not the net's own output."""
        return self.options.layer

    @property
    def precision(self) -> Precision:
        """Number type of the arithmetic, except for ``fp32_layers``."""
        return self.options.precision

    @property
    def fp32_layers(self) -> tuple[str, ...]:
        """Layers that compute in fp32 although ``precision`` is lower."""
        return self.options.keep_fp32

    @property
    def result(self) -> OutputContract:
        """The main output."""
        return self.outputs[0]

    @property
    def classifies(self) -> bool:
        """Whether the main output has a number for each class."""
        return self.result.kind in ("posteriors", "scores")

    @property
    def segments(self) -> bool:
        """Whether the main output has posteriors at each position: semantic segmentation."""
        return self.result.kind == "posterior_map"

    @property
    def compares(self) -> bool:
        """Whether it takes two pictures and gives their distance."""
        return self.result.kind == "distance"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that take pictures."""
        return (self.input.name, SECOND) if self.compares else (self.input.name,)

    @property
    def gives(self) -> str:
        """What the main output is, in words: ``posteriors``; ``activations of conv1_2, fc7``."""
        if self.compares:
            return "the distance of two pictures"
        if self.segments:
            return "posteriors of each position"
        if self.result.kind != "activations":
            return self.result.kind.replace("_", " ")
        return f"activations of {', '.join(output.name for output in self.outputs)}"

    @property
    def format(self) -> int:
        """The format of its file: the earliest one that can say it."""
        of_outputs = max(_SINCE.get(output.kind, 2) for output in self.outputs)
        return max(of_outputs, _SINCE_INT8) if self.precision == "int8" else of_outputs

    @property
    def score_map(self) -> OutputContract | None:
        """The output with a score for each class at each position, if there is one."""
        return next((output for output in self.outputs if output.kind == "score_map"), None)

    def to_json(self) -> str:
        """The text of ``manifest.json``, which ends with the digest of the rest."""
        table = asdict(self) | {"format": self.format}
        table[OWN_SHA256] = _own_sha256(Fields(table))
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def read_manifest(text: str | bytes, name: str) -> Manifest:
    """A manifest from its text, every value checked.

    Raises:
        VggspecError: it is not a manifest, or of a newer format.
    """
    try:
        data = parse_object(text.encode() if isinstance(text, str) else text)
        found = data.raw("format")
        if isinstance(found, int) and found > FORMAT:
            newer = artefacts.NewerBundle(format=found, known=FORMAT)
            raise VggspecError(report(newer, path=name))
        manifest = _manifest(data)
        # Last: whatever else is wrong with a manifest says more of it.
        if not data.is_null(OWN_SHA256) and data.raw(OWN_SHA256) != _own_sha256(data):
            raise data.bad(OWN_SHA256, "is not its own: it was changed after it was written")
    except BadFieldError as error:
        what = artefacts.BadManifest(reason=str(error))
        raise VggspecError(report(what, path=name)) from error
    return manifest


def _own_sha256(manifest: Fields) -> str:
    """The digest of all that a manifest says but this."""
    said = {key: manifest.raw(key) for key in manifest.names() if key != OWN_SHA256}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _manifest(data: Fields) -> Manifest:
    """A manifest of any known format, whose parts fit each other."""
    if data.integer("format", 1, FORMAT) == 1:
        manifest = read(Manifest, data, options=format1.read_options(data))
        manifest = replace(manifest, options=_format1_options(manifest))
    else:
        manifest = read(Manifest, data)
    paths = {entry.path for entry in manifest.files}
    for i, entry in enumerate(manifest.files):
        if entry.from_byte > entry.bytes:
            raise BadFieldError(f"`files[{i}].from_byte` is out of range")
    for name in ("outputs", "test.scales", *(["engine.profiles"] if manifest.engine else [])):
        if not _found(manifest, name):
            raise BadFieldError(f"`{name}` is empty")
    _check_spec("", manifest)
    _check_input("input", manifest.input)
    _check_different("files", "path", [entry.path for entry in manifest.files])
    _check_different("outputs", "name", [output.name for output in manifest.outputs])
    _check_different("outputs", "kind", [output.key for output in manifest.outputs])
    _check_different("members", "name", [member.name for member in manifest.members])
    if (manifest.layer is None) == any(out.kind == "features" for out in manifest.outputs):
        raise BadFieldError("`layer` does not go with the `kind` of the outputs")
    for out in manifest.outputs:
        if out.position and not (out.is_map and out.kind in ("activations", "posterior_map")):
            raise BadFieldError("one of `outputs` has a `position`, and is no map of activations")
        if out.kind == "posterior_map" and not (out.is_map and out.position and out.position.place):
            raise BadFieldError("one of `outputs` has posteriors of positions that lie nowhere")
    if manifest.model not in paths:
        raise BadFieldError("`model` is not among the files")
    if manifest.labels is not None and not manifest.result.is_of(len(manifest.labels)):
        raise BadFieldError("there are not as many labels as classes")
    if manifest.labels is not None and manifest.result.kind in ("activations", "distance"):
        raise BadFieldError("there are `labels` without classes")
    if manifest.format > max(2, data.integer("format", 1, FORMAT)):
        if manifest.precision == "int8":
            raise BadFieldError("`precision` is one that its `format` does not have")
        raise BadFieldError("`outputs` have a `kind` that their `format` does not have")
    if (manifest.precision == "int8") != (manifest.calibration is not None):
        raise BadFieldError("`calibration` is there without int8, or int8 without it")
    if manifest.model.endswith(".plan") != (manifest.engine is not None):
        raise BadFieldError("`engine` is there without a plan, or a plan without `engine`")
    if (manifest.engine is None) != (manifest.options.engine is None):
        raise BadFieldError("`options.engine` is there without `engine`, or the reverse")
    for place, profiles in _profiles(manifest):
        for i, profile in enumerate(profiles):
            if not (profile.holds(profile.opt) and profile.holds(profile.min)):
                raise BadFieldError(f"`{place}[{i}].min` is larger than `opt`, or this than `max`")
    if manifest.members or manifest.input.contract == "picture":
        _check_members(manifest)
    if manifest.options.distance or any(out.kind == "distance" for out in manifest.outputs):
        _check_distance(manifest)
    return manifest


def _format1_options(manifest: Manifest) -> CompileOptions:
    """The options of a manifest that only names some of them."""
    image, engine = manifest.input, None
    if manifest.engine is not None and manifest.engine.profiles:
        engine = format1.engine_options(
            manifest.engine,
            manifest.test,
            least=image.size,
            window=manifest.window if image.is_dynamic else image.size,
            is_dynamic=image.is_dynamic,
        )
    is_protocol = bool(manifest.members)
    return replace(
        manifest.options,
        contract="raw" if image.contract == "raw" else "float",
        keep_map=manifest.score_map is not None,
        protocol=is_protocol,
        flip=manifest.test.flip if is_protocol else None,
        engine=engine,
    )


def _found(manifest: Manifest, name: str) -> Any:
    found: Any = manifest
    for step in name.split("."):
        found = getattr(found, step)
    return found


def _profiles(manifest: Manifest) -> Iterator[tuple[str, tuple[Profile, ...]]]:
    if manifest.engine is not None:
        yield "engine.profiles", manifest.engine.profiles
    if manifest.options.engine is not None:
        yield "options.engine.profiles", manifest.options.engine.profiles


def _check_spec(at: str, of: Manifest | Member) -> None:
    """The text of a spec is the one that was compiled."""
    if hashlib.sha256(of.spec_text.encode()).hexdigest() != of.spec_sha256:
        raise BadFieldError(f"`{at}spec_text` is another spec than `spec_sha256` was taken of")


def _check_different(name: str, what: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        raise BadFieldError(f"two of `{name}` have the same `{what}`")


def _check_input(at: str, contract: InputContract) -> None:
    channels = 1 if contract.color == "gray" else 3
    std = contract.mean if contract.std is None else contract.std
    if len(contract.mean) != channels or len(std) != channels:
        raise BadFieldError(f"`{at}.mean` and `{at}.std` do not have {channels} numbers")
    if contract.std is not None and min(contract.std) <= 0:
        raise BadFieldError(f"`{at}.std` is not positive")
    if contract.sizes == "any":
        return
    for axis in contract.sizes.axes:
        in_order = tuple(sorted(set(axis.remainders)))
        if axis.remainders != in_order or not in_order or in_order[-1] >= axis.period:
            raise BadFieldError(f"`{at}.sizes` has remainders that are none of the period")
    if not contract.is_dynamic or not fits(contract.sizes, contract.size):
        raise BadFieldError(f"`{at}.sizes` do not fit `{at}.size`")


def _check_distance(manifest: Manifest) -> None:
    """What holds for every graph that compares pictures."""
    output = manifest.result
    is_alone = len(manifest.outputs) == 1 and output.kind == "distance"
    if not is_alone or output.channels != 1 or output.is_map or not manifest.options.distance:
        raise BadFieldError("`outputs` are not one distance, with `options.distance`")
    if not manifest.input.is_dynamic or manifest.members:
        raise BadFieldError("`outputs` has a distance, and the model is not for any size")
    if manifest.input.name == SECOND:
        raise BadFieldError("`input.name` is that of the second picture")


def _check_members(manifest: Manifest) -> None:
    """What holds for every graph that contains the test protocol."""
    contract, paths = manifest.input, {entry.path for entry in manifest.files}
    if contract.contract != "picture" or not manifest.members:
        raise BadFieldError("`members` are there without pictures as input, or the reverse")
    if manifest.engine is not None or manifest.form != "dense" or not contract.is_dynamic:
        raise BadFieldError("`members` are there, and the model is no graph for any size")
    output = manifest.result
    if len(manifest.outputs) > 1 or output.kind != "posteriors" or output.is_map:
        raise BadFieldError("`members` are there, and `outputs` are not posteriors alone")
    if contract.color == "BGR":
        raise BadFieldError("`input.color` of a picture is not RGB or gray")
    for i, member in enumerate(manifest.members):
        _check_spec(f"members[{i}].", member)
        _check_input(f"members[{i}].input", member.input)
        if member.input.contract != "float" or len(member.input.mean) != len(contract.mean):
            raise BadFieldError(f"`members[{i}].input` does not fit the picture")
        if member.weights not in paths:
            raise BadFieldError(f"`members[{i}].weights` is not among the files")
