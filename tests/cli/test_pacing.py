"""How far work has come is told seldom, and what is left only once the pace is known."""

import sys
import threading
from io import StringIO

import pytest

from vggspec.cli import pacing
from vggspec.cli.pacing import Pace


def test_the_pace_is_that_of_this_time() -> None:
    now = 100.0
    pace = Pace(doing="testing", total=20, nouns="images", before=1, clock=lambda: now)
    now = 102.0
    pace.note(5)
    assert pace.text() == "testing  5/20 images"  # too early to tell
    now = 110.0
    pace.note(5, "error 20.00%", "")
    assert pace.text() == "testing  5/20 images  error 20.00%  0.400 images/s  38 s left"
    fast = Pace(doing="", total=10**6, nouns="fits", clock=lambda: now)
    now = 120.0
    fast.note(2500)
    assert fast.text() == "2500/1000000 fits  250 fits/s  1 h 06 left"
    fast.note(250)
    assert fast.text() == "250/1000000 fits  25.0 fits/s  11 h 06 left"


def test_while_nothing_gets_done_the_pace_stays_and_time_goes_on() -> None:
    now = 0.0
    pace = Pace(doing="testing", total=20, nouns="images", clock=lambda: now)
    assert pace.text() == "testing  0/20 images"
    now = 10.0
    for done in range(1, 11):
        pace.note(done)
    now = 14.0
    assert pace.text() == "testing  10/20 images  1.0 images/s  6 s left"
    now = 30.0
    assert pace.text() == "testing  10/20 images  1.0 images/s  0 s left"


def test_what_does_not_fit_is_left_out() -> None:
    now = 0.0
    pace = Pace(doing="testing", total=20, nouns="images", clock=lambda: now)
    now = 10.0
    pace.note(4, "error 25.00%")
    whole = "testing  4/20 images  error 25.00%  0.400 images/s  40 s left"
    assert pace.text(len(whole)) == whole
    assert pace.text(len(whole) - 1) == "testing  4/20 images  error 25.00%  40 s left"
    assert pace.text(30) == "4/20 images  40 s left"


def test_it_is_said_seldom_and_where_it_is_news() -> None:
    now = 0.0
    pace = Pace(doing="", total=20, nouns="images", before=2, clock=lambda: now)
    pace.note(3)
    assert not pace.is_due(10, 60)
    now = 10.0
    assert [pace.is_due(10, 60), pace.is_due(10, 60)] == [True, False]
    now = 70.0
    assert not pace.is_due(10, 60)
    pace.note(4)
    assert pace.is_due(10, 60)
    pace.note(5)
    now = 129.0
    assert not pace.is_due(10, 60)
    new = Pace(doing="", total=20, nouns="images", before=2, clock=lambda: now)
    now = 200.0
    assert not new.is_due(10, 60)


def test_a_thread_says_the_last_of_what_came_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said, has_spoken = StringIO(), threading.Event()

    class Said(StringIO):
        def write(self, text: str) -> int:
            written = said.write(text)
            has_spoken.set()
            return written

    monkeypatch.setattr(sys, "stderr", Said())
    with pacing.pacing("testing", 20, "images") as show:
        for done in range(1, 9):
            show(done)
        monkeypatch.setattr(pacing, "FIRST_LINE_S", 0.0)
        assert has_spoken.wait(60)
        assert said.getvalue() == "testing  8/20 images\n"
        show(9)
    assert said.getvalue() == "testing  8/20 images\n"  # a minute has not passed
    assert not [one for one in threading.enumerate() if one.name == "pacing"]
