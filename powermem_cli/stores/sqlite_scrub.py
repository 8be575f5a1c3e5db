"""Nothing that was deleted is left in the file of an SQLite store: not in freed pages, not in indexes, not in the -wal."""

from __future__ import annotations

import apsw

from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER
from powermem_cli.stores.sqlite_schema import pack_everything


def drop_from_indexes(db: apsw.Connection) -> None:
    """Full text and packs keep what was deleted until they are made anew. Inside the caller's transaction."""
    db.execute("INSERT INTO words (words) VALUES ('optimize')")
    pack_everything(db)


def has_older_packs(db: apsw.Connection) -> bool:
    """Whether an older program wrote some, which had the store open when a newer one brought it up to date."""
    packs = db.execute(
        """SELECT EXISTS (SELECT 1 FROM signatures WHERE length(times) != length(users))
        OR EXISTS (SELECT 1 FROM hashes WHERE kind NOT IN (?, ?))""",
        (LEDGER, DIGESTS),
    )
    return bool(next(packs)[0])


def rebuild(db: apsw.Connection) -> None:
    """Every page anew, and the log of changes cut to nothing. Outside of a transaction. Raises apsw.Error."""
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
