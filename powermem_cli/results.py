"""What calls give back: dicts, with a type for each, and how the rows of a store become them."""

from __future__ import annotations

from typing import Any, TypedDict, cast

from powermem_cli import times
from powermem_cli.model import Effect, Event, HistoryEntry, Origin, Outcome, StoredMemory

# A key that may be missing is inherited from a class with total=False: NotRequired is not in typing before 3.11.


class SourceDict(TypedDict, total=False):
    """What is known of where a text came from; `line` counts from 1, `role` is who said it."""

    job: str
    file: str
    line: int
    role: str


class _Optional(TypedDict, total=False):
    expires_at: str
    source: SourceDict


class MemoryDict(_Optional):
    """A memory: times are RFC 3339 in UTC. `expires_at` and `source` are there where it has such a thing."""

    id: int
    memory: str
    user_id: str | None
    agent_id: str | None
    run_id: str | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


class _Previous(TypedDict, total=False):
    previous_memory: str


class AddedMemory(MemoryDict, _Previous):
    """What `add` did to a memory ("ADD", "UPDATE", "DELETE"); `previous_memory` is what one said that it changed."""

    event: Event


class AddResult(TypedDict):
    """Of `add`; empty if all was known."""

    results: list[AddedMemory]


class _Judged(TypedDict, total=False):
    reranker: float


class Explanation(_Judged):
    """How a score came about; `cosine` and `bm25` are None where that side did not find it."""

    cosine: float | None
    vector: float
    bm25: float | None
    keywords: float
    boosts: dict[str, float]
    value: float


class _Explained(TypedDict, total=False):
    explanation: Explanation


class FoundMemory(MemoryDict, _Explained):
    """A hit; `explanation` is there if it was asked for."""

    score: float


class SearchResult(TypedDict):
    """Of `search`, best first."""

    results: list[FoundMemory]


class GetAllResult(TypedDict):
    """Of `get_all`, in the order they were added."""

    results: list[MemoryDict]


class _Source(TypedDict, total=False):
    source: SourceDict


class HistoryEvent(_Source):
    """What happened to a memory's text, and when; `old_memory` is None for an ADD, `memory` for a DELETE."""

    id: int
    event: Event
    old_memory: str | None
    memory: str | None
    at: str


class HistoryResult(TypedDict):
    """Of `history`, oldest first."""

    results: list[HistoryEvent]


class DeleteAllResult(TypedDict):
    """Of `delete_all`: how many there were."""

    deleted: int


def as_memory(row: StoredMemory) -> MemoryDict:
    memory: MemoryDict = {
        "id": row.id,
        "memory": row.text,
        "user_id": row.scope.user_id,
        "agent_id": row.scope.agent_id,
        "run_id": row.scope.run_id,
        "metadata": dict(row.metadata),
        "created_at": times.format_time(row.created_at),
        "updated_at": times.format_time(row.updated_at),
    }
    if row.expires_at is not None:
        memory["expires_at"] = times.format_time(row.expires_at)
    if row.origin is not None:
        memory["source"] = _source(row.origin)
    return memory


def as_found(row: StoredMemory, score: float) -> FoundMemory:
    found = cast("FoundMemory", as_memory(row))
    found["score"] = score
    return found


def as_added(effect: Effect, outcome: Outcome) -> AddedMemory:
    record = outcome.record
    row = StoredMemory(effect.id, effect.memory, record.scope, record.metadata, outcome.at, outcome.at)
    added = cast("AddedMemory", as_memory(row))
    added["event"] = effect.event
    if effect.previous is not None:
        added["previous_memory"] = effect.previous
    return added


def as_event(id: int, entry: HistoryEntry) -> HistoryEvent:
    event: HistoryEvent = {
        "id": id,
        "event": entry.event,
        "old_memory": entry.old,
        "memory": entry.new,
        "at": times.format_time(entry.at),
    }
    if entry.origin is not None:
        event["source"] = _source(entry.origin)
    return event


def _source(origin: Origin) -> SourceDict:
    return cast("SourceDict", origin.known())
