"""How records become memories: compared with the ledger, embedded, written, many at once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from powermem_cli import times
from powermem_cli.block_outcomes import BlockOutcomes
from powermem_cli.blocks import Block
from powermem_cli.errors import ProviderError
from powermem_cli.grouping import Grouper
from powermem_cli.inference import Inference, ends_the_run
from powermem_cli.model import Outcome
from powermem_cli.plan import OnChange, Plan, as_text, said
from powermem_cli.providers.base import Embedder
from powermem_cli.stores.base import Applied, BlockWrite, Store, Where, Write


class Adding:
    """Carries out plans; those whose records an LLM judges, by *inference*."""

    def __init__(
        self,
        embedder: Embedder,
        store: Store,
        writes: Grouper[Write | BlockWrite, Applied],
        inference: Inference | None,
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._writes = writes
        self._inference = inference

    async def outcomes(
        self, plans: Sequence[Plan], job: str = "", turn: Callable[[], Awaitable[None]] | None = None
    ) -> list[Outcome]:
        """What becomes of each."""
        # Before anything is waited for: what an LLM judges is judged in the order in which it came.
        places = {} if self._inference is None else self._inference.places(plans)
        try:
            keys = _worth_asking_about(plans)
            known = await self._store.known(keys) if keys else {}
            for plan in plans:
                plan.compare(known)
            if self._inference is not None:
                await self._inference.carry_out_all(places, job)
            while todo := [plan for plan in plans if plan.outcome is None]:
                await self._carry_out(todo, job, turn)
        finally:
            for place in places.values():
                place.leave()
        return [plan.ended() for plan in plans]

    async def outcomes_of(
        self, block: Block, job: str, on_change: OnChange, turn: Callable[[], Awaitable[None]] | None = None
    ) -> Sequence[Outcome]:
        """What becomes of each record of a block, which no LLM judges."""
        begun = time.monotonic()
        if block.is_worked_out:
            if turn is not None:
                await turn()
            now = times.now()
            write = BlockWrite(block, job, now, as_text(block.file))
            (applied,) = await self._writes.submit([write], weight=len(block))
            ended = BlockOutcomes.of(block, applied, now, begun)
        else:
            ended = BlockOutcomes.of_known(block, await self._store.known(block.columns.keys), begun)
        rest = [Plan(block[place], block.identity(place), on_change) for place in ended.open]
        return ended.with_rest(await self.outcomes(rest, job, turn) if rest else ())

    async def _carry_out(
        self,
        plans: Sequence[Plan],
        job: str,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Facts, vectors, one write per record. A record another run wrote meanwhile is left to be compared again."""
        for plan in plans:
            plan.facts = said(plan.record)
        await self._embed(plans)
        await self._look_at_kept(plans)
        if turn is not None:
            await turn()
        now = times.now()
        writing = [plan for plan in plans if plan.outcome is None or plan.identity is not None]
        applied = await self._writes.submit([plan.write(job, now) for plan in writing])
        for plan, result in zip(writing, applied, strict=True):
            plan.settle(result)

    async def _look_at_kept(self, plans: Sequence[Plan]) -> None:
        """Tell the plans that change what an earlier version left how much of that is there still."""
        ids = {id for plan in plans for id in plan.kept}
        if ids:
            there = {row.id: row.text for row in await self._store.find(Where(ids=tuple(ids)), limit=len(ids))}
            for plan in plans:
                plan.look_at(there)

    async def _embed(self, plans: Sequence[Plan]) -> None:
        """Give every plan its vectors. A text that no provider will take fails its own record alone."""
        lacking = []
        for plan in plans:
            if (worked_out := plan.record.worked_out) is None:
                lacking.append(plan)
            else:
                plan.vectors = worked_out.vectors
        texts = [text for plan in lacking for text in plan.facts.texts]
        answers = await self._embedder.embed_each(texts) if texts else []
        start = 0
        for plan in lacking:
            own = answers[start : start + len(plan.facts.texts)]
            start += len(own)
            plan.vectors = [answer for answer in own if isinstance(answer, bytes)]
            if len(plan.vectors) < len(own):
                plan.fail(_worst([answer for answer in own if not isinstance(answer, bytes)]))


def _worth_asking_about(plans: Sequence[Plan]) -> list[bytes]:
    """The keys by which records may be known. Not of those that are worked out already: what is known is found by
    whoever writes them as well, and all that would be saved is done.
    """
    return [plan.identity.key for plan in plans if plan.identity is not None and plan.record.worked_out is None]


def _worst(errors: Sequence[ProviderError]) -> ProviderError:
    """The first of them. Raises one that all other records would meet as well."""
    for error in errors:
        if ends_the_run(error):
            raise error
    return errors[0]
