"""Searches by SQL alone find what those with numpy find, and the first questions of a process are answered by them."""

import random
import sys

import numpy as np
import pytest
from program import PROGRAM, Powermem

from powermem_cli import times
from powermem_cli.filters import parse_filter
from powermem_cli.identity import digest
from powermem_cli.model import Scope
from powermem_cli.stores import sqlite_exact
from powermem_cli.stores.base import EVERYTHING, Insert, Where, Write
from powermem_cli.stores.sqlite import LOOKED_AT, SEARCHES_WITHOUT_NUMPY, SqliteStore

pytestmark = pytest.mark.anyio
WORDS = ("tea", "rain", "train", "song", "snow", "bread")
DIMS = 16


def vector(dice):
    values = np.array([dice.gauss(0, 1) for _ in range(DIMS)])
    return (values / np.linalg.norm(values)).astype("<f4").tobytes()


def memory(dice, number):
    text = " ".join(dice.choices(WORDS, k=dice.randint(1, 8)))
    near = b"" if number % 17 == 0 else vector(dice)
    at = times.now()
    expires = at + 1 if number % 19 == 0 else None
    return Insert(
        Scope(dice.choice(["ann", "bob", None])), text, near, digest(text), at, {"n": number}, expires_at=expires
    )


async def test_both_ways_find_the_same(tmp_path):
    dice = random.Random(4)
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    (applied,) = await store.apply([Write(tuple(memory(dice, number) for number in range(300)))])
    ids = [id for _, id in applied.events]
    few = Where(filter=parse_filter({"n": {"lt": 40}}))
    for where in (
        EVERYTHING,
        Where(Scope("ann")),
        Where(Scope("nobody")),
        few,
        Where(Scope("bob"), ids=tuple(ids[::3])),
    ):
        for terms in (["tea"], ["rain", "snow", "nowhere"], ["nowhere"]):
            found = await store._read(
                lambda db, w=where, t=terms: sqlite_exact.matching(db, store._counts, t, w, limit=500)
            )
            expected = await store.matching(terms, where, limit=500)
            assert [id for id, _ in found] == [hit.id for hit in expected]
            assert [score for _, score in found] == pytest.approx([hit.score for hit in expected])
        query, more = vector(dice), dice.sample(ids, 9)
        near = await store._read(lambda db, w=where, q=query, m=more: sqlite_exact.nearest(db, q, w, 20, m))
        expected = await store._read(lambda db, w=where, q=query, m=more: store._nearest(db, q, w, 20, m))
        assert [id for id, _ in near] == [hit.id for hit in expected]
    await store.close()


ASKING = """
import atexit, sys
from powermem_cli.cli import main
atexit.register(lambda: print("numpy" in sys.modules, file=sys.stderr))
main(sys.argv[1:])
"""


def test_the_first_questions_do_not_wait_for_numpy(tmp_path):
    powermem = Powermem(tmp_path)
    powermem.inside("add", "Anna likes green tea", "--user", "anna")
    powermem.inside("add", "Anna plays the cello", "--user", "anna")
    question = "what does she drink?"
    asked = powermem.write("questions.txt", *[question] * 6)
    asking = ("-c", ASKING, "search", "--user", "anna")
    one = powermem(*asking, question, "--json", wrapper=PROGRAM[:1])
    many = powermem(*asking, "--file", asked, "--jsonl", wrapper=PROGRAM[:1])
    assert (one.err, many.err) == ("False\n", "True\n")
    for answer in [one.json, *many.jsonl]:
        assert [row["memory"] for row in answer["results"]] == ["Anna likes green tea", "Anna plays the cello"]
        wanted = [row["score"] for row in one.json["results"]]
        assert [row["score"] for row in answer["results"]] == pytest.approx(wanted, abs=1e-5)


async def test_who_has_many_memories_is_found_them_with_numpy(tmp_path, monkeypatch):
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open("test")
    await store.apply([Write(tuple(memory(random.Random(1), number) for number in range(3)))])
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(store._counts, "total", lambda db, user: LOOKED_AT + 1)
    assert not await store._read(lambda db: store._does_without_numpy(db, EVERYTHING))
    monkeypatch.setattr(store._counts, "total", lambda db, user: LOOKED_AT)
    asked = [await store._read(lambda db: store._does_without_numpy(db, EVERYTHING)) for _ in range(9)]
    assert asked == [True] * (SEARCHES_WITHOUT_NUMPY - 1) + [False] * 2
    await store.close()
