"""What a run reports about its speed and the time left."""

import pytest

from tests.training.folders import tiny
from vggspec.base.diagnostic import VggspecError
from vggspec.training.meter import Meter
from vggspec.training.ranks import Ranks
from vggspec.training.state import TrainState


def diverged(step: int) -> VggspecError:
    raise AssertionError(step)


def test_the_time_left_of_a_resumed_run_starts_from_its_pace_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took 10 s a step before, and 1 s a step now."""
    now = 5000.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    state = TrainState.at_start(tiny().experiment.train)
    state.step, state.seconds = 100, 1000.0
    meter = Meter(state, 1100, Ranks(), diverged)
    assert meter.look().left_s == pytest.approx(10 * 1000)
    now, state.step = 5060.0, 160  # as long as the pace before counts
    assert meter.look().left_s == pytest.approx(120 / 66 * 940)
    now, state.step = 5600.0, 700
    assert meter.look().left_s == pytest.approx(660 / 606 * 400)
    assert meter.seconds() == 1600.0
    now, state.step = 6100.0, 1103  # an epoch that began before an end that was changed
    assert meter.look().left_s == 0


def test_the_time_left_of_a_new_run_follows_from_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5000.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    state = TrainState.at_start(tiny().experiment.train)
    meter = Meter(state, 1100, Ranks(), diverged)
    now, state.step = 5020.0, 10
    assert meter.look().left_s == pytest.approx(2 * 1090)
