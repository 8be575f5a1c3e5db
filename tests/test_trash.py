"""What is deleted by the scope can be brought back as it was, and what is purged is nowhere any more."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest
from places import MODEL, SqlitePlace, add, digest, insert, noted, texts, vector

from powermem_cli import times
from powermem_cli.errors import StoreError, UsageError
from powermem_cli.filters import parse_filter
from powermem_cli.model import Origin, Scope
from powermem_cli.moving import export
from powermem_cli.stores.base import EVERYTHING, Delete, Update, Where, Write
from powermem_cli.trash import FORGOTTEN, KEPT, Trash

pytestmark = pytest.mark.anyio

ANN, BEN = Scope("ann"), Scope("ben")


class Embedder:
    """Makes `vector(length of the text)`, and counts."""

    def __init__(self, model=MODEL):
        self.model = model
        self.asked = []

    async def embed(self, texts):
        self.asked += texts
        return [vector(len(text)) for text in texts]


async def everything(store):
    """All rows, but for the line that says when they were read."""
    pages = [page async for page in export(store, EVERYTHING, vectors=True)]
    return [line for page in pages[1:] for line in page]


async def fill(store):
    """40 memories of Ann and Ben, some with a past, all in the ledger."""
    inserts = [
        insert(
            f"memory {i}",
            ("ann", "ben")[i % 2],
            vector=vector(i),
            metadata={"n": i},
            origin=Origin("job", "a.jsonl", i, "user"),
            created_at=1_700_000_000_000_000 + i,
        )
        for i in range(40)
    ]
    applied = await store.apply([Write((one,), noted(str(i))) for i, one in enumerate(inserts)])
    ids = [result.events[0][1] for result in applied]
    past = [Update(id, 77, text=f"new {id}", digest=digest(f"new {id}"), vector=vector(id)) for id in ids[:4]]
    await store.apply([Write((change,)) for change in (*past, Delete(ids[-1]), Delete(ids[-2]))])
    return ids


async def test_all_comes_back_as_it_was(store, tmp_path):
    await fill(store)
    before = await everything(store)
    trash = Trash(tmp_path / "trash", store)
    deleted = await trash.delete(Where(ANN))
    assert (deleted.number, deleted.left) == (19, 0)
    assert await texts(store, Where(ANN)) == []
    assert len(await texts(store)) == 19
    (piece,) = await trash.pieces()
    assert (piece.name, piece.memories, piece.scope["user_id"]) == (deleted.name, 19, "ann")
    embedder = Embedder()
    taken = await trash.restore(piece.name, embedder)
    assert (taken.added, taken.records, embedder.asked) == (19, 2, [])
    assert await everything(store) == before
    assert await trash.pieces() == []


async def test_what_is_deleted_stays_so_when_its_records_come_again(store, tmp_path):
    ids = await fill(store)
    trash = Trash(tmp_path / "trash", store)
    deleted = await trash.delete(EVERYTHING)
    again = [Write((insert("memory 0", "ann"),), noted("0"))]
    assert (await store.apply(again))[0].known.memory_ids == (ids[0],)
    await trash.restore(deleted.name, Embedder())
    assert (await store.apply(again))[0].known.memory_ids == (ids[0],)
    assert len(await texts(store)) == 38


async def test_only_what_a_filter_names(store, tmp_path):
    await fill(store)
    trash = Trash(tmp_path / "trash", store)
    deleted = await trash.delete(Where(ANN, parse_filter({"n": {"lt": 10}})))
    assert deleted.number == 5
    assert len(await texts(store, Where(ANN))) == 14


async def test_what_changes_meanwhile_is_neither_lost_nor_deleted(place, tmp_path, monkeypatch):
    async with place.opened() as store, place.opened() as other:
        ids = await fill(store)
        real = store.delete

        async def delete(where):
            """As another process would: between the file in the trash and the deletion."""
            await add(other, insert("added meanwhile", "ann", vector=vector(1)))
            await other.apply([Write((Update(ids[6], times.now(), ANN, metadata={"n": "changed"}),))])
            return await real(where)

        monkeypatch.setattr(store, "delete", delete)
        trash = Trash(tmp_path / "trash", store)
        deleted = await trash.delete(Where(ANN))
        assert (deleted.number, deleted.left) == (18, 1)
        assert await texts(store, Where(ANN)) == ["memory 6", "added meanwhile"]
        taken = await trash.restore(deleted.name, Embedder())
        assert (taken.added, taken.conflicts) == (18, [ids[6]])
        assert len(await trash.pieces()) == 1  # it holds what is not there


async def test_it_comes_back_with_vectors_of_the_embedder_there_is_now(new_place, tmp_path):
    place = new_place("sqlite")
    async with place.opened() as store:
        await add(store, insert("a", vector=vector(1)))
        deleted = await Trash(tmp_path, store).delete(EVERYTHING)
    other = SqlitePlace(tmp_path / "copy.db")
    other.path.write_bytes(place.path.read_bytes())
    async with other.opened(MODEL) as store:
        embedder = Embedder("another")
        taken = await Trash(tmp_path, store).restore(deleted.name, embedder)
        assert (taken.added, embedder.asked) == (1, ["a"])


async def test_purged_is_gone_from_history_trash_and_ledger(store, tmp_path):
    ids = await fill(store)
    trash = Trash(tmp_path / "trash", store)
    await trash.delete(Where(ANN, parse_filter({"n": {"lt": 10}})))
    await trash.delete(EVERYTHING)
    await trash.restore((await trash.pieces())[0].name, Embedder())
    assert await trash.purge(ANN) == 14
    rows = await everything(store)
    whose = {line["user_id"] for line in rows if line["type"] in {"memory", "history"}}
    assert whose == {"ben"}
    known = await store.known([digest(str(i)) for i in range(40)])
    for i in range(40):
        row = known[digest(str(i))]
        assert row.memory_ids == (ids[i],)
        assert (row.content == FORGOTTEN) == (i % 2 == 0)
    assert await trash.pieces() == []
    assert not any((tmp_path / "trash").iterdir())


async def test_a_purge_takes_its_part_out_of_what_holds_more(new_place, tmp_path):
    async with new_place("sqlite").opened() as store:
        await fill(store)
        trash = Trash(tmp_path, store)
        deleted = await trash.delete(EVERYTHING)
        await trash.purge(ANN)
        assert "ann" not in (tmp_path / f"{deleted.name}.jsonl").read_text("utf-8")
        (piece,) = await trash.pieces()
        assert piece.memories == 19
        taken = await trash.restore(piece.name, Embedder())
        assert (taken.added, taken.whole) == (19, True)


async def test_files_are_private_of_one_store_and_go_in_time(new_place, tmp_path):
    folder = tmp_path / "trash"
    async with new_place("sqlite").opened() as store, new_place("sqlite").opened() as other:
        for one in (store, other):
            await add(one, insert("a"))
        trash, others = Trash(folder, store), Trash(folder, other)
        first = await trash.delete(EVERYTHING)
        await others.delete(EVERYTHING)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        assert [piece.name for piece in await trash.pieces()] == [first.name]
        with pytest.raises(UsageError, match="in the trash"):
            await others.restore(first.name, Embedder())
        long_ago = time.time() - KEPT - 60
        os.utime(folder / f"{first.name}.jsonl", (long_ago, long_ago))
        (folder / "a-b-c-d.jsonl.partial").write_text("half", "utf-8")
        await add(store, insert("b"))
        second = await trash.delete(EVERYTHING)
        assert [piece.name for piece in await trash.pieces()] == [second.name]
        await trash.drop([second.name])
        assert await trash.pieces() == []
        assert len(list(folder.iterdir())) == 1


async def test_where_nothing_can_be_kept_nothing_is_deleted(new_place, tmp_path):
    (tmp_path / "trash").write_text("in the way", "utf-8")
    async with new_place("sqlite").opened() as store:
        await add(store, insert("a"))
        with pytest.raises(StoreError) as caught:
            await Trash(tmp_path / "trash", store).delete(EVERYTHING)
        assert "--no-trash" in caught.value.hint
        assert await texts(store) == ["a"]


async def test_a_file_that_was_cut_short_is_not_dropped(new_place, tmp_path):
    async with new_place("sqlite").opened() as store:
        await add(store, insert("a"), insert("b"))
        trash = Trash(tmp_path, store)
        deleted = await trash.delete(EVERYTHING)
        path = tmp_path / f"{deleted.name}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], json.dumps({**json.loads(lines[-1]), "memory": 3}).encode(), b"\n"]))
        taken = await trash.restore(deleted.name, Embedder())
        assert (taken.added, taken.whole) == (1, False)
        assert len(await trash.pieces()) == 1


async def test_cut_off_before_the_deletion_nothing_is_lost_nor_doubled(new_place, tmp_path, monkeypatch):
    async with new_place("sqlite").opened() as store:
        await fill(store)
        before = await everything(store)

        async def delete(where):
            raise StoreError("the machine went down")

        with monkeypatch.context() as patch:
            patch.setattr(store, "delete", delete)
            with pytest.raises(StoreError):
                await Trash(tmp_path, store).delete(EVERYTHING)
        trash = Trash(tmp_path, store)
        (piece,) = await trash.pieces()
        taken = await trash.restore(piece.name, Embedder())
        assert (taken.added, taken.there) == (0, 38)
        assert await everything(store) == before
