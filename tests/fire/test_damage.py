"""Damaged databases: no crash, nothing made anew, nobody sees another's memories, and verify finds what was altered."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest
from fire.damage import ENOUGH, many
from memories import config
from program import Powermem
from trials import a_seed

from powermem_cli.errors import StoreCorrupt
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope, Source

TEXT = "Anna likes green tea and trains"

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_forty_damaged_databases():
    seed = a_seed()
    figures = many(40, seed)
    assert not figures.faults, f"seed {seed}: {figures}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_thousand_damaged_databases():
    figures = many(2000, 1)
    print(figures)
    assert not figures.faults, figures
    assert figures.found >= ENOUGH * figures.altered, figures


async def damaged(path: Path, *statements: str) -> list[str]:
    """What verify says after *statements* were run behind the store's back."""
    async with AsyncMemory(config(path)) as memory:
        await memory.add(TEXT, user_id="anna", metadata={"a": 1}, infer=False)
        await memory.add("Ben likes coffee", user_id="ben")
        store = memory._store
        assert await store.verify() == []
        await store._writing.run(lambda db: db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0))
        await store._writing.run(lambda db: [db.execute(statement) for statement in statements])
        return await store.verify()


LEDGER_ROW = """INSERT INTO ledger (key, content, status, memory_ids, tries, job, at)
    VALUES (zeroblob(16), zeroblob(16), 'done', '[1', 0, '', 0)"""
PACK = "INSERT INTO hashes (checksum, kind, hashes, led_to) VALUES (1, 0, x'0000000000000000', x'0000000000000000')"
FIRST = "(SELECT min(id) FROM memories)"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"UPDATE memories SET text = 'Anna likes green teA and trains' WHERE id = {FIRST}", "its text is not the one"),
        (f"UPDATE memories SET length = 99 WHERE id = {FIRST}", "the number of its words"),
        (f"UPDATE memories SET user = 77 WHERE id = {FIRST}", "its scope is nobody's"),
        (f"UPDATE memories SET user = 2 WHERE id = {FIRST}", "the words it is found by"),
        (f"UPDATE memories SET agent = 1 WHERE id = {FIRST}", "it is not whose it was"),
        (f"UPDATE memories SET metadata = x'ff' WHERE id = {FIRST}", "its metadata is no JSON object"),
        (f"UPDATE memories SET metadata = jsonb('7') WHERE id = {FIRST}", "its metadata is no JSON object"),
        (f"UPDATE words_docsize SET sz = x'22' WHERE id = {FIRST}", "the number of words it is found by"),
        (f"UPDATE words_docsize SET sz = 'two' WHERE id = {FIRST}", "the number of a memory's words is none"),
        ("DELETE FROM unpacked", "the signs of its vector are missing"),
        ("UPDATE unpacked SET vector = 1", "its vector is not the one"),
        ("DELETE FROM unpacked_hashes WHERE kind = 2", "its hash does not lead to it"),
        (PACK, "a row of hashes is not as it was written"),
        (f"UPDATE embeddings SET vector = zeroblob(1024) WHERE id = {FIRST}", "its vector is not the one"),
        (f"UPDATE embeddings SET vector = zeroblob(1023) WHERE id = {FIRST}", "has not the 256 dimensions"),
        (f"DELETE FROM embeddings WHERE id = {FIRST}", "its vector is missing"),
        ("INSERT INTO embeddings VALUES (5, zeroblob(1024))", "a vector is there without it"),
        (f"DELETE FROM words WHERE rowid = {FIRST}", "its words are missing"),
        ("INSERT INTO words (rowid, terms) VALUES (5, 'tea')", "words are there without it"),
        (f"DELETE FROM memories WHERE id = {FIRST}", "2 memories are counted, 1 are there"),
        ("DELETE FROM meta WHERE name = 'store_id'", "lost its name"),
        ("UPDATE names SET name = CAST(x'ff' AS TEXT) WHERE number = 1", "its name is no UTF-8"),
        (LEDGER_ROW, "it is not as it was written"),
    ],
)  # fmt: skip
async def test_verify_sees(tmp_path, statement, said):
    problems = await damaged(tmp_path / "m.db", statement)
    assert any(said in problem for problem in problems), problems


@pytest.mark.anyio
@pytest.mark.parametrize(
    "damage",
    [
        "memories SET metadata = jsonb('7')",
        "origins SET name = '7'",
        "origins SET name = '[1]'",
        "memories SET text = x'74'",
        "names SET name = x'74'",
        "names SET number = 7",
    ],
)
async def test_what_has_become_another_kind_of_value_is_damage_and_no_bug(tmp_path, damage):
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        record = Record(memory=TEXT, scope=Scope("anna"), metadata={"a": 1}, source=Source("in.jsonl", 1, 0))
        (outcome,) = await memory.add_records([record], job="j")
        await memory._store._writing.run(lambda db: db.execute(f"UPDATE {damage}").fetchall())
        calls = [memory.get_all, lambda: memory.search("tea")]
        if "metadata" in damage:
            calls.append(lambda: memory.update(outcome.effects[0].id, metadata={"b": 2}))
        for call in calls:
            with pytest.raises(StoreCorrupt, match="is damaged"):
                await call()


@pytest.mark.anyio
async def test_verify_names_a_few_of_a_kind(tmp_path):
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        for number in range(20):
            await memory.add(f"note {number}")
        await memory._store._writing.run(lambda db: db.execute("UPDATE memories SET length = 99").fetchall())
        problems = await memory._store.verify()
    assert len(problems) == 6
    assert "15 more" in problems[-1]


class TestCommand:
    @pytest.fixture
    def powermem(self, tmp_path) -> Powermem:
        powermem = Powermem(tmp_path)
        powermem.inside("add", TEXT, "-q")
        return powermem

    def test_a_sound_store(self, powermem):
        said = powermem.inside("db", "verify", "--json")
        assert (said.code, said.json) == (0, {"ok": True, "problems": []})
        assert "nothing is wrong" in powermem.inside("db", "verify").err

    def test_a_text_that_was_changed(self, powermem):
        for part in powermem.folder.glob("memories.db-*"):
            part.unlink()
        content = powermem.database.read_bytes()
        assert TEXT.encode() in content
        powermem.database.write_bytes(content.replace(TEXT.encode(), TEXT.encode().replace(b"green", b"greem")))
        said = powermem.inside("db", "verify", "--json")
        assert (said.code, said.json["ok"]) == (5, False)
        assert any("its text is not the one" in problem for problem in said.json["problems"])
        assert "restore a backup" in powermem.inside("db", "verify").err

    @pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
    @pytest.mark.parametrize("command", [["add", "x"], ["search", "x"], ["list"], ["delete", "1"], ["db", "verify"]])
    def test_what_is_no_database_is_left_alone(self, powermem, command, content):
        for part in powermem.folder.glob("memories.db-*"):
            part.unlink()
        powermem.database.write_bytes(content)
        said = powermem.inside(*command, "--json")
        assert said.code == 5, said
        assert json.loads(said.out)["code"] == "store.corrupt"
        assert powermem.database.read_bytes() == content
