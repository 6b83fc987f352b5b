"""Progress of a build: TensorRT's nested phases as one share of the whole."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vggspec.runtime.tensorrt.api import Library

#: Called from TensorRT's threads with the phase and the share of the whole, 0 to 1.
Told = Callable[[str, float], None]


def make_monitor(trt: Library, told: Told) -> Any:
    """A progress monitor for the builder's configuration; its ``stop`` cancels the build.

    An exception must not cross TensorRT: one that ``told`` raises is kept in ``error``, and cancels
    the build.
    """
    shares = Shares()
    lock = threading.Lock()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.is_stopped = False
            self.error: Exception | None = None

        def stop(self) -> None:
            self.is_stopped = True

        def _tell(self, phase: str) -> None:
            try:
                told(phase, shares.done)
            except Exception as error:  # noqa: BLE001 (raised again in the thread that waits)
                self.error = self.error or error
                self.is_stopped = True

        def phase_start(self, phase: str, parent: str | None, num_steps: int) -> None:
            with lock:
                shares.start(phase, parent, num_steps)
                self._tell(phase)

        def phase_finish(self, phase: str) -> None:
            with lock:
                shares.finish(phase)
                self._tell(phase)

        def step_complete(self, phase: str, step: int) -> bool:
            with lock:
                shares.step(phase, step)
                self._tell(phase)
            return not self.is_stopped

    return Monitor()


@dataclass(slots=True)
class _Phase:
    parent: str | None
    num_steps: int
    num_done: int = 0


@dataclass(slots=True)
class Shares:
    """How much of nested phases is done: a phase counts as a step of its parent, in parts."""

    _phases: dict[str, _Phase] = field(default_factory=dict)
    _most: float = 0.0

    def start(self, phase: str, parent: str | None, num_steps: int) -> None:
        """A phase begins."""
        self._phases[phase] = _Phase(parent, max(num_steps, 1))

    def step(self, phase: str, step: int) -> None:
        """A step, counted from 0, is complete."""
        if phase in self._phases:
            self._phases[phase].num_done = step + 1

    def finish(self, phase: str) -> None:
        """A phase ends, however many steps it had announced."""
        self._phases.pop(phase, None)

    @property
    def done(self) -> float:
        """The share of the whole, 0 to 1; it never decreases."""
        roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
        self._most = max([self._most, *(self._share(name) for name in roots)])
        return min(self._most, 1.0)

    def _share(self, name: str) -> float:
        phase = self._phases[name]
        children = [child for child, each in self._phases.items() if each.parent == name]
        within = max([0.0, *(self._share(child) for child in children)])
        return min(phase.num_done + within, phase.num_steps) / phase.num_steps
