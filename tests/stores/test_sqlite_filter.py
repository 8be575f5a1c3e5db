"""The filter of hashes: what was added is known, and of what was not, no more is than its size promises."""

import numpy as np

from powermem_cli.stores.sqlite_filter import CAPACITY, Filter


def hashes(number, seed):
    return np.random.default_rng(seed).integers(-(1 << 63), (1 << 63) - 1, number, np.int64, endpoint=True)


def test_what_was_added_is_known_and_little_else():
    one = Filter()
    for seed in range(16):
        assert not one.is_full
        one.add(hashes(CAPACITY // 16, seed))
    assert one.is_full
    for seed in range(16):
        assert one.may_hold(hashes(CAPACITY // 16, seed)).all()
    mistaken = one.may_hold(hashes(1_000_000, 99)).mean()
    assert 3e-5 < mistaken < 2e-4


def test_an_empty_one_knows_nothing():
    assert not Filter().may_hold(hashes(10_000, 1)).any()
    assert Filter().may_hold(hashes(0, 1)).shape == (0,)


def test_every_bit_of_a_hash_counts():
    known = hashes(1, seed=7)
    one = Filter()
    one.add(known)
    assert not one.may_hold(known ^ np.left_shift(np.int64(1), np.arange(64))).any()
