"""What every store must do, on every engine: opening, writing, the ledger, and whose a memory is."""

from __future__ import annotations

import unicodedata

import anyio
import pytest
from memories import HOSTILE_IDS
from places import DIMS, MODEL, add, digest, insert, noted, texts, vector

from powermem_cli.errors import EmbedderMismatch, StoreError
from powermem_cli.filters import parse_filter
from powermem_cli.model import Scope, StoredMemory
from powermem_cli.stores.base import EVERYTHING, Applied, Delete, LedgerRow, Update, Where, Write

pytestmark = pytest.mark.anyio

WORK = parse_filter({"kind": "work"})


async def gather(*calls):
    """The results of all calls, made at the same time."""
    results = [None] * len(calls)

    async def one(number, call):
        results[number] = await call

    async with anyio.create_task_group() as tasks:
        for number, call in enumerate(calls):
            tasks.start_soon(one, number, call)
    return results


class TestOpening:
    async def test_what_was_stored_is_there_when_it_is_opened_again(self, place):
        async with place.opened() as store:
            name = await store.identity()
            (id,) = await add(store, insert("it rains", "ann", vector=vector(1), metadata={"kind": "work"}))
        async with place.opened() as store:
            scope = Scope("ann")
            created = 1_700_000_000_000_000
            expected = StoredMemory(id, "it rains", scope, {"kind": "work"}, created, created)
            assert await store.find(EVERYTHING, limit=10) == [expected]
            assert await store.identity() == name

    async def test_two_stores_have_two_names(self, place, new_place):
        async with place.opened() as one, new_place(place.engine).opened() as other:
            assert await one.identity() != await other.identity()

    async def test_many_that_open_it_at_once_find_one_store(self, place):
        stores = [place.store() for _ in range(4)]
        await gather(*[store.open(MODEL) for store in stores])
        assert len({await store.identity() for store in stores}) == 1
        for store in stores:
            await store.close()

    async def test_a_store_that_is_not_open_says_so(self, place):
        store = place.store()
        with pytest.raises(StoreError) as caught:
            await store.count(EVERYTHING)
        assert caught.value.code == "store.closed"

    async def test_closing_may_be_repeated_and_ends_it(self, place):
        store = place.store()
        await store.open(MODEL)
        await store.close()
        await store.close()
        with pytest.raises(StoreError) as caught:
            await store.apply([Write((insert("x"),))])
        assert caught.value.code == "store.closed"

    async def test_another_model_is_refused_as_soon_as_there_are_vectors(self, place):
        async with place.opened("test/8"):
            pass
        async with place.opened("other/8") as store:
            await add(store, insert("x", vector=vector(1)))
        with pytest.raises(EmbedderMismatch, match=r"other/8.*test/8"):
            await place.store().open("test/8")
        async with place.opened(None) as store:
            assert await texts(store) == ["x"]


class TestVectors:
    async def test_other_dimensions_are_refused_naming_both_and_nothing_is_kept(self, store):
        await add(store, insert("first", vector=vector(1)))
        batch = [Write((insert("second", vector=vector(2)),), noted("second"))]
        batch.append(Write((insert("third", vector=vector(3, DIMS * 2)),)))
        with pytest.raises(EmbedderMismatch, match=r"8 dimensions.*16 dimensions"):
            await store.apply(batch)
        assert await texts(store) == ["first"]
        assert await store.known([digest("second")]) == {}

    async def test_a_query_of_other_dimensions_is_refused_naming_both(self, store):
        await add(store, insert("first", vector=vector(1)))
        with pytest.raises(EmbedderMismatch, match=r"8 dimensions.*16 dimensions"):
            await store.nearest(vector(2, DIMS * 2), EVERYTHING, limit=1)

    async def test_a_first_vector_that_is_not_kept_settles_nothing(self, store):
        with pytest.raises(EmbedderMismatch):
            await add_at_once(store, insert("x", vector=vector(1, 8)), insert("y", vector=vector(1, 16)))
        await add(store, insert("z", vector=vector(1, 16)))
        assert len(await store.nearest(vector(1, 16), EVERYTHING, limit=5)) == 1

    async def test_an_update_brings_a_vector_of_the_same_kind(self, store):
        (id,) = await add(store, insert("first", vector=vector(1)))
        with pytest.raises(EmbedderMismatch):
            await store.apply([Write((Update(id, 2, vector=vector(1, 16)),))])


