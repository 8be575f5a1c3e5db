"""Documents of JSON: where each record is, and how far a bad one reaches."""

from __future__ import annotations

import json

import pytest
from readers.tools import by_steps, piped, read, read_with, records, rejects, where, written

from powermem_cli.model import Record, Rejected
from powermem_cli.readers import Position


def memories(items):
    return [item.memory for item in items if isinstance(item, Record)]


@pytest.mark.parametrize(
    "text",
    [
        '[{"memory": "a"}, "b", {"memory": "c"}]',
        '[{"memory": "a"},\r\n"b"\r\n,{"memory": "c"}]\r\n',
        '{"results": [{"memory": "a"}, "b", {"memory": "c"}]}',
        '{"count": 3, "next": null, "results" : [{"memory": "a"}, "b", {"memory": "c"}], "relations": [{"memory": "no"}]}',
        '{"memory": "a"} "b"\n{"memory": "c"}',
        '[{"memory": "a"}]["b"]\n[]{"results": [{"memory": "c"}]}',
        json.dumps([{"memory": "a"}, "b", {"memory": "c"}], indent=4),
        '["a","b","c"]',
        '["a" "b",, "c",]',
    ],
)
def test_forms_of_a_document(text):
    assert memories(records(piped(text.encode(), format="json"))) == ["a", "b", "c"]


def test_records_know_where_they_stood(tmp_path):
    path = written(tmp_path, b'\xef\xbb\xbf[\n  {"memory":\n   "\xc3\xa4"}, {"memory": "b"}\n]', "a.json")
    opened, items = read_with(path)
    assert [where(item) for item in items] == [(2, 3, 7, 19), (3, 10, 28, 15)]
    assert [item.source.lines for item in items] == [1, 0]
    assert (opened.format, opened.resumable) == ("json", False)
    assert read(path, start=Position(29, 3)) == items, "from the start: it can't be resumed"


@pytest.mark.parametrize("text", ["", " \n ", "[]", "[ ]\n", '{"results": []}', "[],[]"])
def test_nothing_in_it(text):
    assert piped(text.encode(), format="json") == []


@pytest.mark.parametrize(
    ("bad", "code", "place"),
    [
        ('{"memory": "x" "y": 1}', "input.json", (2, 17)),
        ('{"a": 1, "a": 2}', "input.duplicate_key", (2, 11)),
        ('{"a":\n\n   NaN}', "input.number", (4, 4)),
        ('{"a": [1, 2}', "input.json", (2, 13)),
        ('{"a": 1]}', "input.json", (2, 9)),
        ('{"a": "\\ud800"}', "input.character", (2, 8)),
        ("nul", "input.json", (2, 2)),
        ("12", "input.type", (2, 2)),
        ("[]", "input.type", (2, 2)),
        ('{"a": ' + "[" * 500 + "]" * 500 + "}", "input.too_deep", (2, 107)),
        ('{"memory": "it is 5" long", "x": "y"}', "input.json", (2, 23)),
        ('{\n   "memory": "it is 5" long",\n   "x": ["y"]\n }', "input.json", (3, 24)),
        ('{"memory": "never closed}', "input.json", (2, 28)),
    ],
)
def test_a_bad_record_is_one_reject_and_the_next_is_read(bad, code, place):
    text = f'[{{"memory": "first"}},\n {bad},\n {{"memory": "last"}}\n]'
    items = piped(text.encode(), format="json")
    assert memories(items) == ["first", "last"]
    [reject] = rejects(items)
    assert (reject.code, (reject.source.line, reject.source.column)) == (code, place)
    assert (reject.source.byte, text.encode()[reject.source.byte :][: len(bad)]) == (23, bad.encode())
    assert reject.raw.strip().rstrip(",") == bad


def test_an_invalid_byte_is_named():
    items = piped(b'[{"memory": "a"},\n {"memory": "\xc3\xa4\xc3"}, "c"]', format="json")
    assert memories(items) == ["a", "c"]
    [reject] = rejects(items)
    assert (reject.code, where(reject)) == ("input.encoding", (2, 15, 19, 17))
    assert reject.message == "invalid UTF-8 byte 0xc3 (byte 33)"


@pytest.mark.parametrize("end", ["", ",", ',\n {"memory": "ha', ', {"memory": "b"', ', "b', ', {"a": [1, {'])
def test_a_document_that_ends_too_early(tmp_path, end):
    """All that is whole, then one reject, in a file as in a pipe."""
    text = '[{"memory": "a"}' + end
    for items in (piped(text.encode(), format="json"), read(written(tmp_path, text, "a.json"))):
        [first, reject] = items
        assert isinstance(first, Record)
        assert isinstance(reject, Rejected)
        assert reject.code == "input.truncated"
        assert reject.source.byte + reject.size == len(text)


@pytest.mark.parametrize(
    "rest", [', "rel": [1}', ', "rel": 1][{"memory": "x"}]', ' "rel": 1}', ', "a": 1, "a": 2}', ', "a": "x\n}']
)
def test_a_bad_end_of_the_object_around_the_records_is_no_silence(rest):
    items = piped(('{"results": [{"memory": "a"}]' + rest).encode(), format="json")
    assert memories(items)[0] == "a"
    assert rejects(items)


def test_an_object_with_results_that_is_a_record_itself():
    row = {"memory": "x", "results": [{"memory": "y"}]}
    [record] = records(piped(json.dumps(row).encode(), format="json"))
    assert (record.memory, record.metadata) == ("x", {"results": [{"memory": "y"}]})
    [record] = records(piped(rb'{"a\"results": ["q"], "memory": "x"}', format="json"))
    assert record.metadata == {'a"results': ["q"]}


@pytest.mark.parametrize("shift", ["", "y"])
def test_a_record_over_the_limit_is_passed_by(shift):
    """Also where the pieces that are read end between a backslash and what it escapes."""
    long = '{"memory": "' + "x" * (17 << 20) + shift + "\\\\" * (1 << 19) + '\\"{[' * 1000 + '"}'
    items = piped(f'[{{"memory": "a"}},\n{long},{{"memory": "c"}}]'.encode(), format="json")
    assert memories(items) == ["a", "c"]
    [reject] = rejects(items)
    assert (reject.code, where(reject)) == ("input.too_long", (2, 1, 18, len(long)))
    assert len(reject.raw) < 2000
    assert where(items[2]) == (2, len(long) + 2, 19 + len(long), 15)


def test_a_pretty_document_in_small_pieces():
    rows = [{"memory": f"m{n}", "metadata": {"tags": ["a", {"b": "]}"}]}} for n in range(5)]
    data = json.dumps(rows, indent=2).encode()
    whole = piped(data, format="json")
    assert memories(records(whole)) == [f"m{n}" for n in range(5)]
    assert [item.source.line for item in whole] == [2 + 11 * n for n in range(5)]
    assert [item.source.lines for item in whole] == [10] * 5
    for step in (1, 2, 3, 50):
        assert piped(by_steps(data, step), format="json") == whole
