"""Memories in one SQLite file: rows, vectors (sqlite-vec), full text (FTS5) and the ledger, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from powermem_cli.errors import ConfigError, StoreError
from powermem_cli.model import Hit, StoredMemory, Vector
from powermem_cli.stores.base import TYPICAL_LENGTH, Applied, LedgerRow, Where, Write, rarity
from powermem_cli.stores.sqlite_connection import Connection, make_private
from powermem_cli.stores.sqlite_rows import (
    NOBODY,
    SELECT_MEMORY,
    count,
    frequencies,
    ledger_rows,
    memory_of,
    meta,
    mismatch,
    quoted,
    user_number,
    user_prefix,
)
from powermem_cli.stores.sqlite_schema import prepare
from powermem_cli.stores.sqlite_where import compile_where
from powermem_cli.stores.sqlite_writer import Writer

T = TypeVar("T")

READERS: Final = 4  # connections that search while one writes; SQLite lets go of the GIL while it works
CANDIDATES: Final = 1000  # nearest by signs that are looked at again by value
DEFAULT_COLLECTION: Final = "memories"


class SqliteStore:
    """A store in the file *path*, made when it is missing (with its folder, private to the user).

    A *collection_name* other than "memories" is a file of its own beside it: `powermem.db` → `powermem.notes.db`.
    """

    def __init__(self, path: str, collection_name: str = DEFAULT_COLLECTION) -> None:
        if not path or path == ":memory:":
            raise ConfigError("the SQLite store needs the path of a file", hint="set SQLITE_PATH or --db")
        if not collection_name or any(c in collection_name for c in "/\\\0"):
            raise ConfigError(f"{collection_name!r} can't be part of a file name", hint="change SQLITE_COLLECTION")
        self.path = Path(path).expanduser()
        if collection_name != DEFAULT_COLLECTION:
            self.path = self.path.with_name(f"{self.path.stem}.{collection_name}{self.path.suffix}")
        self._model: str | None = None
        self._writing: Connection | None = None
        self._writer = Writer(self.path)
        self._idle: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Semaphore(READERS)  # of that loop

    async def open(self, model: str | None) -> None:
        make_private(self.path)
        connection = self._writing = await Connection.opened(self.path)
        self._model = model
        try:
            await connection.run(lambda db: prepare(db, self.path))
            made_by = await connection.run(lambda db: meta(db, "model"))
            if model is not None and made_by is not None and made_by != model:
                raise mismatch(self.path, str(made_by), model)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        connections = [*self._idle, *([self._writing] if self._writing is not None else [])]
        self._idle, self._writing = [], None
        for connection in connections:
            await connection.close()

    async def identity(self) -> str:
        return str(await self._read(lambda db: meta(db, "store_id")))

    async def apply(self, writes: Sequence[Write]) -> list[Applied]:
        return await self._write(lambda db: self._writer.apply(db, writes, self._model))

    async def known(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
        # On the writing connection: its cache holds the ledger, and an ingestion needs no second one.
        return await self._opened().run(lambda db: ledger_rows(db, keys))

    async def find(self, where: Where, *, limit: int, offset: int = 0, after: int | None = None) -> list[StoredMemory]:
        condition, values = compile_where(where)
        if after is not None:
            condition, values = f"{condition} AND m.id > ?", (*values, after)
        sql = f"{SELECT_MEMORY} WHERE {condition} ORDER BY m.id LIMIT ? OFFSET ?"
        return await self._read(lambda db: [memory_of(row) for row in db.execute(sql, (*values, limit, offset))])

    async def count(self, where: Where) -> int:
        condition, values = compile_where(where)
        return await self._read(lambda db: count(db, f"SELECT count(*) FROM memories m WHERE {condition}", values))

    async def delete(self, where: Where) -> int:
        return await self._write(lambda db: self._writer.delete(db, where))

    async def nearest(self, vector: Vector, where: Where, *, limit: int) -> list[Hit]:
        if not vector or limit <= 0:
            return []
        condition, values = compile_where(where)
        # The signs of the values tell who may be near (a scan of 32 bytes each), the values themselves who is: exact
        # while the Where leaves no more than CANDIDATES. Vectors have length 1, so the cosine follows from the distance.
        sql = f"""
            SELECT e.id, vec_distance_l2(e.vector, ?) AS distance FROM (
                SELECT m.id FROM memories m WHERE m.bits IS NOT NULL AND {condition}
                ORDER BY vec_distance_hamming(vec_bit(m.bits), vec_quantize_binary(?)) LIMIT ?
            ) c CROSS JOIN embeddings e ON e.id = c.id ORDER BY distance, e.id LIMIT ?"""

        def work(db: apsw.Connection) -> list[Hit]:
            self._check_dims(db, vector)
            rows: Any = db.execute(sql, (vector, *values, vector, max(CANDIDATES, limit), limit))
            return [Hit(id, 1 - distance * distance / 2) for id, distance in rows]

        return await self._read(work)

    async def matching(self, terms: Sequence[str], where: Where, *, limit: int) -> list[Hit]:
        if not terms or limit <= 0:
            return []
        condition, values = compile_where(where)
        user = where.scope.user_id

        def work(db: apsw.Connection) -> list[Hit]:
            counts, total = frequencies(db, terms, user)
            held = {term: rarity(number, total) for term, number in counts.items() if number}
            if not held:
                return []
            prefix = "" if user is None else user_prefix(user_number(db, user) or NOBODY)
            postings = [part for term, worth in held.items() for part in (worth, quoted(prefix, term))]
            rows: Any = db.execute(_matching(len(held), condition), (*postings, *values, limit))
            return [Hit(id, score) for id, score in rows]

        return await self._read(work)

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        return await self._read(lambda db: frequencies(db, terms, user_id))

    def _check_dims(self, db: apsw.Connection, vector: Vector) -> None:
        dims = meta(db, "dims")
        if dims is not None and int(dims) * 4 != len(vector):
            raise mismatch(self.path, f"{meta(db, 'model')}, {dims} dimensions", f"{len(vector) // 4} dimensions")

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

        return await self._opened().run(transaction)

    async def _read(self, work: Callable[[apsw.Connection], T]) -> T:
        def snapshot(db: apsw.Connection) -> T:
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("COMMIT")

        async with self._reader() as connection:
            return await connection.run(snapshot)

    @contextlib.asynccontextmanager
    async def _reader(self) -> AsyncIterator[Connection]:
        """An idle read connection, or a new one while there are few."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._turns = loop, asyncio.Semaphore(READERS)
        async with self._turns:
            self._opened()
            connection = self._idle.pop() if self._idle else await Connection.opened(self.path, readonly=True)
            try:
                yield connection
            finally:
                if self._writing is None:  # closed meanwhile
                    await connection.close()
                else:
                    self._idle.append(connection)

    def _opened(self) -> Connection:
        if self._writing is None:
            raise StoreError(
                f"{self.path} is not open", hint="await initialize(), or use `async with`", code="store.closed"
            )
        return self._writing


def _matching(terms: int, condition: str) -> str:
    """The statement that adds up, per memory, what its terms are worth: base.py says why each part is there."""
    each = " UNION ALL ".join(["SELECT rowid AS id, ? AS worth FROM words WHERE words MATCH ?"] * terms)
    return f"""
        SELECT m.id, t.worth * 2.2 / (1 + 1.2 * (0.25 + 0.75 * m.length / {TYPICAL_LENGTH})) AS score
        FROM (SELECT id, sum(worth) AS worth FROM ({each}) GROUP BY id) t CROSS JOIN memories m ON m.id = t.id
        WHERE {condition} ORDER BY score DESC, m.id LIMIT ?"""
