"""What the engine asks of a store, and what a filter, a score and a ledger row mean: the same on every engine.

Every method is one transaction. Scope ids are compared byte for byte. Every method raises StoreError and nothing
else of its own; after an error nothing of that call is kept.

What is made for every record is a NamedTuple: as frozen as a frozen dataclass, and made in a third of the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from powermem_cli.blocks import Block
from powermem_cli.filters import Filter
from powermem_cli.model import Event, HistoryEntry, Hit, Origin, Scope, StoredMemory, Vector

T = TypeVar("T")
Grouping = Literal["user_id", "agent_id", "run_id", "day"]
DAY: Final = 86_400_000_000  # microseconds

LedgerStatus = Literal["done", "no_facts", "failed"]


@dataclass(frozen=True, slots=True)
class Where:
    """Which memories: in the scope (a part left None matches everything), and in the filter, and in *ids*."""

    scope: Scope = Scope()
    filter: Filter | None = None
    ids: tuple[int, ...] | None = None


EVERYTHING = Where()


class Part(NamedTuple):
    """Some of what a search is about: so many of each side at most."""

    where: Where
    limit: int


class Sides(NamedTuple):
    """What was found for a part: as `nearest` gives it, and as `matching` does."""

    near: Sequence[Hit]
    matching: Sequence[Hit]


Judging = Generator[Sequence[int], Sequence[StoredMemory], T]
"""Yields ids, is sent those memories among them that the first part's *where* leaves, and returns what it was for."""


class Judgement(Generic[T]):
    """A Judging under way: the *ids* whose memories it waits for, None once there is a *result*."""

    result: T

    def __init__(self, judging: Judging[T]) -> None:
        self._judging = judging
        self.ids: Sequence[int] | None = None
        self._go_on(lambda: next(judging))

    def take(self, rows: Sequence[StoredMemory]) -> None:
        self._go_on(lambda: self._judging.send(rows))

    def _go_on(self, step: Callable[[], Sequence[int]]) -> None:
        try:
            self.ids = step()
        except StopIteration as ended:
            self.ids, self.result = None, ended.value


class Insert(NamedTuple):
    """Keep a new memory. *digest* is 16 bytes of its content: with *unless_known*, a memory of exactly the same
    scope that has the same digest and lies in *among* makes this a "NONE", settled in the same transaction.
    """

    scope: Scope
    text: str
    vector: Vector
    digest: bytes
    created_at: int
    metadata: Mapping[str, Any] = MappingProxyType({})
    unless_known: bool = False
    among: Filter | None = None
    id: int | None = None
    """Given only when a memory is moved from one store to another; else the store numbers it."""
    origin: Origin | None = None
    expires_at: int | None = None
    updated_at: int | None = None
    """None: when it was created."""
    terms: str | None = None
    """`distinct_terms` of the text, worked out where nobody waits for it; None: the store does that."""


