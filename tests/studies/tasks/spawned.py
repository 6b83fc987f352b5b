"""What the processes of tests do. They import this module, and so it imports no large library."""

import ctypes
import os
import signal
import struct
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event, Semaphore
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import Fields
from vggspec.studies.evaluation.answers import Result


@dataclass(frozen=True)
class Lagging:
    """A task of numbers: those that three divides wait for the gate to be opened."""

    gate: Event
    sent: Semaphore
    threads: int | None = 1

    @property
    def indices(self) -> NDArray[np.int64]:
        return np.arange(120)

    def with_threads(self, threads: int) -> "Lagging":
        return replace(self, threads=threads)

    def digest(self) -> str:
        return ""

    def results(self, indices: Iterable[int]) -> Generator[Result, None, None]:
        for index in indices:
            if index % 3 == 0:
                self.gate.wait()
            yield Result(index=index, unread="x" * 200_000)  # more than a pipe holds
            self.sent.release()

    def as_data(self, result: Result) -> dict[str, Any]:
        return asdict(result)

    def from_data(self, data: Fields) -> Result:
        return Result(**data)


def sleep_in_native_code() -> None:
    """Say which process this is, and let a library sleep."""
    print(os.getpid(), flush=True)
    ctypes.CDLL(None).sleep(60)


@dataclass(frozen=True)
class Sleeping(Lagging):
    """A task that does not come back from native code."""

    gate: Any = None
    sent: Any = None

    def results(self, indices: Iterable[int]) -> Generator[Result, None, None]:
        sleep_in_native_code()
        yield Result(index=0)


@dataclass(frozen=True)
class SleepingNet:
    """A net that does not come back from being loaded."""

    device: str = "cpu"

    def open(self) -> None:
        sleep_in_native_code()


def die_within_a_message(connection: Connection) -> None:
    """Begin a message of 1000 bytes, and be killed."""
    os.write(connection.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)
