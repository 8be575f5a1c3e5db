"""A few seeds of the simulated runner, some hundred in the long tests; more with `python tests/simulation/world.py`."""

from __future__ import annotations

from collections import Counter

import pytest
from simulation.world import simulate

from powermem_cli.plan import Plan

SEEDS = 18


def many(folder, seeds=SEEDS):
    """How the runs of all seeds ended."""
    endings: Counter[str] = Counter()
    for seed in range(seeds):
        root = folder / str(seed)
        root.mkdir()
        endings += simulate(seed, root).endings
    return endings


@pytest.mark.parametrize("seeds", [SEEDS, pytest.param(300, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
def test_nothing_is_lost_or_doubled_whatever_happens(tmp_path, seeds):
    endings = many(tmp_path, seeds)
    print(dict(endings))
    assert endings["killed"] > seeds / 2
    assert min(endings[name] for name in ("cancelled", "signal", "auth.invalid", "end")) > 0


def test_a_seed_tells_the_same_story_again(tmp_path):
    stories: list[list[str]] = [[], []]
    for name, story in zip("ab", stories, strict=True):
        (tmp_path / name).mkdir()
        simulate(7, tmp_path / name, story.append)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 5


def test_without_a_ledger_the_simulation_sees_what_is_doubled(tmp_path, monkeypatch):
    real = Plan.write
    monkeypatch.setattr(Plan, "write", lambda *arguments: real(*arguments)._replace(ledger=None))
    with pytest.raises(AssertionError, match=r"seed .*doubled"):
        many(tmp_path)
