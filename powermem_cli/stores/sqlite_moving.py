"""What an SQLite store gives and takes besides memories: their history, and all its rows as they are at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import apsw

from powermem_cli.model import HistoryEntry, Scope, StoredMemory, Vector
from powermem_cli.stores.base import HistoryRow, LedgerRow, Where, history_of
from powermem_cli.stores.sqlite_connection import Connection
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_rows import (
    SELECT_LEDGER,
    SELECT_MEMORY,
    count,
    ledger_row_of,
    ledger_values,
    memory_of,
    meta,
    number_of,
    origin_name,
    origin_of,
)
from powermem_cli.stores.sqlite_schema import MIGRATIONS
from powermem_cli.stores.sqlite_where import compile_where, listed

_SELECT_HISTORY: Final = """
SELECT m.memory, m.number, m.event, m.text, (SELECT name FROM names WHERE number = m.user),
       (SELECT name FROM names WHERE number = m.agent), (SELECT name FROM names WHERE number = m.run),
       (SELECT name FROM origins WHERE number = m.origin), m.line, m.created_at, m.at FROM history m
"""


class SqliteSnapshot:
    """The store as *connection*, which is in a transaction, sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last_key: bytes | None = None  # of the page of the ledger that was read last: there is no index over keys
        self._last_number = 0

    async def memories(self, where: Where, *, limit: int, after: int | None = None) -> list[StoredMemory]:
        condition, values = compile_where(where)
        sql = f"{SELECT_MEMORY} WHERE {condition} AND m.id > ? ORDER BY m.id LIMIT ?"
        rows = await self._rows(sql, (*values, -1 if after is None else after, limit))
        return [memory_of(row) for row in rows]

    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        sql = "SELECT id, vector FROM embeddings WHERE id IN (SELECT value FROM carray(?))"
        return dict(await self._rows(sql, (listed(ids),)))

    async def ledger(self, *, limit: int, after: bytes | None = None) -> list[LedgerRow]:
        if after is None:
            start = 0
        elif after == self._last_key:
            start = self._last_number
        else:
            start = (await self._rows("SELECT number FROM ledger WHERE key = ?", (after,)))[0][0]
        rows = await self._rows(f"{SELECT_LEDGER} WHERE number > ? ORDER BY number LIMIT ?", (start, limit))
        if rows:
            self._last_number, self._last_key = rows[-1][:2]
        return [ledger_row_of(row) for row in rows]

    async def history(self, *, limit: int, after: tuple[int, int] | None = None) -> list[HistoryRow]:
        sql = f"{_SELECT_HISTORY} WHERE (m.memory, m.number) > (?, ?) ORDER BY m.memory, m.number LIMIT ?"
        return [_history_row_of(row) for row in await self._rows(sql, (*(after or (-1, -1)), limit))]

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return await self._connection.run(lambda db: list(db.execute(sql, values)))


def history(db: apsw.Connection, id: int, scope: Scope) -> list[HistoryEntry]:
    condition, values = compile_where(Where(scope), expired=True)
    rows: Any = db.execute(f"{_SELECT_HISTORY} WHERE m.memory = ? AND {condition} ORDER BY m.number", (id, *values))
    past = [_history_row_of(row) for row in rows]
    now: Any = db.execute(f"{SELECT_MEMORY} WHERE m.id = ? AND {condition}", (id, *values))
    return history_of(past, next((memory_of(row) for row in now), None))


def restore(db: apsw.Connection, finder: Finder, ledger: Sequence[LedgerRow], past: Sequence[HistoryRow]) -> int:
    known = finder.ledger(db, [row.key for row in ledger])
    rows = {row.key: row for row in reversed(ledger) if row.key not in known}
    first = count(db, "SELECT coalesce(max(number), 0) + 1 FROM ledger", ())
    numbered = [(number, *ledger_values(row)) for number, row in enumerate(rows.values(), first)]
    db.executemany(f"INSERT INTO ledger VALUES ({','.join('?' * 8)})", numbered)
    finder.keep_keys(db, [*rows], range(first, first + len(rows)))
    new = len(rows)
    for row in past:
        whose = [
            None if name is None else number_of(db, "names", name)
            for name in (row.scope.user_id, row.scope.agent_id, row.scope.run_id)
        ]
        origin = None if row.origin is None else number_of(db, "origins", origin_name(row.origin))
        line = None if row.origin is None else row.origin.line
        values = (row.memory_id, row.number, row.event, row.text, *whose, origin, line, row.created_at, row.at)
        db.execute(f"INSERT INTO history VALUES ({','.join('?' * len(values))}) ON CONFLICT DO NOTHING", values)
        new += db.changes()
    return new


def describe(db: apsw.Connection, path: object) -> dict[str, Any]:
    pages: Any = next(db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"))[0]
    return {
        "engine": "sqlite",
        "version": apsw.sqlite_lib_version(),
        "place": str(path),
        "schema": len(MIGRATIONS),
        "model": meta(db, "model"),
        "dims": meta(db, "dims"),
        "memories": count(db, "SELECT count(*) FROM memories", ()),
        "indexes": ["signs of the vectors, then exact"],
        "bytes": pages,
    }


def _history_row_of(row: Sequence[Any]) -> HistoryRow:
    id, number, event, text, user, agent, run, origin, line, created_at, at = row
    return HistoryRow(id, number, event, text, Scope(user, agent, run), origin_of(origin, line), created_at, at)
