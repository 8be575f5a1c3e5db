"""Bytes: gzip, encodings, pipes, files that are none; and how each of them ends."""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import threading
import zlib
from pathlib import Path

import pytest
from readers.tools import bare, by_steps, cut_at, piped, read, read_with, records, rejects, where, written

from powermem_cli.errors import UsageError
from powermem_cli.model import Record, Rejected
from powermem_cli.readers import Position, Reading, open_input
from powermem_cli.readers.base import CHUNK

LINES = [f'{{"memory": "no {n} ä😀"}}\n'.encode() for n in range(40)]
DATA = b"".join(LINES)


def memories(items):
    return [item.memory for item in items if isinstance(item, Record)]


ALL = [f"no {n} ä😀" for n in range(40)]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl", "a"])
def test_gzip_is_known_by_its_first_bytes(tmp_path, name):
    packed = gzip.compress(DATA)
    opened, items = read_with(written(tmp_path, packed, name))
    assert memories(records(items)) == ALL
    assert (opened.size, opened.consumed, opened.resumable) == (len(packed), len(packed), False)
    assert items == [*read(opened.name, start=Position(100, 3))], "from the start: it can't be resumed"
    assert piped(packed) == piped(DATA)
    assert [where(item) for item in items] == [where(item) for item in piped(DATA)]


@pytest.mark.parametrize("between", [b"", b"\0" * 1000])
def test_several_members_and_padding(between):
    packed = between.join(gzip.compress(DATA[at : at + 100]) for at in range(0, len(DATA), 100)) + gzip.compress(b"")
    for step in (1, 7, 1 << 20):
        assert memories(records(piped(by_steps(packed, step)))) == ALL


def test_a_truncated_gzip_gives_all_whole_lines_and_one_reject(tmp_path):
    packed = gzip.compress(DATA, 6)
    whole = zlib.decompressobj(31)
    for end in range(20, len(packed)):
        saved = whole.copy().decompress(packed[:end])
        for items in (piped(packed[:end]), read(written(tmp_path, packed[:end])) if end % 9 == 0 else []):
            if items:
                assert memories(items) == ALL[: saved.count(b"\n")]
                [reject] = rejects(items)
                assert reject is items[-1]
                assert (reject.code, reject.source.byte + reject.size) == ("input.truncated", len(saved))
                assert "gzip data ends too early" in reject.message


