"""A refit held against a recorded TensorRT: no GPU is here, and none is claimed to be.

The fake keeps an engine's arrays in its plan, reads what it is given from memory at the moment of
the refit, as the real one does, and refuses what the real one refuses. It has the names of one of
the listings in ``tests/tensorrt_api``. What the real parser names is asked of TensorRT-RTX, where
that is installed, which parses without a GPU.
"""

import base64
import ctypes
import enum
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from tests.engines import CLASSIC, RTX, engine_options, rewritten, skip_unless_built
from tests.nets import SMALL, net, random_weights
from tests.refusals import told
from tests.runtime.tensorrt.fake import Strict, flavour_of, listing
from vggspec.base.diagnostic import Diagnostic, MissingLibraryError, VggspecError
from vggspec.base.optional import has_library
from vggspec.bundle.digests import file_entry
from vggspec.bundle.manifest import LAYERS, MODEL, PLAN, REFERENCE, WEIGHTS
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.protocol_profiles import profiles_of
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.compiler.bundling.refit import check, refit
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.weights import Metadata, WeightsFile, open_weights, save
from vggspec.runtime.machine import Driver, Gpu, Library, Machine
from vggspec.runtime.tensorrt import library as seam

WITHOUT_BN = SMALL.replace(" BN", "")
TWO_BN = SMALL.replace("conv3-8 BN  conv3-8\n", "conv3-8 BN  conv3-8 BN\n")
RTX_17, CLASSIC_10, CLASSIC_11 = "rtx-1.7", "10.0.1", "11.4"
EPS = 1e-5


def machine_of(version: str) -> Machine:
    """The machine that the fake's engines are for."""
    gpu = Gpu(name="NVIDIA L4", capability="8.9", memory_bytes=24 << 30)
    classic, rtx = (Library(version=each.version, cuda="13") for each in (CLASSIC, RTX))
    is_rtx = flavour_of(version) == "tensorrt_rtx"
    return Machine(
        platform="linux-x86_64",
        driver=Driver(cuda="13.0", gpus=(gpu,)),
        tensorrt=None if is_rtx else classic,
        tensorrt_rtx=rtx if is_rtx else None,
    )


# The library.


class DataType(enum.IntEnum):
    """With the numbers of the real one."""

    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64 = range(9)


BYTES = {DataType.FLOAT: 4, DataType.HALF: 2, DataType.BF16: 2, DataType.INT64: 8}
ONNX_TYPES = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.BFLOAT16: DataType.BF16,
    onnx.TensorProto.INT64: DataType.INT64,
}


@dataclass(frozen=True)
class Weights:
    """As ``trt.Weights``: a pointer, and nothing is copied."""

    dtype: DataType
    address: int
    size: int

    def read(self) -> bytes:
        return ctypes.string_at(self.address, self.size * BYTES[self.dtype])


