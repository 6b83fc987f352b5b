"""Which bundles run on which machines: one row a case."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines import CLASSIC, RTX, stand_in, with_engine, with_options
from tests.nets import SMALL, net, random_weights
from vggspec.bundle.engine import Engine
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.options import CompileOptions
from vggspec.bundle.profile import Profile
from vggspec.compiler.bundling.graph import write_bundle
from vggspec.runtime.compatibility import (
    Finding,
    compare,
    compare_bundle,
    compile_command,
    fits,
    rtx_supports,
)
from vggspec.runtime.machine import Driver, Gpu, Library, Machine

GB = 10**9
L4 = Gpu(name="NVIDIA L4", capability="8.9", memory_bytes=24 * GB)
RTX4090 = Gpu(name="NVIDIA GeForce RTX 4090", capability="8.9", memory_bytes=24 * GB)
T4 = Gpu(name="Tesla T4", capability="7.5", memory_bytes=16 * GB)
A100 = Gpu(name="NVIDIA A100", capability="8.0", memory_bytes=80 * GB)
H200 = Gpu(name="NVIDIA H200", capability="9.0", memory_bytes=141 * GB)
B200 = Gpu(name="NVIDIA B200", capability="10.0", memory_bytes=192 * GB)
RTX5090 = Gpu(name="NVIDIA GeForce RTX 5090", capability="12.0", memory_bytes=32 * GB)
SPARK = Gpu(name="NVIDIA GB10", capability="12.1", memory_bytes=128 * GB)

LINUX = Machine(
    platform="linux-x86_64",
    driver=Driver(cuda="13.0", gpus=(L4,)),
    tensorrt=Library(version="11.4.0.106", cuda="13"),
    tensorrt_rtx=Library(version="1.7.1.116", cuda="13"),
    has_pycuda=True,
    onnxruntime=Library(version="1.31.1"),
    has_cuda_provider=True,
)
BARE = Machine(platform="linux-x86_64")


def with_gpus(*gpus: Gpu, **changes: Any) -> Machine:
    return replace(LINUX, driver=Driver(cuda="13.0", gpus=gpus), **changes)


def rtx(**changes: Any) -> Engine:
    return replace(RTX, **changes)


def classic(**changes: Any) -> Engine:
    return replace(CLASSIC, **changes)


def of(findings: tuple[Finding, ...], subject: str) -> Finding:
    return next(finding for finding in findings if finding.subject == subject)


WINDOWS = replace(LINUX, platform="windows-x86_64")
ARM = replace(LINUX, platform="linux-aarch64")


@pytest.mark.parametrize(
    ("engine", "machine", "subject", "level", "words"),
    [
        # Platforms.
        (rtx(), LINUX, "platform", "ok", "the platform it was built on"),
        (rtx(), WINDOWS, "platform", "ok", "runs on Linux and Windows"),
        (rtx(), ARM, "platform", "unknown", "of one architecture"),
        (classic(), LINUX, "platform", "ok", "linux-x86_64"),
        (classic(), WINDOWS, "platform", "problem", "runs on the platform it was built on"),
        (classic(), ARM, "platform", "problem", "runs on the platform it was built on"),
        # Versions.
        (rtx(), LINUX, "version", "ok", "TensorRT-RTX 1.7.1.116, the one that built it"),
        (
            rtx(version="1.7.1.115"),
            LINUX,
            "version",
            "problem",
            "1.7.1.116 is installed, and a plan",
        ),
        (
            rtx(version="1.6.0.9"),
            LINUX,
            "version",
            "problem",
            'pip install "tensorrt-rtx-cu13==1.6.0.9"',
        ),
        (
            rtx(is_version_compatible=True, version="1.6.0.9"),
            LINUX,
            "version",
            "problem",
            "only on the release",
        ),
        (rtx(), BARE, "version", "problem", "not installed: pip install"),
        (
            rtx(),
            replace(LINUX, tensorrt_rtx=None),
            "version",
            "problem",
            "(TensorRT 11.4.0.106 cannot load it)",
        ),
        (classic(), LINUX, "version", "ok", "the one that built it"),
        (
            classic(version="11.3.0.1"),
            LINUX,
            "version",
            "problem",
            "the plan is not version-compatible",
        ),
        (
            classic(version="11.3.0.1", is_version_compatible=True),
            LINUX,
            "version",
            "ok",
            "later, and the plan is version-compatible",
        ),
        (
            classic(version="10.3.0.26", is_version_compatible=True),
            LINUX,
            "version",
            "ok",
            "11.4.0.106 is installed: later",
        ),
        (
            classic(version="11.5.0.1", is_version_compatible=True),
            LINUX,
            "version",
            "problem",
            "does not run on earlier versions",
        ),
        (
            classic(version="8.6.1", is_version_compatible=True),
            LINUX,
            "version",
            "problem",
            "plans of major version 8 are not known to run on 11",
        ),
        (
            classic(version="nightly", is_version_compatible=True),
            LINUX,
            "version",
            "unknown",
            "which one is later is unknown",
        ),
        # The driver.
        (rtx(), LINUX, "driver", "ok", "supports CUDA up to 13.0"),
        (rtx(), BARE, "driver", "problem", "has no NVIDIA driver"),
        (
            rtx(),
            replace(LINUX, driver=Driver(cuda="12.4", gpus=(L4,))),
            "driver",
            "problem",
            "up to 12.4; the library was built with CUDA 13: install a newer driver",
        ),
        (
            rtx(),
            replace(LINUX, driver=Driver(cuda="14.2", gpus=(L4,))),
            "driver",
            "ok",
            "up to 14.2",
        ),
        (
            rtx(),
            replace(LINUX, driver=Driver(cuda="13.0", trouble="cuInit says error 803")),
            "driver",
            "problem",
            "it reports no GPU: cuInit says error 803",
        ),
        (
            rtx(),
            replace(LINUX, tensorrt_rtx=Library(version="1.7.1.116")),
            "driver",
            "unknown",
            "the library's CUDA is unknown",
        ),
        (rtx(cuda="12"), LINUX, "CUDA", "unknown", "untested"),
        # GPUs of a portable plan.
        (rtx(), with_gpus(L4), "GPU", "ok", "NVIDIA L4 (8.9): it was built for"),
        (rtx(), with_gpus(A100), "GPU", "ok", "8.0, 8.6, 8.9, 12.0 and later"),
        (rtx(), with_gpus(RTX5090), "GPU", "ok", "5090 (12.0)"),
        (rtx(), with_gpus(SPARK), "GPU", "ok", "this is a later one"),
        (
            rtx(),
            with_gpus(H200),
            "GPU",
            "problem",
            "TensorRT-RTX does not run on compute capability 9.0; build it with `--trt-flavor",
        ),
        (rtx(), with_gpus(B200), "GPU", "problem", "does not run on compute capability 10.0"),
        (
            rtx(capabilities=("8.0", "12.0")),
            with_gpus(L4),
            "GPU",
            "problem",
            "8.9 is not among them",
        ),
        (rtx(), with_gpus(T4), "GPU", "problem", "7.5 is not among them"),
        (rtx(), with_gpus(), "GPU", "problem", "this machine has no GPU"),
        (
            rtx(capabilities=("8.9",), is_open_ended=False),
            with_gpus(L4),
            "GPU",
            "ok",
            "capability 8.9",
        ),
        (
            rtx(capabilities=("8.9",), is_open_ended=False),
            with_gpus(RTX5090),
            "GPU",
            "problem",
            "12.0 is not among them",
        ),
        (
            rtx(capabilities=("8.9",), is_open_ended=False),
            with_gpus(H200),
            "GPU",
            "problem",
            "does not run on compute capability 9.0",
        ),
        (
            rtx(),
            with_gpus(T4, L4),
            "GPU",
            "problem",
            "it runs on GPU 1: set CUDA_VISIBLE_DEVICES=1",
        ),
        (rtx(), with_gpus(L4, T4), "GPU", "ok", "NVIDIA L4"),
        # GPUs of a classic plan.
        (classic(), with_gpus(L4), "GPU", "ok", "the model it was built on"),
        (classic(), with_gpus(RTX4090), "GPU", "unknown", "another model of the same compute"),
        (classic(), with_gpus(H200), "GPU", "problem", "runs on one compute capability"),
        (classic(hardware="ampere_plus"), with_gpus(H200), "GPU", "ok", "for Ampere and later"),
        (classic(hardware="ampere_plus"), with_gpus(A100), "GPU", "ok", "for Ampere and later"),
        (classic(hardware="ampere_plus"), with_gpus(T4), "GPU", "problem", "this one is earlier"),
        (
            classic(hardware="same_compute_capability"),
            with_gpus(RTX4090),
            "GPU",
            "ok",
            "for every GPU of this compute capability",
        ),
        (
            classic(hardware="same_compute_capability"),
            with_gpus(A100),
            "GPU",
            "problem",
            "runs on one compute capability",
        ),
        (classic(), BARE, "GPU", "problem", "it runs on NVIDIA L4; this machine has no GPU"),
        # The rest.
        (rtx(), LINUX, "pycuda", "ok", "installed"),
        (
            rtx(),
            replace(LINUX, has_pycuda=False),
            "pycuda",
            "problem",
            'pip install "vggspec[cuda]"',
        ),
        (rtx(is_stripped=True, refit="identical"), LINUX, "weights", "problem", "stripped"),
    ],
)
def test_a_requirement(
    engine: Engine, machine: Machine, subject: str, level: str, words: str
) -> None:
    found = of(compare(engine, machine), subject)
    assert found.level == level, found
    assert words in found.text


@pytest.mark.parametrize(("engine", "gpu"), [(RTX, L4), (CLASSIC, L4), (RTX, SPARK)])
def test_what_fits_fits_in_all(engine: Engine, gpu: Gpu) -> None:
    found = compare(engine, with_gpus(gpu))
    assert fits(found)
    subjects = [finding.subject for finding in found]
    assert subjects == ["platform", "version", "driver", "GPU", "pycuda"]


def test_a_machine_with_nothing_lacks_all_but_the_platform() -> None:
    levels = {finding.subject: finding.level for finding in compare(RTX, BARE)}
    assert levels.pop("platform") == "ok"
    assert set(levels.values()) == {"problem"}


# Graphs for ONNX Runtime.


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("graph")
    lowered = net(SMALL)
    return write_bundle(
        lowered, random_weights(lowered, folder / "w"), folder / "small", CompileOptions()
    ).manifest


@pytest.mark.parametrize(
    ("changes", "machine", "subject", "level", "words"),
    [
        ({}, LINUX, "version", "ok", "ONNX Runtime 1.31.1 supports opset 18"),
        (
            {},
            replace(LINUX, onnxruntime=Library(version="1.13.1")),
            "version",
            "problem",
            "opset 18 requires 1.14 or later",
        ),
        ({"tools": {}}, LINUX, "version", "unknown", "does not name"),
        ({"tools": {"opset": "99"}}, LINUX, "version", "unknown", "opset 99"),
        ({}, BARE, "version", "problem", "not installed"),
        ({}, LINUX, "device", "ok", "on the CPU and on NVIDIA L4 (8.9)"),
        (
            {},
            replace(LINUX, has_cuda_provider=False),
            "device",
            "ok",
            "pip install onnxruntime-gpu",
        ),
        ({}, with_gpus(), "device", "ok", "has no GPU"),
        (
            {},
            replace(LINUX, driver=Driver(cuda="13.0", trouble="cuInit says error 803")),
            "device",
            "ok",
            "(cuInit says error 803)",
        ),
        ({"precision": "fp16"}, with_gpus(), "precision", "ok", "no faster"),
        ({"precision": "bf16"}, LINUX, "precision", "ok", "in fp32 here, as this processor has no"),
        (
            {"precision": "bf16"},
            replace(LINUX, has_bf16=True),
            "precision",
            "ok",
            "in fp32 here, as OpenVINO is missing",
        ),
        (
            {"precision": "bf16"},
            replace(LINUX, has_bf16=True, openvino=Library(version="2026.4.1")),
            "precision",
            "ok",
            "OpenVINO computes it in bf16",
        ),
        ({}, LINUX, "OpenVINO", "ok", 'pip install "vggspec[openvino]"'),
    ],
)
def test_a_requirement_of_a_graph(
    graph: Manifest,
    changes: dict[str, Any],
    machine: Machine,
    subject: str,
    level: str,
    words: str,
) -> None:
    change = with_options if "precision" in changes else replace
    changed = change(graph, **changes)
    found = of(compare_bundle(changed, machine), subject)
    assert found.level == level, found
    assert words in found.text


def test_bf16_requires_ampere(graph: Manifest) -> None:
    half = with_options(graph, precision="bf16")
    bundle = replace(half, engine=rtx(capabilities=("7.5",)))
    assert of(compare_bundle(bundle, with_gpus(T4)), "precision").level == "problem"
    assert fits(compare_bundle(replace(half, engine=RTX), LINUX))


# Rebuilding.


@pytest.fixture
def engine_bundle(tmp_path: Path) -> Manifest:
    return stand_in(tmp_path / "small")


def options(manifest: Manifest, machine: Machine | None = None) -> list[str]:
    spec, line = compile_command(manifest, bundle="out/small", machine=machine)
    assert spec == "vggspec inspect out/small --spec > small.vgg"
    words = shlex.split(line)
    assert words[:2] == ["vggspec", "compile"]
    assert words[-4:] == ["--weights", "out/small/1/model.safetensors", "-o", "out/small-rebuilt"]
    return words[2:-4]


def test_the_command_that_rebuilds_an_engine(engine_bundle: Manifest) -> None:
    assert options(engine_bundle) == [
        *("small.vgg", "--trt", "--trt-flavor", "tensorrt_rtx"),
        *("--map", "--precision", "fp16", "--keep-fp32", "prob"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": 5}, ["--opt-level", "5"]),
        ({"tf32": True}, ["--tf32"]),
        ({"flavour": "tensorrt"}, ["--trt-flavor", "tensorrt"]),
        ({"is_version_compatible": True}, ["--version-compatible"]),
        ({"hardware": "ampere_plus"}, ["--hardware-compatible", "ampere_plus"]),
        ({"refit": "all"}, ["--refittable"]),
        ({"refit": "identical", "is_stripped": True}, ["--strip-weights"]),
        (
            {"capabilities": ("8.6", "8.9"), "is_open_ended": False},
            ["--capability", "8.6", "--capability", "8.9"],
        ),
        (
            {"profiles": (Profile((1, 40, 40), (1, 48, 56), (2, 64, 64)),)},
            ["--profile", "1x40x40,1x48x56,2x64x64"],
        ),
    ],
)
def test_what_is_not_usual_is_said(
    engine_bundle: Manifest, changes: dict[str, Any], said: list[str]
) -> None:
    found = options(with_engine(engine_bundle, **changes))
    at = found.index(said[0])
    assert found[at : at + len(said)] == said


def test_profiles_of_the_protocol_are_not_written_out(engine_bundle: Manifest) -> None:
    built = engine_bundle.options.engine
    assert built is not None
    found = options(with_options(engine_bundle, engine=replace(built, max_batch=3)))
    assert found[found.index("--max-batch") + 1] == "3"
    assert "--profile" not in found


def test_the_gpu_that_is_here_is_built_for_too(engine_bundle: Manifest) -> None:
    bundle = with_engine(engine_bundle, capabilities=("8.9",), is_open_ended=False)
    assert options(bundle, with_gpus(RTX5090)).count("--capability") == 2
    assert options(bundle, with_gpus(L4)).count("--capability") == 1
    assert options(bundle, with_gpus(SPARK)).count("--capability") == 2


@pytest.mark.parametrize("gpu", [H200, B200])
def test_a_gpu_without_tensorrt_rtx_is_built_for_by_the_classic_one(
    engine_bundle: Manifest, gpu: Gpu
) -> None:
    bundle = with_engine(engine_bundle, capabilities=("8.9",), is_open_ended=False)
    found = options(bundle, with_gpus(gpu))
    assert found[found.index("--trt-flavor") + 1] == "tensorrt"
    assert "--capability" not in found


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        *(("7.0", False), ("7.5", True), ("8.0", True), ("8.6", True), ("8.7", False)),
        *(("8.9", True), ("9.0", False), ("10.0", False), ("10.3", False), ("11.0", False)),
        *(("12.0", True), ("12.1", True), ("13.0", True)),
    ],
)
def test_where_tensorrt_rtx_runs(capability: str, *, runs: bool) -> None:
    assert rtx_supports(Gpu(name="a GPU", capability=capability, memory_bytes=GB)) == runs


def test_a_net_of_several_is_named(engine_bundle: Manifest) -> None:
    for text in ("net other\nconv3-4\n\nnet small\nconv3-8\n", "| A | small |\n|---|---|\n"):
        assert options(replace(engine_bundle, spec_text=text))[0] == "small.vgg:small"


@pytest.mark.parametrize("engine", [RTX, replace(CLASSIC, level=5, is_version_compatible=True)])
def test_compile_knows_every_option(engine: Engine, tmp_path: Path) -> None:
    from vggspec.cli.compile import command

    manifest = stand_in(tmp_path / "small", replace(engine, refit="all", tf32=True))
    bound = with_engine(
        manifest,
        refit="all",
        tf32=True,
        hardware="ampere_plus",
        capabilities=("8.9",),
        is_open_ended=False,
        profiles=(Profile((1, 40, 40), (1, 48, 56), (2, 64, 64)),),
    )
    for each in (manifest, with_options(bound, average="posteriors")):
        _, line = compile_command(each, bundle="small")
        context = command.make_context("compile", shlex.split(line)[2:])
        assert context.params["specs"] == ("small.vgg",)
        assert context.params["precision"] == "fp16"


def test_the_command_that_rebuilds_a_graph(graph: Manifest) -> None:
    changed = with_options(graph, form="crop", average="posteriors")
    assert options(changed) == ["small.vgg", "--crop", "--average", "posteriors"]


def test_a_bundle_without_its_weights_leaves_them_to_be_found(graph: Manifest) -> None:
    alone = replace(graph, files=graph.files[:1])
    _, line = compile_command(alone, bundle="small/")
    assert line == "vggspec compile small.vgg -o small-rebuilt"
