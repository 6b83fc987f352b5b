"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP.

The first signal is raised as an exception in the main thread, so that unfinished work is undone;
the command exits with 128 plus its number. It waits where an exception does harm: in the import
of a module (native libraries do not survive it), at the end of a ``with`` statement, and in
functions that native code calls. A second signal ends the process at once. After the result is
printed, signals do not change the exit code.

This module is loaded before all others, and so imports almost nothing.
"""

import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any, NoReturn, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

ENDING = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in signal.Signals.__members__
]
ECHO_S = 0.2
"""Seconds after the first signal in which a second one is its echo: launchers send theirs to the
process, then to its group."""

LOOK_S = 0.02
IMPORTING = "<frozen importlib."

LAUNCHER = "VGGSPEC_LAUNCHER"
"""The environment variable that tells the ranks of a training which process started them."""

_HELD: "set[CodeType]" = set()


class Interrupted(SystemExit):
    """A signal asks the command to end. If it is not caught, Python exits silently with its
    code.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class _State:
    """The signals that this process has received."""

    number: int | None = None
    """The first one's."""

    at = 0.0
    is_raised = False
    is_reported = False
    code: int | None = None
    """The exit code, once the work is done and its result printed."""

    line_end = b""
    """What ends the line that moves on a terminal."""


_state = _State()


def held(function: "Function") -> "Function":
    """Let signals wait until a function returns: native code calls it, or nothing would undo its
    unfinished work.
    """
    _HELD.add(function.__code__)
    return function


def show_line(end: bytes) -> None:
    """Say how to end the line that a terminal shows, before a report is written at once: with
    nothing once the line is gone.
    """
    _state.line_end = end


def is_echo(first_at: float) -> bool:
    """Whether a signal now is an echo of one at that time."""
    return time.monotonic() - first_at < ECHO_S


def run(work: "Callable[[], int]") -> "NoReturn":
    """Do the work of a command and end the process with its exit code.

    The interpreter is not finalised: threads of native libraries may abort meanwhile.
    """
    code = 1
    try:
        _install()
        code = work()
    except BaseException as error:  # noqa: BLE001 (as the interpreter does)
        if _state.number is None and isinstance(error, Interrupted):
            _state.number = error.number  # another handler took it
        if _state.number is None and isinstance(error, KeyboardInterrupt):
            _state.number = signal.SIGINT  # Python's handler took it, before ours was installed
        if _state.number is None:  # else the error may be a consequence of the signal
            if isinstance(error, SystemExit):
                code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            else:
                sys.excepthook(type(error), error, error.__traceback__)
    _state.code = code if _state.number is None else 128 + _state.number
    if code != _state.code and not _state.is_reported:
        _report(_state.number)
    _leave(_state.code)


def _install() -> None:
    for number in ENDING:
        # The parent process may ignore them, as `nohup` does.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _on_signal)
    before = sys.unraisablehook

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, Interrupted):  # lost, as in `__del__`
            _state.is_raised = False
            _again()
        else:
            before(what)

    sys.unraisablehook = unraisable


def _on_signal(number: int, frame: "FrameType | None") -> None:
    if _state.code is not None:
        os._exit(_state.code)
    if number in ENDING:
        if _state.number is None:
            _state.number, _state.at = number, time.monotonic()
        elif not is_echo(_state.at):
            _end_at_once(number)
    if _state.number is None:
        return
    if _state.is_raised:
        return
    if _is_held(frame) and hasattr(signal, "setitimer"):
        _again()
        return
    _state.is_raised = True
    raise Interrupted(_state.number)


def _again() -> None:
    signal.setitimer(signal.ITIMER_REAL, LOOK_S)


def _is_held(frame: "FrameType | None") -> bool:
    while frame is not None:
        code = frame.f_code
        is_leaving = code.co_name == "__exit__"
        if is_leaving or code in _HELD or code.co_filename.startswith(IMPORTING):
            return True
        frame = frame.f_back
    return False


def _end_at_once(number: int) -> "NoReturn":
    if not _state.is_reported:
        _report(number)
    if "multiprocessing.process" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(128 + number)


def _report(number: int | None) -> None:
    """Report the signal, bypassing the buffers of the streams."""
    _state.is_reported = True
    if LAUNCHER in os.environ:
        return  # the launcher reports for all its ranks
    by = "" if number in (None, signal.SIGINT) else f" by {signal.Signals(number).name}"
    try:  # noqa: SIM105 (nothing is imported here)
        os.write(2, _state.line_end + f"interrupted{by}\n".encode())
    except OSError:
        pass


def _leave(code: int) -> "NoReturn":
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 (nothing else runs them)
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (nothing is imported here)
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)