class FakeTrt:
    """The module. ``refuses`` names calls that say no, with words to the logger."""

    __version__ = "1.7.1.116"

    def __init__(self, version: str) -> None:
        library = self
        self.refuses: set[str] = set()
        self.given: dict[str, bytes] = {}
        self.loaded = 0
        self.DataType = DataType
        self.Weights = Weights
        flags = sorted(listing(version)["SerializationFlag"])
        self.SerializationFlag = enum.Enum("SerializationFlag", flags)  # type: ignore[misc]
        self.missing: list[str] = []

        class ILogger:
            def __init__(self) -> None:
                pass

        self.ILogger = ILogger

        def no(call: str, logger: Any) -> bool:
            if call in library.refuses:
                logger.log(1, f"IThing::{call}: Error Code 4: API Usage Error (No. In {call} at 7)")
            return call in library.refuses

        class Runtime(Strict):
            names = frozenset(listing(version)["Runtime"])

            def __init__(self, logger: Any) -> None:
                self._logger = logger

            def deserialize_cuda_engine(self, data: bytes) -> Any:
                library.loaded += 1
                return None if no("deserialize", self._logger) else Engine(json.loads(data))

        class Config(Strict):
            names = frozenset(listing(version)["ISerializationConfig"])

            def __init__(self, is_stripped: bool) -> None:
                self._flags = (
                    {library.SerializationFlag["EXCLUDE_WEIGHTS"]} if is_stripped else set()
                )

            def set_flag(self, flag: Any) -> bool:
                self._flags.add(flag)
                return True

            def clear_flag(self, flag: Any) -> bool:
                self._flags.discard(flag)
                return True

        class Engine(Strict):
            names = frozenset(listing(version)["ICudaEngine"])

            def __init__(self, plan: dict[str, Any]) -> None:
                self._plan = plan

            @property
            def refittable(self) -> bool:
                return bool(self._plan["is_refittable"])

            def create_serialization_config(self) -> Config:
                return Config(self._plan["is_stripped"])

            def serialize_with_config(self, config: Config) -> Any:
                if "serialize" in library.refuses:
                    return None
                flags = {flag.name for flag in config._flags}
                plan = {**self._plan, "is_refittable": "INCLUDE_REFIT" in flags}
                if "EXCLUDE_WEIGHTS" in flags:
                    plan = {**plan, "arrays": {}}
                else:
                    plan = {**plan, "is_stripped": False}
                return memoryview(json.dumps(plan).encode())

        class Refitter(Strict):
            names = frozenset(listing(version)["Refitter"])

            def __init__(self, engine: Engine, logger: Any) -> None:
                if no("refitter", logger):
                    raise TypeError("pybind11::init(): factory function returned nullptr")
                self._engine, self._logger = engine, logger
                self._offered: dict[str, list[Any]] = engine._plan["offered"]
                self._set: dict[str, Weights | bytes] = {}

            def get_all_weights(self) -> list[str]:
                return list(self._offered)

            def get_weights_prototype(self, name: str) -> Any:
                kind, size = self._offered.get(name, ["FLOAT", -1])
                return Weights(DataType[kind], 0, size)

            def set_named_weights(self, name: str, weights: Weights) -> bool:
                if no(f"set {name}", self._logger) or name not in self._offered:
                    return False
                kind, size = self._offered[name]
                if (weights.dtype.name, weights.size) != (kind, size):
                    return False
                self._set[name] = weights
                return True

            def get_missing_weights(self) -> list[str]:
                return [name for name in self._offered if name not in self._set] + library.missing

            def refit_cuda_engine(self) -> bool:
                if no("refit", self._logger):
                    return False
                for name, weights in self._set.items():
                    data = weights if isinstance(weights, bytes) else weights.read()
                    self._engine._plan["arrays"][name] = base64.b64encode(data).decode()
                return True

        class ParserRefitter(Strict):
            names = frozenset(listing(version)["OnnxParserRefitter"])

            def __init__(self, refitter: Refitter, logger: Any) -> None:
                self._refitter, self._logger = refitter, logger
                self._model: Any = None
                self._loaded: dict[str, tuple[int, int]] = {}

            @property
            def num_errors(self) -> int:
                return 1

            def get_error(self, index: int) -> Any:
                class Error:
                    def desc(self) -> str:
                        return "Failed to refit all the weights."

                return Error()

            def load_model_proto(self, model: bytes) -> bool:
                self._model = onnx.load_from_string(model)
                return "load model" not in library.refuses

            def load_initializer(self, name: str, address: int, size: int) -> bool:
                tensor = next(t for t in self._model.graph.initializer if t.name == name)
                kind = ONNX_TYPES[tensor.data_type]
                self._loaded[name] = address, size
                return size == int(np.prod(tensor.dims)) * BYTES[kind]

            def refit_model_proto(self) -> bool:
                return self._fill({n: ctypes.string_at(*at) for n, at in self._loaded.items()})

            def refit_from_bytes(self, model: bytes, path: str) -> bool:
                self._model = onnx.load_from_string(model)
                found = {}
                for tensor in self._model.graph.initializer:
                    about = {entry.key: entry.value for entry in tensor.external_data}
                    if about:
                        data = (Path(path).parent / about["location"]).read_bytes()
                        begin = int(about["offset"])
                        found[tensor.name] = data[begin : begin + int(about["length"])]
                return self._fill(found)

            def _fill(self, arrays: dict[str, bytes]) -> bool:
                number = 0
                for node in self._model.graph.node:
                    if node.op_type != "BatchNormalization":
                        continue
                    parts = [np.frombuffer(arrays[name], "<f4") for name in node.input[1:]]
                    for array in combine(*parts):
                        name = parser_name(version, number)
                        number += 1
                        if name in self._refitter._offered:
                            self._refitter._set[name] = array.tobytes()
                embedded = [t.name for t in self._model.graph.initializer if t.raw_data]
                given = {*arrays, *embedded, *self._refitter._set}
                return all(name in given for name in self._refitter._offered)

        self.Runtime, self.Refitter = Runtime, Refitter
        self.OnnxParserRefitter = ParserRefitter


