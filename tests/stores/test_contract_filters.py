"""The filter language means the same on every engine: compared with plain Python, on awkward data."""

from __future__ import annotations

import random

import pytest
from conftest import ENGINES
from filter_oracle import covers, holds
from hypothesis import given, settings, strategies as st
from places import LARGE, insert, vector

from powermem_cli.filters import OPERATORS, parse_filter
from powermem_cli.model import Scope
from powermem_cli.stores.base import EVERYTHING, Where, Write

pytestmark = pytest.mark.anyio

TEXTS = [
    "a", "A", "a ", " a", "ab", "aB", "b", "", " ", "1", "1.0", "true", "null", "é", "e\u0301", "É", "ÀÉ", "à", "straße",
    "Жук", "жУК", "ΑΒΓ", "αβγ", "a%b", "a_b", "a!b", "a\\b", "a\nb", "a\u2028b", "😀", "日本語", "日", "\U0002000b", "\uffee",
    "%", "_", "!", "\\", "'", '"', "it's", "[a]", "*", "?", "$.a", "{}", "x" * 3000,
]  # fmt: skip
NUMBERS = [
    0,
    1,
    -1,
    2,
    10,
    2**53 + 1,
    2**63 - 1,
    1 - 2**63,
    0.0,
    -0.0,
    1.0,
    0.1,
    0.5,
    -1.5,
    1e-300,
    1e300,
    -1e300,
    1e10,
]
SCALARS = [None, True, False, *NUMBERS, *TEXTS]
KEYS = ["a", "b", "c", "0", "A", "a-b", "_x"]
PATTERNS = ["%", "_", "__", "a%", "%b", "%a%", "a_b", "A%", "é", "É%", "%\\%%", "a\\_b", "a\\\\b", "\\", "a!b", "!%", "%!", "",
            "%\n%", "😀", "_日%", "日__", "à%", "жук", "αΒγ", "[a]", "*", "?", "x%", "%'%", "\\a", "%\\"]  # fmt: skip
TIMES = ["1970-01-01T00:00:00Z", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.000001Z", 1_700_000_000, 0]


@st.composite
def comparisons(draw, value, order, *, like):
    """A test of one field: *value* is what `eq` compares with, *order* what `gt` does."""
    op = draw(st.sampled_from([op for op in OPERATORS if like or "like" not in op]))
    if op in {"in", "nin"}:
        return {op: draw(st.lists(value, max_size=4))}
    if op in {"gt", "gte", "lt", "lte"}:
        return {op: draw(order)}
    if op == "exists":
        return {op: draw(st.booleans())}
    return {op: draw(st.sampled_from(PATTERNS) if "like" in op else value)}


@st.composite
def leaves(draw):
    scalar = st.sampled_from(SCALARS)
    number = st.sampled_from(NUMBERS) | st.integers(1 - 2**63, 2**63 - 1) | st.integers(-3, 3)
    text = st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
    place = draw(st.sampled_from(["metadata", "metadata", "text", "id", "time"]))
    if place == "metadata":
        return {
            ".".join(draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))): draw(
                comparisons(scalar, number | text, like=True)
            )
        }
    if place == "text":
        return {
            draw(st.sampled_from(["memory", "user_id", "agent_id", "run_id"])): draw(
                comparisons(scalar, number | text, like=True)
            )
        }
    if place == "id":
        near = st.integers(0, 130)
        return {"id": draw(comparisons(near | scalar, near | number, like=False))}
    times = st.sampled_from(TIMES)
    return {
        draw(st.sampled_from(["created_at", "updated_at"])): draw(comparisons(times | st.none(), times, like=False))
    }


@st.composite
def filters(draw, depth=3):
    word = draw(st.sampled_from(["", "", "AND", "OR", "NOT"])) if depth else ""
    if not word:
        return draw(leaves())
    if word == "NOT":
        return {word: draw(filters(depth=depth - 1))}
    return {word: [draw(filters(depth=depth - 1)) for _ in range(draw(st.integers(1, 3)))]}


ANYONE = Scope()
scopes = st.builds(Scope, st.sampled_from([None, "u", "U", "u "]), st.sampled_from([None, "a"]))


