"""A few connections to an OceanBase server, lent one at a time; the driver's errors become ours here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import aiomysql
import anyio
import pymysql

from powermem_cli.errors import StoreBusy, StoreError, StoreFull
from powermem_cli.stores.attempts import Conflict, OutcomeUnknown

CONNECT_TIMEOUT: Final = 4.0  # seconds
COMMAND_TIMEOUT: Final = 120.0
LIFETIME: Final = 1800.0  # proxies and load balancers forget a connection that is older
CONNECTIONS: Final = 8
LONGEST_LOOK: Final = 36_000_000_000  # µs

_DUPLICATE = {1060, 1062}  # a column, a key
_BUSY = {
    *(0, 2003, 2006, 2013, 2014, 2055),  # the driver: no connection, or no longer
    *(1040, 1317, 1927, 5066, 8001),  # too many connections, a killed one
    *(1205, 1213, 4012, 4383, 6001, 6002, 6210, 6224),  # the transaction waited too long or was rolled back
}
_FULL = {1021, 1114, 4184}
_UNKNOWN_DATABASE = 1049
_LOGIN = {1045, 1698}
_PERMISSION = {1044, 1142, 1227}
_TOO_LONG = {1153}
_FAILURES = (pymysql.err.MySQLError, OSError, asyncio.TimeoutError)

# One statement, as the driver runs only one. The modes are named because an escaped value counts on backslashes
# (NO_BACKSLASH_ESCAPES off); autocommit, because some releases claim in the handshake what they do not do.
_FIRST_WORDS = (
    "SET collation_connection = utf8mb4_bin, sql_mode = 'STRICT_ALL_TABLES', autocommit = 1, time_zone = '+00:00', "
    "ob_query_timeout = 120000000, ob_trx_timeout = 600000000, ob_trx_lock_timeout = 5000000, "
    "ob_hnsw_ef_search = 800, ob_ivf_nprobes = 32"
)


class _Cursor(aiomysql.Cursor):  # type: ignore[misc]
    async def _show_warnings(self, conn: Any) -> None:
        """Nothing: what the server has to remark is no Python warning."""


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """A connection that may be forgotten without being closed: its socket closes itself, without a word."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made_at = time.monotonic()

    def escape(self, obj: Any) -> str:
        """The driver's own fails on bytes since PyMySQL 1.2."""
        return f"_binary X'{obj.hex()}'" if isinstance(obj, bytes) else str(super().escape(obj))

    def __del__(self) -> None:
        """Closes what is open, without the driver's words about it; an event loop that has ended can't help."""
        with contextlib.suppress(RuntimeError):
            self.close()


