"""All rows of a store on a database server as they are at one moment, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from powermem_cli.model import StoredMemory, Vector
from powermem_cli.stores.base import HistoryRow, LedgerRow, Where
from powermem_cli.stores.server_tables import (
    HISTORY_COLUMNS,
    LEDGER_COLUMNS,
    MEMORY_COLUMNS,
    ServerTables,
    ledger_row_of,
)


class ServerSnapshot:
    """What *tables*, in a transaction that reads, see. *has_vectors*: there is a column for them."""

    def __init__(self, tables: ServerTables, has_vectors: bool) -> None:
        self._tables = tables
        self._has_vectors = has_vectors

    async def memories(self, where: Where, *, limit: int, after: int | None = None) -> list[StoredMemory]:
        statement = self._tables.statement()
        condition = f"{statement.where(where)} AND id > {statement.bind(-1 if after is None else after)}"
        rows = await self._rows(
            f"""SELECT {MEMORY_COLUMNS} FROM {self._tables.names.memories}
            WHERE {condition} ORDER BY id LIMIT {statement.bind(limit)}""",
            statement.values,
        )
        return [self._tables.memory_of(row) for row in rows]

    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        return await self._tables.vectors(ids) if ids and self._has_vectors else {}

    async def ledger(self, *, limit: int, after: bytes | None = None) -> list[LedgerRow]:
        statement = self._tables.statement()
        rows = await self._rows(
            f"""SELECT {", ".join(LEDGER_COLUMNS)} FROM {self._tables.names.ledger}
            WHERE record_key > {statement.bind(after or b"")} ORDER BY record_key LIMIT {statement.bind(limit)}""",
            statement.values,
        )
        return [ledger_row_of(row) for row in rows]

    async def history(self, *, limit: int, after: tuple[int, int] | None = None) -> list[HistoryRow]:
        statement = self._tables.statement()
        id, number = (-1, -1) if after is None else after
        beyond = f"(memory_id = {statement.bind(id)} AND number > {statement.bind(number)})"
        rows = await self._rows(
            f"""SELECT {", ".join(HISTORY_COLUMNS)} FROM {self._tables.names.history}
            WHERE memory_id > {statement.bind(id)} OR {beyond}
            ORDER BY memory_id, number LIMIT {statement.bind(limit)}""",
            statement.values,
        )
        return [self._tables.history_row_of(row) for row in rows]

    async def _rows(self, sql: str, values: Sequence[Any]) -> list[Sequence[Any]]:
        return await self._tables.session.rows(sql, values)
