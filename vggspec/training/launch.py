"""Starts ranks on this machine, through PyTorch's launcher, and monitors them.

Each rank is a session of its own, so Ctrl-C reaches this process alone, which passes it on: the
first time to let them save and exit, the second time to end them at once. Ranks report to this
process over a socket in a folder that only the user can enter.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any, NoReturn, Self

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    SignalException,
    start_processes,
)

from vggspec.base.catalogue.ranks import LostRank
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.failure import Failure, ending
from vggspec.base.interrupt import ENDING, LAUNCHER, Interrupted, is_echo
from vggspec.base.processors import processors
from vggspec.base.watcher import Progress
from vggspec.training.interruption import handles_signals
from vggspec.training.plan import TrainPlan
from vggspec.training.progress import Epoch, Step, TrainResult, TrainWatcher
from vggspec.training.request import TrainRequest

HERE = "127.0.0.1"

CHANNEL = "VGGSPEC_CHANNEL"
"""The variable that names the socket on which a rank reports to its launcher."""

BEYOND_SIGNALS = 128  # what a shell adds to the number of a signal, for an exit code

_LOOK_SECONDS = 0.1
_TAKEN = [*ENDING, *(one for one in signal.Signals if one.name == "SIGQUIT")]
_LONG_PATH = 80  # the system takes about a hundred bytes for the path of a socket


def launch(
    request: TrainRequest, ranks: int, watch: TrainWatcher, stop: Event | None = None
) -> TrainResult:
    """Train with that many ranks, processes of this machine, and wait for them.

    Raises:
        VggspecError: a rank reports it, or was killed.
        MissingLibraryError: a rank reports it.
        Interrupted: a signal ended the ranks before they could save.
    """
    # The store that the ranks meet at lives here, so its port is free and outlives each of them.
    store = TCPStore(HERE, 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=5))
    threads = max(1, processors() // ranks)
    with _Channel(request) as channel, _as_before() as before:
        shared = {
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": HERE,
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            LAUNCHER: str(os.getpid()),
            CHANNEL: channel.path,
        }
        # Errors are reported here.
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        context = start_processes(
            name="vggspec",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(ranks), ("-m", "vggspec.training")),
            envs={
                rank: shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
            },
            logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        )
        return _watch(context, channel, watch, stop or Event(), before)


def is_launched_here() -> bool:
    """Whether this process is a rank that ``launch`` started and monitors."""
    return LAUNCHER in os.environ


def work_for_launcher(train: Callable[[TrainRequest, TrainWatcher], TrainResult]) -> int:
    """The work of a process that ``launch`` started: ``train`` what the launcher asks for, and
    report to it; the exit code.
    """
    with socket.socket(socket.AF_UNIX) as connecting:
        connecting.connect(os.environ[CHANNEL])
        channel = Connection(connecting.detach())
    report_to = _Forwarding(channel)
    try:
        result = train(channel.recv(), report_to)
    except VggspecError as error:
        report_to.send(Failure.of(error))
        return 1
    except MissingLibraryError as error:
        report_to.send(Failure.of(error))
        return 1
    if result.is_reported_here:
        report_to.send(result)
    return 0


def leave(code: int) -> NoReturn:
    """End this rank, whose work is done, without the interpreter's teardown.

    PyTorch processes are known to abort in it while threads of gloo run; everything has been saved
    and reported by then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def ending_with_launcher(stop: Event) -> Iterator[None]:
    """Set ``stop`` when the process that started this rank has ended, for any reason."""
    if not is_launched_here():
        yield
        return
    done = Event()

    def look() -> None:
        while not done.wait(1.0):
            if os.getppid() != int(os.environ[LAUNCHER]):
                stop.set()
                return

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        done.set()


