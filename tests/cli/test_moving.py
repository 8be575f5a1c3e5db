"""history, export, import, db expire and db optimize: the program's part of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat

import pytest
from benchmarks.moving import round_trip


@pytest.fixture
def filled(powermem):
    path = powermem.write(
        "in.jsonl",
        {"memory": "Anna likes tea", "user_id": "anna", "metadata": {"a": 1}},
        {"memory": '=1+1, "quoted"\nand more', "user_id": "ben", "expires_at": "2150-01-01T00:00:00Z"},
        {"memory": "long ago", "expires_at": "2001-01-01"},
    )
    powermem.inside("add", "-f", path)
    return powermem


def copy(powermem, *options):
    """A file of its own that holds what the store exports."""
    powermem.inside("export", "-o", "all.jsonl", *options)
    return powermem.folder / "all.jsonl"


def listed(powermem, *options):
    return powermem.inside("list", "--all", "--json", *options).json["results"]


class TestHistory:
    def test_it_shows_what_a_memory_said_and_where_that_stood(self, filled):
        id = listed(filled)[0]["id"]
        filled.inside("update", id, "Anna likes coffee")
        filled.inside("delete", id)
        rows = filled.inside("history", id).rows
        assert [row[1:3] for row in rows] == [
            ["ADD", "Anna likes tea"],
            ["UPDATE", "Anna likes coffee"],
            ["DELETE", "Anna likes coffee"],
        ]
        assert [row[3] for row in rows] == [f"{filled.folder / 'in.jsonl'}:1", "", ""]
        first, *_ = filled.inside("history", id, "--json").json["results"]
        assert rows[0][0] == first["at"][:19].replace("T", " ")  # as the other tables show it
        assert first["id"] == id
        assert first["source"]["line"] == 1
        assert len(filled.inside("history", id, "--jsonl").jsonl) == 3

    def test_it_is_nobody_elses(self, filled):
        id = listed(filled)[0]["id"]
        result = filled.inside("history", id, "--user", "ben")
        assert (result.code, result.out) == (1, "")
        assert "no memory" in result.err


class TestExport:
    def test_a_file_is_whole_private_and_leaves_nothing_beside_it(self, filled):
        path = copy(filled)
        assert json.loads(path.read_text("utf-8").splitlines()[-1]) == {
            "type": "end",
            "memory": 2,
            "history": 0,
            "ledger": 3,
        }
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not list(filled.folder.glob("*.partial"))

    def test_filters_leave_out_the_rest(self, filled):
        for options in (("--user", "anna"), ("--where", "a=1"), ("--filter", '{"a": {"gt": 0}}')):
            lines = filled.inside("export", *options).jsonl
            assert [line["memory"] for line in lines if line["type"] == "memory"] == ["Anna likes tea"]
        assert len(filled.inside("export", "--until", "2001-01-01").jsonl) == 2

    def test_csv_holds_the_memories_by_the_name_of_the_file(self, filled):
        filled.inside("export", "-o", "all.csv")
        rows = list(csv.DictReader(io.StringIO((filled.folder / "all.csv").read_text("utf-8"), newline="")))
        assert [row["memory"] for row in rows] == ["Anna likes tea", '=1+1, "quoted"\nand more']
        assert json.loads(rows[0]["metadata"]) == {"a": 1}
        assert rows[1]["expires_at"] == "2150-01-01T00:00:00Z"
        assert filled.inside("export", "-o", "x.csv", "--vectors").code == 2

    def test_a_place_that_can_not_be_written_is_named(self, filled):
        result = filled.inside("export", "-o", "missing/all.jsonl")
        assert result.code == 2
        assert "missing/all.jsonl" in result.err


class TestImport:
    def test_the_same_is_there_and_a_second_time_nothing_more(self, filled):
        path = copy(filled, "--vectors")
        assert filled.inside("import", path, "--db", "b.db").code == 0
        assert listed(filled, "--db", "b.db") == listed(filled)
        again = filled.inside("import", path, "--db", "b.db", "--json").json
        assert (again["added"], again["there"], again["records"], again["whole"]) == (0, 2, 0, True)
        # What was done is known there, too: the same file adds nothing.
        assert filled.inside("add", "-f", "in.jsonl", "--db", "b.db", "--json").summary["unchanged"] == 3

    def test_it_reads_a_pipe_and_embeds_anew(self, filled):
        exported = filled.inside("export").out
        assert filled.inside("import", "-", "--db", "b.db", stdin=exported).code == 0
        found = filled.inside("search", "what does she drink", "--user", "anna", "--db", "b.db").rows
        assert found[0][-1] == "Anna likes tea"

    def test_a_part_of_a_file_is_kept_and_said_to_be_one(self, filled):
        lines = copy(filled).read_text("utf-8").splitlines(keepends=True)
        result = filled.inside("import", "-", "--db", "b.db", stdin="".join(lines[:2]) + "{broken\n")
        assert result.code == 3
        assert "line 3: no JSON" in result.err
        assert "not whole" in result.err
        assert len(listed(filled, "--db", "b.db")) == 1

    def test_a_memory_that_is_another_one_here_is_named(self, filled):
        path = copy(filled)
        id = listed(filled)[0]["id"]
        filled.inside("update", id, "Anna likes coffee")
        result = filled.inside("import", path, "--json")
        assert (result.code, result.json["conflicts"]) == (3, [id])

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b'{"memory": "x"}\n', "no export of powermem\n  hint   records of other programs: powermem add --file it"),
            (b"", "no export of powermem: it is empty"),
            (b"\xff\0no line", "no export of powermem"),
            (b'{"type": "powermem", "version": 9}\n', ": this export is of version 9"),
            (gzip.compress(b"{}", mtime=0), "compressed\n  hint   gunzip -c it | powermem import -"),
        ],
    )
    def test_what_is_no_export_is_named_and_makes_no_store(self, powermem, content, says):
        (powermem.folder / "it").write_bytes(content)
        result = powermem.inside("import", "it")
        assert (result.code, result.out) == (2, "")
        assert says in result.err
        assert result.err.startswith("error: it")
        assert not powermem.database.exists()

    def test_a_file_that_is_not_there_is_named(self, powermem):
        assert "missing.jsonl can't be read" in powermem.inside("import", "missing.jsonl").err


class TestDatabase:
    def test_expire_deletes_what_is_not_found_any_more(self, filled):
        assert len(listed(filled)) == 2
        assert filled.inside("db", "expire", "--json").json == {"deleted": 1}
        assert filled.inside("db", "expire", "--json").json == {"deleted": 0}

    def test_optimize_says_what_is_there(self, filled):
        assert filled.inside("db", "optimize", "--json").json["engine"] == "sqlite"
        assert filled.inside("db", "optimize").err == "no index is needed here\n"


@pytest.mark.soak
def test_100_000_memories_there_and_back_are_the_same(tmp_path):
    figures = round_trip(tmp_path, 100_000)
    assert max(megabytes for _, megabytes in figures.values()) < 500  # pages of the file that are mapped count, too