class Pool:
    """*options* are those of aiomysql.connect."""

    def __init__(self, place: str, options: dict[str, Any]) -> None:
        self.place = place
        self._options = options
        self._idle: list[_Connection] = []
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._closed = False

    async def connect(self, **changed: Any) -> _Connection:
        """A new connection, not of the pool. Raises StoreError; *changed* options override those of the pool."""
        options = {"charset": "utf8mb4", "autocommit": True, "cursorclass": _Cursor, "init_command": _FIRST_WORDS}
        with self.translated(), anyio.fail_after(CONNECT_TIMEOUT):
            connection = _Connection(**{**options, **self._options, **changed})
            await connection._connect()  # noqa: SLF001 - what aiomysql.connect() does with a class of its own
        return connection

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[OceanBaseSession]:
        async with self._turns:
            connection = self._idle_one() or await self.connect()
            try:
                with self.translated():
                    yield OceanBaseSession(connection)
            finally:
                self._take_back(connection)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[OceanBaseSession]:
        async with self.session() as session:
            await session.execute("BEGIN")
            try:
                yield session
            except BaseException:
                await session.roll_back()
                raise
            try:
                await session.execute("COMMIT")
            except _FAILURES as error:
                if isinstance(_translated(error, self.place), StoreBusy):
                    raise OutcomeUnknown(self.place) from error
                raise

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[OceanBaseSession]:
        """A connection of its own that sees all as it was at the first look, for up to ten hours."""
        first = f"{_FIRST_WORDS}, tx_isolation = 'REPEATABLE-READ', ob_trx_timeout = {LONGEST_LOOK}"
        connection = await self.connect(init_command=first)
        try:
            with self.translated():
                session = OceanBaseSession(connection)
                await session.execute("START TRANSACTION READ ONLY")
                yield session
        finally:
            connection.close()

    async def run_alone(self, statements: Sequence[str], **changed: Any) -> None:
        """On a connection of their own, however long they take."""
        connection = await self.connect(init_command="SET ob_query_timeout = 36000000000", **changed)
        try:
            with self.translated():
                cursor = await connection.cursor()
                for sql in statements:
                    await cursor.execute(sql)
        finally:
            connection.close()

    def close(self) -> None:
        self._closed = True
        self._drop_idle()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise _translated(error, self.place) from error

    def _idle_one(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.made_at < LIFETIME:
                return connection
            connection.close()
        return None

    def _take_back(self, connection: _Connection) -> None:
        if connection.closed:  # the others are of the same server and probably gone, too
            self._drop_idle()
        elif self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


class OceanBaseSession:
    """One connection as a Session; the mark of the first value is `%(v0)s`. A broken conversation closes it."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Sequence[Any]]:
        cursor = await self._run(sql, values)
        return list(await cursor.fetchall())

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        cursor = await self._run(sql, values)
        return int(cursor.rowcount)

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, key: str = "") -> None:
        marks = ", ".join(["%s"] * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        if key:
            sql += " ON DUPLICATE KEY UPDATE " + ", ".join(f"{column} = VALUES({column})" for column in columns)
        with anyio.fail_after(COMMAND_TIMEOUT):
            await (await self._connection.cursor()).executemany(sql, rows)

    async def roll_back(self) -> None:
        """Whatever happens: then the connection is closed, and the server rolls back."""
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(CONNECT_TIMEOUT):
                await self._connection.rollback()
        except _FAILURES:
            self._connection.close()

    async def _run(self, sql: str, values: Sequence[Any]) -> Any:
        cursor = await self._connection.cursor()
        with anyio.fail_after(COMMAND_TIMEOUT):
            await cursor.execute(sql, {f"v{number}": value for number, value in enumerate(values)})
        return cursor


def _translated(error: Exception, place: str) -> StoreError:
    """The driver's error as one of ours."""
    code = _code(error)
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        words = "no answer in time"
    elif code == 2003 and error.__cause__ is not None:  # the driver would say "MySQL server"
        words = str(error.__cause__)
    else:
        words = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    if code in _DUPLICATE:
        return Conflict(f"{place}: {words}")
    if code in _BUSY:
        return StoreBusy(f"{place} can't be reached or is busy: {words}", hint="see that the server runs; try again")
    if code in _FULL:
        return StoreFull(f"no room left on the server of {place}: {words}", hint="free some space and try again")
    if code in _LOGIN:
        return StoreError(f"{place} refuses the login: {words}", hint="check user and password", code="store.auth")
    if code == _UNKNOWN_DATABASE:
        return StoreError(f"{place}: {words}", hint="CREATE DATABASE makes it", code="store.missing")
    if code in _PERMISSION:
        return StoreError(f"{place}: {words}", hint="ask the owner of the database", code="store.permission")
    if code in _TOO_LONG:
        return StoreError(f"{place}: {words}", hint="raise max_allowed_packet on the server", code="store.too_long")
    return StoreError(f"{place}: {words} ({code})")


def _code(error: Exception) -> int:
    """The server's number; 2013 for a connection that broke or took too long."""
    if isinstance(error, pymysql.err.MySQLError):
        return int(error.args[0]) if error.args and isinstance(error.args[0], int) else -1
    return 2013
