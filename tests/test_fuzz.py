"""Seconds of every fuzzer, always on the same inputs; ``make fuzz`` tries others."""

import pytest

from tests.fuzz import harness

CASES = 60


@pytest.mark.parametrize("name", harness.names())
def test_damaged_and_hostile_input_is_answered(name: str) -> None:
    outcome = harness.run(name, iter(range(CASES)))
    assert not outcome.failures, next(iter(outcome.failures.values()))
    assert len(outcome.answers) > 1, "all inputs are answered alike: the target tries nothing"
