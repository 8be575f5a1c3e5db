"""Lines of JSON: what is a record, what is rejected and exactly where, what is left for the next run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from readers.tools import piped, read, read_with, records, rejects, where, written

from powermem_cli.model import Message, Record, Rejected, Scope
from powermem_cli.readers import Position

GOOD = b'{"memory": "ok"}\n'


def test_records_know_where_they_stood(tmp_path):
    path = written(tmp_path, b'\xef\xbb\xbf{"memory": "a"}\r\n\n  \n"b"\n{"memory": "c"}')
    items = read(path)
    assert [item.memory for item in records(items)] == ["a", "b", "c"]
    assert [where(item) for item in items] == [(1, None, 3, 17), (4, None, 24, 4), (5, None, 28, 15)]
    assert [item.source.lines for item in items] == [1, 1, 0]
    assert items[0].source.file == path


def test_a_conversation():
    line = (
        '{"messages": [{"role": "User", "content": "hi"}, {"role": "assistant", "content": "hello"}], "user_id": "u"}'
    )
    [record] = records(piped(line.encode()))
    assert record == Record(
        (Message("user", "hi"), Message("assistant", "hello")), scope=Scope("u"), source=record.source, size=len(line)
    )


@pytest.mark.parametrize(
    ("line", "code", "column", "says"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "input.duplicate_key", 24, '"c" is there twice'),
        ('{"a": 1, "\\u0061": 2}', "input.duplicate_key", 10, '"a" is there twice'),
        ('{"ä": 1, "ä" : 2}', "input.duplicate_key", 10, '"ä" is there twice'),
        ('{"a": NaN}', "input.number", 7, "NaN"),
        ('{"a": [1, -Infinity]}', "input.number", 11, "-Infinity"),
        ('{"a": 1e999}', "input.number", 7, "1e999"),
        ('{"a": -' + "9" * 1001 + "}", "input.number", 7, "1,002 digits"),
        ('{"a": 0.' + "9" * 2000 + "}", "input.number", 7, "2,002 digits"),
        ('{"a": "x\\ud800y"}', "input.character", 7, "lone surrogate U+D800"),
        ('{"a": "\\\\\\ud83d\\\\ude00"}', "input.character", 7, "lone surrogate U+D83D"),
        ('{"\\udc00": 1}', "input.character", 2, "lone surrogate U+DC00"),
        ('{"a": "x\\u0000"}', "input.character", 7, "U+0000"),
        ('{"a": "x\0"}', "input.json", 9, "control character"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "input.too_deep", 106, "more than 100 deep"),
        ('{"a": "\\\\", "b": ' + "[" * 100 + "]" * 100 + "}", "input.too_deep", 117, "more than 100 deep"),
        ("[" * 200_000, "input.too_deep", 101, "more than 100 deep"),
        ('{"a":' * 50_000, "input.too_deep", 501, "more than 100 deep"),
        ('{"memory": "x"', "input.json", 15, "expecting ',' delimiter"),
        ('{"memory": "x" "y": 1}', "input.json", 16, "expecting ',' delimiter"),
        ('{"memory": "x"} {}', "input.json", 17, "something follows"),
        ("tru", "input.json", 1, "expecting value"),
        ('  {"memory": }', "input.json", 14, "expecting value"),
        ("\ufeff{}", "input.json", 1, "expecting value"),
    ],
)
def test_what_is_no_json_names_the_place(line, code, column, says):
    first, bad, last = piped(GOOD + line.encode() + b"\n" + GOOD)
    assert isinstance(bad, Rejected)
    assert (bad.code, where(bad)) == (code, (2, column, len(GOOD), len(line.encode()) + 1))
    assert says in bad.message
    byte = len(GOOD) + len(line[: column - 1].encode())
    assert bad.message.endswith(f"(byte {byte:,})")
    assert bad.raw == line
    assert isinstance(first, Record)
    assert isinstance(last, Record)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("12", "input.type", "an object or a string"),
        ("[]", "input.type", "an object or a string"),
        ('""', "input.empty", "memory is empty"),
        ("{}", "input.missing", "neither messages nor memory"),
        ('{"body": "x", "user_id": "u"}', "input.missing", "is there, but body: --map memory=body takes one of them"),
        ('{"text": 5}', "input.type", "text must be text"),
        ('{"messages": [{"role": "user", "content": " "}]}', "input.empty", "no text"),
        ('{"messages": [{"role": ["user"], "content": "x"}]}', "input.type", "role"),
        ('{"note": "x", "user": ["u"]}', "input.type", "user_id"),
        ('{"note": "x", "created_at": "yesterday"}', "input.time", "created_at: 'yesterday' is no time"),
    ],
)
def test_what_is_json_but_no_record(line, code, says):
    [bad] = rejects(piped(line.encode() + b"\n", format="jsonl"))
    assert (bad.code, where(bad), bad.raw) == (code, (1, None, 0, len(line) + 1), line)
    assert says in bad.message


def test_what_only_looks_suspicious_is_read():
    lines = [
        r'{"memory": "\\ud800 \\u0000 \ud83d\ude00"}',
        '{"memory": "a\u2028b\u2029c\x85d\x0b"}'.replace("\x0b", ""),
        '{"memory": "\\"a\\": 1, \\"a\\": 2, [[[[{{{{"}',
        '{"memory": "x", "n": [' + ", ".join(['{"a": []}'] * 200) + "]}",
        '{"memory": "x", "n": ' + "[" * 99 + "]" * 99 + "}",
        '{"memory": "x", "n": 1e308, "m": -0.0}',
    ]
    items = records(piped("\n".join(lines).encode()))
    assert [item.memory for item in items[:3]] == [
        "\\ud800 \\u0000 😀",
        "a\u2028b\u2029c\x85d",
        '"a": 1, "a": 2, [[[[{{{{',
    ]
    assert len(items) == len(lines)


def test_an_invalid_byte_is_named():
    first, bad, last = piped(GOOD + 'ä{"memory": "ä'.encode() + b"\xff" + b'"}\n' + GOOD)
    assert isinstance(bad, Rejected)
    assert (bad.code, where(bad)) == ("input.encoding", (2, 15, len(GOOD), 20))
    assert bad.message == f"invalid UTF-8 byte 0xff (byte {len(GOOD) + 16})"
    assert "\\xff" in bad.raw
    assert isinstance(first, Record)
    assert isinstance(last, Record)


@pytest.mark.parametrize("tail", [b'{"memory": "ha', b"{", b'"x', b'{"memory": "\xc3'])
def test_a_last_line_that_is_not_all_there_is_left_for_the_next_run(tmp_path, tail):
    opened, items = read_with(written(tmp_path, GOOD + tail))
    assert len(records(items)) == 1
    assert opened.unfinished is not None
    assert (opened.unfinished.line, opened.unfinished.byte) == (2, len(GOOD))
    # Nothing more will come through a pipe.
    [_, bad] = piped(GOOD + tail)
    assert isinstance(bad, Rejected)
    assert (bad.source.byte, bad.size, bad.source.lines) == (len(GOOD), len(tail), 0)


def test_a_file_at_stdin_is_all_there_is(tmp_path):
    with open(written(tmp_path, GOOD + b'{"half'), "rb") as stdin:  # noqa: PTH123
        assert [type(item) for item in piped(stdin)] == [Record, Rejected]


def test_a_last_line_that_is_whole_is_read(tmp_path):
    opened, items = read_with(written(tmp_path, GOOD + b'{"memory": "last"}'))
    assert [item.memory for item in records(items)] == ["ok", "last"]
    assert opened.unfinished is None
    _, [bad] = read_with(written(tmp_path, b'{"memory": ""}'))
    assert isinstance(bad, Rejected)  # more bytes will not make it a record


def test_a_growing_log_is_read_on_from_where_the_last_item_ended(tmp_path):
    """Pieces of any size: nothing is lost, nothing read twice but a line that had no newline yet."""
    data = b"".join(b'{"memory": "n%d"}\n' % n for n in range(12))
    path, seen, start = written(tmp_path, b""), [], None
    for end in range(0, len(data) + 1, 7):
        written(tmp_path, data[:end])
        for item in records(read(path, format="jsonl", start=start)):
            start = Position(item.source.byte + item.size, item.source.line + item.source.lines)
            seen.append((item.memory, item.source.line))
    written(tmp_path, data)
    seen += [(item.memory, item.source.line) for item in records(read(path, start=start))]
    assert list(dict.fromkeys(seen)) == [(f"n{n}", n + 1) for n in range(12)]


def test_a_line_over_the_limit_costs_no_memory(tmp_path):
    """64 MiB in one line: what the reader holds stays under 50 MB."""
    script = """
