"""Engines, built for real by TensorRT-RTX, which needs no GPU to build."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from tests.cli.run import vggspec
from tests.nets import (
    COLUMNS,
    FEW_GRAPHS,
    GRAPHS,
    MAPS,
    SMALL,
    any_weights,
    narrowed,
    net,
    random_weights,
    spec_of_ours,
)
from tests.refusals import refused
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.bundle.engine import RTX_CAPABILITIES
from vggspec.bundle.manifest import BYTES, LAYERS, PLAN, REFERENCE, Manifest
from vggspec.bundle.opening import open_bundle
from vggspec.bundle.options import CompileOptions, EngineOptions, Precision
from vggspec.bundle.profile import Profile
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.backends.tensorrt import build as backend
from vggspec.compiler.backends.tensorrt import config as configuring
from vggspec.compiler.backends.tensorrt.check import (
    INSPECTED as TYPES,
)
from vggspec.compiler.backends.tensorrt.check import (
    Checked,
    check_engine,
    inspected_layers,
    inspected_types,
)
from vggspec.compiler.backends.tensorrt.flavours import check_options, serves
from vggspec.compiler.backends.tensorrt.network import Ports
from vggspec.compiler.backends.tensorrt.progress import Shares
from vggspec.compiler.bundling.engine import costs, default_profiles, write_engine_bundle
from vggspec.compiler.bundling.staging import WrittenBundle
from vggspec.compiler.lower import Lowered
from vggspec.compiler.precision import number_types, weight_types
from vggspec.compiler.rounded_weights import rounded
from vggspec.compiler.weights import WeightsFile, open_weights
from vggspec.runtime import machine
from vggspec.runtime.machine import Driver, Gpu, Machine

SPECS = (*COLUMNS, *FEW_GRAPHS)
OTHERS = tuple(name for name in GRAPHS if name not in FEW_GRAPHS)
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
#: Built in every precision: LRN, a sum, channels joined. Convs in groups are in `SMALL`.
EVERY = ("vgg-f", "resnet:ResNet-18", "googlenet")
ONE_OF_EACH_GENERATION = ("7.5", "8.9", "12.0")
LANDSCAPE = Profile((1, 32, 32), (2, 32, 43), (4, 32, 64))
PORTRAIT = Profile((1, 32, 32), (2, 43, 32), (4, 64, 32))
WITHOUT_GPU = Machine(platform="linux-x86_64")
WITH_GPU = replace(
    WITHOUT_GPU,
    driver=Driver(
        cuda="13.0", gpus=(Gpu(name="NVIDIA L4", capability="8.9", memory_bytes=24 << 30),)
    ),
)


class Ears(Watcher):
    """Remembers what a build says."""

    def __init__(self) -> None:
        self.shares: list[int] = []
        self.said: list[tuple[int, str]] = []

    def progress(self, now: Progress) -> None:
        assert (now.doing, now.total, now.unit) == ("building", 100, "%")
        self.shares.append(now.done)

    def log(self, severity: int, text: str) -> None:
        self.said.append((severity, text))


def rtx(*profiles: Profile, **more: Any) -> EngineOptions:
    return EngineOptions(flavour="tensorrt_rtx", profiles=profiles or (LANDSCAPE, PORTRAIT), **more)


def write(
    lowered: Lowered,
    weights: WeightsFile,
    out: Path,
    options: CompileOptions | None = None,
    engine: EngineOptions | None = None,
    watch: Watcher = SILENT,
) -> WrittenBundle:
    options = replace(options or CompileOptions(), engine=engine or rtx())
    return write_engine_bundle(lowered, weights, out, options, watch)


def small(folder: Path) -> tuple[Lowered, WeightsFile]:
    lowered = net(SMALL)
    return lowered, random_weights(lowered, folder / "w.safetensors")


def build_refused(code: str, words: str) -> Any:
    return refused(f"(?s){code}.*{words}")


@pytest.mark.parametrize(
    ("name", "by", "precisions"),
    [
        *(
            pytest.param(name, 8, PRECISIONS if name in EVERY else ("fp16",), id=name)
            for name in SPECS
        ),
        *(
            pytest.param(name, 8, ("fp32", "bf16"), id=f"others of {name}", marks=pytest.mark.slow)
            for name in SPECS
            if name not in EVERY
        ),
        pytest.param("D", 4, PRECISIONS, id="D at a quarter of its width"),
        pytest.param("vgg-f", 1, ("fp16",), id="vgg-f at its full width"),
        *(
            pytest.param(name, 1, PRECISIONS, id=f"wide {name}", marks=pytest.mark.slow)
            for name in (*COLUMNS, *GRAPHS, *MAPS)
        ),
        *(
            pytest.param(name, 8, PRECISIONS, id=name, marks=pytest.mark.slow)
            for name in (*OTHERS, *MAPS)
        ),
    ],
)
def test_every_spec_builds_in_a_precision(
    name: str, by: int, precisions: tuple[Precision, ...], tmp_path: Path
) -> None:
    """The size of the plan tells in which precision TensorRT stored the weights, of a wide net."""
    lowered = spec_of_ours(name) if by == 1 else narrowed(name, by)
    weights = any_weights(lowered, tmp_path / "w.safetensors")
    height, width = lowered.network.input.type.size
    profile = Profile((1, height, width), (2, height, width + 32), (4, height, 2 * width))
    network = prepare(lowered.network, CompileOptions())
    for precision in precisions:
        out = tmp_path / precision
        options = CompileOptions(precision=precision)
        manifest = write(lowered, weights, out, options, rtx(profile)).manifest
        bundle = open_bundle(out)
        assert bundle.manifest == manifest
        assert manifest.engine is not None
        assert manifest.engine.profiles == (profile,)
        assert (manifest.precision, manifest.model) == (precision, PLAN)
        types = weight_types(network, number_types(network, precision))
        stored = sum(BYTES[types[param.name]] * param.num_elements for param in network.params())
        size = bundle.model.stat().st_size
        of_layers = (4 << 20) + (16 << 10) * len(network.layers)
        assert stored * 0.99 < size < stored * 1.02 + of_layers
        assert layer_types(out)[first_conv(network)] == precision
        bundle.model.unlink()


def first_conv(network: Any) -> str:
    return str(next(layer.name for layer in network.layers if layer.op.keyword == "conv"))


def layer_types(bundle: Path) -> dict[str, str]:
    data = json.loads((bundle / LAYERS).read_text())
    assert data["from"] == "network"
    return {layer["name"]: layer["precision"] for layer in data["layers"]}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "form", [{"stride": 1, "pool": "ceil", "keep_map": True}, {"stride": 1, "layer": "conv2_1"}]
)
def test_finer_strides_and_layers(
    form: dict[str, Any], precision: Precision, tmp_path: Path
) -> None:
    """The parser, which refuses dilated pooling, takes it as slices and their largest."""
    lowered, weights = small(tmp_path)
    options = CompileOptions(precision=precision, **form)
    manifest = write(lowered, weights, tmp_path / "b", options).manifest
    assert (manifest.stride, manifest.window) == ((1, 1), (32, 32))
    network = prepare(lowered.network, options)
    types = number_types(network, precision)
    made = layer_types(tmp_path / "b")
    assert {name: made[name] for name in ("conv1_1", "pool1")} == {
        name: types[name] for name in ("conv1_1", "pool1")
    }
    assert open_bundle(tmp_path / "b").manifest == manifest


@pytest.mark.parametrize(
    "capability",
    [
        *(
            pytest.param(one, marks=[] if one in ONE_OF_EACH_GENERATION else pytest.mark.slow)
            for one in RTX_CAPABILITIES
        ),
        ",".join(RTX_CAPABILITIES),
    ],
)
def test_every_compute_capability(capability: str, tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    capabilities = tuple(capability.split(","))
    for precision in PRECISIONS:
        if precision == "bf16" and "7.5" in capabilities:
            with build_refused("VGG605", "no bf16 arithmetic"):
                check_options(rtx(capabilities=capabilities), WITHOUT_GPU, {"bf16"})
            continue
        written = write(
            lowered,
            weights,
            tmp_path / "b",
            CompileOptions(precision=precision),
            rtx(capabilities=capabilities),
        )
        engine = written.manifest.engine
        assert engine is not None
        assert engine.capabilities == capabilities
        assert not engine.is_open_ended
        assert engine.gpu is None


@pytest.mark.parametrize("capability", ["9.0", "7.0", "banana", ""])
def test_a_capability_that_cannot_be_named_is_refused(capability: str, tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    with build_refused("VGG605", r"7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1"):
        write(lowered, weights, tmp_path / "b", engine=rtx(capabilities=(capability,)))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options",
    [
        CompileOptions(contract="raw"),
        CompileOptions(keep_map=True, precision="fp16"),
        CompileOptions(average="posteriors", precision="bf16"),
        CompileOptions(precision="fp16", keep_fp32=("conv1_1", "fc3")),
        CompileOptions(contract="raw", keep_map=True, precision="bf16"),
    ],
    ids=str,
)
def test_every_form_of_the_graph_builds(options: CompileOptions, tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    manifest = write(lowered, weights, tmp_path / "b", options).manifest
    assert manifest.fp32_layers == options.keep_fp32
    types = layer_types(tmp_path / "b")
    for layer in options.keep_fp32:
        assert types[layer] == "fp32"
    assert types["conv1_2"] == options.precision


def test_crops_have_one_size(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    options = CompileOptions(form="crop", precision="fp16")
    fixed = Profile((1, 32, 32), (10, 32, 32), (10, 32, 32))
    assert write(lowered, weights, tmp_path / "b", options, rtx(fixed)).manifest.form == "crop"
    with build_refused("VGG610", "takes 32 x 32 pixels only"):
        write(lowered, weights, tmp_path / "b", options)


def test_a_profile_below_the_window_is_refused(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    too_small = Profile((1, 31, 32), (1, 32, 32), (1, 32, 32))
    with build_refused("VGG610", "31 x 32"):
        write(lowered, weights, tmp_path / "b", engine=rtx(too_small))


def test_the_same_command_gives_the_same_bytes(tmp_path: Path) -> None:
    """From process to process, with one thread; a second build in one process differs.

    TensorRT-RTX keeps to that nearly always: on a busy machine one build in some dozens came out
    otherwise. A third build must then side with one of the two.
    """
    _, weights = small(tmp_path)
    (tmp_path / "small.vgg").write_text(SMALL)
    command = ["compile", "small.vgg", "--weights", weights.path, "--trt", "--threads", "1"]
    command.append("--profile")
    built: list[Manifest] = []
    for name in ("a", "b", "c"):
        done = vggspec(*command, str(LANDSCAPE), "-o", name, cwd=tmp_path, fresh=True)
        assert done.returncode == 0, done.stderr
        manifest = open_bundle(tmp_path / name).manifest
        if manifest in built:
            return
        built.append(manifest)
    pytest.fail("three builds of the same engine, and no two are the same")


def test_tf32_is_off_unless_asked_for(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    plans = []
    for tf32 in (False, True):
        manifest = write(lowered, weights, tmp_path / "b", engine=rtx(tf32=tf32)).manifest
        assert manifest.engine is not None
        assert manifest.engine.tf32 is tf32
        plans.append((tmp_path / "b" / PLAN).read_bytes())
    assert plans[0] != plans[1]


def test_the_plan_carries_its_name_and_nothing_else_of_ours(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    manifest = write(lowered, weights, tmp_path / "b").manifest
    assert manifest.engine is not None
    name = json.loads(manifest.engine.name)
    assert (name["net"], name["precision"]) == ("small", "fp32")
    assert weights.data_sha256().startswith(name["weights"])
    plan = (tmp_path / "b" / PLAN).read_bytes()
    assert manifest.engine.name.encode() in plan
    assert not plan.startswith(b"{")
    assert len(manifest.engine.name) < 1024


def test_what_is_only_for_verifying_may_be_deleted(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    write(lowered, weights, tmp_path / "b")
    bundle = open_bundle(tmp_path / "b", deep=True)
    assert bundle.reference == tmp_path / "b" / REFERENCE
    for name in (REFERENCE, "1/model.safetensors", LAYERS):
        (tmp_path / "b" / name).unlink()
    assert open_bundle(tmp_path / "b", deep=True).reference is None
    (tmp_path / "b" / PLAN).write_bytes(b"x" * bundle.model.stat().st_size)
    with build_refused("VGG524", "SHA-256"):
        open_bundle(tmp_path / "b", deep=True)


# What is refused.


def parts(
    folder: Path, precision: Precision = "fp16"
) -> tuple[bytes, dict[str, Any], Any, dict[str, Precision]]:
    """What ``build`` takes: the model, its weights, the network and its number types."""
    lowered, weights = small(folder)
    network = prepare(lowered.network, CompileOptions())
    types = number_types(network, precision)
    model = emit(
        network, weights, mean=(0.0,) * 3, is_dynamic=True, types=types, weights_as="declared"
    )
    return model.SerializeToString(), rounded(weights, weight_types(network, types)), network, types


def build(folder: Path, model: bytes, arrays: Any, network: Any, types: Any) -> None:
    def unused() -> Path:
        raise AssertionError("this TensorRT takes weights from memory")

    options, plan = rtx(), folder / "plan"
    backend.build(
        model, arrays, network, types, options, options.profiles, "t", plan, unused, Ears()
    )


def test_another_precision_than_the_one_asked_for_is_an_error(tmp_path: Path) -> None:
    model, arrays, network, _ = parts(tmp_path, "fp32")
    with build_refused("VGG609", "layer `conv1_1` should be fp16, and TensorRT made it fp32"):
        build(tmp_path, model, arrays, network, number_types(network, "fp16"))
    model, arrays, network, _ = parts(tmp_path, "fp16")
    with build_refused("VGG609", "should be fp32, and TensorRT made it fp16"):
        build(tmp_path, model, arrays, network, number_types(network, "fp32"))
    assert not (tmp_path / "plan").exists()


def test_an_operator_that_the_parser_does_not_know_is_named(tmp_path: Path) -> None:
    model, arrays, network, types = parts(tmp_path)
    changed = model.replace(b"LRN", b"XYZ")
    assert changed != model
    with build_refused("VGG607", r"layer `norm2_1` \(XYZ\): it has no such operator"):
        build(tmp_path, changed, arrays, network, types)


def test_a_weight_that_is_missing_or_of_another_size_is_an_error(tmp_path: Path) -> None:
    model, arrays, network, types = parts(tmp_path)
    without = {name: array for name, array in arrays.items() if name != "conv1_2.weight"}
    with build_refused("VGG607", ""):
        build(tmp_path, model, without, network, types)
    short = {**arrays, "conv1_2.weight": arrays["conv1_2.weight"].reshape(-1)[:-1].copy()}
    with build_refused("VGG607", ""):
        build(tmp_path, model, short, network, types)
    unknown = {**arrays, "conv9_9.weight": np.zeros(1, np.float16)}
    with build_refused("VGG607", ""):
        build(tmp_path, model, unknown, network, types)


def test_no_graph_at_all_is_an_error(tmp_path: Path) -> None:
    _, arrays, network, types = parts(tmp_path)
    with build_refused("VGG607", ""):
        build(tmp_path, b"no graph", arrays, network, types)


def test_weights_that_have_changed_are_noticed(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    data = bytearray(weights.path.read_bytes())
    data[-1] ^= 1
    weights.path.write_bytes(data)
    with build_refused("VGG507", "another SHA-256"):
        write(lowered, open_weights(weights.path), tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


def test_a_disk_that_is_full_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def __init__(self, *_: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    lowered, weights = small(tmp_path)
    monkeypatch.setattr(backend, "open", FullDisk, raising=False)
    with build_refused("VGG511", "[Nn]o space left on device"):
        write(lowered, weights, tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


def test_a_build_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an exception in the thread that waits, as Ctrl-C raises one."""
    lowered, weights = small(tmp_path)
    original = backend.threading.Event.wait

    def wait(event: Any, timeout: float | None = None) -> bool:
        if timeout == backend.POLL:
            raise KeyboardInterrupt
        return original(event, timeout)

    monkeypatch.setattr(backend.threading.Event, "wait", wait)
    ears = Ears()
    with pytest.raises(KeyboardInterrupt):
        write(lowered, weights, tmp_path / "b", watch=ears)
    assert any("canceled by user" in text for _, text in ears.said), "it was built to the end"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]
    assert not any(thread.name == "trt-builder" for thread in backend.threading.enumerate())


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"refittable": True}, "VGG606", "--refittable"),
        ({"strip_weights": True}, "VGG606", "--strip-weights"),
        ({"hardware": "ampere_plus"}, "VGG605", "--hardware-compatible"),
        ({"version_compatible": True}, "VGG605", "--version-compatible"),
    ],
)
def test_rtx_says_before_the_build_what_it_cannot(
    more: dict[str, Any], code: str, words: str
) -> None:
    with build_refused(code, words):
        check_options(rtx(**more), WITHOUT_GPU, ())
    if code == "VGG606":
        assert check_options(rtx(**more), WITH_GPU, ()) == ()


