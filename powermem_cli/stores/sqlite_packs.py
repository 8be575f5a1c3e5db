"""Rows that are kept by the thousand in one row of a table, never changed, and read into memory only once."""

from __future__ import annotations

import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import apsw

from powermem_cli.stores.sqlite_rows import meta_number

LEDGER: Final = 0  # hashes that are keys of the ledger lead to ledger.number,
DIGESTS: Final = 2  # digests of texts, each in its scope, to memories.id; of kind 1, they stood there without it


class Packs(ABC):
    """What the packs in a *table* hold, of which others may add more at any time. Its *columns* are blobs, but for the
    first of them perhaps.

    Safe to use from several threads: what needs the lock is called with it.
    """

    table: ClassVar[str]
    columns: ClassVar[Sequence[str]]

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made = -1  # how often all were packed anew
        self._last = -1  # number of the pack read last
        self._forget()

    def _refresh(self, db: apsw.Connection) -> None:
        """Read what this transaction sees and is not held yet. What others added meanwhile may be held already."""
        made = meta_number(db, "packings")
        if made < self._made:  # it began before that: its packs are not numbered like those held
            return
        if made > self._made:
            self._forget()
            self._made, self._last = made, -1
        sql = f"SELECT number, checksum, {', '.join(self.columns)} FROM {self.table} WHERE number > ? ORDER BY number"
        for number, checksum, *values in db.execute(sql, (self._last,)):
            if checksum_of(values) != checksum:
                raise apsw.CorruptError(f"a row of {self.table} is not as it was written")
            self._take(db, values)
            self._last = number
        self._took_all()

    @abstractmethod
    def _forget(self) -> None:
        """Hold nothing; not in place, since somebody may be reading what is held."""

    @abstractmethod
    def _take(self, db: apsw.Connection, values: Sequence[Any]) -> None:
        """Hold one more pack, given as its *columns*."""

    def _took_all(self) -> None:  # noqa: B027 - not all have something left to do
        """What this transaction sees has been taken."""

    @classmethod
    def keep(cls, db: apsw.Connection, *values: Any) -> None:
        """Add a pack, in the caller's transaction."""
        names, marks = ", ".join(cls.columns), ", ".join("?" * len(values))
        sql = f"INSERT INTO {cls.table} (checksum, {names}) VALUES (?, {marks})"
        db.execute(sql, (checksum_of(values), *values))


def checksum_of(values: Sequence[Any]) -> int:
    """CRC-32 of all of them: what leads to a record may not be wrong without anybody noticing."""
    checksum = 0
    for value in values:
        checksum = zlib.crc32(value if isinstance(value, bytes) else str(value).encode(), checksum)
    return checksum


def were_packed_anew(db: apsw.Connection) -> None:
    """From now on, packs are numbered from the beginning: whoever holds some reads all of them again."""
    db.execute("INSERT INTO meta VALUES ('packings', 1) ON CONFLICT DO UPDATE SET value = value + 1")
