from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from powermem_cli.errors import InvalidInput
from powermem_cli.filters import COLUMNS, DEEPEST, OPERATORS, WIDEST, All, AnyOf, Not, Test as Comparison, parse_filter


def field(name: str, op: str, value: object) -> Comparison:
    return Comparison(None, tuple(name.split(".")), op, value)  # type: ignore[arg-type]


def column(name: str, op: str, value: object) -> Comparison:
    return Comparison(name, (), op, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "parsed"),
    [
        (None, None),
        ({}, None),
        ({"topic": "food"}, field("topic", "eq", "food")),
        ({"metadata.topic": "food"}, field("topic", "eq", "food")),
        ({"metadata": "food"}, field("metadata", "eq", "food")),
        ({"metadata.id": 3}, field("id", "eq", 3)),
        ({"a.b-c.d_1": True}, field("a.b-c.d_1", "eq", True)),
        ({"user_id": "u"}, column("user_id", "eq", "u")),
        ({"gone": None}, field("gone", "eq", None)),
        ({"price": {"gte": 1, "lt": 2.5}}, All((field("price", "gte", 1), field("price", "lt", 2.5)))),
        ({"a": 1, "b": 2}, All((field("a", "eq", 1), field("b", "eq", 2)))),
        ({"a": {"in": [1, "x", None, True]}}, field("a", "in", (1, "x", None, True))),
        ({"a": {"nin": []}}, field("a", "nin", ())),
        ({"a": {"exists": False}}, field("a", "exists", False)),
        ({"memory": {"ilike": "%tea_"}}, column("memory", "ilike", "%tea_")),
        ({"tags": {"contains": "x"}}, field("tags", "contains", "x")),
        ({"created_at": {"gte": "2026-03-01T09:30:00Z"}}, column("created_at", "gte", 1_772_357_400_000_000)),
        ({"updated_at": {"in": ["1970-01-01", 1]}}, column("updated_at", "in", (0, 1_000_000))),
        ({"updated_at": None}, column("updated_at", "eq", None)),
        ({"created": "2026-03-01"}, field("created", "eq", "2026-03-01")),
        ({"id": "17"}, column("id", "eq", 17)),
        ({"id": {"in": ["17", 18]}}, column("id", "in", (17, 18))),
        ({"id": "x"}, column("id", "eq", "x")),
        ({"id": "9" * 5000}, column("id", "eq", "9" * 5000)),
        ({"AND": [{"a": 1}, {}]}, All((field("a", "eq", 1), All(())))),
        ({"OR": [{"a": 1}, {"b": 2}]}, AnyOf((field("a", "eq", 1), field("b", "eq", 2)))),
        ({"NOT": {"a": 1}}, Not(AnyOf((field("a", "eq", 1),)))),
        ({"NOT": [{"a": 1}, {"b": 2}]}, Not(AnyOf((field("a", "eq", 1), field("b", "eq", 2))))),
        (
            {"OR": ({"a": 1}, {"NOT": {"b": {"gt": "x"}}}), "c": 3},
            All((AnyOf((field("a", "eq", 1), Not(AnyOf((field("b", "gt", "x"),))))), field("c", "eq", 3))),
        ),
    ],
)
def test_forms(source, parsed):
    assert parse_filter(source) == parsed


def test_true_is_not_one():
    assert repr(parse_filter({"a": True})) != repr(parse_filter({"a": 1}))


