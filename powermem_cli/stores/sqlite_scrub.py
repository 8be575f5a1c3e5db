"""Nothing that was deleted is left in the file of an SQLite store: not in freed pages, not in indexes, not in the -wal."""

from __future__ import annotations

import apsw

from powermem_cli.stores.sqlite_schema import pack_everything


def drop_from_indexes(db: apsw.Connection) -> None:
    """Full text and packs keep what was deleted until they are made anew. Inside the caller's transaction."""
    db.execute("INSERT INTO words (words) VALUES ('optimize')")
    pack_everything(db)


def lacks_times(db: apsw.Connection) -> bool:
    """Whether an older program wrote packs of signs, which had the store open when it became one of the fourth schema."""
    packs = db.execute("SELECT 1 FROM signatures WHERE length(times) != length(users) LIMIT 1")
    return next(packs, None) is not None


def rebuild(db: apsw.Connection) -> None:
    """Every page anew, and the log of changes cut to nothing. Outside of a transaction. Raises apsw.Error."""
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
