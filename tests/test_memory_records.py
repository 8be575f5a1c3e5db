"""Records that are known again: what the ledger holds is not added twice, whatever was in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st
from memories import config, held, ids, talk

from powermem_cli.errors import ProviderRefused, ProviderRejected
from powermem_cli.identity import digest, identify
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope, WorkedOut
from powermem_cli.plan import said
from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.terms import distinct_terms
from powermem_cli.times import parse_time

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memories.db"


@pytest.fixture
async def memory(path):
    async with AsyncMemory(config(path, embedding_dims=8)) as opened:
        yield opened


async def statuses(memory: AsyncMemory, *records: Record, **options) -> list[str]:
    return [outcome.status for outcome in await memory.add_records(records, job="job", **options)]


def worked_out(record: Record) -> Record:
    """As the process that reads ahead makes it."""
    facts = said(record)
    vectors = LocalEmbedder().embed_now(facts.texts)
    follows = (tuple(map(digest, facts.texts)), tuple(map(distinct_terms, facts.texts)), tuple(vectors))
    return replace(record, worked_out=WorkedOut(*identify(record), *facts, *follows))


def fact(text: str, **fields) -> Record:
    return Record(memory=text, **fields)


class TestOnce:
    async def test_a_record_is_added_once(self, memory):
        record = talk("I like tea", "I like rain")
        (outcome,) = await memory.add_records([record], job="job")
        assert outcome.record is record
        assert [(effect.event, effect.memory) for effect in outcome.effects] == [
            ("ADD", "I like tea"),
            ("ADD", "I like rain"),
        ]
        assert [effect.id for effect in outcome.effects] == ids(await memory.get_all())
        assert await statuses(memory, record) == ["unchanged"]
        assert await held(memory) == ["I like tea", "I like rain"]

    async def test_twice_in_one_call_too(self, memory):
        assert await statuses(memory, talk("a"), talk("b"), talk("a")) == ["added", "added", "unchanged"]
        assert await held(memory) == ["a", "b"]

    async def test_in_another_job_and_after_another_opening_too(self, memory, path):
        await statuses(memory, talk("a"))
        async with AsyncMemory(config(path, embedding_dims=8)) as again:
            (outcome,) = await again.add_records([talk("a")], job="another")
        assert outcome.status == "unchanged"

    async def test_many_at_once_through_two_engines_too(self, memory, path):
        records = [talk(f"fact {i}", key=f"k{i % 10}") for i in range(10)] * 4
        async with AsyncMemory(config(path, embedding_dims=8)) as other:
            calls = [one.add_records(records[i : i + 5], job="j") for i in range(0, 40, 5) for one in (memory, other)]
            outcomes = [outcome for some in await asyncio.gather(*calls) for outcome in some]
        assert sorted(outcome.status for outcome in outcomes) == ["added"] * 10 + ["unchanged"] * 70
        assert sorted(await held(memory)) == [f"fact {i}" for i in range(10)]

    @pytest.mark.parametrize("on_change", ["update", "skip", "add"])
    async def test_what_was_worked_out_elsewhere_is_known_as_well(self, path, tmp_path, on_change):
        seen = []
        for place, prepared in ((path, worked_out), (tmp_path / "plain.db", lambda record: record)):
            async with AsyncMemory(config(place)) as memory:
                first, changed = talk("a", key="1"), talk("b", key="1")
                runs = [[first, talk("c")], [first, changed], [changed, talk("c"), talk("d")], [first]]
                some = [await statuses(memory, *map(prepared, run), on_change=on_change) for run in runs]
                seen.append((some, await held(memory)))
        assert seen[0] == seen[1]
        assert "unchanged" in seen[0][0][1]

    async def test_what_was_said_before_is_no_second_memory(self, memory):
        await memory.add("I like tea", user_id="anna")
        assert await statuses(memory, talk("I like tea"), talk("I like tea", "x")) == ["duplicate", "added"]
        assert await held(memory) == ["I like tea", "x"]

    async def test_intended_repeats_are_kept_without_inference(self, memory):
        records = [fact("tick", infer=False, key=str(i)) for i in range(3)]
        assert await statuses(memory, *records) == ["added"] * 3
        assert await statuses(memory, *records) == ["unchanged"] * 3
        assert await held(memory) == ["tick"] * 3

    async def test_nothing_to_keep_is_known_again_too(self, memory):
        record = Record(messages=talk("x").messages[1:])
        assert await statuses(memory, record, record) == ["no_facts", "unchanged"]
        assert await statuses(memory, record) == ["unchanged"]

    async def test_what_a_user_deleted_does_not_come_back(self, memory):
        await statuses(memory, talk("I like tea"))
        await memory.delete_all(user_id="anna")
        assert await statuses(memory, talk("I like tea")) == ["unchanged"]
        assert await held(memory) == []

    async def test_a_memory_keeps_its_time_scope_and_metadata(self, memory):
        when = parse_time("2024-05-06T07:08:09Z")
        record = talk("I like tea", scope=Scope("anna", "helper", "r1"), created_at=when, metadata={"a": [1]})
        (outcome,) = await memory.add_records([record], job="job")
        kept = await memory.get(outcome.effects[0].id, user_id="anna", agent_id="helper")
        assert (kept["created_at"], kept["run_id"], kept["metadata"]) == ("2024-05-06T07:08:09Z", "r1", {"a": [1]})


class TestChange:
    """The same key, and other content."""

    OLD = talk("I live in Rome", key="c-1")
    NEW = talk("I live in Paris", key="c-1", metadata={"n": 2})

    async def test_the_memory_is_updated_in_place(self, memory):
        (added,) = await memory.add_records([self.OLD], job="job")
        (updated,) = await memory.add_records([self.NEW], job="job")
        assert updated.status == "updated"
        assert [(e.event, e.id, e.memory) for e in updated.effects] == [
            ("UPDATE", added.effects[0].id, "I live in Paris")
        ]
        assert await held(memory) == ["I live in Paris"]
        assert (await memory.get(added.effects[0].id))["metadata"] == {"n": 2}
        assert await statuses(memory, self.NEW) == ["unchanged"]

    async def test_or_left_as_it_was(self, memory):
        assert await statuses(memory, self.OLD, self.NEW, on_change="skip") == ["added", "unchanged"]
        assert await held(memory) == ["I live in Rome"]

    async def test_or_added_beside_it_once(self, memory):
        assert await statuses(memory, self.OLD, self.NEW, on_change="add") == ["added", "added"]
        assert await statuses(memory, self.OLD, self.NEW, on_change="add") == ["unchanged", "unchanged"]
        assert await held(memory) == ["I live in Rome", "I live in Paris"]

    async def test_the_key_of_another_scope_is_another(self, memory):
        others = replace(self.NEW, scope=Scope("ben"))
        assert await statuses(memory, self.OLD, others) == ["added", "added"]
        assert await held(memory) == ["I live in Rome", "I live in Paris"]

    async def test_a_longer_conversation_brings_what_is_new_in_it(self, memory):
        (old,) = await memory.add_records([talk("a", "b", key="c")], job="job")
        (new,) = await memory.add_records([talk("a", "b", "c", key="c")], job="job")
        assert await held(memory) == ["a", "b", "c"]
        assert [effect.id for effect in new.effects if effect.event == "ADD"] != [effect.id for effect in old.effects]

    async def test_a_shorter_one_takes_away_what_is_no_longer_said(self, memory):
        await memory.add_records([talk("a", "b", "c", key="c")], job="job")
        (outcome,) = await memory.add_records([talk("a", key="c")], job="job")
        assert outcome.status == "updated"
        assert await held(memory) == ["a"]

    async def test_what_was_known_from_elsewhere_stays_one_memory(self, memory):
        await memory.add("ok", user_id="anna")
        await statuses(memory, talk("ok", "I like tea", key="c"))
        assert await statuses(memory, talk("ok", "I like tea", "I like rain", key="c")) == ["updated"]
        assert await held(memory) == ["ok", "I like tea", "I like rain"]

    async def test_one_that_was_deleted_meanwhile_stays_deleted(self, memory):
        await statuses(memory, talk("a", "b", key="c"))
        await memory.delete(ids(await memory.get_all())[0])
        await statuses(memory, talk("a", "b", "c", key="c"))
        assert await held(memory) == ["b", "c"]

    async def test_a_change_to_what_is_known_from_elsewhere_leaves_that_alone(self, memory):
        await statuses(memory, talk("a", key="c"), talk("ok"))
        (outcome,) = await memory.add_records([talk("ok", key="c")], job="job")
        assert (outcome.status, [effect.event for effect in outcome.effects]) == ("updated", ["DELETE"])
        assert await held(memory) == ["ok"]
        assert await statuses(memory, talk("ok", "b", key="c")) == ["updated"]
        assert await held(memory) == ["ok", "b"]

    async def test_what_moves_up_in_a_conversation_keeps_its_memory(self, memory):
        (old,) = await memory.add_records([talk("a", "b", key="c")], job="job")
        (new,) = await memory.add_records([talk("b", "c", key="c")], job="job")
        assert await held(memory) == ["b", "c"]
        assert [effect.id for effect in new.effects if effect.memory == "b"] == [old.effects[1].id]

    async def test_beside_one_that_was_deleted_what_is_new_is_added(self, memory):
        await statuses(memory, talk("a", "b", "c", key="c"))
        await memory.delete(ids(await memory.get_all())[0])
        await statuses(memory, talk("b", "c", "d", key="c"))
        assert await held(memory) == ["b", "c", "d"]

    async def test_two_versions_at_once_leave_one_of_them(self, memory, path):
        async with AsyncMemory(config(path, embedding_dims=8)) as other:
            calls = [one.add_records([record], job="j") for one in (memory, other) for record in (self.OLD, self.NEW)]
            await asyncio.gather(*calls)
        assert await memory.count() == 1


SAID = st.lists(st.sampled_from("abcd"), max_size=4, unique=True)


@settings(max_examples=30, deadline=None)
@given(before=SAID, versions=st.lists(SAID.filter(bool), min_size=1, max_size=4))
def test_whatever_a_conversation_becomes_what_it_says_is_there_once(tmp_path_factory, before, versions):
    async def main() -> list[str]:
        path = tmp_path_factory.mktemp("said") / "memories.db"
        async with AsyncMemory(config(path, embedding_dims=8)) as memory:
            for text in before:
                await memory.add(text, user_id="anna")
            for version in versions:
                await memory.add_records([talk(*version, key="c")], job="job")
            return await held(memory)

    assert sorted(asyncio.run(main())) == sorted({*before, *versions[-1]})


class TestForce:
    async def test_what_is_there_is_renewed_in_place_and_what_is_gone_comes_back(self, memory):
        record = talk("a", "b", "c", metadata={"n": 1})
        (first,) = await memory.add_records([record], job="job")
        old = [effect.id for effect in first.effects]
        await memory.update(old[0], "changed")
        await memory.delete(old[1])
        (again,) = await memory.add_records([record], job="job", force=True)
        assert again.status == "updated"
        assert [(e.event, e.memory) for e in again.effects] == [("UPDATE", "a"), ("ADD", "b"), ("UPDATE", "c")]
        assert [again.effects[0].id, again.effects[2].id] == [old[0], old[2]]
        assert sorted(await held(memory)) == ["a", "b", "c"]
        await memory.delete_all()
        assert await statuses(memory, record) == ["unchanged"]
        assert await statuses(memory, record, force=True) == ["added"]
        assert await held(memory) == ["a", "b", "c"]

    async def test_two_at_once_double_nothing(self, memory, path):
        record = talk("a", "b")
        await statuses(memory, record)
        async with AsyncMemory(config(path, embedding_dims=8)) as other:
            calls = [one.add_records([record], job="j", force=True) for one in (memory, other) for _ in range(3)]
            await asyncio.gather(*calls)
        assert await held(memory) == ["a", "b"]

    async def test_skip_still_leaves_a_change_out(self, memory):
        await statuses(memory, talk("old", key="c"))
        assert await statuses(memory, talk("new", key="c"), force=True, on_change="skip") == ["unchanged"]
        assert await statuses(memory, talk("new", key="c"), force=True) == ["updated"]


class TestFailure:
    POISON = talk("poison", key="c-2")

    async def test_a_text_that_is_not_taken_fails_its_own_record_alone(self, memory):
        outcomes = await memory.add_records([talk("a"), self.POISON, talk("b")], job="job")
        assert [outcome.status for outcome in outcomes] == ["added", "failed", "added"]
        assert isinstance(outcomes[1].error, ProviderRejected)
        assert outcomes[1].effects == ()
        assert [outcome.error for outcome in outcomes[::2]] == [None, None]
        assert await held(memory) == ["a", "b"]

    async def test_what_failed_is_tried_again(self, memory):
        assert await statuses(memory, self.POISON) == ["failed"]
        assert await statuses(memory, self.POISON) == ["failed"]
        assert await statuses(memory, talk("antidote", key="c-2")) == ["added"]
        assert await held(memory) == ["antidote"]

    async def test_a_change_that_failed_leaves_the_old_memory_and_a_later_one_replaces_it(self, memory):
        assert await statuses(memory, talk("one", key="c-2")) == ["added"]
        assert await statuses(memory, self.POISON) == ["failed"]
        assert await held(memory) == ["one"]
        assert await statuses(memory, talk("three", key="c-2")) == ["updated"]
        assert await held(memory) == ["three"]

    async def test_half_a_conversation_is_never_kept(self, memory):
        assert await statuses(memory, talk("a", "poison", "b", key="c")) == ["failed"]
        assert await held(memory) == []

    async def test_what_ends_a_whole_run_is_raised(self, path):
        async with AsyncMemory(config(path, refuses=True)) as memory:
            with pytest.raises(ProviderRefused):
                await memory.add_records([talk("a"), talk("b")], job="job")
            assert await held(memory) == []


VERSIONS = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True), min_size=1, max_size=4)


@settings(max_examples=25)
@given(VERSIONS)
def test_after_any_history_of_a_conversation_its_last_version_is_what_is_held(tmp_path_factory, versions):
    async def main() -> None:
        async with AsyncMemory(config(tmp_path_factory.mktemp("history") / "m.db", embedding_dims=8)) as memory:
            for version in versions:
                await memory.add_records([talk(*version, key="c")], job="job")
                assert sorted(await held(memory)) == sorted(version)

    asyncio.run(main())
