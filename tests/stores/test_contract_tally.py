"""What every store must count, on every engine: memories by user, agent, run and day."""

from __future__ import annotations

import pytest
from places import add, insert

from powermem_cli.filters import parse_filter
from powermem_cli.model import Scope
from powermem_cli.stores.base import DAY, EVERYTHING, Where

pytestmark = pytest.mark.anyio


async def test_nothing_has_no_groups(store):
    for by in ("user_id", "agent_id", "run_id", "day"):
        assert await store.tally(by, EVERYTHING) == {}


async def test_by_whom(store):
    scopes = [Scope("ann"), Scope("ann", "bot"), Scope("Ann"), Scope("ann ", None, "r1"), Scope(None, "bot"), Scope()]
    await add(store, *[insert(f"text {number}", scope=scope) for number, scope in enumerate(scopes)])
    assert await store.tally("user_id", EVERYTHING) == {"ann": 2, "Ann": 1, "ann ": 1, None: 2}
    assert await store.tally("agent_id", EVERYTHING) == {"bot": 2, None: 4}
    assert await store.tally("run_id", EVERYTHING) == {"r1": 1, None: 5}


async def test_a_where_leaves_out_what_it_leaves_out(store):
    await add(store, insert("a", "ann", metadata={"n": 1}), insert("b", "ann"), insert("c", "bob", metadata={"n": 1}))
    assert await store.tally("user_id", Where(filter=parse_filter({"n": 1}))) == {"ann": 1, "bob": 1}
    assert await store.tally("user_id", Where(Scope("ann"))) == {"ann": 2}
    assert await store.tally("user_id", Where(Scope("' OR 1=1 --"))) == {}


async def test_what_has_expired_is_not_counted(store):
    await add(store, insert("gone", "ann", expires_at=1), insert("here", "ann"))
    assert await store.tally("user_id", EVERYTHING) == {"ann": 1}


async def test_a_day_begins_at_midnight_also_before_1970(store):
    moments = [0, DAY - 1, DAY, -1, -DAY, -DAY - 1, 20_000 * DAY + 5]
    await add(store, *[insert(f"at {moment}", created_at=moment) for moment in moments])
    assert await store.tally("day", EVERYTHING) == {0: 2, 1: 1, -1: 2, -2: 1, 20_000: 1}
