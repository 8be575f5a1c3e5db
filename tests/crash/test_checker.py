"""The checker finds each kind of harm when it is done to a store on purpose, and nothing in a sound one."""

from __future__ import annotations

import shutil

import apsw
import pytest
from checker import check, conserved, main, summaries
from program import Powermem

RECORDS = (
    {"id": "a", "user_id": "ana", "memory": "Ana drinks green tea"},
    {
        "user_id": "ben",
        "messages": [{"role": "user", "content": "I moved to Lisbon"}, {"role": "user", "content": "Hm"}],
    },
    {"user_id": "ana", "memory": "The train leaves at nine"},
    {"user_id": "ana", "memory": "The train leaves at nine"},
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A store, what was said about it, and its input; not to be changed."""
    powermem = Powermem(tmp_path_factory.mktemp("sound"))
    records = powermem.write("records.jsonl", *RECORDS)
    said = powermem.folder / "acks.jsonl"
    said.write_text(powermem.inside("add", "-f", records, "--jsonl").out, "utf-8")
    return powermem.database, said, records


@pytest.fixture
def place(sound, tmp_path):
    """A copy of it, with the changes of the test's SQL."""
    for path in sound:
        shutil.copy(path, tmp_path)

    def changed(*statements: str):
        connection = apsw.Connection(str(tmp_path / "memories.db"))
        for statement in statements:
            connection.execute(statement)
        connection.close()
        return check(tmp_path / "memories.db", tmp_path / "acks.jsonl", tmp_path / "records.jsonl")

    return changed


NUMBER = "(SELECT id FROM memories WHERE text = 'Hm')"
COPY = """INSERT INTO memories SELECT id + 1000, user, agent, run, {}, metadata, digest, length, created_at, updated_at,
    expires_at, origin, line, whose FROM memories WHERE text = 'Hm'"""


def test_a_sound_store(place):
    assert not place()


def test_a_memory_that_is_gone_is_lost_a_broken_promise_and_damage(place):
    found = place(f"DELETE FROM memories WHERE id = {NUMBER}")
    assert found.lost == [("ben", "Hm")]
    assert len(found.broken_promises) == 1
    assert len(found.damage) == 4  # vectors, words, their number, the ledger


def test_what_was_never_said_may_be_missing_while_a_run_is_not_complete(place, tmp_path, sound):
    place("DELETE FROM ledger WHERE memory_ids LIKE '%,%'", f"DELETE FROM memories WHERE id = {NUMBER}")
    said = tmp_path / "acks.jsonl"
    said.write_text("".join(line for line in said.read_text("utf-8").splitlines(True) if "Hm" not in line), "utf-8")
    found = check(tmp_path / "memories.db", said, tmp_path / "records.jsonl", complete=False)
    assert not found.lost
    assert not found.broken_promises


def test_a_text_that_is_there_twice_is_doubled(place):
    assert place(COPY.format("text")).doubled == [("ben", "Hm")]


def test_a_text_nobody_gave_is_foreign(place):
    assert place(COPY.format("'Hm?'")).foreign == [("ben", "Hm?")]


def test_a_memory_of_somebody_else_is_foreign_and_lost(place):
    found = place(f"UPDATE memories SET user = (SELECT number FROM names WHERE name = 'ana') WHERE id = {NUMBER}")
    assert (found.foreign, found.lost) == ([("ana", "Hm")], [("ben", "Hm")])


def test_a_row_the_ledger_lacks_is_damage(place):
    assert place("DELETE FROM ledger WHERE memory_ids LIKE '%,%'").damage == [
        *(said for said in place().damage if "times" in said),
        "3 records are in the input, 2 in the ledger",
    ]


def test_a_line_without_its_end_was_never_said(place, sound, tmp_path):
    said = tmp_path / "acks.jsonl"
    said.write_bytes(sound[1].read_bytes() + b'{"type": "record", "status": "added", "memories": [{"id": "1", "mem')
    assert not place()


def test_sums_that_do_not_add_up():
    outcomes = ("added", "updated", "no_facts", "unchanged", "duplicate", "rejected", "failed", "not_started")
    assert conserved({"read": 8, **dict.fromkeys(outcomes, 1)})
    assert not conserved({"read": 9, **dict.fromkeys(outcomes, 1)})


def test_as_a_script(sound, place, tmp_path, capsys):
    assert main(*map(str, sound)) == 0
    place(COPY.format("text"))
    assert main(*(str(tmp_path / path.name) for path in sound)) == 1
    assert "1 doubled, as ('ben', 'Hm')" in capsys.readouterr().out
    assert len(summaries(sound[1])) == 1
