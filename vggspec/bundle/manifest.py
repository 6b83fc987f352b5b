"""The bundle: a folder with a compiled net, and the manifest that says all about it.

The manifest is the whole contract between the compiler and the runtime. It is read as a stranger's
file: every value is checked, and no path in it leads out of the bundle. A file of a bundle may be a
link to wherever the user keeps it: its content is what is compared.

    D/manifest.json          this module
    D/1/model.onnx           the graph, or
    D/1/model.plan           a TensorRT engine, nothing before or after it
    D/1/model.safetensors    the weights, where the graph does not hold them
    D/1/reference.onnx       the same net in fp32: what an engine is verified against
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Literal, TypeVar, get_args

from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError, Fields, parse_object
from vggspec.base.files import left_behind
from vggspec.base.opening import open_file, read_file
from vggspec.base.recipe import MAX_SCALE, MAX_SCALES, Average, Resize, Rounding, TestProtocol
from vggspec.base.tensors import DATA_SHA256, BadTensorsError, read_layout
from vggspec.base.wording import reason
from vggspec.bundle.engine import Engine
from vggspec.bundle.profile import Profile

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "1/model.onnx"
PLAN = "1/model.plan"
WEIGHTS = "1/model.safetensors"
REFERENCE = "1/reference.onnx"
LAYERS = "layers.json"
SCALES = "scales"
"""The input beside a picture, int64 ``(K,)``: each Q in pixels."""

OWN_SHA256 = "manifest_sha256"
"""Where a manifest has the digest of the rest of itself; those of earlier versions have none."""

MAX_MANIFEST_BYTES = 16 << 20
"""A thousand labels take 50 KB; as values in memory JSON takes up to twenty times its size."""

MAX_SPEC = 1 << 20
"""Characters of a spec, with all layers that it takes from others."""

MAX_FILES = 256
"""Each is opened when the bundle is."""

MAX_CHANNELS = 1 << 22
"""Of an output: four for each of a million classes."""

HASHED_ON_OPEN_BYTES = 4 << 20

Contract = Literal["float", "raw", "picture"]
OutputKind = Literal["posteriors", "scores", "boxes", "score_map", "features"]
Precision = Literal["fp32", "fp16", "bf16"]

#: Bytes of a number.
BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}

Loaded = TypeVar("Loaded")


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

    is_stated: bool = False
    """Whether the digest is the one that the file's own header states, and nobody read the file
    when the bundle was written."""


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
        """The text of ``manifest.json``, which ends with the digest of what stands before."""
        table = asdict(self)
        table[OWN_SHA256] = _own_sha256(Fields(table))
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


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
            data = read_file(self.model, entry.bytes)
        except OSError as error:
            raise _differs(self.path, entry, f"cannot be read: {reason(error)}") from error
        if hashlib.sha256(data[entry.from_byte :]).hexdigest() != entry.sha256:
            raise _differs(self.path, entry, "was changed: its SHA-256 is another")
        return data

    def is_current(self) -> bool:
        """Whether what is read by name now, weights for instance, is part of what was opened."""
        try:
            return read_manifest(_manifest_data(self.path), str(self.path)) == self.manifest
        except VggspecError:
            return False

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
    while True:
        data = _manifest_data(folder)
        manifest = read_manifest(data, str(folder / MANIFEST))
        try:
            for entry in manifest.files:
                _compare(folder, entry, deep=deep)
        except VggspecError:
            if _manifest_data(folder) == data:
                raise
        else:
            return Bundle(folder, manifest)
        # It was replaced between its manifest and its files: they are compared with the new one.


def load_bundle(path: str | os.PathLike[str], load: Callable[[Bundle], Loaded]) -> Loaded:
    """What ``load`` makes of a bundle; where the bundle is replaced meanwhile, of the new one.

    Raises:
        VggspecError: it is no bundle, not as it was written, or as ``load``.
    """
    while True:
        opened = open_bundle(path)
        try:
            loaded = load(opened)
        except VggspecError:
            if opened.is_current():
                raise
        else:
            if opened.is_current():
                return loaded


def _manifest_data(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        with open_file(path) as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        around = next((each for each in folder.parents if (each / MANIFEST).is_file()), None)
        left = [] if folder.exists() else left_behind(folder)
        what = artefacts.NotABundle(
            is_there=folder.exists(),
            is_folder=folder.is_dir(),
            bundle=None if around is None else str(around),
            left_behind=str(left[-1]) if left else None,
        )
        raise VggspecError(report(what, path=str(folder))) from error
    except OSError as error:
        unread = artefacts.NoSuchFile(kind="manifest", reason=reason(error))
        raise VggspecError(report(unread, path=str(path))) from error
    if len(data) > MAX_MANIFEST_BYTES:
        what_bad = artefacts.BadManifest(reason=f"it has more than {MAX_MANIFEST_BYTES} bytes")
        raise VggspecError(report(what_bad, path=str(path)))
    return data


def _differs(
    folder: Path, entry: FileEntry, how: str, *, contradicts_itself: bool = False
) -> VggspecError:
    what = artefacts.ChangedFile(file=entry.path, reason=how, contradicts_itself=contradicts_itself)
    return VggspecError(report(what, path=str(folder)))


def _compare(folder: Path, entry: FileEntry, *, deep: bool) -> None:
    def differs(how: str) -> VggspecError:
        return _differs(folder, entry, how)

    path = folder / entry.path
    if not entry.is_needed and not os.path.exists(path):
        return
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                raise differs(f"has {size} bytes, not {entry.bytes}")
            if deep or entry.bytes <= HASHED_ON_OPEN_BYTES:
                found = _digest(file, entry.from_byte)
                if found != entry.sha256:
                    raise _differs(
                        folder,
                        entry,
                        "was changed: its SHA-256 is another",
                        contradicts_itself=entry.from_byte > 0 and stated_sha256(path) != found,
                    )
    except OSError as error:
        raise differs(f"cannot be read: {reason(error)}") from error


def digest(path: str | os.PathLike[str], from_byte: int = 0) -> str:
    """SHA-256 of a file, or of its bytes from ``from_byte`` on, in hexadecimal."""
    with open_file(path) as file:
        return _digest(file, from_byte)


def _digest(file: BufferedReader, from_byte: int) -> str:
    file.seek(from_byte)
    return hashlib.file_digest(file, "sha256").hexdigest()


def stated_sha256(path: str | os.PathLike[str]) -> str | None:
    """The digest that a weights file states of its numbers, where it has a header that says one."""
    try:
        return read_layout(path).metadata.get(DATA_SHA256)
    except (OSError, BadTensorsError):
        return None


def file_entry(folder: Path, path: str, *, is_needed: bool = True) -> FileEntry:
    """The entry of a file that was just written into a bundle."""
    full = folder / path
    size = full.stat().st_size
    return FileEntry(path=path, bytes=size, sha256=digest(full), is_needed=is_needed)


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
    data.integer("format", 1, FORMAT)
    files = tuple(map(_file, data.objects("files", MAX_FILES)))
    manifest = Manifest(
        net=data.text("net"),
        spec_text=_spec(data),
        spec_sha256=data.sha256("spec_sha256"),
        form=data.choice("form", "dense", "crop"),
        average=data.choice("average", "scores", "posteriors"),
        input=_input(data.object("input")),
        outputs=tuple(map(_output, data.objects("outputs", MAX_FILES))),
        window=data.pair("window", MAX_SCALE),
        stride=data.pair("stride"),
        pool=None if data.is_null("pool") else data.choice("pool", "floor", "ceil"),
        finer_stride=None
        if data.is_null("finer_stride")
        else data.integer("finer_stride", 1, MAX_SCALE),
        layer=None if data.is_null("layer") else data.text("layer"),
        labels=None if data.is_null("labels") else data.texts("labels"),
        test=_protocol(data.object("test")),
        precision=data.choice("precision", "fp32", "fp16", "bf16"),
        fp32_layers=() if data.is_null("fp32_layers") else data.texts("fp32_layers"),
        tools=data.text_table("tools"),
        files=files,
        model=data.path("model"),
        engine=None if data.is_null("engine") else _engine(data.object("engine")),
        members=()
        if data.is_null("members")
        else tuple(map(_member, data.objects("members", MAX_FILES))),
    )
    if not manifest.outputs:
        raise BadFieldError("`outputs` is empty")
    _check_different("files", "path", [entry.path for entry in files])
    _check_different("outputs", "name", [output.name for output in manifest.outputs])
    _check_different("outputs", "kind", [output.kind for output in manifest.outputs])
    _check_different("members", "name", [member.name for member in manifest.members])
    if (manifest.layer is None) == any(out.kind == "features" for out in manifest.outputs):
        raise BadFieldError("`layer` does not go with the `kind` of the outputs")
    if manifest.model not in {entry.path for entry in files}:
        raise BadFieldError("`model` is not among the files")
    if manifest.labels is not None and not manifest.result.is_of(len(manifest.labels)):
        raise BadFieldError("there are not as many labels as classes")
    if manifest.model.endswith(".plan") != (manifest.engine is not None):
        raise BadFieldError("`engine` is there without a plan, or a plan without `engine`")
    if manifest.members or manifest.input.contract == "picture":
        _check_members(manifest)
    return manifest


def _file(data: Fields) -> FileEntry:
    size = data.integer("bytes")
    return FileEntry(
        path=data.path("path"),
        bytes=size,
        sha256=data.sha256("sha256"),
        from_byte=data.integer("from_byte", 0, size),
        is_needed=data.flag("is_needed", default=True),
        is_stated=data.flag("is_stated", default=False),
    )


def _spec(data: Fields) -> str:
    """The text of a spec, which is the one that was compiled."""
    text = data.text("spec_text", MAX_SPEC)
    if hashlib.sha256(text.encode()).hexdigest() != data.sha256("spec_sha256"):
        raise data.bad("spec_text", "is another spec than `spec_sha256` was taken of")
    return text


def _check_different(name: str, what: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        raise BadFieldError(f"two of `{name}` have the same `{what}`")


def _member(data: Fields) -> Member:
    return Member(
        name=data.text("name"),
        net=data.text("net"),
        spec_text=_spec(data),
        spec_sha256=data.sha256("spec_sha256"),
        average=data.choice("average", "scores", "posteriors"),
        input=_input(data.object("input")),
        weights=data.path("weights"),
    )


def _check_members(manifest: Manifest) -> None:
    """What is so of every graph that holds the test protocol."""
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
        if member.input.contract != "float" or len(member.input.mean) != len(contract.mean):
            raise BadFieldError(f"`members[{i}].input` does not fit the picture")
        if member.weights not in paths:
            raise BadFieldError(f"`members[{i}].weights` is not among the files")


def _engine(data: Fields) -> Engine:
    engine = Engine(
        flavour=data.choice("flavour", "tensorrt", "tensorrt_rtx"),
        version=data.text("version"),
        cuda=None if data.is_null("cuda") else data.text("cuda"),
        platform=data.text("platform"),
        gpu=None if data.is_null("gpu") else data.text("gpu"),
        capabilities=data.texts("capabilities", MAX_FILES),
        is_open_ended=data.boolean("is_open_ended"),
        profiles=tuple(map(_profile, data.objects("profiles", MAX_FILES))),
        tf32=data.boolean("tf32"),
        hardware=data.choice("hardware", "none", "ampere_plus", "same_compute_capability"),
        is_version_compatible=data.boolean("is_version_compatible"),
        refit=data.choice("refit", "none", "all", "identical"),
        is_stripped=data.boolean("is_stripped"),
        level=data.integer("level", 0, 5),
        name=data.text("name"),
    )
    if not engine.profiles:
        raise BadFieldError("`engine.profiles` is empty")
    return engine


def _profile(data: Fields) -> Profile:
    profile = Profile(data.shape("min"), data.shape("opt"), data.shape("max"))
    if not (profile.holds(profile.opt) and profile.holds(profile.min)):
        raise data.bad("min", "is larger than `opt`, or this than `max`")
    return profile


def _input(data: Fields) -> InputContract:
    contract = InputContract(
        contract=data.choice("contract", "float", "raw", "picture"),
        color=data.choice("color", "RGB", "BGR", "gray"),
        mean=data.numbers("mean"),
        std=None if data.is_null("std") else data.numbers("std"),
        scale=data.number("scale"),
        size=data.pair("size", MAX_SCALE),
        is_dynamic=data.boolean("is_dynamic"),
        name=data.text("name"),
    )
    channels = 1 if contract.color == "gray" else 3
    std = contract.mean if contract.std is None else contract.std
    if len(contract.mean) != channels or len(std) != channels:
        raise BadFieldError(f"`input.mean` and `input.std` do not have {channels} numbers")
    if contract.std is not None and min(contract.std) <= 0:
        raise BadFieldError("`input.std` is not positive")
    return contract


def _output(data: Fields) -> OutputContract:
    return OutputContract(
        name=data.text("name"),
        kind=data.choice("kind", "posteriors", "scores", "boxes", "score_map", "features"),
        channels=data.integer("channels", 1, MAX_CHANNELS),
        is_map=data.boolean("is_map"),
    )


def _protocol(data: Fields) -> TestProtocol:
    scales = data.integers("scales", 1, MAX_SCALE, MAX_SCALES)
    if not scales:
        raise data.bad("scales", "is empty")
    protocol = TestProtocol(
        scales=scales,
        dense=data.boolean("dense"),
        flip=data.boolean("flip"),
        average=data.choice("average", "scores", "posteriors"),
        resize="rounded" if data.is_null("resize") else data.choice("resize", *get_args(Resize)),
    )
    if data.is_null("crops"):
        return protocol
    return replace(protocol, crops=data.integer("crops", 1, 64))
