"""Database servers that are there already, named by a URL: the tests get a database of their own, dropped afterwards."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg
import pytest
from engines import Postgres, Seekdb

from powermem_cli.stores.oceanbase_pool import Pool


def _not_ours() -> NoReturn:
    pytest.skip("stops, cuts off or looks into the server itself: only for one that the suite started")


def _done(work: Coroutine[None, None, None]) -> None:
    """In a thread of its own: an async fixture, which may have asked for the server, has its loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


class GivenPostgres(Postgres):
    """*url*: postgresql://user@host:5432/database, where a database may be made. PGPASSWORD is its password."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._database = f"powermem_test_{uuid.uuid4().hex[:12]}"

    @property
    def folder(self) -> Path:
        _not_ours()

    def dsn(self, database: str | None = None) -> str:
        parts = self._url._replace(path=f"/{database or self._database}", query=self._url.query or "sslmode=prefer")
        return urlunsplit(parts)

    def start(self) -> None:
        _done(self._administer(f"CREATE DATABASE {self._database} TEMPLATE template0 ENCODING 'UTF8'"))

    def kill(self) -> None:
        _not_ours()

    def remove(self) -> None:
        _done(self._administer(f"DROP DATABASE IF EXISTS {self._database} WITH (FORCE)"))

    async def _administer(self, sql: str) -> None:
        connection = await asyncpg.connect(urlunsplit(self._url))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


class GivenSeekdb(Seekdb):
    """*url*: oceanbase://user@host:2881/database, or %2Fpath%2Fof%2Fa.sock as host. OCEANBASE_PASSWORD: its password."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, _, address = parts.netloc.rpartition("@")
        host = unquote(address.rpartition(":")[0] if parts.port else address)
        where = {"unix_socket": host} if host.startswith("/") else {"host": host, "port": parts.port or 2881}
        password = os.environ.get("OCEANBASE_PASSWORD", "")
        self._login = {**where, "user": unquote(login), "password": password}
        self._database = f"powermem_test_{uuid.uuid4().hex[:12]}"

    @property
    def folder(self) -> Path:
        _not_ours()

    @property
    def socket(self) -> Path:
        _not_ours()

    def arguments(self) -> dict[str, object]:
        return {**self._login, "db_name": self._database}

    def start(self) -> None:
        _done(self._administer(f"CREATE DATABASE {self._database}"))

    def kill(self) -> None:
        _not_ours()

    def remove(self) -> None:
        _done(self._administer(f"DROP DATABASE IF EXISTS {self._database}"))

    async def _administer(self, sql: str) -> None:
        pool = Pool("", self._login)
        try:
            async with pool.session() as session:
                await session.execute(sql)
        finally:
            pool.close()