async def add_at_once(store, *inserts):
    return await store.apply([Write((one,)) for one in inserts])


class TestWriting:
    async def test_an_insert_says_the_id_under_which_it_is_found(self, store):
        ids = await add(store, insert("one"), insert("two"), insert("three"))
        assert [memory.id for memory in await store.find(EVERYTHING, limit=10)] == ids == sorted(set(ids))
        assert all(0 < id < 2**63 for id in ids)

    async def test_ids_grow_from_call_to_call(self, store):
        ids = [id for _ in range(5) for id in await add(store, insert("x"))]
        assert ids == sorted(set(ids))

    async def test_a_given_id_is_kept_and_a_second_of_it_is_nothing(self, store):
        moved = insert("moved", id=4711)
        assert await store.apply([Write((moved,))]) == [Applied((("ADD", 4711),))]
        assert await store.apply([Write((moved,))]) == [Applied((("NONE", 4711),))]
        twice = insert("x", id=9)
        assert await store.apply([Write((twice, twice))]) == [Applied((("ADD", 9), ("NONE", 9)))]
        assert await texts(store) == ["x", "moved"]

    async def test_an_update_merges_metadata_key_by_key_and_leaves_the_rest(self, store):
        before = insert("it rains", "ann", vector=vector(1), metadata={"a": 1, "b": {"c": 2, "d": 3}})
        (id,) = await add(store, before)
        applied = await store.apply([Write((Update(id, 5, metadata={"b": {"c": 4}, "e": None}),))])
        assert applied == [Applied((("UPDATE", id),))]
        (memory,) = await store.find(EVERYTHING, limit=10)
        expected = {"a": 1, "b": {"c": 4}, "e": None}
        assert memory == StoredMemory(id, "it rains", Scope("ann"), expected, before.created_at, 5)
        assert [hit.id for hit in await store.nearest(vector(1), EVERYTHING, limit=10)] == [id]
        assert [hit.id for hit in await store.matching(["rain"], EVERYTHING, limit=10)] == [id]

    async def test_an_update_of_the_text_is_found_by_its_new_words_and_vector_alone(self, store):
        (id,) = await add(store, insert("apples", vector=vector(1), metadata={"a": 1}))
        change = Update(id, 5, text="oranges", vector=vector(2), digest=digest("oranges"))
        await store.apply([Write((change,))])
        (memory,) = await store.find(EVERYTHING, limit=10)
        assert (memory.text, memory.metadata) == ("oranges", {"a": 1})
        assert await store.matching(["appl"], EVERYTHING, limit=10) == []
        assert [hit.id for hit in await store.matching(["orang"], EVERYTHING, limit=10)] == [id]
        (hit,) = await store.nearest(vector(2), EVERYTHING, limit=10)
        assert hit.score == pytest.approx(1, abs=1e-5)
        again = insert("oranges", unless_known=True)
        assert await store.apply([Write((again,))]) == [Applied((("NONE", id),))]

    async def test_an_update_can_take_the_vector_away(self, store):
        (id,) = await add(store, insert("apples", vector=vector(1)))
        await store.apply([Write((Update(id, 5, text="xyzzy", vector=b"", digest=digest("xyzzy")),))])
        assert await store.nearest(vector(1), EVERYTHING, limit=10) == []

    async def test_an_update_can_bring_the_first_vector(self, store):
        (id,) = await add(store, insert("xyzzy"))
        await store.apply([Write((Update(id, 5, text="apples", vector=vector(1), digest=digest("apples")),))])
        assert [hit.id for hit in await store.nearest(vector(1), EVERYTHING, limit=10)] == [id]

    async def test_what_is_not_there_can_be_neither_changed_nor_deleted(self, store):
        changes = (Update(17, 5, text="x"), Delete(17))
        assert await store.apply([Write(changes)]) == [Applied((("NONE", 0), ("NONE", 0)))]

    async def test_a_deleted_memory_is_found_by_nothing(self, store):
        ids = await add(store, insert("apples", vector=vector(1)), insert("oranges", vector=vector(2)))
        assert await store.apply([Write((Delete(ids[0]),))]) == [Applied((("DELETE", ids[0]),))]
        assert await texts(store) == ["oranges"]
        assert [hit.id for hit in await store.nearest(vector(1), EVERYTHING, limit=10)] == ids[1:]
        assert await store.matching(["appl"], EVERYTHING, limit=10) == []

    async def test_changes_of_one_write_follow_each_other(self, store):
        (old,) = await add(store, insert("old", "ann"))
        fresh = insert("new", "ann", id=5)
        changes = (Delete(old), fresh, Update(5, 9, metadata={"a": 1}), Update(5, 10, text="newer"), Update(old, 11))
        (applied,) = await store.apply([Write(changes)])
        assert applied.events == (("DELETE", old), ("ADD", 5), ("UPDATE", 5), ("UPDATE", 5), ("NONE", 0))
        (memory,) = await store.find(EVERYTHING, limit=10)
        assert (memory.text, memory.metadata, memory.updated_at) == ("newer", {"a": 1}, 10)

    async def test_what_one_write_adds_and_deletes_is_not_there(self, store):
        (applied,) = await store.apply([Write((insert("x", id=5), Delete(5)))])
        assert applied.events == (("ADD", 5), ("DELETE", 5))
        assert await store.count(EVERYTHING) == 0

    async def test_a_call_that_fails_leaves_nothing_of_any_write(self, store):
        (id,) = await add(store, insert("first", vector=vector(1)))
        writes = [Write((insert("second"),), noted("a")), Write((Delete(id),)), Write((Update(id, 3, text="gone"),))]
        writes.append(Write((insert("third", vector=vector(1, 16)),)))
        with pytest.raises(EmbedderMismatch):
            await store.apply(writes)
        assert await texts(store) == ["first"]
        assert await store.known([digest("a")]) == {}

    async def test_no_writes_are_no_trouble(self, store):
        assert await store.apply([]) == []
        assert await store.known([]) == {}


