"""Four processes and one job, as a measurement of how soon three of them step back: no verdict by the clock here."""

from __future__ import annotations

import pytest
from crash.locked import LOSERS, rounds


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_one_runs_and_the_others_step_back(number):
    times, wrong = rounds(number)
    assert wrong == []
    assert len(times) == LOSERS * number
    print(f"{len(times)} stepped back, at most {max(times):.0f} ms after their start-up")
