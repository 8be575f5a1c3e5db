"""The tables of an SQLite store and how an older one becomes a current one."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final

import apsw

from powermem_cli.errors import StoreCorrupt, StoreError, StoreMissing
from powermem_cli.stores.sqlite_rows import whose_mark

APPLICATION_ID: Final = 0x504D454D  # "PMEM": how a database of ours is told from any other
PACKS_SINCE: Final = 4  # schema version of which packs of signs are as they are now
HASHES_SINCE: Final = 5  # and those of hashes
WHOSE_SINCE: Final = 3

_VERSION_1: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;

-- Scope ids as small numbers: indexes stay small, and a user's number is the prefix of their terms.
CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE memories (
    id INTEGER PRIMARY KEY,
    user INTEGER, agent INTEGER, run INTEGER,  -- names.number
    text TEXT NOT NULL,
    metadata BLOB,                             -- JSONB; NULL for none
    digest BLOB NOT NULL,                      -- 16 bytes of the content, to know a repeat
    length INTEGER NOT NULL,                   -- distinct terms
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    bits BLOB                                  -- the signs of the vector's values; NULL without a vector
);
-- Covering: what a scope or a filter leaves of one user's memories, and which of them may be near, is found in one
-- walk over neighbouring pages, without reading texts or vectors.
CREATE INDEX memories_by_user ON memories (user, id, agent, run, created_at, metadata, bits);
CREATE INDEX memories_by_agent ON memories (agent, id) WHERE agent IS NOT NULL;
CREATE INDEX memories_by_run ON memories (run, id) WHERE run IS NOT NULL;
CREATE INDEX memories_by_digest ON memories (digest);

CREATE TABLE embeddings (id INTEGER PRIMARY KEY, vector BLOB NOT NULL);

-- Every term of a memory once, and once more behind its user's number (7·paris): a user's query reads only
-- their postings, however many others there are. The words are made by terms.py; here they are split at blanks.
CREATE VIRTUAL TABLE words USING fts5 (terms, content='', contentless_delete=1, detail=none, tokenize='ascii');

CREATE TABLE ledger (
    key BLOB PRIMARY KEY, content BLOB NOT NULL, status TEXT NOT NULL,
    memory_ids TEXT NOT NULL,                  -- JSON
    tries INTEGER NOT NULL, job TEXT NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID;
"""

_VERSION_2: Final = """
ALTER TABLE memories ADD COLUMN expires_at INTEGER;
ALTER TABLE memories ADD COLUMN origin INTEGER;   -- origins.number
ALTER TABLE memories ADD COLUMN line INTEGER;
DROP INDEX memories_by_user;
CREATE INDEX memories_by_user ON memories (user, id, agent, run, created_at, expires_at, metadata, bits);
CREATE INDEX memories_by_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE origins (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);  -- JSON: [job, file, role]

-- What a memory was until an event changed or ended it; whose it was stays known when it is gone.
CREATE TABLE history (
    memory INTEGER NOT NULL, number INTEGER NOT NULL,  -- that grows with time
    event TEXT NOT NULL, text TEXT NOT NULL,
    user INTEGER, agent INTEGER, run INTEGER, origin INTEGER, line INTEGER,
    created_at INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (memory, number)
) WITHOUT ROWID;
CREATE INDEX history_by_user ON history (user);
"""

_VERSION_3: Final = """
DROP INDEX memories_by_user;
ALTER TABLE memories DROP COLUMN bits;
ALTER TABLE memories ADD COLUMN whose INTEGER;  -- CRC-32 of id, user, agent and run: damage gives nobody's to another
CREATE INDEX memories_by_user ON memories (user, id, agent, run, created_at, expires_at, metadata);

-- Packs: many rows in one. They are never changed; what is no longer true in them is told by the other tables.
-- The signs of the vectors: ids (8 bytes each), users' numbers (4), CRC-32 of the vectors (4), signs (dims / 8, filled
-- up to 8).
CREATE TABLE signatures (
    number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL,
    ids BLOB NOT NULL, users BLOB NOT NULL, vectors BLOB NOT NULL, signs BLOB NOT NULL
);
-- Memories whose vector is in none of them yet.
CREATE TABLE unpacked (id INTEGER PRIMARY KEY, vector INTEGER NOT NULL);
CREATE TABLE outdated (id INTEGER PRIMARY KEY);  -- those that were deleted, or have another vector, since they were

-- Hashes (their first 8 bytes) and the rows they lead to (8): of kind 0 keys of the ledger, of kind 1 digests.
CREATE TABLE hashes (
    number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, kind INTEGER NOT NULL, hashes BLOB NOT NULL, led_to BLOB NOT NULL
);
CREATE TABLE unpacked_hashes (
    kind INTEGER NOT NULL, hash INTEGER NOT NULL, led_to INTEGER NOT NULL, PRIMARY KEY (kind, hash, led_to)
) WITHOUT ROWID;

DROP INDEX memories_by_digest;
ALTER TABLE ledger RENAME TO ledger_by_key;
CREATE TABLE ledger (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL, content BLOB NOT NULL, status TEXT NOT NULL,
    memory_ids TEXT NOT NULL,                  -- JSON
    tries INTEGER NOT NULL, job TEXT NOT NULL, at INTEGER NOT NULL
);
INSERT INTO ledger (key, content, status, memory_ids, tries, job, at) SELECT * FROM ledger_by_key;
DROP TABLE ledger_by_key;
"""