class TestRepeats:
    async def test_the_same_text_in_the_same_scope_is_kept_once(self, store):
        fact = insert("it rains", "ann", unless_known=True)
        ((_, id),) = (await store.apply([Write((fact,))]))[0].events
        assert await store.apply([Write((fact,)), Write((fact,))]) == [Applied((("NONE", id),))] * 2
        assert await texts(store) == ["it rains"]

    async def test_twice_in_one_call_is_kept_once(self, store):
        fact = insert("it rains", "ann", unless_known=True)
        first, second = await store.apply([Write((fact,)), Write((fact, fact))])
        ((event, id),) = first.events
        assert (event, second.events) == ("ADD", (("NONE", id), ("NONE", id)))

    async def test_without_the_wish_a_repeat_is_a_memory_of_its_own(self, store):
        assert len(set(await add(store, insert("it rains", "ann"), insert("it rains", "ann")))) == 2

    async def test_another_scope_is_another_memory(self, store):
        scopes = [
            Scope(),
            Scope("ann"),
            Scope("ann", "bot"),
            Scope("ann", None, "run"),
            Scope(None, "bot"),
            Scope("Ann"),
        ]
        facts = [insert("it rains", scope=scope, unless_known=True) for scope in scopes]
        applied = await store.apply([Write((fact,)) for fact in facts])
        assert [result.events[0][0] for result in applied] == ["ADD"] * len(scopes)
        again = await store.apply([Write((fact,)) for fact in facts])
        assert [result.events[0] for result in again] == [("NONE", result.events[0][1]) for result in applied]

    async def test_what_everybody_says_is_kept_once_for_each_of_them(self, store):
        said = [insert("thanks", id, unless_known=True) for id in (None, *(f"user {n}" for n in range(40)))]
        first = await add(store, *said[:21])
        assert len({*first}) == 21
        applied = await store.apply([Write((one,)) for one in (*reversed(said), *said)])
        events = [event for result in applied for event in result.events]
        assert sorted(id for event, id in events if event == "NONE" and id in first) == sorted([*first, *first])
        assert [event for event, _ in events].count("ADD") == 20
        assert await store.count(EVERYTHING) == 41

    async def test_only_memories_in_among_count(self, store):
        (id,) = await add(store, insert("it rains", "ann", metadata={"kind": "home"}))
        fact = insert("it rains", "ann", metadata={"kind": "work"}, unless_known=True, among=WORK)
        first, second = await store.apply([Write((fact,)), Write((fact,))])
        ((event, added),) = first.events
        assert (event, second.events) == ("ADD", (("NONE", added),))
        assert added != id
        anywhere = insert("it rains", "ann", unless_known=True)
        assert await store.apply([Write((anywhere,))]) == [Applied((("NONE", min(id, added)),))]

    async def test_what_the_same_call_deleted_or_changed_is_no_repeat(self, store):
        rain, snow = await add(store, insert("rain", "ann"), insert("snow", "ann"))
        changed = Update(snow, 2, text="hail", digest=digest("hail"))
        facts = [insert(text, "ann", unless_known=True) for text in ("rain", "snow", "hail")]
        (applied,) = await store.apply([Write((Delete(rain), changed, *facts))])
        assert [event for event, _ in applied.events] == ["DELETE", "UPDATE", "ADD", "ADD", "NONE"]
        assert applied.events[-1] == ("NONE", snow)

    async def test_a_change_to_what_another_says_already_leaves_that_one(self, store):
        ids = await add(store, insert("apples", "ann"), insert("oranges", "ann"), insert("pears", "ben"))

        def becomes(text: str, seen: str | None = None) -> Write:
            change = Update(ids[0], 2, Scope("ann"), text, digest=digest(text), unless_known=True)
            return Write((change,), noted("a", text, seen=seen and digest(seen)))

        writes = [becomes("pears"), becomes("pears", "pears"), becomes("oranges", "pears")]
        applied = [(await store.apply([write]))[0].events for write in writes]
        assert applied == [(("UPDATE", ids[0]),), (("UPDATE", ids[0]),), (("DELETE", ids[0]),)]
        assert [(row.id, row.text) for row in await store.find(EVERYTHING, limit=10)] == [
            (ids[1], "oranges"),
            (ids[2], "pears"),
        ]
        (row,) = (await store.known([digest("a")])).values()
        assert row.memory_ids == (0,)

    async def test_callers_at_the_same_time_keep_one(self, place):
        fact = insert("it rains", "ann", vector=vector(1), unless_known=True)
        async with place.opened() as one, place.opened() as other:
            calls = [store.apply([Write((fact,))]) for store in (one, other) for _ in range(10)]
            events = [result.events[0] for (result,) in await gather(*calls)]
            assert sorted(event for event, _ in events) == ["ADD"] + ["NONE"] * 19
            assert len({id for _, id in events}) == 1
            assert await one.count(EVERYTHING) == 1


