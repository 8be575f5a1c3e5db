"""The story of export and import: a store becomes lines, and lines become memories of another store, the same ones.

Read at one moment while others write, taken in in transactions, and twice is once: what is there already stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

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

T = TypeVar("T")

PAGE: Final = 500  # rows read in one go
LINES_AT_ONCE: Final = 2000  # of an export, taken in in one transaction,
BYTES_AT_ONCE: Final = 8 * 1024 * 1024  # but no more than this: a line may be long
MANY: Final = 10_000  # memories taken in from which on an index is worth building
MOST_TOLD: Final = 1000  # rejects and conflicts that are kept to be told of


async def export(
    store: Store, where: Where, *, vectors: bool, history: bool = False, more: Mapping[str, Any] = MappingProxyType({})
) -> AsyncIterator[list[Line]]:
    """The lines of an export, a page at a time. History and ledger are there only when *where* is everything; with
    *history* that of the memories is there in any case. *more* goes into the first line.
    """
    described = await store.describe()
    amounts = {"memory": 0, "history": 0, "ledger": 0}
    async with store.snapshot() as snapshot:
        yield [head_line(Head(described["model"], described["dims"], vectors)) | dict(more)]
        async for page in _pages(snapshot, where, vectors=vectors, history=history):
            amounts[page[0]["type"]] += len(page)
            yield page
    yield [end_line(Amounts(**amounts))]


async def _pages(snapshot: Snapshot, where: Where, *, vectors: bool, history: bool) -> AsyncIterator[list[Line]]:
    after: Any = None
    whose: set[int] | None = set() if history and where != EVERYTHING else None
    while memories := await snapshot.memories(where, limit=PAGE, after=after):
        after = memories[-1].id
        if whose is not None:
            whose.update(row.id for row in memories)
        found = await snapshot.vectors([row.id for row in memories]) if vectors else {}
        yield [memory_line(row, found.get(row.id, b"") if vectors else None) for row in memories]
    if where == EVERYTHING or whose:
        async for past in past_pages(snapshot):
            if some := [history_line(row) for row in past if whose is None or row.memory_id in whose]:
                yield some
    if where == EVERYTHING:
        async for ledger in ledger_pages(snapshot):
            yield [ledger_line(row) for row in ledger]


async def past_pages(snapshot: Snapshot) -> AsyncIterator[list[HistoryRow]]:
    after = None
    while past := await snapshot.history(limit=PAGE, after=after):
        after = (past[-1].memory_id, past[-1].number)
        yield past


async def ledger_pages(snapshot: Snapshot) -> AsyncIterator[list[LedgerRow]]:
    after = None
    while ledger := await snapshot.ledger(limit=PAGE, after=after):
        after = ledger[-1].key
        yield ledger


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
    page. With *anew*, vectors of another embedder are made anew. Raises InvalidInput if the first line is not that of
    an export, EmbedderMismatch, StoreError, ProviderError.
    """

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        report: Callable[[Taken], None] = lambda _taken: None,
        *,
        anew: bool = False,
    ) -> None:
        self._anew = anew
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
        pages = self._pages(numbered)
        coming = _ahead(pages)
        try:
            while (rows := await coming) is not None:
                coming = _ahead(pages)  # lines become rows while the store writes those before
                await self._take_all(rows)
                self._report(self._taken)
        finally:
            await asyncio.gather(coming, return_exceptions=True)  # then nobody reads the lines any more
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
        are_others = head.vectors and head.model is not None and head.model != self._embedder.model
        self._has_vectors = head.vectors and not are_others
        if are_others and not self._anew:
            raise EmbedderMismatch(
                f"the vectors in this export are of {head.model}, this run is configured for {self._embedder.model}",
                hint="configure that embedder, or export without --vectors: then they are made anew",
            )

    def _pages(self, numbered: Iterator[tuple[int, bytes]]) -> Iterator[list[Any]]:
        """Rows, as many as are taken in at once."""
        rows: list[Any] = []
        lines = size = 0
        for number, line in numbered:
            rows += self._rows(number, line)
            lines, size = lines + 1, size + len(line)
            if lines == LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                yield rows
                rows, lines, size = [], 0, 0
        if rows:
            yield rows

    def _rows(self, number: int, line: bytes) -> list[Any]:
        """The row of this line, if it has one."""
        self._taken.bytes_read += len(line)
        try:
            row = self._row(decoded(line))
        except InvalidInput as error:
            if line.endswith(b"\n"):  # else it was cut off, and the end is missing anyway
                self._reject(number, error.message)
            return []
        return [] if row is None else [row]

    async def _take_all(self, rows: Sequence[Any]) -> None:
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


def _ahead(pages: Iterator[T]) -> asyncio.Future[T | None]:
    """The next of them, made on a thread; None at the end."""
    return asyncio.ensure_future(asyncio.to_thread(next, pages, None))
