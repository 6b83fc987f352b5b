"""Starts ranks on this machine, through PyTorch's own launcher, and watches over them.

Each rank is a session of its own, so Ctrl-C reaches this process alone, which passes it on: once to
let them save and leave, a second time to end them at once.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from threading import Event
from types import FrameType
from typing import Any, NoReturn

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    SignalException,
    start_processes,
)

from vggspec.base.catalogue.ranks import LostRank
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.interrupt import ENDING, LAUNCHER, Interrupted, is_echo
from vggspec.train.ranks import SPEAKS, STORE

HERE = "127.0.0.1"
_LOOK_SECONDS = 0.1
_TAKEN = [*ENDING, *(one for one in signal.Signals if one.name == "SIGQUIT")]


def launch(arguments: Sequence[str], ranks: int) -> int:
    """Run ``vggspec`` with these arguments so many times, as ranks; their exit code.

    Raises:
        VggspecError: a rank was killed.
        Interrupted: a signal ended the ranks before one could say so.
    """
    # The store that the ranks meet at lives here, so its port is free and outlives each of them.
    store = TCPStore(HERE, 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=5))
    threads = max(1, (os.cpu_count() or 1) // ranks)
    shared = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": HERE,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        LAUNCHER: str(os.getpid()),
    }
    command = ("-m", "vggspec", *arguments)
    with _as_before() as before:
        # We say ourselves what went wrong.
        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        context = start_processes(
            name="vggspec",
            entrypoint=sys.executable,
            args=dict.fromkeys(range(ranks), command),
            envs={
                rank: shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)
            },
            logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        )
        return _watch(context, store, before)


def is_launched_here() -> bool:
    """Whether this process is a rank that ``launch`` started, and so watches over."""
    return LAUNCHER in os.environ


def leave(code: int) -> NoReturn:
    """End this rank, whose work is done, without taking its interpreter apart.

    PyTorch has reports of processes that abort meanwhile, where threads of gloo still hold
    something; by then everything is saved and said.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def ending_with_launcher(stop: Event) -> Iterator[None]:
    """Set ``stop`` when the process that started this rank is gone, however it went."""
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


def _watch(context: PContext, store: TCPStore, before: Mapping[int, Any]) -> int:
    """Wait for the ranks, and pass signals on to them that were not ignored before."""
    first: int | None = None
    first_at = 0.0

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        nonlocal first, first_at
        is_first = first is None
        if is_first:
            first, first_at = number, time.monotonic()
        elif is_echo(first_at):
            return
        for pid in context.pids().values():
            with contextlib.suppress(ProcessLookupError):
                if is_first:
                    os.kill(pid, signal.SIGTERM)
                else:  # a rank that is killed has no time to end its workers
                    os.killpg(pid, signal.SIGKILL)

    for number in ENDING:
        is_ignored = before[number] is signal.SIG_IGN
        signal.signal(number, signal.SIG_IGN if is_ignored else on_signal)
    try:
        while (result := context.wait(timeout=60, period=_LOOK_SECONDS)) is None:
            pass
    finally:
        context.close(death_sig=signal.SIGKILL)
    if not result.is_failed():
        return 0
    is_told = store.check([f"{STORE}/{SPEAKS}"])
    if first is not None:
        if is_told:
            return 128 + first
        raise Interrupted(first)
    if not is_told:
        for failure in result.failures.values():
            ended_by = -failure.exitcode if failure.exitcode < 0 else failure.exitcode - 128
            if ended_by > 0:
                name = signal.Signals(ended_by).name
                why = f"rank {failure.local_rank} was ended by {name}"
                raise VggspecError(report(LostRank(reason=why)))
    return max(failure.exitcode for failure in result.failures.values()) or 1


@contextlib.contextmanager
def _as_before() -> Iterator[dict[int, Any]]:
    """Put signal handlers back, which the launcher takes; what it raises is a signal as any."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in _TAKEN}
    try:
        yield before
    except SignalException as error:  # before there was somebody to pass it on to
        raise Interrupted(error.sigval) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
