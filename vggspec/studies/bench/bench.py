"""``bench``: bundles on devices take turns at the same images, each in a process of its own."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np

from vggspec.base.arguments import (
    Device,
    StrPath,
    check_choice,
    check_flag,
    check_number,
    check_threads,
    check_whole,
    entries,
    one_or_several,
    plain,
)
from vggspec.base.catalogue.benching import NoLayerTimes, NotMeasurable
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, VggspecError, report
from vggspec.base.files import check_file
from vggspec.base.optional import require
from vggspec.base.plotting import picture_format
from vggspec.base.processors import processors
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.base.wording import count
from vggspec.bundle.manifest import MANIFEST
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.options import Precision
from vggspec.bundle.profile import BatchShape, Size
from vggspec.compiler.bundling.net import network_of
from vggspec.compiler.cost import cost
from vggspec.compiler.ir import Network
from vggspec.compiler.precision import number_types
from vggspec.data.read import Pixels
from vggspec.lang.packaged import packaged
from vggspec.runtime import machine
from vggspec.runtime.compatibility import compare_bundle
from vggspec.runtime.fastest_engine import CpuDevice, fastest, remember
from vggspec.runtime.session import Arrays
from vggspec.studies.bench.images import BenchImages, images_of
from vggspec.studies.bench.layers import LayerTimes, layer_times
from vggspec.studies.bench.product import SIDE, Form, macs_of, write_product
from vggspec.studies.bench.result import (
    Agreement,
    Bench,
    Candidate,
    Conditions,
    Measurement,
    Recorded,
)
from vggspec.studies.bench.shapes import as_batches, as_sizes, shapes_for
from vggspec.studies.bench.turns import medians, ratio, rounds
from vggspec.studies.bench.worker import (
    BenchDevice,
    Net,
    Product,
    Ran,
    Worker,
    busy_processors,
    outputs_of,
)
from vggspec.studies.verification.comparison import compare_outputs
from vggspec.studies.verification.tolerance import default_tolerance

TURN_S = 0.1
"""A turn of a net that is fast: so long that its caches are warm, so short that all others run in
the same moment."""

REST_S = 0.005
"""Between turns: threads of an engine wait for more work a while, and would disturb the next."""

LEAST_RUNS = 5
PROFILED_RUNS = 10
NO_IMAGES = np.empty((0, 1, 1, 1), np.uint8)


def bench(
    bundles: StrPath | Sequence[StrPath],
    *,
    device: Device | Sequence[Device] = "auto",
    sizes: Sequence[Size] | None = None,
    batches: Sequence[int] | None = None,
    seconds: float = 2.0,
    runs: int | None = None,
    threads: int | None = None,
    weights: StrPath | Sequence[StrPath] = (),
    data: StrPath | None = None,
    layers: bool = False,
    plot: StrPath | None = None,
    finish: Callable[[Bench], None] | None = None,
    watch: Watcher = SILENT,
) -> Bench:
    """Measure how fast bundles run on this machine, and whether their answers agree.

    Every bundle is measured on every device. A spec is compiled first, with the next of
    ``weights``, or with random ones, which a note says. ``sizes`` are rows and columns, each
    measured with each of ``batches``; by default the net's window with 1 and 8 images, and one
    image of 384 x 512 where the net takes it. Each candidate runs for ``seconds`` and 5 times at
    least at each shape, or ``runs`` times at least.

    All are loaded, each in a process of its own, and take turns; ratios are taken turn by turn.
    A matrix product of the same number type in the same engine takes turns with them. Answers are
    compared with those of the first bundle of the same net in fp32, on the pictures of the folder
    ``data`` or on synthetic images. With ``layers`` each layer is timed by the engine's profiler.
    ``plot`` is a picture to draw: a PNG, PDF or SVG file, by its name. ``finish`` receives what was
    measured before it is drawn.

    Where a bundle was measured on both ``cpu`` and ``openvino`` and their answers agree, the faster
    one is recorded, and the device ``auto`` follows it.

    An interruption ends the measurement: what was measured until then is returned.

    Raises:
        ArgumentError: a size, a batch or a number is out of range.
        TypeError: an argument is of the wrong type.
        VggspecError: a bundle is damaged, a net does not take a size, an engine fails, layers
            cannot be timed on a device, or ``plot`` cannot be written.
        MissingLibraryError: a device or matplotlib is not available.
    """
    named = one_or_several("bundles", bundles)
    given_weights = one_or_several("weights", weights)
    devices: list[Device] = [device] if isinstance(device, str) else entries("device", device)
    _check_numbers(named, devices, seconds=seconds, runs=runs)
    check_threads(threads)
    check_flag("layers", layers)
    seconds, runs, threads = plain(seconds), plain(runs), plain(threads)
    sizes, batches = as_sizes(sizes), as_batches(batches)
    if plot is not None:
        picture_format(plot)
        require("matplotlib", "a plot")
        check_file(plot)
    for each in devices:
        _check_device(each)
    images = images_of(data, watch)
    load = busy_processors()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vggspec-bench-")))
        given = _bundles(named, given_weights, folder, watch)
        subjects = [
            subject
            for opened, is_random, name in given
            for subject in _subjects(opened, name, devices, threads, is_random=is_random)
        ]
        for subject in subjects:
            if layers and subject.device not in ("cpu", "openvino"):
                what = NoLayerTimes(device=subject.device)
                raise VggspecError(report(what, path=subject.name))
            subject.shapes = shapes_for(
                subject.bundle, is_engine=subject.is_engine, sizes=sizes, batches=batches
            )
        run = _Run(subjects, images, seconds, runs, threads, layers=layers, watch=watch)
        run.start(stack, folder)
        is_complete = run.measure()
        conditions = Conditions(
            processor=machine.processor(),
            processors=processors(),
            threads=threads,
            load=load,
            versions=_versions(),
            images="synthetic" if data is None else os.fspath(data),
        )
        found = Bench(
            conditions=conditions,
            candidates=tuple(subject.candidate() for subject in subjects),
            measurements=tuple(run.found),
            recorded=tuple(_recorded(run, threads, watch)),
            is_complete=is_complete,
        )
    if finish is not None:
        finish(found)
    if plot is not None and found.measurements:
        from vggspec.studies.bench.plot import draw

        draw(found, plot)
    return found


@dataclass(slots=True, kw_only=True)
class _Subject:
    """A bundle on a device while it is measured."""

    name: str
    bundle: Bundle
    device: BenchDevice
    is_random: bool
    network: Network
    shapes: tuple[BatchShape, ...] = ()
    load_s: float = 0.0
    idle_bytes: int = 0
    peak_bytes: int = 0
    outputs: dict[Size, Arrays] = field(default_factory=dict)

    @property
    def is_engine(self) -> bool:
        """Whether its plan runs, not its reference."""
        return self.bundle.manifest.engine is not None and self.device == "tensorrt"

    @property
    def precision(self) -> Precision:
        manifest = self.bundle.manifest
        is_reference = manifest.engine is not None and not self.is_engine
        return "fp32" if is_reference else manifest.precision

    @property
    def channels(self) -> int:
        return len(self.bundle.manifest.input.mean)

    def candidate(self) -> Candidate:
        return Candidate(
            name=self.name,
            device=self.device,
            net=self.bundle.manifest.net,
            precision=self.precision,
            is_random=self.is_random,
            load_s=self.load_s,
            idle_bytes=self.idle_bytes,
            peak_bytes=self.peak_bytes,
        )


def _check_numbers(
    named: Sequence[StrPath],
    devices: Sequence[Device],
    *,
    seconds: float,
    runs: int | None,
) -> None:
    if not named or not devices:
        message = "name a bundle or a spec, and a device"
        raise ArgumentError(message)
    for each in devices:
        check_choice("device", each, Device)
    if len(set(devices)) < len(devices):
        message = f"a device is named twice: {', '.join(devices)}"
        raise ArgumentError(message)
    check_number("seconds", seconds, least=0, below=float("inf"))
    check_whole("runs", runs, least=1)
    if seconds == 0:
        message = "`seconds` is more than 0"
        raise ArgumentError(message)


def _check_device(device: Device) -> None:
    """Find out before anything is loaded whether a device is there.

    Raises:
        MissingLibraryError: it is not.
    """
    if device == "openvino":
        require("openvino", "the device `openvino`")
        return
    if device != "cuda":
        return
    from vggspec.runtime.ort_session import lacking_cuda

    lacks = lacking_cuda()
    if lacks is not None:
        raise MissingLibraryError(f"the device `{device}` is not available: {lacks}")


def _check_tensorrt(bundle: Bundle) -> None:
    """The same for TensorRT, which may load a plan or build one from a graph."""
    from vggspec.runtime.ort_session import lacking_tensorrt

    if bundle.manifest.engine is None:
        lacks = lacking_tensorrt()
        if lacks is not None:
            raise MissingLibraryError(f"the device `tensorrt` is not available: {lacks}")
        return
    for finding in compare_bundle(bundle.manifest, machine.this_machine()):
        if finding.level == "problem":
            raise MissingLibraryError(
                f"the bundle cannot run here: {finding.subject}: {finding.text};"
                f" run `vggspec doctor {bundle.path}` for details"
            )


def _bundles(
    named: Sequence[StrPath],
    weights: Sequence[StrPath],
    folder: Path,
    watch: Watcher,
) -> Iterator[tuple[Bundle, bool, str]]:
    """Each bundle, whether its weights are random, and its name; specs are compiled in ``folder``.

    Raises:
        ArgumentError: there are more weights than specs.
    """
    left = list(weights)
    specs = [name for name in named if _is_spec(name)]
    if len(left) > len(specs):
        message = (
            f"{count(len(left), 'file')} of weights for {count(len(specs), 'spec')}: "
            "a bundle contains its own"
        )
        raise ArgumentError(message)
    for number, name in enumerate(named):
        text = os.fspath(name)
        if not _is_spec(name):
            yield open_bundle(name), False, text.rstrip("/") or text
            continue
        from vggspec.compiler.compiling import compile_lowered
        from vggspec.compiler.initialise import initialise
        from vggspec.compiler.lower import load_network

        lowered = load_network(text)
        is_random = not left
        path = left.pop(0) if left else initialise(text, out=folder / f"{number}.safetensors")
        if is_random:
            watch.note(f"`{text}` is compiled with random weights: give it --weights FILE")
        made = compile_lowered([lowered], weights=path, out=folder / str(number))
        yield open_bundle(made), is_random, text


def _is_spec(name: StrPath) -> bool:
    """Whether it names a spec: a file ``.vgg``, or one that comes with vggspec."""
    if Path(name, MANIFEST).is_file():
        return False
    text = os.fspath(name).partition(":")[0]
    return text.endswith(".vgg") or (text in packaged() and not Path(text).is_dir())


def _subjects(
    bundle: Bundle, name: str, devices: Sequence[Device], threads: int | None, *, is_random: bool
) -> list[_Subject]:
    manifest = bundle.manifest
    if manifest.members or manifest.compares:
        takes = "two pictures" if manifest.compares else "pictures of any size with their scales"
        raise VggspecError(report(NotMeasurable(takes=takes), path=str(bundle.path)))
    network = network_of(bundle)
    found = {}
    for device in devices:
        chosen = _resolved(bundle, device, threads)
        if chosen == "tensorrt":
            _check_tensorrt(bundle)
        found[chosen] = _Subject(
            name=name, bundle=bundle, device=chosen, is_random=is_random, network=network
        )
    return list(found.values())


def _resolved(bundle: Bundle, device: Device, threads: int | None) -> BenchDevice:
    """The device that ``auto`` takes; of an engine it is the one that loads it."""
    if device != "auto":
        return device
    if bundle.manifest.engine is not None:
        return "tensorrt"
    from vggspec.runtime.ort_session import lacking_cuda

    return "cuda" if lacking_cuda() is None else fastest(bundle.manifest, threads)


class _Run:
    """A measurement: its processes, and what they gave so far."""

    def __init__(
        self,
        subjects: Sequence[_Subject],
        images: BenchImages,
        seconds: float,
        runs: int | None,
        threads: int | None,
        *,
        layers: bool,
        watch: Watcher,
    ) -> None:
        self.subjects = subjects
        self.found: list[Measurement] = []
        self._images = images
        self._seconds, self._runs, self._threads = seconds, runs, threads
        self._has_layers = layers
        self._watch = watch
        self._workers: list[Worker] = []
        self._products: dict[tuple[BenchDevice, Precision], Worker] = {}
        self._turns: dict[int, list[Ran]] = {}

    def start(self, stack: ExitStack, folder: Path) -> None:
        """Load all nets, one after another, and the products."""
        for subject in self.subjects:
            net = Net(subject.bundle, subject.device, self._threads)
            self._workers.append(stack.enter_context(Worker(net, subject.name)))
        for i, (subject, worker) in enumerate(zip(self.subjects, self._workers, strict=True)):
            self._say("loading", i, len(self.subjects), "bundles")
            loaded = worker.load()
            subject.load_s, subject.idle_bytes = loaded.seconds, loaded.idle_bytes
        self._say("loading", len(self.subjects), len(self.subjects), "bundles")
        for subject in self.subjects:
            key = subject.device, subject.precision
            if key in self._products or subject.device == "tensorrt":
                continue
            self._products[key] = stack.enter_context(self._product(*key, folder))

    def _product(self, device: BenchDevice, precision: Precision, folder: Path) -> Worker:
        """A process with the faster form of the product."""
        found: list[tuple[float, Worker]] = []
        with ExitStack() as stack:
            for form in get_args(Form):
                model = folder / f"{form}-{device}-{precision}.onnx"
                side = _side(device)
                write_product(model, precision, side, form)
                product = Product(model, device, precision, self._threads, form, side)
                worker = stack.enter_context(Worker(product, "the matrix product"))
                worker.load()
                worker.apply(NO_IMAGES)
                found.append((min(worker.turn(TURN_S, 3).seconds), worker))
            fastest_one = min(found, key=lambda each: each[0])[1]
            for _, worker in found:
                if worker is not fastest_one:
                    worker.close()
            stack.pop_all()
        return fastest_one

    def measure(self) -> bool:
        """Measure everything; False where it was interrupted, with what was measured by then."""
        shapes = sorted(
            dict.fromkeys(shape for subject in self.subjects for shape in subject.shapes),
            key=lambda shape: (shape[1] * shape[2], shape),
        )
        try:
            for done, shape in enumerate(shapes):
                self._say("measuring", done, len(shapes), "shapes")
                self._measure_at(shape)
            self._say("measuring", len(shapes), len(shapes), "shapes")
            if self._has_layers:
                self._time_layers()
        except (KeyboardInterrupt, SystemExit):  # a command gets the latter
            if not self.found:
                raise
            return False
        return True

    def _say(self, doing: str, done: int, total: int, unit: str) -> None:
        self._watch.progress(Progress(doing=doing, done=done, total=total, unit=unit))

    def _measure_at(self, shape: BatchShape) -> None:
        size = shape[1], shape[2]
        here = [i for i, subject in enumerate(self.subjects) if shape in subject.shapes]
        first_s = {}
        for i in here:
            subject, worker = self.subjects[i], self._workers[i]
            images = self._images.at(size, subject.channels)
            applied = worker.apply(_batch(images, shape[0]))
            first_s[i] = applied.seconds
            if size not in subject.outputs:
                subject.outputs[size] = outputs_of(worker, images, shape[0])
                applied = worker.apply(_batch(images, shape[0]))
            subject.peak_bytes = max(subject.peak_bytes, applied.peak_bytes)
        keys = {i: (self.subjects[i].device, self.subjects[i].precision) for i in here}
        turns: dict[object, Callable[[], Ran]] = {
            i: partial(self._turn, self._workers[i], i) for i in here
        }
        turns |= {
            key: partial(self._turn, self._products[key], None)
            for key in dict.fromkeys(keys.values())
            if key in self._products
        }
        self._turns = {i: [] for i in here}
        products: dict[object, list[Ran]] = {key: [] for key in keys.values()}
        try:
            for each in rounds(turns):
                for name, ran in each.items():
                    if isinstance(name, int):
                        self._turns[name].append(ran)
                    else:
                        products[name].append(ran)
                if all(map(self._is_enough, self._turns.values())):
                    break
        finally:
            for i in here:
                if self._turns[i]:
                    product = [ran.seconds for ran in products[keys[i]]]
                    self.found.append(self._measurement(i, shape, first_s[i], product))

    def _turn(self, worker: Worker, subject: int | None) -> Ran:
        time.sleep(REST_S)
        if subject is None or self._runs is None:
            return worker.turn(TURN_S, 1 << 20)
        had = sum(len(ran.seconds) for ran in self._turns[subject])
        return worker.turn(TURN_S, max(1, self._runs - had))

    def _is_enough(self, turns: Sequence[Ran]) -> bool:
        all_s = [second for ran in turns for second in ran.seconds]
        if self._runs is not None:
            return len(all_s) >= self._runs
        return len(all_s) >= LEAST_RUNS and sum(all_s) >= self._seconds

    def _measurement(
        self, i: int, shape: BatchShape, first_s: float, product: Sequence[Sequence[float]]
    ) -> Measurement:
        subject, turns = self.subjects[i], self._turns[i]
        seconds = tuple(ran.seconds for ran in turns)
        macs = shape[0] * cost(subject.network.at(shape[1], shape[2])).macs
        of_product = macs_of(_side(subject.device))
        is_beside = len(product) == len(seconds)
        return Measurement(
            candidate=i,
            shape=shape,
            first_s=first_s,
            turns=seconds,
            cpu_s=statistics.median(ran.cpu_s for ran in turns),
            macs=macs,
            peak_flops=2 * of_product / statistics.median(medians(product)) if is_beside else None,
            share_of_peak=(
                macs / of_product * ratio(medians(product), medians(seconds)) if is_beside else None
            ),
            agreement=self._agreement(i, (shape[1], shape[2])),
        )

    def _agreement(self, i: int, size: Size) -> Agreement | None:
        """How a candidate agrees with the first one of the same net, in fp32 if there is one."""
        mine = self.subjects[i]
        same = [
            j
            for j, other in enumerate(self.subjects)
            if size in other.outputs and _is_comparable(mine, other)
        ]
        against = next((j for j in same if self.subjects[j].precision == "fp32"), same[0])
        return None if against == i else agreement(mine, self.subjects[against], size, against)

    def _time_layers(self) -> None:
        for done, measured in enumerate(self.found):
            self._say("timing layers", done, len(self.found), "shapes")
            i, (number, *size) = measured.candidate, measured.shape
            subject = self.subjects[i]
            images = self._images.at((size[0], size[1]), subject.channels)
            times = self._workers[i].layers(_batch(images, number), PROFILED_RUNS)
            manifest = subject.bundle.manifest
            kept = manifest.fp32_layers if subject.precision == manifest.precision else ()
            layers: LayerTimes = layer_times(
                times,
                subject.network.at(size[0], size[1]),
                number_types(subject.network, subject.precision, kept),
                number,
            )
            self.found[done] = replace(measured, layers=layers)
        self._say("timing layers", len(self.found), len(self.found), "shapes")


def agreement(mine: _Subject, other: _Subject, size: Size, against: int) -> Agreement:
    """How far the answers at one size differ."""
    manifest = mine.bundle.manifest
    figures = compare_outputs(
        mine.outputs[size], other.outputs[size], manifest, default_tolerance("fp32", tf32=False)
    )
    return Agreement(
        against=against,
        images=figures.images,
        top1=figures.top1 if manifest.classifies else None,
        max_difference=figures.max_abs,
        is_finite=figures.is_finite,
    )


def _is_comparable(mine: _Subject, other: _Subject) -> bool:
    """Whether they are one net with one set of outputs, perhaps in other number types."""
    a, b = mine.bundle.manifest, other.bundle.manifest
    return (a.net, a.outputs, a.stride, mine.channels) == (
        b.net, b.outputs, b.stride, other.channels,
    )  # fmt: skip


def _recorded(run: _Run, threads: int | None, watch: Watcher) -> Iterator[Recorded]:
    """Record which engine is faster, for bundles that both ran at the same shapes."""
    by_bundle: dict[Path, dict[BenchDevice, int]] = {}
    for i, subject in enumerate(run.subjects):
        if not subject.is_random and subject.bundle.manifest.engine is None:
            by_bundle.setdefault(subject.bundle.path, {})[subject.device] = i
    for path, devices in by_bundle.items():
        if not {"cpu", "openvino"} <= devices.keys():
            continue
        of = {
            (measured.candidate, measured.shape): medians(measured.turns) for measured in run.found
        }
        both = [
            (turns, of[devices["openvino"], shape])
            for (candidate, shape), turns in of.items()
            if candidate == devices["cpu"] and (devices["openvino"], shape) in of
        ]
        if not both:
            continue
        ours, theirs = run.subjects[devices["cpu"]], run.subjects[devices["openvino"]]
        found = [
            agreement(theirs, ours, size, 0) for size in ours.outputs if size in theirs.outputs
        ]
        if not all(one.is_finite and one.top1 in (None, one.images) for one in found):
            watch.note(
                f"which engine is faster on `{path}` is not recorded: the answers of OpenVINO"
                " and of ONNX Runtime differ"
            )
            continue
        seconds = _of_a_run(both)
        manifest = ours.bundle.manifest
        if remember(manifest, seconds, threads):
            yield Recorded(name=ours.name, seconds=seconds, device=fastest(manifest, threads))


def _of_a_run(shapes: Sequence[tuple[Sequence[float], Sequence[float]]]) -> dict[CpuDevice, float]:
    """The seconds of a run in ONNX Runtime and in OpenVINO, by the turns that each took at some
    shapes. Each shape counts the same, and is compared turn by turn.
    """
    cpu = statistics.geometric_mean(statistics.median(turns) for turns, _ in shapes)
    even = [list(zip(*pair, strict=False)) for pair in shapes]  # one may have a turn more
    ratios = [ratio([b for _, b in turns], [a for a, _ in turns]) for turns in even]
    return {"cpu": cpu, "openvino": cpu * statistics.geometric_mean(ratios)}


def _batch(images: Pixels, number: int) -> Pixels:
    """A batch of these images, some of them repeatedly where there are fewer."""
    return images[np.arange(number) % len(images)]


def _side(device: BenchDevice) -> int:
    """Of the matrices of a product."""
    return SIDE["cuda" if device == "cuda" else "cpu"]


def _versions() -> dict[str, str]:
    found = {}
    for name in ("vggspec", machine.ORT_ON_CUDA, machine.ORT, "openvino", "tensorrt", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
