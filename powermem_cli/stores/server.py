"""What the stores on a database server have in common: the Store protocol over a driver's transactions, but searches."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

from powermem_cli import times
from powermem_cli.errors import ConfigError, EmbedderMismatch, StoreCorrupt, StoreError
from powermem_cli.model import HistoryEntry, Scope, StoredMemory
from powermem_cli.stores.attempts import OutcomeUnknown, until_done
from powermem_cli.stores.base import (
    DAY,
    Applied,
    BlockWrite,
    Delete,
    Grouping,
    HistoryRow,
    LedgerRow,
    Snapshot,
    Where,
    Write,
    as_asked,
    history_of,
    one_by_one,
)
from powermem_cli.stores.ids import IdSource, Numbering
from powermem_cli.stores.server_batch import Batch, Trace, landed
from powermem_cli.stores.server_snapshot import ServerSnapshot
from powermem_cli.stores.server_tables import HISTORY_COLUMNS, MEMORY_COLUMNS, Names, ServerTables, Session
from powermem_cli.stores.sql_where import Statement

T = TypeVar("T")
Pool = TypeVar("Pool")

SCHEMA: Final = 2
"""The version of the tables. A store of a higher one is left alone."""

_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


class ServerStore(ABC, Generic[Pool]):
    """A Store whose tables lie on a server. A subclass knows the driver, the tables and the dialect."""

    writes_at_once = 1024
    takes_turns = False

    def __init__(self, place: str, names: Names, embedding_model_dims: int | None) -> None:
        self.place = place
        self.names = names
        self._wanted_dims = embedding_model_dims
        self._pool: Pool | None = None
        self._ids = IdSource()
        self._model: str | None = None
        self._meta: dict[str, str] = {}

    @abstractmethod
    async def _connect(self) -> Pool:
        """Make sure that there is a database with our tables; a pool of connections to it."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def _session(self) -> AbstractAsyncContextManager[Session]:
        """A connection of the pool, each statement its own transaction."""

    @abstractmethod
    def _transaction(self) -> AbstractAsyncContextManager[Session]:
        """A connection in a transaction: committed at the end, rolled back by an exception. A commit whose answer
        is lost raises OutcomeUnknown.
        """

    @abstractmethod
    def _frozen(self) -> AbstractAsyncContextManager[Session]:
        """A connection in a transaction that reads, and sees nothing of what others commit meanwhile."""

    @abstractmethod
    async def _describe(self) -> dict[str, Any]:
        """What only this engine can say of itself: engine, version, indexes, bytes."""

    @abstractmethod
    def _tables(self, session: Session) -> ServerTables: ...

    @abstractmethod
    def _statement(self) -> Statement: ...

    @abstractmethod
    async def _prepare_vectors(self, dims: int) -> None:
        """Called before the first vector of a store is written."""

    async def open(self, model: str | None) -> None:
        self._model = model
        self._pool = await self._connect()
        try:
            await self._read_meta()
        except BaseException:
            await self.close()
            raise

    async def identity(self) -> str:
        self._opened()
        return self._meta["store_id"]

    async def apply(self, writes: Sequence[Write | BlockWrite]) -> list[Applied]:
        return as_asked(writes, await self._apply(one_by_one(writes)))

    async def _apply(self, writes: Sequence[Write]) -> list[Applied]:
        dims = self._dims_of(writes)
        if "dims" not in self._meta:  # another process may have stored the first vector
            await self._read_meta()
        if dims is not None and "dims" not in self._meta:
            await self._prepare_vectors(dims)
        ids = Numbering(self._ids)
        unknown: list[Trace] = []

        async def attempt() -> tuple[Applied, ...]:
            # After an unknown outcome the same ids again: then it can't come true beside this attempt.
            ids.begin(renew=not unknown)
            trace = None
            try:
                async with self._transaction() as session:
                    tables = self._tables(session)
                    for earlier in unknown:
                        if await landed(tables, earlier):
                            return earlier.applied
                    meta = await self._settle(tables, dims) if dims is not None else self._meta
                    trace = await Batch(tables, writes, ids.take).run()
            except OutcomeUnknown:
                if trace is not None:
                    unknown.append(trace)
                raise
            self._meta = meta
            return trace.applied

        return list(await until_done(attempt))

    async def known(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
        return await self._read(lambda tables: tables.ledger_rows(keys, lock=False)) if keys else {}

    async def find(self, where: Where, *, limit: int, offset: int = 0, after: int | None = None) -> list[StoredMemory]:
        statement = self._statement()
        condition = statement.where(where)
        if after is not None:
            condition += f" AND id > {statement.bind(after)}"
        sql = f"""SELECT {MEMORY_COLUMNS} FROM {self.names.memories} WHERE {condition}
            ORDER BY id LIMIT {statement.bind(limit)} OFFSET {statement.bind(offset)}"""

        async def work(tables: ServerTables) -> list[StoredMemory]:
            return [tables.memory_of(row) for row in await tables.session.rows(sql, statement.values)]

        return await self._read(work)

    async def count(self, where: Where) -> int:
        statement = self._statement()
        sql = f"SELECT count(*) FROM {self.names.memories} WHERE {statement.where(where)}"
        return int((await self._rows(sql, statement.values))[0][0])

    async def tally(self, by: Grouping, where: Where) -> dict[str | int | None, int]:
        statement = self._statement()
        condition = statement.where(where)
        column = f"(created_at - mod(mod(created_at, {DAY}) + {DAY}, {DAY})) / {DAY}" if by == "day" else by
        sql = f"SELECT {column} AS g, count(*) FROM {self.names.memories} WHERE {condition} GROUP BY g"

        async def work(tables: ServerTables) -> dict[str | int | None, int]:
            rows = await tables.session.rows(sql, statement.values)
            if by == "day":
                return {int(day): int(number) for day, number in rows}
            return {tables.scope_of((name, None, None)).user_id: int(number) for name, number in rows}

        return await self._read(work)

    async def delete(self, where: Where) -> int:
        statement = self._statement()
        condition = statement.where(where, expired=True)
        return await self._delete(condition, statement, all_history=where.filter is None and where.ids is None)

    async def expire(self) -> int:
        statement = self._statement()
        return await self._delete(f"expires_at <= {statement.bind(times.now())}", statement)

    async def _delete(self, condition: str, statement: Statement, *, all_history: bool = False) -> int:
        """*all_history*: the condition is one of scope alone, and history has the columns for it, too."""
        memories, history = self.names.memories, self.names.history
        past = condition if all_history else f"memory_id IN (SELECT id FROM {memories} WHERE {condition})"
        deleted = 0

        async def attempt() -> None:
            nonlocal deleted
            async with self._transaction() as session:
                await session.execute(f"DELETE FROM {history} WHERE {past}", statement.values)
                number = await session.execute(f"DELETE FROM {memories} WHERE {condition}", statement.values)
                # After a commit whose answer was lost, nothing is left to count: the first attempt's number stands.
                deleted = max(deleted, number)

        await until_done(attempt)
        return deleted

    async def history(self, id: int, scope: Scope) -> list[HistoryEntry]:
        statement = self._statement()
        condition = f"memory_id = {statement.bind(id)} AND {statement.where(Where(scope), expired=True)}"
        sql = f"SELECT {', '.join(HISTORY_COLUMNS)} FROM {self.names.history} WHERE {condition} ORDER BY number"
        now = self._statement()
        memory = f"""SELECT {MEMORY_COLUMNS} FROM {self.names.memories}
            WHERE id = {now.bind(id)} AND {now.where(Where(scope), expired=True)}"""

        async def attempt() -> list[HistoryEntry]:
            async with self._frozen() as session:
                tables = self._tables(session)
                past = [tables.history_row_of(row) for row in await session.rows(sql, statement.values)]
                there = [tables.memory_of(row) for row in await session.rows(memory, now.values)]
                return history_of(past, there[0] if there else None)

        return await until_done(attempt)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        async with self._frozen() as session:
            await session.rows(f"SELECT name FROM {self.names.meta}")  # the moment is that of the first look
            yield ServerSnapshot(self._tables(session), "dims" in self._meta)

    async def restore(self, ledger: Sequence[LedgerRow], history: Sequence[HistoryRow]) -> int:
        async def attempt() -> int:
            async with self._transaction() as session:
                return await self._tables(session).restore(ledger, history)

        return await until_done(attempt)

    async def describe(self) -> dict[str, Any]:
        await self._read_meta()
        meta = self._meta
        dims = int(meta["dims"]) if "dims" in meta else None
        known = {"place": self.place, "schema": SCHEMA, "model": meta.get("model"), "dims": dims}
        ((memories,),) = await self._rows(f"SELECT count(*) FROM {self.names.memories}", ())
        return known | {"memories": memories} | await self._describe()

    async def _read(self, work: Callable[[ServerTables], Awaitable[T]]) -> T:
        async def attempt() -> T:
            async with self._session() as session:
                return await work(self._tables(session))

        return await until_done(attempt)

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Sequence[Any]]:
        return await self._read(lambda tables: tables.session.rows(sql, values))

    def _opened(self) -> Pool:
        if self._pool is None:
            raise StoreError(
                f"{self.place} is not open", hint="await initialize(), or use `async with`", code="store.closed"
            )
        return self._pool

    async def _read_meta(self) -> None:
        meta = await self._read(lambda tables: tables.meta())
        self._check_model(meta)
        if self._wanted_dims is not None:
            self._check_dims(meta, self._wanted_dims)
        self._meta = meta

    async def _settle(self, tables: ServerTables, dims: int) -> dict[str, str]:
        """The first vector settles model and dimensions for good; every other must be of that kind."""
        meta = self._meta if {"dims", "model"} <= self._meta.keys() else await tables.meta()
        self._check_model(meta)
        self._check_dims(meta, dims)
        new = {"dims": str(dims)} | ({} if self._model is None else {"model": self._model})
        missing = {name: value for name, value in new.items() if name not in meta}
        if missing:
            await tables.set_meta(missing)
        return meta | missing

    def _dims_of(self, writes: Sequence[Write]) -> int | None:
        """The dimensions of the vectors in there, None without any. Raises EmbedderMismatch for two kinds."""
        vectors = [c.vector for write in writes for c in write.changes if not isinstance(c, Delete) and c.vector]
        sizes = sorted({len(vector) // 4 for vector in vectors})
        if len(sizes) > 1:
            raise self._mismatch(f"{sizes[0]} dimensions", f"{sizes[1]} dimensions")
        if sizes and self._wanted_dims is not None and self._wanted_dims != sizes[0]:
            raise self._mismatch(f"embedding_model_dims = {self._wanted_dims}", f"{sizes[0]} dimensions")
        return sizes[0] if sizes else None

    def _check_model(self, meta: Mapping[str, str]) -> None:
        made_by = meta.get("model")
        if made_by is not None and self._model is not None and made_by != self._model:
            raise self._mismatch(made_by, self._model)

    def _check_dims(self, meta: Mapping[str, str], dims: int) -> None:
        if "dims" in meta and int(meta["dims"]) != dims:
            raise self._mismatch(f"{meta.get('model', '')} {meta['dims']} dimensions".lstrip(), f"{dims} dimensions")

    def _mismatch(self, here: str, wanted: str) -> EmbedderMismatch:
        return EmbedderMismatch(
            f"the memories in {self.place} were embedded with {here}, this run is configured for {wanted}",
            hint=f"configure the embedder for {here} again, or powermem export, then powermem import into another "
            "collection: vectors are made anew there",
        )


def check_collection(name: str) -> str:
    if not _COLLECTION.fullmatch(name):
        raise ConfigError(
            f"collection_name {name!r} can't be the name of a table",
            hint="letters, digits and _, no digit first, 40 at most",
            code="config.value",
        )
    return name


def check_port(value: Any, option: str) -> int:
    """A port as a number, from a number or its digits."""
    try:
        return int(value)
    except ValueError:
        raise ConfigError(f"{option} is {value!r}, which is no number", code="config.value") from None


def check_schema(place: str, columns: set[str], needed: set[str], version: str | None) -> None:
    """Refuse tables that are not ours, or of a later version. *columns* are those the table of memories has."""
    if version is None or not needed <= columns:
        raise StoreCorrupt(
            f"{place} is a table of another program (it has no {', '.join(sorted(needed - columns)) or 'meta table'})",
            hint="nothing was changed in it; choose another collection_name",
            code="store.foreign",
        )
    if int(version) > SCHEMA:
        raise StoreError(
            f"{place} was made by a newer powermem (schema {version}; this one knows {SCHEMA})",
            hint="upgrade powermem-cli; nothing was changed",
            code="store.newer",
        )
