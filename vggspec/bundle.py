"""The bundle: a folder with a compiled net, and the manifest that says all about it.

The manifest is the whole contract between the compiler and the runtime. It is read as a stranger's
file: every value is checked, and no path in it leads out of the bundle.

    D/manifest.json          this module
    D/1/model.onnx           the graph, or
    D/1/model.plan           a TensorRT engine, nothing before or after it
    D/1/model.safetensors    the weights, where the graph does not hold them
    D/1/reference.onnx       the same net in fp32: what an engine is verified against
"""

import hashlib
import json
import os
from collections.abc import ItemsView
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast, get_args

from vggspec.catalogue import artefacts
from vggspec.diagnostic import VggspecError, report
from vggspec.engine import Engine
from vggspec.profile import Profile
from vggspec.recipe import Average, Resize, Rounding, TestProtocol
from vggspec.source import reason

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "1/model.onnx"
PLAN = "1/model.plan"
WEIGHTS = "1/model.safetensors"
REFERENCE = "1/reference.onnx"
LAYERS = "layers.json"
SCALES = "scales"
"""The input beside a picture, int64 ``(K,)``: each Q in pixels."""

MAX_MANIFEST_BYTES = 64 << 20
HASHED_ON_OPEN_BYTES = 4 << 20

Contract = Literal["float", "raw", "picture"]
OutputKind = Literal["posteriors", "scores", "boxes", "score_map", "features"]
Precision = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """What the graph's input tensor holds.

    ``float``: float32 ``(N, C, H, W)``, ``(x - mean) * scale / std`` for x from 0 to 255, channels
    in the order of ``color``. ``raw``: uint8 ``(N, H, W, C)``, RGB or gray; the graph does the
    rest. ``picture``: uint8 ``(H, W, C)`` of any size, RGB or gray, with ``scales`` beside it; the
    graph holds the test protocol too, and what its nets subtract stands in ``Manifest.members``.
    """

    contract: Contract
    color: Literal["RGB", "BGR", "gray"]
    mean: tuple[float, ...]
    """One number a channel, in the order of ``color``, in units of 0 to 255."""

    std: tuple[float, ...] | None
    scale: float
    size: tuple[int, int]
    """Rows and columns of the net's window: the input of a crop, the least input of a dense net."""

    is_dynamic: bool
    """Whether any larger size will do."""

    name: str = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputContract:
    """An output tensor: ``(N, classes)``, or ``(N, classes, h, w)`` for maps."""

    name: str
    kind: OutputKind
    channels: int
    is_map: bool = False

    def is_of(self, classes: int) -> bool:
        """Whether it can be about so many classes: four channels each for boxes, or four shared."""
        if self.kind == "boxes":
            return self.channels in (4, 4 * classes)
        return self.channels == classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of the nets in a graph that holds the test protocol; their posteriors are averaged."""

    name: str
    """Unlike that of any other; its nodes and weights are named ``<name>/…``."""

    net: str
    """Its name in the spec."""

    spec_text: str
    spec_sha256: str
    average: Average
    input: InputContract
    """How rescaled pixels become what its first layer takes; the graph does it."""

    weights: str
    """The weights file, from the bundle's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file of the bundle and its digest."""

    path: str
    bytes: int
    sha256: str
    from_byte: int = 0
    """Where the digested part begins: 0, or the first byte of a weights file's tensor data."""

    is_needed: bool = True
    """Whether the bundle does not run without it; else it may be deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that is known of a bundle."""

    net: str
    spec_text: str
    spec_sha256: str
    form: Literal["dense", "crop"]
    average: Average
    input: InputContract
    outputs: tuple[OutputContract, ...]
    window: tuple[int, int]
    """Rows and columns of the image that one position of the score map sees, padding left out: the
    net's input."""

    stride: tuple[int, int]
    """Pixels of the image from one position of the score map to the next."""

    pool: Rounding | None = None
    """How poolings round, where it was chosen otherwise than the spec says."""

    finer_stride: int | None = None
    """The stride in pixels that was asked for, where it is not the net's own."""

    layer: str | None = None
    """The layer whose numbers are the output, where it is not the net's own output."""

    labels: tuple[str, ...] | None
    test: TestProtocol
    precision: Precision
    """Number type of the arithmetic, but for ``fp32_layers``."""

    fp32_layers: tuple[str, ...] = ()
    """Layers that compute in fp32 although ``precision`` is lower."""

    tools: dict[str, str]
    files: tuple[FileEntry, ...]
    model: str = MODEL
    engine: Engine | None = None
    """What is known of the plan, where ``model`` is one."""

    members: tuple[Member, ...] = ()
    """The nets of a graph that takes pictures; elsewhere none. ``spec_text`` is the first one's."""

    format: int = FORMAT

    @property
    def result(self) -> OutputContract:
        """The main output."""
        return self.outputs[0]

    @property
    def score_map(self) -> OutputContract | None:
        """The output with a score for each class at each position, if there is one."""
        return next((output for output in self.outputs if output.kind == "score_map"), None)

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose manifest has been read and whose files are there."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The graph or the plan to load."""
        return self.path / self.manifest.model

    def read_model(self) -> bytes:
        """The bytes of the model, which are those that the manifest digests.

        Raises:
            VggspecError: the file was changed, or cannot be read.
        """
        entry = next(entry for entry in self.manifest.files if entry.path == self.manifest.model)
        try:
            data = self.model.read_bytes()
        except OSError as error:
            raise _differs(self.path, entry, f"cannot be read: {reason(error)}") from error
        if hashlib.sha256(data[entry.from_byte :]).hexdigest() != entry.sha256:
            raise _differs(self.path, entry, "was changed: its SHA-256 is another")
        return data

    @property
    def reference(self) -> Path | None:
        """The same net in fp32 for ONNX Runtime, where the bundle still has it and its weights."""
        needed = [self.path / REFERENCE]
        needed += [self.path / e.path for e in self.manifest.files if e.path == WEIGHTS]
        return needed[0] if all(path.is_file() for path in needed) else None


