"""The benchmark on a GPU, as far as it can be known without one: what it says of its figures, what
it does where something fails, and that the plain driver drives.
"""

import importlib.util
import math
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import engine as bench
from tests.conftest import ROOT
from tests.nets import session
from tests.runtime.bundles import Made
from tests.runtime.test_compatibility import LINUX
from tests.test_embedding import PROFILES, FakeContext, FakeCuda, with_plan
from vggspec.base.catalogue.artefacts import RunFailed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import MODEL
from vggspec.bundle.profile import Profile
from vggspec.runtime.machine import Driver, Gpu

HERE = replace(
    LINUX,
    driver=Driver(
        cuda="13.0", gpus=(Gpu(name="NVIDIA H200", capability="9.0", memory_bytes=1 << 37),)
    ),
    has_pycuda=True,
)
MS = 1e-3


def cell(shape: tuple[int, int, int] = (2, 256, 341), **ms: list[float]) -> bench.Cell:
    """A cell of two rounds; ``ms`` by the names of the ways, written as Python's."""
    names = {
        "ours": bench.OURS,
        "no_graph": bench.NO_GRAPH,
        "stream": bench.STREAM,
        "plain": bench.PLAIN,
        "plain_graph": bench.PLAIN_GRAPH,
        "torch": bench.TORCH,
    }
    seconds = {names[name]: [n * MS for n in values] for name, values in ms.items()}
    return bench.Cell(shape=shape, seconds=seconds, flops=2e9)


FAST = cell(
    ours=[2.0, 4.0, 2.0],
    no_graph=[3.0, 5.0, 3.0],
    stream=[1.0, 1.0, 1.0],
    plain=[4.0, 4.0, 4.0],
    plain_graph=[2.0, 4.0, 1.0],
)
SLOW = cell((8, 256, 341), ours=[4.2], no_graph=[4.2], stream=[4.0], plain=[4.0], plain_graph=[5.0])


# Figures.


