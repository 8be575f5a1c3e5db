"""Which rows a hash may lead to: hashes kept in the file by the thousand, and in memory as little as may be of them.

An index of SQLite's over hashes is read and written all over the place: from some hundred thousand rows on, each new
one costs a page of its own in the log, and again in the database. Here a thousand new ones cost one row.

Most hashes that are asked for are new, and a filter of fixed size says so. Where it does not, the packs are read again;
and only where that is done too often, are hashes and rows held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Final

import apsw
import numpy as np

from powermem_cli.stores.sqlite_filter import Filter
from powermem_cli.stores.sqlite_numbers import ScopeNumbers
from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER, Packs, checksum_of
from powermem_cli.stores.sqlite_rows import count, in_chunks
from powermem_cli.stores.sqlite_runs import Integers, Run, Runs, rows_in

PACKED_AT: Final = 256  # hashes that are worth a pack; so few are kept in a table
HASHES_IN_A_PACK: Final = 1 << 16  # when all are packed anew
DAMAGED: Final = "a pack of hashes is not as it was written"
HASH_BYTES: Final = 16  # of which 8 are packed, and all of them compared by whoever reads the row
ENDS: Final = (1 << 18) - 1  # bits of a hash that are looked up first
SPREAD: Final = np.int64(-0x61C8864680B583EB)  # odd, and without a pattern: neighbours come far apart in all bits
READ_FOR_EACH: Final = 512  # packed hashes that are read again for each one asked for: a tenth of what a record takes
READ_AGAIN: Final = 8  # times: as long takes it to read and sort them all, and to hold them
FLIPPED: Final = {LEDGER: np.int64(0), DIGESTS: np.int64(-1)}  # bits of a hash in the filter, which has those of both


class Hashes(Packs):
    """All hashes of one store. A row that a hash leads to may be gone, or say something else: that is for the caller
    to see.
    """

    table: ClassVar[str] = "hashes"
    columns: ClassVar[Sequence[str]] = ("kind", "hashes", "led_to")

    def __init__(self) -> None:
        self._is_held = dict.fromkeys(FLIPPED, False)
        self._asked, self._read = dict.fromkeys(FLIPPED, 0), dict.fromkeys(FLIPPED, 0)
        super().__init__()

    @staticmethod
    def of_keys(keys: Sequence[bytes]) -> Integers:
        """What is packed of them, each of 16 bytes."""
        return np.frombuffer(b"".join(keys), "<i8").reshape(-1, HASH_BYTES // 8)[:, 0]

    @staticmethod
    def of_texts(digests: Sequence[bytes], whose: Sequence[ScopeNumbers]) -> Integers:
        """What is packed of the digests of texts: in its scope alone a text is known again, and what thousands of people
        say would lead to thousands of rows.
        """
        scopes = np.fromiter((number or 0 for one in whose for number in one), np.int64, 3 * len(whose)).reshape(-1, 3)
        mixed = np.zeros(len(whose), np.int64)
        for column in scopes.T:
            mixed = (mixed + column) * SPREAD
        return Hashes.of_keys(digests) ^ mixed

    def find(self, db: apsw.Connection, kind: int, wanted: Integers) -> list[int]:
        """The rows that any of these hashes, as `of_keys` or `of_texts` make them, may lead to."""
        if not len(wanted):
            return []
        with self._lock:
            self._refresh(db)
            known = self._not_new(kind, wanted)
            runs = self._held(db, kind, len(wanted), len(known))
        found = set(_read_again(db, kind, known)) if runs is None else rows_in(runs, known)
        if next(iter(db.execute("SELECT 1 FROM unpacked_hashes LIMIT 1")), None):
            for marks, some in in_chunks(wanted.tolist()):
                sql = f"SELECT led_to FROM unpacked_hashes WHERE kind = ? AND hash IN ({marks})"
                found.update(row for (row,) in db.execute(sql, (kind, *some)))
            if not all(isinstance(row, int) for row in found):
                raise apsw.CorruptError("a hash leads to what is no row")
        return sorted(found)

    @staticmethod
    def keep_all(db: apsw.Connection, kind: int, hashes: Integers, rows: Sequence[int]) -> None:
        """Let these hashes lead to these rows: many become a pack, few wait until they are many.

        In the transaction that writes the rows, and after all of its `find`.
        """
        if len(hashes) >= PACKED_AT:
            _pack(db, kind, hashes, rows)
            return
        new = zip(hashes.tolist(), rows, strict=True)
        db.executemany("INSERT OR IGNORE INTO unpacked_hashes VALUES (?, ?, ?)", [(kind, *pair) for pair in new])
        if count(db, "SELECT count(*) FROM unpacked_hashes WHERE kind = ?", (kind,)) >= PACKED_AT:
            waiting: Any = list(db.execute("SELECT hash, led_to FROM unpacked_hashes WHERE kind = ?", (kind,)))
            _pack(db, kind, [hash for hash, _ in waiting], [row for _, row in waiting])
            db.execute("DELETE FROM unpacked_hashes WHERE kind = ?", (kind,))

    def _not_new(self, kind: int, numbers: Integers) -> Integers:
        """Those that may be packed, in ascending order."""
        flipped = numbers ^ FLIPPED[kind]
        known = np.zeros(len(numbers), np.bool_)
        for one in self._filters:
            known |= one.may_hold(flipped)
        return np.sort(numbers[known])

    def _held(self, db: apsw.Connection, kind: int, asked: int, known: int) -> Sequence[Run] | None:
        """What is held in memory, or None if less time is lost by reading again."""
        self._asked[kind] += asked
        if known and not self._is_held[kind]:
            self._read[kind] += self._packed[kind]
            if self._read[kind] > READ_FOR_EACH * self._asked[kind] + READ_AGAIN * self._packed[kind]:
                self._is_held[kind] = True
                self._made = -1  # all again: this transaction may see fewer packs than were taken before
                self._refresh(db)
        return self._runs[kind].settle() if self._is_held[kind] else None

    def _forget(self) -> None:
        self._filters: list[Filter] = []
        self._packed = dict.fromkeys(FLIPPED, 0)
        self._runs = {kind: Runs() for kind in FLIPPED}

    def _take(self, _db: apsw.Connection, values: Sequence[Any]) -> None:
        kind, hashes, rows = values
        if kind not in FLIPPED:  # from an older program, that had the store open when a newer one packed it anew
            return
        numbers, led_to = _unpacked(hashes), _unpacked(rows)
        if len(numbers) != len(led_to):
            raise apsw.CorruptError(DAMAGED)
        if not self._filters or self._filters[-1].is_full:
            self._filters.append(Filter())
        self._filters[-1].add(numbers ^ FLIPPED[kind])
        self._packed[kind] += len(numbers)
        if self._is_held[kind]:
            self._runs[kind].take(numbers, led_to)


def _read_again(db: apsw.Connection, kind: int, wanted: Integers) -> Iterator[int]:
    """The rows that these hashes, in ascending order, lead to."""
    if not len(wanted):
        return
    ends = np.zeros(ENDS + 1, np.bool_)  # of hashes that are wanted: looked up much quicker than a hash is
    ends[wanted & ENDS] = True
    for number, hashes in db.execute("SELECT number, hashes FROM hashes WHERE kind = ?", (kind,)):
        packed = _unpacked(hashes)
        places = np.flatnonzero(ends[packed & ENDS])
        there = packed[places]
        places = places[wanted.take(np.searchsorted(wanted, there), mode="clip") == there]
        if len(places):
            ((checksum, rows),) = db.execute("SELECT checksum, led_to FROM hashes WHERE number = ?", (number,))
            if checksum_of((kind, hashes, rows)) != checksum:
                raise apsw.CorruptError(DAMAGED)
            yield from _unpacked(rows)[places].tolist()


def _unpacked(blob: Any) -> Integers:
    if not isinstance(blob, bytes) or len(blob) % 8:
        raise apsw.CorruptError(DAMAGED)
    return np.frombuffer(blob, "<i8")


def pack_anew(db: apsw.Connection) -> None:
    """Pack the hashes of every row there is, whatever was packed before."""
    db.execute("DELETE FROM hashes; DELETE FROM unpacked_hashes")
    for kind, sql in (
        (LEDGER, "SELECT number, key FROM ledger"),
        (DIGESTS, "SELECT id, digest, user, agent, run FROM memories"),
    ):
        rows = db.execute(sql)
        while some := list(islice(rows, HASHES_IN_A_PACK)):
            if not all(isinstance(hash, bytes) and len(hash) == HASH_BYTES for _, hash, *_ in some):
                raise apsw.CorruptError("a key of the ledger or a digest is not as it was written")
            led_to, hashes, *whose = zip(*some, strict=True)
            try:
                packed = Hashes.of_texts(hashes, [*zip(*whose, strict=True)]) if whose else Hashes.of_keys(hashes)
            except (TypeError, ValueError, OverflowError) as error:
                raise apsw.CorruptError("whose a memory is has been changed") from error
            _pack(db, kind, packed, led_to)


def _pack(db: apsw.Connection, kind: int, hashes: Integers | Sequence[int], rows: Sequence[int]) -> None:
    try:
        numbers = np.array(hashes, "<i8"), np.array(rows, "<i8")
    except (TypeError, ValueError, OverflowError) as error:
        raise apsw.CorruptError("a hash that waited to be packed is not as it was written") from error
    Hashes.keep(db, kind, *(part.tobytes() for part in numbers))
