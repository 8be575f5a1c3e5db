"""Which field of a row is what, and what a record gets that lacks it."""

from __future__ import annotations

import json

import pytest

from powermem_cli.errors import InvalidInput, UsageError
from powermem_cli.model import Message, Scope, Source
from powermem_cli.readers import Reading
from powermem_cli.readers.base import NAMES
from powermem_cli.readers.record import RecordMaker
from powermem_cli.times import parse_time

HERE = Source("f", 1, 0)


def made(row, **options):
    return RecordMaker(Reading(**{"format": "jsonl", **options})).make(row, HERE, 0)


def refused(row, **options):
    with pytest.raises(InvalidInput) as caught:
        made(row, **options)
    return caught.value


@pytest.mark.parametrize("name", NAMES["memory"])
def test_names_of_a_memory(name):
    assert made({name: " as it came \n"}).memory == " as it came \n"
    assert refused({name: ""}).field == name


def test_names_of_messages():
    turns = (Message("user", "hi"), Message("assistant", "hello"))
    assert (
        made({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}).messages == turns
    )
    claude = [
        {"sender": "human", "text": "hi"},
        {"sender": "assistant", "content": [{"type": "text", "text": "hello"}]},
    ]
    assert made({"chat_messages": claude}).messages == turns
    ours = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello", "name": "x"}]
    for name in NAMES["messages"]:
        assert made({name: ours}).messages == turns
    assert made({"messages": "hi"}).messages == turns[:1]
    assert made({"messages": [*ours, {"role": "tool", "content": None}]}).messages == turns
    assert refused({"conversations": [{"from": 1, "value": "x"}]}).field == "conversations[0].from"
    assert refused({"conversations": "x"}).field == "conversations"


@pytest.mark.parametrize("field", ["user_id", "agent_id", "run_id"])
def test_names_of_a_scope(field):
    for name in NAMES[field]:
        assert made({"memory": "x", name: " Ä b"}).scope == Scope(**{field: " Ä b"})
        assert made({"memory": "x", name: 42}).scope == Scope(**{field: "42"})
    assert made({"memory": "x", field: None}).scope == Scope()
    for bad in (True, 1.0, [], {}, "", "a\nb", "x" * 256):
        assert refused({"memory": "x", field: bad}).field == field


def test_one_and_true_are_not_the_same_user():
    maker = RecordMaker(Reading(format="jsonl"))
    assert maker.make({"memory": "x", "user_id": 1}, HERE, 0).scope == Scope("1")
    with pytest.raises(InvalidInput):
        maker.make({"memory": "x", "user_id": True}, HERE, 0)


@pytest.mark.parametrize("name", NAMES["key"])
def test_names_of_a_key(name):
    assert made({"memory": "x", name: "k"}).key == "k"
    assert made({"memory": "x", name: 7}).key == "7"
    assert refused({"memory": "x", name: 7.5}).field == name


@pytest.mark.parametrize("name", NAMES["created_at"])
def test_names_of_a_time(name):
    when = "2026-03-01T09:30:00.25+01:00"
    assert made({"memory": "x", name: when}).created_at == parse_time(when)
    assert made({"memory": "x", name: 1_700_000_000}).created_at == 1_700_000_000_000_000
    assert (error := refused({"memory": "x", name: {}})).field == name
    assert error.code == "input.time"


def test_infer_is_true_or_false():
    assert made({"memory": "x", "infer": False}, infer=True).infer is False
    assert made({"memory": "x"}, infer=True).infer is True
    assert made({"memory": "x"}).infer is None
    assert refused({"memory": "x", "infer": "no"}).field == "infer"


def test_the_first_of_several_names_is_the_field_and_the_others_are_metadata():
    record = made({"_id": "3", "id": "1", "key": "2", "note": "n", "text": "t", "session_id": "s", "run_id": "r"})
    assert (record.key, record.memory, record.scope.run_id) == ("2", "t", "r")
    assert record.metadata == {"_id": "3", "id": "1", "note": "n", "session_id": "s"}


def test_a_record_is_a_conversation_or_a_memory():
    messages = [{"role": "user", "content": "hi"}]
    assert refused({"messages": messages, "memory": "x"}).code == "input.both"
    assert refused({"chat_messages": messages, "text": "x"}).code == "input.both"
    assert made({"messages": messages, "note": "x"}).metadata == {"note": "x"}
    assert made({"memory": "x", "conversations": messages}).metadata == {"conversations": messages}
    assert made({"memory": "x", "messages": None}).memory == "x"
    assert refused({"memory": None}).code == "input.missing"
    assert made("bare").memory == "bare"


def test_what_has_no_other_place_is_metadata():
    record = made(
        {"memory": "x", "topic": "a", "mood": None, "metadata": {"topic": "b"}}, metadata={"topic": "c", "z": 1}
    )
    assert record.metadata == {"topic": "b", "mood": None, "z": 1}
    assert made({"memory": "x"}, metadata={"z": 1}).metadata == {"z": 1}
    for bad in ([], "x", 1):
        assert refused({"memory": "x", "metadata": bad}).field == "metadata"
    assert refused({"memory": "x", "big": "y" * 70_000}).code == "input.too_long"
    assert refused({"memory": "x", "n": 2**63}).code == "input.number"


def test_records_do_not_share_their_metadata():
    maker = RecordMaker(Reading(format="jsonl", metadata={"z": 1}))
    one, other = (maker.make({"memory": "x"}, HERE, 0).metadata for _ in range(2))
    assert one is not other


def test_defaults_are_for_what_is_not_there():
    given = Scope("u", "a", "r")
    assert made({"memory": "x", "user": "me", "agent": None}, scope=given).scope == Scope("me", "a", "r")


def test_map_takes_columns_and_dotted_paths():
    row = {"note": {"text": "x", "lang": "en"}, "who": [{"id": "u"}], "a.b": 1, "memory": "old", "text": "older"}
    mapping = {"memory": "note.text", "user": "who.0.id", "metadata.n": "a.b", "metadata.gone": "no.such"}
    record = made(row, mapping=mapping)
    assert (record.memory, record.scope.user_id) == ("x", "u")
    assert record.metadata == {"n": 1, "memory": "old", "note": {"lang": "en"}, "who": [{"id": "u"}], "text": "older"}
    assert row["note"] == {"text": "x", "lang": "en"}
    assert made({"b": {"a": "x"}}, mapping={"memory": "b.a"}).metadata == {}
    assert made(
        {"x": "m", "metadata": {"k": 1, "l": 2}, "y": 3}, mapping={"note": "x", "metadata.k": "y"}
    ).metadata == {
        "k": 3,
        "l": 2,
    }
    assert refused({"x": "m", "metadata": 5}, mapping={"memory": "x", "metadata.a": "x"}).field == "metadata"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "jsnl"}, "no format 'jsnl'"),
        ({"encoding": "utf-9"}, "no encoding"),
        ({"encoding": "base64"}, "no encoding"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"mapping": {"memoir": "x"}}, "no field 'memoir'"),
        ({"mapping": {"metadata.": "x"}}, "no field"),
        ({"mapping": {"user": "a", "user_id": "b"}}, "user_id twice"),
        ({"metadata": {"a": float("nan")}}, "nan"),
    ],
)
def test_a_reading_that_cannot_be(options, says):
    with pytest.raises(UsageError, match=says):
        Reading(**options)


def test_json_of_a_deep_record_does_not_end_in_recursion():
    row = json.loads('{"memory": "x", "a": ' + "[" * 100 + "]" * 100 + "}")
    assert refused({"memory": "x", "a": [row["a"]]}).code == "input.too_deep"
