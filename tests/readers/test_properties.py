"""What must hold for all input: records written come back, and each byte has its place."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from readers.strategies import SEEDS, TOKENS, any_record, one_line
from readers.tools import bare, by_steps, cut_at, every_byte_has_its_place, piped, read, records, rejects, where

from powermem_cli.errors import UsageError
from powermem_cli.model import Record, Rejected, Scope
from powermem_cli.readers import Position, Reading, as_row, open_input
from powermem_cli.times import format_time

RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large]
few = settings(max_examples=80, deadline=None, suppress_health_check=RELAXED)
many = settings(max_examples=20_000, deadline=None, suppress_health_check=RELAXED)
COLUMNS = ["messages", "memory", "user_id", "agent_id", "run_id", "key", "metadata", "created_at", "infer"]
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


# ── records written in every form come back ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Form:
    """How records are written down."""

    format: str
    newline: str
    encoding: str
    marked: bool
    ends: bool  # with a newline
    ascii: bool
    indent: int | None
    wrapped: bool
    delimiter: str
    member: int  # bytes per member of gzip, 0 for none
    step: int  # bytes per read


forms = st.builds(
    Form,
    st.sampled_from(["jsonl", "json", "csv", "tsv"]),
    st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]),
    st.sampled_from(list(MARKS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, None, 0, 2]),
    st.booleans(),
    st.sampled_from(",;|\t"),
    st.sampled_from([0, 0, 64, 1 << 20]),
    st.sampled_from([1, 2, 3, 7, 64, 1 << 20]),
)


def as_text(written: list[Record], form: Form) -> str:
    rows = [as_row(record) for record in written]
    if form.format == "jsonl":
        return form.newline.join(json.dumps(row, ensure_ascii=form.ascii) for row in rows) + form.newline * form.ends
    if form.format == "json":
        document = {"count": len(rows), "results": rows, "next": None} if form.wrapped else rows
        return json.dumps(document, ensure_ascii=form.ascii, indent=form.indent)
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream,
        COLUMNS,
        delimiter="\t" if form.format == "tsv" else form.delimiter,
        lineterminator=form.newline.replace(" \t", ""),
        quoting=csv.QUOTE_ALL,
    )
    writer.writeheader()
    for row in rows:
        for name in ("messages", "metadata", "infer"):
            if name in row:
                row[name] = json.dumps(row[name], ensure_ascii=form.ascii)
        writer.writerow(row)
    return stream.getvalue()


def as_bytes(text: str, form: Form) -> bytes:
    data = (MARKS[form.encoding] if form.marked else b"") + text.encode(form.encoding)
    if form.member:
        return b"".join(gzip.compress(data[at : at + form.member], 1) for at in range(0, len(data) + 1, form.member))
    return data


def check_round_trip(written: list[Record], form: Form) -> None:
    data = as_bytes(as_text(written, form), form)
    reading = Reading(format=form.format, encoding=None if form.marked else form.encoding)
    items = piped(by_steps(data, form.step), reading)
    assert bare(records(items)) == written
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in"
        path.write_bytes(data)
        assert [where(item) for item in read(str(path), reading)] == [where(item) for item in items]


@few
@given(st.lists(any_record, max_size=4), forms)
def test_round_trip(written, form):
    check_round_trip(written, form)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@many
@given(st.lists(any_record, max_size=4), forms)
def test_round_trip_of_many(written, form):
    check_round_trip(written, form)


@few
@given(st.lists(one_line, min_size=1, max_size=5), forms)
def test_round_trip_of_text(lines, form):
    text = form.newline.join(lines) + form.newline * form.ends
    data = as_bytes("\n" + text, form)  # a text may begin with what would be a byte order mark
    reading = Reading(format="text", encoding=None if form.marked else form.encoding)
    assert [item.memory for item in records(piped(by_steps(data, form.step), reading))] == lines


# ── every byte has its place, whatever comes ────────────────────────────────────────────────────────────────────────


@st.composite
def damaged(draw):
    """Bytes that began as good input of a format."""
    name = draw(st.sampled_from(list(SEEDS)))
    data = bytearray(SEEDS[name] * draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            data[place:place] = draw(st.sampled_from(TOKENS) | st.binary(max_size=4))
        else:
            del data[place : place + draw(st.integers(1, 6))]
    encoding = draw(st.sampled_from([None, None, None, "utf-16-le", "cp1252", "gb18030"]))
    packed = draw(st.sampled_from([None, None, None, 1.0, 0.8]))
    if packed is not None:
        data = bytearray(gzip.compress(bytes(data)))
        del data[int(len(data) * packed) :]
    return name, draw(st.sampled_from([name, name, "auto"])), encoding, bytes(data)


def check_any_bytes(case, step: int) -> None:
    name, format_name, encoding, data = case
    every_byte_has_its_place(name, Reading(format=format_name, encoding=encoding, scope=Scope("me")), data, step)


@few
@given(damaged(), st.integers(1, 9))
def test_every_byte_is_in_one_record_or_reject_or_blank(case, step):
    check_any_bytes(case, step)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@many
@given(damaged(), st.integers(1, 9))
def test_every_byte_of_many(case, step):
    check_any_bytes(case, step)


def check_reading_on(case) -> None:
    """From the end of each item on, the same items come as when all is read."""
    name, _, _, data = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in"
        path.write_bytes(data)
        reading = Reading(format=name, scope=Scope("me"))
        try:
            with open_input(str(path), reading) as opened:
                items, resumable, unfinished = list(opened), opened.resumable, opened.unfinished
        except UsageError:
            return
        for n, item in enumerate(items):
            end = Position(item.source.byte + item.size, item.source.line + item.source.lines)
            with open_input(str(path), reading, start=end) as opened:
                rest = list(opened)
                if resumable:
                    assert rest == items[n + 1 :]
                    assert opened.unfinished == unfinished
                else:
                    assert rest == items


@few
@given(damaged())
def test_reading_on_from_anywhere(case):
    check_reading_on(case)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@many
@given(damaged())
def test_reading_on_from_anywhere_in_many(case):
    check_reading_on(case)


# ── the same however the bytes come ─────────────────────────────────────────────────────────────────────────────────


def sample(size: int) -> dict[str, tuple[bytes, Reading]]:
    """Input of about *size* bytes in all forms, with what is hard in it."""
    rows = [
        {"memory": f'no {n}: ä😀 "x" \\ \u2028', "user": f"u{n}", "n": [n, {"a": "]}"}]} for n in range(size // 90 + 1)
    ]
    lines = [json.dumps(row, ensure_ascii=n % 3 == 0) for n, row in enumerate(rows)]
    lines.insert(2, '{"a": 1, "a": 2}')
    lines.insert(4, '{"broken": "')
    jsonl = "\r\n".join(lines).encode() + b'\n"\xff"\n"cut'
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["memory", "user", "n"])
    writer.writerows([f"{row['memory']}\r\n2nd", row["user"], 'a "q", b'] for row in rows)
    table_text = table.getvalue() + '"open,x\r\n"bad" x,y,z\r\na,b\r\nlast,u,x'
    document = json.dumps(rows, ensure_ascii=False, indent=2).replace('"u1"', '"u"1"')
    wrapped = json.dumps({"a": "[{", "results": rows, "b": [{"memory": 1}]})
    packed = gzip.compress(jsonl[:500]) + b"\0\0" + gzip.compress(jsonl[500:])
    return {
        "jsonl": (codecs.BOM_UTF8 + jsonl, Reading(format="jsonl")),
        "csv": (table_text.encode(), Reading(format="csv")),
        "json": (document.encode(), Reading(format="json")),
        "wrapped": (wrapped.encode(), Reading(format="json")),
        "text": (jsonl, Reading(format="text")),
        "gzip": (packed, Reading()),
        "torn": (packed[:-30], Reading()),
        "utf-16": (codecs.BOM_UTF16_BE + table_text.encode("utf-16-be"), Reading(format="csv")),
    }


def check_each_cut(name: str, size: int) -> None:
    data, reading = sample(size)[name]
    whole = piped(data, reading)
    assert [item for item in whole if isinstance(item, Record)]
    assert rejects(whole) or name == "wrapped"
    for place in range(1, len(data)):
        assert piped(cut_at(data, place), reading) == whole, f"cut at {place}"
    for step in (1, 2, 3, 5):
        assert piped(by_steps(data, step), reading) == whole


@pytest.mark.parametrize("name", list(sample(1)))
def test_each_cut(name):
    check_each_cut(name, 400)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(sample(1)))
def test_each_cut_of_4_kb(name):
    check_each_cut(name, 4096)


def test_a_rejected_piece_is_the_bytes_it_says():
    """For plain UTF-8 what was set aside is what stands there."""
    for name in ("jsonl", "csv", "json", "wrapped"):
        data, reading = sample(2000)[name]
        for item in piped(data, reading):
            if isinstance(item, Rejected) and item.code != "input.encoding" and item.raw[:1] != "{":
                piece = data[item.source.byte : item.source.byte + item.size].decode()
                assert item.raw.strip() == piece.strip()


def test_times_are_exact_in_a_table():
    when = 1_700_000_000_123_456
    [record] = records(piped(f"memory,time\nx,{format_time(when)}\n".encode(), Reading(format="csv")))
    assert record.created_at == when
