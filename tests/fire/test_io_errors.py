"""A disk that fails: every read, write and fsync of a small job, once and for ever. Nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from fire.faults import EIO, ENOSPC, Faults, injected
from memories import config, held

from powermem_cli.cli.exits import Exit, exit_of
from powermem_cli.errors import PowerMemError, StoreError, StoreFull
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope

pytestmark = [
    pytest.mark.anyio,
    # What SQLite passes over in silence (a checkpoint that failed is tried again), apsw reports all the same.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROUNDS = 3
PER_ROUND = 4


def records(round: int) -> list[Record]:
    return [
        Record(memory=f"note {number} of round {round}", scope=Scope(f"u{number % 2}"), key=f"{round}-{number}")
        for number in range(PER_ROUND)
    ]


EVERYTHING = sorted(record.memory for round in range(ROUNDS) for record in records(round))


async def job(path: Path) -> tuple[list[str], PowerMemError | None]:
    """Add, look, change, round after round until an error: what was acknowledged, and the error."""
    kept: list[str] = []
    try:
        async with AsyncMemory(config(path, embedding_dims=8)) as memory:
            for round in range(ROUNDS):
                outcomes = await memory.add_records(records(round), job="job")
                kept += [outcome.record.memory for outcome in outcomes]
                await memory.search("note", limit=3)
                await held(memory)
    except PowerMemError as error:
        return kept, error
    return kept, None


async def trial(folder: Path, faults: Faults) -> PowerMemError | None:
    """One job with a fault in it, then the same job on a sound disk: what the first one ended with."""
    path = folder / f"{faults.at}.db"
    with injected(faults):
        kept, error = await job(path)
    async with AsyncMemory(config(path, embedding_dims=8)) as memory:
        assert set(kept) <= set(await held(memory)), (faults.at, faults.done[-5:])
    _, sound = await job(path)
    assert sound is None
    async with AsyncMemory(config(path, embedding_dims=8)) as memory:
        assert sorted(await held(memory)) == EVERYTHING
        assert await memory._store.verify() == []
    return error


async def operations(folder: Path, codes: dict[str, int]) -> int:
    """How many operations of those kinds the job does."""
    with injected(Faults(codes)) as faults:
        _, error = await job(folder / "sound.db")
    assert error is None
    return faults.counted


async def failures(folder: Path, codes: dict[str, int], for_ever: bool, step: int) -> list[PowerMemError]:
    """What the job ended with, with a fault at every *step*-th operation."""
    number = await operations(folder, codes)
    assert number > 5
    start = random.randrange(step)
    ends = [await trial(folder, Faults(codes, at, for_ever)) for at in range(start, number, step)]
    return [error for error in ends if error is not None]


async def io_errors(folder: Path, kind: str, for_ever: bool, step: int) -> None:
    met = await failures(folder, {kind: EIO[kind]}, for_ever, step)
    assert met
    assert all(isinstance(error, StoreError) and exit_of(error) is Exit.STORE for error in met), met


async def no_room(folder: Path, for_ever: bool, step: int) -> None:
    met = await failures(folder, {"write": ENOSPC["write"]}, for_ever, step)
    assert met
    assert all(isinstance(error, StoreFull) and "bytes free" in error.message for error in met), met


@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize(("kind", "step"), [("read", 23), ("write", 17), ("sync", 5)])
async def test_io_errors(tmp_path, kind, step, for_ever):
    await io_errors(tmp_path, kind, for_ever, step)


@pytest.mark.parametrize("for_ever", [False, True])
async def test_no_room(tmp_path, for_ever):
    await no_room(tmp_path, for_ever, 17)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("kind", ["read", "write", "sync"])
async def test_an_io_error_at_every_operation(tmp_path, kind, for_ever):
    await io_errors(tmp_path, kind, for_ever, 1)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("for_ever", [False, True])
async def test_no_room_at_every_write(tmp_path, for_ever):
    await no_room(tmp_path, for_ever, 1)


async def test_after_a_failed_fsync_nothing_is_written_until_the_store_is_opened_again(tmp_path):
    faults = Faults({"sync": EIO["sync"]})
    with injected(faults):
        async with AsyncMemory(config(tmp_path / "m.db", embedding_dims=8)) as memory:
            await memory.add("one")
            faults.at = faults.counted
            with pytest.raises(StoreError, match="disk I/O error"):
                await memory.add("two")
            struck = len(faults.done)
            assert faults.failed_at is not None
            for _ in range(2):
                with pytest.raises(StoreError, match="closed after") as caught:
                    await memory.add("three")
            assert caught.value.hint is not None
            # Whether "two" was kept is open, as after a power cut: nobody was told that it was.
            assert await held(memory) in (["one"], ["one", "two"])
    after = faults.done[struck:]
    assert [what for what in after if what[0] != "read"] == []
    assert [what for what in faults.done[faults.failed_at : struck] if what[0] != "read"] == []
    async with AsyncMemory(config(tmp_path / "m.db", embedding_dims=8)) as memory:
        await memory.add("three")
        assert (await held(memory))[0] == "one"


async def test_concurrent_adds_share_a_few_fsyncs(tmp_path):
    faults = Faults()
    with injected(faults):
        async with AsyncMemory(config(tmp_path / "m.db", embedding_dims=8)) as memory:
            await memory.add("the first")
            faults.done.clear()
            await asyncio.gather(*(memory.add(f"note {number}") for number in range(100)))
            together = faults.syncs("-wal")
            faults.done.clear()
            for number in range(5):
                await memory.add(f"alone {number}")
            alone = faults.syncs("-wal")
    assert 1 <= together <= 5
    assert alone >= 5, "each acknowledged add was forced to the disk"


async def test_every_writing_connection_waits_for_the_disk(tmp_path):
    async with AsyncMemory(config(tmp_path / "m.db")) as memory:
        connection = memory._store._writing

        def pragmas(db):
            return [db.pragma(name) for name in ("journal_mode", "synchronous", "cell_size_check", "trusted_schema")]

        assert await connection.run(pragmas) == ["wal", 2, 1, 0]
