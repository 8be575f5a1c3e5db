"""NULs where lines should be: a writer that crashed leaves them, and a log that was cut while its writer had it open."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest
from readers.tools import bare, every_byte_has_its_place, piped, read, read_with, rejects, written

from powermem_cli.errors import UsageError
from powermem_cli.model import Record
from powermem_cli.readers import Reading
from powermem_cli.readers.base import CHUNK, LONGEST_RECORD

ONE, TWO = b'{"memory": "one"}\n', b'{"memory": "two"}\n'
SIZES = [1, 15, 16, 4096, 70_000, CHUNK, CHUNK + 1, 3 * CHUNK, LONGEST_RECORD + 5]


def texts(items):
    return [item.memory for item in items if isinstance(item, Record)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_hole_costs_one_reject_wherever_it_is(tmp_path, size, newline):
    hole = bytes(size) + newline
    for content, line in ((hole + ONE + TWO, 1), (ONE + hole + TWO, 2), (ONE + TWO + hole + ONE, 3)):
        jsonl = Reading(format="jsonl")
        for items in (
            read(written(tmp_path, content)),
            piped(content, jsonl),
            piped(gzip.compress(content, 1), jsonl),
        ):
            assert len(texts(items)) == content.count(b"memory"), size
            [reject] = rejects(items)
            assert (reject.code, reject.source.line, reject.size) == ("input.character", line, len(hole))
            assert len(reject.raw) < 100


@pytest.mark.parametrize("name", ["x.jsonl", "x.log", "x"])
def test_what_it_is_is_seen_behind_the_hole(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bytes(200_000) + ONE + TWO)
    assert texts(read(str(path))) == ["one", "two"]


def test_a_hole_without_an_end_in_sight_is_not_taken_for_text(tmp_path):
    path = tmp_path / "x.log"
    with path.open("wb") as file:
        file.truncate(2 << 20)
        file.seek(0, os.SEEK_END)
        file.write(ONE + TWO)
    with pytest.raises(UsageError, match="NULs"):
        read(str(path))
    assert texts(read(str(path), format="jsonl")) == ["one", "two"]


@pytest.mark.parametrize("size", [1, 5000, LONGEST_RECORD + 5])
def test_a_hole_at_the_end_of_a_file_may_still_be_filled(tmp_path, size):
    """A file may be as long as it will be before anything is in it."""
    path = written(tmp_path, ONE + bytes(size))
    opened, items = read_with(path)
    assert texts(items) == ["one"]
    assert len(items) == 1
    assert opened.unfinished is not None
    assert opened.unfinished.byte == len(ONE)
    assert len(rejects(piped(ONE + bytes(size)))) == 1


@pytest.mark.parametrize("format_name", ["jsonl", "text", "csv"])
def test_however_the_bytes_come(format_name):
    head = b"memory\n" if format_name == "csv" else b""
    content = head + b"no\0\0hole\n" + ONE + b"\0\0" + TWO + b"\0\n" + ONE + b"\0\0\0\0" + TWO + TWO
    whole = bare(piped(content, format=format_name))
    assert len(rejects(piped(content, format=format_name))) == 4
    for step in (1, 2, 3, 7, len(content)):
        items = every_byte_has_its_place(format_name, Reading(format=format_name), content, step)
        assert bare(items) == whole


def test_what_is_no_text_is_still_refused(tmp_path):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("a.jsonl")
        info.size = len(ONE) * 300
        archive.addfile(info, io.BytesIO(ONE * 300))
    for content in (packed.getvalue(), bytes(range(32)) * 200, ONE.decode().encode("utf-16-le") * 50):
        with pytest.raises(UsageError) as caught:
            read(written(tmp_path, content))
        assert caught.value.code == "input.binary"
