"""Parquet: what is exported comes back the same, and other tools can read it; real pyarrow, real files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from powermem_cli import parquet


@pytest.fixture
def filled(powermem):
    rows = [
        {
            "memory": f"number {i} \N{SNOWMAN} \n,",
            "user_id": ("anna", "ben", None)[i % 3],
            "metadata": {"n": i, "deep": [{"x": 0.1}]} if i % 2 else {},
            "created_at": 1_600_000_000 + i,
            **({"expires_at": "2150-01-01T00:00:00.000001Z"} if i % 5 == 0 else {}),
        }
        for i in range(50)
    ]
    powermem.inside("add", "-f", powermem.write("in.jsonl", *rows))
    return powermem


def memories(powermem, *options):
    lines = powermem.inside("export", "--vectors", *options).jsonl
    return [line for line in lines if line["type"] == "memory"]


@pytest.mark.parametrize("vectors", [("--vectors",), ()])
def test_there_and_back_memories_are_the_same(filled, monkeypatch, vectors):
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 20)
    assert filled.inside("export", "-o", "all.parquet", *vectors).err.startswith("50 memories")
    with pq.ParquetFile(filled.folder / "all.parquet") as file:
        assert file.num_row_groups == 1  # a page of an export is not cut
        assert ("vector" in file.schema_arrow.names) == bool(vectors)
    done = filled.inside("import", "all.parquet", "--db", "copy.db", "--json")
    assert (done.code, done.json["added"], done.json["whole"]) == (0, 50, True)
    assert memories(filled, "--db", "copy.db") == memories(filled)
    assert filled.inside("import", "all.parquet", "--db", "copy.db", "--json").json["there"] == 50


def test_columns_are_such_as_other_tools_expect(filled):
    filled.inside("export", "-o", "anna.parquet", "--vectors", "-u", "anna")
    table = pq.read_table(filled.folder / "anna.parquet")
    wanted = memories(filled, "-u", "anna")
    assert table.num_rows == len(wanted) == 17
    assert table.schema.field("id").type == "int64"
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    assert table["memory"].to_pylist() == [line["memory"] for line in wanted]
    assert json.loads(table["metadata"][1].as_py()) == wanted[1]["metadata"]
    assert table["expires_at"].null_count == 13
    assert np.linalg.norm(table["vector"][0].as_py()) == pytest.approx(1)


def test_many_are_written_in_row_groups(filled, monkeypatch):
    from powermem_cli import moving

    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(moving, "PAGE", 10)
    filled.inside("export", "-o", "all.parquet")
    with pq.ParquetFile(filled.folder / "all.parquet") as file:
        assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [20, 20, 10]


def test_an_empty_store_is_an_empty_file(powermem):
    powermem.inside("add", "a", "--db", "a.db")
    powermem.inside("delete", "--all", "-y", "--db", "a.db")
    powermem.inside("export", "-o", "none.parquet", "--vectors", "--db", "a.db")
    done = powermem.inside("import", "none.parquet", "--db", "b.db", "--json")
    assert (done.code, done.json["added"], done.json["whole"]) == (0, 0, True)


def test_what_is_no_export_is_refused(filled):
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), filled.folder / "other.parquet")
    filled.inside("export", "-o", "all.parquet")
    whole = (filled.folder / "all.parquet").read_bytes()
    (filled.folder / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    for name, said in (("other.parquet", "no export of powermem"), ("cut.parquet", "no sound Parquet file")):
        refused = filled.inside("import", name, "--db", "copy.db")
        assert (refused.code, said in refused.err) == (2, True)
    assert filled.inside("export", "--format", "parquet").code == 2


def test_without_pyarrow_it_says_what_to_install(filled, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = filled.inside("export", "-o", "all.parquet")
    assert (refused.code, "powermem-cli[parquet]" in refused.err) == (2, True)
    assert not list(filled.folder.glob("all.parquet*"))
