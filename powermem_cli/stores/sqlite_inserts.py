"""The rows that are new in a transaction: gathered column by column, and inserted many at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple
from zlib import crc32

import apsw

from powermem_cli.model import Vector
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_numbers import ScopeNumbers
from powermem_cli.stores.sqlite_rows import count, indexed_terms, length_of, note_bare, whose_mark

PACKED_AT: Final = 256  # vectors whose signs are worth a pack; so few are looked at one by one


class NewMemories(NamedTuple):
    """Columns of the same length, in the order of the ids."""

    ids: Sequence[int]
    whose: Sequence[ScopeNumbers]
    texts: Sequence[str]
    vectors: Sequence[Vector]
    digests: Sequence[bytes]
    terms: Sequence[str]
    """The distinct terms of each text, with a blank between each two."""
    metadata: Sequence[str | None]
    """As JSON."""
    created: Sequence[int]
    changed: Sequence[int]
    expire: Sequence[int | None]
    origins: Sequence[int | None]
    lines: Sequence[int | None]


class Inserts:
    """What one transaction adds. Whoever reads rows of it has them written first."""

    def __init__(self, db: apsw.Connection, finder: Finder) -> None:
        self._db = db
        self._finder = finder
        self._memories: list[Any] = []
        self._vectors: list[tuple[int, int | None, int, Vector]] = []  # id, user, when it was made
        self._words: list[Any] = []
        self._digests: list[bytes] = []
        self._whose: list[ScopeNumbers] = []
        self._ids: list[int] = []
        """Of the memories with those digests."""
        self._records: list[Any] = []
        self._keys: list[bytes] = []
        self._first_number = count(db, "SELECT coalesce(max(number), 0) + 1 FROM ledger", ())

    def memories(self, new: NewMemories) -> None:
        """Add memories that nobody has seen."""
        users, agents, runs = zip(*new.whose, strict=True)
        rows = zip(
            new.ids,
            *(users, agents, runs),
            *(new.texts, new.metadata, new.digests, map(length_of, new.terms)),
            *(new.created, new.changed, new.expire, new.origins, new.lines),
            map(whose_mark, new.ids, users, agents, runs),
            strict=True,
        )
        self._memories += chain.from_iterable(rows)
        self._vectors += [one for one in zip(new.ids, users, new.created, new.vectors, strict=True) if one[-1]]
        if not all(new.vectors):
            note_bare(self._db)
        self._words += chain.from_iterable(zip(new.ids, map(indexed_terms, new.terms, users), strict=True))
        self._digests += new.digests
        self._whose += new.whose
        self._ids += new.ids

    def vector(self, id: int, user: int | None, created_at: int, vector: Vector) -> None:
        """Add the vector of a memory that has none (any more)."""
        if vector:
            self._vectors.append((id, user, created_at, vector))
        else:
            note_bare(self._db)

    def digest(self, id: int, whose: ScopeNumbers, digest: bytes) -> None:
        """Find a memory by what it says now, too."""
        self._digests.append(digest)
        self._whose.append(whose)
        self._ids.append(id)

    def ledger(self, keys: Sequence[bytes], *columns: Iterable[Any]) -> None:
        """Add rows of the ledger: of each its key, and what further stands in it."""
        first = self._first_number + len(self._keys)
        numbers = range(first, first + len(keys))
        self._records += chain.from_iterable(zip(numbers, keys, *columns))  # noqa: B905 - some may go on for ever
        self._keys += keys

    def write_memories(self) -> None:
        """All but the words, without which nothing but a search for them does."""
        _insert(self._db, _MEMORIES, self._memories)
        vectors, self._vectors = self._vectors, []
        if vectors:
            _insert(self._db, _EMBEDDINGS, [value for id, _, _, vector in vectors for value in (id, vector)])
            self._write_signs(vectors)

    def write_words(self) -> None:
        """As late as may be, and all at once: FTS5 writes out what it gathered, as a segment to be merged with others,
        each time that another statement begins.
        """
        _insert(self._db, _WORDS, self._words)

    def write_ledger(self) -> None:
        """Once, at the end: the ledger, and by what hashes it and the memories are found."""
        _insert(self._db, _LEDGER, self._records)
        first = self._first_number
        self._finder.keep_keys(self._db, self._keys, range(first, first + len(self._keys)))
        self._finder.keep_digests(self._db, self._digests, self._whose, self._ids)

    def _write_signs(self, vectors: Sequence[tuple[int, int | None, int, Vector]]) -> None:
        """Many at once become a pack; those that come one by one wait until they are many."""
        if len(vectors) < PACKED_AT:
            self._db.executemany(
                "INSERT OR REPLACE INTO unpacked VALUES (?, ?)", [(id, crc32(vector)) for id, *_, vector in vectors]
            )
            if count(self._db, "SELECT count(*) FROM unpacked", ()) < PACKED_AT:
                return
        from powermem_cli.stores.sqlite_signatures import pack, pack_waiting  # noqa: PLC0415 - it loads numpy

        if len(vectors) < PACKED_AT:
            pack_waiting(self._db)
        else:
            pack(self._db, vectors)


class _Statement(NamedTuple):
    """An INSERT of any number of rows. SQLite works on as many as there are *at once* without the GIL; of more than
    16 KB a statement would not stay prepared.
    """

    head: str
    row: str
    width: int
    at_once: int


_MEMORIES: Final = _Statement("INSERT INTO memories VALUES ", "(?,?,?,?,?,jsonb(?),?,?,?,?,?,?,?,?)", 14, 256)
_EMBEDDINGS: Final = _Statement("INSERT INTO embeddings VALUES ", "(?,?)", 2, 512)
_WORDS: Final = _Statement("INSERT INTO words (rowid, terms) VALUES ", "(?,?)", 2, 2048)
_LEDGER: Final = _Statement("INSERT INTO ledger VALUES ", "(?,?,?,?,?,?,?,?)", 8, 512)


def _insert(db: apsw.Connection, statement: _Statement, values: list[Any]) -> None:
    """Insert the rows that lie one behind another in *values*, and empty it."""
    head, row, width, at_once = statement
    start, left = 0, len(values) // width
    while left:
        # Powers of two: few different statements, so that all of them stay prepared.
        rows = min(at_once, 1 << (left.bit_length() - 1))
        db.execute(head + ",".join([row] * rows), values[start : start + rows * width])
        start, left = start + rows * width, left - rows
    values.clear()
