"""Tables: columns by name, cells with more than text in them, and stray quotes that must not swallow the file."""

from __future__ import annotations

import pytest
from readers.tools import piped, read, read_with, records, rejects, where, written

from powermem_cli.errors import UsageError
from powermem_cli.model import Message, Record, Rejected, Scope
from powermem_cli.readers import Position
from powermem_cli.times import parse_time


def table(text, **options):
    return piped(text if isinstance(text, bytes) else text.encode(), **{"format": "csv", **options})


def test_columns_by_name():
    text = (
        "Memory,USER,Session_ID,id,created_at,infer,Mood,metadata\r\n"
        'likes tea,u1,s,7,2026-03-01,no,good,"{""a"": 1}"\r\n'
        '"two\r\nlines, ""quoted""",,,,,,,\r\n'
        '  kept ,u2,,,1700000000,TRUE," ",\r\n'
    )
    first, second, third = records(table(text))
    assert (first.memory, first.scope, first.key, first.infer) == ("likes tea", Scope("u1", None, "s"), "7", False)
    assert first.metadata == {"Mood": "good", "a": 1}
    assert first.created_at == parse_time("2026-03-01")
    assert (second.memory, second.scope, second.metadata) == ('two\r\nlines, "quoted"', Scope(), {})
    assert (third.memory, third.infer, third.metadata) == ("  kept ", True, {"Mood": " "})
    head = text.index("\r\n") + 2
    assert [item.source.line for item in (first, second, third)] == [2, 3, 5]
    assert [item.source.lines for item in (first, second, third)] == [1, 2, 1]
    assert first.source.byte == head
    assert second.source.byte == first.source.byte + first.size
    assert third.source.byte + third.size == len(text)


def test_a_cell_with_messages():
    text = 'messages,user\n"[{""role"": ""user"", ""content"": ""hi""}]",u\nhello,u\n"[{""role"": 1",u\n'
    first, second, bad = table(text)
    assert first.messages == (Message("user", "hi"),)
    assert second.messages == (Message("user", "hello"),)
    assert isinstance(bad, Rejected)
    assert bad.message == "messages: not valid JSON: expecting ',' delimiter (character 12)"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen_in_the_header(delimiter):
    for header in (["id", "memory"], ['"memory"', "x y"], ["note", "when", "who"]):
        row = ["a, b; c | d\te", *["x"] * (len(header) - 1)]
        if header[0] == "id":
            row.reverse()
        text = "\n".join(
            delimiter.join(f'"{cell}"' if n else cell for cell in line) for n, line in enumerate((header, row))
        )
        [record] = records(table(text))
        assert record.memory == "a, b; c | d\te"


def test_one_column_has_no_delimiter():
    assert [item.memory for item in records(table("note\nx\ny"))] == ["x", "y"]
    with pytest.raises(UsageError, match="can be split by ',' and by ';'"):
        table("memory,a;memory\n")
    assert table("memory,a;memory\n1,2\n", delimiter=",")[0].memory == "1"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("a,b", "no column with a memory or with messages; its columns are a, b"),
        ("memory,", "column 2 of the header has no name"),
        ("memory,x,X", "the column 'x' twice"),
        ('"memory,x', "quote that is not closed"),
        (b"memory,\xff", "the first line is no header"),
        (b"memory,\0", "the first line is no header"),
    ],
)
def test_a_header_that_is_none(header, says):
    with pytest.raises(UsageError, match=says):
        table(header)


def test_map_says_which_column_is_what():
    text = "Note,Subject,Customer\nlikes tea,drinks,c1\n"
    [record] = records(table(text, mapping={"memory": "note", "metadata.topic": "SUBJECT", "user_id": "Customer"}))
    assert (record.memory, record.scope.user_id, record.metadata) == ("likes tea", "c1", {"topic": "drinks"})
    with pytest.raises(UsageError, match="no column 'subjct'") as caught:
        table(text, mapping={"metadata.topic": "subjct"})
    assert "did you mean Subject?" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        table("Remark,x\n")
    assert caught.value.hint == "say which one it is, as in --map memory=Remark"