def test_what_the_inflater_still_holds_at_the_end_is_not_lost():
    """It gives no more than a chunk at once, and may have read all before it has given all."""
    line = b'{"memory": "' + b"no " * 2_000 + b'"}\n'  # few of them: what is in them is not the question
    for size in range(CHUNK + 1, CHUNK + 20, 2):
        packed = gzip.compress((line * (size // len(line) + 1))[:size])
        for cut in (9, 10):
            last = piped(packed[:-cut])[-1]
            assert isinstance(last, Rejected)
            assert last.source.byte + last.size == len(zlib.decompressobj(31).decompress(packed[:-cut]))


def test_a_damaged_gzip_gives_what_was_before_the_damage():
    packed = gzip.compress(b"".join(LINES * 300), 6)
    for place in range(100, len(packed), 997):
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        items = piped(bytes(damaged))
        assert isinstance(items[-1], Rejected)
        assert items[-1].code == "input.truncated"
        safe = zlib.decompressobj(31).decompress(packed[:place]).count(b"\n")
        assert memories(items)[:safe] == (ALL * 300)[:safe]
    [*good, last] = piped(packed[:-5] + b"\xff" + packed[-4:])
    assert memories(good) == ALL * 300
    assert "incorrect data check" in last.message
    [*good, last] = piped(packed + b"garbage")
    assert memories(good) == ALL * 300
    assert (last.message, last.size) == (f"after the gzip data comes something else (byte {len(DATA) * 300:,})", 0)


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_byte_order_marks(tmp_path, mark, encoding):
    lines = [line.decode().replace("no", "\u0a0a\u010a no").encode(encoding) for line in LINES]
    data = mark + b"".join(lines)
    path = written(tmp_path, data)
    opened, items = read_with(path, encoding="cp1252")
    assert memories(records(items)) == [f"\u0a0a\u010a {memory}" for memory in ALL]
    assert [item.source.byte for item in items] == [len(mark) + sum(map(len, lines[:n])) for n in range(40)]
    assert [item.size for item in items] == [len(line) for line in lines]
    assert opened.resumable
    assert read(path, start=Position(items[7].source.byte, 8)) == items[7:]
    assert bare(piped(gzip.compress(data))) == bare(items)
    document = mark + ("[" + ",\n".join(line.decode(encoding).strip() for line in lines) + "]").encode(encoding)
    records_of_document = records(piped(document))
    assert bare(records_of_document) == bare(items)
    assert document[records_of_document[3].source.byte :].startswith(lines[3][:-4])


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859-15", "cp037", "gb18030", "shift_jis", "utf-7"])
def test_other_encodings_when_they_are_named(tmp_path, encoding):
    texts = ["caf\xe9" if encoding in {"cp1252", "iso8859-15", "cp037"} else "東京、日本", "plain"]
    data = "".join(f'"{text}"\n' for text in texts).encode(encoding)
    opened, items = read_with(written(tmp_path, data), encoding=encoding)
    assert memories(records(items)) == texts
    assert opened.resumable is (encoding in {"cp1252", "iso8859-15", "cp037"})
    if opened.resumable:
        assert items[1].source.byte == items[0].size


def test_invalid_bytes_of_other_encodings():
    good, bad, last = piped(b'"a"\n"b\x81c"\n"d"\n', encoding="cp1252", format="jsonl")
    assert isinstance(bad, Rejected)
    assert bad.message == "invalid CP1252 byte 0x81 (byte 6)"
    assert (bad.source.column, bad.size) == (3, 6)
    utf16 = codecs.BOM_UTF16_LE + '"a"\n"b'.encode("utf-16-le") + b"\x00\xd8" + '"\n"c"\n'.encode("utf-16-le")
    good, bad, last = piped(utf16)
    assert isinstance(bad, Rejected)
    assert bad.message == "the lone surrogate U+D800 (byte 14)"
    assert [good.memory, last.memory] == ["a", "c"]
    good, torn = piped(codecs.BOM_UTF16_LE + '"a"\n"b'.encode("utf-16-le") + b"\x00", format="jsonl")
    assert good.memory == "a"
    assert torn.code == "input.truncated"
    assert "not utf-16-le" in torn.message


def test_utf_16_without_a_mark_must_be_told_apart():
    data = '{"memory": "a b c d e f"}\n'.encode("utf-16-le")
    with pytest.raises(UsageError, match="which utf-16 is it"):
        piped(data, encoding="utf-16")
    assert memories(piped(data, encoding="utf-16-le")) == ["a b c d e f"]
    with pytest.raises(UsageError) as caught:
        piped(data)
    assert "--encoding utf-16-le" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"SQLite format 3\0" + bytes(100), "an SQLite database"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (gzip.compress(gzip.compress(DATA, mtime=0), mtime=0), "gzip data within gzip data"),
        (gzip.compress(b"PAR1" + DATA, mtime=0), "Parquet"),
        (b"\x28\xb5\x2f\xfd" + DATA, "Zstandard"),
        (bytes(range(256)) * 4, "binary"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, says):
    for name in ("a.jsonl", "b.csv"):
        with pytest.raises(UsageError, match=says) as caught:
            read(written(tmp_path, data, name))
        assert caught.value.code == "input.binary"


def test_one_null_is_one_bad_record():
    assert [type(item) for item in piped(b'{"memory": "\0"}\n{"memory": "ok"}\n')] == [Rejected, Record]


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is a directory") as caught:
        read(str(tmp_path))
    assert f"-f '{tmp_path}/*.jsonl'" in (caught.value.hint or "")
    for path in (str(tmp_path / "none.jsonl"), "a\0b"):
        with pytest.raises(UsageError, match="cannot read"):
            read(path)
    if os.geteuid() != 0:
        secret = written(tmp_path, DATA)
        Path(secret).chmod(0)
        with pytest.raises(UsageError, match="Permission denied"):
            read(secret)


def test_size_and_consumed_of_a_plain_file(tmp_path):
    path = written(tmp_path, DATA * 500)
    with open_input(path, Reading()) as opened:
        assert opened.size == len(DATA) * 500
        assert opened.resumable
        seen = [opened.consumed for _ in opened]
    assert seen == sorted(seen)
    assert (seen[0] < seen[-1], seen[-1]) == (True, opened.size)
    with open_input(path, Reading(), start=Position(opened.size, 20_001)) as opened:
        assert list(opened) == []
        assert opened.consumed == opened.size


def test_an_empty_file(tmp_path):
    for name in ("a", "a.jsonl", "a.json", "a.csv", "a.txt", "a.gz"):
        opened, items = read_with(written(tmp_path, b"", name))
        assert (items, opened.unfinished) == ([], None)
    assert piped(b"") == piped(codecs.BOM_UTF8) == piped(gzip.compress(b"")) == []


def test_a_fifo(tmp_path):
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(DATA + b'{"memory": "cut',))
    writer.start()
    opened, items = read_with(str(path))
    writer.join()
    assert memories(items) == ALL
    assert (opened.size, opened.resumable, opened.unfinished) == (None, False, None)
    assert len(rejects(items)) == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_a_file_that_does_not_know_its_size():
    opened, items = read_with("/proc/self/status", format="text")
    assert len(records(items)) > 10
    assert (opened.size, opened.resumable) == (None, False)


def test_a_pipe_is_read_as_it_comes():
    """A record is there before the next one has been written; "nothing yet" is not the end."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    with os.fdopen(ours, "rb") as stdin, os.fdopen(theirs, "wb", buffering=0) as writer:
        writer.write(LINES[0] + LINES[1])
        with open_input("-", Reading(), stdin=stdin) as opened:
            assert os.get_blocking(ours)
            items = iter(opened)
            for n in range(30):
                assert next(items).memory == ALL[n]
                if n < 28:
                    writer.write(LINES[n + 2])
            writer.close()
            assert list(items) == []
        assert not stdin.closed, "it is not ours"
    assert opened.name == "-"


class Failing(io.BytesIO):
    number = errno.EIO

    def read1(self, size: int = -1) -> bytes:
        piece = super().read1(70)
        if not piece:
            raise OSError(self.number, os.strerror(self.number))
        return piece


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_read_that_fails_is_no_silent_end(monkeypatch, number):
    """As of a bad disk, or of a file that was replaced on another host of an NFS."""
    monkeypatch.setattr(Failing, "number", number)
    *good, bad = piped(Failing(LINES[0] + LINES[1] + b'"half'))
    assert memories(good) == ALL[:2]
    assert (bad.code, bad.size) == ("input.truncated", 5)
    assert os.strerror(number) in bad.message
    for packed in (gzip.compress(DATA), codecs.BOM_UTF16_LE + DATA.decode().encode("utf-16-le")):
        assert os.strerror(number) in piped(Failing(packed))[-1].message


@pytest.mark.parametrize("text", [DATA, b"[" + b",".join(LINES) + b"]"])
def test_cut_within_a_character(text):
    place = text.index("😀".encode())
    for at in range(place - 2, place + 6):
        assert piped(cut_at(text, at)) == piped(text)


@pytest.mark.parametrize(
    ("old", "more", "seen"),
    [
        (b"one\ntwo", b"", []),
        (b"one\ntwo", b"\n", ["two"]),
        (b"one\ntwo", b" three\nfour\n", ["two three", "four"]),
        (b"one", b" two", ["one two"]),
        (b"one\n", b"two\n", ["two"]),
        ("one\n\u0a05\u0100 two".encode(), b" three", ["\u0a05\u0100 two three"]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_line_that_has_grown_is_read_again_as_a_whole(tmp_path, old, more, seen, encoding):
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    before = mark + old.decode().encode(encoding)
    path = written(tmp_path, before + more.decode().encode(encoding), "a.txt")
    items = records(read(path, start=Position(len(before), 1 + old.count(b"\n"))))
    assert memories(items) == seen
    whole = records(read(path))
    assert items == whole[len(whole) - len(items) :]


def test_a_very_long_line_that_has_grown(tmp_path):
    path = written(tmp_path, b"one\n" + b"x" * (2 * CHUNK) + b"yz\n", "a.txt")
    [record] = read(path, start=Position(4 + 2 * CHUNK, 2))
    assert where(record) == (2, None, 4, 2 * CHUNK + 3)