@given(st.lists(st.floats(0, 1e3), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = bench.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= math.ceil(share * len(values))
    assert sum(value < found for value in values) < math.ceil(share * len(values))


def test_p99_of_a_hundred_leaves_one_out() -> None:
    assert bench.percentile([float(n) for n in range(100)], 0.99) == 98


@pytest.mark.parametrize(
    ("round_seconds", "budget", "rounds"),
    [(1, 100, 100), (1, 1, 30), (0, 9, 1000), (0.01, 99, 1000)],
)
def test_rounds_keep_to_the_budget(round_seconds: float, budget: float, rounds: int) -> None:
    assert bench.num_rounds(round_seconds, budget) == rounds


def test_the_peer_is_the_faster_plain_driver() -> None:
    assert FAST.best_plain == bench.PLAIN_GRAPH
    assert SLOW.best_plain == bench.PLAIN


def test_ratios_are_taken_pair_by_pair() -> None:
    assert FAST.to_plain == 1  # of 1, 1 and 2
    assert FAST.graphs_gain == 1.5  # of 1.5, 1.25 and 1.5


def test_the_claim_is_of_the_worst_shape() -> None:
    (claim,) = bench.claims("TensorRT, fp16", [FAST, SLOW])
    assert claim.value == pytest.approx(1.05)
    assert not claim.holds
    assert "8 × 256 × 341, 4.200 ms and 4.000 ms (plain)" in str(claim)
    (claim,) = bench.claims("TensorRT, fp16", [FAST])
    assert claim.holds
    assert bench.claims("TensorRT, fp16", []) == []


@pytest.mark.parametrize(
    ("gpu", "fp32", "half"),
    [
        ("NVIDIA H200", 67, 989.5),
        ("NVIDIA H200 NVL", 60, 835.5),
        ("NVIDIA H100 80GB HBM3", 67, 989.5),
        ("NVIDIA H100 PCIe", 51, 756),
        ("NVIDIA A100-SXM4-80GB", 19.5, 312),
        ("NVIDIA L4", 30.3, 121),
        ("NVIDIA L40S", 91.6, 362),
    ],
)
def test_peaks_are_found_by_name(gpu: str, fp32: float, half: float) -> None:
    assert bench.peaks_of(gpu, {}) == {"fp32": fp32, "fp16": half, "bf16": half}


def test_a_given_peak_goes_before_the_table_and_none_is_guessed() -> None:
    assert bench.peaks_of("NVIDIA L4", {"fp16": 1.0})["fp16"] == 1
    assert bench.peaks_of("NVIDIA L40", {}) == {}
    assert bench.parse_peaks("fp16=989.5,fp32=67") == {"fp16": 989.5, "fp32": 67}


@pytest.mark.parametrize("text", ["", "fp16", "int8=3", "fp16=", "fp16=-1", "fp16=1,", "fp16=nan"])
def test_a_peak_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        bench.main(["--peak", text])
    assert error.value.code == 2
    assert "is not such as fp16=989" in capsys.readouterr().err


def test_flops_are_those_of_the_paper_s_net() -> None:
    dense = bench.flops_of((1, 224, 224))
    assert dense == 2 * 15_470_264_320  # Table 1, column D: convolutions and FC layers
    assert bench.flops_of((8, 224, 224)) == 8 * dense
    assert bench.flops_of((1, 448, 448)) > 4 * dense


def test_sizes_are_four_to_three() -> None:
    assert [bench.size_of(q) for q in (256, 384, 512)] == [(256, 341), (384, 512), (512, 683)]


# Tables.


def rows(table: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_latency_has_no_stream_and_a_dash_for_what_is_missing() -> None:
    other = replace(SLOW, seconds={**SLOW.seconds, bench.TORCH: [9 * MS]})
    header, line, first, second = rows(bench.latency_table([FAST, other]))
    ways = [bench.OURS, bench.NO_GRAPH, bench.PLAIN, bench.PLAIN_GRAPH, bench.TORCH]
    assert header == ["median / p99, ms", *ways, "rounds"]
    assert set(line) == {"---"}
    assert first[1] == "2.000 / 4.000"
    assert first[-2:] == ["–", "3"]
    assert second[0] == "8 × 256 × 341"
    assert second[-2:] == ["9.000 / 9.000", "1"]


def test_rates_count_images() -> None:
    header, _, first, second = rows(bench.rate_table([FAST, SLOW]))
    assert header[:4] == ["images/s", bench.OURS, bench.NO_GRAPH, bench.STREAM]
    assert first[1:4] == ["1000", "667", "2000"]
    assert second[3] == "2000"


def test_without_a_peak_there_is_no_share() -> None:
    header, _, first = rows(bench.ratio_table([FAST], None))
    assert len(header) == len(first) == 5
    assert first[1:] == ["1.000", bench.PLAIN_GRAPH, "1.500", "1.0"]
    header, _, first = rows(bench.ratio_table([FAST], 4.0))
    assert (header[-1], first[-1]) == ("of the peak of 4", "25%")


def test_memory_is_told_by_profile() -> None:
    profile = Profile((1, 256, 256), (2, 256, 341), (8, 256, 512))
    gib = 1 << 30
    use = bench.InUse(profile=profile, loaded=gib, at_opt=3 * gib // 2, at_max=2 * gib)
    *_, row = rows(bench.memory_table([use]))
    assert row == [str(profile), "1.00", "1.50", "2.00"]


def test_a_reason_is_told_once() -> None:
    missing = {(bench.TORCH, "this torch has no CUDA"): ["1 × 256 × 341", "2 × 256 × 341"]}
    found = bench.notes(missing)
    assert found == "- torch: this torch has no CUDA (1 × 256 × 341, 2 × 256 × 341)\n"


# Time.


def test_ways_take_turns_after_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "num_rounds", lambda *_: 4)
    order: list[str] = []

    def way(name: str) -> Callable[[], float]:
        def timed() -> float:
            order.append(name)
            return float(len(order))

        return timed

    found = bench.take_turns({"a": way("a"), "b": way("b")}, 1.0)
    assert order == ["a", "b"] * (bench.WARMUP + 4)
    assert found == {"a": [7, 9, 11, 13], "b": [8, 10, 12, 14]}


def test_a_stream_is_timed_from_its_first_result_to_its_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now[0])

    def results(number: int) -> Iterator[None]:
        now[0] += 100
        for _ in range(number):
            yield
            now[0] += 2

        now[0] += 100

    assert bench.between(results(5)) == 2
    with pytest.raises(ValueError, match="fewer than two"):
        bench.between(results(1))


def test_a_wrong_answer_is_not_timed() -> None:
    right = np.array([[0.25, 0.75]])
    bench.check(right + 1e-4, right, 1e-3)
    for wrong in (right[:, ::-1], right * np.nan):
        with pytest.raises(ValueError, match="off"):
            bench.check(wrong, right, 1e-3)


def test_a_way_that_cannot_be_had_is_a_line() -> None:
    right = np.ones((1, 3))

    def fails(error: Exception) -> Callable[[], bench.Run]:
        def make() -> bench.Run:
            raise error

        return make

    run = bench.attempt(lambda: lambda: right, right, 1e-3)
    assert callable(run)
    assert bench.attempt(lambda: lambda: 2 * right, right, 1e-3) == "its answer is 100.0% off"
    assert bench.attempt(fails(RuntimeError("out of memory\nat 0x1")), right, 1) == "out of memory"
    assert bench.attempt(fails(ImportError("no CUDA")), right, 1) == "no CUDA"
    assert bench.attempt(fails(RuntimeError()), right, 1) == "RuntimeError"
    refused = VggspecError(report(RunFailed(reason="the layers are on strike")))
    assert "on strike" in str(bench.attempt(fails(refused), right, 1))
    with pytest.raises(ZeroDivisionError):
        bench.attempt(fails(ZeroDivisionError()), right, 1)


# Where something is missing.


@pytest.mark.parametrize(
    ("changes", "wanted", "lacks"),
    [
        ({}, [], []),
        ({}, ["tensorrt_rtx"], []),
        ({}, ["tensorrt"], ["tensorrt"]),
        ({"driver": None}, [], ["a CUDA device"]),
        ({"driver": Driver(cuda="13.0")}, [], ["a CUDA device"]),
        ({"has_pycuda": False}, [], ["pycuda"]),
        ({"tensorrt_rtx": None}, [], ["tensorrt or tensorrt_rtx"]),
        (
            {"driver": None, "has_pycuda": False, "tensorrt_rtx": None},
            ["tensorrt"],
            ["a CUDA device", "pycuda", "tensorrt or tensorrt_rtx"],
        ),
    ],
)
def test_what_is_missing_is_one_line(
    changes: dict[str, Any],
    wanted: Any,
    lacks: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = replace(HERE, tensorrt=None, **changes)
    assert bench.lacking(machine, wanted) == lacks
    if not lacks:
        return
    monkeypatch.setattr(bench, "this_machine", lambda: machine)
    assert bench.main(["--flavours", *wanted] if wanted else []) == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(f"not here: {', '.join(lacks)}")


def test_sections_are_written_as_they_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What fails in one is told in its place, and the others go on."""
    monkeypatch.setattr(bench, "this_machine", lambda: HERE)
    monkeypatch.setattr(bench, "weights_of_d", lambda: tmp_path / "D.safetensors")
    said = ""

    def section(folder: Path, flavour: str, precision: str, given: Any, peaks: Any) -> Any:
        nonlocal said
        assert folder.is_dir()
        assert peaks["fp32"] == 67
        said += capsys.readouterr().out
        if precision == "fp16":
            assert "#### fp32\n" in said
            raise bench.MissingLibraryError("it needs a library")
        return f"#### {precision}\n", bench.claims(precision, [FAST])

    monkeypatch.setattr(bench, "section", section)
    given = ["--flavours", "tensorrt_rtx"]
    assert bench.main([*given, "--precisions", "fp32", "bf16"]) == 0
    said = ""
    capsys.readouterr()
    assert bench.main(given) == 1
    said += capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("#### ")] == [
        "#### fp32",
        "#### TensorRT-RTX, fp16",
        "#### bf16",
    ]
    assert "it needs a library" in said


# The plain driver.


class Graph:
    """Stands in for a CUDA graph: the work is kept, and done when it is launched."""

    def __init__(self, stream: int, work: Callable[[], None]) -> None:
        assert stream == 77
        self.work: Callable[[], None] | None = work

    def launch(self) -> None:
        assert self.work is not None
        self.work()

    def close(self) -> None:
        self.work = None


def library(cuda: FakeCuda, graph: Path, flavour: str) -> Any:
    """As much of TensorRT as the driver uses; a plan is a graph."""

    def create(how: Any) -> FakeContext:
        if flavour == "tensorrt_rtx":
            assert how.dynamic_shapes_kernel_specialization_strategy == "eager"
            how = how.strategy
        assert how == "on profile change"
        assert cuda.is_current
        return FakeContext(cuda, session(graph))

    def runtime_config() -> Any:
        config = SimpleNamespace()
        config.set_execution_context_allocation_strategy = lambda how: setattr(
            config, "strategy", how
        )
        return config

    engine = SimpleNamespace(create_execution_context=create)
    if flavour == "tensorrt_rtx":
        engine.create_runtime_config = runtime_config
    return SimpleNamespace(
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda self, severity: None}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        ExecutionContextAllocationStrategy=SimpleNamespace(ON_PROFILE_CHANGE="on profile change"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="eager"),
    )


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def bare(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with a recorded pycuda."""
    package: Any = types.ModuleType("pycuda")
    package.driver = cuda
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    path = ROOT / "benchmarks" / "peers" / "plain_trt.py"
    spec = importlib.util.spec_from_file_location("benchmarks.peers.plain_trt", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "benchmarks.peers.plain_trt", module)
    return module


@pytest.fixture
def plain_trt(bare: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same with stand-ins for CUDA graphs."""
    monkeypatch.setattr(bare, "Recorded", Graph)
    return bare


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return with_plan(tmp_path / "small", with_map=False)


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_the_plain_driver_gives_the_net_s_answer(
    flavour: str, plain_trt: Any, cuda: FakeCuda, made: Made
) -> None:
    graph = made.path / MODEL
    rng = np.random.default_rng(1)
    shape = (2, 3, 24, 30)
    trt = library(cuda, graph, flavour)
    with plain_trt.PlainTrt(trt, flavour, b"plan", profile=0, shape=shape) as driver:
        for run in (driver.run, driver.replay, driver.run, driver.replay, driver.replay):
            image = rng.standard_normal(shape).astype(np.float32)
            (expected,) = session(graph).run(None, {"image": image})
            np.testing.assert_array_equal(run(image), expected)
            assert cuda.is_done
            assert cuda.is_current
        recorded = driver._graph
    assert recorded.work is None
    assert not cuda.is_current


def test_the_plain_driver_hears_a_no(plain_trt: Any, cuda: FakeCuda, made: Made) -> None:
    trt = library(cuda, made.path / MODEL, "tensorrt")
    with pytest.raises(RuntimeError, match="does not take the shape"):
        plain_trt.PlainTrt(trt, "tensorrt", b"plan", profile=0, shape=(2, 3, 24, 300))


class LibCuda:
    """The driver's functions; each call is kept, and the one named ``fails`` returns 700."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return 700 if name == self.fails else 0

        return call


def test_a_graph_is_recorded_once_and_replayed(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = bare.Recorded
    driver = LibCuda()
    monkeypatch.setattr("ctypes.CDLL", lambda name: driver)
    graph = recorded(77, lambda: driver.calls.append("work"))
    graph.launch()
    graph.launch()
    graph.close()
    assert driver.calls == [
        "cuStreamBeginCapture_v2",
        "work",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]
    for fails in set(driver.calls) - {"work", "cuGraphLaunch", "cuGraphExecDestroy"}:
        driver.fails = fails
        with pytest.raises(RuntimeError, match="700"):
            recorded(77, lambda: None)


def test_memory_is_what_a_session_of_one_profile_takes(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = [1000]
    monkeypatch.setattr(bench, "used_bytes", lambda device: used[0])

    class Device:
        def close(self) -> None:
            used.append(0)

    class Session:
        def __init__(self, bundle: Any) -> None:
            self.before, self.most = used[0], 0
            used[0] += 10

        def run(self, feeds: Any) -> None:
            self.most = max(self.most, feeds["image"].size)
            used[0] = self.before + 10 + self.most

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            used[0] = self.before

    monkeypatch.setattr("vggspec.runtime.tensorrt.cuda.PyCuda", Device)
    monkeypatch.setattr("vggspec.runtime.tensorrt.session.TrtSession", Session)
    bundle: Any = SimpleNamespace(manifest=made.manifest)
    assert bench.memory_of(bundle) == [
        bench.InUse(
            profile=profile,
            loaded=10,
            at_opt=10 + 3 * math.prod(profile.opt),
            at_max=10 + 3 * math.prod(profile.max),
        )
        for profile in PROFILES
    ]
    assert used == [1000, 0]


def test_all_ways_are_measured_on_a_shape(
    plain_trt: Any, cuda: FakeCuda, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By stand-ins of everything that a GPU does; what cannot be had is told."""
    graph = made.path / MODEL
    net = session(graph)
    fed: list[Any] = []

    class Ours:
        def run(self, feeds: Any) -> Any:
            fed.append(feeds)
            return {"posteriors": net.run(None, dict(feeds))[0]}

        def stream(self, feeds: Any) -> Any:
            return (self.run(each) for each in feeds)

    monkeypatch.setattr(bench, "num_rounds", lambda *_: 2)
    monkeypatch.setattr(bench.flavours, "load", lambda *_: library(cuda, graph, "tensorrt"))
    monkeypatch.setattr(
        bench, "ort_run", lambda _, images: lambda: net.run(None, {"image": images})[0]
    )

    def no_torch(*_: Any, is_compiled: bool) -> bench.Run:
        raise ImportError("this torch has no CUDA")

    monkeypatch.setattr(bench, "torch_run", no_torch)
    monkeypatch.setattr(bench, "flops_of", lambda shape: 1.0)
    subject = bench.Subject(
        flavour="tensorrt",
        precision="fp32",
        bundle=SimpleNamespace(manifest=made.manifest, model=graph),  # type: ignore[arg-type]
        graph=graph,
        weights=graph,
        ours=Ours(),  # type: ignore[arg-type]
        no_graph=Ours(),  # type: ignore[arg-type]
        without=[bench.COMPILED],
    )
    assert subject.profiles == PROFILES
    found = bench.measure(subject, (2, 24, 32), 1.0)
    timed = {bench.OURS, bench.NO_GRAPH, bench.STREAM, bench.PLAIN, bench.PLAIN_GRAPH, bench.ORT}
    assert set(found.seconds) == timed
    assert {len(each) for each in found.seconds.values()} == {2}
    assert subject.missing == {(bench.TORCH, "this torch has no CUDA"): ["2 × 24 × 32"]}
    assert {each["image"].shape for each in fed} == {(2, 3, 24, 32)}
    assert not cuda.is_current
    for table in (bench.latency_table, bench.rate_table):
        assert len(table([found]).splitlines()) == 3
