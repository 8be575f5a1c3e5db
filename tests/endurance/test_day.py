"""The day, for two minutes."""

from __future__ import annotations

import pytest
from endurance.day import endure
from trials import a_seed


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_minutes_of_a_day():
    figures = endure(2 / 60, 58, 0.05, a_seed())
    print(figures)
    assert not figures.wrong, figures
    assert figures.faults