class TestLedger:
    async def test_a_write_leaves_its_row(self, store):
        write = Write((insert("one"), insert("two")), noted("a", "text", job="import", at=77))
        (applied,) = await store.apply([write])
        ids = tuple(id for _, id in applied.events)
        row = LedgerRow(digest("a"), digest("text"), "done", ids, 0, "import", 77)
        assert await store.known([digest("a"), digest("b")]) == {digest("a"): row}

    async def test_a_key_that_is_known_is_reported_and_not_applied(self, store):
        write = Write((insert("one"),), noted("a", "text"))
        await store.apply([write])
        (again,) = await store.apply([write])
        assert again == Applied(known=(await store.known([digest("a")]))[digest("a")])
        assert await texts(store) == ["one"]

    async def test_a_key_twice_in_one_call_is_applied_once(self, store):
        write = Write((insert("one"),), noted("a"))
        first, second = await store.apply([write, write])
        assert first.events[0][0] == "ADD"
        assert second == Applied(known=(await store.known([digest("a")]))[digest("a")])
        assert await store.count(EVERYTHING) == 1

    async def test_no_changes_are_no_facts(self, store):
        await store.apply([Write((), noted("a"))])
        assert (await store.known([digest("a")]))[digest("a")].status == "no_facts"
        (again,) = await store.apply([Write((insert("x"),), noted("a"))])
        assert again.known is not None

    async def test_a_failure_counts_its_tries_and_counts_as_no_row(self, store):
        failed = Write((), noted("a", status="failed"))
        for tries in (1, 2, 3):
            (applied,) = await store.apply([failed])
            assert applied == Applied()
            row = (await store.known([digest("a")]))[digest("a")]
            assert (row.status, row.tries) == ("failed", tries)
        (applied,) = await store.apply([Write((insert("x"),), noted("a"))])
        assert applied.events[0][0] == "ADD"
        assert (await store.known([digest("a")]))[digest("a")].status == "done"
        (late,) = await store.apply([failed])
        assert late.known is not None

    async def test_a_changed_record_is_applied_by_who_saw_what_is_there(self, store):
        await store.apply([Write((insert("old", id=5),), noted("a", "old"))])
        unaware = Write((Update(5, 2, text="wrong"),), noted("a", "new"))
        mistaken = Write((Update(5, 2, text="wrong"),), noted("a", "new", seen=digest("other")))
        for write in (unaware, mistaken):
            (applied,) = await store.apply([write])
            assert (applied.events, applied.known.content) == ((), digest("old"))
        (applied,) = await store.apply([Write((Update(5, 2, text="new"),), noted("a", "new", seen=digest("old")))])
        assert applied.events == (("UPDATE", 5),)
        assert await texts(store) == ["new"]
        row = (await store.known([digest("a")]))[digest("a")]
        assert (row.content, row.memory_ids) == (digest("new"), (5,))

    async def test_the_row_names_what_was_added_and_updated(self, store):
        kept, doomed = await add(store, insert("kept"), insert("doomed"))
        changes = (insert("new"), Update(kept, 2, text="newer"), Delete(doomed), Delete(1))
        (applied,) = await store.apply([Write(changes, noted("a"))])
        row = (await store.known([digest("a")]))[digest("a")]
        assert row.memory_ids == (applied.events[0][1], kept)

    async def test_the_row_keeps_a_place_for_what_was_known_and_for_what_is_gone(self, store):
        await add(store, insert("known"))
        changes = (insert("known", unless_known=True), insert("new"), Update(12345, 2, text="gone"))
        (applied,) = await store.apply([Write(changes, noted("a"))])
        assert [event for event, _ in applied.events] == ["NONE", "ADD", "NONE"]
        row = (await store.known([digest("a")]))[digest("a")]
        assert row.memory_ids == (0, applied.events[1][1], 12345)

    async def test_callers_at_the_same_time_apply_each_key_once(self, place):
        keys = [f"k{number}" for number in range(30)]

        def writes(caller):
            order = keys if caller % 2 else keys[::-1]
            return [Write((insert(f"{key} by {caller}", "ann", vector=vector(1)),), noted(key)) for key in order]

        async with place.opened() as one, place.opened() as other:
            calls = [(one, other)[caller % 2].apply(writes(caller)) for caller in range(8)]
            results = [result for call in await gather(*calls) for result in call]
            added = [id for result in results for _, id in result.events]
            assert sorted(added) == [memory.id for memory in await one.find(EVERYTHING, limit=100)]
            assert sorted(text.split()[0] for text in await texts(other)) == sorted(keys)
            rows = await one.known([digest(key) for key in keys])
            assert sorted(id for row in rows.values() for id in row.memory_ids) == sorted(added)
            assert all(result.known is not None for result in results if not result.events)

    async def test_many_keys_are_looked_up_at_once(self, store):
        names = [f"k{number}" for number in range(1000)]
        await store.apply([Write((), noted(name)) for name in names])
        rows = await store.known([digest(name) for name in [*names, "unknown"]])
        assert rows.keys() == {digest(name) for name in names}


