"""The packed signs: whatever is written, deleted and packed anew, `nearest` finds what the vectors say."""

import asyncio
import random

import numpy as np
import pytest

from powermem_cli import times
from powermem_cli.filters import parse_filter
from powermem_cli.identity import digest
from powermem_cli.model import Scope
from powermem_cli.stores import (
    sqlite_batch,
    sqlite_counts,
    sqlite_hashes,
    sqlite_inserts,
    sqlite_keywords,
    sqlite_signatures,
    sqlite_vectors,
)
from powermem_cli.stores.base import EVERYTHING, Delete, Insert, Update, Where, Write
from powermem_cli.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
DIMS = 72  # no multiple of 64
NOW = times.now()


@pytest.fixture(params=["by signs", "held"])
def small(request, monkeypatch):
    """Everything happens among a hundred memories that else would among many thousands. Whether vectors are held."""
    monkeypatch.setattr(sqlite_vectors, "ASKED_OFTEN", 0 if request.param == "held" else 10**9)
    monkeypatch.setattr(sqlite_inserts, "PACKED_AT", 8)
    monkeypatch.setattr(sqlite_hashes, "PACKED_AT", 8)
    monkeypatch.setattr(sqlite_batch, "WORTH_PACKING_ANEW", 16)
    monkeypatch.setattr(sqlite_signatures, "ROWS_IN_A_PACK", 16)
    return request.param


@pytest.fixture
async def store(tmp_path, small):
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    yield store
    assert await store.verify() == []
    await store.close()


def vectors(number, seed=0):
    values = np.random.default_rng(seed).normal(size=(number, DIMS)).astype("<f4")
    return [(one / np.linalg.norm(one.astype("f8"))).astype("<f4").tobytes() for one in values]


def insert(vector, number=0, user="ann", **more):
    return Insert(Scope(user), f"text {number}", vector, digest(f"text {number}"), NOW, **more)


async def apply(store, *changes):
    (applied,) = await store.apply([Write(changes)])
    return [id for _, id in applied.events]


def exact(vector, held):
    """The ids of *held* (id → vector), nearest first."""
    query = np.frombuffer(vector, "<f4")
    return sorted(held, key=lambda one: (-float(query @ np.frombuffer(held[one], "<f4")), one))


async def found(store, vector, where=EVERYTHING, limit=5):
    return [hit.id for hit in await store.nearest(vector, where, limit=limit)]


async def test_whatever_happens_the_nearest_are_those_whose_vectors_are(store, small, monkeypatch):
    monkeypatch.setattr(sqlite_signatures, "CANDIDATES", 30)
    pick, held, whose = random.Random(5), {}, {}
    fresh = iter(vectors(5000))
    other = SqliteStore(str(store.path), access="write")
    await other.open("test")
    for step in range(60):
        writing = other if step % 3 == 2 else store  # what one process packs, the other finds
        kind = pick.choice(["few", "few", "many", "update", "delete", "all"] if step % 20 == 19 else "fmud")
        if kind[0] in "fm":
            made = [next(fresh) for _ in range(pick.randint(1, 3) if kind[0] == "f" else pick.randint(8, 40))]
            user = pick.choice(["ann", "ben", None])
            ids = await apply(writing, *(insert(one, step, user) for one in made))
            held.update(zip(ids, made, strict=True))
            whose.update(dict.fromkeys(ids, user))
        elif kind == "all":
            doomed = {id for id in held if whose[id] == "ann"}
            assert await writing.delete(Where(Scope("ann"))) == len(doomed)
            held = {id: one for id, one in held.items() if id not in doomed}
        elif held and kind[0] == "u":
            id = pick.choice(list(held))
            held[id] = next(fresh)
            await apply(writing, Update(id, NOW, text=f"else {step}", vector=held[id], digest=digest(f"else {step}")))
        elif held:
            id = pick.choice(list(held))
            await apply(writing, Delete(id))
            del held[id]
        query = next(fresh)
        own = {id: one for id, one in held.items() if whose[id] == "ben"}
        for reading in (store, other):
            assert len(await found(reading, query)) == min(5, len(held))
            assert len(await found(reading, query, Where(Scope("ben")))) == min(5, len(own))
            if held:  # a vector itself is surely nearest to itself, by its signs too
                id = pick.choice(list(held))
                assert (await found(reading, held[id]))[0] == id
            if small == "held":
                assert await found(reading, query) == exact(query, held)[:5]
                assert await found(reading, query, Where(Scope("ben"))) == exact(query, own)[:5]
    await other.close()
    await _is_exact_with_enough_candidates(store, held, own, next(fresh), monkeypatch)


