"""A signal ends a command with its code and one line, whatever the command is in the middle of."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

#: What a command is in the middle of when it signals itself; it would then run for long.
WORKS = {
    "its work": "hit(); time.sleep(20); return 0",
    "an import": "import slow; time.sleep(20); return 0",
    "a finaliser": "Finalised(); time.sleep(20); return 0",
    "what a with statement undoes": "with Undone(): pass\n    time.sleep(20); return 0",
    "what native code calls": "called(); time.sleep(20); return 0",
    "code that catches everything": (
        "try: hit(); time.sleep(20)\n    except BaseException: pass\n    return 0"
    ),
    "its last moments": "hit_later(); return 0",
    "what fails of it": "try: hit(); time.sleep(20)\n    finally: raise ImportError('half')",
}
PROGRAM = """
import os, signal, sys, time
from vggspec.base import interrupt
def hit():
    os.kill(os.getpid(), {number})
def hit_later():
    if os.fork() == 0:  # comes while the result is told
        time.sleep(0.1)
        os.kill(os.getppid(), {number})
        os._exit(0)
    time.sleep(0.3)
class Finalised:
    def __del__(self):
        hit(); sum(range(1000))
class Undone:
    def __enter__(self): ...
    def __exit__(self, *error):
        hit(); sum(range(1000)); print("undone", flush=True)
@interrupt.held
def called():
    hit(); sum(range(1000)); print("called", flush=True)
def work():
    {work}
interrupt.run(work)
"""
SLOW = (
    "import os\nos.kill(os.getpid(), {number})\nsum(range(1000))\nprint('imported', flush=True)\n"
)


def outcome(program: str, folder: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a program."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("where", WORKS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line_and_its_code(
    tmp_path: Path, where: str, number: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(number=int(number)))
    code, out, errors = outcome(PROGRAM.format(number=int(number), work=WORKS[where]), tmp_path)
    said = "interrupted\n" if number is signal.SIGINT else "interrupted by SIGTERM\n"
    assert (code, errors) == (128 + number, said)
    finished = {"an import": "imported\n", "what native code calls": "called\n"}
    finished["what a with statement undoes"] = "undone\n"
    assert out == finished.get(where, "")


def test_a_signal_after_the_work_changes_nothing(tmp_path: Path) -> None:
    program = """
import atexit, os, signal
from vggspec.base import interrupt
def late():
    os.kill(os.getpid(), signal.SIGTERM)
    sum(range(1000))
atexit.register(late)
interrupt.run(lambda: 7)
"""
    assert outcome(program, tmp_path) == (7, "", "")


def test_a_second_signal_ends_it_at_once_and_an_echo_does_not(tmp_path: Path) -> None:
    program = """
import os, signal, sys, time
from vggspec.base import interrupt
interrupt.ECHO_S = {echo}
def work():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    finally:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))
        print("undone")
interrupt.run(work)
"""
    assert outcome(program.format(echo=30), tmp_path) == (130, "undone\n", "interrupted\n")
    assert outcome(program.format(echo=0), tmp_path) == (130, "", "interrupted\n")


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4])
def test_an_interruption_while_it_starts_is_one_line(after_s: float) -> None:
    """Whatever is being imported."""
    program = """
import vggspec.__main__ as command
work = command._work
def say_and_work():
    print(end=".", flush=True)
    return work()
command._work = say_and_work
command.main()
"""
    started = subprocess.Popen(
        [sys.executable, "-c", program, "train", "-h"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert started.stdout is not None
    assert started.stdout.read(1) == b"."
    time.sleep(after_s)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert (started.returncode, errors) in [(130, b"interrupted\n"), (0, b"")]


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As for what ``nohup`` starts."""
    program = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from vggspec.base import interrupt
def work():
    os.kill(os.getpid(), signal.SIGHUP)
    return sum(range(4))
interrupt.run(work)
"""
    assert outcome(program, tmp_path) == (6, "", "")


def test_what_fails_without_a_signal_is_told_as_ever(tmp_path: Path) -> None:
    code, _, errors = outcome(
        "from vggspec.base import interrupt\ninterrupt.run(lambda: 1 / 0)", tmp_path
    )
    assert code == 1
    assert errors.endswith("ZeroDivisionError: division by zero\n")
