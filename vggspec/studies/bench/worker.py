"""A process that loads one net and runs it when it is told to: its memory is its own.

``Worker`` is the side of the process that asks. Nets stay loaded while they take turns.

Axes: N images, H rows, W columns, C channels.
"""

import contextlib
import importlib
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.benching import LostMeasurement
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.failure import Failure
from vggspec.bundle.opening import Bundle
from vggspec.bundle.options import Precision
from vggspec.data.read import Pixels
from vggspec.runtime.node_times import NodeTimes, node_times
from vggspec.runtime.session import Arrays, Session
from vggspec.studies.bench.product import Form, feed_of
from vggspec.studies.child_process import end, end_with_parent, how_it_ended, without_interrupts

COLD_S = 0.05
"""A run that is shorter is repeated within a turn, after one that does not count: the net before it
left the caches full of its own numbers."""

BenchDevice = Literal["cpu", "openvino", "cuda", "tensorrt"]
"""``cpu`` and ``cuda`` are ONNX Runtime."""

OF_DEVICE = {"openvino": ("openvino_session",), "tensorrt": ("tensorrt.session",)}
"""Modules of the runtime that load a library which not all devices need."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Net:
    """The net of a bundle."""

    bundle: Bundle
    device: BenchDevice
    threads: int | None

    def open(self) -> Session:
        """Load it; its outputs are compared with the manifest."""
        from vggspec.runtime.net import check_ports
        from vggspec.runtime.open_session import open_session

        session = open_session(self.bundle, self.device, self.threads)
        check_ports(session, self.bundle.manifest, str(self.bundle.path))
        return session

    def feed(self, images: Pixels) -> dict[str, NDArray[Any]]:
        """What it takes, of images ``(N, H, W, C)``."""
        from vggspec.runtime.preprocess import normalise

        contract = self.bundle.manifest.input
        return {contract.name: normalise(images, contract)}


@dataclass(frozen=True, slots=True)
class Product:
    """Matrix products by a constant matrix: how much a machine computes at most."""

    model: Path
    device: BenchDevice
    precision: Precision
    threads: int | None
    form: Form
    side: int

    def open(self) -> Session:
        """Load it into the engine that runs the nets."""
        if self.device == "openvino":
            from vggspec.runtime.openvino_session import OpenvinoSession

            return OpenvinoSession(self.model, self.precision, self.threads)
        from vggspec.runtime.ort_session import OrtSession

        is_half = self.precision == "fp16"
        return OrtSession(self.model, self.device, self.threads, is_half=is_half)

    def feed(self, _images: Pixels) -> dict[str, NDArray[Any]]:
        """The matrix."""
        return {"image": feed_of(self.side, self.form)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A net that was loaded."""

    seconds: float
    """Without the time that the engine's library takes to be imported."""

    idle_bytes: int
    """The peak memory of the process before that."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The first run at a shape, in which an engine may choose or compile kernels."""

    seconds: float
    outputs: Arrays
    peak_bytes: int
    """The peak memory of the process so far."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The runs of a turn."""

    seconds: tuple[float, ...]
    cpu_s: float
    """Seconds of all processors together for a run."""


class Worker(Closing):
    """A process with a net of its own, which ends with the ``with`` statement."""

    def __init__(self, subject: Net | Product, path: str) -> None:
        context = get_context("spawn")
        self._path = path
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(subject, theirs), daemon=True)
        with theirs, without_interrupts():
            self._process.start()

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._connection.close()
        end(self._process)

    def load(self) -> Loaded:
        """Load the net.

        Raises:
            VggspecError: the engine refuses it, or the process was ended; so for all calls.
            MissingLibraryError: the device is not available.
        """
        return self._asked("load", Loaded)

    def apply(self, images: Pixels) -> Applied:
        """Take images ``(N, H, W, C)``, which later turns take too, and run once."""
        return self._asked("apply", Applied, images)

    def turn(self, at_least_s: float, at_most: int) -> Ran:
        """Run for some time, once at least and a number of times at most."""
        return self._asked("turn", Ran, at_least_s, at_most)

    def layers(self, images: Pixels, runs: int) -> NodeTimes:
        """Load the net with the engine's profiler instead, and run it."""
        return self._asked("layers", NodeTimes, images, runs)

    def _asked(self, what: str, kind: type[Answer], *args: object) -> Answer:
        try:
            self._connection.send((what, args))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            lost = LostMeasurement(how=how_it_ended(self._process))
            raise VggspecError(report(lost, path=self._path)) from error
        if isinstance(answer, Failure):
            raise answer.raised()
        assert isinstance(answer, kind)
        return answer


