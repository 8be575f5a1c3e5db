"""The packed hashes: what is known is known, whichever process wrote it, in however small or large packs."""

import asyncio
import random

import apsw
import numpy as np
import pytest

from powermem_cli import times
from powermem_cli.errors import InvariantError, StoreCorrupt, StoreError
from powermem_cli.identity import digest
from powermem_cli.model import Scope
from powermem_cli.stores import sqlite_batch, sqlite_filter, sqlite_finder, sqlite_hashes, sqlite_packs
from powermem_cli.stores.base import EVERYTHING, Delete, Insert, Ledger, LedgerRow, Update, Where, Write
from powermem_cli.stores.sqlite import SqliteStore
from powermem_cli.stores.sqlite_hashes import Hashes
from powermem_cli.stores.sqlite_packs import DIGESTS, LEDGER
from powermem_cli.stores.sqlite_schema import pack_everything

pytestmark = pytest.mark.anyio
NOW = times.now()


@pytest.fixture
async def stores(tmp_path, monkeypatch):
    """Two on one file."""
    monkeypatch.setattr(sqlite_hashes, "PACKED_AT", 8)
    monkeypatch.setattr(sqlite_hashes, "HASHES_IN_A_PACK", 16)
    monkeypatch.setattr(sqlite_batch, "WORTH_PACKING_ANEW", 30)
    both = [SqliteStore(str(tmp_path / "s.db")) for _ in range(2)]
    for store in both:
        await store.open("test")
    yield both
    assert await both[0].verify() == []
    for store in both:
        await store.close()


def write(key, text=None, user="ann", unless_known=False):
    said = text or f"text {key}"
    insert = Insert(Scope(user), said, b"", digest(said), NOW, unless_known=unless_known)
    return Write((insert,), Ledger(digest(key), digest(said), "job", NOW))


@pytest.fixture(params=["read again", "held at once"])
def however_found(request, monkeypatch):
    """What may be known is looked up in the packs each time, or in memory from the first time on."""
    monkeypatch.setattr(sqlite_filter, "CAPACITY", 64)
    if request.param == "held at once":
        monkeypatch.setattr(sqlite_hashes, "READ_FOR_EACH", 0)
        monkeypatch.setattr(sqlite_hashes, "READ_AGAIN", 0)


@pytest.mark.usefixtures("however_found")
async def test_every_key_is_done_once(stores):
    pick, done = random.Random(3), set()
    for step in range(60):
        keys = [f"k{pick.randrange(300)}" for _ in range(pick.choice([1, 2, 8, 20]))]
        applied = await stores[step % 2].apply([write(key) for key in keys])
        for key, result in zip(keys, applied, strict=True):
            assert (result.known is not None) == (key in done)
            done.add(key)
        known = await stores[pick.randrange(2)].known([digest(f"k{number}") for number in range(300)])
        assert {*known} == {digest(key) for key in done}
    assert await stores[0].count(EVERYTHING) == len(done)


@pytest.mark.usefixtures("however_found")
async def test_every_text_is_kept_once_for_each_user(stores):
    pick, said = random.Random(4), {}
    for step in range(60):
        texts = [(f"t{pick.randrange(40)}", pick.choice(["ann", "ben"])) for _ in range(pick.choice([1, 3, 12]))]
        doomed = pick.choice([*said]) if said and step % 5 == 4 else None
        # With a deletion among them they are looked up one by one.
        first = [] if doomed is None else [Write((Delete(said.pop(doomed)),))]
        applied = await stores[step % 2].apply(
            [*first, *(write(f"{step} {i}", *one, True) for i, one in enumerate(texts))]
        )
        for one, result in zip(texts, applied[len(first) :], strict=True):
            ((event, id),) = result.events
            assert event == ("NONE" if one in said else "ADD")
            assert said.setdefault(one, id) == id
    assert await stores[0].count(EVERYTHING) == len(said)


async def test_a_text_that_was_changed_is_known_by_what_it_says_now(stores):
    first, second = stores
    (applied,) = await first.apply([write("a", "old")])
    id = applied.events[0][1]
    await second.apply([Write((Update(id, NOW, text="new", vector=b"", digest=digest("new")),))])
    results = await first.apply([write("b", "new", unless_known=True), write("c", "old", unless_known=True)])
    assert [result.events[0][0] for result in results] == ["NONE", "ADD"]