def combine(*parts: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight, bias, mean, var = parts
    factor = weight / np.sqrt(var + np.float32(EPS))
    return factor, bias - mean * factor


def parser_name(version: str, number: int) -> str:
    """What the parser calls the arrays that it makes of BatchNormalization."""
    base = "tmp_batch_norm_weight" if version == CLASSIC_10 else "tmp_refittable_weight"
    return base if number == 0 else f"{base}_{number - 1}"


# Bundles.


@dataclass
class Made:
    """A bundle with an engine that the fake loads, and other weights for it."""

    bundle: Bundle
    lowered: Lowered
    options: CompileOptions
    old: WeightsFile
    new: WeightsFile
    trt: FakeTrt
    version: str

    def refit(self, out: Path | None = None) -> dict[str, bytes]:
        """The arrays of the new plan."""
        target = out or self.bundle.path.parent / "new"
        refit(self.bundle, self.lowered, self.new, target, machine_of(self.version))
        plan = json.loads((target / PLAN).read_bytes())
        return {name: base64.b64decode(text) for name, text in plan["arrays"].items()}

    def change_plan(self, **changes: Any) -> None:
        path = self.bundle.path / PLAN
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}), "utf-8")
        files = [e for e in self.bundle.manifest.files if e.path != PLAN]
        files.insert(0, file_entry(self.bundle.path, PLAN))
        rewritten(self.bundle.path, self.bundle.manifest, files=tuple(files))
        self.bundle = open_bundle(self.bundle.path)

    def offer(self, **changes: list[Any] | None) -> None:
        """Change what the engine offers to be replaced."""
        names = {name.replace("__", "."): value for name, value in changes.items()}
        plan = json.loads((self.bundle.path / PLAN).read_bytes())
        offered = {**plan["offered"], **names}
        self.change_plan(offered={k: v for k, v in offered.items() if v is not None})


def expected(of: Made) -> dict[str, bytes]:
    """What the arrays of the engine must be, as PyTorch rounds them."""
    network = prepare(of.lowered.network, of.options)
    types = number_types(network, of.options.precision, of.options.keep_fp32)
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    found = {}
    for name, kind in weight_types(network, types).items():
        if of.version == CLASSIC_10:
            kind = "fp32"  # that release reads casts from the graph
        tensor = torch.from_numpy(of.new.read(name).copy()).to(dtypes[kind])
        view = torch.int32 if kind == "fp32" else torch.int16
        found[name] = tensor.view(view).numpy().tobytes()
    model = emit(
        network,
        of.new,
        contract=of.options.contract,
        mean=of.new.metadata.mean or (120, 115, 100),
        is_dynamic=of.options.is_dense,
        types=types,
        weights_as="declared",
    )
    number = 0
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            for array in combine(*(of.new.read(name) for name in node.input[1:])):
                found[parser_name(of.version, number)] = array.tobytes()
                number += 1
            for name in node.input[1:]:
                del found[name]
    for tensor in model.graph.initializer:
        if tensor.raw_data and tensor.data_type == onnx.TensorProto.FLOAT:
            found[tensor.name] = tensor.raw_data
    return found


