"""kill -9 at any moment, run again: nothing lost, nothing doubled; and the harness would see it if it were otherwise."""

from __future__ import annotations

import random

import pytest
from checker import check
from crash.kill import WITHOUT_LEDGER, Figures, Trial, many
from trials import a_seed


def test_two_kills_of_600_records_lose_and_double_nothing():
    figures = many(2, 600, a_seed(), per_trial=(2,), infer=False)
    assert figures.clean, figures
    assert figures.kills == 2


def test_without_the_ledger_one_kill_is_found_out(tmp_path):
    trial = Trial(tmp_path, 1500, random.Random(1), WITHOUT_LEDGER, shapes=((4, 64),))
    figures = Figures()
    trial.kill(figures, lines=300)
    assert (figures.kills, figures.broken_promises) == (1, 0)
    trial.end(figures)
    assert figures.doubled > 0
    assert check(trial.powermem.database, trial.said, trial.input).doubled


def test_without_the_ledger_and_without_a_kill_there_is_nothing_to_find(tmp_path):
    figures = Figures()
    Trial(tmp_path, 200, random.Random(2), WITHOUT_LEDGER).end(figures)
    assert figures.clean, figures


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kills", "records", "infer"), [(50, 5000, True), (50, 30_000, True), (500, 2000, False)])
def test_many_kills_lose_and_double_nothing(kills, records, infer):
    figures = many(kills, records, a_seed(), infer=infer)
    print(figures)
    assert figures.clean, figures
    assert figures.kills == kills


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_without_the_ledger_random_kills_are_found_out():
    figures = many(50, 2000, a_seed(), WITHOUT_LEDGER)
    print(figures)
    assert figures.doubled > 0, figures
