"""What ``bench`` measured."""

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from vggspec.base.short_repr import short_repr
from vggspec.bundle.options import Precision
from vggspec.bundle.profile import BatchShape
from vggspec.runtime.fastest_engine import CpuDevice
from vggspec.studies.bench.layers import LayerTimes
from vggspec.studies.bench.turns import medians, ratio
from vggspec.studies.bench.worker import BenchDevice

LEAST_FOR_P90, LEAST_FOR_P99 = 10, 100
"""Runs below which a percentile would be the longest run."""

NOISY = 1.25
"""p90, or the longest of few runs, over the median, from which a figure is doubtful."""

BUSY = 0.5
"""Processes that ran or waited for each processor before the measurement, from which they disturb
it."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A bundle on a device."""

    name: str
    """As it was given."""

    device: BenchDevice
    net: str
    precision: Precision
    """Of the model that runs: of an engine's reference it is fp32."""

    is_random: bool
    """Whether it is a spec that was compiled with random weights."""

    load_s: float
    """Seconds to load it, without the time to import the engine's library."""

    idle_bytes: int
    """The peak memory of its process before it was loaded; 0 where it is unknown."""

    peak_bytes: int
    """The peak memory of its process over all runs; 0 where it is unknown."""

    @property
    def title(self) -> str:
        """``D on cpu``."""
        return f"{self.name} on {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the answers of a candidate differ from those of another one on the same images."""

    against: int
    """The index of the other candidate: the first one of the same net, in fp32 if there is one."""

    images: int
    top1: int | None
    """Images with the same likeliest class; None for nets whose main output has no classes."""

    max_difference: float
    """The largest absolute difference of the main output, posteriors mostly."""

    is_finite: bool

    @property
    def is_same(self) -> bool:
        """Whether all numbers are finite, and all images have the same likeliest class."""
        return self.is_finite and self.top1 in (None, self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A candidate at one shape."""

    candidate: int
    """Its index."""

    shape: BatchShape
    """Images, rows and columns of a run."""

    first_s: float
    """The first run, in which an engine may choose kernels for the shape."""

    turns: tuple[tuple[float, ...], ...]
    """Seconds of each run, turn by turn."""

    cpu_s: float
    """Seconds of all processors together for a run, the median of the turns."""

    macs: int
    """Multiply-accumulates of a run, as the spec has them."""

    peak_flops: float | None
    """Floating-point operations a second of a matrix product of the same number type in the same
    engine, which took turns with it; None where none was measured."""

    share_of_peak: float | None
    """Of the operations of that product, the median of the turns. An engine that convolves with
    fewer products than the spec has, as Winograd's do, may exceed 1."""

    agreement: Agreement | None = None
    """None for the candidate that others are compared with, and for other nets."""

    layers: LayerTimes | None = None

    @property
    def seconds(self) -> tuple[float, ...]:
        """All runs, from the shortest to the longest."""
        return tuple(sorted(second for turn in self.turns for second in turn))

    @property
    def median_s(self) -> float:
        """The median run."""
        return statistics.median(self.seconds)

    @property
    def p90_s(self) -> float | None:
        """Nine of ten runs take no longer; None for fewer than 10 runs."""
        return self._percentile(90, LEAST_FOR_P90)

    @property
    def p99_s(self) -> float | None:
        """99 of 100 runs take no longer; None for fewer than 100 runs."""
        return self._percentile(99, LEAST_FOR_P99)

    @property
    def images_a_second(self) -> float:
        """At the median run."""
        return self.shape[0] / self.median_s

    @property
    def flops_a_second(self) -> float:
        """Two for each multiply-accumulate, at the median run."""
        return 2 * self.macs / self.median_s

    @property
    def is_noisy(self) -> bool:
        """Whether the runs differ so much that the median is doubtful."""
        seconds = self.seconds
        high = seconds[-1] if self.p90_s is None else self.p90_s
        return high > NOISY * self.median_s

    def _percentile(self, percent: int, least: int) -> float | None:
        seconds = self.seconds
        if len(seconds) < least:
            return None
        return seconds[math.ceil(percent * len(seconds) / 100) - 1]

    def as_data(self) -> dict[str, object]:
        """The measurement with what follows from it."""
        names = (
            "median_s", "p90_s", "p99_s", "images_a_second", "flops_a_second", "is_noisy",
        )  # fmt: skip
        data = asdict(self)
        if self.layers is not None:
            for row, layer in zip(data["layers"]["layers"], self.layers.layers, strict=True):
                row["flops_a_second"] = layer.flops_a_second
                row["bytes_a_second"] = layer.bytes_a_second
        return {**data, "runs": len(self.seconds)} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Where and how it was measured."""

    processor: str
    processors: int
    threads: int | None
    """None is as many as the engine takes."""

    load: float | None
    """Processes that ran or waited on average of the minute before; None where it is unknown."""

    versions: dict[str, str]
    images: str
    """``synthetic``, or the folder of the pictures."""

    @property
    def is_busy(self) -> bool:
        """Whether other processes took the processors."""
        return self.load is not None and self.load > BUSY * self.processors


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Which engine ran a bundle faster on this CPU; the device ``auto`` follows it."""

    name: str
    seconds: dict[CpuDevice, float]
    """By device, of a run: the geometric mean over the shapes, which count the same."""

    device: BenchDevice
    """What ``auto`` takes now on a CPU."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The speed of bundles on devices, side by side."""

    conditions: Conditions
    candidates: tuple[Candidate, ...]
    measurements: tuple[Measurement, ...]
    """Shape by shape, in the order of the candidates."""

    recorded: tuple[Recorded, ...]
    is_complete: bool
    """False where it was interrupted."""

    @property
    def shapes(self) -> tuple[BatchShape, ...]:
        """The shapes in the order in which they were measured."""
        return tuple(dict.fromkeys(each.shape for each in self.measurements))

    def at(self, shape: BatchShape) -> tuple[Measurement, ...]:
        """The measurements at one shape."""
        return tuple(each for each in self.measurements if each.shape == shape)

    def speedup(self, measured: Measurement) -> float:
        """How many times faster it is than the first candidate at its shape: the median of the
        turns, each compared with that of the other one beside it.
        """
        first = self.at(measured.shape)[0]
        return ratio(medians(first.turns), medians(measured.turns))

    def as_data(self) -> dict[str, Any]:
        """The measurements as ``vggspec bench --json`` prints them."""
        return {
            "conditions": {**asdict(self.conditions), "is_busy": self.conditions.is_busy},
            "candidates": [asdict(each) for each in self.candidates],
            "measurements": [
                {**each.as_data(), "speedup": self.speedup(each)} for each in self.measurements
            ],
            "recorded": [asdict(each) for each in self.recorded],
            "is_complete": self.is_complete,
        }