_VERSION_4: Final = """
-- When those memories were made (4 bytes each: seconds since 1970), so that a time is looked for without reading them.
ALTER TABLE signatures ADD COLUMN times BLOB NOT NULL DEFAULT x'';
"""

_VERSION_5: Final = """
-- Of kind 2, not 1, hashes are of digests with whose they are. What is packed is made anew, below.

-- Segments of the full text are merged by eights, not by fours: each word is written anew less often, and at a million
-- memories 32 segments are searched in the time of 14.
INSERT INTO words (words, rank) VALUES ('automerge', 8);
"""

MIGRATIONS: Final = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5)
"""MIGRATIONS[n] takes a store from version n to n + 1. What is released is never edited, only added to."""


def prepare(connection: apsw.Connection, path: Path) -> None:
    """Make the tables, bring them up to date, or refuse, all in one transaction. Raises StoreError."""
    application, version, tables = _state(connection)
    if application == APPLICATION_ID and version == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        application, version, tables = _state(connection)  # another process may have been first
        _check(application, version, tables, path)
        for migration in MIGRATIONS[version:]:
            connection.execute(migration)
        if 0 < version < WHOSE_SINCE:
            _mark_whose(connection)
        if 0 < version < PACKS_SINCE:
            pack_everything(connection)
        elif 0 < version < HASHES_SINCE:
            _pack_hashes(connection)
        if version == 0:
            connection.execute("INSERT INTO meta VALUES ('store_id', ?)", (uuid.uuid4().hex,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _mark_whose(connection: apsw.Connection) -> None:
    connection.create_scalar_function("whose_mark", whose_mark, 4, deterministic=True)
    connection.execute("UPDATE memories SET whose = whose_mark(id, user, agent, run)")


def pack_everything(connection: apsw.Connection) -> None:
    """Pack anew what is kept in packs, after which most of it is true."""
    from powermem_cli.stores import sqlite_signatures  # noqa: PLC0415 - it loads numpy

    sqlite_signatures.pack_anew(connection)
    _pack_hashes(connection)


def _pack_hashes(connection: apsw.Connection) -> None:
    from powermem_cli.stores import sqlite_hashes, sqlite_packs  # noqa: PLC0415 - they load numpy

    sqlite_hashes.pack_anew(connection)
    sqlite_packs.were_packed_anew(connection)


def refuse_foreign(connection: apsw.Connection, path: Path) -> None:
    """Look before anything is changed. Raises StoreCorrupt for another program's database, StoreError for a newer one."""
    _check(*_state(connection), path)


def is_current(connection: apsw.Connection, path: Path) -> bool:
    """Whether there is nothing to migrate. Raises StoreMissing if there are no tables yet."""
    _, version, tables = _state(connection)
    if not tables:
        raise StoreMissing(f"there is no store at {path}: the database has no tables", hint="powermem add makes one")
    return version == len(MIGRATIONS)


def is_damaged(connection: apsw.Connection) -> bool:
    """Whether a statement may have failed because the file is not as it was made. Looks through all of it."""
    made = apsw.Connection(":memory:")
    try:
        for migration in MIGRATIONS:
            made.execute(migration)
        sql = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        return list(connection.execute(sql)) != list(made.execute(sql)) or any(
            said != "ok" for (said,) in connection.execute("PRAGMA quick_check(1)")
        )
    except (apsw.Error, UnicodeDecodeError):
        return True
    finally:
        made.close()


def _state(connection: apsw.Connection) -> tuple[int, int, int]:
    """Application id, schema version, number of tables."""
    sql = (
        "SELECT (SELECT * FROM pragma_application_id), (SELECT * FROM pragma_user_version), count(*) FROM sqlite_schema"
    )
    application, version, tables = next(connection.execute(sql))
    return int(application), int(version), int(tables)


def _check(application: int, version: int, tables: int, path: Path) -> None:
    if application != APPLICATION_ID and (application, version, tables) != (0, 0, 0):
        raise StoreCorrupt(
            f"{path} is a database of another program",
            hint="nothing was changed in it; name another file with --db",
            code="store.foreign",
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was made by a newer powermem (schema {version}; this one knows {len(MIGRATIONS)})",
            hint="upgrade powermem-cli; nothing was changed",
            code="store.newer",
        )
