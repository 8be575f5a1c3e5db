"""What every store must do, on every engine: history, origin, expiry, one moment's view, another store's rows."""

from __future__ import annotations

import contextlib

import apsw
import pytest
from places import add, digest, insert, noted, texts, vector

from powermem_cli import times
from powermem_cli.model import HistoryEntry, Origin, Scope
from powermem_cli.stores.base import EVERYTHING, Delete, HistoryRow, LedgerRow, Update, Where, Write
from powermem_cli.stores.sqlite_schema import APPLICATION_ID, MIGRATIONS

pytestmark = pytest.mark.anyio

CREATED = 1_700_000_000_000_000
FUTURE = 4_000_000_000_000_000
ANN = Scope("ann")


def said(id, text, at=5, **changed):
    return Update(id, at, text=text, digest=digest(text), **changed)


async def apply(store, *changes):
    return await store.apply([Write((change,)) for change in changes])


async def shown(store, id, scope=ANN):
    return [(entry.event, entry.old, entry.new) for entry in await store.history(id, scope)]


class TestOrigin:
    async def test_a_memory_keeps_where_it_came_from(self, store):
        origins = [
            Origin("job", "a.jsonl", 7, "user"),
            Origin("job", "ünï \n.csv", 2**40, None),
            Origin(role="user"),
            None,
        ]
        await add(store, *[insert(str(i), origin=origin) for i, origin in enumerate(origins)])
        assert [memory.origin for memory in await store.find(EVERYTHING, limit=9)] == origins

    async def test_another_text_brings_its_own_and_metadata_leaves_it(self, store):
        first, second = Origin("a", "a.jsonl", 1), Origin("b", "b.jsonl", 2)
        (id,) = await add(store, insert("one", origin=first))
        await apply(store, Update(id, 5, metadata={"a": 1}))
        assert (await store.find(EVERYTHING, limit=1))[0].origin == first
        await apply(store, said(id, "two", origin=second))
        assert (await store.find(EVERYTHING, limit=1))[0].origin == second
        await apply(store, said(id, "three"))
        assert (await store.find(EVERYTHING, limit=1))[0].origin is None