def _work(subject: Net | Product, connection: Connection) -> None:
    end_with_parent()
    served = _Served(subject)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:  # until nobody asks any more
            what, args = connection.recv()
            try:
                connection.send(getattr(served, what)(*args))
            except (VggspecError, MissingLibraryError) as error:
                connection.send(Failure.of(error))


class _Served:
    """The answers of a process."""

    def __init__(self, subject: Net | Product) -> None:
        self._subject = subject
        self._session: Session | None = None
        self._feed: dict[str, NDArray[Any]] = {}
        self._last_s = 0.0

    def load(self) -> Loaded:
        import_engine(self._subject.device)
        idle_bytes = peak_bytes()
        start = time.perf_counter()
        self._session = self._subject.open()
        return Loaded(seconds=time.perf_counter() - start, idle_bytes=idle_bytes)

    def apply(self, images: Pixels) -> Applied:
        assert self._session is not None
        self._feed = self._subject.feed(images)
        start = time.perf_counter()
        outputs = self._session.run(self._feed)
        seconds = self._last_s = time.perf_counter() - start
        return Applied(seconds=seconds, outputs=outputs, peak_bytes=peak_bytes())

    def turn(self, at_least_s: float, at_most: int) -> Ran:
        assert self._session is not None
        if self._last_s < COLD_S:
            self._session.run(self._feed)
        seconds: list[float] = []
        cpu_before = time.process_time()
        while len(seconds) < at_most and (not seconds or sum(seconds) < at_least_s):
            start = time.perf_counter()
            self._session.run(self._feed)
            seconds.append(time.perf_counter() - start)
        self._last_s = seconds[-1]
        cpu_s = (time.process_time() - cpu_before) / len(seconds)
        return Ran(seconds=tuple(seconds), cpu_s=cpu_s)

    def layers(self, images: Pixels, runs: int) -> NodeTimes:
        if self._session is not None:
            self._session.close()
            self._session = None
        subject = self._subject
        assert isinstance(subject, Net)
        assert subject.device in ("cpu", "openvino")
        bundle = subject.bundle
        model = bundle.model if bundle.manifest.engine is None else bundle.reference
        assert model is not None
        return node_times(
            model,
            subject.device,
            subject.feed(images),
            precision=bundle.manifest.precision,
            threads=subject.threads,
            runs=runs,
        )


def import_engine(device: BenchDevice) -> None:
    """Import the library that runs nets on a device, so that no net is charged for it."""
    for name in ("net", "ort_session", *(OF_DEVICE.get(device, ()))):
        importlib.import_module(f"vggspec.runtime.{name}")


def peak_bytes() -> int:
    """The peak memory of this process; what Python itself takes is part of it."""
    try:
        # Not `getrusage`, which counts that of the process that started this one.
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file if line.startswith("VmHWM:")]
        return int(lines[0][1]) * 1024
    except (OSError, IndexError, ValueError):  # not Linux
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def busy_processors() -> float | None:
    """The load of the system: how many processes ran or waited, on average of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def outputs_of(worker: Worker, images: Pixels, batch: int) -> Arrays:
    """The outputs of many images, ``batch`` at a time; the last batch is filled up."""
    parts: list[Arrays] = []
    for start in range(0, len(images), batch):
        indices = [(start + i) % len(images) for i in range(batch)]
        parts.append(worker.apply(images[indices]).outputs)
    return {
        name: np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]
    }