def corpus():
    """Memories with every kind of value in every kind of place."""
    pick = random.Random(11)
    users, agents, runs = [None, "u", "U", "u ", "é", "e\u0301", "A"], [None, "a", "%"], [None, "1"]
    rows = []
    for number in range(130):
        metadata = {key: value_for(pick, number) for key in pick.sample(KEYS, pick.randint(0, 5))}
        scope = Scope(pick.choice(users), pick.choice(agents), pick.choice(runs))
        created = pick.choice([0, 1_700_000_000_000_000, 1_700_000_000_000_001, -5])
        text = TEXTS[number % len(TEXTS)] or "-"
        row = insert(text, scope=scope, id=number + 1, metadata=metadata, created_at=created, vector=vector(number))
        rows.append(row)
    return rows


def value_for(pick, number):
    """Mostly a value, each in its turn; sometimes a list of them, or an object around some."""
    shape = pick.random()
    if shape < 0.6:
        return SCALARS[(number * 7 + pick.randint(0, 5)) % len(SCALARS)]
    if shape < 0.8:
        return pick.sample(SCALARS, pick.randint(0, 4)) + ([[1, "a"], {"a": 1}] if shape < 0.65 else [])
    return {key: pick.choice(SCALARS) for key in pick.sample(KEYS, 2)} | {"b": {"c": pick.choice(SCALARS)}}


@pytest.fixture(scope="module", params=ENGINES)
async def filled(request, new_place):
    """An open store with the corpus in it, and what it says it holds."""
    async with new_place(request.param).opened() as store:
        await store.apply([Write((row,)) for row in corpus()])
        yield store, await store.find(EVERYTHING, limit=LARGE)


async def check(filled, source, scope=ANYONE):
    """What *source* leaves is what Python leaves; the ids of it."""
    store, memories = filled
    where = Where(scope, parse_filter(source))
    expected = [memory.id for memory in memories if covers(scope, memory) and holds(where.filter, memory)]
    assert [memory.id for memory in await store.find(where, limit=LARGE)] == expected
    return where, expected


async def check_everywhere(filled, source, scope):
    """The same in every method that takes a Where and changes nothing."""
    store, _ = filled
    where, expected = await check(filled, source, scope)
    assert await store.count(where) == len(expected)
    assert sorted(hit.id for hit in await store.nearest(vector(7), where, limit=LARGE)) == expected


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(source=filters(), scope=scopes)
async def test_any_filter_leaves_what_python_leaves(filled, source, scope):
    await check_everywhere(filled, source, scope)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, database=None)
@given(source=filters(), scope=scopes)
async def test_ever_more_filters(filled, source, scope):
    await check_everywhere(filled, source, scope)


@pytest.mark.parametrize("op", ["eq", "ne", "gt", "gte", "lt", "lte", "contains"])
async def test_every_value_compared_with_every_other(filled, op):
    allowed = [v for v in SCALARS if not (op[0] in "gl" and (v is None or isinstance(v, bool)))]
    for value in allowed:
        for field in ("a", "memory"):
            await check(filled, {field: {op: value}})


@pytest.mark.parametrize("op", ["like", "ilike"])
async def test_every_pattern_on_every_text(filled, op):
    for pattern in [*PATTERNS, *TEXTS]:
        for field in ("a", "memory", "user_id"):
            await check(filled, {field: {op: pattern}})


async def test_a_thousand_values_in_one_test(filled):
    values = [*SCALARS, *range(1000 - len(SCALARS))]
    for field in ("a", "memory", "id", "user_id"):
        for op in ("in", "nin"):
            await check(filled, {field: {op: values}})


async def test_a_filter_as_deep_as_it_may_be(filled):
    source = {"a": 1}
    for _ in range(15):
        source = {"NOT": {"AND": [source, {"b": {"exists": True}}]}}
    await check(filled, source)


INJECTIONS = ["' OR '1'='1", "'; DROP TABLE memories; --", "\\' OR 1=1 -- ", '" OR ""="', "1 OR 1=1", "/*", "--", "\x1a", "%' OR '%'='",
              "') OR ('1'='1", "\\", "\\\\'", "$1", "%s", "%(v0)s", ":a", "?", "{0}", "ʼ OR 1=1", "＇ OR 1=1"]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
async def test_values_are_never_syntax(filled, text):
    for field in ("a", "memory", "user_id"):
        for op in ("eq", "ne", "gt", "contains", "like", "ilike"):
            await check(filled, {field: {op: text}})
        await check(filled, {field: {"in": [text, "a"]}}, Scope(user_id=text))
