"""How the stores on a database server search: each memory looked at where they are few, else what an index names."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from powermem_cli.model import Hit, Scope, Vector
from powermem_cli.stores.base import EVERYTHING, TYPICAL_LENGTH, Judgement, Judging, Part, Sides, Where, brevity, rarity
from powermem_cli.stores.server import Pool, ServerStore
from powermem_cli.stores.server_tables import Names
from powermem_cli.stores.sql_where import Statement

T = TypeVar("T")

EXACT_UP_TO: Final = 50_000
"""Memories whose vectors are looked at one by one; if a search leaves more, the index is asked, when there is one."""
FEW_FOR: Final = 60.0
"""Seconds for which it is remembered of a scope that it leaves no more."""
SCOPES_HELD: Final = 4096
WORTH_AN_INDEX: Final = 20_000
READ_THROUGH: Final = 5_000
"""Memories of a user that are read for keywords, once, all of them; of more, those that an index names."""
MOST_POSTINGS: Final = 3_000
"""Memories that are ranked by keywords where they are many, or one for this number of memories, if that is more:"""
POSTINGS_OF: Final = 100
ENOUGH: Final = 50
"""Hits by keywords; with fewer, the words that nearly all hold are asked for, too."""
BITS: Final = 53
"""Of a number that says which terms a memory holds, which may be a float."""


class ServerSearch(ServerStore[Pool]):
    """The searches of a ServerStore. A subclass knows the indexes."""

    LENGTH: str
    """A memory's number of distinct terms, as double precision."""

    def __init__(self, place: str, names: Names, embedding_model_dims: int | None) -> None:
        super().__init__(place, names, embedding_model_dims)
        self._has_index = False
        self._few_until: dict[Scope, float] = {}

    @abstractmethod
    async def _build_index(self, dims: int) -> bool:
        """An index over the vectors, which may take minutes. False if none was wanted."""

    @abstractmethod
    def _nearest(self, statement: Statement, vector: Vector, where: Where, limit: int, *, exact: bool) -> str:
        """A statement that gives id and cosine, best first; not *exact*: of the candidates the index names."""

    @abstractmethod
    async def frequencies(self, terms: Sequence[str], user_id: str | None) -> tuple[dict[str, int], int]: ...

    @abstractmethod
    def _holds(self, statement: Statement, term: str) -> str:
        """1 for a memory that holds the term, else 0."""

    @abstractmethod
    def _holds_any(self, statement: Statement, terms: Sequence[str], where: Where) -> str:
        """The condition that a memory of *where* holds one of these, as an index over terms knows it."""

    async def optimize(self) -> bool:
        """Build what makes a search over very many memories quick, best after many were added; it may take minutes.

        False if it is not worth it: there are few, or the configuration wants no index.
        """
        self._opened()
        if "dims" not in self._meta or await self._few(EVERYTHING, WORTH_AN_INDEX) is not None:
            return False
        self._has_index = await self._build_index(int(self._meta["dims"]))
        return self._has_index

    async def nearest(self, vector: Vector, where: Where, *, limit: int) -> list[Hit]:
        if not vector or limit <= 0:
            return []
        if "dims" not in self._meta:  # another process may have stored the first vector
            await self._read_meta()
        self._check_dims(self._meta, len(vector) // 4)
        if "dims" not in self._meta:
            return []
        statement = self._statement()
        sql = self._nearest(statement, vector, where, limit, exact=await self._looks_at_each(where))
        return [Hit(id, max(-1.0, min(1.0, cosine))) for id, cosine in await self._rows(sql, statement.values)]

    async def search(
        self,
        vector: Awaitable[Vector],
        terms: Sequence[str],
        parts: Sequence[Part],
        *,
        compared: int,
        judge: Callable[[Sequence[Sides]], Judging[T]],
    ) -> T:
        wanted = asyncio.ensure_future(vector)  # so that each part may wait for it
        try:
            found = await asyncio.gather(*(self._both_sides(wanted, terms, part, compared) for part in parts))
        finally:
            wanted.cancel()  # nobody waits for it if another failed
        judgement = Judgement(judge(found))
        while (ids := judgement.ids) is not None:
            judgement.take(await self.find(replace(parts[0].where, ids=tuple(ids)), limit=len(ids)))
        return judgement.result

    async def _both_sides(self, vector: Awaitable[Vector], terms: Sequence[str], part: Part, compared: int) -> Sides:
        where, limit = part

        async def look_near() -> tuple[Vector, list[Hit]]:
            wanted = await vector
            return wanted, await self.nearest(wanted, where, limit=limit)

        (wanted, near), matching = await asyncio.gather(look_near(), self.matching(terms, where, limit=limit))
        seen = {hit.id for hit in near}
        unseen = tuple(hit.id for hit in matching[:compared] if hit.id not in seen)
        more = await self.nearest(wanted, replace(where, ids=unseen), limit=len(unseen))
        return Sides(near + more, matching)

    async def _looks_at_each(self, where: Where) -> bool:
        if not self._has_index or (where.ids is not None and len(where.ids) <= EXACT_UP_TO):
            return True
        if where == EVERYTHING:  # the index serves a store that became small just as well
            return False
        # The first looks into the index of scopes alone, and nearly always suffices.
        if where.scope != EVERYTHING.scope and await self._had_few(where.scope):
            return True
        return await self._few(where, EXACT_UP_TO) is not None

    async def _had_few(self, scope: Scope) -> bool:
        """Whether there are few enough to look at each, or were so a moment ago: it would be no mistake, only slow."""
        now = time.monotonic()
        if now < self._few_until.get(scope, now):
            return True
        if await self._few(Where(scope), EXACT_UP_TO, expired=True) is None:
            return False
        if len(self._few_until) >= SCOPES_HELD:
            self._few_until.clear()
        self._few_until[scope] = now + FEW_FOR
        return True

    async def matching(self, terms: Sequence[str], where: Where, *, limit: int) -> list[Hit]:
        if not terms or limit <= 0:
            return []
        of_user = Where(Scope(where.scope.user_id))
        number = await self._few(of_user, READ_THROUGH, expired=True) if len(terms) <= BITS else None
        if number is not None:
            return best(await self._held(terms, of_user, where), len(terms), number)[:limit]
        counts, total = await self.frequencies(terms, where.scope.user_id)
        held = {term: holding for term, holding in counts.items() if holding}
        worth = {term: rarity(holding, total) for term, holding in held.items()}
        if not _narrows(where):  # a filter may leave few of the best
            rarest = _rarest(held, max(MOST_POSTINGS, total // POSTINGS_OF))
            hits = await self._ranked(rarest, worth, where, limit)
            if len(hits) >= min(limit, ENOUGH) or len(rarest) == len(held):
                return hits
        return await self._ranked(list(held), worth, where, limit)

    async def _held(self, terms: Sequence[str], of_user: Where, where: Where) -> list[tuple[int, int, int, bool]]:
        """Of the user's memories that hold a term: id, terms held (a bit each), length, whether it is in *where*."""
        statement = self._statement()
        bits = " + ".join(f"{self._holds(statement, term)} * {1 << bit}" for bit, term in enumerate(terms))
        # With the LIMIT each memory is looked into once, and not for the condition again.
        sql = f"""SELECT id, held, length, inside FROM (SELECT id, {bits} AS held, {self.LENGTH} AS length,
            {statement.where(where)} AS inside FROM {self.names.memories}
            WHERE {statement.where(of_user, expired=True)} LIMIT {2**62}) looked WHERE held > 0"""
        rows = await self._rows(sql, statement.values)
        return [(id, int(held), int(length), bool(inside)) for id, held, length, inside in rows]

    async def _ranked(self, terms: Sequence[str], worth: Mapping[str, float], where: Where, limit: int) -> list[Hit]:
        """The best of the memories that hold one of *terms*, by what all that they hold are worth."""
        if not terms:
            return []
        statement = self._statement()
        sum_of = " + ".join(f"{self._holds(statement, term)} * {statement.bind(each)}" for term, each in worth.items())
        length = f"2.2e0 / (1e0 + 1.2e0 * (0.25e0 + 0.75e0 * {self.LENGTH} / {TYPICAL_LENGTH}e0))"
        score = f"({sum_of}) * least(1e0, {length})"
        sql = f"""SELECT id, {score} AS score FROM {self.names.memories}
            WHERE {statement.where(where)} AND {self._holds_any(statement, terms, where)}
            ORDER BY score DESC, id LIMIT {statement.bind(limit)}"""
        return [Hit(id, score) for id, score in await self._rows(sql, statement.values)]

    async def _total(self, user_id: str | None) -> int:
        """How many memories the user has (None: all), with those that have expired."""
        statement = self._statement()
        condition = statement.where(Where(Scope(user_id)), expired=True)
        sql = f"SELECT count(*) FROM {self.names.memories} WHERE {condition}"
        return int((await self._rows(sql, statement.values))[0][0])

    async def _few(self, where: Where, number: int, *, expired: bool = False) -> int | None:
        """How many memories there are, None for more than *number*."""
        statement = self._statement()
        condition = statement.where(where, expired=expired)
        some = f"SELECT 1 FROM {self.names.memories} WHERE {condition} LIMIT {statement.bind(number + 1)}"
        ((found,),) = await self._rows(f"SELECT count(*) FROM ({some}) few", statement.values)
        return int(found) if found <= number else None


def best(held: Sequence[tuple[int, int, int, bool]], terms: int, total: int) -> list[Hit]:
    """What `ServerSearch._held` found, as base.py ranks it: among *total* memories, by so many *terms*."""
    counts = Counter(bits for _, bits, _, _ in held)
    holding = [sum(number for bits, number in counts.items() if bits >> bit & 1) for bit in range(terms)]
    rarities = [rarity(number, total) for number in holding]
    worth = {bits: sum(each for bit, each in enumerate(rarities) if bits >> bit & 1) for bits in counts}
    hits = [Hit(id, worth[bits] * brevity(length)) for id, bits, length, inside in held if inside]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def _narrows(where: Where) -> bool:
    """Whether a user's memories, or all, are not nearly all that it leaves."""
    scope = where.scope
    return any(part is not None for part in (where.filter, where.ids, scope.agent_id, scope.run_id))


def _rarest(holding: Mapping[str, int], most: int) -> list[str]:
    """Of terms and the numbers of memories that hold them those that are worth most, up to *most* together."""
    some, postings = [], 0
    for term, number in sorted(holding.items(), key=lambda pair: pair[1]):
        postings += number
        if postings > most:
            break
        some.append(term)
    return some
