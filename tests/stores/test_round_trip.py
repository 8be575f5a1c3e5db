"""Memories that go round through all engines come back as they were: ids, times, vectors, ledger and history."""

from __future__ import annotations

import itertools

import pytest
from places import MODEL, insert, noted, vector

from powermem_cli.stores.base import EVERYTHING, Insert, Update, Write

pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(1800)]

MEMORIES = 20_000
PAGE = 1000


async def test_twenty_thousand_go_round(new_place):
    places = [new_place(engine) for engine in ("sqlite", "oceanbase", "postgres", "sqlite")]
    async with places[0].opened() as store:
        for start in range(0, MEMORIES, PAGE):
            numbers = range(start, start + PAGE)
            await store.apply([Write((memory(n),), noted(f"{n}")) for n in numbers])
        await store.apply([Write((Update(n + 1, 7, text=f"now {n} \N{SNOWMAN}"),)) for n in range(0, MEMORIES, 100)])
    for source, target in itertools.pairwise(places):
        await move(source, target)
    assert await everything(places[-1]) == await everything(places[0])


def memory(number: int) -> Insert:
    text = f"memory {number} \N{MUSICAL KEYBOARD} 100% \\ '"
    metadata = {"n": number, "x": 1 / (number + 1)}
    created = {"created_at": 1_700_000_000_000_000 + number, "updated_at": 1_700_000_000_000_001 + 2 * number}
    return insert(text, f"u{number % 9}", id=number + 1, vector=vector(number), metadata=metadata, **created)


async def everything(place):
    """Memories with their vectors, ledger and history, as the store gives them page by page."""
    async with place.opened(MODEL) as store, store.snapshot() as snapshot:
        memories, after = [], None
        while page := await snapshot.memories(EVERYTHING, limit=PAGE, after=after):
            vectors = await snapshot.vectors([one.id for one in page])
            memories += [(one, vectors[one.id]) for one in page]
            after = page[-1].id
        ledger, key = [], None
        while rows := await snapshot.ledger(limit=PAGE, after=key):
            ledger += rows
            key = rows[-1].key
        history = await snapshot.history(limit=MEMORIES)
        return memories, sorted(ledger), history


async def move(source, target):
    memories, ledger, history = await everything(source)
    async with target.opened(MODEL) as store:
        for start in range(0, len(memories), PAGE):
            await store.apply([Write((moved(*one),)) for one in memories[start : start + PAGE]])
            await store.restore(ledger[start : start + PAGE], [])
        await store.restore([], history)


def moved(memory, vector) -> Insert:
    values = {"metadata": memory.metadata, "created_at": memory.created_at, "updated_at": memory.updated_at}
    return insert(memory.text, scope=memory.scope, id=memory.id, vector=vector, **values)
