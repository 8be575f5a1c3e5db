"""PostgreSQL's dialect: the tables of a store, and what a filter and a row look like there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from powermem_cli.filters import Value
from powermem_cli.model import Vector
from powermem_cli.rules import canonical_json
from powermem_cli.stores.server_batch import Row
from powermem_cli.stores.server_tables import Names, ServerTables, Session
from powermem_cli.stores.sql_where import JsonTypes, Statement, Text
from powermem_cli.terms import distinct_terms

COLUMNS: Final = {
    # The order: fixed widths first, so that no bytes are lost to alignment.
    "id": "bigint PRIMARY KEY",
    "created_at": "bigint NOT NULL",
    "updated_at": "bigint NOT NULL",
    "user_id": 'text COLLATE "C"',
    "agent_id": 'text COLLATE "C"',
    "run_id": 'text COLLATE "C"',
    "digest": "bytea NOT NULL",
    "memory": 'text COLLATE "C" NOT NULL',
    # The text is what was given, to the digit; jsonb keeps the value of a number, not how it was written.
    "metadata": 'text COLLATE "C" NOT NULL',
    "facets": "jsonb NOT NULL GENERATED ALWAYS AS (metadata::jsonb) STORED",
    # An array, not a tsvector: that may have 1 MB at most, and its parser has a mind of its own.
    "terms": 'text[] COLLATE "C" NOT NULL',
    "expires_at": "bigint",
    "origin": "text",  # JSON: [job, file, line, role]
}
SINCE_2: Final = ("expires_at", "origin")
"""Columns that tables of version 1 have not."""


def history_statements(names: Names, prefix: str) -> list[str]:
    return [
        f"""CREATE TABLE {names.history} (memory_id bigint NOT NULL, number bigint NOT NULL, event text NOT NULL,
            memory text COLLATE "C" NOT NULL, user_id text COLLATE "C", agent_id text COLLATE "C",
            run_id text COLLATE "C", origin text, created_at bigint NOT NULL, noted_at bigint NOT NULL,
            PRIMARY KEY (memory_id, number))""",
        f'CREATE INDEX "{prefix}_history_user" ON {names.history} (user_id)',
        f'CREATE INDEX "{prefix}_expiry" ON {names.memories} (expires_at) WHERE expires_at IS NOT NULL',
    ]


def migration_to_2(names: Names, prefix: str) -> list[str]:
    columns = ", ".join(f"ADD COLUMN {name} {COLUMNS[name]}" for name in SINCE_2)
    return [f"ALTER TABLE {names.memories} {columns}", *history_statements(names, prefix)]


def table_statements(names: Names, prefix: str, vector: str) -> list[str]:
    """What makes the tables of a collection. *vector* is pgvector's type with its schema."""
    memories = names.memories
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    return [
        f"CREATE TABLE {names.meta} (name text PRIMARY KEY, value text NOT NULL)",
        f"""CREATE TABLE {names.ledger} (record_key bytea PRIMARY KEY, content bytea NOT NULL, status text NOT NULL,
            memory_ids text NOT NULL, tries integer NOT NULL, job text NOT NULL, noted_at bigint NOT NULL)""",
        # Of any dimensions: those of the first vector are in the meta table, and an index names them.
        f"CREATE TABLE {memories} ({columns}, embedding {vector})",
        # In the row as long as it fits: a search that has to fetch each vector from beside it takes twice the time.
        f"ALTER TABLE {memories} ALTER COLUMN embedding SET STORAGE MAIN",
        f'CREATE INDEX "{prefix}_user" ON {memories} (user_id, id)',
        f'CREATE INDEX "{prefix}_agent" ON {memories} (agent_id, id) WHERE agent_id IS NOT NULL',
        f'CREATE INDEX "{prefix}_run" ON {memories} (run_id, id) WHERE run_id IS NOT NULL',
        f'CREATE INDEX "{prefix}_digest" ON {memories} (digest)',
        f'CREATE INDEX "{prefix}_terms" ON {memories} USING gin (terms)',
        f'CREATE INDEX "{prefix}_facets" ON {memories} USING gin (facets jsonb_path_ops)',
        *history_statements(names, prefix),
    ]


class PostgresStatement(Statement):
    types: ClassVar[JsonTypes] = JsonTypes(string="'string'", number="'number'", array="'array'", null="'null'")

    def __init__(self, lower_case: str) -> None:
        super().__init__()
        self._lower_case = lower_case

    def bind(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def encoded(self, text: str) -> str:
        return text

    def one_of(self, expression: str, values: Sequence[Any]) -> str:
        return f"{expression} = ANY({self.bind(list(values))})"

    def text_column(self, name: str) -> Text:
        return Text(name, name)

    def json_at(self, path: tuple[str, ...]) -> str:
        return "(facets" + "".join(f"->'{step}'" for step in path) + ")"

    def json_type(self, node: str) -> str:
        return f"jsonb_typeof({node})"

    def json_text(self, node: str) -> Text:
        text = f"(({node} #>> '{{}}') COLLATE \"C\")"
        return Text(text, text, f"jsonb_typeof({node}) = 'string'")

    def json_value(self, value: Value) -> str:
        return f"{self.bind(canonical_json(value))}::jsonb"

    def json_equals(self, path: tuple[str, ...], value: Value) -> str:
        # Containment of a value that is no array or object is equality, and the GIN index knows it.
        document: Any = value
        for step in reversed(path):
            document = {step: document}
        return f"facets @> {self.bind(canonical_json(document))}::jsonb"

    def json_one_of(self, node: str, values: Sequence[Value]) -> str:
        return f"{node} = ANY({self.bind([canonical_json(one) for one in values])}::jsonb[])"

    def json_holds(self, node: str, value: Value) -> str:
        return f"{node} @> {self.json_value(value)}"

    def within(self, text: str, part: str) -> str:
        return f"strpos({text}, {part}) > 0"

    def lower(self, characters: str) -> str:
        return f'(lower({characters} COLLATE "{self._lower_case}") COLLATE "C")'


class PostgresTables(ServerTables):
    """*number* tells the locks of this store from those of others on the server."""

    def __init__(self, session: Session, names: Names, statement: Callable[[], Statement], number: int) -> None:
        super().__init__(session, names, statement)
        self._number = number

    def record(self, row: Row) -> dict[str, Any]:
        record = self.common_record(row)
        if row.text is not None:
            record["terms"] = (distinct_terms(row.text) if row.terms is None else row.terms).split()
        if row.vector is not None:
            record["embedding"] = row.vector or None
        return record

    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        sql = f"SELECT id, embedding FROM {self.names.memories} WHERE id = ANY($1) AND embedding IS NOT NULL"
        return {id: vector for id, vector in await self.session.rows(sql, (list(ids),))}  # noqa: C416 - rows are no pairs to the driver

    async def lock_lanes(self, lanes: Sequence[int]) -> None:
        sql = "SELECT pg_advisory_xact_lock($1, lane) FROM unnest($2::int[]) lane"
        await self.session.rows(sql, (self._number, list(lanes)))
