"""Which rows a hash may lead to: hashes in sorted arrays in memory, kept in the file by the thousand.

An index of SQLite's over hashes is read and written all over the place: from some hundred thousand rows on, each new
one costs a page of its own in the log, and again in the database. Here a thousand new ones cost one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Final, NamedTuple

import apsw
import numpy as np
import numpy.typing as npt

from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER, Packs
from powermem_cli.stores.sqlite_rows import count, in_chunks

PACKED_AT: Final = 256  # hashes that are worth a pack; so few are kept in a table
HASHES_IN_A_PACK: Final = 1 << 16  # when all are packed anew
TAKEN_AT_ONCE: Final = 1 << 22  # that are sorted at once: a store of millions is read in a part of the time
LARGEST_RUN: Final = 1 << 18  # of merged ones: larger arrays, moved again and again, leave memory in pieces
HASH_BYTES: Final = 16  # of which 4 are compared here, and all of them by whoever reads the row
PLACE: Final = (1 << 24) - 1  # what stands in bits of a number that are not compared: sorted with it, in half the time

Integers = npt.NDArray[np.int64]
Compared = npt.NDArray[np.int32]


class Run(NamedTuple):
    """What is compared of hashes, in ascending order, and the row of each."""

    hashes: Compared
    rows: Integers


class Hashes(Packs):
    """All hashes of one store. A row that a hash leads to may be gone, or say something else: that is for the caller
    to see.
    """

    table: ClassVar[str] = "hashes"
    columns: ClassVar[Sequence[str]] = ("kind", "hashes", "led_to")

    def find(self, db: apsw.Connection, kind: int, wanted: Sequence[bytes]) -> list[int]:
        """The rows that any of these hashes (16 bytes each) may lead to."""
        if not wanted:
            return []
        numbers = _numbers(wanted)
        compared = np.sort(_compared(numbers))
        with self._lock:
            self._refresh(db)
            runs = self._runs[kind]
        found = {row for run in runs for row in _found(run, compared)}
        if next(iter(db.execute("SELECT 1 FROM unpacked_hashes LIMIT 1")), None):
            for marks, some in in_chunks(numbers.tolist()):
                sql = f"SELECT led_to FROM unpacked_hashes WHERE kind = ? AND hash IN ({marks})"
                found.update(row for (row,) in db.execute(sql, (kind, *some)))
            if not all(isinstance(row, int) for row in found):
                raise apsw.CorruptError("a hash leads to what is no row")
        return sorted(found)

    @staticmethod
    def keep_all(db: apsw.Connection, kind: int, hashes: Sequence[bytes], rows: Sequence[int]) -> None:
        """Let these hashes lead to these rows: many become a pack, few wait until they are many.

        In the transaction that writes the rows, and after all of its `find`.
        """
        if len(hashes) >= PACKED_AT:
            _pack(db, kind, _numbers(hashes), rows)
            return
        new = zip(_numbers(hashes).tolist(), rows, strict=True)
        db.executemany("INSERT OR IGNORE INTO unpacked_hashes VALUES (?, ?, ?)", [(kind, *pair) for pair in new])
        if count(db, "SELECT count(*) FROM unpacked_hashes WHERE kind = ?", (kind,)) >= PACKED_AT:
            waiting: Any = list(db.execute("SELECT hash, led_to FROM unpacked_hashes WHERE kind = ?", (kind,)))
            _pack(db, kind, [hash for hash, _ in waiting], [row for _, row in waiting])
            db.execute("DELETE FROM unpacked_hashes WHERE kind = ?", (kind,))

    def _forget(self) -> None:
        self._runs: dict[int, list[Run]] = {LEDGER: [], DIGESTS: []}
        self._new: dict[int, list[tuple[Integers, Integers]]] = {LEDGER: [], DIGESTS: []}  # packs as they were read
        self._number_new = 0

    def _take(self, _db: apsw.Connection, values: Sequence[Any]) -> None:
        kind, hashes, rows = values
        if len(hashes) != len(rows) or len(rows) % 8:
            raise apsw.CorruptError("a pack of hashes is not as it was written")
        self._new[kind].append((np.frombuffer(hashes, "<i8"), np.frombuffer(rows, "<i8")))
        self._number_new += len(rows) // 8
        if self._number_new >= TAKEN_AT_ONCE:
            self._took_all()

    def _took_all(self) -> None:
        for kind, new in self._new.items():
            if new:
                runs = [*self._runs[kind], _sorted(*map(np.concatenate, zip(*new, strict=True)))]
                while len(runs) > 1 and _are_worth_merging(*runs[-2:]):
                    last, before = runs.pop(), runs.pop()
                    runs.append(_merged(before, last))
                self._runs[kind], self._new[kind] = runs, []
        self._number_new = 0


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
    there = run.hashes.take(starts, mode="clip") == wanted  # few are, and often none
    ends = np.searchsorted(run.hashes, wanted[there], "right")
    for start, end in zip(starts[there].tolist(), ends.tolist(), strict=True):
        yield from run.rows[start:end].tolist()


def _numbers(hashes: Sequence[bytes]) -> Integers:
    return np.frombuffer(b"".join(hashes), "<i8").reshape(-1, HASH_BYTES // 8)[:, 0]


def pack_anew(db: apsw.Connection) -> None:
    """Pack the hashes of every row there is, whatever was packed before."""
    db.execute("DELETE FROM hashes; DELETE FROM unpacked_hashes")
    for kind, sql in ((LEDGER, "SELECT key, number FROM ledger"), (DIGESTS, "SELECT digest, id FROM memories")):
        rows = db.execute(sql)
        while some := list(islice(rows, HASHES_IN_A_PACK)):
            hashes, led_to = zip(*some, strict=True)
            if not all(isinstance(hash, bytes) and len(hash) == HASH_BYTES for hash in hashes):
                raise apsw.CorruptError("a key of the ledger or a digest is not as it was written")
            _pack(db, kind, _numbers(hashes), led_to)


def _pack(db: apsw.Connection, kind: int, hashes: Integers | Sequence[int], rows: Sequence[int]) -> None:
    try:
        numbers = np.array(hashes, "<i8"), np.array(rows, "<i8")
    except (TypeError, ValueError, OverflowError) as error:
        raise apsw.CorruptError("a hash that waited to be packed is not as it was written") from error
    Hashes.keep(db, kind, *(part.tobytes() for part in numbers))
