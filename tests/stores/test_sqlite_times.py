"""Memories of a time are found by the times in the packs: the same as by looking at each of them."""

import random

import apsw
import numpy as np
import pytest

from powermem_cli.filters import All, AnyOf, Not, Test as Comparison
from powermem_cli.identity import digest
from powermem_cli.model import Scope
from powermem_cli.stores import sqlite_inserts, sqlite_keywords, sqlite_signatures
from powermem_cli.stores.base import EVERYTHING, Delete, Insert, Update, Where, Write
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.stores.sqlite_packs import checksum_of
from powermem_cli.stores.sqlite_where import EVER, spans_of

pytestmark = pytest.mark.anyio
DIMS = 64
SECOND = 1_000_000
LAST = 1000 * SECOND


@pytest.fixture
async def store(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_inserts, "PACKED_AT", 8)
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    yield store
    assert await store.verify() == []
    await store.close()


def vector(dice):
    values = np.array([dice.gauss(0, 1) for _ in range(DIMS)])
    return (values / np.linalg.norm(values)).astype("<f4").tobytes()


def memory(dice, **more):
    text = " ".join(dice.choices(["tea", "rain", "train", "Lisbon", "song", "snow"], k=4))
    user = Scope(dice.choice(["ann", "bob", None]))
    return Insert(user, text, vector(dice), digest(text), dice.randrange(LAST), **more)


def created(op, moment):
    return Comparison("created_at", (), op, moment)


def between(start, end):
    return All((created("gte", start), created("lt", end)))


async def apply(store, *changes):
    (applied,) = await store.apply([Write(changes)])
    return [id for _, id in applied.events]


async def same_both_ways(store, dice, scope, condition):
    """What is found by times, and by a condition that is not seen to be one."""
    query = vector(dice)
    by_times, one_by_one = Where(scope, condition), Where(scope, Not(Not(condition)))
    assert spans_of(by_times) is not None
    assert spans_of(one_by_one) is None
    near = await store.nearest(query, by_times, limit=5)
    assert near == await store.nearest(query, one_by_one, limit=5)
    for terms in (["tea"], ["rain", "lisbon", "nowhere"], ["nowhere"]):
        expected = await store.matching(terms, one_by_one, limit=500)
        found = await store.matching(terms, by_times, limit=500)
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])


