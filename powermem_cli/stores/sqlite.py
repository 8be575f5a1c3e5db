"""Memories in one SQLite file: rows, vectors (sqlite-vec), full text (FTS5) and the ledger, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import apsw

if TYPE_CHECKING:
    from powermem_cli.stores.sqlite_reembed import NewVectors, Text
    from powermem_cli.stores.sqlite_signatures import Signatures

from powermem_cli.errors import ConfigError, StoreCorrupt, StoreError
from powermem_cli.model import HistoryEntry, Hit, Scope, StoredMemory, Vector
from powermem_cli.stores.base import (
    DAY,
    TYPICAL_LENGTH,
    Applied,
    Grouping,
    HistoryRow,
    LedgerRow,
    Snapshot,
    Where,
    Write,
    rarity,
)
from powermem_cli.stores.sqlite_connection import Connection, read_snapshot
from powermem_cli.stores.sqlite_counts import Counts
from powermem_cli.stores.sqlite_file import DAMAGED, Access, settle_file
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_moving import SqliteSnapshot, describe, history, restore
from powermem_cli.stores.sqlite_rows import (
    SELECT_MEMORY,
    count,
    memory_of,
    meta,
    meta_number,
    mismatch,
    quoted,
    user_number,
    user_prefix,
)
from powermem_cli.stores.sqlite_schema import is_current, prepare
from powermem_cli.stores.sqlite_where import compile_where
from powermem_cli.stores.sqlite_writer import Writer

T = TypeVar("T")

MOST_POSTINGS: Final = 10_000  # that are added up, or one for this
POSTINGS_OF: Final = 40  # many memories; what so many hold says little about any of them
ENOUGH: Final = 50  # hits by keywords; with fewer, what nearly all hold is asked for too
MOST_RANKED: Final = 2000  # memories whose length is looked up to rank them by keywords
FEW_PACKS: Final = 16  # that are not worth packing anew, and
MEMORIES_IN_A_PACK: Final = (
    512  # of more memories more: large files come in packs of 1,024, single ones in packs of 256
)
READERS: Final = 4  # connections that search while one writes; SQLite lets go of the GIL while it works
DEFAULT_COLLECTION: Final = "memories"


class SqliteStore:
    """A store in the file *path*, made when it is missing (with its folder, private to the user).

    A *collection_name* other than "memories" is a file of its own beside it: `powermem.db` → `powermem.notes.db`.
    With *access* "write" it must be there already; with "read" nothing is written to it, so it may be read-only.
    """

    takes_turns = True

    def __init__(self, path: str, collection_name: str = DEFAULT_COLLECTION, access: Access = "create") -> None:
        if not path or path == ":memory:":
            raise ConfigError("the SQLite store needs the path of a file", hint="set SQLITE_PATH or --db")
        if not collection_name or any(c in collection_name for c in "/\\\0"):
            raise ConfigError(f"{collection_name!r} can't be part of a file name", hint="change SQLITE_COLLECTION")
        self.path = Path(path).expanduser()
        if collection_name != DEFAULT_COLLECTION:
            self.path = self.path.with_name(f"{self.path.stem}.{collection_name}{self.path.suffix}")
        if access not in get_args(Access):
            raise ConfigError(f"access is create, write or read, not {access!r}", code="config.value")
        self._access = access
        self._is_open = False
        self._model: str | None = None
        self._writing: Connection | None = None
        self._finder = Finder()
        self._counts = Counts()
        self._writer = Writer(self.path, self._finder)
        self._signatures: Signatures | None = None
        self._idle: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Semaphore(READERS)  # of that loop

    async def open(self, model: str | None) -> None:
        settle_file(self.path, self._access)
        self._model, self._is_open = model, True
        try:
            if self._access != "read" or not await self._read(lambda db: is_current(db, self.path)):
                connection = self._writing = await Connection.opened(self.path)
                await connection.run(lambda db: prepare(db, self.path))
            made_by = await self._looking(lambda db: meta(db, "model"))
            if model is not None and made_by is not None and made_by != model:
                raise mismatch(self.path, str(made_by), model)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        connections = [*self._idle, *([self._writing] if self._writing is not None else [])]
        self._idle, self._writing, self._is_open = [], None, False
        for connection in connections:
            await connection.close()

    async def identity(self) -> str:
        return str(await self._read(lambda db: meta(db, "store_id")))

    async def apply(self, writes: Sequence[Write]) -> list[Applied]:
        return await self._write(lambda db: self._writer.apply(db, writes, self._model))

    async def known(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
        found = await self._looking(lambda db: self._finder.ledger(db, keys))
        return {key: row for key, (_, row) in found.items()}

    async def find(self, where: Where, *, limit: int, offset: int = 0, after: int | None = None) -> list[StoredMemory]:
        condition, values = compile_where(where)
        if after is not None:
            condition, values = f"{condition} AND m.id > ?", (*values, after)
        sql = f"{SELECT_MEMORY} WHERE {condition} ORDER BY m.id LIMIT ? OFFSET ?"
        return await self._read(lambda db: [memory_of(row) for row in db.execute(sql, (*values, limit, offset))])

    async def count(self, where: Where) -> int:
        condition, values = compile_where(where)
        return await self._read(lambda db: count(db, f"SELECT count(*) FROM memories m WHERE {condition}", values))

    async def tally(self, by: Grouping, where: Where) -> dict[str | int | None, int]:
        condition, values = compile_where(where)
        # A day begins at midnight before 1970, too: the remainder of a negative number is negative here.
        column = f"(m.created_at - (m.created_at % {DAY} + {DAY}) % {DAY}) / {DAY}" if by == "day" else f"m.{by[:-3]}"
        name = "g" if by == "day" else "(SELECT name FROM names WHERE number = g)"
        sql = (
            f"SELECT {name}, n FROM (SELECT {column} AS g, count(*) AS n FROM memories m WHERE {condition} GROUP BY g)"
        )
        return await self._read(lambda db: dict(db.execute(sql, values)))

    async def delete(self, where: Where) -> int:
        return await self._write(lambda db: self._writer.delete(db, where))

    async def expire(self) -> int:
        return await self._write(self._writer.expire)

    async def history(self, id: int, scope: Scope) -> list[HistoryEntry]:
        return await self._read(lambda db: history(db, id, scope))

    async def nearest(self, vector: Vector, where: Where, *, limit: int) -> list[Hit]:
        if not vector or limit <= 0:
            return []

        def work(db: apsw.Connection) -> list[Hit]:
            self._check_kind(db, vector)
            from powermem_cli.stores.sqlite_signatures import Signatures, nearest  # noqa: PLC0415 - it loads numpy

            if self._signatures is None:
                self._signatures = Signatures()
            rows = nearest(db, self._signatures, vector, where, limit)
            if any(distance is None for _, distance in rows):
                raise StoreCorrupt(f"{self.path} is damaged: a vector is none", hint=DAMAGED)
            # Vectors have length 1, so the cosine follows from the distance.
            return [Hit(id, 1 - distance * distance / 2) for id, distance in rows]

        return await self._read(work)

    async def matching(self, terms: Sequence[str], where: Where, *, limit: int) -> list[Hit]:
        if not terms or limit <= 0:
            return []
        condition, values = compile_where(where)
        user = where.scope.user_id

        def work(db: apsw.Connection) -> list[Hit]:
            total, prefix = self._counts.total(db, user), _prefix(db, user)

            def best(held: Mapping[str, int], ranked: int | None) -> list[Any]:
                if not held:
                    return []
                postings = [part for term, n in held.items() for part in (rarity(n, total), quoted(prefix, term))]
                return list(db.execute(_matching(len(held), condition, ranked), (*postings, *values, limit)))

            if not _narrows(where):  # a filter may leave few of the best
                most, ranked = max(MOST_POSTINGS, total // POSTINGS_OF), max(MOST_RANKED, limit)
                counted = self._counts.holding(db, terms, prefix, most + 1)
                held = _rarest(counted, most)
                rows = best(held, ranked)
                # Where the rank ended, those behind it may be what is left: others may have expired.
                if len(rows) >= min(limit, ENOUGH) or (len(held) == len(counted) and sum(held.values()) <= ranked):
                    return [Hit(id, score) for id, score in rows]
            held = {term: number for term, number in self._counts.holding(db, terms, prefix).items() if number}
            return [Hit(id, score) for id, score in best(held, None)]

        return await self._read(work)

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        def work(db: apsw.Connection) -> tuple[dict[str, int], int]:
            return self._counts.holding(db, terms, _prefix(db, user_id)), self._counts.total(db, user_id)

        return await self._read(work)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._reader() as connection:
            try:  # cancelled while it begins, it begins all the same
                await connection.run(lambda db: db.execute("BEGIN; SELECT name FROM meta").fetchall())  # looks at once
                yield SqliteSnapshot(connection)
            finally:
                await connection.run(lambda db: db.execute("ROLLBACK") if db.in_transaction else None)

    async def restore(self, ledger: Sequence[LedgerRow], history: Sequence[HistoryRow]) -> int:
        return await self._write(lambda db: restore(db, self._finder, ledger, history))

    async def optimize(self) -> bool:
        """Pack anew what came in many small packs, and merge the parts of the full text."""
        from powermem_cli.stores.sqlite_scrub import drop_from_indexes  # noqa: PLC0415 - no other work needs it

        def work(db: apsw.Connection) -> bool:
            packs = count(db, "SELECT count(*) FROM signatures", ())
            if packs <= FEW_PACKS + meta_number(db, "memories") // MEMORIES_IN_A_PACK:
                return False
            drop_from_indexes(db)
            return True

        return await self._write(work)

    async def describe(self) -> dict[str, Any]:
        return await self._read(lambda db: describe(db, self.path))

    async def copy_to(self, partial: Path) -> None:
        """Copy all pages as they are at one moment into that file, which is there and empty."""
        from powermem_cli.stores.sqlite_backup import copy_pages  # noqa: PLC0415 - no other work needs it

        await self._read(lambda db: copy_pages(db, partial))

    async def model(self) -> str | None:
        """Whose vectors there are; None if there are none."""
        return await self._read(lambda db: meta(db, "model"))

    async def without_vector(self, new: NewVectors, limit: int) -> list[Text]:
        """Memories that *new* has no vector for, *limit* at most."""
        return await self._read(lambda db: new.missing(db, limit))

    async def replace_vectors(self, new: NewVectors, model: str) -> bool:
        """All vectors by those of another model, in one transaction; False, and nothing is done, if some are missing."""
        return await self._write(lambda db: new.put_in(db, model))

    async def scrub(self) -> None:
        """Make the file anew, so that nothing of what was deleted is left in it. Searches go on meanwhile."""
        from powermem_cli.stores import sqlite_scrub  # noqa: PLC0415 - no other work needs it

        await self._write(sqlite_scrub.drop_from_indexes)
        assert self._writing is not None  # or nothing could have been written
        await self._writing.run(sqlite_scrub.rebuild)

    async def verify(self) -> list[str]:
        """What is wrong with the file, a sentence for each; none if nothing is."""
        from powermem_cli.stores.sqlite_verify import problems  # noqa: PLC0415 - no other work needs it

        return await self._read(problems)

    def _check_kind(self, db: apsw.Connection, vector: Vector) -> None:
        """Another process may have embedded all memories anew since this store was opened."""
        dims, made_by = meta(db, "dims"), meta(db, "model")
        if None not in {dims, made_by, self._model} and made_by != self._model:
            raise mismatch(self.path, str(made_by), str(self._model))
        if dims is not None and int(dims) * 4 != len(vector):
            raise mismatch(self.path, f"{made_by}, {dims} dimensions", f"{len(vector) // 4} dimensions")

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        def transaction(db: apsw.Connection) -> T:
            # IMMEDIATE: a read that turns into a write fails at once when another process was first.
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                self._writer.forget()
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return result

        self._require_open()
        if self._writing is None:
            raise StoreError(f"{self.path} was opened only for reading", code="store.permission")
        return await self._writing.run(transaction)

    async def _looking(self, work: Callable[[apsw.Connection], T]) -> T:
        """On the writing connection, if there is one: its cache holds the ledger, and an ingestion needs no other."""
        self._require_open()
        if self._writing is None:
            return await self._read(work)
        return await self._writing.run(lambda db: read_snapshot(db, self.path, work))

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        async with self._reader() as connection:
            return await connection.run(lambda db: read_snapshot(db, self.path, work))

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[Connection]:
        """An idle read connection, or a new one while there are few."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._turns = loop, asyncio.Semaphore(READERS)
        async with self._turns:
            self._require_open()
            connection = self._idle.pop() if self._idle else await Connection.opened(self.path, readonly=True)
            try:
                yield connection
            except StoreError:  # what is wrong may be wrong with the connection
                await connection.close()
                raise
            finally:
                if not self._is_open:  # closed meanwhile
                    await connection.close()
                elif connection.is_open:
                    self._idle.append(connection)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreError(
                f"{self.path} is not open", hint="await initialize(), or use `async with`", code="store.closed"
            )


