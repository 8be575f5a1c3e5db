"""What a batch of writes does to the tables of an SQLite store, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple
from zlib import crc32

import apsw

from powermem_cli import times
from powermem_cli.filters import Filter
from powermem_cli.model import Event, Origin, Scope, Vector
from powermem_cli.rules import canonical_json
from powermem_cli.stores.base import (
    Applied,
    Change,
    Delete,
    Insert,
    Ledger,
    LedgerRow,
    Update,
    Where,
    Write,
    ledger_row,
)
from powermem_cli.stores.sqlite_finder import Finder
from powermem_cli.stores.sqlite_rows import (
    count,
    fresh_number,
    in_chunks,
    indexed_terms,
    ledger_values,
    length_of,
    meta_number,
    metadata_of,
    note_bare,
    number_of,
    origin_name,
    whose_mark,
)
from powermem_cli.stores.sqlite_schema import pack_everything
from powermem_cli.stores.sqlite_where import compile_where, listed
from powermem_cli.terms import distinct_terms

PACKED_AT: Final = 256  # vectors whose signs are worth a pack; so few are looked at one by one
WORTH_PACKING_ANEW: Final = 4096  # vectors that are gone

ScopeNumbers = tuple[int | None, int | None, int | None]


class Batch:
    """One call of apply: looks up once what all its writes need, and inserts for all of them at once."""

    def __init__(self, db: apsw.Connection, finder: Finder, numbers: dict[str, int], writes: Sequence[Write]) -> None:
        self._db = db
        self._finder = finder
        self._numbers = numbers
        self._writes = writes
        stored = finder.ledger(db, [w.ledger.key for w in writes if w.ledger is not None])
        self._ledger = {key: row for key, (_, row) in stored.items()}
        self._stored_at = {key: number for key, (number, _) in stored.items()}
        self._scopes: dict[Scope, ScopeNumbers] = {}
        self._origins: dict[tuple[str | None, ...], int] = {}
        self._next_id = 0
        self._new: list[tuple[int, ScopeNumbers, Insert]] = []
        self._vectors: list[tuple[int, int | None, int, Vector]] = []  # id, user, when it was made
        self._words: list[Any] = []
        self._noted: dict[bytes, LedgerRow] = {}
        self._said: dict[bytes, list[int]] = {}
        """Digest → ids of the memories that this batch has given it."""
        self._bare = False  # whether any has no vector
        self._added = 0
        self._outdated: list[Any] = []
        inserts_only = all(isinstance(change, Insert) for write in writes for change in write.changes)
        self._held = self._stored_ids() if inserts_only else None
        """Of the ids that come with an Insert, those that are taken; None as below."""
        self._repeats = self._stored_repeats() if inserts_only else None
        """(digest, scope) → id of what is stored or about to be; None: changing under our hands, so ask each time."""

    def run(self) -> list[Applied]:
        results = [self._write(write) for write in self._writes]
        self._flush_rows()
        self._write_ledger()
        said = [(digest, id) for digest, ids in self._said.items() for id in ids]
        self._finder.keep_digests(self._db, [digest for digest, _ in said], [id for _, id in said])
        if self._added:
            add_to_count(self._db, self._added)
        if self._bare:
            note_bare(self._db)
        if self._outdated:
            self._db.executemany("INSERT OR IGNORE INTO outdated VALUES (?)", self._outdated)
            pack_anew_if_worth_it(self._db)
        # Last, and all at once: FTS5 writes out what it gathered, as a segment to be merged with others, each time that
        # another statement begins.
        _insert(self._db, _WORDS, self._words)
        return results

    def _write(self, write: Write) -> Applied:
        changes, ledger = write
        if ledger is None:
            return Applied(tuple(map(self._change, changes)))
        row = self._ledger.get(ledger.key)
        if row is not None and row.status != "failed" and row.content != ledger.seen:
            return Applied(known=row)
        events = tuple(map(self._change, changes))
        self._note(ledger, row, changes, events)
        return Applied(events)

    def _change(self, change: Change) -> tuple[Event, int]:
        if isinstance(change, Insert):
            return self._insert(change)
        self._flush()
        return self._update(change) if isinstance(change, Update) else self._delete(change)

    def _insert(self, new: Insert) -> tuple[Event, int]:
        """What becomes of it; its row is made with all others, in `_insert_rows`."""
        digest, id = new.digest, new.id
        numbers = self._scopes.get(new.scope) or self._scope_numbers(new.scope)
        if new.unless_known and (known := self._known_repeat(digest, numbers, new.among)) is not None:
            return "NONE", known
        if id is None:
            id = self._fresh_id()
        elif self._taken(id):
            return "NONE", id
        elif self._held is not None:
            self._held.add(id)
        self._new.append((id, numbers, new))
        self._added += 1
        self._said.setdefault(digest, []).append(id)
        if self._repeats is not None:
            self._repeats.setdefault((digest, numbers), id)
        return "ADD", id

    def _update(self, change: Update) -> tuple[Event, int]:
        found = self._in_scope(change.id, change.scope)
        if found is None:
            return "NONE", 0
        if change.unless_known and self._has_twin(change):
            return self._delete(Delete(change.id, change.scope))
        user, created_at, stored = found
        metadata = stored
        if change.metadata is not None:
            merged = {**metadata_of(change.id, stored), **change.metadata}
            metadata = canonical_json(merged) if merged else None
        if change.text is not None:
            self._remember(change.id, "UPDATE", change.updated_at, unless=change.text)
        self._db.execute(
            "UPDATE memories SET metadata = jsonb(?), updated_at = ?, expires_at = coalesce(?, expires_at) WHERE id = ?",
            (metadata, change.updated_at, change.expires_at, change.id),
        )
        if change.text is not None:
            number, line = self._origin(change.origin)
            self._db.execute("UPDATE memories SET origin = ?, line = ? WHERE id = ?", (number, line, change.id))
        if change.text is not None:
            terms = distinct_terms(change.text)
            self._db.execute(
                "UPDATE memories SET text = ?, digest = coalesce(?, digest), length = ? WHERE id = ?",
                (change.text, change.digest, length_of(terms), change.id),
            )
            if change.digest is not None:
                self._said.setdefault(change.digest, []).append(change.id)
            self._db.execute("DELETE FROM words WHERE rowid = ?", (change.id,))
            self._db.execute("INSERT INTO words (rowid, terms) VALUES (?, ?)", (change.id, indexed_terms(terms, user)))
        if change.vector is not None:
            for table in ("embeddings", "unpacked"):
                self._db.execute(f"DELETE FROM {table} WHERE id = ?", (change.id,))
            self._outdated.append((change.id,))
            if change.vector:
                self._vectors.append((change.id, user, created_at, change.vector))
                self._flush()
            else:
                self._bare = True
        return "UPDATE", change.id

    def _delete(self, change: Delete) -> tuple[Event, int]:
        if self._in_scope(change.id, change.scope, expired=True) is None:
            return "NONE", 0
        self._remember(change.id, "DELETE", times.now())
        self._outdated.append((change.id,))
        for table, column in (("words", "rowid"), ("embeddings", "id"), ("unpacked", "id"), ("memories", "id")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (change.id,))
        self._added -= 1
        never_again(self._db, change.id)
        return "DELETE", change.id

    def _remember(self, id: int, event: Event, at: int, *, unless: str | None = None) -> None:
        """Keep what a memory says until now, but for a text that stays the same."""
        number = fresh_number(self._db, "SELECT max(number) FROM history WHERE memory = ?", (id,))
        sql = """INSERT INTO history SELECT id, ?, ?, text, user, agent, run, origin, line, created_at, ?
            FROM memories WHERE id = ? AND text IS NOT ?"""
        self._db.execute(sql, (number, event, at, id, unless))

    def _has_twin(self, change: Update) -> bool:
        """Whether another memory of the same scope says already what this one shall."""
        if change.digest is None:
            return False
        self._flush()
        sql = """SELECT count(*) FROM memories own JOIN memories m ON m.digest = ? AND m.id != own.id
            AND m.user IS own.user AND m.agent IS own.agent AND m.run IS own.run
            AND (m.expires_at IS NULL OR m.expires_at > ?) WHERE own.id = ? AND m.id IN (SELECT value FROM carray(?))"""
        holding = self._holding(change.digest)
        return bool(count(self._db, sql, (change.digest, times.now(), change.id, holding)))

    def _holding(self, digest: bytes) -> Any:
        """Which memories may have this digest, for `carray(?)`."""
        return listed([*self._finder.holding(self._db, [digest]), *self._said.get(digest, ())])

    def _in_scope(self, id: int, scope: Scope, *, expired: bool = False) -> tuple[int | None, int, str | None] | None:
        """The user's number, time and metadata (JSON) of a memory that this scope may change."""
        condition, values = compile_where(Where(scope), expired=expired)
        sql = f"SELECT m.user, m.created_at, json(m.metadata) FROM memories m WHERE m.id = ? AND {condition}"
        row: tuple[int | None, int, str | None] | None = next(iter(self._db.execute(sql, (id, *values))), None)
        return row

    def _note(
        self, ledger: Ledger, old: LedgerRow | None, changes: Sequence[Change], events: Sequence[tuple[Event, int]]
    ) -> None:
        self._noted[ledger.key] = self._ledger[ledger.key] = ledger_row(ledger, old, changes, events)

    def _write_ledger(self) -> None:
        again = [(key, row) for key, row in self._noted.items() if key in self._stored_at] if self._stored_at else []
        for key, row in again:
            self._db.execute(_LEDGER_AGAIN, (*ledger_values(row), self._stored_at[key]))
            del self._noted[key]
        first = count(self._db, "SELECT coalesce(max(number), 0) + 1 FROM ledger", ())
        numbers = range(first, first + len(self._noted))
        rows = zip(numbers, map(ledger_values, self._noted.values()), strict=True)
        _insert(self._db, _LEDGER, [value for number, row in rows for value in (number, *row)])
        self._finder.keep_keys(self._db, [*self._noted], numbers)

    def _flush(self) -> None:
        """Whoever reads or changes rows has to find those of this batch."""
        self._flush_rows()
        _insert(self._db, _WORDS, self._words)

    def _flush_rows(self) -> None:
        if self._new:
            self._insert_rows()
        vectors, self._vectors = self._vectors, []
        if vectors:
            _insert(self._db, _EMBEDDINGS, [value for id, _, _, vector in vectors for value in (id, vector)])
            self._keep_signs(vectors)

    def _insert_rows(self) -> None:
        """Column by column, which takes less time than row by row."""
        ids, numbers, new = zip(*self._new, strict=True)
        self._new.clear()
        users, agents, runs = zip(*numbers, strict=True)
        columns = zip(*new, strict=True)
        _, texts, vectors, digests, created, metadata, _, _, _, origins, expire, updated, found = columns
        terms = [distinct_terms(text) if its is None else its for text, its in zip(texts, found, strict=True)]
        changed = [made if at is None else at for made, at in zip(created, updated, strict=True)]
        kept = [canonical_json(about) if about else None for about in metadata]
        places, lines = zip(*map(self._origin, origins), strict=True)
        rows = zip(
            ids,
            *(users, agents, runs),
            *(texts, kept, digests, map(length_of, terms)),
            *(created, changed, expire, places, lines),
            map(whose_mark, ids, users, agents, runs),
            strict=True,
        )
        _insert(self._db, _MEMORIES, [*chain.from_iterable(rows)])
        self._vectors += [one for one in zip(ids, users, created, vectors, strict=True) if one[-1]]
        self._bare = self._bare or not all(vectors)
        self._words += chain.from_iterable(zip(ids, map(indexed_terms, terms, users), strict=True))

    def _keep_signs(self, vectors: Sequence[tuple[int, int | None, int, Vector]]) -> None:
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

    def _stored_repeats(self) -> dict[tuple[bytes, ScopeNumbers], int]:
        digests = [
            *{c.digest for w in self._writes for c in w.changes if isinstance(c, Insert) and c.unless_known},
        ]
        found: dict[tuple[bytes, ScopeNumbers], int] = {}
        now = times.now()
        for marks, some in in_chunks(self._finder.holding(self._db, digests)):
            sql = f"""SELECT digest, user, agent, run, min(id) FROM memories
                WHERE id IN ({marks}) AND (expires_at IS NULL OR expires_at > ?) GROUP BY 1, 2, 3, 4"""
            rows: Any = self._db.execute(sql, (*some, now))
            for digest, user, agent, run, id in rows:
                found.setdefault((digest, (user, agent, run)), id)  # the ids come in order
        return found

    def _known_repeat(self, digest: bytes, numbers: ScopeNumbers, among: Filter | None) -> int | None:
        """The first memory of this very scope that says the same, among those."""
        if self._repeats is not None and among is None:
            return self._repeats.get((digest, numbers))
        self._flush()
        condition, values = compile_where(Where(filter=among))
        sql = f"""SELECT min(m.id) FROM memories m
            WHERE m.id IN (SELECT value FROM carray(?)) AND m.digest = ?
            AND m.user IS ? AND m.agent IS ? AND m.run IS ? AND {condition}"""
        row: Any = next(self._db.execute(sql, (self._holding(digest), digest, *numbers, *values)))
        return None if row[0] is None else int(row[0])

    def _stored_ids(self) -> set[int]:
        ids = [c.id for w in self._writes for c in w.changes if isinstance(c, Insert) and c.id is not None]
        found: set[int] = set()
        for marks, some in in_chunks(ids):
            rows: Any = self._db.execute(f"SELECT id FROM memories WHERE id IN ({marks})", some)
            found.update(id for (id,) in rows)
        return found

    def _taken(self, id: int) -> bool:
        if self._held is not None:
            return id in self._held
        self._flush()
        return bool(count(self._db, "SELECT count(*) FROM memories WHERE id = ?", (id,)))

    def _fresh_id(self) -> int:
        """Above every id there is or was (we hold the write lock), and roughly the time."""
        if not self._next_id:
            above = meta_number(self._db, "highest_deleted") + 1
            self._next_id = max(above, fresh_number(self._db, "SELECT max(id) FROM memories"))
        id = self._next_id
        self._next_id += 1
        return id

    def _scope_numbers(self, scope: Scope) -> ScopeNumbers:
        numbers = self._scopes.get(scope)
        if numbers is None:
            user, agent, run = map(self._number, scope)
            numbers = self._scopes[scope] = (user, agent, run)
        return numbers

    def _number(self, name: str | None) -> int | None:
        if name is None:
            return None
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = number_of(self._db, "names", name)
        return number

    def _origin(self, origin: Origin | None) -> tuple[int | None, int | None]:
        """The number of an origin without its line, and the line."""
        if origin is None:
            return None, None
        known = (origin.job, origin.file, origin.role)
        number = self._origins.get(known)
        if number is None:
            number = self._origins[known] = number_of(self._db, "origins", origin_name(origin))
        return number, origin.line


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
_LEDGER_AGAIN = """UPDATE ledger SET key = ?, content = ?, status = ?, memory_ids = ?, tries = ?, job = ?, at = ?
    WHERE number = ?"""


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


def add_to_count(db: apsw.Connection, number: int) -> None:
    """How many memories there are, kept: counting a million takes longer than searching them."""
    db.execute(
        "INSERT INTO meta VALUES ('memories', ?) ON CONFLICT DO UPDATE SET value = value + excluded.value", (number,)
    )


def never_again(db: apsw.Connection, deleted: int) -> None:
    """Keep the highest id that was deleted: rows of the ledger may name it, and the clock may be set back. And that
    something was: whoever has counted memories counts them again.
    """
    sql = """INSERT INTO meta VALUES ('highest_deleted', ?), ('deletions', 1) ON CONFLICT DO UPDATE SET
        value = CASE name WHEN 'deletions' THEN value + 1 ELSE max(value, excluded.value) END"""
    db.execute(sql, (deleted,))


def pack_anew_if_worth_it(db: apsw.Connection) -> None:
    """When most of the vectors whose signs are packed are gone, the others are packed anew."""
    gone = count(db, "SELECT count(*) FROM outdated", ())
    if gone > WORTH_PACKING_ANEW and gone > meta_number(db, "memories"):
        pack_everything(db)