def make(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: str = SMALL,
    *,
    version: str = CLASSIC_11,
    refit: str = "all",
    is_stripped: bool = False,
    labels: tuple[str, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    same: bool = False,
    **options: Any,
) -> Made:
    lowered = net(spec)
    old = random_weights(lowered, folder / "old.safetensors")
    arrays = {name: old.read(name).copy() for name in old.tensors}
    if not same:
        for name, array in arrays.items():
            array[:] = np.random.default_rng(len(name)).uniform(0.01, 1.0, array.shape)
    save(folder / "new.safetensors", arrays, Metadata(net="small", mean=mean, labels=labels))
    new = open_weights(folder / "new.safetensors")
    chosen = CompileOptions(**options)
    path = folder / "bundle"
    plain = replace(chosen, precision="fp32", keep_fp32=())
    manifest = write_bundle(lowered, old, path, plain).manifest
    (path / MODEL).rename(path / REFERENCE)
    is_rtx = flavour_of(version) == "tensorrt_rtx"
    engine = replace(
        RTX if is_rtx else CLASSIC,
        refit=refit,
        is_stripped=is_stripped,
        profiles=profiles_of(manifest),
    )
    (path / LAYERS).write_text("{}", "utf-8")
    network = prepare(lowered.network, chosen)
    kept = tuple(x.name for x in network.layers if x.name in chosen.keep_fp32)
    options = replace(
        manifest.options,
        precision=chosen.precision,
        keep_fp32=kept,
        engine=replace(engine_options(engine), profiles=()),
    )
    manifest = replace(manifest, model=PLAN, engine=engine, options=options)
    trt = FakeTrt(version)
    made = Made(Bundle(path, manifest), lowered, chosen, old, new, trt, version)
    sizes = {"fp32": ("FLOAT", 4), "fp16": ("HALF", 2), "bf16": ("BF16", 2)}
    types = weight_types(network, number_types(network, chosen.precision, chosen.keep_fp32))
    offered = {}
    for name, data in expected(made).items():
        kind = "fp32" if version == CLASSIC_10 else types.get(name, "fp32")
        word, num_bytes = sizes[kind]
        offered[name] = [word, len(data) // num_bytes]
    plan = {
        "offered": offered,
        "arrays": {} if is_stripped else dict.fromkeys(offered, "AAAA"),
        "is_refittable": True,
        "is_stripped": is_stripped,
    }
    (path / PLAN).write_text(json.dumps(plan), "utf-8")
    files = [
        file_entry(path, PLAN),
        file_entry(path, REFERENCE, is_needed=False),
        *(replace(entry, is_needed=False) for entry in manifest.files if entry.path == WEIGHTS),
        file_entry(path, LAYERS, is_needed=False),
    ]
    rewritten(path, manifest, files=tuple(files))
    made.bundle = open_bundle(path)
    monkeypatch.setattr(seam, "load", lambda flavour, purpose: trt)
    return made


def refusal(made: Made) -> Diagnostic:
    """The error of a refit, which leaves nothing behind."""
    with pytest.raises(VggspecError) as error:
        made.refit()
    assert not (made.bundle.path.parent / "new").exists()
    assert [p.name for p in made.bundle.path.parent.iterdir() if p.name.startswith(".")] == []
    return error.value.reports[0].what


# What is written.


@pytest.mark.parametrize("version", [CLASSIC_10, "10.16", "11.0", CLASSIC_11, RTX_17])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("spec", [WITHOUT_BN, TWO_BN], ids=["plain", "BN"])
def test_every_array_is_the_new_one_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, precision: str, spec: str
) -> None:
    made = make(tmp_path, monkeypatch, spec, version=version, precision=precision)
    assert made.refit() == expected(made)


@pytest.mark.parametrize("form", ["dense", "crop"])
def test_layers_that_stay_in_fp32_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    options = {"form": form, "precision": "fp16", "keep_fp32": ("conv1_1", "fc4")}
    made = make(tmp_path, monkeypatch, TWO_BN, version=RTX_17, **options)
    arrays = made.refit()
    assert arrays == expected(made)
    assert arrays["fc4.weight"] == made.new.read("fc4.weight").tobytes()
    assert len(arrays["fc3.weight"]) == made.new.tensors["fc3.weight"].bytes // 2


def test_the_new_bundle_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch, precision="fp16", labels=tuple("abcdefghij"))
    made.refit(tmp_path / "new")
    opened = open_bundle(tmp_path / "new", deep=True)
    manifest = opened.manifest
    assert manifest.engine == made.bundle.manifest.engine
    assert manifest.labels == tuple("abcdefghij")
    assert manifest.precision == "fp16"
    assert opened.reference is not None
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    assert set(digests) == {PLAN, WEIGHTS, REFERENCE, LAYERS}
    assert digests[WEIGHTS] == made.new.data_sha256()
    reference = onnx.load(opened.path / REFERENCE, load_external_data=False)
    about = {prop.key: prop.value for prop in reference.metadata_props}
    assert about["vggspec.weights_sha256"] == made.new.data_sha256()
    # The old one is as it was.
    assert open_bundle(made.bundle.path, deep=True).manifest == made.bundle.manifest


