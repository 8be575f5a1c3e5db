"""One question → the memories that answer it: what is near, what matches, what is of the time it speaks of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from powermem_cli import dates, times
from powermem_cli.errors import InvalidInput
from powermem_cli.filters import All, AnyOf, Op, Test
from powermem_cli.model import Hit, StoredMemory, Vector
from powermem_cli.providers.base import Embedder, Reranker
from powermem_cli.retrieval import CANDIDATES, Ranking, names_in, without_frequent_names
from powermem_cli.second_look import PERIOD, asks, boosts
from powermem_cli.stores.base import Judging, Part, Sides, Store, Where
from powermem_cli.terms import search_terms

Mode = Literal["hybrid", "vector", "keyword"]

LOOKED_AT: Final = 60  # of the best hits, in words
COMPARED: Final = 160  # of the best by words, with what is asked: those behind them do not come to the front by that
RERANKED: Final = 100  # of the best hits
OF_THE_TIME: Final = 100  # candidates from each side that are of the time a question names
LONGEST_QUESTION: Final = 2000  # characters that are looked through for a time
MOST_PERIODS: Final = 50  # that are one condition in SQL
A_DAY: Final = 86_400_000_000  # microseconds: people tell of a day on the next one, too


class Found(NamedTuple):
    """A ranking: *hits* best first, their *rows* by id (one that was deleted meanwhile has none), and how each score
    came about, if that was asked for.
    """

    hits: list[Hit]
    rows: Mapping[int, StoredMemory]
    parts: Mapping[int, Mapping[str, Any]]


class Search:
    """Questions to a store, with an embedder for what is near and, if there is one, a reranker for the last word."""

    def __init__(self, store: Store, embedder: Embedder, reranker: Reranker | None) -> None:
        self._store = store
        self._embedder = embedder
        self._reranker = reranker

    async def prepare(self) -> None:
        """Do now, on another thread, what a question would hold up the event loop for."""
        await asyncio.to_thread(dates.prepare)

    async def find(
        self, query: str, where: Where, *, limit: int, threshold: float | None, mode: Mode, explain: bool
    ) -> Found:
        """The best *limit* memories, of those that score *threshold* or more. Raises StoreError, ProviderError."""
        terms = [] if mode == "vector" else search_terms(query)
        most = max(CANDIDATES, limit)
        then = _of_the_time(query, where) if mode == "hybrid" else None
        parts = [Part(where, most)] if then is None else [Part(where, most), Part(then, OF_THE_TIME)]
        # What a reranker does not look at stays behind what it does.
        best = max(limit, RERANKED) if mode == "hybrid" and self._reranker is not None else limit
        ranking, rows = await self._store.search(
            self._vector(query, where, mode),
            terms,
            parts,
            compared=COMPARED,
            judge=lambda found: _judged(query, found, best, looks_again=mode == "hybrid"),
        )
        if mode == "hybrid":
            await self._rerank(query, ranking, rows)
        hits = [Hit(id, round(score, 6)) for id, score in ranking.hits(limit)]  # shown is what a threshold compares
        wanted = [hit for hit in hits if threshold is None or hit.score >= threshold]
        return Found(wanted, rows, {hit.id: ranking.parts(hit.id) for hit in wanted} if explain else {})

    async def _vector(self, query: str, where: Where, mode: Mode) -> Vector:
        if mode == "keyword":
            return b""
        if names := names_in(query):
            counts, total = await self._store.frequencies(list(names.values()), where.scope.user_id)
            query = without_frequent_names(query, names, counts, total)
        return (await self._embedder.embed([query]))[0]

    async def _rerank(self, query: str, ranking: Ranking, rows: Mapping[int, StoredMemory]) -> None:
        there = [id for id in ranking.best(RERANKED) if id in rows]
        if self._reranker is not None and there:
            relevance = await self._reranker.rerank(query, [rows[id].text for id in there])
            ranking.judge(dict(zip(there, relevance, strict=True)))


def _judged(
    query: str, found: Sequence[Sides], best: int, *, looks_again: bool
) -> Judging[tuple[Ranking, dict[int, StoredMemory]]]:
    """All that was found in one ranking, what is of the time that the question names before the rest; and the *best*."""
    ranking, rows = Ranking(*map(chain.from_iterable, zip(*found, strict=True))), dict[int, StoredMemory]()
    for id in {hit.id for sides in found[1:] for side in sides for hit in side}:
        ranking.boost(id, "period", PERIOD)
    if looks_again:
        first = ranking.best(LOOKED_AT)
        yield from _into(rows, first)
        # An answer may be far down, or not among the candidates: what it is about stands in the question before it.
        yield from _into(rows, [id + 1 for id in first if id in rows and asks(rows[id].text)])
        ranking.admit(rows)
        for id, reason, amount in list(boosts(query, rows, ranking.values)):
            ranking.boost(id, reason, amount)
    yield from _into(rows, ranking.best(best))
    return ranking, rows


def _into(rows: dict[int, StoredMemory], ids: Sequence[int]) -> Judging[None]:
    """Read those that are not there yet."""
    if missing := [id for id in ids if id not in rows]:
        rows.update([(row.id, row) for row in (yield missing)])


def check_mode(mode: str) -> Mode:
    """Raises InvalidInput for one there is not."""
    if mode not in get_args(Mode):
        raise InvalidInput(f"mode is hybrid, vector or keyword, not {mode!r:.40}", field="mode")
    return cast("Mode", mode)


def _of_the_time(query: str, where: Where) -> Where | None:
    """The same memories, but only those of the time that the question names; None if it names none."""
    today = datetime.fromtimestamp(times.now() / 1_000_000, timezone.utc).date()
    periods = dates.periods_in(query[:LONGEST_QUESTION], today)
    if not 0 < len(periods) <= MOST_PERIODS:  # a list of dates is no question about one
        return None
    within = AnyOf(tuple(All((_created("gte", start), _created("lt", end + A_DAY))) for start, end in periods))
    return replace(where, filter=within if where.filter is None else All((where.filter, within)))


def _created(op: Op, moment: int) -> Test:
    return Test("created_at", (), op, moment)
