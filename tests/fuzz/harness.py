"""Runs a target on one input after the other, and says what was answered."""

import importlib
import pkgutil
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol, cast

from tests.fuzz import targets
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.base.render import as_text

SECONDS_A_CASE = 20
"""What no answer may take, on a busy machine."""

BYTES_A_CASE = 1 << 30
"""What no answer may take of memory; the inputs are small. Past it Python raises MemoryError."""


class LateError(BaseException):
    """No answer came in time; no handler of decoders' errors takes it for a damaged file."""


class Target(Protocol):
    """A function that makes an input, gives it to the project, and gives back the answer's kind.

    It raises AssertionError where the project answers wrongly.
    """

    def __call__(self, random: Random, folder: Path) -> str: ...


@dataclass(slots=True)
class Outcome:
    """What came of a target's cases."""

    cases: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)
    """Case to traceback."""


def names() -> list[str]:
    """All targets."""
    return sorted(module.name for module in pkgutil.iter_modules(targets.__path__))


def target(name: str) -> Target:
    """The target of that name."""
    return cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}").one)


def run(name: str, cases: Iterator[int], *, stop_after_failures: int = 20) -> Outcome:
    """Give a target the inputs of these numbers; the same number makes the same input."""
    one = target(name)
    outcome = Outcome()
    for case in cases:
        folder = Path(tempfile.mkdtemp(prefix="vggspec-fuzz-"))
        try:
            with _limited(), warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome.answers[one(Random(f"{name} {case}"), folder)] += 1
        except (Exception, LateError):  # noqa: BLE001 (whatever it is, it is the finding)
            outcome.failures[case] = traceback.format_exc()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        outcome.cases += 1
        if len(outcome.failures) >= stop_after_failures:
            break
    return outcome


def until(seconds: float, first: int = 0) -> Iterator[int]:
    """Numbers of cases from ``first`` on until the time is over; at least one."""
    end = time.monotonic() + seconds
    case = first
    while True:
        yield case
        case += 1
        if time.monotonic() >= end:
            return


def answer(call: Callable[[], Any]) -> str:
    """What the project says: the code of its error, or ``ok``.

    The text of an error must be fit for a terminal: no control characters, no endless lines.
    """
    try:
        call()
    except VggspecError as error:
        text = as_text(error.reports)
        bad = {char for char in text if char != "\n" and not char.isprintable()}
        assert not bad, f"control characters {bad} in: {text!r}"
        text.encode()
        longest = max(map(len, text.splitlines()))
        assert longest <= 2000, f"a line of {longest} characters: {text[:300]!r}"
        return error.reports[0].what.code
    except MissingLibraryError:
        return "missing library"
    return "ok"


@contextmanager
def _limited() -> Iterator[None]:
    """A bound on time, and on memory beyond what the process has; neither lasts."""
    before = signal.signal(signal.SIGALRM, _late)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/status", encoding="ascii") as status:
        used = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + BYTES_A_CASE, hard))
    signal.alarm(SECONDS_A_CASE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _late(number: int, frame: object) -> None:
    raise LateError(f"no answer in {SECONDS_A_CASE} s")