def test_a_bundle_is_refitted_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch)
    assert made.refit(made.bundle.path) == expected(made)
    again = open_bundle(made.bundle.path, deep=True)
    made.bundle = again
    assert made.refit() == expected(made)


def test_what_may_be_deleted_may_have_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch)
    for name in (WEIGHTS, REFERENCE, LAYERS):
        (made.bundle.path / name).unlink()
    made.refit()
    opened = open_bundle(tmp_path / "new", deep=True)
    assert {entry.path for entry in opened.manifest.files} == {PLAN, WEIGHTS, REFERENCE}


def test_a_stripped_engine_gets_its_weights_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch, refit="none", is_stripped=True, same=True)
    assert made.refit() == expected(made)
    engine = open_bundle(tmp_path / "new", deep=True).manifest.engine
    assert engine is not None
    assert (engine.is_stripped, engine.refit) == (False, "identical")


def test_a_stripped_engine_may_keep_what_was_not_stripped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch, refit="none", is_stripped=True, same=True)
    made.offer(conv1_2__bias=None, tmp_refittable_weight=None)
    arrays = made.refit()
    assert "conv1_2.bias" not in arrays
    assert "conv1_2.weight" in arrays


def test_before_include_refit_an_engine_is_refitted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch, version=CLASSIC_10)
    machine = machine_of(made.version)
    found = refit(made.bundle, made.lowered, made.new, tmp_path / "new", machine)
    engine = found.manifest.engine
    assert engine is not None
    assert engine.refit == "none"
    assert [note for note in found.notes if "only once" in note]


def test_the_mean_comes_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SMALL.replace("(mean 120 115 100, std 58 57 56)", "")
    made = make(tmp_path, monkeypatch, spec, contract="raw", mean=(1.0, 2.0, 3.0))
    arrays = made.refit()
    assert np.frombuffer(arrays["image_mean"], "<f4").tolist() == [1, 2, 3]
    assert open_bundle(tmp_path / "new").manifest.input.mean == (1, 2, 3)
    made.offer(image_mean=None)
    (tmp_path / "new").rename(tmp_path / "was new")
    assert "image_mean" in (refusal(made).help() or "")


# What is refused.


@pytest.mark.parametrize("is_stripped", [False, True])
def test_an_engine_that_takes_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_stripped: bool
) -> None:
    made = make(tmp_path, monkeypatch, refit="none", is_stripped=is_stripped)
    what = refusal(made)
    assert what.code == ("VGG622" if is_stripped else "VGG621")
    assert "--refittable" in (what.help() or "")
    assert made.trt.loaded == 0