@pytest.mark.usefixtures("however_found")
async def test_hashes_that_are_alike_lead_to_both(stores):
    store = stores[0]
    alike = [bytes(8) + number.to_bytes(8, "big") for number in range(30)]
    for start in (0, 10, 20):
        rows = [
            Write((Insert(Scope("ann"), f"t{i}", b"", alike[i], NOW),), Ledger(alike[i], alike[i], "job", NOW))
            for i in range(start, start + 10)
        ]
        await store.apply(rows)
    assert {*await stores[1].known(alike)} == {*alike}
    assert await stores[1].known([bytes(8) + b"\xff" * 8]) == {}
    await store.delete(EVERYTHING)  # whose texts do not fit their digests, and would be found damaged


@pytest.mark.usefixtures("however_found")
async def test_hashes_that_differ_only_where_they_are_not_compared_lead_to_their_own(stores):
    keys = [number.to_bytes(16, "little") for number in range(78)]  # but for the first byte alike
    for some in (range(20), range(20, 40)):
        await stores[0].apply([Write((), Ledger(keys[number], digest(str(number)), "j", 1)) for number in some])
    found = await stores[1].known([keys[number] for number in (3, 25, 77)])
    assert {key[0]: row.content for key, row in found.items()} == {3: digest("3"), 25: digest("25")}


@pytest.mark.parametrize("alone", [True, False])
async def test_no_id_is_given_again_though_the_clock_is_set_back(stores, monkeypatch, alone):
    _, last = await stores[0].apply([write("a"), write("b")])
    ((_, id),) = last.events
    monkeypatch.setattr(times, "now", lambda: NOW - 5_000_000)
    gone = Write((Delete(id),))
    if alone:
        await stores[0].delete(Where(ids=(id,)))
    *_, new = await stores[1].apply([write("c")] if alone else [gone, write("c")])
    assert new.events[0][1] > id


async def test_what_was_rolled_back_is_not_known(stores):
    store = stores[0]
    with pytest.raises(InvariantError):
        await store.apply([*(write(f"k{i}") for i in range(20)), Write((Insert(Scope("a"), "x", b"", None, NOW),))])
    assert await store.known([digest(f"k{i}") for i in range(20)]) == {}
    results = await store.apply([write(f"k{i}") for i in range(20)])
    assert all(result.known is None for result in results)


async def test_what_another_process_packs_between_two_looks_stays_known(stores):
    await stores[0].apply([write(f"k{i}") for i in range(5)])
    loop, packed = asyncio.get_running_loop(), []

    def pack_first(_cursor, sql, _values):
        if "FROM unpacked_hashes" in sql and not packed:
            packing = stores[1].apply([write(f"more {i}") for i in range(5)])
            packed.append(asyncio.run_coroutine_threadsafe(packing, loop).result())
        return True

    await stores[0]._writing.run(lambda db: setattr(db, "exec_trace", pack_first))
    assert len(await stores[0].known([digest(f"k{i}") for i in range(5)])) == 5
    await stores[0]._writing.run(lambda db: setattr(db, "exec_trace", None))
    assert packed


async def test_rows_of_another_store_are_taken_in_once(stores):
    rows = [LedgerRow(digest(f"k{i}"), digest("x"), "done", (i,)) for i in range(20)]
    assert await stores[0].restore(rows[:12], []) == 12
    assert await stores[1].restore([*rows, rows[15]], []) == 8
    assert {*await stores[0].known([row.key for row in rows])} == {row.key for row in rows}


async def test_a_failed_row_is_written_over(stores):
    failed = Write((), Ledger(digest("k"), digest("x"), "job", NOW, status="failed"))
    for tries in (1, 2):
        await stores[tries % 2].apply([failed, *(write(f"{tries} {i}") for i in range(10))])
        assert (await stores[0].known([digest("k")]))[digest("k")].tries == tries


async def test_a_pack_that_is_damaged_is_an_error(stores):
    await stores[0].apply([write(f"k{i}") for i in range(20)])
    await stores[0]._writing.run(lambda db: db.execute("UPDATE hashes SET led_to = zeroblob(160)").fetchall())
    with pytest.raises(StoreError, match="not as it was written"):
        await stores[1].apply([write("k1")])
    await stores[0]._writing.run(lambda db: (sqlite_hashes.pack_anew(db), sqlite_packs.were_packed_anew(db)))
    (result,) = await stores[1].apply([write("k1")])
    assert result.known is not None


