"""Eight processes with jobs of their own write to one store, are killed and started again, while another one reads."""

from __future__ import annotations

import pytest
from crash.crowd import crowd
from trials import a_seed


@pytest.mark.timeout(300)  # a busy machine takes its time
def test_four_processes_for_a_moment():
    figures = crowd(4, 1.5, 100, a_seed())
    assert not figures.wrong, figures
    assert figures.reads
    assert figures.ended >= 4


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_eight_processes_for_a_minute():
    figures = crowd(8, 60, 200, a_seed())
    print(figures)
    assert not figures.wrong, figures