@pytest.mark.parametrize(
    ("source", "place", "message", "hint"),
    [
        ("a", "filters", "a filter is a dict, not str", None),
        ({"AND": {"a": 1}}, "filters.AND", "AND takes a list", None),
        ({"OR": []}, "filters.OR", "OR takes a list of 1 to", None),
        ({"OR": [{"a": 1}] * (WIDEST + 1)}, "filters.OR", "OR takes a list of 1 to", None),
        ({"NOT": []}, "filters.NOT", "NOT takes a filter or a list", None),
        ({"NOT": 3}, "filters.NOT", "filters.NOT must be a dict, not int", None),
        ({"AND": [{"a": 1}, "b"]}, "filters.AND[1]", "filters.AND[1] must be a dict, not str", None),
        ({"and": [{"a": 1}]}, "filters", "'and' is written in capitals", "AND"),
        ({"Not": {"a": 1}}, "filters", "'Not' is written in capitals", "NOT"),
        ({"a": [1, 2]}, "filters.a", "filters.a is compared with a list", '{"a": {"in": [...]}}'),
        ({"a": {}}, "filters.a", "filters.a names no operator", "eq, ne, gt"),
        ({"a": {"$gte": 1}}, "filters.a", "'$gte' is no operator", "did you mean gte?"),
        ({"a": {"equals": 1}}, "filters.a", "'equals' is no operator", None),
        ({"a": {"GT": 1}}, "filters.a", "'GT' is no operator", "did you mean gt?"),
        ({"a": {3: 1}}, "filters.a", "a value of type int is no operator", None),
        ({"OR": [{"a": {"xyz": 1}}]}, "filters.OR[0].a", "'xyz' is no operator", "one of eq, ne"),
        ({"a": {"in": "x"}}, "filters.a", "takes a list of at most", None),
        ({"a": {"nin": [0] * (WIDEST + 1)}}, "filters.a", "takes a list of at most", None),
        ({"a": {"in": [[1]]}}, "filters.a", "can't be compared", None),
        ({"a": {"exists": 1}}, "filters.a", "takes true or false", None),
        ({"a": {"like": 3}}, "filters.a", "compares text with a pattern", None),
        ({"id": {"like": "1%"}}, "filters.id", "compares text with a pattern", None),
        ({"created_at": {"ilike": "2026%"}}, "filters.created_at", "compares text with a pattern", None),
        ({"a": {"gt": None}}, "filters.a", "takes a number, a string or a time", None),
        ({"a": {"lte": True}}, "filters.a", "takes a number, a string or a time", None),
        ({"created_at": {"gt": "soon"}}, "filters.created_at", "'soon' is no time", None),
        ({"created_at": True}, "filters.created_at", "a time is RFC 3339", None),
        ({"a": float("nan")}, "filters.a", "can't be compared", "finite number of 64 bits"),
        ({"a": {"lt": float("inf")}}, "filters.a", "can't be compared", None),
        ({"a": 2**63}, "filters.a", "can't be compared", None),
        ({"a": 10**5000}, "filters.a", "can't be compared", None),
        ({"a": {"in": [[10**5000]]}}, "filters.a", "can't be compared", None),
        ({"a": {10**5000: 1}}, "filters.a", "is no operator", None),
        ({10**5000: 1}, "filters", "is no field name", None),
        ({"created_at": 10**5000}, "filters.created_at", "between 1900 and 2200", None),
        ({"id": "9" * 19}, "filters.id", "can't be compared", None),
        ({"a": "x\0"}, "filters.a", "can't be compared", None),
        ({"a": {"like": "\ud800"}}, "filters.a", "can't be compared", None),
        ({"a": b"x"}, "filters.a", "can't be compared", None),
    ],
)
def test_what_is_wrong_is_said(source, place, message, hint):
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        parse_filter(source)
    assert caught.value.field == place
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "a b", 'a"b', "a'b", "a]", "$.a", "a\n", "ä", "a" * 65, ".".join("a" * 9), 3, None]
)  # fmt: skip
def test_a_name_is_letters_digits_and_dots(name):
    with pytest.raises(InvalidInput, match="is no field name"):
        parse_filter({name: 1})


def test_the_depth_has_a_limit():
    def nested(depth: int) -> dict[str, object]:
        return {"NOT": nested(depth - 1)} if depth else {"a": 1}

    assert parse_filter(nested(DEEPEST)) is not None
    with pytest.raises(InvalidInput, match=f"more than {DEEPEST} deep"):
        parse_filter(nested(DEEPEST + 1))


# Some names and words that mean something, so that more than the first error is reached.
KEYS = st.sampled_from([*OPERATORS, *COLUMNS, "AND", "OR", "NOT", "a", "metadata.b"]) | st.text(max_size=5)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_anything_is_parsed_or_refused(source):
    try:
        parsed = parse_filter(source)
    except InvalidInput:
        return
    assert (parsed is None) == (not source)
