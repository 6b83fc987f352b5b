"""How far work has come is told seldom, and what is left only once the pace is known."""

from vggspec.cli.pacing import Pace


def test_the_pace_is_that_of_this_time() -> None:
    now = 100.0
    pace = Pace(doing="testing", total=20, nouns="images", before=1, clock=lambda: now)
    now = 102.0
    assert pace.text(5) == "testing  5/20 images"  # too early to tell
    now = 110.0
    line = "testing  5/20 images  error 20.00%  0.400 images/s  38 s left"
    assert pace.text(5, "error 20.00%", "") == line
    assert pace.text(1) == "testing  1/20 images"
    fast = Pace(doing="", total=10**6, nouns="fits", clock=lambda: now)
    now = 120.0
    assert fast.text(2500) == "2500/1000000 fits  250 fits/s  1 h 06 left"
    assert fast.text(250) == "250/1000000 fits  25.0 fits/s  11 h 06 left"


def test_what_does_not_fit_is_left_out() -> None:
    now = 0.0
    pace = Pace(doing="testing", total=20, nouns="images", clock=lambda: now)
    now = 10.0
    whole = "testing  4/20 images  error 25.00%  0.400 images/s  40 s left"
    assert pace.text(4, "error 25.00%", width=len(whole)) == whole
    without_speed = "testing  4/20 images  error 25.00%  40 s left"
    assert pace.text(4, "error 25.00%", width=len(whole) - 1) == without_speed
    assert pace.text(4, "error 25.00%", width=30) == "4/20 images  40 s left"


def test_it_is_said_seldom() -> None:
    now = 0.0
    pace = Pace(doing="", total=20, nouns="images", clock=lambda: now)
    assert not pace.is_due(10, 60)
    now = 10.0
    assert [pace.is_due(10, 60), pace.is_due(10, 60)] == [True, False]
    now = 69.0
    assert not pace.is_due(10, 60)
    now = 70.0
    assert pace.is_due(10, 60)
