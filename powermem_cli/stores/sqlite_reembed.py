"""New vectors for all memories of an SQLite store: gathered in a file beside it, then put in its place at once.

Until that one transaction the store is as it was, and is searched by the vectors it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from powermem_cli.errors import StoreBusy
from powermem_cli.model import Vector
from powermem_cli.stores.sqlite_file import make_private, translated
from powermem_cli.stores.sqlite_schema import pack_everything

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS made_for (store TEXT NOT NULL, model TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, digest BLOB NOT NULL, vector BLOB NOT NULL);
"""


class Text(NamedTuple):
    """What a memory says now."""

    id: int
    digest: bytes
    text: str


class NewVectors:
    """The vectors that are made already, in the file *path*, for one store and one model; what was made for another
    is dropped. Raises StoreBusy if another process is at it, StoreError.
    """

    def __init__(self, store: Path, store_id: str, model: str) -> None:
        self.path = store.with_name(f"{store.name}.reembed")
        make_private(self.path)
        self._db = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute(_TABLES)
            if list(self._db.execute("SELECT store, model FROM made_for")) != [(store_id, model)]:
                self._db.execute("DELETE FROM made_for; DELETE FROM vectors")
                self._db.execute("INSERT INTO made_for VALUES (?, ?)", (store_id, model))
            self._db.execute("COMMIT")
        except apsw.BusyError as error:
            self.close()
            raise StoreBusy(f"{store} is being re-embedded by another process", hint="wait until it is done") from error
        except apsw.Error as error:
            self.close()
            raise translated(error, self.path) from error

    def close(self) -> None:
        self._db.close()

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return int(next(self._db.execute("SELECT count(*) FROM vectors"))[0])

    def keep(self, texts: Sequence[Text], vectors: Sequence[Vector]) -> None:
        """On the disk when it returns. An empty vector: there is none for this text."""
        rows = [(text.id, text.digest, vector) for text, vector in zip(texts, vectors, strict=True)]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        except apsw.Error as error:
            raise translated(error, self.path) from error

    def missing(self, db: apsw.Connection, limit: int) -> list[Text]:
        """Memories of the store *db* that say something there is no vector for, in the order of ids."""
        found: list[int] = []
        made = iter(self._rows("id, digest"))
        one = next(made, None)
        for id, digest in db.execute("SELECT id, digest FROM memories ORDER BY id"):
            while one is not None and one[0] < id:
                one = next(made, None)
            if one is None or one != (id, digest):
                found.append(id)
                if len(found) == limit:
                    break
        sql = "SELECT id, digest, text FROM memories WHERE id = ?"
        return [Text(*row) for id in found for row in db.execute(sql, (id,))]

    def put_in(self, db: apsw.Connection, model: str) -> bool:
        """Replace all vectors of the store and say which model they are of; False, and nothing done, if some are
        missing. In the caller's transaction.
        """
        if self.missing(db, 1):
            return False
        db.execute("DELETE FROM embeddings")
        db.executemany("INSERT INTO embeddings VALUES (?, ?)", self._of_memories(db))
        db.execute("DELETE FROM meta WHERE name IN ('dims', 'model')")
        if dims := self._dims():  # else there is no vector, and the first one settles both again
            db.execute("INSERT INTO meta VALUES ('dims', ?), ('model', ?)", (dims, model))
        pack_everything(db)
        return True

    def _of_memories(self, db: apsw.Connection) -> Iterator[tuple[int, Vector]]:
        """But for those that were deleted since."""
        there = iter(db.execute("SELECT id FROM memories ORDER BY id"))
        made = iter(self._rows("id, vector"))
        for (id,) in there:
            vector = next(vector for one, vector in made if one == id)
            if vector:
                yield id, vector

    def _dims(self) -> int:
        (size,) = next(iter(self._db.execute("SELECT max(length(vector)) FROM vectors")))
        return int(size or 0) // 4

    def _rows(self, columns: str) -> Iterable[Any]:
        return self._db.execute(f"SELECT {columns} FROM vectors ORDER BY id")