class TestHistory:
    async def test_it_begins_with_the_memory_and_costs_no_row(self, store):
        origin = Origin("job", "a.jsonl", 7)
        (id,) = await add(store, insert("one", "ann", origin=origin))
        assert await store.history(id, ANN) == [HistoryEntry("ADD", None, "one", CREATED, origin)]
        async with store.snapshot() as snapshot:
            assert await snapshot.history(limit=5) == []

    async def test_it_tells_every_text_in_order_and_the_end(self, store):
        before, after = Origin("a", "a.jsonl", 1), Origin("b", "b.jsonl", 2)
        (id,) = await add(store, insert("one", "ann", origin=before))
        await apply(store, said(id, "two", 6, origin=after), said(id, "three", 7))
        begun = times.now()
        await apply(store, Delete(id, ANN))
        *entries, last = await store.history(id, ANN)
        assert entries == [
            HistoryEntry("ADD", None, "one", CREATED, before),
            HistoryEntry("UPDATE", "one", "two", 6, after),
            HistoryEntry("UPDATE", "two", "three", 7, None),
        ]
        assert (last.event, last.old, last.new, last.origin) == ("DELETE", "three", None, None)
        assert begun <= last.at <= times.now()

    async def test_the_same_text_again_and_metadata_are_no_news(self, store):
        (id,) = await add(store, insert("one", "ann"))
        await apply(store, said(id, "one"), Update(id, 6, metadata={"a": 1}))
        assert await shown(store, id) == [("ADD", None, "one")]

    async def test_all_of_one_write_is_told(self, store):
        changes = (insert("one", "ann", id=5), said(5, "two"), said(5, "three", 6), Delete(5))
        await store.apply([Write(changes)])
        assert await shown(store, 5) == [
            ("ADD", None, "one"),
            ("UPDATE", "one", "two"),
            ("UPDATE", "two", "three"),
            ("DELETE", "three", None),
        ]

    async def test_a_memory_that_came_back_has_two_lives(self, store):
        await apply(store, insert("one", "ann", id=5))
        await apply(store, Delete(5))
        await apply(store, insert("again", "ann", id=5))
        assert await shown(store, 5) == [("ADD", None, "one"), ("DELETE", "one", None), ("ADD", None, "again")]

    async def test_it_is_nobody_elses_also_when_it_is_over(self, store):
        (id,) = await add(store, insert("one", "ann", scope=Scope("ann", "bot", "r")))
        await apply(store, said(id, "two"))
        for _ in range(2):
            assert await store.history(id, Scope("ann", "bot")) != []
            for other in (Scope("Ann"), Scope("ann "), Scope("ann", "bat"), Scope(None, None, "q")):
                assert await store.history(id, other) == []
            await apply(store, Delete(id))
        assert await store.history(12345, ANN) == []

    async def test_a_write_that_fails_leaves_none(self, store):
        (id,) = await add(store, insert("one", "ann", vector=vector(1)))
        with pytest.raises(Exception, match="dimensions"):
            await store.apply([Write((said(id, "two"),)), Write((insert("x", vector=vector(1, 16)),))])
        assert await shown(store, id) == [("ADD", None, "one")]

    async def test_what_is_deleted_as_a_whole_takes_its_history_with_it(self, store):
        early, late, other = await add(store, insert("one", "ann"), insert("two", "ann"), insert("three", "bob"))
        await apply(store, said(late, "newer"), Delete(early), said(other, "newer"))
        assert await store.delete(Where(ANN)) == 1
        assert await store.history(early, ANN) == await store.history(late, ANN) == []
        assert len(await store.history(other, Scope("bob"))) == 2


class TestExpiry:
    async def test_what_has_expired_is_not_found(self, store):
        shared = {"vector": vector(1), "metadata": {"kind": "work"}}
        past, _, _ = await add(
            store,
            insert("rain gone", "ann", expires_at=5, **shared),
            insert("rain soon", "ann", expires_at=FUTURE, **shared),
            insert("rain ever", "ann", **shared),
        )
        for where in (EVERYTHING, Where(ANN), Where(ANN, ids=(past,))):
            expected = [] if where.ids else ["rain soon", "rain ever"]
            assert await texts(store, where) == expected
            assert await store.count(where) == len(expected)
            assert past not in {hit.id for hit in await store.nearest(vector(1), where, limit=9)}
            assert past not in {hit.id for hit in await store.matching(["rain"], where, limit=9)}
        assert [memory.expires_at for memory in await store.find(EVERYTHING, limit=9)] == [FUTURE, None]

    async def test_the_very_moment_is_past(self, store):
        await add(store, insert("now", expires_at=times.now()))
        assert await texts(store) == []

    async def test_it_is_no_repeat_and_can_not_be_changed_but_deleted(self, store):
        (id,) = await add(store, insert("one", "ann", expires_at=5))
        (fresh,) = await apply(store, insert("one", "ann", unless_known=True))
        assert fresh.events[0][0] == "ADD"
        (update,) = await apply(store, said(id, "two"))
        assert update.events == (("NONE", 0),)
        (delete,) = await apply(store, Delete(id))
        assert delete.events == (("DELETE", id),)

    async def test_an_update_may_set_the_time_and_leaves_it_otherwise(self, store):
        (id,) = await add(store, insert("one", "ann"))
        await apply(store, Update(id, 5, expires_at=FUTURE))
        await apply(store, said(id, "two", 6))
        assert (await store.find(EVERYTHING, limit=1))[0].expires_at == FUTURE
        await apply(store, Update(id, 7, expires_at=8))
        assert await texts(store) == []

    async def test_expire_deletes_for_good_what_has_expired_and_nothing_else(self, store):
        ids = await add(store, insert("a", "ann"), insert("b", "ann", expires_at=5), insert("c", expires_at=FUTURE))
        await apply(store, Update(ids[0], 5, metadata={}))
        assert await store.expire() == 1
        assert await store.expire() == 0
        assert await texts(store) == ["a", "c"]
        assert await store.history(ids[1], ANN) == []

    async def test_deleting_a_scope_takes_what_has_expired_too(self, store):
        await add(store, insert("a", "ann", expires_at=5), insert("b", "bob", expires_at=5), insert("c", "ann"))
        assert await store.delete(Where(ANN)) == 2
        assert await store.expire() == 1


