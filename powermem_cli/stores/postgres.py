"""Memories in PostgreSQL: pgvector for what is near, arrays of terms for what matches, JSONB for filters."""

from __future__ import annotations

import contextlib
import uuid
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from powermem_cli.errors import ConfigError, StoreBusy
from powermem_cli.model import Vector
from powermem_cli.stores.attempts import OutcomeUnknown
from powermem_cli.stores.base import Where
from powermem_cli.stores.postgres_session import (
    FAILURES,
    PostgresSession,
    decoded,
    drop,
    encoded,
    is_lost,
    translated,
)
from powermem_cli.stores.postgres_sql import (
    COLUMNS,
    SINCE_2,
    PostgresStatement,
    PostgresTables,
    migration_to_2,
    table_statements,
)
from powermem_cli.stores.server import SCHEMA, check_collection, check_port, check_schema
from powermem_cli.stores.server_search import ServerSearch
from powermem_cli.stores.server_tables import Names, ServerTables, Session
from powermem_cli.stores.sql_where import Statement

CONNECT_TIMEOUT: Final = 4.0  # seconds
COMMAND_TIMEOUT: Final = 120.0
CONNECTIONS: Final = 8
COUNTED: Final = 20_000  # memories; of more, the planner's estimates are near enough for what a term is worth
INDEX_MEMORY: Final = "512MB"
INDEX_OPTIONS: Final = "m = 24, ef_construction = 128"  # the engine's own (16, 64) find fewer of the nearest
FOLDING: Final = ("pg_unicode_fast", "und-x-icu", "pg_c_utf8")
"""Collations that know the lower case of all letters, best first: built in since 18, with ICU, built in since 17."""

_SETTINGS = {
    "application_name": "powermem",
    "jit": "off",  # it takes longer than the queries
    "plan_cache_mode": "force_custom_plan",  # a plan for any user is a bad one for this user
    "hnsw.iterative_scan": "strict_order",  # or a filter leaves fewer than were asked for
    "hnsw.ef_search": "800",
}


