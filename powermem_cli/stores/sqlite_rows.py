"""Rows of an SQLite store as values: what the reading and the writing side both look up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import apsw

from powermem_cli.errors import EmbedderMismatch
from powermem_cli.model import Scope, StoredMemory
from powermem_cli.stores.base import LedgerRow

SELECT_MEMORY: Final = """
SELECT m.id, m.text, (SELECT name FROM names WHERE number = m.user), (SELECT name FROM names WHERE number = m.agent),
       (SELECT name FROM names WHERE number = m.run), json(m.metadata), m.created_at, m.updated_at FROM memories m
"""
MOST_KEYS_AT_ONCE: Final = 1024
NOBODY: Final = 0  # the number in front of the terms of memories without a user


def memory_of(row: Sequence[Any]) -> StoredMemory:
    """A row of SELECT_MEMORY."""
    id, text, user, agent, run, metadata, created_at, updated_at = row
    return StoredMemory(
        id, text, Scope(user, agent, run), json.loads(metadata) if metadata else {}, created_at, updated_at
    )


def meta(db: apsw.Connection, name: str) -> Any:
    """A value of the meta table, None if it was never set."""
    row = next(iter(db.execute("SELECT value FROM meta WHERE name = ?", (name,))), None)
    return None if row is None else row[0]


def in_chunks(keys: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Marks for `IN (…)` and the values for them: filled up with NULLs to a power of two, so that there are few
    different statements and all of them stay prepared.
    """
    for start in range(0, len(keys), MOST_KEYS_AT_ONCE):
        some = list(keys[start : start + MOST_KEYS_AT_ONCE])
        some += [None] * ((1 << (len(some) - 1).bit_length()) - len(some))
        yield ",".join("?" * len(some)), some


def ledger_rows(db: apsw.Connection, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
    found: dict[bytes, LedgerRow] = {}
    for marks, some in in_chunks(keys):
        sql = f"SELECT key, content, status, memory_ids, tries, job, at FROM ledger WHERE key IN ({marks})"
        rows: Any = db.execute(sql, some)
        for key, content, status, ids, tries, job, at in rows:
            found[key] = LedgerRow(key, content, status, tuple(json.loads(ids)), tries, job, at)
    return found


def frequencies(db: apsw.Connection, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
    """In how many memories of the user (None: of all) each term stands, and how many memories there are."""
    if user_id is None:
        prefix, total = "", int(meta(db, "memories") or 0)
    else:
        number = user_number(db, user_id)
        if number is None:
            return dict.fromkeys(terms, 0), 0
        prefix = user_prefix(number)
        total = count(db, "SELECT count(*) FROM memories WHERE user = ?", (number,))
    counted = {
        term: count(db, "SELECT count(*) FROM words WHERE words MATCH ?", (quoted(prefix, term),)) for term in terms
    }
    return counted, total


def count(db: apsw.Connection, sql: str, values: Sequence[Any]) -> int:
    return int(next(db.execute(sql, values))[0])


def user_number(db: apsw.Connection, user_id: str) -> int | None:
    row = next(iter(db.execute("SELECT number FROM names WHERE name = ?", (user_id,))), None)
    return None if row is None else int(row[0])


def user_prefix(number: int) -> str:
    """What stands in front of a user's terms: U+00B7 is in no term, and no separator to FTS5's `ascii`."""
    return f"{number}·"


def quoted(prefix: str, term: str) -> str:
    """A term as an FTS5 string. Terms hold letters, digits and marks only, so there is no quote to double."""
    return f'"{prefix}{term}"'


def mismatch(path: object, here: str, wanted: str) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"the memories in {path} were embedded with {here}, this run is configured for {wanted}",
        hint=f"set EMBEDDING_PROVIDER, EMBEDDING_MODEL and EMBEDDING_DIMS back to {here}, or name another store with --db",
    )
