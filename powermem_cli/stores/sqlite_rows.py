"""Rows of an SQLite store as values: what the reading and the writing side both look up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import apsw

from powermem_cli import times
from powermem_cli.errors import EmbedderMismatch
from powermem_cli.model import Origin, Scope, StoredMemory
from powermem_cli.stores.base import LedgerRow
from powermem_cli.times import YEAR_1900, YEAR_2200

SELECT_MEMORY: Final = """
SELECT m.id, m.text, (SELECT name FROM names WHERE number = m.user), (SELECT name FROM names WHERE number = m.agent),
       (SELECT name FROM names WHERE number = m.run), json(m.metadata), m.created_at, m.updated_at,
       (SELECT name FROM origins WHERE number = m.origin), m.line, m.expires_at, m.user, m.agent, m.run, m.whose
FROM memories m
"""
SELECT_LEDGER: Final = "SELECT number, key, content, status, memory_ids, tries, job, at FROM ledger"
MOST_KEYS_AT_ONCE: Final = 1024
EPOCH_MS: Final = 1_577_836_800_000  # 2020: ids hold the milliseconds since then above 20 bits of counting
ID_BITS: Final = 20
LONGEST_SIZE: Final = 5  # bytes of a number below 2³²
ORIGIN_PARTS: Final = 3
NOBODY: Final = 0  # the number in front of the terms of memories without a user


def memory_of(row: Sequence[Any]) -> StoredMemory:
    """A row of SELECT_MEMORY."""
    id, text, user, agent, run, metadata, created_at, updated_at, origin, line, expires_at, *numbers, whose = row
    if whose != whose_mark(id, *numbers):
        raise apsw.CorruptError(f"whose memory {id} is has been changed")
    if type(text) is not str:
        raise apsw.CorruptError(f"what memory {id} says is no text")
    for at in (created_at, updated_at) if expires_at is None else (created_at, updated_at, expires_at):
        if type(at) is not int or not YEAR_1900 <= at <= YEAR_2200:
            raise apsw.CorruptError(f"memory {id} has a time that is none")
    try:
        scope = _scope_of(user, agent, run, *[number is None for number in numbers])
    except ValueError as error:
        raise apsw.CorruptError(f"whose memory {id} is has no name, or one that is no text") from error
    about = metadata_of(id, metadata), created_at, updated_at, origin_of(origin, line), expires_at
    return StoredMemory(id, text, scope, *about)


@lru_cache(maxsize=1024)  # of thousands of rows, and there are few
def _scope_of(user: Any, agent: Any, run: Any, no_user: bool, no_agent: bool, no_run: bool) -> Scope:
    """Raises ValueError for a name where none should be, or the other way round."""
    for name, is_none in ((user, no_user), (agent, no_agent), (run, no_run)):
        if name is not None if is_none else type(name) is not str:
            raise ValueError(name)
    return Scope(user, agent, run)


def metadata_of(id: int, stored: str | None) -> dict[str, Any]:
    """As JSON, None for none. Raises CorruptError."""
    found = json.loads(stored) if stored else {}
    if not isinstance(found, dict):  # damage makes a number of it
        raise apsw.CorruptError(f"the metadata of memory {id} is no object")
    return found


def whose_mark(*scope: Any) -> int:
    """Of a memory's id and the numbers of its user, agent and run: what stands in its column *whose*."""
    return crc32(repr(scope).encode())  # damage may have made anything of a number


def origin_of(name: str | None, line: int | None) -> Origin | None:
    """From a name in the table of origins, which is None for a memory that came from nowhere in particular."""
    if name is None:
        return None
    job, file, role = _parts_of(name)
    return Origin(job, file, line, role)


@lru_cache(maxsize=1024)  # of thousands of rows, and there are few
def _parts_of(origin: str) -> tuple[str | None, str | None, str | None]:
    parts = json.loads(origin)
    if not isinstance(parts, list) or len(parts) != ORIGIN_PARTS:
        raise apsw.CorruptError("where a memory came from is not as it was written")
    job, file, role = parts
    return job, file, role


def origin_name(origin: Origin) -> str:
    return json.dumps([origin.job, origin.file, origin.role], ensure_ascii=False)


def meta(db: apsw.Connection, name: str) -> Any:
    """A value of the meta table, None if it was never set."""
    row = next(iter(db.execute("SELECT value FROM meta WHERE name = ?", (name,))), None)
    return None if row is None else row[0]


