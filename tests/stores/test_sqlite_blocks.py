"""Many records at once in an SQLite store: in what order its tables and packs hold them, and what that costs."""

from __future__ import annotations

import apsw
import numpy as np
import pytest
from blocks import block_of
from places import insert, noted

from powermem_cli.stores import sqlite_signatures
from powermem_cli.stores.base import BlockWrite, Write
from powermem_cli.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


async def test_packs_are_in_the_order_of_ids_whatever_was_known(tmp_path):
    path = tmp_path / "s.db"
    store = SqliteStore(str(path))
    await store.open(None)
    await store.apply([Write((insert("thing 100", "ann"), insert("thing 150", "ann")), noted("x"))])
    rows = [{"messages": f"thing {number % 290}", "user_id": "ann"} for number in range(400)]
    await store.apply([BlockWrite(block_of(*rows), "job", 1, "f")])
    await store.close()
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ((packed,),) = db.execute("SELECT ids FROM signatures")
    stored = [id for (id,) in db.execute("SELECT id FROM embeddings ORDER BY id")]
    assert np.frombuffer(packed, "<i8").tolist() == stored
    assert len(stored) == 288


async def test_what_waits_to_be_packed_is_found_without_a_look_at_all_others(tmp_path):
    store = SqliteStore(str(tmp_path / "s.db"))
    await store.open(None)
    await store.close()
    db = apsw.Connection(str(tmp_path / "s.db"))
    plan = [step for *_, step in db.execute(f"EXPLAIN QUERY PLAN {sqlite_signatures.WAITING}")]
    assert plan[0] == "SCAN u"
    assert all(step.startswith("SEARCH") for step in plan[1:])
    db.close()