class _Channel:
    """Passes the request to the ranks and receives their reports. It has no thread: the launcher
    polls it.
    """

    def __init__(self, request: TrainRequest) -> None:
        self._request = request

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            short = "/tmp" if len(tempfile.gettempdir()) > _LONG_PATH else None  # noqa: S108
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vggspec-", dir=short))
            self.path = str(Path(folder) / "ranks")
            self._server = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._server.bind(self.path)
            self._server.listen(1024)
            self._connections: list[Connection] = []
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def heard(self, within_s: float) -> Iterator[object]:
        """The reports received within that time."""
        while ready := wait([self._server, *self._connections], within_s):
            within_s = 0.0
            for each in ready:
                if each is self._server:
                    accepted, _ = self._server.accept()
                    connection = self._stack.enter_context(Connection(accepted.detach()))
                    self._connections.append(connection)
                    with contextlib.suppress(OSError):  # it has ended by now
                        connection.send(self._request)
                    continue
                assert isinstance(each, Connection)
                try:
                    yield each.recv()
                except (EOFError, OSError):
                    self._connections.remove(each)


class _Forwarding(TrainWatcher):
    """Sends reports to the launcher; if that has ended, the rank is about to stop."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel

    def send(self, what: object) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(what)

    def progress(self, now: Progress) -> None:
        self.send(now)

    def note(self, text: str) -> None:
        self.send(text)

    def begin(self, plan: TrainPlan) -> None:
        self.send(plan)

    def step(self, now: Step) -> None:
        self.send(now)

    def epoch(self, now: Epoch) -> None:
        self.send(now)


@dataclass(slots=True)
class _Outcome:
    """What the ranks have reported at their end."""

    result: TrainResult | None = None
    failure: Failure | None = None

    def take(self, heard: object, watch: TrainWatcher) -> None:
        """Keep final reports, and pass on all others."""
        match heard:
            case TrainResult():
                self.result = heard
            case Failure():
                self.failure = heard
            case TrainPlan():
                watch.begin(heard)
            case Step():
                watch.step(heard)
            case Epoch():
                watch.epoch(heard)
            case Progress():
                watch.progress(heard)
            case str():
                watch.note(heard)


def _watch(
    context: PContext,
    channel: _Channel,
    watch: TrainWatcher,
    stop: Event,
    before: Mapping[int, Any],
) -> TrainResult:
    """Wait for the ranks, and pass signals on to them that were not ignored before."""
    first: int | None = None
    first_at = 0.0
    is_asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal first, first_at
        is_first = first is None
        if is_first:
            first, first_at = number, time.monotonic()
        elif is_echo(first_at):
            return
        send(signal.SIGTERM if is_first else signal.SIGKILL)

    def send(number: int) -> None:
        for pid in context.pids().values():
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:  # a rank that is killed has no time to end its workers
                    os.killpg(pid, number)
                else:
                    os.kill(pid, number)

    for number in ENDING if handles_signals() else ():
        is_ignored = before[number] is signal.SIG_IGN
        signal.signal(number, signal.SIG_IGN if is_ignored else on_signal)
    outcome = _Outcome()
    try:
        while (ended := context.wait(timeout=0)) is None:
            for heard in channel.heard(_LOOK_SECONDS):
                outcome.take(heard, watch)
            if stop.is_set() and not is_asked:
                is_asked = True
                send(signal.SIGTERM)
        for heard in channel.heard(0.0):
            outcome.take(heard, watch)
    finally:
        context.close(death_sig=signal.SIGKILL)
    if outcome.failure is not None:
        raise outcome.failure.raised()
    if outcome.result is not None and not ended.is_failed():
        stopped_by = first if outcome.result.was_stopped else None
        return replace(outcome.result, stopped_by=stopped_by)
    if first is not None:
        raise Interrupted(first)
    raise _lost(ended.failures)


def _lost(failures: Mapping[int, Any]) -> VggspecError:
    """The ranks ended without a report: a signal killed one, or its own traceback says why."""
    killed = [each for each in failures.values() if not 0 <= each.exitcode <= BEYOND_SIGNALS]
    first = min(killed or failures.values(), key=lambda each: each.timestamp, default=None)
    why = "no rank reported a result"
    if first is not None:
        why = f"rank {first.local_rank} {ending(first.exitcode)}"
    return VggspecError(report(LostRank(reason=why)))


@contextlib.contextmanager
def _as_before() -> Iterator[dict[int, Any]]:
    """Restore the signal handlers that the launcher replaces; its exception is treated as a
    signal.
    """
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _TAKEN}
    try:
        yield before
    except SignalException as error:  # before there was a rank to pass it on to
        raise Interrupted(error.sigval) from error
    finally:
        if handles_signals():
            for number, handler in before.items():
                signal.signal(number, handler)
