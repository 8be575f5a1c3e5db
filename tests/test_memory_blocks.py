"""Records that come in blocks: each ends as it does when it comes alone, and is counted as what it is."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from blocks import block_of
from memories import config

from powermem_cli.block_outcomes import sums_of
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Outcome
from powermem_cli.stores.base import Ledger, Write

pytestmark = pytest.mark.anyio


def told(outcome: Outcome) -> tuple:
    record = outcome.record
    effects = [(effect.event, effect.memory, effect.previous) for effect in outcome.effects]
    where = record.source.file, record.source.line, record.source.byte
    return outcome.status, effects, outcome.error, record, where, outcome.notes


async def kept(memory: AsyncMemory) -> list[tuple]:
    rows = (await memory.get_all(limit=10_000))["results"]
    return [(row["memory"], row["user_id"], row["metadata"], row["created_at"], row["source"]) for row in rows]


def row(pick: random.Random, keys: list[str]) -> dict:
    """A line with a time, so that two stores hold the same."""
    said = [{"role": "user", "content": f"thing {pick.randrange(30)}"} for _ in range(pick.choice((0, 1, 1, 2)))]
    made = {"messages": [*said, {"role": "assistant", "content": "So."}], "created_at": 1_700_000_000}
    made |= {"user_id": pick.choice(("ann", "bob"))}
    if keys and pick.random() < 0.4:
        made["id"] = keys.pop(pick.randrange(len(keys)))
    return made


def rows(pick: random.Random) -> list[dict]:
    keys = [f"k{number}" for number in range(12)]
    return [row(pick, keys) for _ in range(pick.randrange(1, 40))]


@pytest.mark.parametrize("thorough", [True, False])
@pytest.mark.parametrize("on_change", ["update", "skip", "add"])
@pytest.mark.parametrize("seed", range(4))
async def test_a_block_ends_as_its_records_do(tmp_path, seed, on_change, thorough):
    pick = random.Random(seed)
    files = [rows(pick) for _ in range(4)]
    files.append(files[0])
    async with (
        AsyncMemory(config(tmp_path / "blocks.db")) as memory,
        AsyncMemory(config(tmp_path / "records.db")) as other,
    ):
        for file in files:
            block = block_of(*file, thorough=thorough)
            outcomes = await memory.add_records(block, job="job", on_change=on_change)
            one_by_one = await other.add_records(list(block), job="job", on_change=on_change)
            assert [told(one) for one in outcomes] == [told(one) for one in one_by_one]
            sums = sums_of(outcomes)
            assert Counter(sums.by_status) == Counter(one.status for one in one_by_one)
            assert sums[1:] == sums_of(one_by_one)[1:]
        assert await kept(memory) == await kept(other)


async def test_what_somebody_deleted_comes_back_only_by_force(tmp_path):
    block = block_of({"messages": "I like tea", "user_id": "ann"}, {"messages": "It rains", "user_id": "ann"})
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        await memory.add_records(block, job="job")
        await memory.delete_all("ann")
        assert [one.status for one in await memory.add_records(block, job="job")] == ["unchanged"] * 2
        assert [one.status for one in await memory.add_records(block, job="job", force=True)] == ["added"] * 2
        assert len(await kept(memory)) == 2


@pytest.mark.parametrize("thorough", [True, False])
async def test_what_failed_before_is_added(tmp_path, thorough):
    block = block_of({"memory": "a"}, {"memory": "b"}, thorough=thorough)
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        failed = Ledger(*block.identity(1), "job", 1, status="failed")
        await memory._store.apply([Write((), failed)])
        assert [one.status for one in await memory.add_records(block, job="job")] == ["added", "added"]
        assert [one.status for one in await memory.add_records(block, job="job")] == ["unchanged", "unchanged"]


async def test_the_ids_are_those_of_the_memories_and_the_times_those_of_writing(tmp_path):
    block = block_of(
        {"memory": "a"}, {"messages": [{"role": "system", "content": "x"}]}, {"memory": "b"}, {"memory": "a"}
    )
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        for some, statuses in ((block[:3], ["added", "no_facts", "added"]), (block[3:], ["unchanged"])):
            outcomes = await memory.add_records(some, job="job")
            assert [one.status for one in outcomes] == statuses
            for one in outcomes:
                for effect in one.effects:
                    found = await memory.get(effect.id)
                    assert found["memory"] == effect.memory
                    assert one.at > 0
    assert outcomes[0:1] == [outcomes[0]]