def test_a_mapped_cell_is_a_cell_too():
    text = 'chat,say,more,how\n"[{""role"": ""user"", ""content"": ""hi""}]",,"{""a"": 1}",no\n,hello,,\n'
    mapping = {"messages": "chat", "memory": "say", "metadata": "more", "infer": "how", "metadata.b": "more"}
    first, second = records(table(text, mapping=mapping))
    assert (first.messages, first.infer) == ((Message("user", "hi"),), False)
    assert first.metadata == {"a": 1, "b": '{"a": 1}'}
    assert (second.memory, second.metadata, second.infer) == ("hello", {}, None)


def test_rows_in_which_nothing_is_written_are_blank():
    assert [item.source.line for item in records(table("memory,user\n\na,b\n  \n,\n\r\nc,d\n"))] == [3, 7]
    assert table("") == []
    assert table("memory,user\n") == []
    assert table("\n \n") == []


def test_a_row_of_another_length_is_a_reject():
    text = "memory,user\na,b\nc\nd,e,f\ng,h\n"
    items = table(text)
    assert [item.source.line for item in items] == [2, 3, 4, 5]
    short, long = rejects(items)
    assert (short.code, where(short), short.raw) == ("input.columns", (3, None, 16, 2), "c\n")
    assert (long.message, long.raw) == ("3 cells where the header has 2", "d,e,f\n")


def test_a_row_without_content_is_a_reject_with_its_cells():
    [bad] = table("memory,user\n,u\n")
    assert isinstance(bad, Rejected)
    assert (bad.code, bad.raw) == ("input.missing", '{"memory": "", "user": "u"}')


def test_a_stray_quote_takes_no_other_row_with_it():
    rows = [f"m{n},u" for n in range(3000)]
    rows[5] = '"m5,u'
    items = table("memory,user\n" + "\n".join(rows) + "\n")
    assert [item.memory for item in items if isinstance(item, Record)] == [f"m{n}" for n in range(3000) if n != 5]
    [bad] = rejects(items)
    assert (bad.code, where(bad), bad.raw) == ("input.quote", (7, 1, 12 + 25, 6), '"m5,u\n')
    assert bad.message == "this quote is not closed within 1,000 lines or 16 MiB (byte 37)"


def test_the_quote_that_runs_away_may_be_that_of_a_later_cell():
    text = 'a,memory,b\n"two\nlines",x,"open\nc,d,e\n'
    bad, good = table(text)
    assert isinstance(bad, Rejected)
    assert (bad.code, where(bad)) == ("input.quote", (3, 10, 11, 20))
    assert bad.source.lines == 1, "what comes next is line 4"
    assert bad.message == "this quote is never closed (byte 25)"
    assert isinstance(good, Record)
    assert where(good) == (4, None, 31, 6)


def test_text_behind_a_closing_quote():
    bad, good = table('memory,user\n"say "hi" now",u\nx,y\n')
    assert isinstance(bad, Rejected)
    assert (bad.code, where(bad)) == ("input.quote", (2, 1, 12, 17))
    assert isinstance(good, Record)


@pytest.mark.parametrize(("lines", "fits"), [(1000, True), (1001, False)])
def test_the_longest_cell(lines, fits):
    cell = "\n".join(["x"] * lines)
    items = table(f'memory,b\n"{cell}","{cell}"\nlast,b\n')
    assert items[-1].memory == "last"
    assert bool(rejects(items)) is not fits
    if fits:
        assert items[0].memory == cell


def test_a_cell_over_16_mib_is_given_up():
    line = "x" * (1 << 20)
    items = table('b,memory\nb,"' + "\n".join([line] * 17) + '"\nb,last\n')
    assert [item.memory for item in items if isinstance(item, Record)] == ["last"]
    assert [item.source.line for item in rejects(items)] == list(range(2, 19))
    assert (items[0].code, items[1].code) == ("input.quote", "input.columns")


