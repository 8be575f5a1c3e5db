"""Another process has the store: it is waited for, or said so; never "database is locked", and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memories import config, held
from program import Powermem

from powermem_cli.errors import StoreBusy, StoreError
from powermem_cli.memory import AsyncMemory
from powermem_cli.stores import sqlite_file, sqlite_schema

pytestmark = pytest.mark.anyio

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The write lock, in another program's hands until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        try:
            yield holder
        finally:
            holder.kill()


async def test_a_lock_that_is_let_go_is_waited_for(tmp_path):
    path = tmp_path / "m.db"
    async with AsyncMemory(config(path)) as memory:
        await memory.add("one")
        with locked(path) as holder:
            adding = asyncio.create_task(memory.add("two"))
            assert await held(memory) == ["one"], "readers are not kept waiting"
            assert not adding.done()
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            await adding
        assert await held(memory) == ["one", "two"]


async def test_a_lock_that_is_never_let_go_is_an_error_that_may_be_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.2)
    path = tmp_path / "m.db"
    async with AsyncMemory(config(path)) as memory:
        await memory.add("one")
        with locked(path):
            with pytest.raises(StoreBusy, match=r"another process kept .*m\.db locked") as caught:
                await memory.add("two")
            assert "run the same command again" in str(caught.value.hint)
        await memory.add("two")
        assert await held(memory) == ["one", "two"]


def test_the_program_ends_with_75_and_can_be_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT", 0.2)
    powermem = Powermem(tmp_path)
    powermem.inside("add", "one")
    file = powermem.write("in.jsonl", *({"memory": f"note {number}"} for number in range(50)))
    with locked(powermem.database):
        said = powermem.inside("add", "-f", file, "--json")
        assert said.code == 75
        assert "store.busy" in said.out
        assert "database is locked" not in said.out + said.err
    assert powermem.inside("add", "-f", file, "-q").code == 0
    assert len(powermem.memories()) == 51


class TestSchemas:
    async def test_a_newer_one_is_refused_in_one_sentence(self, tmp_path):
        path = tmp_path / "m.db"
        async with AsyncMemory(config(path)) as memory:
            await memory.add("one")
            await memory._store._writing.run(lambda db: db.execute("PRAGMA user_version = 99").fetchall())
        before = path.read_bytes()
        with pytest.raises(StoreError, match="made by a newer powermem") as caught:
            async with AsyncMemory(config(path)):
                pass
        assert caught.value.code == "store.newer"
        assert "upgrade" in str(caught.value.hint)
        assert path.read_bytes() == before

    async def test_half_a_migration_is_none(self, tmp_path, monkeypatch):
        path = tmp_path / "m.db"
        async with AsyncMemory(config(path)) as memory:
            await memory.add("one")
        current = sqlite_schema.MIGRATIONS
        broken = (*current, "CREATE TABLE extra (a); CREATE TABLE extra (a)")
        monkeypatch.setattr(sqlite_schema, "MIGRATIONS", broken)
        with pytest.raises(Exception, match="extra"):
            async with AsyncMemory(config(path)):
                pass
        monkeypatch.setattr(sqlite_schema, "MIGRATIONS", current)
        async with AsyncMemory(config(path)) as memory:
            assert await held(memory) == ["one"]
            version = await memory._store._writing.run(lambda db: next(db.execute("PRAGMA user_version"))[0])
        assert version == len(current)