def _narrows(where: Where) -> bool:
    """Whether a user's memories, or all, are not nearly all that it leaves."""
    scope = where.scope
    return any(part is not None for part in (where.filter, where.ids, scope.agent_id, scope.run_id))


OF_NOBODY_KNOWN: Final = "x·"  # else it is a number that stands there


def _prefix(db: apsw.Connection, user_id: str | None) -> str:
    """What stands before the terms of that user's memories; of a user who is not known, before none."""
    if user_id is None:
        return ""
    number = user_number(db, user_id)
    return OF_NOBODY_KNOWN if number is None else user_prefix(number)


def _rarest(holding: Mapping[str, int], most: int) -> dict[str, int]:
    """Of terms and the numbers of memories that hold them those that are worth most, up to *most* together."""
    some: set[str] = set()
    postings = 0
    for term, number in sorted(holding.items(), key=lambda pair: pair[1]):
        postings += number
        if postings > most:
            break
        some.add(term)
    return {term: number for term, number in holding.items() if term in some and number}


def _matching(terms: int, condition: str, ranked: int | None) -> str:
    """The statement that adds up, per memory, what its terms are worth: base.py says why each part is there.

    Of more than *ranked* memories only those are ranked whose terms are worth most, the newest of equals.
    """
    most = "" if ranked is None else f"ORDER BY worth DESC, id DESC LIMIT {ranked}"
    each = " UNION ALL ".join(["SELECT rowid AS id, ? AS worth FROM words WHERE words MATCH ?"] * terms)
    return f"""
        SELECT m.id, t.worth * 2.2 / (1 + 1.2 * (0.25 + 0.75 * m.length / {TYPICAL_LENGTH})) AS score
        FROM (SELECT id, sum(worth) AS worth FROM ({each}) GROUP BY id {most}) t CROSS JOIN memories m ON m.id = t.id
        WHERE {condition} ORDER BY score DESC, m.id LIMIT ?"""
