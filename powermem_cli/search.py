"""One question → the memories that answer it: what is near, what matches, what is of the time it speaks of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from powermem_cli import times
from powermem_cli.dates import periods_in
from powermem_cli.errors import InvalidInput
from powermem_cli.filters import All, AnyOf, Op, Test
from powermem_cli.model import Hit, StoredMemory, Vector
from powermem_cli.providers.base import Embedder, Reranker
from powermem_cli.retrieval import CANDIDATES, Ranking, names_in, without_frequent_names
from powermem_cli.second_look import PERIOD, asks, boosts
from powermem_cli.stores.base import Store, Where
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

    async def find(
        self, query: str, where: Where, *, limit: int, threshold: float | None, mode: Mode, explain: bool
    ) -> Found:
        """The best *limit* memories, of those that score *threshold* or more. Raises StoreError, ProviderError."""
        rows: dict[int, StoredMemory] = {}
        most = max(CANDIDATES, limit)
        if mode == "keyword":
            ranking = Ranking([], await self._store.matching(search_terms(query), where, limit=most))
        elif mode == "vector":
            vector = await self._vector(await self._embedded(query, where))
            ranking = Ranking(await self._store.nearest(vector, where, limit=most), [])
        else:
            ranking = await self._fused(query, where, most)
            await self._look_again(query, where, ranking, rows)
            await self._rerank(query, where, ranking, rows)
        hits = [Hit(id, round(score, 6)) for id, score in ranking.hits(limit)]  # shown is what a threshold compares
        wanted = [hit for hit in hits if threshold is None or hit.score >= threshold]
        await self._read(where, [hit.id for hit in wanted], rows)
        return Found(wanted, rows, {hit.id: ranking.parts(hit.id) for hit in wanted} if explain else {})

    async def _embedded(self, query: str, where: Where) -> str:
        """What is to be embedded of a question."""
        if not (names := names_in(query)):
            return query
        counts, total = await self._store.frequencies(list(names.values()), where.scope.user_id)
        return without_frequent_names(query, names, counts, total)

    async def _vector(self, text: str) -> Vector:
        return (await self._embedder.embed([text]))[0]

    async def _fused(self, query: str, where: Where, most: int) -> Ranking:
        """Both sides in one ranking, and what is of the time that the question names before the rest."""
        terms, then = search_terms(query), _of_the_time(query, where)
        parts = [(where, most)] if then is None else [(where, most), (then, OF_THE_TIME)]
        text = await self._embedded(query, where)
        vector = asyncio.ensure_future(self._vector(text))
        try:
            found = await asyncio.gather(
                *(
                    self._store.near_and_matching(vector, terms, part, limit=limit, compared=COMPARED)
                    for part, limit in parts
                )
            )
        finally:
            vector.cancel()  # nobody waits for it if the store failed
        near = {hit.id: hit for by_vector, _ in found for hit in by_vector}
        matching = {hit.id: hit for _, by_words in found for hit in by_words}
        ranking = Ranking(near.values(), matching.values())
        for id in {hit.id for sides in found[1:] for side in sides for hit in side}:
            ranking.boost(id, "period", PERIOD)
        return ranking

    async def _look_again(self, query: str, where: Where, ranking: Ranking, rows: dict[int, StoredMemory]) -> None:
        best = ranking.best(LOOKED_AT)
        await self._read(where, best, rows)
        # An answer may be far down, or not among the candidates: what it is about stands in the question before it.
        await self._read(where, [id + 1 for id in best if id in rows and asks(rows[id].text)], rows)
        ranking.admit(rows)
        for id, reason, amount in list(boosts(query, rows, ranking.values)):
            ranking.boost(id, reason, amount)

    async def _rerank(self, query: str, where: Where, ranking: Ranking, rows: dict[int, StoredMemory]) -> None:
        if self._reranker is None:
            return
        best = ranking.best(RERANKED)
        await self._read(where, best, rows)
        there = [id for id in best if id in rows]
        if there:
            relevance = await self._reranker.rerank(query, [rows[id].text for id in there])
            ranking.judge(dict(zip(there, relevance, strict=True)))

    async def _read(self, where: Where, ids: Sequence[int], rows: dict[int, StoredMemory]) -> None:
        """Put the memories of these ids that are not there yet into *rows*."""
        missing = tuple(id for id in ids if id not in rows)
        if missing:
            found = await self._store.find(replace(where, ids=missing), limit=len(missing))
            rows.update((row.id, row) for row in found)


def check_mode(mode: str) -> Mode:
    """Raises InvalidInput for one there is not."""
    if mode not in get_args(Mode):
        raise InvalidInput(f"mode is hybrid, vector or keyword, not {mode!r:.40}", field="mode")
    return cast("Mode", mode)


def _of_the_time(query: str, where: Where) -> Where | None:
    """The same memories, but only those of the time that the question names; None if it names none."""
    today = datetime.fromtimestamp(times.now() / 1_000_000, timezone.utc).date()
    periods = periods_in(query[:LONGEST_QUESTION], today)
    if not 0 < len(periods) <= MOST_PERIODS:  # a list of dates is no question about one
        return None
    within = AnyOf(tuple(All((_created("gte", start), _created("lt", end + A_DAY))) for start, end in periods))
    return replace(where, filter=within if where.filter is None else All((where.filter, within)))


def _created(op: Op, moment: int) -> Test:
    return Test("created_at", (), op, moment)
