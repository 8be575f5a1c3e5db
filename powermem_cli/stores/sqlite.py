"""Memories in one SQLite file: rows, vectors (sqlite-vec), full text (FTS5) and the ledger, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import apsw

if TYPE_CHECKING:
    from powermem_cli.stores.sqlite_reembed import NewVectors, Text
    from powermem_cli.stores.sqlite_signatures import Signatures

from powermem_cli.errors import ConfigError, StoreCorrupt, StoreError
from powermem_cli.model import HistoryEntry, Hit, Scope, StoredMemory, Vector, hits_of
from powermem_cli.stores import sqlite_exact
from powermem_cli.stores.base import (
    DAY,
    Applied,
    BlockWrite,
    Grouping,
    HistoryRow,
    Judgement,
    Judging,
    LedgerRow,
    Part,
    Sides,
    Snapshot,
    Where,
    Write,
)
from powermem_cli.stores.sqlite_connection import Connection, read_snapshot
from powermem_cli.stores.sqlite_counts import Counts, prefix_of
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
)
from powermem_cli.stores.sqlite_schema import is_current, prepare
from powermem_cli.stores.sqlite_where import compile_where
from powermem_cli.stores.sqlite_writer import Writer

T = TypeVar("T")

FEW_PACKS: Final = 16  # that are not worth packing anew, and one more
ROWS_IN_A_PACK: Final = 512  # for so many rows: large files come in packs of 1,024, single records in packs of 256
SEARCHES_WITHOUT_NUMPY: Final = 8  # two or three questions: who asks more often is served faster with it
LOOKED_AT: Final = 10_000  # memories: in less time than numpy takes to load
READERS: Final = 4  # connections that search while one writes; SQLite lets go of the GIL while it works
DEFAULT_COLLECTION: Final = "memories"


class SqliteStore:
    """A store in the file *path*, made when it is missing (with its folder, private to the user).

    A *collection_name* other than "memories" is a file of its own beside it: `powermem.db` → `powermem.notes.db`.
    With *access* "write" it must be there already; with "read" nothing is written to it, so it may be read-only.
    """

    writes_at_once = 4096  # the larger, the fewer pages of indexes each costs; so many take a third of a second
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
        self._without_numpy = SEARCHES_WITHOUT_NUMPY
        self._one_at_a_time = threading.Lock()
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

    async def apply(self, writes: Sequence[Write | BlockWrite]) -> list[Applied]:
        return await self._write(lambda db: self._writer.apply(db, writes, self._model))

    async def known(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
        found = await self._looking(lambda db: self._finder.ledger(db, keys))
        return {key: row for key, (_, row) in found.items()}

    async def find(self, where: Where, *, limit: int, offset: int = 0, after: int | None = None) -> list[StoredMemory]:
        return await self._read(lambda db: _found(db, where, limit=limit, offset=offset, after=after))

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
        return await self._read(lambda db: self._nearest(db, vector, where, limit))

    async def matching(self, terms: Sequence[str], where: Where, *, limit: int) -> list[Hit]:
        return await self._read(lambda db: self._matching(db, terms, where, limit))

    async def search(
        self,
        vector: Awaitable[Vector],
        terms: Sequence[str],
        parts: Sequence[Part],
        *,
        compared: int,
        judge: Callable[[Sequence[Sides]], Judging[T]],
    ) -> T:
        wanted = await vector

        def look(db: apsw.Connection, some: Sequence[Part]) -> list[Sides]:
            return [self._sides(db, wanted, terms, part, compared) for part in some]

        def conclude(db: apsw.Connection, found: Sequence[Sides]) -> T:
            judgement = Judgement(judge(found))
            while (ids := judgement.ids) is not None:
                judgement.take(_found(db, replace(parts[0].where, ids=tuple(ids)), limit=len(ids)))
            return judgement.result

        # On one thread: on two they would wait for each other for longer than either takes. But for what all users have:
        # that is work for numpy, which lets go of the GIL.
        if len(parts) == 1 or parts[0].where.scope.user_id is not None:
            return await self._read(lambda db: conclude(db, look(db, parts)))
        sides = await asyncio.gather(*(self._read(partial(look, some=[part])) for part in parts))
        return await self._read(lambda db: conclude(db, [one for (one,) in sides]))

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        def work(db: apsw.Connection) -> tuple[dict[str, int], int]:
            return self._counts.holding(db, terms, prefix_of(db, user_id)), self._counts.total(db, user_id)

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
        """Pack anew what came in many small packs, or from an older program; and merge the parts of the full text."""
        from powermem_cli.stores.sqlite_scrub import drop_from_indexes, has_older_packs  # noqa: PLC0415 - no other needs it

        def work(db: apsw.Connection) -> bool:
            memories = meta_number(db, "memories")
            records = count(db, "SELECT coalesce(max(number), 0) FROM ledger", ())
            vectors = count(db, "SELECT count(*) FROM signatures", ())
            hashes = count(db, "SELECT count(*) FROM hashes", ())
            few = vectors <= _few_packs(memories) and hashes <= _few_packs(memories) + _few_packs(records)
            if few and not has_older_packs(db):
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

    def _nearest(
        self, db: apsw.Connection, vector: Vector, where: Where, limit: int, and_of: Sequence[int] = ()
    ) -> list[Hit]:
        """Behind the first *limit* stand those of the ids *and_of* that are not among them."""
        if not vector or limit <= 0:
            return []
        self._check_kind(db, vector)
        if self._does_without_numpy(db, where):
            rows = sqlite_exact.nearest(db, vector, where, limit, and_of)
        else:
            from powermem_cli.stores.sqlite_signatures import nearest  # noqa: PLC0415 - it loads numpy

            rows = nearest(db, self._held(), vector, where, limit, and_of)
        ids, distances = zip(*rows, strict=True) if rows else ((), ())
        if None in distances:
            raise StoreCorrupt(f"{self.path} is damaged: a vector is none", hint=DAMAGED)
        # Vectors have length 1, so the cosine follows from the distance.
        return hits_of(ids, [1 - distance * distance / 2 for distance in distances])

    def _sides(self, db: apsw.Connection, vector: Vector, terms: Sequence[str], part: Part, compared: int) -> Sides:
        matching = self._matching(db, terms, part.where, part.limit)
        and_of = [hit.id for hit in matching[:compared]]
        return Sides(self._nearest(db, vector, part.where, part.limit, and_of), matching)

    def _matching(self, db: apsw.Connection, terms: Sequence[str], where: Where, limit: int) -> list[Hit]:
        if not terms or limit <= 0:
            return []
        if self._does_without_numpy(db, where):
            scored = sqlite_exact.matching(db, self._counts, terms, where, limit)
        else:
            from powermem_cli.stores.sqlite_keywords import matching  # noqa: PLC0415 - it loads numpy

            scored = matching(db, self._counts, self._held(), terms, where, limit)
        return hits_of(*zip(*scored, strict=True)) if scored else []

    def _does_without_numpy(self, db: apsw.Connection, where: Where) -> bool:
        """Whether to look at every memory takes less time than to load what would find them sooner."""
        if "numpy" in sys.modules or self._without_numpy <= 0:
            return False
        self._without_numpy -= 1
        return self._counts.total(db, where.scope.user_id) <= LOOKED_AT

    def _held(self) -> Signatures:
        """One for all connections, each on a thread of its own."""
        from powermem_cli.stores.sqlite_signatures import Signatures  # noqa: PLC0415 - it loads numpy

        with self._one_at_a_time:
            if self._signatures is None:
                self._signatures = Signatures()
            return self._signatures

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


def _found(
    db: apsw.Connection, where: Where, *, limit: int, offset: int = 0, after: int | None = None
) -> list[StoredMemory]:
    """In the order of their ids."""
    condition, values = compile_where(where)
    if after is not None:
        condition, values = f"{condition} AND m.id > ?", (*values, after)
    sql = f"{SELECT_MEMORY} WHERE {condition} ORDER BY m.id LIMIT ? OFFSET ?"
    return [memory_of(row) for row in db.execute(sql, (*values, limit, offset))]


def _few_packs(rows: int) -> int:
    return FEW_PACKS + rows // ROWS_IN_A_PACK