@dataclass(frozen=True, slots=True)
class Update:
    """Change a memory of this scope: what is None stays; *metadata* is merged, key by key. Unknown id: "NONE".

    With *unless_known*, another memory of exactly the same scope that has this *digest* makes it a "DELETE": what it
    would say is said.
    """

    id: int
    updated_at: int
    scope: Scope = Scope()
    text: str | None = None
    vector: Vector | None = None
    digest: bytes | None = None
    metadata: Mapping[str, Any] | None = None
    unless_known: bool = False
    origin: Origin | None = None
    """Of the *text*."""
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget a memory of this scope. Unknown id: "NONE"."""

    id: int
    scope: Scope = Scope()


Change = Insert | Update | Delete


class LedgerRow(NamedTuple):
    """What is known of one record: *key* is its identity (16 bytes), *content* what it said (16 bytes)."""

    key: bytes
    content: bytes
    status: LedgerStatus
    memory_ids: tuple[int, ...] = ()
    tries: int = 0
    job: str = ""
    at: int = 0


class HistoryRow(NamedTuple):
    """What a memory was until an UPDATE gave it another text, or a DELETE ended it. Of one memory, *number* grows with time.

    An ADD has no row: it follows from the oldest row, or from the memory itself.
    """

    memory_id: int
    number: int
    event: Event
    text: str
    scope: Scope
    origin: Origin | None
    created_at: int
    at: int


class Ledger(NamedTuple):
    """The ledger row a write leaves. It is written only if the ledger still says what the writer saw there:
    *seen* is the content it saw, None for no row. (A "failed" row counts as no row.)
    """

    key: bytes
    content: bytes
    job: str
    at: int
    seen: bytes | None = None
    status: LedgerStatus | None = None
    """None: "done" if the write has changes, else "no_facts". A "failed" row adds one to *tries*."""


class Write(NamedTuple):
    """What one record does to the store: all of it, or nothing."""

    changes: tuple[Change, ...]
    ledger: Ledger | None = None


class BlockWrite(NamedTuple):
    """What each record of a block that is worked out does to the store: what a Write says of one, said of all. Records
    that it fails for are none of the others' business.
    """

    block: Block
    job: str
    at: int
    file: str
    """The name of the input, as it is kept."""

    def write(self, place: int) -> Write:
        """What the record at that place does."""
        of = self.block.columns
        origin = Origin(self.job, self.file, self.block.lines[place][2], of.roles[place])
        created_at, metadata = of.created_at[place], of.metadata[place]
        texts = zip(of.texts[place], of.vectors[place], of.digests[place], of.terms[place], strict=True)
        return Write(
            tuple(
                [
                    Insert(
                        of.scopes[place],
                        text,
                        vector,
                        digest,
                        self.at if created_at is None else created_at,
                        {} if metadata is None else json.loads(metadata),
                        of.unless_known[place],
                        origin=origin,
                        expires_at=of.expires_at[place],
                        terms=terms,
                    )
                    for text, vector, digest, terms in texts
                ]
            ),
            Ledger(of.keys[place], of.contents[place], self.job, self.at),
        )

    def writes(self) -> list[Write]:
        """What its records do, one by one."""
        return [self.write(place) for place in range(len(self.block))]


class Applied(NamedTuple):
    """One (event, memory id) per change, in order; or, if the ledger knew the key already, that row and no events.

    The id of a "NONE" is that of the memory already there, or 0 if there is none. Of a BlockWrite all events if all
    its records are new and nothing of what they say was known; else *each* is what became of each record.
    """

    events: Sequence[tuple[Event, int]] = ()
    known: LedgerRow | None = None
    each: Sequence[Applied] = ()


def one_by_one(writes: Sequence[Write | BlockWrite]) -> list[Write]:
    """For a store that has no other way for many records."""
    return [one for write in writes for one in (write.writes() if isinstance(write, BlockWrite) else (write,))]


def as_asked(writes: Sequence[Write | BlockWrite], applied: Sequence[Applied]) -> list[Applied]:
    """Of what became of `one_by_one` of *writes* what becomes of each of them."""
    rest = iter(applied)
    return [
        Applied(each=tuple(islice(rest, len(write.block)))) if isinstance(write, BlockWrite) else next(rest)
        for write in writes
    ]


def history_of(rows: Sequence[HistoryRow], memory: StoredMemory | None) -> list[HistoryEntry]:
    """The whole story of one memory, oldest first, from its rows (by number) and what it is now, if it is."""
    entries: list[HistoryEntry] = []
    lived = False
    then = [*rows, memory][1:]
    for row, following in zip(rows, then, strict=True):
        if not lived:
            entries.append(HistoryEntry("ADD", None, row.text, row.created_at, row.origin))
        lived = row.event != "DELETE"
        if lived and following is not None:
            entries.append(HistoryEntry(row.event, row.text, following.text, row.at, following.origin))
        else:
            entries.append(HistoryEntry(row.event, row.text, None, row.at))
    if memory is not None and not lived:
        entries.append(HistoryEntry("ADD", None, memory.text, memory.created_at, memory.origin))
    return entries


def ledger_row(
    ledger: Ledger, old: LedgerRow | None, changes: Sequence[Change], events: Sequence[tuple[Event, int]]
) -> LedgerRow:
    """The row that a write leaves where *old* was."""
    status = ledger.status or ("done" if changes else "no_facts")
    tries = (old.tries if old is not None else 0) + (status == "failed")
    return LedgerRow(ledger.key, ledger.content, status, ledger_ids(changes, events), tries, ledger.job, ledger.at)


def ledger_ids(changes: Sequence[Change], events: Sequence[tuple[Event, int]]) -> tuple[int, ...]:
    """The *memory_ids* of the row that a write leaves: one per Insert and Update, in order, so that a record that says
    more the next time is matched with what it said before. 0 stands for what was known from elsewhere; an Update of a
    memory that somebody deleted keeps its id, so that it stays deleted.
    """
    if len(changes) == 1 and isinstance(changes[0], Insert):  # nearly always
        ((event, id),) = events
        return (id if event == "ADD" else 0,)
    pairs = zip(changes, events, strict=True)
    kept = [(change, event) for change, event in pairs if not isinstance(change, Delete)]
    return tuple(
        [
            (change.id if event != "DELETE" else 0) if isinstance(change, Update) else id if event == "ADD" else 0
            for change, (event, id) in kept
        ]
    )


def rarity(holding: int, total: int) -> float:
    """What a term is worth that *holding* of *total* memories hold: BM25's idf, always above 0.

    Both are counted over the memories of the user searched (over all, when no user is named), whatever else the
    Where says: a word is rare or common in somebody's memories, not in what a filter leaves of them.
    """
    return math.log(1 + (total - holding + 0.5) / (holding + 0.5))


TYPICAL_LENGTH: Final = 16.0
"""Distinct terms of an ordinary memory. A constant: the mean of a store would make scores drift as it grows."""


def brevity(length: int) -> float:
    """What BM25 (k1 = 1.2, b = 0.75) makes of a memory's length in distinct terms: 1 at the typical length, and no more
    for a shorter one, or two words would be better than the sentence that answers.
    """
    return min(1.0, 2.2 / (1 + 1.2 * (0.25 + 0.75 * length / TYPICAL_LENGTH)))


class Snapshot(Protocol):
    """A store as it was at one moment, read page by page while others write to it."""

    async def memories(self, where: Where, *, limit: int, after: int | None = None) -> list[StoredMemory]:
        """In the order of their ids, from the first id above *after*."""
        ...

    async def vectors(self, ids: Sequence[int]) -> dict[int, Vector]:
        """The vectors of those memories that have one."""
        ...

    async def ledger(self, *, limit: int, after: bytes | None = None) -> list[LedgerRow]:
        """In an order of the store's own, from the row behind that with the key *after*."""
        ...

    async def history(self, *, limit: int, after: tuple[int, int] | None = None) -> list[HistoryRow]:
        """In the order of (memory_id, number)."""
        ...


