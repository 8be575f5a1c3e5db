"""Backups of an SQLite store: whole, of one moment, and nothing under the final name until they are."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys

import apsw
import pytest
from places import SqlitePlace, add, insert, noted, texts, vector

from powermem_cli.errors import StoreBusy, StoreCorrupt, UsageError
from powermem_cli.stores.base import Write
from powermem_cli.stores.sqlite_backup import back_up
from powermem_cli.whole_file import claimed

pytestmark = pytest.mark.anyio

SOAK = pytest.param(63, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])


@pytest.fixture
def place(tmp_path):
    return SqlitePlace(tmp_path / "a.db")


@pytest.fixture
def copy(tmp_path):
    return SqlitePlace(tmp_path / "copy.db")


def memory(number):
    text = str(number)
    return Write((insert(text, vector=vector(number)),), noted(text))


@pytest.mark.parametrize("stores", [1, SOAK])
async def test_each_of_many_during_writing_is_what_was_there_at_one_moment(tmp_path, copy, stores):
    for number in range(stores):
        await backed_up(SqlitePlace(tmp_path / f"{number}.db"), copy, 8)


async def backed_up(place, copy, backups):
    async def write(store):
        for start in range(0, 10**9, 3):
            await store.apply([memory(number) for number in range(start, start + 3)])

    async with place.opened() as store, place.opened() as reader:
        writing = asyncio.create_task(write(store))
        had = -1
        for _ in range(backups):
            await back_up(reader, copy.path, replace=True)  # which looks through it
            async with copy.opened(access="read") as opened:
                held = await texts(opened)
                assert held == [str(number) for number in range(len(held))]
                assert len(held) % 3 == 0
                async with opened.snapshot() as snapshot:
                    assert len(await snapshot.ledger(limit=10**6)) == len(held)
                assert len(held) >= had
                had = len(held)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert had > 0


async def test_a_backup_goes_on_as_a_store(place, copy):
    async with place.opened() as store:
        await store.apply([memory(number) for number in range(3)])
        size = await back_up(store, copy.path, replace=False)
        name = await store.identity()
    assert copy.path.stat().st_size == size
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
    assert {path.name for path in copy.path.parent.iterdir()} <= {"a.db", "a.db-wal", "a.db-shm", "copy.db"}
    async with copy.opened() as opened:
        assert await opened.identity() == name
        assert not (await opened.apply([memory(2)]))[0].events  # the ledger came with it
        await add(opened, insert("new", vector=vector(9)))
        assert await texts(opened) == ["0", "1", "2", "new"]


async def test_nothing_is_written_over(place, copy):
    async with place.opened() as store:
        await add(store, insert("a"))
        copy.path.write_text("mine", "utf-8")
        for path in (copy.path, place.path, copy.path.parent, copy.path.parent / "none" / "x.db"):
            with pytest.raises(UsageError):
                await back_up(store, path, replace=False)
        with pytest.raises(UsageError, match="the store itself"):
            await back_up(store, place.path, replace=True)
        assert copy.path.read_text("utf-8") == "mine"
        waiting = copy.path.with_name("copy.db-wal")
        waiting.write_bytes(b"changes of another database")
        with pytest.raises(StoreBusy, match="somebody uses"):
            await back_up(store, copy.path, replace=True)
        waiting.unlink()
        with claimed(copy.path), pytest.raises(StoreBusy, match="another run"):
            await back_up(store, copy.path, replace=True)
        assert copy.path.read_text("utf-8") == "mine"
        await back_up(store, copy.path, replace=True)
    async with copy.opened(access="read") as opened:
        assert await texts(opened) == ["a"]


async def test_of_a_damaged_store_there_is_no_backup(place, copy):
    async with place.opened() as store:
        await add(store, insert("a", vector=vector(1)))
    damaging = apsw.Connection(str(place.path))
    damaging.execute("UPDATE memories SET text = 'b'")
    damaging.close()
    async with place.opened(access="read") as store:
        with pytest.raises(StoreCorrupt, match="not sound"):
            await back_up(store, copy.path, replace=False)
    assert not list(copy.path.parent.glob("copy.db*"))


_FOREVER = """
import asyncio, sys
from pathlib import Path
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.stores.sqlite_backup import back_up

async def main():
    store = SqliteStore(sys.argv[1], access="read")
    await store.open(None)
    while True:
        print("begin", flush=True)
        await back_up(store, Path(sys.argv[2]), replace=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
async def test_killed_at_any_moment_it_leaves_the_old_or_the_new(place, copy, kills):
    async with place.opened() as store:
        await store.apply([memory(number) for number in range(500)])
    for round_ in range(kills):
        with subprocess.Popen(  # noqa: ASYNC220 - nothing else goes on here
            [sys.executable, "-c", _FOREVER, place.path, copy.path], stdout=subprocess.PIPE
        ) as process:
            for _ in range(1 + round_ % 5):
                assert process.stdout.readline()
            for _ in range(round_ * 997 % 20_000):  # another moment each time
                copy.path.exists()
            process.kill()
        if copy.path.exists():
            async with copy.opened(access="read") as opened:
                assert await opened.verify() == []
                assert len(await texts(opened)) == 500
    async with place.opened() as store:  # what is left of it is in nobody's way
        await back_up(store, copy.path, replace=True)
    assert not list(copy.path.parent.glob("*.partial"))