def meta_number(db: apsw.Connection, name: str) -> int:
    """A number of the meta table, 0 if it was never set."""
    value = meta(db, name)
    return 0 if value is None else _number(value)


def note_bare(db: apsw.Connection) -> None:
    """Keep that some memory may have no vector, so that the packs of vectors do not tell of all."""
    db.execute("INSERT OR IGNORE INTO meta VALUES ('bare', 1)")


def in_chunks(keys: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Marks for `IN (…)` and the values for them: filled up with NULLs to a power of two, so that there are few
    different statements and all of them stay prepared.
    """
    for start in range(0, len(keys), MOST_KEYS_AT_ONCE):
        some = list(keys[start : start + MOST_KEYS_AT_ONCE])
        some += [None] * ((1 << (len(some) - 1).bit_length()) - len(some))
        yield ",".join("?" * len(some)), some


def fresh_number(db: apsw.Connection, highest: str, values: Sequence[Any] = ()) -> int:
    """Above every number there is (*highest* asks for it; we hold the write lock), and roughly the time."""
    there: Any = next(db.execute(highest, values))[0]
    return max((times.now() // 1000 - EPOCH_MS) << ID_BITS, (there or 0) + 1)


def ledger_row_of(row: Sequence[Any]) -> LedgerRow:
    """A row of SELECT_LEDGER."""
    _, key, content, status, ids, tries, job, at = row
    listed = json.loads(ids)
    if not isinstance(listed, list):
        raise apsw.CorruptError("a row of the ledger has ids that are none")
    return LedgerRow(key, content, status, tuple(listed), tries, job, at)


def count(db: apsw.Connection, sql: str, values: Sequence[Any]) -> int:
    return _number(next(db.execute(sql, values))[0])


def user_number(db: apsw.Connection, user_id: str) -> int | None:
    row = next(iter(db.execute("SELECT number FROM names WHERE name = ?", (user_id,))), None)
    return None if row is None else _number(row[0])


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise apsw.CorruptError(f"{value!r:.40} stands where a number should")
    return value


def user_prefix(number: int) -> str:
    """What stands in front of a user's terms: U+00B7 is in no term, and no separator to FTS5's `ascii`."""
    return f"{number}·"


def quoted(prefix: str, term: str) -> str:
    """A term as an FTS5 string. Terms hold letters, digits and marks only, so there is no quote to double."""
    return f'"{prefix}{term}"'


def number_of(db: apsw.Connection, table: str, name: str) -> int:
    """The number of a name in such a table, given to it now if it has none."""
    db.execute(f"INSERT INTO {table} (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    return count(db, f"SELECT number FROM {table} WHERE name = ?", (name,))


def ledger_values(row: LedgerRow) -> tuple[Any, ...]:
    ids = row.memory_ids
    listed = f"[{ids[0]}]" if len(ids) == 1 else f"[{','.join(map(str, ids))}]"
    return row.key, row.content, row.status, listed, row.tries, row.job, row.at


def length_of(terms: str) -> int:
    """How many there are, with a blank between each two."""
    return terms.count(" ") + 1 if terms else 0


def length_told_by(size: Any) -> int:
    """How many distinct terms a memory has, of the size that FTS5 keeps: a number in bytes of 7 bits, and each term
    stands there twice.
    """
    if not isinstance(size, bytes) or not 0 < len(size) <= LONGEST_SIZE:
        raise apsw.CorruptError("the number of a memory's words is none")
    number = 0
    for byte in size:
        number = number << 7 | byte & 0x7F
    return number // 2


def indexed_terms(terms: str, user: int | None) -> str:
    """What FTS5 is given: each of the distinct *terms* alone, and behind its user's number."""
    if not terms:
        return ""
    prefix = user_prefix(NOBODY if user is None else user)
    return f"{terms} {prefix}{terms.replace(' ', f' {prefix}')}"


def mismatch(path: object, here: str, wanted: str) -> EmbedderMismatch:
    return EmbedderMismatch(
        f"the memories in {path} were embedded with {here}, this run is configured for {wanted}",
        hint=f"set EMBEDDING_PROVIDER, EMBEDDING_MODEL and EMBEDDING_DIMS back to {here}, name another store with --db, "
        "or have all memories embedded anew: powermem db reembed",
    )