class Store(Protocol):
    """Where memories are kept. One that has expired is as good as deleted: only `delete` and a Delete see it."""

    writes_at_once: int
    """How many writes, or records of blocks, are best given to one call of `apply`."""
    takes_turns: bool
    """Calls of `apply` that are under way at once are worked on one after another, in the order they were made."""

    async def open(self, model: str | None) -> None:
        """Make or check what the engine needs. *model* is the embedder's; None for work that needs no vectors.

        Raises EmbedderMismatch if the store's vectors are of another model, StoreError if it can't be used.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go. Safe to repeat."""
        ...

    async def identity(self) -> str:
        """A name this store was given when it was made; a copy of it keeps the name."""
        ...

    async def apply(self, writes: Sequence[Write | BlockWrite]) -> list[Applied]:
        """All writes in one transaction, durable on return; one Applied per write, in order."""
        ...

    async def known(self, keys: Sequence[bytes]) -> dict[bytes, LedgerRow]:
        """The ledger rows of those keys that have one."""
        ...

    async def find(self, where: Where, *, limit: int, offset: int = 0, after: int | None = None) -> list[StoredMemory]:
        """Memories in the order of their ids, from the first id above *after*."""
        ...

    async def count(self, where: Where) -> int: ...

    async def tally(self, by: Grouping, where: Where) -> dict[str | int | None, int]:
        """How many memories each user, agent or run has (None: nobody), or each day (since 1970, in UTC)."""
        ...

    async def delete(self, where: Where) -> int:
        """Forget all of them for good, however many, and with them their history (of a whole scope: all its history);
        returns the number.
        """
        ...

    async def expire(self) -> int:
        """Forget for good what has expired; returns the number."""
        ...

    async def history(self, id: int, scope: Scope) -> list[HistoryEntry]:
        """What happened to a memory, oldest first; empty if this scope never had one of that id."""
        ...

    async def nearest(self, vector: Vector, where: Where, *, limit: int) -> list[Hit]:
        """The memories closest to *vector*: best first, ties by id; score is the cosine, -1..1."""
        ...

    async def matching(self, terms: Sequence[str], where: Where, *, limit: int) -> list[Hit]:
        """The memories that hold any of *terms* (distinct, from terms.py): best first, ties by id.

        The score is the sum of `rarity` over the terms a memory holds, times its `brevity`: BM25 with every term
        counted once, which any engine can work out from who holds a term.
        """
        ...

    async def search(
        self,
        vector: Awaitable[Vector],
        terms: Sequence[str],
        parts: Sequence[Part],
        *,
        compared: int,
        judge: Callable[[Sequence[Sides]], Judging[T]],
    ) -> T:
        """What *judge* makes of what is found for each of *parts*, in one go, on another thread perhaps: each way there
        and back takes as long as it takes to read ten memories. The vector may still be on its way: it is awaited,
        once, whatever else fails.

        Behind the nearest stand, with their cosines, those of the first *compared* by words that are not among them.
        """
        ...

    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]:
        """In how many memories of the user (None: of all) each term stands, and how many memories those are."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """The store as it is now, for as long as the context lasts."""
        ...

    async def restore(self, ledger: Sequence[LedgerRow], history: Sequence[HistoryRow]) -> int:
        """Take in rows as another store had them, in one transaction; what is held already stays as it is.
        Returns how many were new.
        """
        ...

    async def optimize(self) -> bool:
        """Build what makes a search over very many memories quick, best after many were added; it may take minutes.

        False if there is nothing to build: it is not worth it, or the configuration wants no index.
        """
        ...

    async def describe(self) -> dict[str, Any]:
        """For a person who looks after it: engine, version, place (no password), schema, model, dims, memories,
        indexes (those in use where they are many), bytes.
        """
        ...