def open_bundle(path: str | os.PathLike[str], *, deep: bool = False) -> Bundle:
    """Read a bundle's manifest and compare its files with it.

    Sizes are compared always, and the digests of files up to 4 MiB; with ``deep`` those of all
    files, which reads the weights.

    Raises:
        VggspecError: it is no bundle, or not as it was written.
    """
    folder = Path(path)
    text = _manifest_text(folder)
    manifest = read_manifest(text, str(folder / MANIFEST))
    for entry in manifest.files:
        _compare(folder, entry, deep=deep)
    return Bundle(folder, manifest)


def _manifest_text(folder: Path) -> str:
    try:
        with open(folder / MANIFEST, "rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        around = next((each for each in folder.parents if (each / MANIFEST).is_file()), None)
        what = artefacts.NotABundle(
            is_there=folder.exists(),
            is_folder=folder.is_dir(),
            bundle=None if around is None else str(around),
        )
        raise VggspecError(report(what, path=str(folder))) from error
    except (OSError, ValueError) as error:
        unread = artefacts.NoSuchFile(kind="manifest", reason=reason(error))
        raise VggspecError(report(unread, path=str(folder))) from error
    try:
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError("it is too large")
        return data.decode()
    except ValueError as error:
        what_bad = artefacts.BadManifest(reason="it is not a text file")
        raise VggspecError(report(what_bad, path=str(folder / MANIFEST))) from error


def _differs(folder: Path, entry: FileEntry, how: str) -> VggspecError:
    what = artefacts.ChangedFile(file=entry.path, reason=how)
    return VggspecError(report(what, path=str(folder)))


def _compare(folder: Path, entry: FileEntry, *, deep: bool) -> None:
    def differs(how: str) -> VggspecError:
        return _differs(folder, entry, how)

    path = folder / entry.path
    if not entry.is_needed and not path.exists():
        return
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise differs("leads out of the bundle")
        size = path.stat().st_size
        if size != entry.bytes:
            raise differs(f"has {size} bytes, not {entry.bytes}")
        is_small = entry.bytes <= HASHED_ON_OPEN_BYTES
        if (deep or is_small) and digest(path, entry.from_byte) != entry.sha256:
            raise differs("was changed: its SHA-256 is another")
    except OSError as error:
        raise differs(f"cannot be read: {reason(error)}") from error


def digest(path: str | os.PathLike[str], from_byte: int = 0) -> str:
    """SHA-256 of a file, or of its bytes from ``from_byte`` on, in hexadecimal."""
    with open(path, "rb") as file:
        file.seek(from_byte)
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entry(folder: Path, path: str, *, is_needed: bool = True) -> FileEntry:
    """The entry of a file that was just written into a bundle."""
    full = folder / path
    size = full.stat().st_size
    return FileEntry(path=path, bytes=size, sha256=digest(full), is_needed=is_needed)


def read_manifest(text: str, name: str) -> Manifest:
    """A manifest from its text, every value checked.

    Raises:
        VggspecError: it is not a manifest, or of a newer format.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise _BadValueError("it is not a JSON object")
        found = data.get("format")
        if isinstance(found, int) and found > FORMAT:
            newer = artefacts.NewerBundle(format=found, known=FORMAT)
            raise VggspecError(report(newer, path=name))
        return _manifest(_Reader(cast("dict[str, Any]", data), ""))
    except (_BadValueError, ValueError, RecursionError) as error:
        what = artefacts.BadManifest(reason=str(error))
        raise VggspecError(report(what, path=name)) from error


class _BadValueError(Exception):
    """A value of the manifest is not what it must be."""


class _Reader:
    """Typed access to a JSON object; a value of another type is an error that names it."""

    def __init__(self, data: dict[str, Any], at: str) -> None:
        self._data = data
        self._at = at

    def _get(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        value = self._data.get(key)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _BadValueError(f"`{self._at}{key}` is not {what}")
        return value

    def text(self, key: str) -> str:
        return cast("str", self._get(key, str, "a text"))

    def boolean(self, key: str) -> bool:
        return cast("bool", self._get(key, bool, "true or false"))

    def flag(self, key: str, *, default: bool) -> bool:
        """As ``boolean``, of a key that bundles of earlier versions do not have."""
        return self.boolean(key) if key in self._data else default

    def integer(self, key: str, low: int = 0, high: int = 1 << 62) -> int:
        value = cast("int", self._get(key, int, "a whole number"))
        if not low <= value <= high:
            raise _BadValueError(f"`{self._at}{key}` is out of range")
        return value

    def number(self, key: str) -> float:
        value = float(self._get(key, (int, float), "a number"))
        if not abs(value) < 1e30:
            raise _BadValueError(f"`{self._at}{key}` is not a finite number")
        return value

    def choice(self, key: str, *choices: str) -> Any:
        value = self.text(key)
        if value not in choices:
            raise _BadValueError(f"`{self._at}{key}` is not one of {', '.join(choices)}")
        return value

    def object(self, key: str) -> "_Reader":
        return _Reader(self._get(key, dict, "an object"), f"{self._at}{key}.")

    def objects(self, key: str) -> "list[_Reader]":
        values = self._get(key, list, "a list")
        if not all(isinstance(value, dict) for value in values):
            raise _BadValueError(f"`{self._at}{key}` is not a list of objects")
        return [_Reader(value, f"{self._at}{key}[{i}].") for i, value in enumerate(values)]

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, list, "a list")
        if not all(isinstance(value, str) for value in values):
            raise _BadValueError(f"`{self._at}{key}` is not a list of texts")
        return tuple(values)

    def numbers(self, key: str) -> tuple[float, ...]:
        values = self._get(key, list, "a list")
        if not all(type(value) in (int, float) and abs(value) < 1e30 for value in values):
            raise _BadValueError(f"`{self._at}{key}` is not a list of numbers")
        return tuple(float(value) for value in values)

    def pair(self, key: str) -> tuple[int, int]:
        values = self._get(key, list, "a list")
        if len(values) != 2 or not all(type(v) is int and 1 <= v <= 1 << 24 for v in values):
            raise _BadValueError(f"`{self._at}{key}` is not two positive whole numbers")
        return values[0], values[1]

    def shape(self, key: str) -> tuple[int, int, int]:
        values = self._get(key, list, "a list")
        if len(values) != 3 or not all(type(v) is int and 1 <= v <= 1 << 24 for v in values):
            raise _BadValueError(f"`{self._at}{key}` is not three positive whole numbers")
        return values[0], values[1], values[2]

    def path(self, key: str) -> str:
        text = self.text(key)
        path = PurePosixPath(text)
        if not text or path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text:
            raise _BadValueError(f"`{self._at}{key}` is not a path inside the bundle")
        return text

    def items(self) -> ItemsView[str, Any]:
        return self._data.items()

    def is_null(self, key: str) -> bool:
        return self._data.get(key) is None


def _manifest(data: _Reader) -> Manifest:
    data.integer("format", 1, FORMAT)
    files = tuple(
        FileEntry(
            path=entry.path("path"),
            bytes=entry.integer("bytes"),
            sha256=entry.text("sha256"),
            from_byte=entry.integer("from_byte"),
            is_needed=entry.flag("is_needed", default=True),
        )
        for entry in data.objects("files")
    )
    manifest = Manifest(
        net=data.text("net"),
        spec_text=data.text("spec_text"),
        spec_sha256=data.text("spec_sha256"),
        form=data.choice("form", "dense", "crop"),
        average=data.choice("average", "scores", "posteriors"),
        input=_input(data.object("input")),
        outputs=tuple(_output(output) for output in data.objects("outputs")),
        window=data.pair("window"),
        stride=data.pair("stride"),
        pool=None if data.is_null("pool") else data.choice("pool", "floor", "ceil"),
        finer_stride=None if data.is_null("finer_stride") else data.integer("finer_stride", 1),
        layer=None if data.is_null("layer") else data.text("layer"),
        labels=None if data.is_null("labels") else data.texts("labels"),
        test=_protocol(data.object("test")),
        precision=data.choice("precision", "fp32", "fp16", "bf16"),
        fp32_layers=() if data.is_null("fp32_layers") else data.texts("fp32_layers"),
        tools={str(key): str(value) for key, value in data.object("tools").items()},
        files=files,
        model=data.path("model"),
        engine=None if data.is_null("engine") else _engine(data.object("engine")),
        members=() if data.is_null("members") else tuple(map(_member, data.objects("members"))),
    )
    if not manifest.outputs:
        raise _BadValueError("`outputs` is empty")
    if (manifest.layer is None) == any(out.kind == "features" for out in manifest.outputs):
        raise _BadValueError("`layer` does not go with the `kind` of the outputs")
    if manifest.model not in {entry.path for entry in files}:
        raise _BadValueError("`model` is not among the files")
    if manifest.labels is not None and not manifest.result.is_of(len(manifest.labels)):
        raise _BadValueError("there are not as many labels as classes")
    if manifest.model.endswith(".plan") != (manifest.engine is not None):
        raise _BadValueError("`engine` is there without a plan, or a plan without `engine`")
    if manifest.members or manifest.input.contract == "picture":
        _check_members(manifest)
    return manifest


def _member(data: _Reader) -> Member:
    return Member(
        name=data.text("name"),
        net=data.text("net"),
        spec_text=data.text("spec_text"),
        spec_sha256=data.text("spec_sha256"),
        average=data.choice("average", "scores", "posteriors"),
        input=_input(data.object("input")),
        weights=data.path("weights"),
    )


def _check_members(manifest: Manifest) -> None:
    """What is so of every graph that holds the test protocol."""
    contract, paths = manifest.input, {entry.path for entry in manifest.files}
    if contract.contract != "picture" or not manifest.members:
        raise _BadValueError("`members` are there without pictures as input, or the reverse")
    if manifest.engine is not None or manifest.form != "dense" or not contract.is_dynamic:
        raise _BadValueError("`members` are there, and the model is no graph for any size")
    output = manifest.result
    if len(manifest.outputs) > 1 or output.kind != "posteriors" or output.is_map:
        raise _BadValueError("`members` are there, and `outputs` are not posteriors alone")
    if contract.color == "BGR":
        raise _BadValueError("`input.color` of a picture is not RGB or gray")
    for i, member in enumerate(manifest.members):
        if member.input.contract != "float" or len(member.input.mean) != len(contract.mean):
            raise _BadValueError(f"`members[{i}].input` does not fit the picture")
        if member.weights not in paths:
            raise _BadValueError(f"`members[{i}].weights` is not among the files")


def _engine(data: _Reader) -> Engine:
    engine = Engine(
        flavour=data.choice("flavour", "tensorrt", "tensorrt_rtx"),
        version=data.text("version"),
        cuda=None if data.is_null("cuda") else data.text("cuda"),
        platform=data.text("platform"),
        gpu=None if data.is_null("gpu") else data.text("gpu"),
        capabilities=data.texts("capabilities"),
        is_open_ended=data.boolean("is_open_ended"),
        profiles=tuple(
            Profile(min=each.shape("min"), opt=each.shape("opt"), max=each.shape("max"))
            for each in data.objects("profiles")
        ),
        tf32=data.boolean("tf32"),
        hardware=data.choice("hardware", "none", "ampere_plus", "same_compute_capability"),
        is_version_compatible=data.boolean("is_version_compatible"),
        refit=data.choice("refit", "none", "all", "identical"),
        is_stripped=data.boolean("is_stripped"),
        level=data.integer("level", 0, 5),
        name=data.text("name"),
    )
    if not engine.profiles:
        raise _BadValueError("`engine.profiles` is empty")
    return engine


def _input(data: _Reader) -> InputContract:
    contract = InputContract(
        contract=data.choice("contract", "float", "raw", "picture"),
        color=data.choice("color", "RGB", "BGR", "gray"),
        mean=data.numbers("mean"),
        std=None if data.is_null("std") else data.numbers("std"),
        scale=data.number("scale"),
        size=data.pair("size"),
        is_dynamic=data.boolean("is_dynamic"),
        name=data.text("name"),
    )
    channels = 1 if contract.color == "gray" else 3
    if len(contract.mean) != channels or len(contract.std or contract.mean) != channels:
        raise _BadValueError(f"`input.mean` and `input.std` do not have {channels} numbers")
    if contract.std is not None and min(contract.std) <= 0:
        raise _BadValueError("`input.std` is not positive")
    return contract


def _output(data: _Reader) -> OutputContract:
    return OutputContract(
        name=data.text("name"),
        kind=data.choice("kind", "posteriors", "scores", "boxes", "score_map", "features"),
        channels=data.integer("channels", 1),
        is_map=data.boolean("is_map"),
    )


def _protocol(data: _Reader) -> TestProtocol:
    scales = data.numbers("scales")
    if not scales or not all(1 <= scale <= 1 << 16 and scale == int(scale) for scale in scales):
        raise _BadValueError("`test.scales` is not a list of sizes")
    protocol = TestProtocol(
        scales=tuple(int(scale) for scale in scales),
        dense=data.boolean("dense"),
        flip=data.boolean("flip"),
        average=data.choice("average", "scores", "posteriors"),
        resize="rounded" if data.is_null("resize") else data.choice("resize", *get_args(Resize)),
    )
    if data.is_null("crops"):
        return protocol
    return replace(protocol, crops=data.integer("crops", 1, 64))