@pytest.mark.parametrize("seed", range(2))
async def test_of_a_time_the_same_is_found_as_one_by_one(store, seed):
    dice = random.Random(seed)
    ids = await apply(store, memory(dice), memory(dice))
    for _ in range(6):
        ids += await apply(store, *(memory(dice) for _ in range(dice.choice([1, 3, 20]))))
        if dice.random() < 0.5:
            await apply(store, Delete(ids.pop(dice.randrange(len(ids)))))
        if dice.random() < 0.5:
            await apply(store, Update(dice.choice(ids), LAST, vector=vector(dice)))
        start, end = sorted((dice.randrange(LAST), dice.randrange(LAST)))
        two = AnyOf((between(start, end), between(LAST // 2, LAST // 2 + 90 * SECOND)))
        for scope in (Scope(), Scope("ann"), Scope("nobody")):
            for condition in (between(start, end), two, created("gt", LAST), created("lte", end)):
                await same_both_ways(store, dice, scope, condition)


async def test_memories_without_a_vector_are_found_by_their_words(store):
    dice = random.Random(1)
    ids = await apply(store, *(memory(dice) for _ in range(20)))
    bare = Insert(Scope(), "tea alone", b"", digest("tea alone"), LAST + 5 * SECOND)
    (id,) = await apply(store, bare)
    later = Where(filter=created("gt", LAST))
    assert [hit.id for hit in await store.matching(["tea"], later, limit=5)] == [id]
    assert await store.optimize() is False
    await store._write(sqlite_signatures.pack_anew)
    assert [hit.id for hit in await store.matching(["tea"], later, limit=5)] == [id]
    await apply(store, Delete(id), Update(ids[0], LAST, vector=b""))
    assert await store.matching(["tea"], later, limit=5) == []
    await same_both_ways(store, dice, Scope(), created("lte", LAST))


async def test_a_memory_that_comes_back_with_another_time_is_of_that_time(store):
    dice = random.Random(2)
    ids = await apply(store, *(memory(dice) for _ in range(20)))
    await apply(store, Delete(ids[3]))
    await apply(store, Insert(Scope(), "tea", vector(dice), digest("tea"), LAST + SECOND, id=ids[3]))
    later = Where(filter=created("gt", LAST))
    assert [hit.id for hit in await store.matching(["tea"], later, limit=5)] == [ids[3]]
    assert [hit.id for hit in await store.nearest(vector(dice), later, limit=5)] == [ids[3]]
    await apply(store, *(memory(dice) for _ in range(20)))
    assert [hit.id for hit in await store.matching(["tea"], later, limit=5)] == [ids[3]]


async def test_of_a_time_with_very_many_the_best_are_ranked_and_none_is_of_another(store, monkeypatch):
    dice = random.Random(3)
    await apply(store, *(memory(dice) for _ in range(300)))
    monkeypatch.setattr(sqlite_keywords, "MOST_RANKED", 10)
    monkeypatch.setattr(sqlite_keywords, "MOST_POSTINGS", 200)
    early = Where(filter=created("lt", LAST // 4))
    there = {row.id for row in await store.find(early, limit=300)}
    found = await store.matching(["tea", "snow", "rain"], early, limit=5)
    assert len(found) == 5
    assert {hit.id for hit in found} <= there
    every = await store.matching(["tea", "snow", "rain"], early, limit=300)
    assert {hit.id for hit in every} == {
        row.id for row in await store.find(early, limit=300) if {"tea", "snow", "rain"} & {*row.text.split()}
    }


async def test_packs_of_the_third_version_are_given_their_times(tmp_path):
    dice = random.Random(4)
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    await apply(store, *(memory(dice) for _ in range(300)))
    bare = Insert(Scope(), "tea alone", b"", digest("tea alone"), LAST + 5 * SECOND)
    (id,) = await apply(store, bare)
    await store.close()
    db = apsw.Connection(str(store.path))
    db.execute(
        "ALTER TABLE signatures DROP COLUMN times; DELETE FROM meta WHERE name = 'bare'; PRAGMA user_version = 3"
    )
    db.close()
    await store.open("test")
    assert await store.verify() == []
    assert [hit.id for hit in await store.matching(["tea"], Where(filter=created("gt", LAST)), limit=5)] == [id]
    await same_both_ways(store, dice, Scope(), between(LAST // 3, LAST // 2))
    await store.close()


def packed_as_in_the_third_version(db):
    for pack in db.execute("DELETE FROM signatures RETURNING ids, users, vectors, signs").fetchall():
        sql = "INSERT INTO signatures (checksum, ids, users, vectors, signs) VALUES (?, ?, ?, ?, ?)"
        db.execute(sql, (checksum_of(pack), *pack))


async def test_packs_that_an_older_program_added_meanwhile_are_as_good_and_mended(store):
    """It had the store open when that was brought up to the fourth version, and goes on in the third."""
    dice = random.Random(6)
    ids = await apply(store, *(memory(dice) for _ in range(40)))
    assert not await store.optimize()
    await store._write(packed_as_in_the_third_version)
    await store.close()
    await store.open("test")
    await same_both_ways(store, dice, Scope(), between(LAST // 3, LAST // 2))
    assert await store.verify() == []
    assert await store.optimize()
    assert not await store.optimize()
    await same_both_ways(store, dice, Scope(), between(LAST // 3, LAST // 2))
    assert {row.id for row in await store.find(EVERYTHING, limit=100)} == {*ids}


async def test_times_that_are_not_those_of_the_memories_are_told(store):
    await apply(store, *(memory(random.Random(5)) for _ in range(20)))
    spoilt = "UPDATE memories SET created_at = created_at + 5000000 WHERE id = (SELECT max(id) FROM memories)"
    await store._writing.run(lambda db: db.execute(spoilt).fetchall())
    (said,) = await store.verify()
    assert "the signs of its vector are not those that were stored" in said
    await store._write(sqlite_signatures.pack_anew)


@pytest.mark.parametrize(
    ("condition", "spans"),
    [
        (between(5, 9), ((5, 9),)),
        (All((created("gt", 5), created("lte", 9))), ((6, 10),)),
        (AnyOf((between(5, 9), between(20, 30))), ((5, 9), (20, 30))),
        (All((AnyOf((between(5, 9), between(20, 30))), between(8, 25))), ((8, 9), (20, 25))),
        (All(()), EVER),
        (AnyOf(()), ()),
        (between(9, 5), ()),
        (Not(between(5, 9)), None),
        (All((between(5, 9), Comparison(None, ("n",), "eq", 1))), None),
        (created("eq", 5), None),
        (created("gte", 5.5), None),
        (Comparison("updated_at", (), "gte", 5), None),
        (AnyOf(tuple(between(n, n + 1) for n in range(300))), None),
    ],
)
def test_the_times_that_a_condition_leaves(condition, spans):
    assert spans_of(Where(filter=condition)) == spans
    assert spans_of(EVERYTHING) == EVER
    assert spans_of(Where(Scope(agent_id="a"), condition)) is None