class TestSnapshot:
    async def test_it_shows_one_moment_whatever_others_do(self, store):
        first, second = await add(store, insert("one", "ann", vector=vector(1)), insert("two", "ann"))
        async with store.snapshot() as snapshot:
            assert len(await snapshot.memories(EVERYTHING, limit=1)) == 1
            await store.apply([Write((insert("three"), Delete(first), said(second, "changed")), noted("k"))])
            seen = await snapshot.memories(EVERYTHING, limit=9)
            assert [memory.text for memory in seen] == ["one", "two"]
            assert await snapshot.vectors([first, second]) == {first: vector(1)}
            assert await snapshot.history(limit=9) == []
            assert await snapshot.ledger(limit=9) == []
        assert await texts(store) == ["changed", "three"]

    async def test_pages_give_everything_once_and_in_order(self, store):
        ids = await add(store, *[insert(str(i), "ann" if i % 2 else "bob", vector=vector(i)) for i in range(9)])
        await store.apply([Write((said(id, f"new {id}"), said(id, "newer", 6)), noted(str(id))) for id in ids[:4]])
        async with store.snapshot() as snapshot:
            assert [m.id for m in await paged(snapshot.memories, 4, "id", EVERYTHING)] == ids
            assert [m.id for m in await paged(snapshot.memories, 2, "id", Where(ANN))] == ids[1::2]
            past = await paged(snapshot.history, 3, ("memory_id", "number"))
            assert [row.memory_id for row in past] == sorted([*ids[:4], *ids[:4]])
            rows = await paged(snapshot.ledger, 3, "key")
            assert sorted(row.key for row in rows) == sorted(digest(str(id)) for id in ids[:4])
            assert await snapshot.vectors(ids) == {id: vector(i) for i, id in enumerate(ids)}

    async def test_an_empty_store_has_nothing(self, store):
        async with store.snapshot() as snapshot:
            assert await snapshot.memories(EVERYTHING, limit=5) == await snapshot.ledger(limit=5) == []
            assert await snapshot.vectors([]) == await snapshot.vectors([5]) == {}


async def paged(read, limit, mark, *where):
    found, after = [], None
    while page := await read(*where, limit=limit, after=after):
        found += page
        last = page[-1]
        after = getattr(last, mark) if isinstance(mark, str) else tuple(getattr(last, name) for name in mark)
    return found


class TestRestoring:
    LEDGER = LedgerRow(digest("k"), digest("c"), "failed", (1, 2**62), 3, "jöb", 17)
    PAST = HistoryRow(2**62, 7, "DELETE", "gone \N{SNOWMAN}", Scope("ann", "bot"), Origin("j", "f", 3), 5, 6)

    async def test_rows_come_back_as_they_were_and_only_once(self, store):
        assert await store.restore([self.LEDGER], [self.PAST]) == 2
        assert await store.restore([self.LEDGER], [self.PAST]) == 0
        assert await store.known([digest("k")]) == {digest("k"): self.LEDGER}
        async with store.snapshot() as snapshot:
            assert await snapshot.history(limit=5) == [self.PAST]
        assert [(entry.event, entry.new) for entry in await store.history(2**62, ANN)] == [
            ("ADD", self.PAST.text),
            ("DELETE", None),
        ]

    async def test_what_is_held_stays_as_it_is(self, store):
        await store.apply([Write((insert("x"),), noted("k"))])
        before = await store.known([digest("k")])
        assert await store.restore([self.LEDGER], []) == 0
        assert await store.known([digest("k")]) == before

    async def test_the_time_of_the_last_change_may_be_given(self, store):
        await add(store, insert("x", id=5, updated_at=CREATED + 9))
        (memory,) = await store.find(EVERYTHING, limit=1)
        assert (memory.id, memory.created_at, memory.updated_at) == (5, CREATED, CREATED + 9)


