"""Vectors that are held in memory: of whom, how many, and that none of them outlives what is stored."""

import random

import numpy as np
import pytest

from powermem_cli import times
from powermem_cli.errors import StoreCorrupt
from powermem_cli.identity import digest
from powermem_cli.model import Scope
from powermem_cli.stores import sqlite_batch, sqlite_inserts, sqlite_signatures, sqlite_vectors
from powermem_cli.stores.base import EVERYTHING, Insert, Update, Where, Write
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.terms import distinct_terms

pytestmark = pytest.mark.anyio
DIMS = 64
NOW = times.now()


@pytest.fixture
async def store(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_inserts, "PACKED_AT", 8)
    monkeypatch.setattr(sqlite_vectors, "ASKED_OFTEN", 1)
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    yield store
    await store.close()


def vectors(number, seed=0):
    values = np.random.default_rng(seed).normal(size=(number, DIMS))
    return [(one / np.linalg.norm(one)).astype("<f4").tobytes() for one in values]


async def add(store, user, made):
    texts = [f"{user} {number} {len(made)}" for number in range(len(made))]
    changes = [Insert(Scope(user), t, v, digest(t), NOW) for t, v in zip(texts, made, strict=True)]
    (applied,) = await store.apply([Write(tuple(changes))])
    return [id for _, id in applied.events]


async def found(store, vector, user, limit=3):
    return [hit.id for hit in await store.nearest(vector, Where(Scope(user)), limit=limit)]


def held(store):
    return [*store._signatures.vectors._held]


async def test_they_are_held_of_whom_is_asked_again(store):
    many = vectors(40)
    ids = await add(store, "ann", many)
    await add(store, "ben", vectors(40, seed=1))
    first = await found(store, many[7], "ann")
    assert held(store) == []
    assert await found(store, many[7], "ann") == first
    assert held(store) == ["ann"]
    more = await add(store, "ann", vectors(40, seed=2))
    assert (await found(store, vectors(40, seed=2)[9], "ann"))[0] == more[9]
    assert (await found(store, many[39], "ann"))[0] == ids[39]


async def test_no_more_are_held_than_fit(store, monkeypatch):
    monkeypatch.setattr(sqlite_vectors, "MOST_BYTES", 100 * 4 * DIMS)
    made = {"ann": vectors(40), "ben": vectors(50, seed=1), "cleo": vectors(30, seed=2), "dora": vectors(101, seed=3)}
    ids = {user: await add(store, user, some) for user, some in made.items()}
    for user, left in (
        ("ann", "ann"),
        ("ben", "ann ben"),
        ("ann", "ben ann"),
        ("cleo", "ann cleo"),
        ("dora", "ann cleo"),
    ):
        for _ in range(2):
            assert (await found(store, made[user][5], user))[0] == ids[user][5]
        assert held(store) == left.split()


async def test_a_search_that_began_earlier_leaves_no_old_vector_behind(store, monkeypatch):
    monkeypatch.setattr(sqlite_batch, "WORTH_PACKING_ANEW", 4)
    before, after, *others = vectors(20)
    changed, *_, last = await add(store, "ann", [before, *others])
    assert (await found(store, before, "ann"))[0] == changed
    async with store._reader() as connection:
        await connection.run(lambda db: db.execute("BEGIN; SELECT 1 FROM meta").fetchall())
        await store.apply([Write((Update(changed, NOW, text="other", vector=after, digest=digest("other")),))])
        doomed = [row.id for row in await store.find(EVERYTHING, limit=99) if row.id not in {changed, last}]
        await store.delete(Where(ids=tuple(doomed)))  # packs the two that are left
        await found(store, after, "ann")
        where = Where(Scope("ann"))

        def look(db):
            return sqlite_signatures.nearest(db, store._signatures, before, where, 3)

        for _ in range(3):
            await connection.run(look)
        await connection.run(lambda db: db.execute("ROLLBACK"))
    for _ in range(3):
        (best, _) = await store.nearest(after, where, limit=3)
        assert (best.id, best.score) == (changed, pytest.approx(1, abs=1e-5))


async def test_the_lengths_held_with_them_weigh_words_as_those_that_are_looked_up(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_batch, "WORTH_PACKING_ANEW", 40)
    pick = random.Random(5)
    made, ids, seen = vectors(400, seed=4), [], set()

    def said() -> str:
        words = [pick.choice(("tea", "rain", "snow"))] + [
            f"w{pick.randrange(400)}" for _ in range(pick.choice((1, 90)))
        ]
        return " ".join(words)

    def new(number: int) -> Write:
        changes = []
        for _ in range(number):
            text = said()
            changes.append(Insert(Scope("ann"), text, made.pop(), digest(text), NOW, terms=distinct_terms(text)))
        return Write(tuple(changes))

    for step in range(40):
        if step % 10 == 0 or not ids:
            (applied,) = await store.apply([new(30)])
            ids += [id for _, id in applied.events]
        elif step % 3 == 0:
            text = said()
            await store.apply([Write((Update(pick.choice(ids), NOW, Scope(), text, made.pop(), digest(text)),))])
        elif step % 3 == 1:
            await store.delete(Where(ids=(ids.pop(pick.randrange(len(ids))),)))
        else:
            (applied,) = await store.apply([new(1)])
            ids += [id for _, id in applied.events]
        where, terms = Where(Scope("ann")), ["tea", "snow", "w7"]
        await store.nearest(vectors(1)[0], where, limit=5)
        seen.add(store._signatures.vectors._held.keys() == {"ann"})
        fresh = SqliteStore(str(tmp_path / "s.db"), access="read")
        await fresh.open("test")
        for limit in (3, 500):
            expected = await fresh.matching(terms, where, limit=limit)
            assert await store.matching(terms, where, limit=limit) == expected
        await fresh.close()
    assert True in seen


@pytest.mark.parametrize("damage", [b"xyz", "text", np.full(DIMS, np.nan, "<f4").tobytes()])
async def test_a_damaged_vector_is_an_error_and_no_answer(store, monkeypatch, damage):
    monkeypatch.setattr(sqlite_vectors, "ASKED_OFTEN", 0)
    made = vectors(40)
    first, *_ = await add(store, "ann", made)
    sql = "UPDATE embeddings SET vector = ? WHERE id = ?"
    await store._writing.run(lambda db: db.execute(sql, (damage, first)).fetchall())
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="is damaged"):
            await found(store, made[7], "ann")
