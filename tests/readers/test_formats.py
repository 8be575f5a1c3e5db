"""Plain text, and the files of other programs and of our own export."""

from __future__ import annotations

import json

import pytest
from readers.tools import piped, read, read_with, records, rejects, where, written

from powermem_cli.errors import UsageError
from powermem_cli.model import Message, Record, Rejected, Scope
from powermem_cli.readers import FORMATS
from powermem_cli.times import parse_time

ANNA = Scope("anna")


def test_text_is_a_memory_per_line(tmp_path):
    data = '  one \r\n\n \t\ntwo\u2028half\n{"memory": 1}\nlast'.encode()
    opened, items = read_with(written(tmp_path, data, "a.txt"))
    assert [item.memory for item in records(items)] == ["  one ", "two\u2028half", '{"memory": 1}', "last"]
    assert [where(item) for item in items] == [(1, None, 0, 8), (4, None, 12, 11), (5, None, 23, 14), (6, None, 37, 4)]
    assert opened.unfinished is None, "every line is whole"


def test_text_that_is_none():
    items = piped(b"ok\nnu\0l\n\xff\n" + b"x" * (9 << 20) + b"\n\xe3\x80\x80\nend\n", format="text")
    assert [item.code for item in rejects(items)] == [
        "input.character",
        "input.encoding",
        "input.too_long",
        "input.empty",
    ]
    assert [item.source.line for item in rejects(items)] == [2, 3, 4, 5]
    assert rejects(items)[0].raw == '"nu\\u0000l"'


def node(name, parent, role="user", parts=("x",), **message):
    return {
        "id": name,
        "parent": parent,
        "message": {
            "author": {"role": role},
            "content": {"content_type": "text", "parts": list(parts)},
            "recipient": "all",
            **message,
        },
    }


def conversation(*nodes, current, **others):
    return {
        "title": "Tea",
        "create_time": 1700000000.5,
        "mapping": {one["id"]: one for one in nodes},
        "current_node": current,
        "conversation_id": "c-1",
        **others,
    }


def test_chatgpt_is_the_branch_that_was_seen_last(tmp_path):
    tree = conversation(
        {"id": "root", "parent": None, "message": None},
        node("system", "root", "system", [""]),
        node("hidden", "system", metadata={"is_visually_hidden_from_conversation": True}),
        node("q", "hidden", parts=["What is in", {"content_type": "image_asset_pointer"}, "this tea?"]),
        node("old", "q", "assistant", ["Sugar."]),
        node("call", "q", "assistant", ["search()"], recipient="browser"),
        node("code", "call", "assistant", content={"content_type": "code", "text": "1"}),
        node("tool", "code", "tool", ["results"]),
        node("new", "tool", "assistant", ["Mint."]),
        current="new",
    )
    path = written(tmp_path, json.dumps([tree, conversation(node("a", None, parts=["", ""]), current="a")]), "c.json")
    opened, [record, empty] = read_with(path, scope=ANNA)
    assert opened.format == "chatgpt"
    assert isinstance(record, Record)
    assert record.messages == (Message("user", "What is in\nthis tea?"), Message("assistant", "Mint."))
    assert (record.scope, record.key, record.metadata) == (ANNA, "c-1", {"title": "Tea"})
    assert record.created_at == 1_700_000_000_500_000
    assert isinstance(empty, Rejected)
    assert empty.code == "input.empty"


@pytest.mark.parametrize(
    "broken",
    [
        {"mapping": 1},
        conversation(node("a", None), current="b"),
        conversation(node("a", None), current=None),
        "text",
        {"memory": "x"},
    ],
)
def test_what_is_no_chatgpt_conversation(broken):
    [bad] = rejects(piped(json.dumps([broken]).encode(), format="chatgpt", scope=ANNA))
    assert bad.code == "input.missing"


def test_a_chatgpt_tree_that_is_a_circle():
    tree = conversation(node("a", "b", parts=["1"]), node("b", "a", parts=["2"]), current="b")
    [record] = records(piped(json.dumps(tree).encode(), format="chatgpt", scope=ANNA))
    assert [turn.content for turn in record.messages] == ["1", "2"]


CLAUDE = {
    "uuid": "9b",
    "name": "Tea",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "updated_at": "2026-01-03T00:00:00Z",
    "account": {"uuid": "acc"},
    "chat_messages": [
        {"uuid": "1", "text": "hi", "content": [{"type": "text", "text": "hi"}], "sender": "human", "attachments": []},
        {"uuid": "2", "text": "", "content": [{"type": "text", "text": "hello"}], "sender": "assistant"},
        {"uuid": "3", "text": "", "content": [{"type": "tool_use", "name": "x"}], "sender": "assistant"},
    ],
}


def test_claude(tmp_path):
    opened, items = read_with(written(tmp_path, json.dumps([CLAUDE, {"a": 1}]), "c.json"), scope=ANNA)
    assert opened.format == "claude"
    [record] = [item for item in items if isinstance(item, Record)]
    assert record.messages == (Message("user", "hi"), Message("assistant", "hello"))
    assert (record.scope, record.key, record.metadata) == (ANNA, "9b", {"title": "Tea"})
    assert record.created_at == parse_time("2026-01-02T03:04:05.678901Z")
    assert [bad.code for bad in rejects(items)] == ["input.missing"]


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.needs_user])
def test_whose_conversations_they_are_must_be_said(tmp_path, name):
    path = written(tmp_path, json.dumps([CLAUDE]), "c.json")
    with pytest.raises(UsageError, match="whose conversations") as caught:
        read(path, format=name)
    assert "--user" in (caught.value.hint or "")
    if name == "claude":
        [record] = records(read(path, format=name, mapping={"user": "account.uuid"}))
        assert record.scope == Scope("acc")


MEM0 = {"id": "m-1", "memory": "Likes tea", "hash": "ab", "user_id": "anna", "metadata": None, "score": 0.5}


@pytest.mark.parametrize("document", [[MEM0], {"results": [MEM0]}, {"results": [MEM0], "relations": []}])
def test_mem0(tmp_path, document):
    opened, [record] = read_with(written(tmp_path, json.dumps(document), "m.json"))
    assert opened.format == "mem0"
    assert isinstance(record, Record)
    assert (record.memory, record.key, record.scope, record.metadata) == ("Likes tea", "m-1", ANNA, {})
    assert record.infer is False, "these are facts"
    [record] = records(read(opened.name, infer=True))
    assert record.infer is True
    row = {**MEM0, "categories": ["food"], "created_at": "2026-01-02T03:04:05-08:00", "infer": True}
    [record] = records(piped(json.dumps([row]).encode(), format="mem0"))
    assert (record.infer, record.metadata) == (True, {"categories": ["food"]})


def test_our_own_export(tmp_path):
    row = {
        "id": "718",
        "memory": "Likes tea",
        "user_id": "anna",
        "agent_id": None,
        "run_id": None,
        "metadata": {"a": 1},
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-05T00:00:00Z",
    }
    text = "".join(json.dumps(one) + "\n" for one in (row, {**row, "vector": [0.5], "key": "k"}, "bare"))
    opened, items = read_with(written(tmp_path, text))
    assert (opened.format, opened.resumable) == ("powermem", True)
    plain, keyed, bare = records(items)
    assert (plain.key, keyed.key) == (None, "k")
    for record in (plain, keyed):
        assert (record.memory, record.scope, record.metadata) == ("Likes tea", ANNA, {"a": 1})
        assert (record.infer, record.created_at) == (False, parse_time("2026-01-02T03:04:05Z"))
    assert (bare.memory, bare.infer) == ("bare", False)