@pytest.mark.parametrize("value", ["x'00'", "zeroblob(24)", "'text'", "7"])
@pytest.mark.parametrize("column", ["ledger.key", "memories.digest", "embeddings.vector"])
async def test_what_is_packed_anew_must_be_as_it_was_written(tmp_path, column, value):
    store, (table, name) = SqliteStore(str(tmp_path / "s.db")), column.split(".")
    await store.open("test")
    insert = Insert(Scope("ann"), "a", bytes(16), digest("a"), NOW)
    await store.apply([Write((insert,), Ledger(digest(key), digest(key), "job", NOW)) for key in "ab"])
    damage = f"UPDATE {table} SET {name} = {value} WHERE rowid = (SELECT max(rowid) FROM {table})"
    await store._writing.run(lambda db: db.execute(damage).fetchall())
    with pytest.raises(StoreCorrupt, match="not as it was written"):
        await store._writing.run(pack_everything)
    await store.close()


async def test_hashes_that_wait_must_be_as_they_were_written(stores):
    await stores[0].apply([write("a")])
    (waiting,) = await stores[0]._writing.run(
        lambda db: db.execute("SELECT hash FROM unpacked_hashes WHERE kind = 0").fetchone()
    )
    for value in ("'text'", "zeroblob(8)", waiting):
        damage = f"UPDATE unpacked_hashes SET hash = {value} WHERE kind = 0"
        await stores[0]._writing.run(lambda db, damage=damage: db.execute(damage).fetchall())
        if value != waiting:
            with pytest.raises(StoreCorrupt, match="not as it was written"):
                await stores[1].apply([write(f"k{number}") for number in range(7)])


async def test_a_hash_that_waits_must_lead_to_a_row(stores):
    await stores[0].apply([write("a")])
    for value in ("'text'", "(SELECT number FROM ledger)"):
        damage = f"UPDATE unpacked_hashes SET led_to = {value} WHERE kind = 0"
        await stores[0]._writing.run(lambda db, damage=damage: db.execute(damage).fetchall())
        if value == "'text'":
            with pytest.raises(StoreCorrupt, match="no row"):
                await stores[1].apply([write("a")])


def connected(path):
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE IF NOT EXISTS hashes (number INTEGER PRIMARY KEY, checksum, kind, hashes, led_to)")
    db.execute("CREATE TABLE IF NOT EXISTS meta (name, value)")
    db.execute("CREATE TABLE IF NOT EXISTS unpacked_hashes (kind, hash, led_to)")
    return db


@pytest.fixture
def pair(tmp_path):
    """Two connections to one file, of which each sees what was there when it began."""
    both = [connected(tmp_path / "h.db") for _ in range(2)]
    both[0].execute("PRAGMA journal_mode = WAL").fetchall()
    yield both
    for db in both:
        db.close()


def keep(db, numbers, kind=LEDGER):
    hashes = Hashes.of_keys([digest(str(number)) for number in numbers])
    Hashes.keep_all(db, kind, hashes, numbers)
    return hashes


def packs_read(db, look):
    """How often `look` reads packs again."""
    seen = []
    db.exec_trace = lambda _cursor, sql, _values: seen.append(sql) is None
    look()
    db.exec_trace = None
    return sum("FROM hashes WHERE kind" in sql for sql in seen)


def test_packs_are_not_read_for_what_is_new(pair):
    db, hashes = pair[0], Hashes()
    known = keep(db, range(1, 20_000))
    assert packs_read(db, lambda: hashes.find(db, LEDGER, known)) == 1
    new = Hashes.of_keys([digest(f"new {number}") for number in range(300)])
    assert packs_read(db, lambda: [hashes.find(db, LEDGER, new[i : i + 1]) for i in range(300)]) == 0
    assert packs_read(db, lambda: hashes.find(db, DIGESTS, known[:300])) == 0


def test_what_is_asked_for_again_and_again_is_held(pair):
    db, hashes = pair[0], Hashes()
    known = keep(db, range(1, 20_000))
    looks = [packs_read(db, lambda: hashes.find(db, LEDGER, known[:1])) for _ in range(20)]
    assert looks == [1] * sum(looks) + [0] * (20 - sum(looks))
    assert 7 < sum(looks) < 12
    later = keep(db, range(20_000, 20_400))
    assert hashes.find(db, LEDGER, later[-300:]) == [*range(20_100, 20_400)]
    assert hashes.find(db, DIGESTS, known) == []