import resource, sys
from powermem_cli.readers import Reading, open_input
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_input(sys.argv[1], Reading()) as opened: list(opened)
before = peak()
with open_input(sys.argv[2], Reading()) as opened: items = list(opened)
assert len(items) == 3, items
assert items[1].code == "input.too_long", items[1]
assert items[1].size == int(sys.argv[3]) and len(items[1].raw) < 2000
assert items[2].source.line == 3
assert (peak() - before) * 1024 < 50e6, peak() - before
"""
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    small.write_bytes(GOOD)
    long = b'{"memory": "' + b"x" * (64 << 20) + b'"}\n'
    large.write_bytes(GOOD + long + GOOD)
    command = [sys.executable, "-c", script, str(small), str(large), str(len(long))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_limit_is_exact():
    most = 16 << 20
    fits = b'{"memory": "x", "a": "' + b"y" * (most - 24) + b'"}'
    assert len(fits) == most
    [one] = piped(fits + b"\n")
    assert (one.code, one.size) == ("input.too_long", most + 1)  # of the metadata, by the rules
    assert "metadata" in one.message
    [one] = piped(b" " + fits + b"\n")
    assert (one.code, one.size) == ("input.too_long", most + 2)
    assert "16 MiB" in one.message
    [one] = piped(b" " + fits)
    assert (one.code, one.size, one.source.lines) == ("input.too_long", most + 1, 0)