SCHEMA = {"sqlite": 5, "postgres": 2, "oceanbase": 2}


class TestDescribing:
    async def test_it_says_what_it_is_and_holds_and_no_password(self, store, place):
        empty = await store.describe()
        assert (empty["engine"], empty["model"], empty["dims"], empty["memories"]) == (place.engine, None, None, 0)
        await add(store, insert("x", vector=vector(1)), insert("y"))
        described = await store.describe()
        assert (described["model"], described["dims"], described["memories"]) == ("test/8", 8, 2)
        assert described["version"]
        assert isinstance(described["bytes"], int)
        assert described["schema"] == SCHEMA[place.engine]


class TestMigration:
    async def test_tables_of_the_first_version_become_current_ones(self, new_place, place):
        old = new_place(place.engine)
        await (_old_file if place.engine == "sqlite" else _old_tables)(old)
        async with old.opened() as store:
            (memory,) = await store.find(EVERYTHING, limit=5)
            assert (memory.id, memory.text, memory.scope, memory.metadata) == (5, "it rains", ANN, {"a": 1})
            assert (memory.origin, memory.expires_at) == (None, None)
            assert await store.known([digest("k")]) != {}
            await apply(store, said(5, "it snows", origin=Origin("j")), Update(5, 6, expires_at=FUTURE))
            assert await shown(store, 5) == [("ADD", None, "it rains"), ("UPDATE", "it rains", "it snows")]
            assert [hit.id for hit in await store.nearest(vector(1), Where(ANN), limit=5)] == [5]
        async with old.opened() as store:
            assert (await store.describe())["schema"] == SCHEMA[place.engine]


async def _old_file(place):
    db = apsw.Connection(str(place.path))
    with contextlib.closing(db):
        db.execute(MIGRATIONS[0])
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
        db.execute("INSERT INTO meta VALUES ('store_id', 'old'), ('dims', 8), ('model', 'test/8'), ('memories', 1)")
        db.execute("INSERT INTO names VALUES (1, 'ann')")
        bits = bytes(sum((vector(1)[i * 4 + 3] < 128) << i for i in range(8)) for _ in range(1))
        memory = "INSERT INTO memories VALUES (5, 1, NULL, NULL, 'it rains', jsonb('{\"a\":1}'), ?, 2, ?, ?, ?)"
        db.execute(memory, (digest("it rains"), CREATED, CREATED, bits))
        db.execute("INSERT INTO embeddings VALUES (5, ?)", (vector(1),))
        db.execute("INSERT INTO ledger VALUES (?, ?, 'done', '[5]', 0, 'job', 1)", (digest("k"), digest("c")))


async def _old_tables(place):
    async with place.opened() as store:
        await store.apply([Write((insert("it rains", "ann", id=5, vector=vector(1), metadata={"a": 1}),), noted("k"))])
    name = place.collection
    if place.engine == "postgres":
        await place.execute(f"DROP INDEX {name}_expiry")
    await place.execute(f"DROP TABLE {name}_history")
    for column in ("origin", "expires_at"):
        await place.execute(f"ALTER TABLE {name} DROP COLUMN {column}")
    await place.execute(f"UPDATE {name}_meta SET value = '1' WHERE name = 'schema'")
