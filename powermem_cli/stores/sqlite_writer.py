"""The writing side of an SQLite store: batches of writes, deletions of many, and what both have to agree on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from powermem_cli import times
from powermem_cli.blocks import flat
from powermem_cli.model import Vector
from powermem_cli.stores.base import Applied, BlockWrite, Delete, Where, Write
from powermem_cli.stores.sqlite_batch import Batch, add_to_count, never_again, pack_anew_if_worth_it
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_rows import count, meta, mismatch
from powermem_cli.stores.sqlite_where import compile_where

MOST_NAMES: Final = 100_000


class Writer:
    """The writing side of one connection: applies batches, and remembers the numbers of names between them."""

    def __init__(self, path: Path, finder: Finder) -> None:
        self._path = path
        self._finder = finder
        self._numbers: dict[str, int] = {}

    def forget(self) -> None:
        """After a rollback: a number given meanwhile was not kept."""
        self._numbers.clear()
        self._finder.forget()

    def apply(self, db: apsw.Connection, writes: Sequence[Write | BlockWrite], model: str | None) -> list[Applied]:
        if len(self._numbers) > MOST_NAMES:
            self._numbers.clear()
        self._agree_on_vectors(db, writes, model)
        return Batch(db, self._finder, self._numbers, writes).run()

    def delete(self, db: apsw.Connection, where: Where) -> int:
        """All of them, what has expired too, with their history; of a whole scope all history there is."""
        condition, values = compile_where(where, expired=True)
        if where.filter is None and where.ids is None:
            db.execute(f"DELETE FROM history AS m WHERE {condition}", values)
        return self._delete_doomed(db, condition, values)

    def expire(self, db: apsw.Connection) -> int:
        return self._delete_doomed(db, "m.expires_at <= ?", (times.now(),))

    def _delete_doomed(self, db: apsw.Connection, condition: str, values: Sequence[Any]) -> int:
        db.execute("CREATE TEMP TABLE doomed (id INTEGER PRIMARY KEY)")
        db.execute(f"INSERT INTO doomed SELECT m.id FROM memories m WHERE {condition}", values)
        number = count(db, "SELECT count(*) FROM doomed", ())
        if not number:
            db.execute("DROP TABLE doomed")
            return 0
        never_again(db, count(db, "SELECT max(id) FROM doomed", ()))
        db.execute("INSERT OR IGNORE INTO outdated SELECT id FROM doomed")
        ids_in = {"words": "rowid", "embeddings": "id", "unpacked": "id", "history": "memory", "memories": "id"}
        for table, column in ids_in.items():
            db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM doomed)")
        db.execute("DROP TABLE doomed")
        add_to_count(db, -number)
        pack_anew_if_worth_it(db)
        return number

    def _agree_on_vectors(self, db: apsw.Connection, writes: Sequence[Write | BlockWrite], model: str | None) -> None:
        """The first vector settles model and dimensions for good; every other must be of that kind."""
        sizes = {len(vector) // 4 for write in writes for vector in _vectors(write) if vector}
        if not sizes:
            return
        dims, made_by = meta(db, "dims"), meta(db, "model")
        if dims is None:
            dims = next(iter(sizes))
            db.execute("INSERT INTO meta VALUES ('dims', ?), ('model', ?)", (dims, model))
        elif model is not None and made_by != model:
            raise mismatch(self._path, str(made_by), model)
        if sizes != {dims}:
            wrong = next(iter(sizes - {dims}))
            raise mismatch(self._path, f"{made_by or model}, {dims} dimensions", f"{wrong} dimensions")


def _vectors(write: Write | BlockWrite) -> list[Vector | None]:
    if isinstance(write, BlockWrite):
        return flat(write.block.columns.vectors)
    return [None if isinstance(change, Delete) else change.vector for change in write.changes]