def test_rtx_says_what_has_no_effect(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    foreign = tmp_path / "cache"
    foreign.write_bytes(b"a timing cache of another machine")
    written = write(
        lowered, weights, tmp_path / "b", engine=rtx(timing_cache=str(foreign), level=5)
    )
    assert len(written.notes) == 2
    assert foreign.read_bytes() == b"a timing cache of another machine"


def test_the_classic_flavour_wants_a_gpu() -> None:
    classic = replace(rtx(), flavour="tensorrt")
    with build_refused("VGG606", "tensorrt_rtx"):
        check_options(classic, WITHOUT_GPU, ())
    assert check_options(classic, WITH_GPU, ()) == ()
    with build_refused("VGG605", "--capability"):
        check_options(replace(classic, capabilities=("8.9",)), WITH_GPU, ())


def test_what_the_manifest_says_is_what_is_installed(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    manifest: Manifest = write(lowered, weights, tmp_path / "b").manifest
    engine = manifest.engine
    assert engine is not None
    found = machine.this_machine().tensorrt_rtx
    assert found is not None
    assert (engine.version, engine.cuda) == (found.version, found.cuda)
    assert manifest.tools["tensorrt_rtx"] == engine.version
    assert engine.is_open_ended
    assert engine.platform == machine.platform_name()
    assert (engine.refit, engine.is_stripped, engine.hardware) == ("none", False, "none")


# The classic builder's timing cache, on stand-ins for its config: it needs a GPU to be had.


class StandInConfig:
    """Takes caches that begin with its own device's mark, as TensorRT does."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.used: bytes | None = None

    def create_timing_cache(self, blob: bytes) -> bytes:
        return blob

    def set_timing_cache(self, timing_cache: bytes, *, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if timing_cache and not timing_cache.startswith(self.mark):
            return False
        self.used = timing_cache
        return True


@pytest.mark.parametrize(
    ("blob", "mode", "used", "note"),
    [
        (b"L4 times", "record", b"L4 times", None),
        (b"H200 times", "record", b"", "is of another GPU"),
        (b"H200 times", "replay", b"", "is of another GPU"),
        (None, "record", b"", None),
        (None, "replay", b"", "does not exist"),
    ],
)
def test_a_foreign_timing_cache_is_never_fatal(
    blob: bytes | None, mode: Any, used: bytes, note: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "cache"
    if blob is not None:
        path.write_bytes(blob)
    options = replace(rtx(), flavour="tensorrt", timing_cache=str(path), timing_cache_mode=mode)
    config = StandInConfig(b"L4")
    made = configuring.Config(config)
    configuring.load_timing_cache(made, options)
    assert config.used == used
    assert len(made.notes) == (note is not None)
    if note is not None:
        assert note in made.notes[0]


# Small parts.


def test_shapes_become_those_of_the_tensor() -> None:
    shape, channels_first, channels_last = (2, 256, 341), (-1, 3, -1, -1), (-1, -1, -1, 3)
    assert configuring.as_tensor(shape, channels_first, is_raw=False) == (2, 3, 256, 341)
    assert configuring.as_tensor(shape, channels_last, is_raw=True) == (2, 256, 341, 3)
    # A window of three rows, or columns, is not taken for the channels.
    assert configuring.as_tensor((2, 3, 8), (-1, 3, 8, 3), is_raw=True) == (2, 3, 8, 3)
    assert configuring.as_tensor((2, 8, 3), (-1, 3, 8, 3), is_raw=False) == (2, 3, 8, 3)


@pytest.mark.parametrize("contract", ["float", "raw"])
def test_profiles_reach_tensorrt_as_they_are_written(
    contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows before columns: what is handed to the builder's own profile object."""
    taken: list[Any] = []
    original = configuring.add_profile

    def add(trt: Any, builder: Any, config: Any, tensors: Any, profile: Profile) -> Any:
        shapes = original(trt, builder, config, tensors, profile)
        (tensor,) = tensors
        taken.append([tuple(shape) for shape in shapes.get_shape(tensor.name)])
        return shapes

    monkeypatch.setattr(configuring, "add_profile", add)
    lowered, weights = small(tmp_path)
    write(lowered, weights, tmp_path / "b", CompileOptions(contract=contract), rtx(LANDSCAPE))
    if contract == "raw":
        assert taken == [[(1, 32, 32, 3), (2, 32, 43, 3), (4, 32, 64, 3)]]
    else:
        assert taken == [[(1, 3, 32, 32), (2, 3, 32, 43), (4, 3, 32, 64)]]


@pytest.mark.parametrize(("precision", "contract"), [("fp32", "float"), ("fp16", "raw")])
def test_an_engine_that_compares_pictures(
    precision: Precision, contract: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both inputs have every profile; the layers, which see twice the images, have their types."""
    taken: list[Any] = []
    original = configuring.add_profile

    def add(trt: Any, builder: Any, config: Any, tensors: Any, profile: Profile) -> Any:
        shapes = original(trt, builder, config, tensors, profile)
        taken.append({t.name: [tuple(one) for one in shapes.get_shape(t.name)] for t in tensors})
        return shapes

    monkeypatch.setattr(configuring, "add_profile", add)
    lowered = net(
        "net t\ninput 32x32 RGB\nconv3-4 maxpool conv3-6 conv3-6\noutputs conv1_1 conv2_1 conv2_2"
    )
    weights = random_weights(lowered, tmp_path / "w.safetensors")
    options = CompileOptions(distance=True, precision=precision, contract=contract)
    plans: list[Any] = []
    engine = rtx(LANDSCAPE)
    written = write_engine_bundle(
        lowered, weights, tmp_path / "b", replace(options, engine=engine), planned=plans.append
    )
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest == written.manifest
    assert manifest.inputs == ("first", "second")
    assert manifest.engine is not None
    assert manifest.engine.profiles == (LANDSCAPE,)
    axes = [(n, 3, h, w) for n, h, w in ((1, 32, 32), (2, 32, 43), (4, 32, 64))]
    if contract == "raw":
        axes = [(n, h, w, 3) for n, _, h, w in axes]
    assert taken == [{"first": axes, "second": axes}]
    layers = json.loads((tmp_path / "b" / "layers.json").read_text())["layers"]
    types = {layer["name"]: layer["precision"] for layer in layers}
    assert {types[name] for name in ("conv1_1", "conv2_1")} == {precision}
    alone = costs(lowered.network, CompileOptions(), (LANDSCAPE,))
    assert plans[0][0].macs == 2 * alone[0].macs


def test_an_engine_that_compares_pictures_has_the_profiles_of_the_scales(tmp_path: Path) -> None:
    lowered = net(
        "net t\ninput 32x32 RGB\nconv3-4 conv3-6\noutputs conv1_1 conv1_2\n"
        "test:\n  crops 5x5\n  scale 40"
    )
    found = default_profiles(lowered, CompileOptions(distance=True, engine=EngineOptions()))
    assert found == (
        Profile((1, 40, 40), (1, 40, 53), (8, 40, 80)),
        Profile((1, 40, 40), (1, 53, 40), (8, 80, 40)),
    )


def test_progress_grows_to_one_and_never_back(tmp_path: Path) -> None:
    lowered, weights = small(tmp_path)
    ears = Ears()
    write(lowered, weights, tmp_path / "b", watch=ears)
    assert ears.shares == sorted(ears.shares)
    assert len(ears.shares) > 20
    assert 50 < ears.shares[-1] <= 100


def test_a_watcher_that_raises_ends_the_build(tmp_path: Path) -> None:
    class Broken(Watcher):
        def progress(self, now: Progress) -> None:
            raise RuntimeError("no more")

    lowered, weights = small(tmp_path)
    with pytest.raises(RuntimeError, match="no more"):
        write(lowered, weights, tmp_path / "b", watch=Broken())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.safetensors"]


def test_nested_phases_are_parts_of_a_step() -> None:
    shares = Shares()
    shares.start("build", None, 4)
    shares.step("build", 0)
    assert shares.done == 0.25
    shares.start("optimise", "build", 2)
    shares.step("optimise", 0)
    assert shares.done == 0.375
    shares.finish("optimise")
    shares.step("build", 1)
    assert shares.done == 0.5
    shares.start("build again", None, 10)  # another root does not take it back
    assert shares.done == 0.5
    shares.step("unknown", 5)
    shares.finish("build")
    assert shares.done == 0.5


INSPECTED = {
    "10": {
        "Layers": [
            {
                "Name": "conv1_1 + relu1_1",
                "LayerType": "CaskConvolution",
                "Inputs": [
                    {
                        "Name": "image_fp16",
                        "Dimensions": [2, 3, 256, 341],
                        "Format/Datatype": "Channel major FP16 format where channel % 4 == 0",
                    }
                ],
                "Outputs": [
                    {
                        "Name": "relu1_1",
                        "Dimensions": [2, 64, 256, 341],
                        "Format/Datatype": "Half NHWC",
                    }
                ],
            }
        ],
        "Bindings": ["image", "posteriors"],
    },
    "names only": {"Layers": ["conv1_1 + relu1_1"], "Bindings": ["image"]},
}


def test_what_an_inspector_says_is_read() -> None:
    text = json.dumps(INSPECTED["10"])
    (layer,) = inspected_layers(text)
    assert (layer.name, layer.op, layer.output) == (
        "conv1_1 + relu1_1",
        "CaskConvolution",
        (2, 64, 256, 341),
    )
    assert any(word in inspected_types(text) for word in TYPES["fp16"])
    assert not any(word in inspected_types(text) for word in TYPES["bf16"])
    for other in (json.dumps(INSPECTED["names only"]), "{}", "[]", "not JSON", ""):
        assert inspected_layers(other) == ()
        assert inspected_types(other) == ""


# The engine that was built, on a stand-in for it: loading one needs a GPU.


class StandInEngine:
    """What ``check_engine`` asks of an engine; by default it is as was asked for."""

    def __init__(self, **other: Any) -> None:
        self.profiles = [[(1, 3, 32, 32), (2, 3, 32, 43), (4, 3, 32, 64)]]
        self.format = "LINEAR"
        self.refittable = False
        self.text = json.dumps(INSPECTED["10"])
        vars(self).update(other)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 3, -1, -1)

    def get_tensor_dtype(self, name: str) -> int:
        return 0

    def get_tensor_profile_shape(self, name: str, index: int) -> Any:
        return self.profiles[index]

    def get_tensor_format(self, name: str) -> str:
        return self.format

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda _: self.text)


def checked(engine: StandInEngine | None, precisions: set[Precision], **more: Any) -> Checked:
    """``check_engine`` with a stand-in of TensorRT that loads ``engine``."""

    class Logger:
        pass

    class StandInTrt:
        Runtime = staticmethod(lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine))
        ILogger = Logger
        DataType = SimpleNamespace(UINT8=5)
        TensorFormat = SimpleNamespace(LINEAR="LINEAR")
        LayerInformationFormat = SimpleNamespace(JSON=1)

    network = prepare(net(SMALL).network, CompileOptions())
    options = replace(rtx(LANDSCAPE), **more)
    ports = Ports.of(network)
    return check_engine(StandInTrt(), b"plan", ports, options, options.profiles, precisions)


def test_an_engine_as_asked_for_tells_its_layers() -> None:
    found = checked(StandInEngine(), {"fp16", "fp32"})
    assert [layer.name for layer in found.layers] == ["conv1_1 + relu1_1"]
    assert found.notes == ()
    assert checked(StandInEngine(text="{}"), {"fp16"}) == Checked((), ())


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (StandInEngine(profiles=[]), "the number of profiles should be 1"),
        (StandInEngine(profiles=[[(1, 3, 32, 32)] * 3]), "profile 0 should be"),
        (StandInEngine(format="CHW32"), "the format of `image` should be linear"),
        (StandInEngine(refittable=True), "whether weights can be replaced"),
    ],
)
def test_an_engine_that_is_another_is_an_error(engine: StandInEngine, words: str) -> None:
    with build_refused("VGG609", words):
        checked(engine, {"fp16", "fp32"})


def test_half_precision_that_nobody_asked_for_is_an_error() -> None:
    with build_refused("VGG609", "layers in fp16 should be none"):
        checked(StandInEngine(), {"fp32"})


def test_an_inspector_that_names_no_kernel_in_it_is_a_note() -> None:
    found = checked(StandInEngine(), {"fp16", "bf16"})
    assert found.notes == ("the engine's inspector names no kernel in bf16",)


def test_an_engine_that_does_not_load_is_an_error() -> None:
    with build_refused("VGG608", "does not load where it was built"):
        checked(None, {"fp16"})


def test_a_gpu_that_rtx_does_not_support_is_refused_in_plain_words() -> None:
    h200 = Gpu(name="NVIDIA H200", capability="9.0", memory_bytes=140 << 30)
    here = replace(WITHOUT_GPU, driver=Driver(cuda="13.0", gpus=(h200,)))
    with build_refused(
        "VGG608",
        r"TensorRT-RTX does not support this GPU, NVIDIA H200 \(9.0\): it supports compute "
        "capability 7.5, 8.0, 8.6, 8.9, 12.0 and later",
    ) as error:
        check_options(rtx(), here, {"fp32"})
    told = error.value.reports[0].what.help() or ""
    assert "--trt-flavor tensorrt`" in told
    assert "`--capability 8.9`" in told
    # For another machine it is built, and not loaded here.
    for_another = rtx(capabilities=("8.9",))
    assert check_options(for_another, here, {"fp32"}) == ()
    assert not serves(for_another, h200)
    for capability in ("8.9", "12.0", "12.1", "13.0"):
        assert serves(rtx(), replace(h200, capability=capability))
    assert not serves(rtx(), replace(h200, capability="7.5"))
    assert serves(rtx(capabilities=("7.5",)), replace(h200, capability="7.5"))


def test_an_engine_for_another_gpu_is_not_loaded_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    h200 = Gpu(name="NVIDIA H200", capability="9.0", memory_bytes=140 << 30)
    here = replace(WITHOUT_GPU, driver=Driver(cuda="13.0", gpus=(h200,)))
    monkeypatch.setattr(backend, "this_machine", lambda: here)
    lowered, weights = small(tmp_path)
    written = write(lowered, weights, tmp_path / "b", engine=rtx(LANDSCAPE, capabilities=("8.9",)))
    (note,) = written.notes
    assert "was not loaded and checked here: it is for compute capability 8.9" in note
    assert "NVIDIA H200 (9.0)" in note
