"""Rows of short cells."""

from __future__ import annotations

import io

import pytest

from powermem_cli.output.cells import write_cells

HEADER = ("job", "state", "last run (UTC)", "added", "rejected")
ROWS = [("chats-b3ed8aa0", "done", "2026-11-21 13:20", 575, 0), ("notes", "running", None, 1, 2)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, header=HEADER, rows=ROWS, width=80) -> str:
    write_cells(header, rows, stream, {"COLUMNS": str(width), "TERM": "dumb"})
    return stream.getvalue()


def test_a_pipe_gets_tabs_and_no_header():
    assert shown(io.StringIO()) == "chats-b3ed8aa0\tdone\t2026-11-21 13:20\t575\t0\nnotes\trunning\t\t1\t2\n"


def test_a_terminal_gets_columns():
    lines = shown(Terminal()).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["job", "state", "last", "run", "(UTC)", "added", "rejected"]
    assert lines[2].split() == ["notes", "running", "1", "2"]


def test_numbers_end_below_each_other():
    header, *lines = shown(Terminal()).splitlines()
    for name, numbers in (("added", ("575", "1")), ("rejected", ("0", "2"))):
        end = header.index(name) + len(name)
        assert [line[:end].split()[-1] for line in lines] == [*numbers]


def test_sentences_give_way_before_paths_are_broken():
    path, origin = "/a/place/for/memories.db", "SQLITE_PATH in the environment"
    lines = shown(Terminal(), ("setting", "value", "from"), [("vector_store.path", path, origin)], 60).splitlines()
    assert path in lines[1]
    assert " ".join(line[45:].strip() for line in lines[1:]) == origin
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("wide", ["a/" * 40, "漢字" * 20])
def test_what_is_longer_than_the_line_is_broken_but_not_lost(wide):
    lines = shown(Terminal(), ("a", "b"), [(wide, "two words")], 40).splitlines()
    assert "".join(line[:30].split("  ")[0].strip() for line in lines[1:]) == wide


@pytest.mark.parametrize("width", [36, 40])
def test_a_narrow_one_gets_them_one_below_the_other(width):
    lines = shown(Terminal(), width=width).splitlines()
    assert [line.split("  ")[0] for line in lines] == [*HEADER, "", "job", "state", "added", "rejected", ""]
    assert lines[0].split() == ["job", "chats-b3ed8aa0"]
    assert all(len(line) <= width for line in lines)


def test_few_columns_stay_columns():
    assert shown(Terminal(), ("a", "b"), [("x" * 50, "y")], 40).split("\n")[1].rstrip().endswith("y")


def test_hostile_text_is_harmless():
    assert "\\x1b[2J" in shown(Terminal(), ("a", "b"), [("\x1b[2J", "[red]")])
