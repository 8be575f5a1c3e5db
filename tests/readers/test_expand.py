"""Names and globs of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from powermem_cli.errors import UsageError
from powermem_cli.readers import expand


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "B.jsonl", "ä.jsonl", "c.csv", "x[1].jsonl", "sub/a.jsonl"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "dir.jsonl").mkdir()
    return tmp_path


def test_globs_are_sorted_by_byte_and_files_only(folder):
    assert expand(["*.jsonl"]) == ["B.jsonl", "a.jsonl", "b.jsonl", "x[1].jsonl", "ä.jsonl"]
    assert expand(["**/a.jsonl"]) == ["a.jsonl", "sub/a.jsonl"]
    assert expand([f"{folder}/[ab].jsonl"]) == [f"{folder}/a.jsonl", f"{folder}/b.jsonl"]


def test_order_of_arguments_is_kept_and_each_file_is_read_once(folder):
    assert expand(["c.csv", "-", "a.jsonl", "?.jsonl"]) == ["c.csv", "-", "a.jsonl", "B.jsonl", "b.jsonl", "ä.jsonl"]


def test_a_name_may_look_like_a_glob(folder):
    assert expand(["x[1].jsonl"]) == ["x[1].jsonl"]


def test_a_quoted_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert expand(["~/c.*"]) == [f"{folder}/c.csv"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("c.csb", "did you mean c.csv?"), ("sub/b.json", "did you mean sub/a.jsonl?"), ("nowhere/c.csv", "looked into")],
)
def test_a_file_may_have_been_meant(folder, name, hint):
    with pytest.raises(UsageError) as caught:
        expand([name])
    assert hint in caught.value.hint


@pytest.mark.parametrize("pattern", ["none.jsonl", "*.parquet", "dir*", ""])
def test_no_file_is_an_error_that_names_it(folder, pattern):
    with pytest.raises(UsageError) as caught:
        expand(["a.jsonl", pattern])
    assert pattern in caught.value.message


def test_a_link_that_leads_nowhere_is_left_to_opening(folder):
    Path("link.jsonl").symlink_to("gone")
    assert expand(["link.jsonl"]) == ["link.jsonl"]
