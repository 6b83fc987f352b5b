"""Timing two things side by side, as ``vggspec bench`` does: they take turns, and the median of the
ratios pair by pair is what to quote.
"""

import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection

from vggspec.studies.bench import turns
from vggspec.studies.bench.turns import ratio as ratio


@dataclass(frozen=True)
class Run:
    """One finished process, by the system's own account."""

    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Claim:
    """A figure and the bound that the project sets itself."""

    name: str
    value: float
    bound: float
    at_least: bool
    unit: str = "x"
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bound is met."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def measured(self) -> str:
        """The figure with its unit."""
        return f"{self.value:.2f}{self.unit}"

    @property
    def limit(self) -> str:
        """The bound in words, such as ``at least 3x``."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}{self.unit}"

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "NOT MET"
        text = f"{self.name}: {self.measured} ({self.limit}) {verdict}"
        return f"{text}\n    {self.detail}" if self.detail else text


def process(command: Sequence[str], cwd: str | None = None) -> Run:
    """Run a command to its end; its output is thrown away, and a failure is raised."""
    start = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        assert running.stderr is not None
        complaints = running.stderr.read()
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if running.returncode != 0:
        sys.stderr.buffer.write(complaints)
        raise RuntimeError(f"{' '.join(command)} ended with {running.returncode}")
    return Run(seconds, usage.ru_maxrss / 1024)


def in_turn(
    calls: dict[str, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call, the calls taking turns."""
    for _ in range(warmup):
        for call in calls.values():
            call()
    timed = {name: partial(_seconds, call) for name, call in calls.items()}
    taken = list(islice(turns.rounds(timed), rounds))
    return {name: [each[name] for each in taken] for name in calls}


class Elsewhere:
    """A call that happens in a process of its own, whose settings and memory disturb no other.

    ``make`` gives it there; it is a function of a module, or a part of one.
    """

    def __init__(self, make: Callable[[], Callable[[], object]]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self) -> None:
        """Make the call there, and wait for its end."""
        self._pipe.send(None)
        try:
            self._pipe.recv()
        except EOFError:
            raise RuntimeError("a process of the benchmark has ended") from None

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(make: Callable[[], Callable[[], object]], pipe: Connection) -> None:
    call = make()
    with contextlib.suppress(EOFError):
        while True:
            pipe.recv()
            call()
            pipe.send(None)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def milliseconds(seconds: Sequence[float]) -> str:
    """Minimum, median and maximum."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1e3:.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f})"


def conclude(claims: Sequence[Claim]) -> int:
    """Print the figures; 1 where a bound is not met."""
    for claim in claims:
        print(claim, flush=True)
    return int(not all(claim.holds for claim in claims))
