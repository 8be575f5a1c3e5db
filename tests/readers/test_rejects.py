"""The rejects file: what was set aside can be mended and added again as it is."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from readers.strategies import any_record
from readers.tools import bare, piped, records, rejects, written

from powermem_cli.errors import InvalidInput, ProviderError
from powermem_cli.identity import identify
from powermem_cli.model import Record, Rejected, Scope, Source
from powermem_cli.readers import Reading, as_reject_line, as_row, open_input
from powermem_cli.readers.strict_json import parse


def set_aside(data, reading, *, path="-", stdin=None):
    """The records, and the lines that a run would write for the rejects."""
    with open_input(path, reading, stdin=stdin or io.BytesIO(data)) as opened:
        items = list(opened)
        return items, [as_reject_line(item, reading=opened.reading) for item in rejects(items)]


def again(lines, **options):
    return piped("".join(f"{line}\n" for line in lines).encode(), **options)


def test_a_line_says_where_and_why_and_keeps_the_piece(tmp_path):
    path = written(tmp_path, '{"memory": "ok"}\n{"memory": 5, "user": "u"}\n{"memory": "x" "user": "u"}\n')
    _, [wrong, broken] = set_aside(b"", Reading(), path=path)
    assert json.loads(wrong) == {
        "file": path,
        "line": 2,
        "column": None,
        "byte": 17,
        "code": "input.type",
        "message": "memory must be text, not a number",
        "record": {"memory": 5, "user": "u"},
    }
    assert json.loads(broken) == {
        "file": path,
        "line": 3,
        "column": 16,
        "byte": 44,
        "code": "input.json",
        "message": "not valid JSON: expecting ',' delimiter (byte 59)",
        "raw": '{"memory": "x" "user": "u"}',
    }


def test_mended_lines_become_the_records_they_should_have_been():
    reading = Reading(scope=Scope("u"), mapping={"memory": "t.m"}, metadata={"z": 1}, infer=False)
    rows = [{"t": {"m": "good"}, "id": n} for n in range(3)]
    wanted = records(piped("\n".join(map(json.dumps, rows)).encode(), reading))
    rows[1]["t"]["m"] = 7
    data = f"{json.dumps(rows[0])}\n{json.dumps(rows[1])}\n{json.dumps(rows[2])[:-1]}\n"
    _, lines = set_aside(data.encode(), reading)
    mended = [lines[0].replace('"m": 7', '"m": "good"'), lines[1].replace('2"', '2}"')]
    assert bare(again(mended)) == bare(wanted[1:]), "without any option on the command line"
    assert [identify(item) for item in records(again(mended))] == [identify(item) for item in wanted[1:]]


def test_a_row_of_a_table_is_read_as_one_again():
    text = 'note;user;messages;infer\n;u;"[{""role"": ""user"", ""content"": ""hi""]";no\nx;;;maybe\ny;u\n'
    _, lines = set_aside(text.encode(), Reading(format="csv", mapping={"memory": "note"}))
    assert [json.loads(line)["options"]["format"] for line in lines] == ["csv"] * 3
    assert json.loads(lines[0])["record"]["user"] == "u"
    first, second = records(again([lines[0].replace('\\"hi\\"]', '\\"hi\\"}]'), lines[1].replace("maybe", "Yes")]))
    assert (first.messages[0].content, first.scope, first.infer) == ("hi", Scope("u"), False)
    assert (second.memory, second.infer) == ("x", True)
    [still] = rejects(again([lines[2]]))
    assert "raw is not valid JSON" in still.message
    mended = json.loads(lines[2])
    mended["record"] = {"note": "y", "user": "u"}
    assert records(again([json.dumps(mended)]))[0].memory == "y"


def test_a_conversation_of_another_program_is_read_as_one_again():
    tree = {"mapping": {"a": {"message": None, "parent": None}}, "current_node": "b", "conversation_id": "c"}
    _, [line] = set_aside(json.dumps([tree]).encode(), Reading(format="chatgpt", scope=Scope("anna")))
    said = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hi"]}}
    mended = json.loads(line)
    mended["record"]["current_node"] = "a"
    mended["record"]["mapping"]["a"]["message"] = said
    [record] = records(again([json.dumps(mended)]))
    assert (record.messages[0].content, record.scope, record.key) == ("hi", Scope("anna"), "c")


def test_a_line_that_is_set_aside_twice_stays_what_it_is():
    reading = Reading(format="jsonl", scope=Scope("u"))
    _, lines = set_aside(b'{"memory": 1}\n{"memory" 1}\n"a\0b"\n\xff\n', reading)
    pieces = [{name: json.loads(line).get(name) for name in ("record", "raw", "options")} for line in lines]
    for _ in range(3):
        data = "".join(f"{line}\n" for line in lines).encode()
        items, lines = set_aside(data, Reading())
        assert len(rejects(items)) == 4
        assert [{name: json.loads(line).get(name) for name in ("record", "raw", "options")} for line in lines] == pieces


@pytest.mark.parametrize(
    "options",
    [
        5,
        {"what": 1},
        {"format": "auto"},
        {"format": ["csv"]},
        {"map": {"memory": 1}},
        {"map": {"no": "x"}},
        {"map": []},
        {"user_id": []},
        {"metadata": []},
        {"infer": "no"},
    ],
)
def test_options_that_are_none(options):
    line = {"code": "x", "message": "y", "record": {"memory": "z"}, "options": options}
    [bad] = rejects(again([json.dumps(line)]))
    assert bad.code.startswith(("input.", "usage."))


def test_lines_of_several_jobs_in_one_file():
    _, ours = set_aside(b'{"x": 1}\n', Reading(format="jsonl", scope=Scope("a"), mapping={"memory": "x"}))
    _, theirs = set_aside(b'{"y": 1}\n', Reading(format="jsonl", scope=Scope("b"), mapping={"memory": "y"}))
    lines = [line.replace(": 1}", f': "{n}"}}') for n, line in enumerate([*ours, *theirs] * 2)]
    assert [(item.memory, item.scope.user_id) for item in records(again(lines))] == [
        ("0", "a"),
        ("1", "b"),
        ("2", "a"),
        ("3", "b"),
    ]


def test_only_a_line_of_rejects_is_unwrapped():
    [record] = records(again(['{"memory": "x", "code": 5, "message": "hi"}']))
    assert record.metadata == {"code": 5, "message": "hi"}


def test_a_record_that_failed_is_kept_with_all_it_has():
    error = ProviderError("no", provider="p", code="provider.timeout")
    record = Record(memory="x", scope=Scope("u"), key="k", metadata={"a": [1]}, created_at=1, infer=False)
    line = as_reject_line(record, error)
    assert json.loads(line) == {
        "file": None,
        "line": None,
        "column": None,
        "byte": None,
        "code": "provider.timeout",
        "message": "p: no",
        "record": {
            "memory": "x",
            "user_id": "u",
            "key": "k",
            "metadata": {"a": [1]},
            "created_at": "1970-01-01T00:00:00.000001Z",
            "infer": False,
        },
    }
    assert bare(again([line])) == [record]


def test_names_and_texts_that_no_strict_reader_takes():
    bad = Rejected("x", "U+0000 \0", Source("a\udcff\0.jsonl", 1, 0), 'raw \0 \udcff "')
    assert json.loads(as_reject_line(bad)) == parse(as_reject_line(bad))
    assert json.loads(as_reject_line(bad))["raw"] == 'raw \\u0000 \\udcff "'


def test_a_piece_full_of_delete_characters_does_not_make_the_rejects_binary():
    bad = Rejected("x", "y", Source("a.txt", 1, 0), json.dumps("\x7f" * 100))
    [record] = records(again([as_reject_line(bad)]))
    assert record.memory == "\x7f" * 100


@given(any_record)
def test_every_record_comes_back(record):
    assert bare(again([as_reject_line(record, InvalidInput("x"))])) == [record]
    assert bare(again([json.dumps(as_row(record), ensure_ascii=True)])) == [record]
