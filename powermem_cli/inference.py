"""One conversation from what was said to what is kept, when an LLM finds the facts: extract and embed, many records at
once; then compare, decide and write, one record of a scope after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from powermem_cli import times
from powermem_cli.answers import Found, Verdict
from powermem_cli.errors import ProviderBusy, ProviderError, ProviderRefused
from powermem_cli.filters import All, Filter, Test
from powermem_cli.grouping import Grouper
from powermem_cli.in_flight import InFlight
from powermem_cli.intelligence import Intelligence, Statement
from powermem_cli.lanes import Lanes, Place
from powermem_cli.model import Cost, Decision, Record, Scope, StoredMemory, Vector
from powermem_cli.plan import Facts, Plan
from powermem_cli.providers.base import Embedder, Meter
from powermem_cli.stores.base import Applied, BlockWrite, Store, Where, Write

CLOSE: Final = 0.2
"""The least cosine at which a memory may be about the same thing. A call too many costs a cent, a call too few leaves
an outdated fact. To the built-in embedder "I live in Rome" and "I moved to Paris" are 0.28 alike, "I work at Google"
and "I work as a nurse now" 0.24; at 0.2 the sample chats take 0.28 calls per record, at 0.15 0.32. Other embedders find
all texts more alike than this one does: they ask rather too often.
"""
NEIGHBOURS: Final = 5  # of one statement, that are shown
MOST_DELETED: Final = 5  # by one record

logger = logging.getLogger("powermem")


class Inference:
    """Carries out plans whose records an LLM judges."""

    def __init__(
        self,
        intelligence: Intelligence,
        embedder: Embedder,
        store: Store,
        writes: Grouper[Write | BlockWrite, Applied],
    ) -> None:
        self._intelligence = intelligence
        self._embedder = embedder
        self._store = store
        self._writes = writes
        self._lanes = Lanes()
        self._extracting = InFlight[Found]()

    def places(self, plans: Sequence[Plan]) -> dict[Plan, Place]:
        """Of each plan that is judged its place among those of its scope: taken in order of the input, to be left."""
        judged = [plan for plan in plans if plan.record.memory is None and plan.record.infer is not False]
        return {plan: self._lanes.join(plan.record.scope) for plan in judged}

    async def carry_out_all(self, places: Mapping[Plan, Place], job: str) -> None:
        """All at once. The first error ends the rest, and keeps everybody behind *places* from going on."""
        tasks = [asyncio.ensure_future(self.carry_out(plan, place, job)) for plan, place in places.items()]
        if not tasks:
            return
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            error = next((error for task in done if (error := task.exception()) is not None), None)
            if error is not None:
                for place in places.values():
                    place.leave(error)
                raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def carry_out(self, plan: Plan, place: Place, job: str) -> None:
        """Until the plan has an outcome. Raises what ends the whole run, and then keeps those behind from going on."""
        try:
            with Meter() as meter:
                while plan.outcome is None:
                    await self._once(plan, place, job, meter)
        except Exception as error:
            place.leave(error)
            raise
        finally:
            place.leave()

    async def _once(self, plan: Plan, place: Place, job: str, meter: Meter) -> None:
        failure: ProviderError | None = None
        try:
            statements = await self._statements(plan)
            vectors = await self._vectors([statement.text for statement in statements])
            await place.first()
            plan.decided, plan.notes = await self._decisions(plan, statements, vectors)
        except ProviderError as error:
            if ends_the_run(error):
                raise
            failure = error
        plan.asked = _asked(meter)
        if failure is not None:
            plan.fail(failure)
        if plan.outcome is None or plan.identity is not None:
            (applied,) = await self._writes.submit([plan.write(job, times.now())])
            plan.settle(applied)

    async def _statements(self, plan: Plan) -> list[Statement]:
        """Identical records at the same time, as those of a caller that tries again, are read once."""
        record, heard = plan.record, plan.turns_heard
        at = times.now() if record.created_at is None else record.created_at
        found = await self._extracting.result(
            (record.scope, record.messages, heard, record.created_at),
            lambda: self._intelligence.facts_in(record.messages, heard, at),
        )
        plan.facts = Facts((*found.facts, *found.forget), unless_known=True, role="user")
        return [*map(Statement, found.facts), *[Statement(text, forget=True) for text in found.forget]]

    async def _decisions(
        self, plan: Plan, statements: Sequence[Statement], vectors: Sequence[Vector]
    ) -> tuple[list[Decision], tuple[str, ...]]:
        """What the record changes, against all that its scope holds now; and what of it was held back."""
        where = exactly(plan.record.scope, plan.among)
        near = await asyncio.gather(*map(self._near, statements, vectors, [where] * len(statements)))
        memories = {memory.id: memory for some in near for memory in some}
        clear = [
            not some or any(memory.text == said.text for memory in some)
            for said, some in zip(statements, near, strict=True)
        ]
        unclear = [
            (said, vector) for said, vector, is_clear in zip(statements, vectors, clear, strict=True) if not is_clear
        ]
        judged, notes = await self._judged(plan.record, unclear, list(memories.values())) if unclear else ([], ())
        rest, decisions = iter(judged), list[Decision]()
        for said, vector, some, is_clear in zip(statements, vectors, near, clear, strict=True):
            if not is_clear:
                decisions += next(rest)
            elif not some and not said.forget:
                decisions.append(Decision("ADD", said.text, vector))
        return decisions, notes

    async def _near(self, statement: Statement, vector: Vector, where: Where) -> list[StoredMemory]:
        """The memories that may be about the same thing. For a wish to forget those that come closest at all."""
        hits = await self._store.nearest(vector, where, limit=NEIGHBOURS) if vector else []
        close = tuple([hit.id for hit in hits if statement.forget or hit.score >= CLOSE])
        return await self._store.find(Where(ids=close), limit=len(close)) if close else []

    async def _judged(
        self, record: Record, unclear: Sequence[tuple[Statement, Vector]], memories: Sequence[StoredMemory]
    ) -> tuple[list[list[Decision]], tuple[str, ...]]:
        """What an LLM decides for each statement; and what of it was held back."""
        statements = [statement for statement, _ in unclear]
        verdicts = await self._intelligence.verdicts(statements, [memory.text for memory in memories])
        deleted = [verdict for verdict in verdicts if verdict.event == "DELETE"]
        held_back = deleted[MOST_DELETED:]
        decisions: list[list[Decision]] = [[] for _ in unclear]
        for verdict in verdicts:
            decision = None if verdict in held_back else _decision(verdict, unclear, memories)
            if decision is not None:
                decisions[verdict.statement - 1].append(decision)
        await self._embed_new(decisions)
        if not held_back:
            return decisions, ()
        note = f"{len(held_back)} of {len(deleted)} deletions were held back: one record deletes {MOST_DELETED} at most"
        logger.warning("%s%s", note, f" ({record.source.file}:{record.source.line})" if record.source else "")
        return decisions, (note,)

    async def _embed_new(self, decisions: Sequence[list[Decision]]) -> None:
        """Those that say something in new words get its vector."""
        new = {decision.text for some in decisions for decision in some if decision.event == "UPDATE"}
        vectors = dict(zip(new, await self._vectors([*new]), strict=True))
        for some in decisions:
            some[:] = [decision._replace(vector=vectors.get(decision.text, decision.vector)) for decision in some]

    async def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        return await self._embedder.embed(texts) if texts else []


def _decision(
    verdict: Verdict, unclear: Sequence[tuple[Statement, Vector]], memories: Sequence[StoredMemory]
) -> Decision | None:
    """None where nothing is to be done. A wish to forget deletes or does nothing."""
    statement, vector = unclear[verdict.statement - 1]
    memory = None if verdict.memory is None else memories[verdict.memory - 1]
    if verdict.event == "DELETE" and memory is not None:
        return Decision("DELETE", memory.text, id=memory.id, previous=memory.text)
    if verdict.event == "NONE" or statement.forget:
        return None
    if memory is None:
        return Decision("ADD", statement.text, vector)
    text = verdict.text or statement.text
    if text == memory.text:
        return None
    return Decision("UPDATE", text, vector if text == statement.text else b"", memory.id, memory.text)


def _asked(meter: Meter) -> Cost:
    usage = meter.usage
    return Cost(0, usage.calls, usage.prompt_tokens, usage.completion_tokens)


def exactly(scope: Scope, among: Filter | None = None) -> Where:
    """The memories of this scope and of no other: what a record does not name belongs to nobody."""
    nobodys = [name for name in ("user_id", "agent_id", "run_id") if getattr(scope, name) is None]
    parts: list[Filter] = [Test(name, (), "exists", value=False) for name in nobodys]
    if among is not None:
        parts.append(among)
    return Where(scope, All(tuple(parts)) if parts else None)


def ends_the_run(error: ProviderError) -> bool:
    """Whether all other records would meet it as well."""
    return isinstance(error, ProviderRefused) or (isinstance(error, ProviderBusy) and error.outage)
