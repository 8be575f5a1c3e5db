"""OceanBase's dialect (MySQL's, with vectors): the tables of a store, and what a filter and a row look like there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from powermem_cli.filters import Value
from powermem_cli.model import Scope, Vector
from powermem_cli.rules import canonical_json
from powermem_cli.stores.server_batch import Row
from powermem_cli.stores.server_tables import LANES, Names, ServerTables, Session
from powermem_cli.stores.sql_where import JsonTypes, Statement, Text
from powermem_cli.terms import distinct_terms

COLUMNS: Final = {
    "id": "BIGINT NOT NULL PRIMARY KEY",
    "created_at": "BIGINT NOT NULL",
    "updated_at": "BIGINT NOT NULL",
    # Bytes: every collation there is takes "a" and "a " for one user.
    "user_id": "VARBINARY(255)",
    "agent_id": "VARBINARY(255)",
    "run_id": "VARBINARY(255)",
    "digest": "VARBINARY(32) NOT NULL",
    "memory": "MEDIUMTEXT NOT NULL",
    # Not JSON: that keeps 16 digits of a number, and is no quicker to filter.
    "metadata": "MEDIUMTEXT NOT NULL",
    "terms": "MEDIUMTEXT NOT NULL",  # with a blank on both sides of each
    "length": "INT NOT NULL",  # distinct terms
    "expires_at": "BIGINT",
    "origin": "TEXT",  # JSON: [job, file, line, role]
}
SINCE_2: Final = ("expires_at", "origin")
"""Columns that tables of version 1 have not."""
LONGEST_STATEMENT: Final = 4 * 1024 * 1024  # bytes
# Texts and vectors in their row as far as they fit, or every search looks elsewhere for each of them.
_OPTIONS: Final = "DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_bin LOB_INROW_THRESHOLD=16384"


def history_statement(names: Names) -> str:
    return f"""CREATE TABLE IF NOT EXISTS {names.history} (memory_id BIGINT NOT NULL, number BIGINT NOT NULL,
        event VARCHAR(16) NOT NULL, memory MEDIUMTEXT NOT NULL, user_id VARBINARY(255), agent_id VARBINARY(255),
        run_id VARBINARY(255), origin TEXT, created_at BIGINT NOT NULL, noted_at BIGINT NOT NULL,
        PRIMARY KEY (memory_id, number), KEY by_user (user_id)) {_OPTIONS}"""


def table_statements(names: Names) -> list[str]:
    """What makes the tables of a collection. That of the memories is last: where it is, all others are."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    lanes = ", ".join(f"({lane})" for lane in range(LANES))
    return [
        f"CREATE TABLE IF NOT EXISTS {names.meta} (name VARCHAR(32) PRIMARY KEY, value TEXT NOT NULL) {_OPTIONS}",
        f"""CREATE TABLE IF NOT EXISTS {names.ledger} (record_key VARBINARY(32) PRIMARY KEY,
            content VARBINARY(32) NOT NULL, status VARCHAR(16) NOT NULL, memory_ids MEDIUMTEXT NOT NULL,
            tries INT NOT NULL, job TEXT NOT NULL, noted_at BIGINT NOT NULL) {_OPTIONS}""",
        history_statement(names),
        f"CREATE TABLE IF NOT EXISTS {names.lanes} (lane INT PRIMARY KEY)",
        f"INSERT IGNORE INTO {names.lanes} VALUES {lanes}",
        f"""CREATE TABLE IF NOT EXISTS {names.memories} ({columns}, KEY by_user (user_id, id),
            KEY by_agent (agent_id, id), KEY by_run (run_id, id), KEY by_digest (digest)) {_OPTIONS}""",
    ]