async def _is_exact_with_enough_candidates(store, held, own, query, monkeypatch):
    monkeypatch.setattr(sqlite_signatures, "CANDIDATES", 100_000)
    assert await found(store, query) == exact(query, held)[:5]
    assert await found(store, query, Where(Scope("ben"))) == exact(query, own)[:5]


async def test_signs_find_nearly_what_is_nearest(store):
    many = vectors(4000)
    held = dict(zip(await apply(store, *(insert(one, i) for i, one in enumerate(many))), many, strict=True))
    right = 0
    for query in vectors(20, seed=1):
        right += len({*await found(store, query, limit=10)} & {*exact(query, held)[:10]})
    assert right >= 0.95 * 200


async def test_a_filter_never_leaves_an_answer_short(store):
    many = vectors(3000)
    await apply(store, *(insert(one, i, metadata={"n": i % 1000}) for i, one in enumerate(many)))
    where = Where(Scope("ann"), parse_filter({"n": 7}))
    assert sorted(await found(store, many[0], where, limit=10)) == sorted(
        [row.id for row in await store.find(where, limit=10)]
    )
    assert len(await found(store, many[0], where, limit=10)) == 3


async def test_most_of_what_was_packed_may_be_gone(store, monkeypatch):
    """The nearest signs all lead to nothing: then others are asked until there are enough."""
    monkeypatch.setattr(sqlite_batch, "WORTH_PACKING_ANEW", 10**6)
    monkeypatch.setattr(sqlite_signatures, "CANDIDATES", 10)
    near, far = vectors(1)[0], vectors(50, seed=3)
    ids = await apply(store, *(insert(near, i) for i in range(400)))
    left = await apply(store, *(insert(one, 1000 + i) for i, one in enumerate(far)))
    await store.delete(Where(ids=tuple(ids)))
    assert await found(store, near, limit=5) == exact(near, dict(zip(left, far, strict=True)))[:5]


async def test_a_search_that_began_before_all_were_packed_anew_sees_what_was_there_then(store):
    many = vectors(60)
    ids = await apply(store, *(insert(one, i) for i, one in enumerate(many)))
    assert (await found(store, many[40]))[0] == ids[40]
    async with store._reader() as connection:
        await connection.run(lambda db: db.execute("BEGIN; SELECT 1 FROM meta").fetchall())
        await store.delete(Where(ids=tuple(ids[:50])))  # packs the ten that are left
        assert (await found(store, many[55]))[0] == ids[55]
        packs = await connection.run(store._signatures.of)
        await connection.run(lambda db: db.execute("ROLLBACK"))
    assert {*packs.ids.tolist()} == {*ids[50:]}
    more = vectors(40, seed=9)
    added = await apply(store, *(insert(one, 100 + i) for i, one in enumerate(more)))
    assert (await found(store, more[30]))[0] == added[30]


async def test_a_vector_that_waits_to_be_packed_goes_with_its_memory_or_text(store):
    first, second, third, *others = vectors(20)
    changed, deleted, doomed = await apply(store, *(insert(first, i) for i in range(3)))
    await apply(store, Update(changed, NOW, text="no word", vector=b"", digest=digest("no word")))
    await apply(store, Delete(deleted))
    await store.delete(Where(ids=(doomed,)))
    assert await store.verify() == []
    # They come back, with other vectors, among so many that these are packed at once.
    back = [insert(second, 1, id=deleted), insert(third, 2, id=doomed)]
    await apply(store, *back, *(insert(one, 10 + i) for i, one in enumerate(others)))
    assert await store.verify() == []