def test_a_large_batch_that_knows_much_is_no_reason_to_hold_all(pair):
    db, hashes = pair[0], Hashes()
    known = keep(db, range(1, 20_000))
    assert {packs_read(db, lambda: hashes.find(db, LEDGER, known[:1000])) for _ in range(30)} == {1}


def test_what_a_transaction_that_began_earlier_holds_is_not_all(pair, monkeypatch):
    writing, reading = pair
    monkeypatch.setattr(sqlite_hashes, "READ_FOR_EACH", 0)
    monkeypatch.setattr(sqlite_hashes, "READ_AGAIN", 1)
    hashes, first = Hashes(), keep(writing, range(1, 400))
    reading.execute("BEGIN")
    assert hashes.find(reading, LEDGER, first[:1]) == [1]
    later = keep(writing, range(400, 800))
    assert hashes.find(writing, LEDGER, Hashes.of_keys([digest("new")])) == []
    assert packs_read(reading, lambda: hashes.find(reading, LEDGER, first[:1])) == 0  # it holds what it sees
    assert hashes.find(writing, LEDGER, np.concatenate([first, later])) == [*range(1, 800)]


@pytest.mark.parametrize("damage", ["hashes = x'00'", "hashes = 'text'", "led_to = NULL", "led_to = zeroblob(3192)"])
def test_a_pack_that_was_damaged_since_it_was_taken_is_an_error(pair, damage):
    db, hashes = pair[0], Hashes()
    known = keep(db, range(1, 400))
    assert hashes.find(db, LEDGER, known[:1]) == [1]
    db.execute(f"UPDATE hashes SET {damage}")
    with pytest.raises(apsw.CorruptError, match="not as it was written"):
        hashes.find(db, LEDGER, known[:1])


def test_a_pack_may_not_be_cut():
    db = connected(":memory:")
    sqlite_hashes.Hashes.keep(db, 0, bytes(16), bytes(8))
    with pytest.raises(apsw.CorruptError):
        sqlite_hashes.Hashes().find(db, 0, np.zeros(1, np.int64))


def packed_as_in_the_fourth_version(db):
    """The digests of texts without whose they are."""
    db.execute("DELETE FROM hashes WHERE kind = 2; DELETE FROM unpacked_hashes WHERE kind = 2")
    rows = db.execute("SELECT digest, id FROM memories").fetchall()
    digests, ids = zip(*rows, strict=True)
    Hashes.keep_all(db, 1, Hashes.of_keys(digests), ids)


async def test_a_store_of_the_fourth_version_knows_what_it_knew(stores):
    await stores[0].apply([write(f"k{i}", f"text {i}") for i in range(30)])
    await stores[0]._writing.run(packed_as_in_the_fourth_version)
    await stores[0]._writing.run(lambda db: db.execute("PRAGMA user_version = 4").fetchall())
    later = SqliteStore(str(stores[0].path))
    await later.open("test")
    applied = await later.apply([write(f"l{i}", f"text {i}", unless_known=True) for i in range(31)])
    assert [result.events[0][0] for result in applied] == [*(["NONE"] * 30), "ADD"]
    assert (await later.describe())["schema"] == 5
    await later.close()


async def test_hashes_that_an_older_program_added_meanwhile_are_told_and_mended(stores):
    await stores[0].apply([write(f"k{i}", f"text {i}") for i in range(30)])
    await stores[0]._writing.run(packed_as_in_the_fourth_version)
    assert "its hash does not lead to it" in (await stores[1].verify())[0]
    assert await stores[1].optimize()
    assert not await stores[1].optimize()
    (result,) = await stores[1].apply([write("l", "text 7", unless_known=True)])
    assert result.events[0][0] == "NONE"


async def test_what_thousands_say_leads_to_ones_own(stores):
    await stores[0].apply([write(f"k{i}", "thanks", user=f"u{i}") for i in range(300)])
    ((_, own),) = (await stores[0].apply([write("again", "thanks", user="u7", unless_known=True)]))[0].events
    whose = await stores[0]._writing.run(
        lambda db: db.execute("SELECT user, agent, run FROM memories WHERE id = ?", (own,)).fetchone()
    )
    finder = sqlite_finder.Finder()
    assert await stores[0]._writing.run(lambda db: finder.holding(db, [digest("thanks")], [whose])) == [own]
