"""Where a test's memories lie, on whatever engine; and short ways to say what is written there."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
from engines import Postgres, Seekdb

from powermem_cli.model import Scope
from powermem_cli.stores import create_store
from powermem_cli.stores.base import EVERYTHING, Insert, Ledger, Store, Write
from powermem_cli.stores.oceanbase_pool import Pool

MODEL = "test/8"
DIMS = 8
LARGE = 100_000


class Place:
    """A database and a collection in it: any number of stores may be opened there at once."""

    engine: str
    collection: str

    def options(self) -> dict[str, Any]:
        raise NotImplementedError

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """A statement behind the store's back; its rows."""
        raise NotImplementedError

    async def wipe(self) -> None:
        """As if nothing had ever been stored; much quicker than a new collection."""
        await self.execute(f"DELETE FROM {self.collection}")
        await self.execute(f"DELETE FROM {self.collection}_ledger")
        await self.execute(f"DELETE FROM {self.collection}_history")
        await self.execute(f"DELETE FROM {self.collection}_meta WHERE name IN ('dims', 'model')")

    def store(self, **changed: Any) -> Store:
        return create_store(self.engine, {**self.options(), **changed})

    @contextlib.asynccontextmanager
    async def opened(self, model: str | None = MODEL, **changed: Any) -> AsyncIterator[Store]:
        store = self.store(**changed)
        await store.open(model)
        try:
            yield store
        finally:
            await store.close()


class SqlitePlace(Place):
    engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path

    def options(self) -> dict[str, Any]:
        return {"path": str(self.path)}


class PostgresPlace(Place):
    engine = "postgres"

    def __init__(self, server: Postgres, collection: str) -> None:
        self.server = server
        self.collection = collection

    @property
    def socket(self) -> Path:
        return self.server.folder / ".s.PGSQL.5432"

    def options(self) -> dict[str, Any]:
        return {"dsn": self.server.dsn(), "collection_name": self.collection}

    def options_at(self, socket: Path) -> dict[str, Any]:
        """Those of a store that reaches the server by another socket, of the same name."""
        return {"dsn": f"postgresql://postgres@/postgres?host={socket.parent}", "collection_name": self.collection}

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self.server.dsn())
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()


class OceanBasePlace(Place):
    engine = "oceanbase"

    def __init__(self, server: Seekdb, collection: str) -> None:
        self.server = server
        self.collection = collection

    @property
    def socket(self) -> Path:
        return self.server.socket

    def options(self) -> dict[str, Any]:
        return {"connection_args": self.server.arguments(), "collection_name": self.collection}

    def options_at(self, socket: Path) -> dict[str, Any]:
        arguments = {**self.server.arguments(), "unix_socket": str(socket)}
        return {"connection_args": arguments, "collection_name": self.collection}

    async def execute(self, sql: str) -> list[tuple[Any, ...]]:
        login = self.server.arguments()
        database = login.pop("db_name")
        pool = Pool("", login)
        try:
            async with pool.session() as session:
                await session.execute(f"CREATE DATABASE IF NOT EXISTS {database}")
                await session.execute(f"USE {database}")
                return [tuple(row) for row in await session.rows(sql)]
        finally:
            pool.close()


def vector(seed: int, dims: int = DIMS) -> bytes:
    """A direction that no other seed has."""
    numbers = np.random.default_rng(seed).standard_normal(dims)
    return (numbers / np.linalg.norm(numbers)).astype("<f4").tobytes()


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def insert(text: str, user: str | None = None, **changed: Any) -> Insert:
    """A memory with ordinary values for all that the test does not name."""
    values = {"scope": Scope(user), "vector": b"", "digest": digest(text), "created_at": 1_700_000_000_000_000}
    return Insert(text=text, **{**values, **changed})


def noted(name: str, content: str = "", **changed: Any) -> Ledger:
    return Ledger(**{"key": digest(name), "content": digest(content), "job": "job", "at": 1, **changed})


async def add(store: Store, *inserts: Insert) -> list[int]:
    """Each as a write of its own; the ids."""
    applied = await store.apply([Write((one,)) for one in inserts])
    return [id for result in applied for _, id in result.events]


async def texts(store: Store, where: Any = EVERYTHING) -> list[str]:
    return [memory.text for memory in await store.find(where, limit=LARGE)]
