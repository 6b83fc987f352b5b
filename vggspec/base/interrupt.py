"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP.

The first one is raised as an exception in the main thread, so that what is half done is undone, and
the command ends with 128 and its number. It waits where an exception does harm: while a module is
imported (native libraries do not survive it), while a ``with`` statement completes or undoes what
was done in it, and in functions that native code calls. A second one ends the process at once. When
the work is done and told, neither changes the exit code.

This module is loaded before all others, and so imports next to nothing.
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
"""A signal so soon after the first is the same one: launchers send theirs to the process, then to
its group."""

LOOK_S = 0.02
IMPORTING = "<frozen importlib."

LAUNCHER = "VGGSPEC_LAUNCHER"
"""The variable in which ranks of a training find who started them."""

_HELD: "set[CodeType]" = set()


class Interrupted(SystemExit):
    """A signal asks the command to end. Where nobody catches it, Python says nothing and leaves
    with its code.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class _State:
    """What this process knows of signals."""

    number: int | None = None
    """The first one's."""

    at = 0.0
    is_raised = False
    is_told = False
    code: int | None = None
    """The exit code, once all is done and told."""


_state = _State()


def held(function: "Function") -> "Function":
    """Let signals wait until a function is through: native code calls it, or it has done by halves
    what nobody would undo.
    """
    _HELD.add(function.__code__)
    return function


def is_echo(first_at: float) -> bool:
    """Whether a signal that comes now, after one at that time, is the same one again."""
    return time.monotonic() - first_at < ECHO_S


def run(work: "Callable[[], int]") -> "NoReturn":
    """Do the work of a command and end the process with its exit code.

    The interpreter is not taken apart: threads of native libraries that still hold something
    meanwhile are known to abort.
    """
    code = 1
    try:
        _install()
        code = work()
    except BaseException as error:  # noqa: BLE001 (as the interpreter does)
        if _state.number is None and isinstance(error, Interrupted):
            _state.number = error.number  # which another handler took
        if _state.number is None:  # else it may be what became of the signal
            if isinstance(error, SystemExit):
                code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            else:
                sys.excepthook(type(error), error, error.__traceback__)
    _state.code = code if _state.number is None else 128 + _state.number
    if code != _state.code and not _state.is_told:
        _tell(_state.number)
    _leave(_state.code)


def _install() -> None:
    for number in ENDING:
        # Who started us may have them ignored, as `nohup` does.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _on_signal)
    before = sys.unraisablehook

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, Interrupted):  # raised where nothing can be, as in `__del__`
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
    if not _state.is_told:
        _tell(number)
    if "multiprocessing.process" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    os._exit(128 + number)


def _tell(number: int | None) -> None:
    """Say why it ends, past whatever the streams are in the middle of."""
    _state.is_told = True
    if LAUNCHER in os.environ:
        return  # which speaks for all its ranks
    by = "" if number in (None, signal.SIGINT) else f" by {signal.Signals(number).name}"
    try:  # noqa: SIM105 (nothing is imported here)
        os.write(2, f"interrupted{by}\n".encode())
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
