"""The tables of a store on a database server inside one transaction: the statements both servers understand."""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from powermem_cli.filters import Filter
from powermem_cli.model import Origin, Scope, StoredMemory, Vector
from powermem_cli.rules import canonical_json
from powermem_cli.stores.base import HistoryRow, LedgerRow, Where
from powermem_cli.stores.server_batch import Content, Row
from powermem_cli.stores.sql_where import Statement

MEMORY_COLUMNS: Final = "id, memory, user_id, agent_id, run_id, metadata, created_at, updated_at, origin, expires_at"
LEDGER_COLUMNS: Final = ("record_key", "content", "status", "memory_ids", "tries", "job", "noted_at")
HISTORY_COLUMNS: Final = (
    *("memory_id", "number", "event", "memory", "user_id", "agent_id", "run_id", "origin", "created_at", "noted_at"),
)
LANES: Final = 64
"""Writers that must know whether a text is held already take the lane of its scope: a lock each, and few of them."""


class Session(Protocol):
    """A connection, spoken to in one manner whatever the driver. Raises StoreError."""

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Sequence[Any]]: ...

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """The number of rows changed."""
        ...

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
        """All rows in as few messages as the driver can. Those whose *key* column is held are overwritten;
        without *key* a row that is held raises Conflict.
        """
        ...


@dataclass(frozen=True, slots=True)
class Names:
    """The tables of one collection, quoted as the engine wants them."""

    memories: str
    ledger: str
    meta: str
    history: str
    lanes: str = ""