async def test_a_snapshot_that_is_cancelled_while_it_begins_leaves_no_transaction(store):
    await apply(store, insert(vectors(1)[0]))
    assert await store.count(EVERYTHING) == 1  # from now on there is an idle connection

    async def look():
        async with store.snapshot():
            pass

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    assert await store.count(EVERYTHING) == 1


async def test_optimize_packs_anew_what_came_in_many_small_packs(store):
    many = vectors(200)
    ids = []
    for start in range(0, 200, 10):
        ids += await apply(store, *(insert(one, start + i) for i, one in enumerate(many[start : start + 10])))
    assert await store.optimize()
    assert not await store.optimize()
    assert (await found(store, many[77]))[0] == ids[77]
    again = await apply(store, insert(many[3], 3, unless_known=True))
    assert again == [ids[3]]


async def test_optimize_packs_anew_what_no_vector_came_with(store):
    for start in range(0, 300, 8):
        await apply(store, *(insert(b"", start + i) for i in range(8)))
    assert await store.optimize()
    assert not await store.optimize()


async def test_of_very_many_that_hold_the_words_the_best_and_the_newest_are_ranked(store, monkeypatch):
    monkeypatch.setattr(sqlite_keywords, "MOST_RANKED", 20)
    ids = await apply(store, *(insert(one, i) for i, one in enumerate(vectors(60))))
    best = await store.matching(["text", "7"], EVERYTHING, limit=5)
    assert best[0].id == ids[7]
    assert len(best) == 5
    assert {hit.id for hit in await store.matching(["text"], EVERYTHING, limit=5)} <= {*ids[40:]}
    assert len(await store.matching(["text"], EVERYTHING, limit=50)) == 50
    await store.delete(Where(ids=tuple(ids[10:])))
    assert len(await store.matching(["text"], EVERYTHING, limit=5)) == 5


async def test_words_that_very_many_hold_are_left_out_where_rarer_ones_find_enough(store, monkeypatch):
    ids = await apply(store, *(insert(one, i) for i, one in enumerate(vectors(60))))
    whole = await store.matching(["text", "7"], EVERYTHING, limit=60)
    monkeypatch.setattr(sqlite_keywords, "MOST_POSTINGS", 30)
    (best,) = await store.matching(["text", "7"], EVERYTHING, limit=1)
    assert best.id == ids[7]
    assert best.score < whole[0].score
    assert await store.matching(["text", "7"], EVERYTHING, limit=60) == whole  # rarer ones do not find so many
    assert len(await store.matching(["text"], EVERYTHING, limit=60)) == 60


async def test_a_pack_that_is_damaged_is_an_error(store):
    await apply(store, *(insert(one, i) for i, one in enumerate(vectors(20))))
    await store._writing.run(lambda db: db.execute("UPDATE signatures SET users = x'00'").fetchall())
    with pytest.raises(Exception, match="is damaged"):
        await found(store, vectors(1)[0])
    await store._writing.run(sqlite_signatures.pack_anew)


async def test_a_user_s_memories_are_counted_as_they_come_and_go(store, monkeypatch):
    monkeypatch.setattr(sqlite_counts, "MANY", 5)
    number = 0
    for step in range(4):
        ids = await apply(store, *(insert(one, number + i) for i, one in enumerate(vectors(4, seed=step))))
        number += 4
        assert await store.frequencies(["text"], "ann") == ({"text": number}, number)
        await apply(store, Delete(ids[1]))
        number -= 1
        assert await store.frequencies(["text"], "ann") == ({"text": number}, number)
    changed = Update(ids[0], NOW, vector=vectors(1, seed=9)[0])  # from here on its old signs are known to be outdated
    await apply(store, changed)
    assert await store.frequencies(["text"], "ann") == ({"text": number}, number)
    await apply(store, Delete(ids[0]))
    number -= 1
    assert await store.frequencies(["text"], "ann") == ({"text": number}, number)
    assert await store.delete(Where(Scope("ann"))) == number
    assert await store.frequencies(["text"], "ann") == ({"text": 0}, 0)
