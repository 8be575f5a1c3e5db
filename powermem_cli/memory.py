"""AsyncMemory: the story of add, search, get, update and delete."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast

from powermem_cli import times
from powermem_cli.adding import Adding
from powermem_cli.blocks import Block
from powermem_cli.config import Choice, Config, auto_config, parse_config
from powermem_cli.errors import InvalidInput, UsageError
from powermem_cli.filters import parse_filter
from powermem_cli.grouping import Grouper
from powermem_cli.identity import digest, identify
from powermem_cli.inference import Inference
from powermem_cli.intelligence import create_intelligence
from powermem_cli.model import Outcome, Record, Scope, StoredMemory
from powermem_cli.plan import OnChange, Plan
from powermem_cli.providers import create_embedder, create_reranker, request_limits
from powermem_cli.providers.base import Usage
from powermem_cli.results import (
    AddResult,
    DeleteAllResult,
    Explanation,
    GetAllResult,
    HistoryResult,
    MemoryDict,
    SearchResult,
    as_added,
    as_event,
    as_found,
    as_memory,
)
from powermem_cli.rules import check_messages, check_metadata, check_scope, check_text
from powermem_cli.search import Mode, Search, check_mode
from powermem_cli.stores import create_store
from powermem_cli.stores.base import Applied, BlockWrite, Delete, Update, Where, Write
from powermem_cli.turns import Turns

logger = logging.getLogger("powermem")

CALLS_AT_ONCE: Final = 1024  # of `add`, carried out together
AT_WORK: Final = 512  # calls of `add`: those that are carried out, those that are next, and what is on its way
LARGEST_ID: Final = 2**63 - 1


class State(enum.Enum):
    NEW = "new"
    OPEN = "open"
    CLOSED = "closed"


class AsyncMemory:
    """Memory for agents. The constructor does nothing: `await initialize()`, or `async with`.

    *config* is a dict as in the guide, or None for `auto_config()`. The other three name a provider each and are kept
    for older programs. Raises ConfigError.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | Config | None = None,
        storage_type: str | None = None,
        llm_provider: str | None = None,
        embedding_provider: str | None = None,
    ) -> None:
        source: Mapping[str, Any] | Config = auto_config() if config is None else config
        self._config = _with_providers(
            parse_config(source), vector_store=storage_type, llm=llm_provider, embedder=embedding_provider
        )
        self._state = State.NEW
        self._opening = asyncio.Lock()
        self._embedder = create_embedder(self._config.embedder.provider, self._config.embedder.options)
        self._store = create_store(self._config.vector_store.provider, self._config.vector_store.options)
        chosen = self._config.reranker
        self._reranker = None if chosen is None else create_reranker(chosen.provider, chosen.options)
        self._search = Search(self._store, self._embedder, self._reranker)
        self._turns = Turns(max(AT_WORK, self.texts_at_once))
        self._writes: Grouper[Write | BlockWrite, Applied] = Grouper(
            self._store.apply, most=self._store.writes_at_once, ahead=self._store.takes_turns
        )
        self._intelligence = create_intelligence(self._config)
        inference = (
            None
            if self._intelligence is None
            else Inference(self._intelligence, self._embedder, self._store, self._writes)
        )
        self._adding = Adding(self._embedder, self._store, self._writes, inference)
        self._together: Grouper[Plan, Outcome] = Grouper(self._adding.outcomes, most=CALLS_AT_ONCE, ahead=True)

    async def initialize(self, *, lazily: bool = False) -> None:
        """Open the store. Safe to repeat. Raises StoreError, EmbedderMismatch.

        *lazily* leaves the loading of a model, and of what reads dates, to the first call that needs it: right for a
        program that asks one question, while in a service it would hold up everybody who waits for the event loop then.
        """
        async with self._opening:
            if self._state is State.CLOSED:
                raise UsageError("this AsyncMemory is closed", hint="make a new one")
            if self._state is State.NEW:
                await self._store.open(self._embedder.model)
                self._state = State.OPEN
            if not lazily:
                await self._embedder.prepare()
                await self._search.prepare()

    async def close(self) -> None:
        """Finish what was begun and let go of store and connections. Safe to repeat."""
        was, self._state = self._state, State.CLOSED  # at once: nothing new is begun meanwhile
        if was is State.OPEN:
            await self._settled()
            await self._store.close()
        await self._embedder.close()
        if self._intelligence is not None:
            await self._intelligence.close()
        if self._reranker is not None:
            await self._reranker.close()

    async def __aenter__(self) -> AsyncMemory:
        await self.initialize(lazily=self._state is State.OPEN)  # once is enough
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def add(
        self,
        messages: str | Mapping[str, Any] | Sequence[Any],
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        filters: Mapping[str, Any] | None = None,
        infer: bool = True,
    ) -> AddResult:
        """Remember what *messages* say; returns {"results": [{id, memory, event, …}]}, empty if all was known.

        With *infer*, what the user said is kept, and nothing that this scope holds already (*filters*: looking only
        among those). With an LLM these are facts, compared with what is known: added, or what is known is changed
        ("UPDATE", with previous_memory) or deleted. Without *infer* the whole is one memory, as it is.
        """
        turn = self._turns.wait()
        try:
            await turn
            self._require_open()
            record = Record(
                messages=check_messages(messages),
                scope=check_scope(user_id, agent_id, run_id),
                metadata=check_metadata(metadata),
                infer=infer,
            )
            plan = Plan(record, among=parse_filter(filters))
            (outcome,) = await (self._together.submit([plan]) if self.needs_nobody else self._adding.outcomes([plan]))
        finally:
            self._turns.leave(turn)
        if outcome.error is not None:
            raise outcome.error
        return {"results": [as_added(effect, outcome) for effect in outcome.effects]}

    async def add_records(
        self,
        records: Sequence[Record],
        *,
        job: str,
        on_change: OnChange = "update",
        force: bool = False,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> Sequence[Outcome]:
        """Add records that are known again (see identity.py): what the ledger holds is not added twice. With *force*
        it is done again all the same: what is there is written anew in place, what somebody deleted comes back.
        *turn* is waited for before the first write. A Block of records takes a part of the time.

        One Outcome per record, in order; a record that can't be added is one of them, "failed". Raises only what
        ends the whole run: StoreError, EmbedderMismatch, ProviderRefused, ProviderBusy.
        """
        self._require_open()
        if isinstance(records, Block) and not force:
            return await self._adding.outcomes_of(records, job, on_change, turn)
        identities = [identify(record) for record in records]
        plans = [Plan(record, identity, on_change, force) for record, identity in zip(records, identities, strict=True)]
        return await self._adding.outcomes(plans, job, turn)

    async def search(
        self,
        query: str,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        filters: Mapping[str, Any] | None = None,
        limit: int = 30,
        threshold: float | None = None,
        *,
        mode: Mode = "hybrid",
        explain: bool = False,
    ) -> SearchResult:
        """The memories that answer *query*: {"results": [{id, memory, score, …}]}, best first.

        *score* is a similarity in 0..1, *threshold* the least one wanted. *mode* "vector" or "keyword" asks one side
        alone; "keyword" embeds nothing. With *explain* each result says how its score came about.
        """
        self._require_open()
        check_text(query, "query")
        if threshold is not None and not 0 <= threshold <= 1:
            raise InvalidInput(f"threshold is between 0 and 1, not {threshold}", field="threshold")
        where = Where(check_scope(user_id, agent_id, run_id), parse_filter(filters))
        wanted = _checked(limit, "limit")
        found = await self._search.find(
            query, where, limit=wanted, threshold=threshold, mode=check_mode(mode), explain=explain
        )
        hits = [(found.rows[id], score) for id, score in found.hits if id in found.rows]
        results = [as_found(row, score) for row, score in hits]
        if explain:
            for result in results:
                result["explanation"] = cast("Explanation", found.parts[result["id"]])
        return {"results": results}

    async def get(
        self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None
    ) -> MemoryDict | None:
        """The memory, or None if there is none of that id in that user's and agent's scope."""
        self._require_open()
        number = _memory_id(memory_id)
        if number is None:
            return None
        rows = await self._rows((number,), check_scope(user_id, agent_id))
        return as_memory(rows[0]) if rows else None

    async def update(
        self,
        memory_id: int | str,
        content: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> MemoryDict | None:
        """Change the text, or merge *metadata* key by key, or both; the memory as it is now, None if there is none."""
        self._require_open()
        if content is None and metadata is None:
            raise InvalidInput("update needs content, metadata, or both", field="content")
        scope = check_scope(user_id, agent_id)
        merged = None if metadata is None else check_metadata(metadata)
        vector = None if content is None else (await self._embedder.embed([check_text(content, "content")]))[0]
        number = _memory_id(memory_id)
        if number is None:
            return None
        change = Update(
            number, times.now(), scope, content, vector, None if content is None else digest(content), merged
        )
        (applied,) = await self._writes.submit([Write((change,))])
        return await self.get(number) if applied.events[0][0] == "UPDATE" else None

    async def delete(self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None) -> bool:
        """Forget a memory; False if there is none of that id in that user's and agent's scope."""
        self._require_open()
        number = _memory_id(memory_id)
        if number is None:
            return False
        (applied,) = await self._writes.submit([Write((Delete(number, check_scope(user_id, agent_id)),))])
        return applied.events[0][0] == "DELETE"

    async def history(
        self, memory_id: int | str, user_id: str | None = None, agent_id: str | None = None
    ) -> HistoryResult:
        """What happened to a memory's text, oldest first: {"results": [{id, event, old_memory, memory, at, …}]}.

        A memory that was deleted by its id keeps its history. Empty if that scope never had one of that id.
        """
        self._require_open()
        number = _memory_id(memory_id)
        scope = check_scope(user_id, agent_id)
        entries = [] if number is None else await self._store.history(number, scope)
        return {"results": [as_event(number or 0, entry) for entry in entries]}

    async def delete_all(
        self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
    ) -> DeleteAllResult:
        """Forget every memory of that scope, however many (of the whole store, if none is named): {"deleted": n}."""
        self._require_open()
        await self._settled()
        return {"deleted": await self._store.delete(Where(check_scope(user_id, agent_id, run_id)))}

    async def get_all(
        self,
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        filters: Mapping[str, Any] | None = None,
        *,
        after: int | str | None = None,
    ) -> GetAllResult:
        """{"results": […]} in the order they were added. *after*, the last id seen, pages faster than *offset*."""
        self._require_open()
        where = Where(check_scope(user_id, agent_id, run_id), parse_filter(filters))
        start = None if after is None else _memory_id(after)
        if after is not None and start is None:
            raise InvalidInput(f"after is the id of a memory, not {after!r}", field="after")
        rows = await self._store.find(
            where, limit=_checked(limit, "limit"), offset=_checked(offset, "offset"), after=start
        )
        return {"results": [as_memory(row) for row in rows]}

    async def count(self, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> int:
        """How many memories that scope holds."""
        self._require_open()
        return await self._store.count(Where(check_scope(user_id, agent_id, run_id)))

    @property
    def usage(self) -> dict[str, Usage]:
        """What was asked of providers so far, by stage: extract, decide, embed, rerank."""
        judged = {} if self._intelligence is None else self._intelligence.usage
        ranked = {} if self._reranker is None else {"rerank": self._reranker.usage}
        return {**judged, "embed": self._embedder.usage, **ranked}

    @property
    def keeps_what_is_said(self) -> bool:
        """No LLM is configured: what users say is kept in their own words."""
        return self._config.llm is None

    @property
    def needs_nobody(self) -> bool:
        """What becomes of a record follows from it alone: neither an LLM nor another embedder is asked."""
        return self.keeps_what_is_said and self._config.embedder.provider == "local"

    @property
    def texts_at_once(self) -> int:
        """As many may be under way to an embedder that is asked by requests; 0 for one that is not."""
        limits = request_limits(self._config.embedder.provider, self._config.embedder.options)
        return 0 if limits is None else limits.texts * limits.requests

    async def store_identity(self) -> str:
        """The name the store was given when it was made: what a checkpoint belongs to."""
        self._require_open()
        return await self._store.identity()

    async def _settled(self) -> None:
        """Wait until what was begun so far is kept."""
        await self._together.settled()
        await self._writes.settled()

    async def _rows(self, ids: tuple[int, ...], scope: Scope | None = None) -> list[StoredMemory]:
        if not ids:
            return []
        return await self._store.find(Where(scope or Scope(), ids=ids), limit=len(ids))

    def _require_open(self) -> None:
        if self._state is State.NEW:
            raise UsageError("not open yet", hint="await memory.initialize(), or use `async with`")
        if self._state is State.CLOSED:
            raise UsageError("this AsyncMemory is closed", hint="make a new one")


def _with_providers(config: Config, **named: str | None) -> Config:
    """The older way to name a provider: its options stay those of the config if that names it too."""
    for section, provider in named.items():
        chosen: Choice | None = getattr(config, section)
        if provider is not None and (chosen is None or chosen.provider != provider):
            choice = getattr(parse_config({section: {"provider": provider}}), section)
            config = dataclasses.replace(config, **{section: choice})
    return config


def _memory_id(value: int | str) -> int | None:
    """The number of a memory; None for what can't be one, which is then not found."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID else None


def _checked(value: int, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_ID:
        raise InvalidInput(f"{field} is a number from 0 on, not {value!r}", field=field)
    return value
