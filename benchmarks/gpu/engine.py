"""Net D applied densely on a GPU: latency, images a second, memory, share of the matrix peak.

vggspec's session over a TensorRT plan, beside a driver written by hand over the very same plan
(``benchmarks/peers/plain_trt.py``), ONNX Runtime and PyTorch. All take turns in one process, on
images of 4:3 that lie in the host's memory, and give the posteriors there.

    python -m benchmarks.gpu.engine

Needs CUDA, pycuda and a TensorRT of either flavour, and says what of that is not there; PyTorch and
ONNX Runtime are left out where they have no CUDA.
"""

import argparse
import ctypes
import math
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import vggspec
from benchmarks.gpu.machine import table
from benchmarks.measure import Claim, conclude, ratio
from benchmarks.weights import weights_of_d
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.engine import Flavour
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import CompileOptions, Precision
from vggspec.bundle.profile import BatchShape, Profile, choose_profile, derive_profiles
from vggspec.compiler.backends.onnx.model import prepare
from vggspec.compiler.cost import cost
from vggspec.compiler.lower import load_network
from vggspec.runtime.machine import Machine, this_machine
from vggspec.runtime.ort_session import CUDA, ORT_ERRORS, lacking_cuda
from vggspec.runtime.tensorrt import library as flavours
from vggspec.runtime.tensorrt.library import FLAVOURS

if TYPE_CHECKING:
    from vggspec.runtime.tensorrt.cuda import PyCuda
    from vggspec.runtime.tensorrt.session import TrtSession

SPEC = "specs/D.vgg"
WINDOW = (224, 224)
BOUND = 1.02  # of our run to the plain driver's

# The ways to run the net, in the order of the tables.
OURS, NO_GRAPH, STREAM = "vggspec", "vggspec, no graph", "vggspec, stream"
PLAIN, PLAIN_GRAPH = "plain", "plain, graph"
ORT, TORCH, COMPILED = "ONNX Runtime", "torch", "torch.compile"
WAYS = (OURS, NO_GRAPH, STREAM, PLAIN, PLAIN_GRAPH, ORT, TORCH, COMPILED)
OPTIONAL = (ORT, TORCH, COMPILED)

STREAMED = 12  # feeds of a stream that is timed
WARMUP = 3  # a shape's second run records its graph, the third replays it
ROUNDS = (30, 1000)  # at least and at most
GIB = 1 << 30

#: How far the largest difference of two ways may be, in parts of the largest posterior.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}

#: Dense matrix products in TFLOPS by NVIDIA's data sheets: the words of a GPU's name, fp32 without
#: TF32, and half precision. Names with more words come first.
PEAKS: tuple[tuple[frozenset[str], float, float], ...] = (
    (frozenset({"H200", "NVL"}), 60, 835.5),
    (frozenset({"H100", "NVL"}), 60, 835.5),
    (frozenset({"H100", "PCIe"}), 51, 756),
    (frozenset({"H100", "HBM3"}), 67, 989.5),
    (frozenset({"H200"}), 67, 989.5),
    (frozenset({"A100"}), 19.5, 312),
    (frozenset({"L40S"}), 91.6, 362),
    (frozenset({"L4"}), 30.3, 121),
)

Array = NDArray[Any]
Run = Callable[[], Array]
Timed = Callable[[], float]
Peaks = dict[Precision, float]

