"""A connection to PostgreSQL as a Session; the driver's errors become ours here, and vectors pgvector's bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np

from powermem_cli.errors import StoreBusy, StoreError, StoreFull
from powermem_cli.model import Vector
from powermem_cli.stores.attempts import Conflict

_BUSY = {"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "53300"}
FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, asyncio.TimeoutError)


class PostgresSession:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Sequence[Any]]:
        return list(await self._connection.fetch(sql, *values))

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        status = await self._connection.execute(sql, *values)
        return int(status.rpartition(" ")[2])

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
        # Not COPY: when the line breaks in the middle of one, the driver forgets an error, and asyncio reports that.
        marks = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        if key:
            settings = ", ".join(f"{column} = excluded.{column}" for column in columns)
            sql += f" ON CONFLICT ({key}) DO UPDATE SET {settings}"
        await self._connection.executemany(sql, rows)


def translated(error: Exception, place: str) -> StoreError:
    """The driver's error as one of ours."""
    state = str(getattr(error, "sqlstate", None) or "")
    words = "no answer in time" if isinstance(error, asyncio.TimeoutError) else str(error) or type(error).__name__
    if isinstance(error, asyncpg.UniqueViolationError):
        return Conflict(f"{place}: {words}")
    if state in _BUSY or is_lost(error):
        return StoreBusy(f"{place} can't be reached or is busy: {words}", hint="see that the server runs; try again")
    if state == "53100":
        return StoreFull(f"no room left on the server of {place}: {words}", hint="free some space and try again")
    if state[:2] == "28":
        return StoreError(f"{place} refuses the login: {words}", hint="check user and password", code="store.auth")
    if state == "3D000":
        return StoreError(f"{place}: {words}", hint="createdb makes it", code="store.missing")
    if state == "42501":
        return StoreError(f"{place}: {words}", hint="ask the owner of the database", code="store.permission")
    if state in {"0A000", "58P01"} and "extension" in words:
        return StoreError(f"{place}: {words}", hint="install pgvector on the server", code="store.extension")
    return StoreError(f"{place}: {words}")


def is_lost(error: Exception) -> bool:
    """Whether the connection is gone, or no use any more."""
    state = str(getattr(error, "sqlstate", None) or "")
    if state:
        return state[:2] == "08" or state in {"57P01", "57P02", "57P03"}
    if isinstance(error, asyncpg.InterfaceError):
        return "clos" in str(error)  # "connection is closed", "pool is closing": the driver has no class for it
    return True  # no answer in time, or the driver itself lost its thread


def drop(connection: asyncpg.Connection[Any]) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the driver has noticed by itself
        connection.terminate()


def encoded(vector: Vector) -> bytes:
    """The form pgvector reads: dimensions, two empty bytes, then the numbers, all big-endian."""
    return struct.pack(">HH", len(vector) // 4, 0) + np.frombuffer(vector, "<f4").astype(">f4").tobytes()


def decoded(value: bytes) -> Vector:
    return np.frombuffer(value, ">f4", offset=4).astype("<f4").tobytes()
