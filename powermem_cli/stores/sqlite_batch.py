"""What a batch of writes does to the tables of an SQLite store, inside the caller's transaction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import islice, repeat
from typing import Any, Final, TypeVar

import apsw

from powermem_cli import times
from powermem_cli.blocks import Block, flat
from powermem_cli.filters import Filter
from powermem_cli.model import Event, Origin, Scope
from powermem_cli.rules import canonical_json
from powermem_cli.stores.base import (
    Applied,
    BlockWrite,
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
from powermem_cli.stores.sqlite_inserts import Inserts, NewMemories
from powermem_cli.stores.sqlite_numbers import Numbers, ScopeNumbers
from powermem_cli.stores.sqlite_rows import (
    count,
    fresh_number,
    in_chunks,
    indexed_terms,
    ledger_values,
    length_of,
    meta_number,
    metadata_of,
)
from powermem_cli.stores.sqlite_schema import pack_everything
from powermem_cli.stores.sqlite_where import compile_where, listed
from powermem_cli.terms import distinct_terms

WORTH_PACKING_ANEW: Final = 4096  # vectors that are gone
FEW_AT_ONCE: Final = 8  # records of a block: of fewer, one by one takes less time

Text = tuple[bytes, ScopeNumbers, bool]  # digest, and whether it is added only where nobody says so yet
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Batch:
    """One call of apply: looks up once what all its writes need, and inserts for all of them at once."""

    def __init__(
        self, db: apsw.Connection, finder: Finder, names: dict[str, int], writes: Sequence[Write | BlockWrite]
    ) -> None:
        self._db = db
        self._finder = finder
        self._numbers = Numbers(db, names)
        self._inserts = Inserts(db, finder)
        self._writes = writes
        keys = [key for write in writes for key in _keys_of(write)]
        stored = finder.ledger(db, keys)
        self._ledger = {key: row for key, (_, row) in stored.items()}
        self._stored_at = {key: number for key, (number, _) in stored.items()}
        self._next_id = 0
        self._new: list[tuple[int, ScopeNumbers, Insert]] = []
        self._noted: dict[bytes, LedgerRow] = {}
        self._said: dict[bytes, list[int]] = {}
        """Digest → ids of the memories that this batch has given it."""
        self._added = 0
        self._outdated: list[Any] = []
        inserts = [change for write in writes if not isinstance(write, BlockWrite) for change in write.changes]
        inserts_only = all(isinstance(change, Insert) for change in inserts)
        self._held = self._stored_ids(inserts) if inserts_only else None
        """Of the ids that come with an Insert, those that are taken; None as below."""
        texts = self._texts_of(inserts) if inserts_only else []
        self._repeats = self._stored_repeats(texts) if inserts_only else None
        """(digest, scope) → id of what is stored or about to be; None: changing under our hands, so ask each time."""
        self._keys_not_new = {*self._ledger, *_repeated(keys)}
        self._texts_not_new = self._known_or_twice(texts)
        """Digest → the scopes that know it, or have it more than once in this batch: a later one must see the earlier."""

    def run(self) -> list[Applied]:
        results = [
            self._block(write) if isinstance(write, BlockWrite) else self._write(write) for write in self._writes
        ]
        self._settle_rows()
        self._inserts.write_memories()
        self._note_all()
        self._inserts.write_ledger()
        if self._added:
            add_to_count(self._db, self._added)
        if self._outdated:
            self._db.executemany("INSERT OR IGNORE INTO outdated VALUES (?)", self._outdated)
            pack_anew_if_worth_it(self._db)
        self._inserts.write_words()
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

    def _block(self, write: BlockWrite) -> Applied:
        """What all its records do, at once as far as they are new."""
        block, each = write.block, list[Applied]()
        dubious = self._dubious_of(block)
        if not dubious:
            return Applied([("ADD", id) for id in self._keep_new(write)])
        start = 0
        for place in (*dubious, len(block)):
            if place - start < FEW_AT_ONCE:
                each += [self._write(write.write(one)) for one in range(start, place)]
            else:
                part = block[start:place]
                ids = iter(self._keep_new(write._replace(block=part)))
                each += [
                    Applied(tuple([("ADD", id) for id in islice(ids, len(texts))])) for texts in part.columns.texts
                ]
            if place < len(block):
                each.append(self._write(write.write(place)))
            start = place + 1
        return Applied(each=each)

    def _dubious_of(self, block: Block) -> Sequence[int]:
        """The places of those records that may not be new, or say what is known."""
        if self._repeats is None:
            return range(len(block))
        keys, where, of = self._keys_not_new, self._texts_not_new, block.columns
        if not keys and not where:
            return ()
        return [
            place
            for place, (key, digests, scope) in enumerate(zip(of.keys, of.digests, of.scopes, strict=True))
            if key in keys
            or (
                not where.keys().isdisjoint(digests)
                and any(self._numbers.of_scope(scope) in where.get(digest, ()) for digest in digests)
            )
        ]

    def _known_or_twice(self, texts: Sequence[Text]) -> dict[bytes, set[ScopeNumbers]]:
        where = defaultdict[bytes, set[ScopeNumbers]](set)
        twice = {*_repeated([digest for digest, _, _ in texts])}
        again = _repeated([(digest, whose) for digest, whose, _ in texts if digest in twice])
        for digest, whose in (*(self._repeats or ()), *again):
            where[digest].add(whose)
        return where

    def _texts_of(self, inserts: Sequence[Change]) -> list[Text]:
        scoped = self._numbers.of_scope
        texts = [(new.digest, scoped(new.scope), new.unless_known) for new in inserts if isinstance(new, Insert)]
        for write in self._blocks:
            of = write.block.columns
            columns = zip(of.digests, map(scoped, of.scopes), of.unless_known, strict=True)
            texts += [(digest, whose, unless_known) for digests, whose, unless_known in columns for digest in digests]
        return texts

    @property
    def _blocks(self) -> list[BlockWrite]:
        return [write for write in self._writes if isinstance(write, BlockWrite)]

    def _keep_new(self, write: BlockWrite) -> range:
        """Keep the records of a block that are all new; returns the ids of their texts."""
        self._settle_rows()  # all tables and packs are in the order of the ids
        of = write.block.columns
        texts, sizes = flat(of.texts), [*map(len, of.texts)]
        first = self._fresh_id()
        ids = range(first, first + len(texts))
        self._next_id = ids.stop
        whose = [self._numbers.of_scope(scope) for scope in of.scopes]
        created = [write.at if at is None else at for at in of.created_at]
        origins = {role: self._numbers.of_origin(Origin(write.job, write.file, None, role))[0] for role in {*of.roles}}
        made = _spread(created, sizes)
        if texts:
            self._inserts.memories(
                NewMemories(
                    ids=ids,
                    whose=_spread(whose, sizes),
                    texts=texts,
                    vectors=flat(of.vectors),
                    digests=flat(of.digests),
                    terms=flat(of.terms),
                    metadata=_spread(of.metadata, sizes),
                    created=made,
                    changed=made,
                    expire=_spread(of.expires_at, sizes),
                    origins=_spread([origins[role] for role in of.roles], sizes),
                    lines=_spread([line[2] for line in write.block.lines], sizes),
                )
            )
        self._added += len(ids)
        rest = iter(ids)
        listed = [f"[{','.join(map(str, islice(rest, size)))}]" for size in sizes]
        status = ["done" if size else "no_facts" for size in sizes]
        self._inserts.ledger(of.keys, of.contents, status, listed, repeat(0), repeat(write.job), repeat(write.at))
        return ids

    def _change(self, change: Change) -> tuple[Event, int]:
        if isinstance(change, Insert):
            return self._insert(change)
        self._flush()
        return self._update(change) if isinstance(change, Update) else self._delete(change)

    def _insert(self, new: Insert) -> tuple[Event, int]:
        """What becomes of it; its row is made with all others, in `_settle_rows`."""
        digest, id = new.digest, new.id
        numbers = self._numbers.of_scope(new.scope)
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
        whose, created_at, stored = found
        if change.unless_known and change.digest is not None and self._has_twin(change.id, change.digest, whose):
            return self._delete(Delete(change.id, change.scope))
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
            number, line = self._numbers.of_origin(change.origin)
            self._db.execute("UPDATE memories SET origin = ?, line = ? WHERE id = ?", (number, line, change.id))
        if change.text is not None:
            terms = distinct_terms(change.text)
            self._db.execute(
                "UPDATE memories SET text = ?, digest = coalesce(?, digest), length = ? WHERE id = ?",
                (change.text, change.digest, length_of(terms), change.id),
            )
            if change.digest is not None:
                self._said.setdefault(change.digest, []).append(change.id)
                self._inserts.digest(change.id, whose, change.digest)
            self._db.execute("DELETE FROM words WHERE rowid = ?", (change.id,))
            self._db.execute(
                "INSERT INTO words (rowid, terms) VALUES (?, ?)", (change.id, indexed_terms(terms, whose[0]))
            )
        if change.vector is not None:
            for table in ("embeddings", "unpacked"):
                self._db.execute(f"DELETE FROM {table} WHERE id = ?", (change.id,))
            self._outdated.append((change.id,))
            self._inserts.vector(change.id, whose[0], created_at, change.vector)
            self._inserts.write_memories()
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

    def _has_twin(self, id: int, digest: bytes, whose: ScopeNumbers) -> bool:
        """Whether another memory of the same scope says already what this one shall."""
        self._flush()
        sql = f"SELECT count(*) FROM memories m WHERE {_SAYS} AND m.id != ? AND (expires_at IS NULL OR expires_at > ?)"
        return bool(count(self._db, sql, (*self._saying(digest, whose), id, times.now())))

    def _saying(self, digest: bytes, whose: ScopeNumbers) -> Sequence[Any]:
        """The values of _SAYS."""
        ids = [*self._finder.holding(self._db, [digest], [whose]), *self._said.get(digest, ())]
        return listed(ids), digest, *whose

    def _in_scope(self, id: int, scope: Scope, *, expired: bool = False) -> tuple[ScopeNumbers, int, str | None] | None:
        """Whose it is, the time and the metadata (JSON) of a memory that this scope may change."""
        condition, values = compile_where(Where(scope), expired=expired)
        sql = f"SELECT user, agent, run, created_at, json(metadata) FROM memories m WHERE m.id = ? AND {condition}"
        for user, agent, run, created_at, metadata in self._db.execute(sql, (id, *values)):
            whose: Any = user, agent, run
            return whose, created_at, metadata
        return None

    def _note(
        self, ledger: Ledger, old: LedgerRow | None, changes: Sequence[Change], events: Sequence[tuple[Event, int]]
    ) -> None:
        self._noted[ledger.key] = self._ledger[ledger.key] = ledger_row(ledger, old, changes, events)

    def _note_all(self) -> None:
        again = [(key, row) for key, row in self._noted.items() if key in self._stored_at] if self._stored_at else []
        for key, row in again:
            self._db.execute(_LEDGER_AGAIN, (*ledger_values(row), self._stored_at[key]))
            del self._noted[key]
        if self._noted:
            self._inserts.ledger(*zip(*map(ledger_values, self._noted.values()), strict=True))

    def _flush(self) -> None:
        """Whoever reads or changes rows has to find those of this batch."""
        self._settle_rows()
        self._inserts.write_memories()
        self._inserts.write_words()

    def _settle_rows(self) -> None:
        """Column by column, which takes less time than row by row."""
        if not self._new:
            return
        ids, whose, new = zip(*self._new, strict=True)
        self._new.clear()
        columns = zip(*new, strict=True)
        _, texts, vectors, digests, created, metadata, _, _, _, origins, expire, updated, found = columns
        places, lines = zip(*map(self._numbers.of_origin, origins), strict=True)
        self._inserts.memories(
            NewMemories(
                ids=ids,
                whose=whose,
                texts=texts,
                vectors=vectors,
                digests=digests,
                terms=[distinct_terms(text) if its is None else its for text, its in zip(texts, found, strict=True)],
                metadata=[canonical_json(about) if about else None for about in metadata],
                created=created,
                changed=[made if at is None else at for made, at in zip(created, updated, strict=True)],
                expire=expire,
                origins=places,
                lines=lines,
            )
        )

    def _stored_repeats(self, texts: Sequence[Text]) -> dict[tuple[bytes, ScopeNumbers], int]:
        said = [(digest, whose) for digest, whose, unless_known in texts if unless_known]
        found: dict[tuple[bytes, ScopeNumbers], int] = {}
        now = times.now()
        for marks, some in in_chunks(self._finder.holding(self._db, *zip(*said, strict=True)) if said else ()):
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
        sql = f"SELECT min(m.id) FROM memories m WHERE {_SAYS} AND {condition}"
        row: Any = next(self._db.execute(sql, (*self._saying(digest, numbers), *values)))
        return None if row[0] is None else int(row[0])

    def _stored_ids(self, inserts: Sequence[Change]) -> set[int]:
        ids = [change.id for change in inserts if isinstance(change, Insert) and change.id is not None]
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


def _keys_of(write: Write | BlockWrite) -> Sequence[bytes]:
    if isinstance(write, BlockWrite):
        return write.block.columns.keys
    return () if write.ledger is None else (write.ledger.key,)


def _repeated(some: Sequence[K]) -> list[K]:
    """Those that are there more than once."""
    if len({*some}) == len(some):
        return []
    return [one for one, times in Counter(some).items() if times > 1]


def _spread(column: Sequence[T], sizes: Sequence[int]) -> Sequence[T]:
    """Of values of records, one for each of a record's texts."""
    if set(sizes) == {1}:
        return column
    return [value for value, size in zip(column, sizes, strict=True) for _ in range(size)]


_SAYS = """m.id IN (SELECT value FROM carray(?)) AND m.digest = ?
    AND m.user IS ? AND m.agent IS ? AND m.run IS ?"""
_LEDGER_AGAIN = """UPDATE ledger SET key = ?, content = ?, status = ?, memory_ids = ?, tries = ?, job = ?, at = ?
    WHERE number = ?"""


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