#: A way and why it cannot be had, to the shapes of which that is so.
Missing = dict[tuple[str, str], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What was measured of one shape."""

    shape: BatchShape
    """Images, rows and columns."""

    seconds: dict[str, list[float]]
    """Of a batch, by the way it was run; the n-th of each belong together."""

    flops: float
    """Of a batch: those of direct convolution, two a multiply-accumulate."""

    def __str__(self) -> str:
        return written(self.shape)

    def median(self, way: str) -> float:
        """Seconds of a batch."""
        return statistics.median(self.seconds[way])

    @property
    def best_plain(self) -> str:
        """The faster of the plain drivers."""
        return min((PLAIN, PLAIN_GRAPH), key=self.median)

    @property
    def to_plain(self) -> float:
        """Time of our run in parts of the best plain driver's."""
        return ratio(self.seconds[OURS], self.seconds[self.best_plain])

    @property
    def graphs_gain(self) -> float:
        """How many times as long our run takes without a CUDA graph."""
        return ratio(self.seconds[NO_GRAPH], self.seconds[OURS])


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """Bytes of the device that a session took, by what the driver has left."""

    profile: Profile
    loaded: int
    """Before the first run."""

    at_opt: int
    at_max: int


# What the figures say.


def written(shape: BatchShape) -> str:
    """Such as ``2 × 256 × 341``."""
    return " × ".join(map(str, shape))


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def num_rounds(round_seconds: float, budget_seconds: float) -> int:
    """As many as the budget allows, within bounds."""
    least, most = ROUNDS
    return max(least, min(most, int(budget_seconds / max(round_seconds, 1e-9))))


def peaks_of(gpu: str, given: Peaks) -> Peaks:
    """TFLOPS by precision: those given, else by the GPU's name, else none."""
    words = set(re.split(r"[^A-Za-z0-9]+", gpu))
    for name, full, half in PEAKS:
        if name <= words:
            return {"fp32": full, "fp16": half, "bf16": half, **given}
    return given


def parse_peaks(text: str) -> Peaks:
    """``fp32=67,fp16=989`` in TFLOPS."""
    peaks: Peaks = {}
    for word in text.split(","):
        precision, _, number = word.partition("=")
        if precision not in TOLERANCE or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise argparse.ArgumentTypeError(f"`{word}` is not such as fp16=989")
        peaks[precision] = float(number)
    return peaks


def claims(title: str, cells: Sequence[Cell]) -> list[Claim]:
    """That no shape's run costs more than the best plain driver's."""
    if not cells:
        return []
    worst = max(cells, key=lambda cell: cell.to_plain)
    ours, plain = worst.median(OURS), worst.median(worst.best_plain)
    detail = f"{worst}, {ours * 1e3:.3f} ms and {plain * 1e3:.3f} ms ({worst.best_plain})"
    name = f"run / best plain driver, {title}, the worst of {len(cells)} shapes"
    return [Claim(name, worst.to_plain, BOUND, at_least=False, detail=detail)]


def latency_table(cells: Sequence[Cell]) -> str:
    """Median and p99 of a run. A stream has none: its runs overlap."""
    ways = [way for way in measured(cells) if way != STREAM]

    def text(cell: Cell, way: str) -> str:
        if way not in cell.seconds:
            return "–"
        return f"{cell.median(way) * 1e3:.3f} / {percentile(cell.seconds[way], 0.99) * 1e3:.3f}"

    rows = (
        [str(cell), *(text(cell, way) for way in ways), str(len(cell.seconds[OURS]))]
        for cell in cells
    )
    return table(["median / p99, ms", *ways, "rounds"], rows)


def rate_table(cells: Sequence[Cell]) -> str:
    """Images a second at the median."""
    ways = measured(cells)

    def text(cell: Cell, way: str) -> str:
        return f"{cell.shape[0] / cell.median(way):.0f}" if way in cell.seconds else "–"

    rows = ([str(cell), *(text(cell, way) for way in ways)] for cell in cells)
    return table(["images/s", *ways], rows)


def ratio_table(cells: Sequence[Cell], peak: float | None) -> str:
    """Our run beside the plain driver's and its own without graphs, and the work it does."""
    header = ["ratios", "run / best plain", "best plain", "no graph / graph", "TFLOPS"]

    def row(cell: Cell) -> list[str]:
        rate = cell.flops / cell.median(OURS) / 1e12
        texts = [str(cell), f"{cell.to_plain:.3f}", cell.best_plain, f"{cell.graphs_gain:.3f}"]
        texts.append(f"{rate:.1f}")
        return texts if peak is None else [*texts, f"{rate / peak:.0%}"]

    if peak is not None:
        header.append(f"of the peak of {peak:g}")
    return table(header, map(row, cells))


def memory_table(uses: Iterable[InUse]) -> str:
    """A session's memory on the device, opened for one profile alone."""
    return table(
        ["profile", "loaded, GiB", "after runs at opt", "after runs at max"],
        (
            [str(use.profile), *(f"{n / GIB:.2f}" for n in (use.loaded, use.at_opt, use.at_max))]
            for use in uses
        ),
    )


def measured(cells: Iterable[Cell]) -> list[str]:
    """The ways that any cell has, in order."""
    return [way for way in WAYS if any(way in cell.seconds for cell in cells)]


def notes(missing: Missing) -> str:
    """Why a way is not in a table, and for which shapes."""
    return "".join(f"- {way}: {why} ({', '.join(s)})\n" for (way, why), s in missing.items())


# What is here.


def lacking(machine: Machine, wanted: Sequence[Flavour]) -> list[str]:
    """What this needs and the machine has not."""
    here = [flavour for flavour in FLAVOURS if machine.trt(flavour) is not None]
    lacks = [] if machine.gpus else ["a CUDA device"]
    if not machine.has_pycuda:
        lacks.append("pycuda")
    if not here:
        lacks.append("tensorrt or tensorrt_rtx")
    elif set(wanted) - set(here):
        lacks += [flavour for flavour in wanted if flavour not in here]
    return lacks


# Time.


def clocked(call: Callable[[], object]) -> Timed:
    """A call that says how long it took."""

    def timed() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return timed


def between(results: Iterable[object]) -> float:
    """Seconds from one result to the next, from the first to the last.

    Beginning and ending a stream, where memory is taken and given back, is left out.
    """
    times = [time.perf_counter() for _ in results]
    if len(times) < 2:
        raise ValueError("nothing lies between fewer than two results")
    return (times[-1] - times[0]) / (len(times) - 1)


def take_turns(ways: dict[str, Timed], budget_seconds: float) -> dict[str, list[float]]:
    """Seconds by way, A B C A B C …."""
    seconds: dict[str, list[float]] = {}
    begin = 0.0
    for _ in range(WARMUP):
        begin = time.perf_counter()
        for way in ways.values():
            way()
    rounds = num_rounds(time.perf_counter() - begin, budget_seconds)
    for _ in range(rounds):
        for name, way in ways.items():
            seconds.setdefault(name, []).append(way())
    return seconds


def check(found: Array, expected: Array, tolerance: float) -> None:
    """A way that computes something else is not timed."""
    far = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not far <= tolerance:
        raise ValueError(f"its answer is {far:.1%} off")


def attempt(make: Callable[[], Run], expected: Array, tolerance: float) -> Run | str:
    """A way that gives the expected answer; why there is none, in a line, where it fails."""
    try:
        run = make()
        check(run(), expected, tolerance)
    except (ImportError, VggspecError, *ORT_ERRORS) as error:
        if isinstance(error, VggspecError):
            return error.reports[0].what.title()
        lines = str(error).strip().splitlines()
        return lines[0][:200] if lines else type(error).__name__
    return run


# The device.


@dataclass(slots=True, kw_only=True)
class Subject:
    """Net D in one flavour and precision: what is opened once for all shapes."""

    flavour: Flavour
    precision: Precision
    bundle: Bundle
    graph: Path
    """The ONNX model of the same precision."""

    weights: Path
    ours: "TrtSession"
    no_graph: "TrtSession"
    without: Sequence[str]
    missing: Missing = field(default_factory=dict)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The plan's."""
        assert self.bundle.manifest.engine is not None
        return self.bundle.manifest.engine.profiles

    @property
    def title(self) -> str:
        """Such as ``TensorRT 11.4.0.106, fp16``."""
        version = flavours.version(self.flavour)
        return f"{FLAVOURS[self.flavour].title} {version}, {self.precision}"


def size_of(scale: int, *, is_square: bool = False) -> tuple[int, int]:
    """Rows and columns of a photograph whose smaller side is Q: of 4:3, or square."""
    return scale, scale if is_square else round(scale * 4 / 3)


def flops_of(shape: BatchShape) -> float:
    """Of a batch."""
    images, rows, columns = shape
    network = prepare(load_network(SPEC).network, CompileOptions())
    return images * float(cost(network.at(rows, columns)).flops)


def build(
    folder: Path, flavour: Flavour, precision: Precision, scales: Sequence[int], batch: int
) -> Bundle:
    """The plan, with the profiles of a test protocol of these scales."""
    protocol = TestProtocol(scales=tuple(scales))
    profiles = derive_profiles(
        protocol, least=WINDOW, window=WINDOW, is_dynamic=True, max_batch=max(8, batch)
    )
    vggspec.compile(
        SPEC,
        weights=weights_of_d(),
        out=folder,
        trt=True,
        flavour=flavour,
        precision=precision,
        profiles=[str(profile) for profile in profiles],
    )
    return open_bundle(folder)


def used_bytes(device: "PyCuda") -> int:
    """Of the device's memory, by whomever."""
    from vggspec.runtime.tensorrt.cuda_graph import CudaDriver

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with device.current():
        CudaDriver().call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return total.value - free.value


def random_images(shape: BatchShape) -> NDArray[np.float32]:
    images, rows, columns = shape
    rng = np.random.default_rng(0)
    return rng.standard_normal((images, 3, rows, columns)).astype(np.float32)


def memory_of(bundle: Bundle) -> list[InUse]:
    """For each profile a session of its own: memory that was taken stays until it is closed."""
    from vggspec.runtime.tensorrt.cuda import PyCuda
    from vggspec.runtime.tensorrt.session import TrtSession

    assert bundle.manifest.engine is not None
    profiles = bundle.manifest.engine.profiles
    found = []

    def after_runs(session: "TrtSession", shape: BatchShape) -> int:
        for _ in range(WARMUP):
            session.run({"image": random_images(shape)})
        return used_bytes(device)

    with closing(PyCuda()) as device:
        with TrtSession(bundle) as session:  # what CUDA and TensorRT load once is not counted
            after_runs(session, profiles[0].opt)
        for profile in profiles:
            before = used_bytes(device)
            with TrtSession(bundle) as session:
                use = InUse(
                    profile=profile,
                    loaded=used_bytes(device) - before,
                    at_opt=after_runs(session, profile.opt) - before,
                    at_max=after_runs(session, profile.max) - before,
                )
            found.append(use)
    return found


def ort_run(graph: Path, images: NDArray[np.float32]) -> Run:
    """A session of ONNX Runtime written by hand, with the fastest convolutions that it finds.

    It copies from the arrays that it is given, which are not pinned.
    """
    import onnxruntime as ort

    lacks = lacking_cuda()
    if lacks is not None:
        raise MissingLibraryError(lacks)
    ort.preload_dlls()
    options = {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0"}
    session = ort.InferenceSession(str(graph), providers=[(CUDA, options)], enable_fallback=False)
    if CUDA not in session.get_providers():
        raise MissingLibraryError("onnxruntime cannot load CUDA")
    return lambda: session.run(["posteriors"], {"image": images})[0]


def torch_run(
    weights: Path, precision: Precision, images: NDArray[np.float32], *, is_compiled: bool
) -> Run:
    """PyTorch from a pinned buffer; in half precision channels last, as its guide advises."""
    import torch

    from benchmarks.peers import vgg16

    if not torch.cuda.is_available():
        raise MissingLibraryError("this torch has no CUDA")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.compiler.reset()
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
    layers = vgg16.load(str(weights)).layers.to("cuda", dtype).to(memory_format=layout)
    pinned = torch.empty(images.shape).pin_memory()

    def forward(image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = layers(image.to(dtype, memory_format=layout))
        return scores.float().mean((2, 3)).softmax(1)

    module = torch.compile(forward, mode="reduce-overhead") if is_compiled else forward

    @torch.inference_mode()
    def run() -> Array:
        pinned.copy_(torch.from_numpy(images))
        answer: Array = module(pinned.to("cuda", non_blocking=True)).cpu().numpy()
        return answer

    return run


def measure(subject: Subject, shape: BatchShape, budget_seconds: float) -> Cell:
    """Every way in turn on one shape; ``subject.missing`` takes those that there are not."""
    from benchmarks.peers.plain_trt import PlainTrt

    images = random_images(shape)
    feed = {"image": images}
    profile = choose_profile(subject.profiles, shape)
    assert profile is not None
    ours, no_graph = subject.ours, subject.no_graph
    expected = ours.run(feed)["posteriors"]
    tolerance = TOLERANCE[subject.precision]
    peers: dict[str, Callable[[], Run]] = {
        ORT: lambda: ort_run(subject.graph, images),
        TORCH: lambda: torch_run(subject.weights, subject.precision, images, is_compiled=False),
        COMPILED: lambda: torch_run(subject.weights, subject.precision, images, is_compiled=True),
    }
    plan = subject.bundle.model.read_bytes()
    trt = flavours.load(subject.flavour, "the plain driver")
    with PlainTrt(trt, subject.flavour, plan, profile=profile, shape=images.shape) as by_hand:
        for run in (by_hand.run, by_hand.replay):
            check(run(images), expected, tolerance)
        ways = {
            OURS: clocked(lambda: ours.run(feed)),
            PLAIN: clocked(lambda: by_hand.run(images)),
            PLAIN_GRAPH: clocked(lambda: by_hand.replay(images)),
            NO_GRAPH: clocked(lambda: no_graph.run(feed)),
            STREAM: lambda: between(ours.stream(feed for _ in range(STREAMED))),
        }
        for name, make in peers.items():
            if name in subject.without:
                continue
            peer = attempt(make, expected, tolerance)
            if isinstance(peer, str):
                subject.missing.setdefault((name, peer), []).append(written(shape))
            else:
                ways[name] = clocked(peer)
        seconds = take_turns(ways, budget_seconds)
    return Cell(shape=shape, seconds=seconds, flops=flops_of(shape))


def section(
    folder: Path,
    flavour: Flavour,
    precision: Precision,
    given: argparse.Namespace,
    peaks: Peaks,
) -> tuple[str, list[Claim]]:
    """Everything of one flavour and precision."""
    from vggspec.runtime.tensorrt.session import TrtSession

    start = time.perf_counter()
    bundle = build(folder / "plan", flavour, precision, given.scales, max(given.batches))
    built = time.perf_counter() - start
    vggspec.compile(SPEC, weights=weights_of_d(), out=folder / "graph", precision=precision)
    uses = memory_of(bundle)
    with TrtSession(bundle) as ours, TrtSession(bundle, use_graphs=False) as no_graph:
        subject = Subject(
            flavour=flavour,
            precision=precision,
            bundle=bundle,
            graph=open_bundle(folder / "graph").model,
            weights=weights_of_d(),
            ours=ours,
            no_graph=no_graph,
            without=given.without,
        )
        cells = []
        for scale in given.scales:
            for batch in given.batches:
                cells.append(
                    measure(
                        subject, (batch, *size_of(scale, is_square=given.square)), given.seconds
                    )
                )
                print(f"{subject.title}: {cells[-1]}", file=sys.stderr, flush=True)
        for shape, why in ours.without_graph.items():
            images, _, rows, columns = shape
            key = "the CUDA graph", why
            subject.missing.setdefault(key, []).append(written((images, rows, columns)))
    found = claims(subject.title, cells)
    parts = [
        f"#### {subject.title}\n",
        f"From the spec to the engine: {built:.1f} s, {len(subject.profiles)} profiles.\n",
        latency_table(cells),
        rate_table(cells),
        ratio_table(cells, peaks.get(precision)),
        memory_table(uses),
        notes(subject.missing),
        "".join(f"- {'; '.join(map(str.strip, str(one).splitlines()))}\n" for one in found),
    ]
    return "\n".join(part for part in parts if part), found


def arguments(texts: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.engine", description="Measure net D on a GPU."
    )
    several: dict[str, Any] = {"nargs": "+", "metavar": "N", "type": int}
    parser.add_argument("--scales", default=[256, 384, 512], help="Q (256 384 512)", **several)
    parser.add_argument(
        "--batches",
        default=[1, 2, 8],
        help="images a run (1 2 8); 2 is one with its mirror image",
        **several,
    )
    parser.add_argument("--precisions", nargs="+", default=list(TOLERANCE), choices=TOLERANCE)
    parser.add_argument(
        "--flavours", nargs="+", default=[], choices=FLAVOURS, help="those installed"
    )
    parser.add_argument("--without", nargs="+", default=[], choices=OPTIONAL, help="peers left out")
    parser.add_argument("--seconds", type=float, default=10, help="for a shape, about (10)")
    parser.add_argument("--peak", type=parse_peaks, default={}, help="TFLOPS, as fp32=67,fp16=989")
    parser.add_argument("--square", action="store_true", help="Q × Q instead of 4:3")
    return parser.parse_args(texts)


def main(texts: Sequence[str]) -> int:
    """1 where a bound is not met, 3 where something is missing."""
    given = arguments(texts)
    machine = this_machine()
    lacks = lacking(machine, given.flavours)
    if lacks:
        print(f"this needs a CUDA device, pycuda and TensorRT; not here: {', '.join(lacks)}")
        return 3
    peaks = peaks_of(machine.gpus[0].name, given.peak)

    found: list[Claim] = []
    failures = 0
    print(
        "Inputs are images × rows × columns, float32 on the host; a time ends with the posteriors "
        "there.\n`plain` is a driver written by hand over the same plan; no way uses TF32.\n"
    )
    for flavour in given.flavours or flavours.installed():
        for precision in given.precisions:
            try:
                with tempfile.TemporaryDirectory(dir=weights_of_d().parent) as folder:
                    text, more = section(Path(folder), flavour, precision, given, peaks)
            except (VggspecError, MissingLibraryError) as error:
                failures += 1
                text, more = f"#### {FLAVOURS[flavour].title}, {precision}\n\n{error}\n", []
            print(text, flush=True)
            found += more
    return max(conclude(found), int(failures > 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