class PostgresStore(ServerSearch["asyncpg.Pool[Any]"]):
    """A store in the tables *collection_name*… of a PostgreSQL database with pgvector.

    Where the server is comes as a *dsn* or in parts; what is left out is what libpq would take. Without a *schema*
    the search path decides.
    """

    LENGTH = "cardinality(terms)::float8"

    def __init__(
        self,
        dsn: str | None = None,
        host: str | None = None,
        port: int | str | None = None,
        user: str | None = None,
        password: str | None = None,
        dbname: str | None = None,
        collection_name: str = "memories",
        schema: str | None = None,
        embedding_model_dims: int | None = None,
    ) -> None:
        if dsn is not None and any(part is not None for part in (host, port, user, password, dbname)):
            raise ConfigError("postgres takes a dsn or its parts, not both", code="config.value")
        self._schema = schema
        self._prefix = check_collection(collection_name)
        port = None if port is None else check_port(port, "port")
        self._target = {"dsn": dsn, "host": host, "port": port, "user": user, "password": password, "database": dbname}
        super().__init__(
            f"the collection {collection_name} of PostgreSQL at {_shown(self._target)}",
            Names(*(self._name(part) for part in ("", "_ledger", "_meta", "_history"))),
            embedding_model_dims,
        )
        self._vector_schema = ""
        self._folding = "default"

    def _name(self, part: str) -> str:
        name = f'"{self._prefix}{part}"'
        return name if self._schema is None else f"{_quoted(self._schema)}.{name}"

    async def _connect(self) -> asyncpg.Pool[Any]:
        with self._translated():
            async with self._alone() as connection:
                await self._prepare(connection)
            return await asyncpg.create_pool(
                **self._target,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=CONNECT_TIMEOUT,
                command_timeout=COMMAND_TIMEOUT,
                server_settings=_SETTINGS,
                init=self._begin,
                reset=_keep,
            )

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                with anyio.fail_after(CONNECT_TIMEOUT):
                    await pool.close()
            except (TimeoutError, *FAILURES):  # a line that broke unseen
                pool.terminate()

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A connection that is not of the pool."""
        connection = await asyncpg.connect(**self._target, timeout=CONNECT_TIMEOUT, server_settings=_SETTINGS)
        try:
            yield connection
        finally:
            with contextlib.suppress(*FAILURES):  # a server that says no good-bye
                await connection.close(timeout=CONNECT_TIMEOUT)

    async def _prepare(self, connection: asyncpg.Connection[Any]) -> None:
        """Make the tables, or check those that are there: one process at a time, all or nothing."""
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('powermem: tables'))")
            if await connection.fetchval("SELECT to_regclass($1)", self.names.memories) is None:
                await self._create(connection)
            else:
                await self._check(connection)
            self._vector_schema = _quoted(await _schema_of_vector(connection))
            self._has_index = await self._index_is_valid(connection)
            known = await connection.fetch("SELECT collname FROM pg_collation WHERE collname = ANY($1)", FOLDING)
            names = {row["collname"] for row in known}
            self._folding = next((name for name in FOLDING if name in names), "default")

    async def _create(self, connection: asyncpg.Connection[Any]) -> None:
        if self._schema is not None:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(self._schema)}")
        if await _schema_of_vector(connection) is None:
            await connection.execute("CREATE EXTENSION vector")
        vector = f"{_quoted(await _schema_of_vector(connection))}.vector"
        for sql in table_statements(self.names, self._prefix, vector):
            await connection.execute(sql)
        await connection.executemany(
            f"INSERT INTO {self.names.meta} VALUES ($1, $2)",
            [("store_id", uuid.uuid4().hex), ("schema", str(SCHEMA))],
        )

    async def _check(self, connection: asyncpg.Connection[Any]) -> None:
        rows = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
            self.names.memories,
        )
        version = None
        if await connection.fetchval("SELECT to_regclass($1)", self.names.meta) is not None:
            version = await connection.fetchval(f"SELECT value FROM {self.names.meta} WHERE name = 'schema'")
        columns = {row["attname"] for row in rows}
        check_schema(self.place, columns, {*COLUMNS, "embedding"} - {*SINCE_2}, version)
        if version == "1":
            for sql in migration_to_2(self.names, self._prefix):
                await connection.execute(sql)
            await connection.execute(f"UPDATE {self.names.meta} SET value = '2' WHERE name = 'schema'")

    async def _begin(self, connection: asyncpg.Connection[Any]) -> None:
        schema = self._vector_schema.strip('"').replace('""', '"')
        await connection.set_type_codec("vector", schema=schema, encoder=encoded, decoder=decoded, format="binary")

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with self._lent() as connection:
            yield PostgresSession(connection)

    @contextlib.asynccontextmanager
    async def _frozen(self) -> AsyncIterator[Session]:
        async with (
            self._lent() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield PostgresSession(connection)

    async def _describe(self) -> dict[str, Any]:
        tables = (self.names.memories, self.names.ledger, self.names.meta, self.names.history)
        sizes = " + ".join(f"pg_total_relation_size(to_regclass($${name}$$))" for name in tables)
        ((server, vectors, size),) = await self._rows(
            f"""SELECT current_setting('server_version'),
            (SELECT extversion FROM pg_extension WHERE extname = 'vector'), {sizes}""",
            (),
        )
        async with self._lent() as connection:
            self._has_index = await self._index_is_valid(connection)
        version = f"{server}, pgvector {vectors}"
        return {"engine": "postgres", "version": version, "indexes": ["HNSW"] * self._has_index, "bytes": int(size)}

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Session]:
        async with self._lent() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield PostgresSession(connection)
            except BaseException:
                with anyio.CancelScope(shield=True), contextlib.suppress(*FAILURES):
                    await transaction.rollback()
                raise
            try:
                await transaction.commit()
            except FAILURES as error:
                if isinstance(translated(error, self.place), StoreBusy):
                    drop(connection)
                    raise OutcomeUnknown(self.place) from error
                raise

    @contextlib.asynccontextmanager
    async def _lent(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A connection of the pool. One that broke is not given back."""
        pool = self._opened()
        with self._translated():
            async with pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                try:
                    yield connection
                except FAILURES as error:
                    if is_lost(error):
                        drop(connection)
                    raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise translated(error, self.place) from error

    def _tables(self, session: Session) -> ServerTables:
        number = zlib.crc32(self._meta.get("store_id", "").encode()) - 2**31
        return PostgresTables(session, self.names, self._statement, number)

    def _statement(self) -> Statement:
        return PostgresStatement(self._folding)

    async def _prepare_vectors(self, dims: int) -> None:
        """Nothing: the column takes vectors of any dimensions, the meta table says which."""

    def _nearest(self, statement: Statement, vector: Vector, where: Where, limit: int, *, exact: bool) -> str:
        mark, source = statement.bind(vector), self.names.memories
        condition = f"embedding IS NOT NULL AND {statement.where(where)}"
        if not exact:
            # Two keys to order by would keep the planner from the index; ties are put in order afterwards.
            kind = self._indexed_type(int(self._meta["dims"]))
            away = f"embedding::{kind} {self._operator} {mark}::{self._vector_schema}.vector::{kind}"
            near = f"SELECT id, embedding FROM {source} WHERE {condition} ORDER BY {away} LIMIT {statement.bind(limit)}"
            source, condition = f"({near}) near", "TRUE"
        # Vectors have length 1: the cosine is the inner product, which is quicker to work out.
        return f"""SELECT id, -(embedding {self._operator} {mark}) AS cosine FROM {source}
            WHERE {condition} ORDER BY cosine DESC, id LIMIT {statement.bind(limit)}"""

    async def _build_index(self, dims: int) -> bool:
        kind = self._indexed_type(dims)
        name = self._name("_nearest")
        with self._translated():
            # However long it takes, while others read and write.
            async with self._alone() as connection:
                await connection.execute(f"SET maintenance_work_mem = '{INDEX_MEMORY}'")
                if not await self._index_is_valid(connection):  # what a broken attempt left
                    await connection.execute(f"DROP INDEX IF EXISTS {name}")
                await connection.execute(
                    f"""CREATE INDEX CONCURRENTLY IF NOT EXISTS "{self._prefix}_nearest" ON {self.names.memories}
                    USING hnsw ((embedding::{kind}) {self._vector_schema}.halfvec_ip_ops) WITH ({INDEX_OPTIONS})"""
                )
                # Or one user's are looked for among all, and what an index names is looked at to see whether it is there.
                await connection.execute(f"VACUUM (ANALYZE) {self.names.memories}")
        return True

    async def _index_is_valid(self, connection: asyncpg.Connection[Any]) -> bool:
        """One of an earlier version, over numbers of 32 bits, is none."""
        sql = "SELECT indisvalid AND pg_get_indexdef(indexrelid) LIKE '%halfvec%' FROM pg_index"
        return bool(await connection.fetchval(f"{sql} WHERE indexrelid = to_regclass($1)", self._name("_nearest")))

    def _indexed_type(self, dims: int) -> str:
        """Numbers of 16 bits: half the memory, up to 4,000 dimensions; they only name candidates."""
        return f"{self._vector_schema}.halfvec({dims})"

    @property
    def _operator(self) -> str:
        return f"OPERATOR({self._vector_schema}.<#>)"

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        total, known = await self._estimated(terms) if user_id is None else (0, {})
        statement = self._statement()
        of_user = "TRUE" if user_id is None else f"user_id = {statement.bind(user_id)}"
        holding = f"SELECT count(*) FROM {self.names.memories} WHERE terms @> ARRAY[asked.term] AND {of_user}"
        counted = statement.bind([term for term in terms if term not in known])
        sql = f"SELECT term, ({holding}) FROM unnest({counted}::text[]) asked (term)"
        known |= {term: number for term, number in await self._rows(sql, statement.values)}  # noqa: C416 - no pairs
        return {term: known[term] for term in terms}, total or await self._total(user_id)

    async def _estimated(self, terms: Sequence[str]) -> tuple[int, dict[str, int]]:
        """How many memories the planner thinks there are, and how many hold each term that it knows to be frequent.
        0 and none where they are few enough to be counted, or it has never looked.
        """
        sql = """SELECT reltuples, term, share FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            LEFT JOIN LATERAL (SELECT term, share FROM pg_stats,
                unnest(most_common_elems::text::text[], most_common_elem_freqs) frequent (term, share)
                WHERE schemaname = nspname AND tablename = relname AND attname = 'terms' AND term = ANY($2)) f ON TRUE
            WHERE c.oid = to_regclass($1)"""
        rows = await self._rows(sql, (self.names.memories, list(terms)))
        total = int(rows[0][0])
        if total <= COUNTED:
            return 0, {}
        return total, {term: round(total * share) for _, term, share in rows if term is not None}

    def _holds(self, statement: Statement, term: str) -> str:
        # Not an integer: then what it is multiplied with would be taken for one, too.
        return f"({statement.bind(term)} = ANY(terms))::int::float8"

    def _holds_any(self, statement: Statement, terms: Sequence[str], where: Where) -> str:  # noqa: ARG002 - it knows when
        return f"terms && {statement.bind(list(terms))}::text[]"


async def _schema_of_vector(connection: asyncpg.Connection[Any]) -> Any:
    return await connection.fetchval(
        "SELECT nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
    )


async def _keep(_: Any) -> None:
    """A connection goes back to the pool as it is: what a transaction sets ends with it."""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _shown(target: Mapping[str, Any]) -> str:
    if target["dsn"] is None:
        host, port, database = target["host"], target["port"], target["database"]
    else:
        parts = urlsplit(target["dsn"])
        folder = parse_qs(parts.query).get("host", [None])[0]
        host, database = parts.hostname or folder, parts.path.lstrip("/")
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"dsn: {error}", code="config.value") from None
    return f"{host or 'localhost'}:{port or 5432}/{database or ''}"
