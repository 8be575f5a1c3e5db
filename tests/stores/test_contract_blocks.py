"""What every store must do, on every engine, with many records at once: what it would do with them one by one."""

from __future__ import annotations

import random

import pytest
from blocks import block_of
from places import add, insert, noted

from powermem_cli.model import Origin, Scope
from powermem_cli.stores.base import EVERYTHING, Applied, BlockWrite, Write

pytestmark = pytest.mark.anyio

AT = 1_750_000_000_000_000
TEXTS = ["ok", "thanks", *[f"Anna said thing number {i}" for i in range(40)]]


def written(*rows, at=AT):
    return BlockWrite(block_of(*rows), "job", at, "chats.jsonl")


def row(pick: random.Random) -> dict:
    """Anything that a file may hold, and often what it held before."""
    said = [{"role": "user", "content": pick.choice(TEXTS)} for _ in range(pick.choice((0, 1, 1, 1, 1, 2, 3)))]
    made = {"messages": [*said, {"role": "assistant", "content": pick.choice(TEXTS[:2])}]}
    if pick.random() < 0.3:
        made = {"memory": pick.choice(TEXTS)}
    made |= {"user_id": pick.choice(("ann", "bob", None)), "agent_id": pick.choice((None, None, "helper"))}
    made |= {"infer": pick.choice((None, None, True, False))}
    if pick.random() < 0.3:
        made |= {"created_at": pick.randrange(1_600_000_000, 1_700_000_000), "expires_at": 4_000_000_000}
    if pick.random() < 0.3:
        made |= {"metadata": {"é": [1, None, {"x": 2.5}]}, "n": pick.randrange(3)}
    return made


def failed_before() -> list[Write]:
    """Records that failed in an earlier run."""
    return written(long_row(0), long_row(2), long_row(1001)).writes()


def long_row(number: int) -> dict:
    return {"messages": f"something new, the {number}th", "user_id": f"u{number % 5}"}


async def kept(store):
    """All that can be asked of a store, with places in the order of ids instead of ids."""
    memories = await store.find(EVERYTHING, limit=10_000)
    places = {memory.id: place for place, memory in enumerate(memories, 1)}
    async with store.snapshot() as snapshot:
        vectors = await snapshot.vectors([*places])
        ledger = await snapshot.ledger(limit=10_000)
    rows = [row._replace(memory_ids=tuple(places.get(id, 0) for id in row.memory_ids)) for row in ledger]
    return (
        [memory._replace(id=places[memory.id]) for memory in memories],
        {places[id]: vector for id, vector in vectors.items()},
        sorted(rows),
    ), places


def told(applied, places):
    """What became of each record, in places."""
    known = None if applied.known is None else applied.known[:2]
    return known, [(event, places.get(id, 0)) for event, id in applied.events]


def of_each(write, applied):
    """What became of each record of a block, however it is told."""
    if applied.each:
        return list(applied.each)
    events = iter(applied.events)
    return [Applied(tuple(next(events) for _ in texts)) for texts in write.block.columns.texts]


@pytest.mark.parametrize("seed", range(6))
async def test_a_block_does_what_its_records_do_one_by_one(place, new_place, seed):
    pick = random.Random(seed)
    before = [Write((insert("ok", "ann"), insert("thanks")), noted("x")), *written(row(pick)).writes()]
    before += [write._replace(changes=(), ledger=write.ledger._replace(status="failed")) for write in failed_before()]
    blocks = [
        written(
            *[long_row(1000 * number + i) if pick.random() < share else row(pick) for i in range(pick.randrange(1, 60))]
        )
        for number, share in enumerate((0.95, 0.5, 0.95))
    ]
    between = Write((insert("ok", "bob", unless_known=True), insert("Anna said thing number 7", "ann")), noted("y"))
    calls = [[blocks[0], between, blocks[1]], [blocks[2]], [blocks[1], blocks[0]]]
    async with place.opened(None) as store, new_place("sqlite").opened(None) as other:
        for each in (store, other):
            await each.apply(before)
        told_of = []
        for call in calls:
            applied = await store.apply(call)
            told_of += [
                one
                for write, result in zip(call, applied, strict=True)
                for one in (of_each(write, result) if isinstance(write, BlockWrite) else [result])
            ]
        told_one_by_one = [
            result
            for call in calls
            for result in await other.apply(
                [one for write in call for one in (write.writes() if isinstance(write, BlockWrite) else [write])]
            )
        ]
        here, places = await kept(store)
        there, other_places = await kept(other)
    assert here == there
    assert [told(one, places) for one in told_of] == [told(one, other_places) for one in told_one_by_one]


async def test_new_records_are_told_of_at_once_and_others_one_by_one(store):
    first, second = written({"memory": "a"}, {"messages": "b"}), written({"memory": "c"}, {"memory": "a"})
    (applied,) = await store.apply([first])
    events = [event for one in of_each(first, applied) for event, _ in one.events]
    assert events == ["ADD", "ADD"]
    (applied,) = await store.apply([second])
    assert [event for event, _ in applied.each[0].events] == ["ADD"]
    assert applied.each[1].known is not None
    assert [memory.text for memory in await store.find(EVERYTHING, limit=9)] == ["a", "b", "c"]


async def test_what_is_kept_of_a_record_is_what_its_line_says(store):
    line = {"messages": "I like tea", "user_id": "ann", "agent_id": "a", "run_id": "r", "created_at": 1_700_000_000}
    await store.apply([written(line | {"mood": "glad"}, {"memory": "it rains", "infer": False}, at=7_000_000)])
    one, other = await store.find(EVERYTHING, limit=9)
    assert (one.text, one.scope, one.metadata) == ("I like tea", Scope("ann", "a", "r"), {"mood": "glad"})
    assert (one.created_at, one.updated_at) == (1_700_000_000_000_000,) * 2
    assert one.origin == Origin("job", "chats.jsonl", 1, "user")
    assert (other.text, other.created_at, other.origin) == ("it rains", 7_000_000, Origin("job", "chats.jsonl", 2))


async def test_a_block_of_another_model_is_refused_and_nothing_of_the_call_is_kept(place):
    from powermem_cli.errors import EmbedderMismatch

    async with place.opened("test/8") as store:
        await add(store, insert("x", vector=b"\0\0\x80?" * 8))
        with pytest.raises(EmbedderMismatch):
            await store.apply([Write((insert("y"),)), written({"memory": "a"})])
        assert [memory.text for memory in await store.find(EVERYTHING, limit=9)] == ["x"]
