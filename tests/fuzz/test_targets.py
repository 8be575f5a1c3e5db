"""Every fuzz target on a few hundred inputs; hours of them are `python tests/fuzz/run.py`."""

from __future__ import annotations

from itertools import islice

import pytest
from fuzz.mutate import mutated
from fuzz.targets import TARGETS

RUNS = 300


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_keeps_its_promises(name):
    target = TARGETS[name]
    for seed in target.seeds:
        target.check(seed)
    for data in islice(mutated(target.seeds, target.tokens, 20260301), RUNS):
        target.check(data)


def test_the_mutator_makes_the_same_of_the_same_seed():
    one, other = (list(islice(mutated([b"seed"], [b"token"], 7), 50)) for _ in range(2))
    assert one == other
    assert len(set(one)) > 30
