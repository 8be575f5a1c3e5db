"""Ids for memories on a server that many processes write to at once, without asking it."""

from __future__ import annotations

import secrets
from typing import Final

from powermem_cli import times

EPOCH_MS: Final = 1_577_836_800_000  # 2020
BITS: Final = 20


class IdSource:
    """Numbers that grow with time: milliseconds since 2020 above 20 bits that start at random and count on.

    Two processes may give the same number in one millisecond. The primary key notices, and the transaction is
    tried again with others.
    """

    def __init__(self) -> None:
        self._last = 0

    def take(self) -> int:
        moment = times.now() // 1000 - EPOCH_MS
        if moment > self._last >> BITS:
            self._last = moment << BITS | secrets.randbits(BITS)
        else:
            self._last += 1
        return self._last


class Numbering:
    """The ids of one batch: each attempt at it is given the same ones, in the same order, until they are renewed."""

    def __init__(self, source: IdSource) -> None:
        self._source = source
        self._taken: list[int] = []
        self._used = 0

    def begin(self, *, renew: bool) -> None:
        self._used = 0
        if renew:
            self._taken.clear()

    def take(self) -> int:
        if self._used == len(self._taken):
            self._taken.append(self._source.take())
        self._used += 1
        return self._taken[self._used - 1]