class ServerTables(ABC):
    """The part of a transaction that the engines share; what a column looks like to the driver is left open."""

    def __init__(self, session: Session, names: Names, statement: Callable[[], Statement]) -> None:
        self.session = session
        self.names = names
        self.statement = statement

    @abstractmethod
    def record(self, row: Row) -> dict[str, Any]:
        """Column → value, as the driver takes it, of all that a row brings with it."""

    @abstractmethod
    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        """The vectors of those memories that have one, to the bit. There is a column for them."""

    @abstractmethod
    async def lock_lanes(self, lanes: Sequence[int]) -> None: ...

    def scope_values(self, scope: Scope) -> tuple[Any, Any, Any]:
        return scope.user_id, scope.agent_id, scope.run_id

    def scope_of(self, values: Sequence[Any]) -> Scope:
        return Scope(*values)

    def memory_of(self, row: Sequence[Any]) -> StoredMemory:
        """A row of MEMORY_COLUMNS."""
        id, text, *scope, metadata, created_at, updated_at, origin, expires_at = row
        whose, found = self.scope_of(scope), json.loads(metadata)
        return StoredMemory(id, text, whose, found, created_at, updated_at, origin_of(origin), expires_at)

    def history_row_of(self, row: Sequence[Any]) -> HistoryRow:
        """A row of HISTORY_COLUMNS."""
        id, number, event, text, *scope, origin, created_at, at = row
        return HistoryRow(id, number, event, text, self.scope_of(scope), origin_of(origin), created_at, at)

    async def meta(self) -> dict[str, str]:
        rows = await self.session.rows(f"SELECT name, value FROM {self.names.meta}")
        return {str(name): str(value) for name, value in rows}

    async def set_meta(self, values: Mapping[str, str]) -> None:
        """Raises Conflict if one of them is set already."""
        rows = sorted(values.items())
        await self.session.insert(self.names.meta, ("name", "value"), rows)

    async def ledger_rows(self, keys: Sequence[bytes], *, lock: bool = True) -> dict[bytes, LedgerRow]:
        statement = self.statement()
        sql = (
            f"SELECT {', '.join(LEDGER_COLUMNS)} FROM {self.names.ledger} WHERE {statement.one_of('record_key', keys)}"
        )
        if lock:
            sql += " ORDER BY record_key FOR UPDATE"
        found = [ledger_row_of(row) for row in await self.session.rows(sql, statement.values)]
        return {row.key: row for row in found}

    async def lock_contents(self, scopes: Iterable[Scope]) -> None:
        await self.lock_lanes(sorted({_lane(scope) for scope in scopes}))

    async def repeats(self, contents: Iterable[Content], among: Filter | None) -> dict[Content, int]:
        wanted = set(contents)
        statement = self.statement()
        digests = statement.one_of("digest", sorted({digest for digest, _ in wanted}))
        users = {self.scope_values(scope)[0] for _, scope in wanted}
        # What thousands of others say ("thanks") is left where it is.
        whose = ["user_id IS NULL"] if None in users else []
        whose += [statement.one_of("user_id", sorted(users - {None}))] if users - {None} else []
        sql = f"""SELECT min(id), digest, user_id, agent_id, run_id FROM {self.names.memories}
            WHERE {digests} AND ({" OR ".join(whose)}) AND {statement.where(Where(filter=among))}
            GROUP BY digest, user_id, agent_id, run_id"""
        rows = await self.session.rows(sql, statement.values)
        found = {(bytes(digest), self.scope_of(scope)): int(id) for id, digest, *scope in rows}
        return {content: id for content, id in found.items() if content in wanted}

    async def rows(self, ids: Iterable[int]) -> dict[int, Row]:
        statement = self.statement()
        sql = f"""SELECT digest, {MEMORY_COLUMNS}
            FROM {self.names.memories} WHERE {statement.one_of("id", list(ids))} ORDER BY id FOR UPDATE"""
        found: dict[int, Row] = {}
        for digest, *row in await self.session.rows(sql, statement.values):
            held = self.memory_of(row)
            times = held.created_at, held.updated_at
            found[held.id] = Row(held.id, held.scope, bytes(digest), dict(held.metadata), *times, said=held.text)
            found[held.id].origin, found[held.id].expires_at = held.origin, held.expires_at
        return found

    async def delete_rows(self, ids: Sequence[int]) -> None:
        statement = self.statement()
        sql = f"DELETE FROM {self.names.memories} WHERE {statement.one_of('id', ids)}"
        await self.session.execute(sql, statement.values)

    async def insert_rows(self, rows: Sequence[Row]) -> None:
        records = [self.record(row) for row in rows]
        columns = tuple(dict.fromkeys(column for record in records for column in record))
        values = [tuple(record.get(column) for column in columns) for record in records]
        await self.session.insert(self.names.memories, columns, values)

    async def update_row(self, row: Row) -> None:
        record = self.record(row)
        statement = self.statement()
        id = record.pop("id")
        settings = ", ".join(f"{column} = {statement.bind(value)}" for column, value in record.items())
        sql = f"UPDATE {self.names.memories} SET {settings} WHERE id = {statement.bind(id)}"
        await self.session.execute(sql, statement.values)

    async def insert_history(self, rows: Sequence[HistoryRow]) -> None:
        if rows:
            values = [
                (*row[:4], *self.scope_values(row.scope), origin_text(row.origin), row.created_at, row.at)
                for row in rows
            ]
            await self.session.insert(self.names.history, HISTORY_COLUMNS, values)

    async def insert_ledger(self, rows: Sequence[LedgerRow]) -> None:
        if rows:
            await self.session.insert(self.names.ledger, LEDGER_COLUMNS, [_ledger_values(row) for row in rows])

    async def update_ledger(self, rows: Sequence[LedgerRow]) -> None:
        if rows:
            values = [_ledger_values(row) for row in rows]
            await self.session.insert(self.names.ledger, LEDGER_COLUMNS, values, key="record_key")

    async def restore(self, ledger: Sequence[LedgerRow], history: Sequence[HistoryRow]) -> int:
        """Rows of another store; those whose keys are held already stay as they are. The number of new ones."""
        held = await self.ledger_rows(sorted(row.key for row in ledger)) if ledger else {}
        new_rows = [row for row in ledger if row.key not in held]
        await self.insert_ledger(new_rows)
        statement = self.statement()
        known: set[tuple[int, int]] = set()
        if history:
            ids = sorted({row.memory_id for row in history})
            sql = f"SELECT memory_id, number FROM {self.names.history} WHERE {statement.one_of('memory_id', ids)}"
            known = {(id, number) for id, number in await self.session.rows(sql, statement.values)}
        past = [row for row in history if (row.memory_id, row.number) not in known]
        await self.insert_history(past)
        return len(new_rows) + len(past)

    def common_record(self, row: Row) -> dict[str, Any]:
        """What every engine keeps in the same form."""
        user_id, agent_id, run_id = self.scope_values(row.scope)
        record = {"id": row.id, "user_id": user_id, "agent_id": agent_id, "run_id": run_id, "digest": row.digest}
        record |= {"metadata": canonical_json(row.metadata), "created_at": row.created_at, "updated_at": row.updated_at}
        record |= {"origin": origin_text(row.origin), "expires_at": row.expires_at}
        if row.text is not None:
            record["memory"] = row.text
        return record


def origin_of(text: str | None) -> Origin | None:
    return None if text is None else Origin(*json.loads(text))


def origin_text(origin: Origin | None) -> str | None:
    return None if origin is None else json.dumps(origin, ensure_ascii=False)


def ledger_row_of(row: Sequence[Any]) -> LedgerRow:
    key, content, status, ids, tries, job, at = row
    return LedgerRow(bytes(key), bytes(content), status, tuple(json.loads(ids)), tries, job, at)


def _ledger_values(row: LedgerRow) -> tuple[Any, ...]:
    return row.key, row.content, row.status, json.dumps(row.memory_ids), row.tries, row.job, row.at


def _lane(scope: Scope) -> int:
    """The same in every process."""
    return zlib.crc32(repr((scope.user_id, scope.agent_id, scope.run_id)).encode()) % LANES