class OceanBaseStatement(Statement):
    types: ClassVar[JsonTypes] = JsonTypes(
        string="'STRING'", number="'INTEGER', 'UNSIGNED INTEGER', 'DOUBLE', 'DECIMAL'", array="'ARRAY'", null="'NULL'"
    )

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return f"%(v{len(self.values) - 1})s"

    def encoded(self, text: str) -> bytes:
        return text.encode()

    def one_of(self, expression: str, values: Sequence[Any]) -> str:
        return f"{expression} IN ({', '.join([self.bind(value) for value in values])})"

    def text_column(self, name: str) -> Text:
        if name == "memory":
            return Text("CAST(memory AS BINARY)", "memory")
        return Text(name, f"(CONVERT({name} USING utf8mb4) COLLATE utf8mb4_bin)")

    def json_at(self, path: tuple[str, ...]) -> str:
        steps = "".join(f'."{step}"' for step in path)
        return f"JSON_EXTRACT(metadata, '${steps}')"

    def json_type(self, node: str) -> str:
        return f"JSON_TYPE({node})"

    def json_text(self, node: str) -> Text:
        text = f"JSON_UNQUOTE({node})"
        return Text(f"CAST({text} AS BINARY)", f"({text} COLLATE utf8mb4_bin)", f"JSON_TYPE({node}) = 'STRING'")

    def json_value(self, value: Value) -> str:
        return f"CAST({self.bind(canonical_json(value))} AS JSON)"

    def json_equals(self, path: tuple[str, ...], value: Value) -> str:
        return f"{self.json_at(path)} = {self.json_value(value)}"

    def json_one_of(self, node: str, values: Sequence[Value]) -> str:
        return f"{node} MEMBER OF (CAST({self.bind(canonical_json(list(values)))} AS JSON))"

    def json_holds(self, node: str, value: Value) -> str:
        return f"{self.json_value(value)} MEMBER OF ({node})"

    def within(self, text: str, part: str) -> str:
        return f"LOCATE({part}, {text}) > 0"

    def lower(self, characters: str) -> str:
        return f"(LOWER({characters}) COLLATE utf8mb4_bin)"


class OceanBaseTables(ServerTables):
    """*dims*: those of the column for vectors; None if the table has none, as before the first."""

    def __init__(self, session: Session, names: Names, statement: Callable[[], Statement], *, dims: int | None) -> None:
        super().__init__(session, names, statement)
        self._dims = dims

    def record(self, row: Row) -> dict[str, Any]:
        record = self.common_record(row)
        if row.text is not None:
            terms = distinct_terms(row.text) if row.terms is None else row.terms
            record |= {"terms": f" {terms} ", "length": len(terms.split())}
        if row.vector or (row.vector is not None and self._dims is not None):
            record |= {"embedding": row.vector or None}
        return record

    def scope_values(self, scope: Scope) -> tuple[Any, Any, Any]:
        user_id, agent_id, run_id = (None if id is None else id.encode() for id in _parts(scope))
        return user_id, agent_id, run_id

    def scope_of(self, values: Sequence[Any]) -> Scope:
        return Scope(*(None if value is None else bytes(value).decode() for value in values))

    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        """Number by number, each the product with an axis: a vector as such comes with six digits only."""
        dims = self._dims or 0
        axes = np.eye(dims, dtype="<f4")
        at_once = max(1, LONGEST_STATEMENT // (8 * dims + 64)) if dims else 1
        found: dict[int, list[float]] = {}
        for start in range(0, dims, at_once):
            statement = self.statement()
            axis = [f"inner_product(embedding, {statement.bind(one.tobytes())})" for one in axes[start:][:at_once]]
            condition = f"{statement.one_of('id', list(ids))} AND embedding IS NOT NULL"
            sql = f"SELECT id, {', '.join(axis)} FROM {self.names.memories} WHERE {condition}"
            for id, *numbers in await self.session.rows(sql, statement.values):
                found.setdefault(id, []).extend(numbers)
        return {id: np.array(numbers, "<f4").tobytes() for id, numbers in found.items()}

    async def lock_lanes(self, lanes: Sequence[int]) -> None:
        statement = self.statement()
        sql = f"SELECT lane FROM {self.names.lanes} WHERE {statement.one_of('lane', lanes)} ORDER BY lane FOR UPDATE"
        await self.session.rows(sql, statement.values)


def _parts(scope: Scope) -> tuple[str | None, str | None, str | None]:
    return scope.user_id, scope.agent_id, scope.run_id
