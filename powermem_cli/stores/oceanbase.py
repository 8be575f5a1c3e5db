"""Memories in OceanBase: its own vectors, and an index over them where a search leaves too many to look at each."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from powermem_cli.errors import ConfigError, StoreError
from powermem_cli.model import Scope, Vector
from powermem_cli.stores.attempts import Conflict, until_done
from powermem_cli.stores.base import EVERYTHING, Where
from powermem_cli.stores.oceanbase_pool import Pool
from powermem_cli.stores.oceanbase_sql import (
    COLUMNS,
    SINCE_2,
    OceanBaseStatement,
    OceanBaseTables,
    history_statement,
    table_statements,
)
from powermem_cli.stores.server import SCHEMA, check_collection, check_port, check_schema
from powermem_cli.stores.server_search import ServerSearch
from powermem_cli.stores.server_tables import Names, ServerTables, Session
from powermem_cli.stores.sql_where import Statement

DEFAULTS: Final[Mapping[str, Any]] = {
    "host": "127.0.0.1",
    "port": 2881,
    "user": "root@sys",
    "password": "",
    "db_name": "test",
    "unix_socket": None,
}


@dataclass(frozen=True, slots=True)
class Metric:
    """The function that says how far a vector is away, and what that makes the cosine of vectors of length 1."""

    function: str
    cosine: str


METRICS: Final = {
    "cosine": Metric("cosine_distance", "1 - {0}"),
    "l2": Metric("l2_distance", "1 - {0} * {0} / 2"),
    "inner_product": Metric("negative_inner_product", "-{0}"),
}

INDEX: Final = "nearest_"
WORDS: Final = "words_"
WORDS_OPTIONS: Final = "WITH PARSER space PARSER_PROPERTIES=(min_token_size=1, max_token_size=84)"
COUNTED: Final = 20_000  # memories; of more, a sample tells how many hold a term
SLICES: Final = 10
SLICE: Final = 300  # memories
INDEXES: Final = {"HNSW": "type=hnsw, lib=vsag", "IVF_FLAT": "type=ivf_flat, lib=ob, nlist={lists}", "NONE": None}


class OceanBaseStore(ServerSearch[Pool]):
    """A store in the tables *collection_name*… of an OceanBase database (MySQL mode, 4.3.5 or later).

    *connection_args*: host, port, user, password, db_name, or unix_socket. The database is made when it is missing.
    *index_type* (HNSW, IVF_FLAT, none) and *vidx_metric_type* say what `optimize` builds.
    """

    LENGTH = "length"

    def __init__(
        self,
        connection_args: Mapping[str, Any],
        collection_name: str = "memories",
        embedding_model_dims: int | None = None,
        index_type: str = "HNSW",
        vidx_metric_type: str = "cosine",
    ) -> None:
        self._prefix = check_collection(collection_name)
        self._target = _target(connection_args)
        self._index_type = _chosen("index_type", index_type.upper(), INDEXES)
        self._metric_name = _chosen("vidx_metric_type", vidx_metric_type.lower(), METRICS)
        self._metric = METRICS[self._metric_name]
        super().__init__(
            f"the collection {collection_name} of OceanBase at {_shown(self._target)}",
            Names(*(f"`{collection_name}{part}`" for part in ("", "_ledger", "_meta", "_history", "_lanes"))),
            embedding_model_dims,
        )
        self._has_words = False

    async def _connect(self) -> Pool:
        options = dict(self._target)
        pool = Pool(self.place, {"db": options.pop("db_name"), **options})
        try:
            try:
                await until_done(lambda: self._prepare(pool), on=Conflict)
            except StoreError as error:
                if error.code != "store.missing":
                    raise
                database = _quoted(self._target["db_name"])
                await pool.run_alone([f"CREATE DATABASE IF NOT EXISTS {database}"], db=None)
                await until_done(lambda: self._prepare(pool), on=Conflict)
        except BaseException:
            pool.close()
            raise
        return pool

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    async def _prepare(self, pool: Pool) -> None:
        async with pool.session() as session:
            columns = await self._columns(session)
            if not columns:
                await self._create(session)
                columns = await self._columns(session)
            tables = self._tables(session)
            needed = set(COLUMNS) - {*SINCE_2}
            version = (await tables.meta()).get("schema") if needed <= columns.keys() else None
            check_schema(self.place, set(columns), needed, version)
            if version == "1":
                await self._migrate(session, columns)
            await self._look_for_indexes(session)
            if self._wanted_dims is not None and "embedding" not in columns:
                await self._add_vectors(session, self._wanted_dims)

    async def _create(self, session: Session) -> None:
        *before, memories = table_statements(self.names)
        for sql in before:
            await session.execute(sql)
        # Another process may do the same: whoever is first gives the store its name.
        rows = f"('store_id', '{uuid.uuid4().hex}'), ('schema', '{SCHEMA}')"
        await session.execute(f"INSERT IGNORE INTO {self.names.meta} (name, value) VALUES {rows}")
        await session.execute(memories)

    async def _migrate(self, session: Session, columns: Mapping[str, str]) -> None:
        """From version 1 to 2. Nothing here can be rolled back: each step may have been done already, or be done at
        the same time by another process, which raises Conflict.
        """
        await session.execute(history_statement(self.names))
        for name in SINCE_2:
            if name not in columns:
                await session.execute(f"ALTER TABLE {self.names.memories} ADD COLUMN {name} {COLUMNS[name]}")
        await session.execute(f"UPDATE {self.names.meta} SET value = '2' WHERE name = 'schema'")

    async def _columns(self, session: Session) -> dict[str, str]:
        """The columns of the table of memories and their types; none if there is no such table."""
        sql = """SELECT column_name, column_type FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = %(v0)s"""
        return {str(name).lower(): str(kind) for name, kind in await session.rows(sql, (self._prefix,))}

    async def _look_for_indexes(self, session: Session) -> None:
        sql = """SELECT DISTINCT index_name FROM information_schema.statistics
            WHERE table_schema = DATABASE() AND table_name = %(v0)s"""
        names = {name for (name,) in await session.rows(sql, (self._prefix,))}
        self._has_index, self._has_words = INDEX in names, WORDS in names

    def _session(self) -> AbstractAsyncContextManager[Session]:
        return self._opened().session()

    def _transaction(self) -> AbstractAsyncContextManager[Session]:
        return self._opened().transaction()

    def _frozen(self) -> AbstractAsyncContextManager[Session]:
        return self._opened().frozen()

    async def _describe(self) -> dict[str, Any]:
        ((version,),) = await self._rows("SELECT version()", ())
        sql = """SELECT table_name, data_length + index_length FROM information_schema.tables
            WHERE table_schema = DATABASE()"""
        sizes = {str(name).lower(): int(size or 0) for name, size in await self._rows(sql, ())}
        own = [f"{self._prefix}{part}".lower() for part in ("", "_ledger", "_meta", "_history", "_lanes")]
        async with self._session() as session:
            await self._look_for_indexes(session)
        size = sum(sizes.get(name, 0) for name in own)
        indexes = [self._index_type] * self._has_index + ["FULLTEXT"] * self._has_words
        return {"engine": "oceanbase", "version": str(version), "indexes": indexes, "bytes": size}

    def _tables(self, session: Session) -> ServerTables:
        dims = int(self._meta["dims"]) if "dims" in self._meta else None
        return OceanBaseTables(session, self.names, self._statement, dims=dims)

    def _statement(self) -> Statement:
        return OceanBaseStatement()

    async def _prepare_vectors(self, dims: int) -> None:
        """The table has a column for vectors from the first on, as wide as that one."""

        async def attempt() -> None:
            async with self._session() as session:
                columns = await self._columns(session)
                if _width(columns.get("embedding")) == dims or "dims" in await self._tables(session).meta():
                    return
                if "embedding" in columns:  # made for a first vector that was then not kept
                    await session.execute(f"ALTER TABLE {self.names.memories} DROP COLUMN embedding")
                await self._add_vectors(session, dims)

        await until_done(attempt)

    async def _add_vectors(self, session: Session, dims: int) -> None:
        await session.execute(f"ALTER TABLE {self.names.memories} ADD COLUMN embedding VECTOR({dims})")

    def _nearest(self, statement: Statement, vector: Vector, where: Where, limit: int, *, exact: bool) -> str:
        away = f"{self._metric.function}(embedding, {statement.bind(vector)})"
        condition = statement.where(where)
        if exact:
            condition, order = f"embedding IS NOT NULL AND {condition}", "away, id"
        else:
            order = "away APPROXIMATE"
        near = f"""SELECT id, {away} AS away FROM {self.names.memories} WHERE {condition}
            ORDER BY {order} LIMIT {statement.bind(limit)}"""
        return f"SELECT id, {self._metric.cosine.format('away')} FROM ({near}) near ORDER BY away, id"

    async def _build_index(self, dims: int) -> bool:  # noqa: ARG002 - the column knows them
        kind = INDEXES[self._index_type]
        if kind is None:
            return False
        memories = self.names.memories
        statements = []
        if not self._has_index or self._index_type != "HNSW":  # it grows with the table; the lists of IVF do not
            options = f"distance={self._metric_name}, {kind.format(lists=math.isqrt(await self.count(EVERYTHING)))}"
            statements += [f"DROP INDEX {INDEX} ON {memories}"] * self._has_index
            statements += [f"CREATE VECTOR INDEX {INDEX} ON {memories} (embedding) WITH ({options})"]
        if not self._has_words:
            statements += [f"CREATE FULLTEXT INDEX {WORDS} ON {memories} (terms) {WORDS_OPTIONS}"]
        if statements:
            await self._opened().run_alone([*statements, f"ANALYZE TABLE {memories}"])
        self._has_words = True
        return True

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        total = await self._total(user_id)
        if user_id is None and total > COUNTED:
            return await self._sampled(terms, total), total
        statement = self._statement()
        condition = statement.where(Where(Scope(user_id)), expired=True)
        # The LIMIT keeps the engine from summing over memories that hold none: that takes thrice as long.
        some = f"{self.names.memories} WHERE {condition} AND {self._stands(statement, terms)} LIMIT {2**62}"
        return (await self._holding(statement, terms, some))[0], total

    async def _sampled(self, terms: Sequence[str], total: int) -> dict[str, int]:
        """How many memories hold each term, as slices from all the time there was suggest."""
        ((first, last),) = await self._rows(f"SELECT MIN(id), MAX(id) FROM {self.names.memories}", ())
        statement = self._statement()
        starts = [statement.bind(first + (last - first) * number // SLICES) for number in range(SLICES)]
        memories = self.names.memories
        slices = [f"(SELECT terms FROM {memories} WHERE id >= {one} ORDER BY id LIMIT {SLICE})" for one in starts]
        counts, sampled = await self._holding(statement, terms, f"({' UNION ALL '.join(slices)}) some")
        return {term: max(1, number * total // sampled) for term, number in counts.items()}

    async def _holding(self, statement: Statement, terms: Sequence[str], source: str) -> tuple[dict[str, int], int]:
        """In how many of the memories that *source* names each term stands, and how many those are."""
        each = ", ".join(["1", *(f"{self._holds(statement, term)} AS h{bit}" for bit, term in enumerate(terms))])
        sums = ", ".join(["COUNT(*)", *(f"COALESCE(SUM(h{bit}), 0)" for bit in range(len(terms)))])
        ((number, *holding),) = await self._rows(
            f"SELECT {sums} FROM (SELECT {each} FROM {source}) held", statement.values
        )
        return {term: int(one) for term, one in zip(terms, holding, strict=True)}, number

    def _holds(self, statement: Statement, term: str) -> str:
        return f"(terms LIKE {statement.bind(_standing(term))})"

    def _holds_any(self, statement: Statement, terms: Sequence[str], where: Where) -> str:
        if self._has_words and where.scope == EVERYTHING.scope:  # else the index of the scope leaves fewer
            return f"MATCH(terms) AGAINST({statement.bind(' '.join(terms))})"
        return self._stands(statement, terms)

    def _stands(self, statement: Statement, terms: Sequence[str]) -> str:
        return f"({' OR '.join(['FALSE', *(self._holds(statement, term) for term in terms)])})"


def _target(arguments: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(arguments.keys() - DEFAULTS.keys())
    if unknown:
        raise ConfigError(
            f"connection_args has no {unknown[0]!r}", hint=f"one of {', '.join(DEFAULTS)}", code="config.option"
        )
    target = {**DEFAULTS, **arguments}
    return target | {"port": check_port(target["port"], "connection_args.port")}


def _chosen(option: str, name: str, table: Mapping[str, object]) -> str:
    if name not in table:
        raise ConfigError(f"{option} {name!r} is unknown", hint=f"one of {', '.join(table)}", code="config.value")
    return name


def _shown(target: Mapping[str, Any]) -> str:
    server = target["unix_socket"] or f"{target['host']}:{target['port']}"
    return f"{server}/{target['db_name']}"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _standing(term: str) -> str:
    """The pattern of texts in which the term stands between blanks. It holds no character LIKE knows."""
    return f"% {term} %"


def _width(kind: str | None) -> int | None:
    """The dimensions of VECTOR(n)."""
    return None if kind is None else int(kind[kind.index("(") + 1 : kind.index(")")])