def test_a_row_over_16_mib_is_given_up():
    cell = "\n".join(["x" * (1 << 20)] * 9)
    items = table(f'b,memory\n"{cell}","{cell}"\nb,last\n')
    assert items[-1].memory == "last"
    assert (items[0].code, items[0].source.line, items[0].source.lines) == ("input.quote", 10, 1)


def test_a_line_over_the_limit_ends_a_quoted_cell():
    items = table(b'memory,b\n"open\n' + b"x" * (17 << 20) + b"\nlast,b\n")
    assert [(item.source.line, getattr(item, "code", None)) for item in items] == [
        (2, "input.quote"),
        (3, "input.too_long"),
        (4, None),
    ]


def test_invalid_bytes_and_nulls_reject_the_row():
    items = table(b'memory,user\n\xff,a\nok,b\n"two\n\xc3",c\nnu\0l,d\nend,e\n')
    assert [item.memory for item in items if isinstance(item, Record)] == ["ok", "end"]
    byte, cell, null = rejects(items)
    assert (byte.code, where(byte)) == ("input.encoding", (2, 1, 12, 4))
    assert (cell.code, where(cell), cell.source.lines) == ("input.encoding", (5, 1, 21, 10), 1)
    assert (null.code, where(null)) == ("input.character", (6, 3, 31, 7))


@pytest.mark.parametrize("encoding", [None, "cp1252"])
def test_an_invalid_byte_before_a_stray_quote_is_what_is_named(encoding):
    bad, good = table(b'memory,user\n\x81\x81,"x" y\na,b\n', encoding=encoding)
    assert isinstance(bad, Rejected)
    assert (bad.code, where(bad)) == ("input.encoding", (2, 1, 12, 9))
    assert isinstance(good, Record)
    later, middle, last = table(b'memory,user\n"a" b,u\n\x81,u\nc,d\n', encoding=encoding)
    assert [item.code for item in (later, middle)] == ["input.quote", "input.encoding"]
    assert isinstance(last, Record)


def test_a_carriage_return_within_a_row():
    bad, good = table("memory,user\na\rb,c\nd,e\r\n")
    assert isinstance(bad, Rejected)
    assert bad.code == "input.csv"
    assert isinstance(good, Record)


@pytest.mark.parametrize("tail", ["half", b"half\xc3", '"half', 'half,"', '"a\nb"', '"a" b'])
def test_a_last_row_that_is_not_all_there_is_left_for_the_next_run(tmp_path, tail):
    text = b"memory,user\na,b\n" + (tail if isinstance(tail, bytes) else tail.encode())
    opened, items = read_with(written(tmp_path, text, "a.csv"))
    assert len(records(items)) == 1
    assert opened.unfinished is not None
    assert (opened.unfinished.line, opened.unfinished.byte) == (3, 16)
    assert rejects(table(text))


def test_a_quote_that_was_opened_lines_ago_is_not_left_for_the_next_run(tmp_path):
    opened, items = read_with(written(tmp_path, 'memory,user\n"a,b\nc,d\ne,f', "a.csv"))
    assert [item.source.line for item in items] == [2, 3, 4]
    assert opened.unfinished is None


def test_tsv_is_split_by_tabs_alone(tmp_path):
    [record] = records(read(written(tmp_path, "memory\tuser\na,b;c\tu\n", "a.tsv")))
    assert (record.memory, record.scope.user_id) == ("a,b;c", "u")


def test_reading_on_needs_the_header_again(tmp_path):
    text = 'memory,user\n"a\nb",u\nc,d\n'
    path = written(tmp_path, text, "a.csv")
    first, second = records(read(path))
    start = Position(first.source.byte + first.size, first.source.line + first.source.lines)
    assert read(path, start=start) == [second]
    assert read(path, start=Position(5, 1)) == [first, second], "within the header"
    assert read(path, start=Position(len(text), 5)) == []