class TestScope:
    async def test_hostile_ids_are_told_apart_byte_for_byte(self, store):
        await store.apply([Write((insert(f"of {id!r}", id),)) for id in HOSTILE_IDS])
        await store.apply([Write((insert("of nobody"),))])
        for id in HOSTILE_IDS:
            assert [(m.text, m.scope) for m in await store.find(Where(Scope(id)), limit=9)] == [
                (f"of {id!r}", Scope(id))
            ]
        assert await store.count(EVERYTHING) == len(HOSTILE_IDS) + 1

    async def test_hostile_ids_share_no_repeats(self, store):
        facts = [insert("the same", id, unless_known=True) for id in HOSTILE_IDS]
        applied = await store.apply([Write((fact,)) for fact in facts])
        assert [result.events[0][0] for result in applied] == ["ADD"] * len(HOSTILE_IDS)

    async def test_deleting_of_one_leaves_all_others(self, store):
        await store.apply([Write((insert(id, id),)) for id in HOSTILE_IDS])
        for number, id in enumerate(HOSTILE_IDS, 1):
            assert await store.delete(Where(Scope(id))) == 1
            assert await store.count(EVERYTHING) == len(HOSTILE_IDS) - number

    @pytest.mark.parametrize("part", ["user_id", "agent_id", "run_id"])
    async def test_each_part_of_a_scope_selects(self, store, part):
        for id in HOSTILE_IDS[:12]:
            await add(store, insert(id, scope=Scope(**{part: id})))
        for id in HOSTILE_IDS[:12]:
            assert await texts(store, Where(Scope(**{part: id}))) == [id]

    async def test_a_scope_matches_in_every_part_it_names(self, store):
        scopes = [Scope(u, a, r) for u in ("u", "v", None) for a in ("a", None) for r in ("r", None)]
        await store.apply([Write((insert(repr(scope), scope=scope),)) for scope in scopes])
        for wanted in scopes:
            parts = [(name, getattr(wanted, name)) for name in ("user_id", "agent_id", "run_id")]
            expected = [s for s in scopes if all(v is None or getattr(s, name) == v for name, v in parts)]
            assert await texts(store, Where(wanted)) == [repr(scope) for scope in expected]

    async def test_nobody_changes_what_is_anothers(self, store):
        (id,) = await add(store, insert("mine", scope=Scope("ann", "bot")))
        for scope in (Scope("bob"), Scope("Ann"), Scope("ann", "tob"), Scope("ann", "bot", "run"), Scope("ann ")):
            changes = (Update(id, 5, scope, text="theirs"), Delete(id, scope))
            assert await store.apply([Write(changes)]) == [Applied((("NONE", 0), ("NONE", 0)))]
        assert await texts(store) == ["mine"]
        allowed = (Update(id, 5, Scope("ann"), text="ours"), Delete(id, Scope(None, "bot")))
        assert await store.apply([Write(allowed)]) == [Applied((("UPDATE", id), ("DELETE", id)))]

    async def test_normal_forms_are_two_ids(self, store):
        composed, decomposed = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
        await add(store, insert("NFC", composed), insert("NFD", decomposed))
        assert await texts(store, Where(Scope(composed))) == ["NFC"]
        assert await texts(store, Where(Scope(decomposed))) == ["NFD"]
