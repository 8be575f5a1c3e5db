"""Hashes in sorted arrays, each with the row it leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

TAKEN_AT_ONCE: Final = 1 << 22  # that are sorted at once: millions are read in a part of the time
LARGEST_RUN: Final = 1 << 18  # of merged ones: larger arrays, moved again and again, leave memory in pieces
PLACE: Final = (1 << 24) - 1  # what stands in bits of a number that are not compared: sorted with it, in half the time

Integers = npt.NDArray[np.int64]
Compared = npt.NDArray[np.int32]


class Run(NamedTuple):
    """What is compared of hashes, their highest 32 bits, in ascending order, and the row of each."""

    hashes: Compared
    rows: Integers


class Runs:
    """Hashes as they are taken: a few runs, of which the largest was sorted first."""

    def __init__(self) -> None:
        self._runs: Sequence[Run] = ()
        self._new: list[tuple[Integers, Integers]] = []
        self._number_new = 0

    def take(self, hashes: Integers, rows: Integers) -> None:
        """Hold these too, from the next `settle` on."""
        self._new.append((hashes, rows))
        self._number_new += len(rows)
        if self._number_new >= TAKEN_AT_ONCE:
            self.settle()

    def settle(self) -> Sequence[Run]:
        """All that was taken; what is returned stays as it is."""
        if self._new:
            runs = [*self._runs, _sorted(*map(np.concatenate, zip(*self._new, strict=True)))]
            while len(runs) > 1 and _are_worth_merging(*runs[-2:]):
                last, before = runs.pop(), runs.pop()
                runs.append(_merged(before, last))
            self._runs, self._new, self._number_new = runs, [], 0
        return self._runs


def rows_in(runs: Sequence[Run], wanted: Integers) -> set[int]:
    """The rows that any of these hashes, in ascending order, may lead to."""
    compared = _compared(wanted)
    return {row for run in runs for row in _found(run, compared)}


def _are_worth_merging(before: Run, last: Run) -> bool:
    """Of runs that grow like powers of two there are few, and no hash is moved more often than that."""
    return len(before.rows) <= 2 * len(last.rows) and len(before.rows) + len(last.rows) <= LARGEST_RUN


def _sorted(hashes: Integers, rows: Integers) -> Run:
    places = (hashes & ~PLACE) | np.arange(len(hashes))  # fewer than PLACE: TAKEN_AT_ONCE, and a pack
    places.sort()
    return Run(_compared(places), rows[places & PLACE])


def _compared(numbers: Integers) -> Compared:
    return (numbers >> 32).astype(np.int32)


def _merged(before: Run, last: Run) -> Run:
    number = len(before.rows) + len(last.rows)
    places = np.searchsorted(before.hashes, last.hashes, "right") + np.arange(len(last.rows))
    is_before = np.ones(number, np.bool_)
    is_before[places] = False
    both = Run(np.empty(number, np.int32), np.empty(number, np.int64))
    both.hashes[is_before], both.hashes[places] = before.hashes, last.hashes
    both.rows[is_before], both.rows[places] = before.rows, last.rows
    return both


def _found(run: Run, wanted: Compared) -> Iterator[int]:
    starts = np.searchsorted(run.hashes, wanted)
    there = run.hashes.take(starts, mode="clip") == wanted
    ends = np.searchsorted(run.hashes, wanted[there], "right")
    for start, end in zip(starts[there].tolist(), ends.tolist(), strict=True):
        yield from run.rows[start:end].tolist()
