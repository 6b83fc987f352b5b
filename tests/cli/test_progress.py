"""What long work shows: lines now and then, and the time left once the speed is known."""

import re
import sys
import threading
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from tests.cli.terminals import on_terminal, seen
from vggspec.base.watcher import Progress
from vggspec.cli import progress
from vggspec.cli.progress import Pace, Shown, duration, shown

TESTING = Progress(doing="testing", done=0, total=20, unit="images")


def test_the_speed_is_that_of_this_time() -> None:
    now = 100.0
    first = replace(TESTING, done=1, before=1)
    pace = Pace(first, clock=lambda: now)
    now = 102.0
    pace.take(replace(first, done=5))
    assert pace.text() == "testing  5/20 images"  # too early to tell
    now = 110.0
    pace.take(replace(first, done=5, details=("error 20.00%", "")))
    assert pace.text() == "testing  5/20 images  error 20.00%  0.400 images/s  38 s left"
    fits = Progress(doing="", done=0, total=10**6, unit="fits")
    fast = Pace(fits, clock=lambda: now)
    now = 120.0
    fast.take(replace(fits, done=2500))
    assert fast.text() == "2500/1000000 fits  250 fits/s  1 h 06 left"
    fast.take(replace(fits, done=250))
    assert fast.text() == "250/1000000 fits  25.0 fits/s  11 h 06 left"


def test_while_nothing_gets_done_the_speed_stays_and_time_goes_on() -> None:
    now = 0.0
    pace = Pace(TESTING, clock=lambda: now)
    assert pace.text() == "testing  0/20 images"
    now = 10.0
    for done in range(1, 11):
        pace.take(replace(TESTING, done=done))
    now = 14.0
    assert pace.text() == "testing  10/20 images  1.0 images/s  6 s left"
    now = 30.0
    assert pace.text() == "testing  10/20 images  1.0 images/s  0 s left"


def test_what_does_not_fit_is_left_out() -> None:
    now = 0.0
    pace = Pace(TESTING, clock=lambda: now)
    now = 10.0
    pace.take(replace(TESTING, done=4, details=("error 25.00%",)))
    whole = "testing  4/20 images  error 25.00%  0.400 images/s  40 s left"
    assert pace.text(len(whole)) == whole
    assert pace.text(len(whole) - 1) == "testing  4/20 images  error 25.00%  40 s left"
    assert pace.text(30) == "4/20 images  40 s left"


def test_a_line_is_due_seldom_and_only_with_news() -> None:
    now = 0.0
    first = replace(TESTING, done=2, before=2)
    pace = Pace(first, clock=lambda: now)
    pace.take(replace(first, done=3))
    assert not pace.is_due(10, 60)
    now = 10.0
    assert [pace.is_due(10, 60), pace.is_due(10, 60)] == [True, False]
    now = 70.0
    assert not pace.is_due(10, 60)
    pace.take(replace(first, done=4))
    assert pace.is_due(10, 60)
    pace.take(replace(first, done=5))
    now = 129.0
    assert not pace.is_due(10, 60)
    new = Pace(first, clock=lambda: now)
    now = 200.0
    assert not new.is_due(10, 60)


def test_a_thread_shows_the_last_of_what_came_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said, has_spoken = StringIO(), threading.Event()

    class Said(StringIO):
        def write(self, text: str) -> int:
            written = said.write(text)
            if text:  # click probes the stream with an empty one
                has_spoken.set()
            return written

    monkeypatch.setattr(sys, "stderr", Said())
    with shown() as watch:
        for done in range(9):
            watch.progress(replace(TESTING, done=done))
        monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
        assert has_spoken.wait(60)
        assert said.getvalue() == "testing  8/20 images\n"
        watch.progress(replace(TESTING, done=9))
    assert said.getvalue() == "testing  8/20 images\n"  # a minute has not passed
    assert threads() == []


def test_no_thread_is_left_once_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """So processes may be forked then, while the watcher is still open."""
    monkeypatch.setattr(sys, "stderr", StringIO())
    with shown() as watch:
        watch.progress(replace(TESTING, done=19))
        assert len(threads()) == 1
        watch.progress(replace(TESTING, doing="more", done=1))
        assert len(threads()) == 1
        watch.progress(replace(TESTING, doing="more", done=20))
        assert threads() == []


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_on_a_terminal_a_line_moves(width: int) -> None:
    file = StringIO()
    console = Console(
        file=file, force_terminal=True, width=width, height=24, _environ={"TERM": "xterm"}
    )
    watch = Shown(console)
    watch.progress(replace(TESTING, done=7, details=("error 28.57%",)))
    watch.close()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", plain) if line]
    assert lines[0] == "testing"
    assert lines[-1].endswith("7/20 images  error 28.57%")
    assert all(len(line) <= width for line in lines)
    assert file.getvalue().endswith("\x1b[2K")  # the line is gone


MESSAGES = """
import logging, signal, sys, time, warnings
import click
from vggspec.base import interrupt
from tests.cli.terminals import on_terminal, seen
from vggspec.base.watcher import Progress
from vggspec.cli.building import WithLog
from vggspec.cli.progress import shown
from vggspec.cli.streams import standard_streams
from vggspec.cli.terminal import complain, say, tell

def work():
    standard_streams()
    with shown() as watch:
        watch.progress(Progress(doing="testing", done=3, total=20, unit="images"))
        time.sleep(0.3)
        {act}
        time.sleep(0.3)
    return 0
interrupt.run(work)
"""


@pytest.mark.parametrize(
    ("act", "line"),
    [
        ("watch.note('a note')", "note:   a note"),
        ("watch.about('cost', 'a fact')", "cost:   a fact"),
        ("WithLog(watch, 1).log(2, 'a message')", "TensorRT warning: a message"),
        ("say('note', 'a note')", "note:   a note"),
        ("tell('a message')", "a message"),
        ("complain('a reason')", "error: a reason"),
        ("click.echo('a message', err=True)", "a message"),
        ("logging.warning('a message')", "WARNING:root:a message"),
        ("warnings.warn('a message')", "<string>:17: UserWarning: a message"),
        ("print('a message', file=sys.stderr)", "a message"),
    ],
)
def test_a_message_begins_on_a_line_of_its_own(act: str, line: str) -> None:
    text, _ = on_terminal(MESSAGES.format(act=act))
    lines = seen(text)
    assert line in lines
    assert any(each.endswith("testing  3/20 images") for each in lines[: lines.index(line)])
    assert text.endswith("\x1b[2K")


def test_a_second_ctrl_c_clears_the_line() -> None:
    twice = "[signal.raise_signal(signal.SIGINT) for interrupt.ECHO_S in (0, 0)]"
    held = MESSAGES.replace("def work", "@interrupt.held\ndef work")
    text, _ = on_terminal(held.format(act=twice), code=130)
    assert seen(text)[-1] == "interrupted"
    assert text.endswith("\x1b[2K\x1b[?25hinterrupted\r\n")


def test_lines_of_a_note_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as watch:
        watch.note("it has learned nothing; try\n  a lower rate\n  another start")
    assert capsys.readouterr().err == (
        "note:   it has learned nothing; try\n  a lower rate\n  another start\n"
    )


def test_durations_are_short() -> None:
    assert [duration(s) for s in (8.4, 119, 7500, 3e5)] == ["8 s", "2 min", "2 h 05", "3 d 11 h"]
    assert [duration(s) for s in (99.6, 3599, 47.999 * 3600)] == ["2 min", "1 h 00", "2 d 0 h"]


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "progress"]
