"""Where a store is, or is not: mistyped, read-only, of another program, half gone; and who may read its files."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest
from memories import config, held
from program import PROGRAM, Powermem, Result

from powermem_cli.errors import StoreBusy, StoreCorrupt, StoreError, StoreMissing
from powermem_cli.memory import AsyncMemory
from powermem_cli.stores import create_store

READING = (["search", "tea"], ["list"], ["get", "1"])
CHANGING = (["update", "1", "x"], ["delete", "1"], ["delete", "--all", "--yes"])


@pytest.fixture
def powermem(tmp_path) -> Powermem:
    return Powermem(tmp_path)


class TestMissing:
    @pytest.mark.parametrize("command", [*READING, *CHANGING], ids=" ".join)
    def test_a_mistyped_name_makes_no_store(self, powermem, command):
        powermem.inside("add", "I like tea", "--db", powermem.folder / "notes.db")
        said = powermem.inside(*command, "--db", powermem.folder / "note.db", "--json")
        assert (said.code, said.json["code"]) == (2, "store.missing")
        assert "did you mean" in said.json["hint"]
        assert "notes.db" in said.json["hint"]
        assert not (powermem.folder / "note.db").exists()

    @pytest.mark.parametrize(
        ("command", "code"), [(["search", "tea"], 0), (["list"], 0), (["get", "1"], 1), (["delete", "1"], 1)]
    )
    def test_where_nothing_was_ever_added_nothing_is_found(self, powermem, command, code):
        del powermem.environ["SQLITE_PATH"]
        said = powermem.inside(*command, "--json")
        assert said.code == code
        assert said.json.get("results", []) == []
        assert "nothing is remembered yet" in said.err
        assert "powermem add" in said.err
        assert list(powermem.folder.rglob("*.db")) == []

    def test_an_empty_file_is_no_store_and_may_become_one(self, powermem):
        powermem.database.touch()
        assert powermem.inside("list", "--db", powermem.database).code == 2
        assert powermem.database.stat().st_size == 0
        assert powermem.inside("add", "I like tea", "--db", powermem.database).code == 0

    @pytest.mark.parametrize("command", [["add", "x"], ["list"]])
    def test_below_a_file_there_is_no_folder(self, powermem, command):
        powermem.write("file.txt", "x")
        for below in ("file.txt/m.db", "file.txt/folder/m.db"):
            said = powermem.inside(*command, "--db", powermem.folder / below, "--json")
            assert (said.code, said.json["code"]) == (5, "store.permission")
            assert "file.txt is not a folder" in said.json["message"]

    @pytest.mark.parametrize("name", [".", "/dev/null"])
    def test_what_is_no_file_is_no_database(self, powermem, name):
        for command in (["add", "x"], ["list"]):
            said = powermem.inside(*command, "--db", name, "--json")
            assert (said.code, said.json["code"]) == (5, "store.permission")

    @pytest.mark.anyio
    async def test_a_library_makes_what_is_missing_unless_told_otherwise(self, tmp_path):
        async with AsyncMemory(config(tmp_path / "deep" / "new.db")) as memory:
            assert await held(memory) == []
        for access in ("read", "write"):
            store = create_store("sqlite", {"path": str(tmp_path / "none.db"), "access": access})
            with pytest.raises(StoreMissing):
                await store.open(None)
        assert not (tmp_path / "none.db").exists()


class TestHalfGone:
    @pytest.mark.anyio
    @pytest.mark.parametrize("left", ["emptied", "gone"])
    async def test_a_wal_without_its_database_is_left_alone(self, tmp_path, left):
        path = tmp_path / "m.db"
        async with AsyncMemory(config(path)) as memory:
            await memory.add("I like tea")
            wal = (tmp_path / "m.db-wal").read_bytes()
        (tmp_path / "m.db-wal").write_bytes(wal)
        path.write_bytes(b"") if left == "emptied" else path.unlink()
        with pytest.raises(StoreCorrupt, match=r"m\.db-wal"):
            async with AsyncMemory(config(path)):
                pass
        assert (tmp_path / "m.db-wal").read_bytes() == wal

    @pytest.mark.parametrize("mode", ["DELETE", "WAL"])
    @pytest.mark.parametrize("command", [["add", "x"], ["list"], ["delete", "1"]])
    def test_a_database_of_another_program_keeps_every_byte(self, powermem, mode, command):
        connection = sqlite3.connect(powermem.database)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE songs (name)")
        connection.commit()
        connection.close()
        before = powermem.database.read_bytes()
        said = powermem.inside(*command, "--json")
        assert (said.code, said.json["code"]) == (5, "store.foreign")
        assert powermem.database.read_bytes() == before


BOUND = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.getuid() == 0 else ()
"""Root without the power to pass over the modes of files."""


def can_be_bound() -> bool:
    return not BOUND or subprocess.run([*BOUND, "true"], capture_output=True, check=False).returncode == 0


def bound(powermem: Powermem, *arguments: str) -> Result:
    """The program run by somebody who is bound by the modes of files."""
    return powermem(*arguments, wrapper=(*BOUND, *PROGRAM), env={"XDG_STATE_HOME": "/proc/state"})


@pytest.fixture
def readable(powermem):
    """A store in a folder of its own, which a test may close."""
    if not can_be_bound():
        pytest.skip("nothing is read-only for this root")
    folder = powermem.folder / "data"
    powermem.database = folder / "memories.db"
    powermem.environ["SQLITE_PATH"] = str(powermem.database)
    powermem.inside("add", "I like tea", "-q")
    yield powermem
    folder.chmod(0o700)


def only_look(powermem: Powermem) -> None:
    for part in powermem.database.parent.iterdir():
        part.chmod(0o444)
    powermem.database.parent.chmod(0o555)


class TestReadOnly:
    def test_what_may_only_be_looked_at_is_searched(self, readable):
        for beside in readable.database.parent.glob("memories.db-*"):
            beside.unlink()
        only_look(readable)
        for command in (["search", "tea"], ["list"], ["db", "verify"]):
            said = bound(readable, *command)
            assert said.code == 0, said.err
        assert "I like tea" in bound(readable, "search", "tea").out
        assert sorted(part.name for part in readable.database.parent.iterdir()) == ["memories.db"]

    @pytest.mark.parametrize("command", [["add", "x"], ["delete", "1"], ["update", "1", "x"]])
    def test_what_may_only_be_looked_at_is_not_changed(self, readable, command):
        only_look(readable)
        before = readable.database.read_bytes()
        said = bound(readable, *command)
        assert said.code == 5
        assert str(readable.database) in said.err
        assert "hint" in said.err
        assert "Traceback" not in said.err
        assert readable.database.read_bytes() == before

    def test_changes_that_cannot_be_seen_are_not_passed_over(self, readable):
        (readable.database.parent / "memories.db-shm").unlink(missing_ok=True)
        (readable.database.parent / "memories.db-wal").write_bytes(b"x" * 5000)
        only_look(readable)
        said = bound(readable, "list")
        assert said.code == 5
        assert "memories.db-wal" in said.err
        assert "copy both files" in said.err

    def test_a_folder_nobody_may_enter(self, readable):
        readable.database.parent.chmod(0o600)
        said = bound(readable, "list")
        readable.database.parent.chmod(0o700)
        assert said.code == 5
        assert "Traceback" not in said.err

    @pytest.mark.anyio
    async def test_a_reader_without_locks_tells_when_the_file_was_changed(self, tmp_path, monkeypatch):
        path = tmp_path / "m.db"
        async with AsyncMemory(config(path)) as memory:
            await memory.add("I like tea")
        from powermem_cli.stores import sqlite_connection

        (tmp_path / "m.db-wal").unlink(missing_ok=True)
        unlocked = sqlite_connection._opened(
            sqlite_connection._Unchanging, f"file:{path}?immutable=1", path, readonly=True
        )
        count = "SELECT count(*) FROM memories"
        look = sqlite_connection.read_snapshot
        assert look(unlocked, path, lambda db: next(db.execute(count))) == (1,)
        os.utime(path, ns=(1, 1))
        with pytest.raises(StoreBusy, match="was changed"):
            look(unlocked, path, lambda db: next(db.execute(count)))
        unlocked.close()

    @pytest.mark.anyio
    async def test_a_store_opened_for_reading_refuses_to_write(self, tmp_path):
        path = tmp_path / "m.db"
        async with AsyncMemory(config(path)) as memory:
            await memory.add("I like tea")
        options = config(path)
        options["vector_store"]["config"]["access"] = "read"
        async with AsyncMemory(options) as memory:
            assert await held(memory) == ["I like tea"]
            with pytest.raises(StoreError, match="only for reading"):
                await memory.add("I like coffee")


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_for_their_owner_alone(powermem, mask):
    file = powermem.write("in.jsonl", {"memory": "x"}, {"memory": ""})
    file.chmod(0o600)
    before = os.umask(mask)
    try:
        powermem("add", "-f", file, "--db", powermem.folder / "data" / "m.db", "-q")
    finally:
        os.umask(before)
    made = [path for path in powermem.folder.rglob("*") if path != file]
    assert {path.name for path in made} >= {"m.db", "rejects.jsonl", "checkpoint.json"}
    assert {oct(path.stat().st_mode & 0o777) for path in made if path.is_file()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in made if path.is_dir()} == {"0o700"}


@pytest.mark.anyio
async def test_wal_and_shm_are_for_their_owner_alone_from_the_start(tmp_path):
    before = os.umask(0)
    try:
        async with AsyncMemory(config(tmp_path / "data" / "m.db")) as memory:
            await memory.add("x")
            modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "data").iterdir()}
    finally:
        os.umask(before)
    assert modes == {"m.db": "0o600", "m.db-wal": "0o600", "m.db-shm": "0o600"}


@pytest.mark.anyio
async def test_opening_a_store_twice_in_one_process_keeps_its_locks(tmp_path):
    """POSIX: closing any descriptor of a file ends all locks of the process on it."""
    path = tmp_path / "m.db"
    async with AsyncMemory(config(path)) as memory:
        await memory.add("one")
        async with AsyncMemory(config(path)):
            pass
        other = (
            "import asyncio, sys; from powermem_cli.memory import AsyncMemory\n"
            "async def main():\n"
            "    async with AsyncMemory(eval(sys.argv[1])) as m: await m.add('two')\n"
            "asyncio.run(main())"
        )
        command = [sys.executable, "-c", other, repr(config(path))]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        await memory.add("three")
    async with AsyncMemory(config(path)) as memory:
        assert await held(memory) == ["one", "two", "three"]
