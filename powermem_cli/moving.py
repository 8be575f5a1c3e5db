"""The story of export and import: a store becomes lines, and lines become memories of another store, the same ones.

Read at one moment while others write, taken in in transactions, and twice is once: what is there already stays.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from powermem_cli import times
from powermem_cli.errors import EmbedderMismatch, InvalidInput
from powermem_cli.exchange import (
    END,
    READERS,
    Amounts,
    Head,
    Line,
    amounts_of,
    decoded,
    end_line,
    head_line,
    head_of,
    history_line,
    ledger_line,
    memory_line,
)
from powermem_cli.providers.base import Embedder
from powermem_cli.stores.base import EVERYTHING, HistoryRow, Insert, LedgerRow, Snapshot, Store, Where, Write

PAGE: Final = 500  # rows held in memory, and written in one transaction
MANY: Final = 10_000  # memories taken in from which on an index is worth building
MOST_TOLD: Final = 1000  # rejects and conflicts that are kept to be told of


async def export(store: Store, where: Where, *, vectors: bool) -> AsyncIterator[list[Line]]:
    """The lines of an export, a page at a time. History and ledger are there only when *where* is everything."""
    described = await store.describe()
    amounts = {"memory": 0, "history": 0, "ledger": 0}
    async with store.snapshot() as snapshot:
        yield [head_line(Head(described["model"], described["dims"], vectors))]
        async for page in _pages(snapshot, where, vectors):
            amounts[page[0]["type"]] += len(page)
            yield page
    yield [end_line(Amounts(**amounts))]


async def _pages(snapshot: Snapshot, where: Where, vectors: bool) -> AsyncIterator[list[Line]]:
    after: Any = None
    while memories := await snapshot.memories(where, limit=PAGE, after=after):
        after = memories[-1].id
        found = await snapshot.vectors([row.id for row in memories]) if vectors else {}
        yield [memory_line(row, found.get(row.id, b"") if vectors else None) for row in memories]
    if where != EVERYTHING:
        return
    after = None
    while past := await snapshot.history(limit=PAGE, after=after):
        after = (past[-1].memory_id, past[-1].number)
        yield [history_line(row) for row in past]
    after = None
    while ledger := await snapshot.ledger(limit=PAGE, after=after):
        after = ledger[-1].key
        yield [ledger_line(row) for row in ledger]


@dataclass
class Taken:
    """What became of the lines of an export."""

    added: int = 0
    there: int = 0
    """Memories that the store held already, exactly so."""
    conflicts: list[int] = field(default_factory=list)
    """Ids that the store holds as another memory, which was left as it is."""
    expired: int = 0
    records: int = 0
    """Rows of the ledger and of the history that were new."""
    rejects: list[tuple[int, str]] = field(default_factory=list)
    """Line and reason."""
    rejected: int = 0
    conflicting: int = 0
    whole: bool = False
    """The last line was there, and counted what came before."""
    bytes_read: int = 0


class Import:
    """Takes the lines of an export into *store*, which is open for the vectors of *embedder*. *report* hears of each
    page. Raises InvalidInput if the first line is not that of an export, EmbedderMismatch, StoreError, ProviderError.
    """

    def __init__(self, store: Store, embedder: Embedder, report: Callable[[Taken], None] = lambda _taken: None) -> None:
        self._store = store
        self._embedder = embedder
        self._report = report
        self._taken = Taken()
        self._read = {"memory": 0, "history": 0, "ledger": 0}
        self._has_vectors = False

    async def run(self, lines: Iterable[bytes]) -> Taken:
        numbered = enumerate(lines, 1)
        head = await asyncio.to_thread(next, numbered, (1, b"{}"))
        self._begin(head[1])
        while page := await asyncio.to_thread(lambda: list(itertools.islice(numbered, PAGE))):
            await self._page(page)
            self._report(self._taken)
        if self._taken.added >= MANY:
            await self._store.optimize()
        return self._taken

    def _begin(self, line: bytes) -> None:
        self._taken.bytes_read += len(line)
        try:
            first = decoded(line)
        except InvalidInput:
            first = {}
        head = head_of(first)
        self._has_vectors = head.vectors
        if head.vectors and head.model is not None and head.model != self._embedder.model:
            raise EmbedderMismatch(
                f"the vectors in this export are of {head.model}, this run is configured for {self._embedder.model}",
                hint="configure that embedder, or export without --vectors: then they are made anew",
            )

    async def _page(self, page: Sequence[tuple[int, bytes]]) -> None:
        rows: list[Any] = []
        for number, line in page:
            self._taken.bytes_read += len(line)
            try:
                row = self._row(decoded(line))
            except InvalidInput as error:
                if line.endswith(b"\n"):  # else it was cut off, and the end is missing anyway
                    self._reject(number, error.message)
                continue
            if row is not None:
                rows.append(row)
        await self._take([row for row in rows if isinstance(row, Insert)])
        ledger = [row for row in rows if isinstance(row, LedgerRow)]
        past = [row for row in rows if isinstance(row, HistoryRow)]
        if ledger or past:
            self._taken.records += await self._store.restore(ledger, past)

    def _row(self, line: Line) -> Any:
        """What a line holds, None for the last one. Raises InvalidInput."""
        kind = str(line.get("type"))
        if kind == END:
            self._taken.whole = amounts_of(line) == Amounts(**self._read)
            return None
        if kind not in READERS:
            raise InvalidInput(f"type is {kind!r}: one of {', '.join(READERS)}", field="type")
        self._read[kind] += 1
        return READERS[kind](line)

    def _reject(self, number: int, why: str) -> None:
        self._taken.rejected += 1
        if len(self._taken.rejects) < MOST_TOLD:
            self._taken.rejects.append((number, why))

    async def _take(self, inserts: list[Insert]) -> None:
        now = times.now()
        alive = [one for one in inserts if one.expires_at is None or one.expires_at > now]
        self._taken.expired += len(inserts) - len(alive)
        if not alive:
            return
        if not self._has_vectors:
            alive = await self._embedded(alive)
        applied = await self._store.apply([Write((one,)) for one in alive])
        known = [one for one, result in zip(alive, applied, strict=True) if result.events[0][0] == "NONE"]
        self._taken.added += len(alive) - len(known)
        if known:
            await self._compare(known)

    async def _embedded(self, inserts: Sequence[Insert]) -> list[Insert]:
        """With vectors; none are made for what is there already."""
        there = {row.id for row in await self._found(inserts)}
        new = [one for one in inserts if one.id not in there]
        vectors = iter(await self._embedder.embed([one.text for one in new]) if new else ())
        return [one._replace(vector=b"") if one.id in there else one._replace(vector=next(vectors)) for one in inserts]

    async def _compare(self, known: Sequence[Insert]) -> None:
        held = {row.id: row for row in await self._found(known)}
        for one in known:
            row = held.get(one.id or 0)
            same = row is not None and (row.text, row.scope, dict(row.metadata)) == (
                *(one.text, one.scope),
                dict(one.metadata),
            )
            if same:
                self._taken.there += 1
                continue
            self._taken.conflicting += 1
            if len(self._taken.conflicts) < MOST_TOLD:
                self._taken.conflicts.append(one.id or 0)

    async def _found(self, inserts: Sequence[Insert]) -> Sequence[Any]:
        ids = tuple([one.id for one in inserts if one.id is not None])
        return await self._store.find(Where(ids=ids), limit=len(ids))
