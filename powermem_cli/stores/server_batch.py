"""What a batch of writes does to the tables on a database server, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from powermem_cli import times
from powermem_cli.filters import Filter
from powermem_cli.model import Event, Origin, Scope, Vector
from powermem_cli.stores.base import (
    Applied,
    Change,
    Delete,
    HistoryRow,
    Insert,
    Ledger,
    LedgerRow,
    Update,
    Write,
    ledger_row,
)

Content = tuple[bytes, Scope]
"""The digest of a text and whose it is: what two memories share that are the same."""


@dataclass(slots=True)
class Row:
    """A memory as a batch leaves it; *text* and *vector* are None where the stored ones stay. *said* is its text,
    *terms* its distinct terms if they were worked out already.
    """

    id: int
    scope: Scope
    digest: bytes
    metadata: dict[str, Any]
    created_at: int
    updated_at: int
    text: str | None = None
    vector: Vector | None = None
    origin: Origin | None = None
    expires_at: int | None = None
    said: str = ""
    terms: str | None = None

    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= times.now()


@dataclass(frozen=True, slots=True)
class Trace:
    """By what a batch can be told to have been committed, when the answer to COMMIT was lost."""

    applied: tuple[Applied, ...]
    ledger: LedgerRow | None = None
    inserted: Row | None = None
    deleted: int | None = None


class Tables(Protocol):
    """The tables of a store inside one transaction. Rows that are read are locked till its end."""

    async def ledger_rows(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]: ...

    async def lock_contents(self, scopes: Iterable[Scope]) -> None:
        """Nobody else may settle whether these scopes hold a text, till the end of the transaction."""
        ...

    async def repeats(self, contents: Iterable[Content], among: Filter | None) -> dict[Content, int]:
        """The lowest id of a memory with that content that lies in *among*."""
        ...

    async def rows(self, ids: Iterable[int]) -> dict[int, Row]: ...

    async def delete_rows(self, ids: Sequence[int]) -> None: ...

    async def insert_rows(self, rows: Sequence[Row]) -> None: ...

    async def update_row(self, row: Row) -> None: ...

    async def insert_history(self, rows: Sequence[HistoryRow]) -> None: ...

    async def insert_ledger(self, rows: Sequence[LedgerRow]) -> None: ...

    async def update_ledger(self, rows: Sequence[LedgerRow]) -> None: ...


@dataclass(slots=True)
class _Pending:
    """What was worked out and is not in the tables yet."""

    inserted: dict[int, Row] = field(default_factory=dict)
    updated: dict[int, Row] = field(default_factory=dict)
    deleted: list[int] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)


class Batch:
    """One call of apply: looks up once what all its writes need, works out the rest, and writes in bulk."""

    def __init__(self, tables: Tables, writes: Sequence[Write], new_id: Callable[[], int]) -> None:
        self._tables = tables
        self._writes = writes
        self._new_id = new_id
        self._pending = _Pending()
        self._ledger: dict[bytes, LedgerRow] = {}
        self._noted: dict[bytes, LedgerRow] = {}
        self._repeats: dict[tuple[Content, Filter | None], int] = {}
        self._rows: dict[int, Row] = {}
        self._fresh: dict[Content, int] = {}
        self._changed_stored = False
        self._added: dict[int, Row] = {}
        self._removed: list[int] = []

    async def run(self) -> Trace:
        await self._look_up()
        stored = frozenset(self._ledger)
        applied = tuple([await self._write(write) for write in self._writes])
        # The ledger is written in the order of its keys: two batches never wait for each other.
        rows = sorted(self._noted.values(), key=lambda row: row.key)
        await self._tables.insert_ledger([row for row in rows if row.key not in stored])
        await self._tables.update_ledger([row for row in rows if row.key in stored])
        await self._flush()
        added = next(iter(self._added.values()), None)
        return Trace(applied, rows[0] if rows else None, added, self._removed[0] if self._removed else None)

    async def _look_up(self) -> None:
        """Locks are taken in one order by everybody: ledger, contents, memories."""
        changes = [change for write in self._writes for change in write.changes]
        keys = {write.ledger.key for write in self._writes if write.ledger is not None}
        if keys:
            self._ledger = await self._tables.ledger_rows(sorted(keys))
        asking = [change for change in changes if isinstance(change, Insert) and change.unless_known]
        scopes = {change.scope for change in changes if not isinstance(change, Delete) and change.unless_known}
        if scopes:
            await self._tables.lock_contents(scopes)
        for among in {change.among for change in asking}:
            await self._find_repeats([change for change in asking if change.among == among])
        ids = {change.id for change in changes if change.id is not None}
        if ids:
            self._rows = await self._tables.rows(sorted(ids))

    async def _find_repeats(self, asking: Sequence[Insert]) -> None:
        among = asking[0].among
        found = await self._tables.repeats({_content(change) for change in asking}, among)
        self._repeats.update({(content, among): id for content, id in found.items()})

    async def _write(self, write: Write) -> Applied:
        ledger = write.ledger
        if ledger is None:
            return Applied(tuple([await self._change(change) for change in write.changes]))
        row = self._ledger.get(ledger.key)
        if row is not None and row.status != "failed" and row.content != ledger.seen:
            return Applied(known=row)
        events = tuple([await self._change(change) for change in write.changes])
        self._note(ledger, row, write.changes, events)
        return Applied(events)

    async def _change(self, change: Change) -> tuple[Event, int]:
        if isinstance(change, Insert):
            return await self._insert(change)
        row = self._rows.get(change.id)
        if row is None or not _covers(change.scope, row.scope):
            return "NONE", 0
        if isinstance(change, Update) and row.has_expired():
            return "NONE", 0
        self._changed_stored = True
        if isinstance(change, Delete) or (change.unless_known and await self._has_twin(row, change)):
            return self._delete(row)
        return self._update(row, change)

    async def _insert(self, new: Insert) -> tuple[Event, int]:
        if new.unless_known and (known := await self._known_repeat(new)) is not None:
            return "NONE", known
        if new.id is not None and new.id in self._rows:
            return "NONE", new.id
        id = new.id if new.id is not None else self._new_id()
        updated_at = new.created_at if new.updated_at is None else new.updated_at
        row = Row(id, new.scope, new.digest, dict(new.metadata), new.created_at, updated_at, new.text, new.vector)
        row.origin, row.expires_at, row.said, row.terms = new.origin, new.expires_at, new.text, new.terms
        self._rows[id] = self._added[id] = self._pending.inserted[id] = row
        self._fresh.setdefault(_content(new), id)
        return "ADD", id

    async def _known_repeat(self, new: Insert) -> int | None:
        content = _content(new)
        # What this batch has changed itself, only the tables can judge.
        if self._changed_stored or (new.among is not None and content in self._fresh):
            await self._flush()
            return (await self._tables.repeats([content], new.among)).get(content)
        return self._repeats.get((content, new.among), self._fresh.get(content))

    async def _has_twin(self, row: Row, change: Update) -> bool:
        """Whether another memory of the same scope says already what this one shall."""
        if change.digest is None:
            return False
        await self._flush()
        content = change.digest, row.scope
        return (await self._tables.repeats([content], None)).get(content, row.id) != row.id

    def _update(self, row: Row, change: Update) -> tuple[Event, int]:
        row.updated_at = change.updated_at
        row.metadata |= change.metadata or {}
        if change.text is not None:
            if change.text != row.said:
                self._remember(row, "UPDATE", change.updated_at)
            row.text = row.said = change.text
            row.terms = None
            row.origin = change.origin
        if change.expires_at is not None:
            row.expires_at = change.expires_at
        if change.vector is not None:
            row.vector = change.vector
        if change.digest is not None:
            row.digest = change.digest
        if row.id not in self._pending.inserted:
            self._pending.updated[row.id] = row
        return "UPDATE", row.id

    def _delete(self, row: Row) -> tuple[Event, int]:
        self._remember(row, "DELETE", times.now())
        del self._rows[row.id]
        self._pending.updated.pop(row.id, None)
        if self._pending.inserted.pop(row.id, None) is None:
            self._pending.deleted.append(row.id)
        if self._added.pop(row.id, None) is None:
            self._removed.append(row.id)
        return "DELETE", row.id

    def _remember(self, row: Row, event: Event, at: int) -> None:
        """Keep what a memory says until now."""
        past = HistoryRow(row.id, self._new_id(), event, row.said, row.scope, row.origin, row.created_at, at)
        self._pending.history.append(past)

    def _note(
        self, ledger: Ledger, old: LedgerRow | None, changes: Sequence[Change], events: Sequence[tuple[Event, int]]
    ) -> None:
        self._ledger[ledger.key] = self._noted[ledger.key] = ledger_row(ledger, old, changes, events)

    async def _flush(self) -> None:
        pending, self._pending = self._pending, _Pending()
        if pending.deleted:
            await self._tables.delete_rows(sorted(pending.deleted))
        if pending.inserted:
            await self._tables.insert_rows([pending.inserted[id] for id in sorted(pending.inserted)])
        for row in sorted(pending.updated.values(), key=lambda row: row.id):
            await self._tables.update_row(row)
            row.text = row.vector = None
        await self._tables.insert_history(pending.history)


async def landed(tables: Tables, trace: Trace) -> bool:
    """Whether the transaction that left this trace was committed. False also where nothing can tell: then
    it was updates alone, which may be done again.
    """
    if trace.ledger is not None:
        return (await tables.ledger_rows([trace.ledger.key])).get(trace.ledger.key) == trace.ledger
    if trace.inserted is not None:
        found = (await tables.rows([trace.inserted.id])).get(trace.inserted.id)
        return found is not None and _content(found) == _content(trace.inserted)
    if trace.deleted is not None:
        return not await tables.rows([trace.deleted])
    return False


def _content(held: Insert | Row) -> Content:
    return held.digest, held.scope


def _covers(asked: Scope, held: Scope) -> bool:
    """A part left None matches everything."""
    pairs = ((asked.user_id, held.user_id), (asked.agent_id, held.agent_id), (asked.run_id, held.run_id))
    return all(name is None or name == of for name, of in pairs)
