"""Which format an input has; and what could be two of them is a question to the user."""

from __future__ import annotations

import json

import pytest
from readers.tools import by_steps, written

from powermem_cli.errors import UsageError
from powermem_cli.model import Scope
from powermem_cli.readers import Reading, open_input

RECORD = '{"memory": "x"}'
LONG = '{"title": "' + "x" * 70_000 + '", "mapping": {}}'
PRETTY = json.dumps([{"memory": "x"}], indent=2)


def found(path, stdin=None, **options):
    with open_input(path, Reading(scope=Scope("u"), **options), stdin=stdin) as opened:
        return opened.format


CASES = [
    ("a.jsonl", RECORD, "jsonl"),
    ("a.ndjson", RECORD + "\n" + RECORD, "jsonl"),
    ("a.JSONL.GZ", "not json", "jsonl"),
    ("a.jsonl", '{"broken\n' + RECORD + "\n", "jsonl"),
    ("a.jsonl", '{"broken', "jsonl"),
    ("a.jsonl", "", "jsonl"),
    ("a.json", RECORD + "\n" + RECORD, "jsonl"),
    ("a.json", '{"broken\n' + RECORD + "\n", "jsonl"),
    ("a.json", f"[{RECORD}]", "json"),
    ("a.json", PRETTY, "json"),
    ("a.json", json.dumps({"memory": "x"}, indent=2), "json"),
    ("a.json", "[1,\n", "json"),
    ("a.json", "", "json"),
    ("a.json", '{"a" 1,\n "b": 2}', "json"),
    ("a.json", '{"results": [{"content": "x"}]}', "json"),
    ("a.json", '{"results": [{"memory": "x"}]}', "mem0"),
    ("a.json", '{"next": {"results": 1},\n"results": [\n{"id": 1, "memory": "x"}]}', "mem0"),
    ("a.json", '[{"id": 1, "memory": "x", "hash": "h"}]', "mem0"),
    ("a.json", '[{"title": "x", "mapping": {"a": {"memory": 1}}}]', "chatgpt"),
    ("a.json", '{"title": "x", "mapping": {}}', "chatgpt"),
    ("a.json", '[{"uuid": 1, "chat_messages": []}]', "claude"),
    ("a.json", '[{"uuid": 1, "user_id": "u", "chat_messages": []}]', "json"),
    ("a.json", "[" + "\n" * 70_000 + '{"uuid": 1, "chat_messages": []}]', "json"),
    ("a.json", '[{"title": "x", "mapping": {}, "memory": "x"}]', "json"),
    ("a.json", LONG, "json"),
    ("a.csv", "memory", "csv"),
    ("a.tsv", "memory\tx", "tsv"),
    ("a.txt", "memory,x", "text"),
    ("a.md", "[x]", "text"),
    ("-", RECORD, "jsonl"),
    ("-", '"bare"\n"strings"', "jsonl"),
    ("-", f"\n \n[{RECORD}]", "json"),
    ("-", PRETTY, "json"),
    ("-", json.dumps({"memory": "x"}, indent=2) * 2, "json"),
    ("-", '{"memory": "' + "x" * 70_000 + '"}\n' + RECORD, "jsonl"),
    ("-", '{"results": [{"memory": "' + "x" * 70_000, "mem0"),
    ("-", '{"results": [{"note": "' + "x" * 70_000, "json"),
    ("-", "[INFO] started\n[INFO] done", "text"),
    ("-", "memory,user\nx,y\n", "csv"),
    ("-", "user;Note\nx;y\n", "csv"),
    ("-", "user\ttext\nx\ty\n", "tsv"),
    ("-", "likes tea, and coffee\nlikes milk, and water, and more", "text"),
    ("-", "one line", "text"),
    ("-", "", "text"),
    ("a.log", RECORD + "\n", "jsonl"),
]


@pytest.mark.parametrize(("name", "text", "expected"), CASES)
def test_by_name_then_by_content(tmp_path, name, text, expected):
    if name == "-":
        for step in (1 << 20, 1000 if len(text) > 1000 else 1):
            assert found("-", by_steps(text.encode(), step)) == expected
    else:
        assert found(written(tmp_path, text, name)) == expected


@pytest.mark.parametrize(
    ("name", "text", "candidates"),
    [
        ("a.jsonl", f"[{RECORD}]", "jsonl or json"),
        ("a.jsonl", '[{"title": "x", "mapping": {}}]', "jsonl or chatgpt"),
        ("a.jsonl", PRETTY[1:], "jsonl or json"),
        ("a.txt", RECORD, "text or jsonl"),
        ("-", '{"a" 1}\n{"b" 1}\n', "jsonl or json"),
        ("-", '"note"\n"x"\n', "csv or jsonl"),
        ("-", "memory\nx\n", "csv or text"),
        ("-", "Date;Remark\n2026;x\n", "text or csv"),
    ],
)
def test_what_could_be_two_is_asked(tmp_path, name, text, candidates):
    path = name if name == "-" else written(tmp_path, text, name)
    stdin = by_steps(text.encode(), 5)
    with pytest.raises(UsageError, match=candidates) as caught:
        found(path, stdin)
    assert "--format" in (caught.value.hint or "")
    chosen = candidates.split()[0]
    assert (
        found(path, by_steps(text.encode(), 5), format=chosen, mapping={"memory": "Remark"} if "Remark" in text else {})
        == chosen
    )