def test_an_engine_in_int8_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be built with `--refittable` either, so that is not what the help says."""
    made = make(tmp_path, monkeypatch, refit="none")
    manifest = made.bundle.manifest
    options = replace(manifest.options, precision="int8", calibrate="photos")
    made.bundle = replace(made.bundle, manifest=replace(manifest, options=options))
    what = refusal(made)
    assert what.code == "VGG588"
    assert "in int8" in what.title()
    assert "--precision int8" in (what.help() or "")
    assert "--refittable" not in (what.help() or "")


def test_weights_of_another_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch)
    other = net(SMALL.replace("FC-24", "FC-25"))
    made.new = random_weights(other, tmp_path / "other.safetensors")
    assert refusal(made).code == "VGG503"
    assert made.trt.loaded == 0


def test_weights_that_changed_since_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path, monkeypatch)
    data = bytearray(made.new.path.read_bytes())
    data[-1] ^= 1
    made.new.path.write_bytes(data)
    assert refusal(made).code == "VGG507"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"driver": None}, "no NVIDIA driver"),
        ({"driver": Driver(cuda="13.0")}, "GPU"),
        ({"tensorrt": None}, "which is not installed"),
        ({"platform": "windows-x86_64"}, "platform"),
    ],
)
def test_a_machine_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    made = make(tmp_path, monkeypatch)
    network = prepare(made.lowered.network, made.options)
    machine = replace(machine_of(made.version), **changes)
    with pytest.raises(MissingLibraryError, match=words) as error:
        check(made.bundle, network, made.new, machine)
    assert "\n" not in told(error.value)


def test_a_plan_that_changed_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch)
    data = (made.bundle.path / PLAN).read_bytes()
    (made.bundle.path / PLAN).write_bytes(data.replace(b"true", b"TRUE"))
    assert refusal(made).code == "VGG524"
    (made.bundle.path / PLAN).unlink()
    assert refusal(made).code == "VGG524"
    assert made.trt.loaded == 0


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("deserialize", "VGG633"),
        ("refitter", "VGG624"),
        ("set conv1_1.weight", "VGG624"),
        ("load model", "VGG624"),
        ("refit", "VGG624"),
        ("serialize", "VGG624"),
    ],
)
def test_tensorrt_says_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: str
) -> None:
    made = make(tmp_path, monkeypatch)
    made.trt.refuses.add(call)
    what = refusal(made)
    assert what.code == code
    assert not {"::", "Error Code"} & set(what.title().split())


@pytest.mark.parametrize("version", [CLASSIC_10, RTX_17])
@pytest.mark.parametrize(
    ("changes", "field", "names"),
    [
        ({"stranger": ["FLOAT", 3]}, "strange", {"stranger"}),
        ({"fc3__bias": None}, "kept", {"fc3.bias"}),
        ({"conv1_1__weight": None, "fc4__bias": None}, "kept", {"conv1_1.weight", "fc4.bias"}),
    ],
)
@pytest.mark.parametrize("spec", [WITHOUT_BN, TWO_BN], ids=["plain", "BN"])
def test_no_array_is_left_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    spec: str,
    changes: dict[str, Any],
    field: str,
    names: set[str],
) -> None:
    made = make(tmp_path, monkeypatch, spec, version=version)
    made.offer(**changes)
    what = refusal(made)
    assert what.code == "VGG623"
    assert names <= set(getattr(what, field))
    assert all(f"`{name}`" in (what.help() or "") for name in names if spec == WITHOUT_BN)


@pytest.mark.parametrize("number", [1, 4])
def test_half_of_what_the_parser_makes_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = make(tmp_path, monkeypatch, TWO_BN)
    made.offer(**{parser_name(made.version, i): None for i in range(number)})
    what = refusal(made)
    assert what.code == "VGG623"
    assert "bn1_1.running_var" in vars(what)["kept"]


def test_what_tensorrt_misses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch)
    made.trt.missing = ["", "deep inside"]
    what = refusal(made)
    assert what.title() == "the engine would keep 2 arrays that the new weights do not replace"
    assert "TensorRT reports `deep inside` as missing" in (what.help() or "")


@pytest.mark.parametrize(
    ("offer", "words"),
    [
        (["BF16", 8], "as BF16, not fp16"),
        (["INT8", 8], "not fp16"),
        (["HALF", 9], "it requires 9 numbers of `conv1_1.bias`, not 8"),
    ],
)
def test_arrays_of_another_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offer: list[Any], words: str
) -> None:
    made = make(tmp_path, monkeypatch, precision="fp16")
    made.offer(conv1_1__bias=offer)
    what = refusal(made)
    assert what.code == "VGG624"
    assert words in what.title()


def test_constants_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch, contract="raw")
    made.offer(image_std=["HALF", 3])
    assert "`image_std` as HALF" in refusal(made).title()


def test_a_long_list_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, monkeypatch, WITHOUT_BN)
    made.offer(**{f"x{i}": ["FLOAT", 1] for i in range(9)})
    assert "and 3 more" in (refusal(made).help() or "")


# The real library.


@pytest.mark.skipif(not has_library("tensorrt_rtx"), reason="TensorRT-RTX is not installed")
@pytest.mark.parametrize("form", ["dense", "crop"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_real_parser_names_arrays_as_the_fake_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, precision: str
) -> None:
    """It only tells whether a name is known, and needs no GPU for that."""
    made = make(
        tmp_path,
        monkeypatch,
        TWO_BN,
        version=RTX_17,
        form=form,
        precision=precision,
        contract="raw",
    )
    monkeypatch.undo()
    trt = seam.load("tensorrt_rtx", "a test")
    network = prepare(made.lowered.network, made.options)
    types = number_types(network, made.options.precision)
    model = emit(
        network,
        made.new,
        contract="raw",
        mean=(1, 2, 3),
        is_dynamic=form == "dense",
        types=types,
        weights_as="declared",
    )
    from vggspec.compiler.rounded_weights import rounded

    arrays = rounded(made.new, weight_types(network, types))
    logger = seam.make_logger(trt, lambda severity, text: None)
    builder = trt.Builder(logger)
    network_definition = builder.create_network(0)
    onnx_parser = trt.OnnxParser(network_definition, logger)
    assert onnx_parser.load_model_proto(model.SerializeToString())
    for name, array in arrays.items():
        assert onnx_parser.load_initializer(name, array.ctypes.data, array.nbytes)
    assert onnx_parser.parse_model_proto()
    names = expected(made)
    unknown = [name for name in names if not network_definition.mark_weights_refittable(name)]
    assert unknown == []
    number = sum(name.startswith("tmp_") for name in names)
    assert number == (4 if precision == "fp32" else 0)
    assert not network_definition.mark_weights_refittable(parser_name(RTX_17, number))


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", list(seam.FLAVOURS))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("how", ["--refittable", "--strip-weights"])
def test_a_refitted_engine_is_the_net_of_the_new_weights(
    tmp_path: Path, specs: Path, flavour: str, precision: str, how: str
) -> None:
    from tests.nets import disagreement
    from vggspec.cli import run
    from vggspec.runtime.ort_session import OrtSession
    from vggspec.runtime.tensorrt.session import TrtSession
    from vggspec.studies.verification.tolerance import default_tolerance

    skip_unless_built(flavour)
    lowered = net((specs / "digits.vgg").read_text("utf-8"))
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    random_weights(lowered, old, seed=0)
    random_weights(lowered, new, seed=0 if how == "--strip-weights" else 1)
    engine, out = tmp_path / "engine", tmp_path / "new"
    options = ["--trt", "--trt-flavor", flavour, how, "--precision", precision, "-o", str(engine)]
    spec = str(specs / "digits.vgg")
    assert run(["compile", spec, "--weights", str(old), *options]) == 0
    assert run(["refit", str(engine), str(new), "-o", str(out)]) == 0
    bundle = open_bundle(out, deep=True)
    assert bundle.reference is not None
    assert bundle.manifest.engine is not None
    rng = np.random.default_rng(0)
    with TrtSession(bundle) as session, OrtSession(bundle.reference, "cpu") as truth:
        for images, rows, columns in (p.opt for p in bundle.manifest.engine.profiles):
            fed = {"image": rng.standard_normal((images, 1, rows, columns)).astype(np.float32)}
            found, wanted = session.run(fed), truth.run(fed)
            for name in wanted:
                assert disagreement(found[name], wanted[name]) <= default_tolerance(precision)
    # And once more: the new engine takes weights as the old one did.
    assert run(["refit", str(out), str(new)]) == 0
