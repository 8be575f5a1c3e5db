"""A change of the embedder: all vectors at once, gone on with after a stop, and never two models in one ranking."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from memories import MoodyEmbedder, config, held, ids
from places import SqlitePlace, add, insert

from powermem_cli.errors import EmbedderMismatch, ProviderRefused, StoreBusy
from powermem_cli.memory import AsyncMemory
from powermem_cli.reembed import reembed
from powermem_cli.stores.base import EVERYTHING
from powermem_cli.stores.sqlite_connection import _connect
from powermem_cli.stores.sqlite_reembed import NewVectors
from powermem_cli.stores.sqlite_signatures import Signatures, nearest

pytestmark = pytest.mark.anyio

OLD, NEW = 8, 16
TEXTS = [f"number {n}" for n in range(600)]


@pytest.fixture
async def place(tmp_path):
    """A store of 600 memories with vectors of 8 dimensions."""
    place = SqlitePlace(tmp_path / "a.db")
    vectors = await MoodyEmbedder(OLD).embed(TEXTS)
    async with place.opened(f"moody/{OLD}") as store:
        await add(store, *[insert(text, "anna", vector=vector) for text, vector in zip(TEXTS, vectors, strict=True)])
    return place


async def carried_out(place, embedder):
    async with place.opened(None, access="write") as store:
        return await reembed(store, embedder)


async def first_hit(place, text, dims=NEW):
    async with AsyncMemory(config(place.path, embedding_dims=dims)) as memory:
        (hit,) = (await memory.search(text, "anna", limit=1))["results"]
        return hit["memory"]


async def sound(place):
    async with place.opened(None, access="read") as store:
        return await store.verify() == []


async def test_all_memories_are_found_by_the_new_model_and_stay_what_they_were(place):
    async with place.opened(None) as store:
        before = await store.find(EVERYTHING, limit=1000)
    done = await carried_out(place, MoodyEmbedder(NEW))
    assert (done.was, done.model, done.made, done.kept) == ("moody/8", "moody/16", 600, 0)
    async with place.opened("moody/16") as store:
        assert await store.find(EVERYTHING, limit=1000) == before
        described = await store.describe()
        assert (described["model"], described["dims"]) == ("moody/16", NEW)
        for text in TEXTS[::150]:
            (vector,) = await MoodyEmbedder(NEW).embed([text])
            (hit,) = await store.nearest(vector, EVERYTHING, limit=1)
            assert (hit.id, hit.score) == (before[TEXTS.index(text)].id, pytest.approx(1))
    assert await sound(place)
    assert not list(place.path.parent.glob("*.reembed*"))
    again = MoodyEmbedder(NEW)
    assert (await carried_out(place, again)).made == 0
    assert again.calls == []


async def test_the_error_of_another_model_names_the_cure(place):
    with pytest.raises(EmbedderMismatch) as caught:
        await first_hit(place, TEXTS[0])
    assert "powermem db reembed" in caught.value.hint


class Failing(MoodyEmbedder):
    """Refuses its second call."""

    async def embed_each(self, texts):
        if len(self.calls) == 1:
            raise ProviderRefused("the key is refused", provider="moody", status=401)
        return await super().embed_each(texts)


async def test_what_was_made_before_a_stop_is_not_made_again(place):
    with pytest.raises(ProviderRefused):
        await carried_out(place, Failing(NEW))
    assert await first_hit(place, TEXTS[7], OLD) == TEXTS[7]  # nothing has changed
    async with AsyncMemory(config(place.path, embedding_dims=OLD)) as memory:
        (first, second) = ids(await memory.get_all(limit=2))
        await memory.update(first, "another text")
        await memory.delete(second)
    embedder = MoodyEmbedder(NEW)
    done = await carried_out(place, embedder)
    assert done.kept == 512
    assert [text for call in embedder.calls for text in call] == ["another text", *TEXTS[512:]]
    assert await first_hit(place, "another text") == "another text"
    assert await sound(place)


class Watching(MoodyEmbedder):
    """Calls *meanwhile* while it works, the first time."""

    def __init__(self, dims, meanwhile):
        super().__init__(dims)
        self.meanwhile = meanwhile

    async def embed_each(self, texts):
        if not self.calls:
            await self.meanwhile()
        return await super().embed_each(texts)


async def test_meanwhile_searches_and_writes_go_on_and_then_the_old_model_is_refused(place):
    async with AsyncMemory(config(place.path, embedding_dims=OLD)) as memory:

        async def meanwhile():
            assert ids(await memory.search(TEXTS[3], limit=1))
            await memory.add("added meanwhile", "anna", infer=False)
            with pytest.raises(StoreBusy, match="another process"):
                await carried_out(place, MoodyEmbedder(NEW))

        await carried_out(place, Watching(NEW, meanwhile))
        for use in (memory.search(TEXTS[3]), memory.add("too late", "anna", infer=False)):
            with pytest.raises(EmbedderMismatch, match="moody/16"):
                await use
        assert (await held(memory))[-1] == "added meanwhile"
    assert await first_hit(place, "added meanwhile") == "added meanwhile"


async def test_a_search_that_began_before_is_told_to_come_again(place):
    signs = Signatures()
    (vector,) = await MoodyEmbedder(OLD).embed(["number 3"])
    with contextlib.closing(_connect(place.path, readonly=True)) as early:
        early.execute("BEGIN; SELECT name FROM meta").fetchall()
        await carried_out(place, MoodyEmbedder(NEW))
        with contextlib.closing(_connect(place.path, readonly=True)) as late:
            assert len(signs.of(late).ids) == len(TEXTS)
        with pytest.raises(StoreBusy, match="embedded anew while they were searched"):
            nearest(early, signs, vector, EVERYTHING, 5)


async def test_a_model_of_the_same_width_is_not_taken_for_the_old_one(place):
    async with AsyncMemory(config(place.path, embedding_dims=OLD)) as memory:
        other = MoodyEmbedder(OLD)
        other.model = "other/8"
        await carried_out(place, other)
        with pytest.raises(EmbedderMismatch, match="other/8"):
            await memory.search(TEXTS[3])


async def test_a_text_that_the_new_model_does_not_take_is_found_by_its_words(place):
    done = await carried_out(place, MoodyEmbedder(NEW, poison=TEXTS[599]))
    assert (done.made, done.refused) == (600, 1)
    async with AsyncMemory(config(place.path, embedding_dims=NEW)) as memory:
        assert "number 599" in [hit["memory"] for hit in (await memory.search("what is 599?"))["results"]]
    assert await sound(place)


async def test_a_store_without_memories_takes_the_new_model(tmp_path):
    place = SqlitePlace(tmp_path / "a.db")
    async with place.opened("moody/8") as store:
        assert (await carried_out(place, MoodyEmbedder(NEW))).was is None
        (vector,) = await MoodyEmbedder(OLD).embed(["x"])
        await add(store, insert("x", vector=vector))
        await store.delete(EVERYTHING)
    await carried_out(place, MoodyEmbedder(NEW))
    async with AsyncMemory(config(place.path, embedding_dims=NEW)) as memory:
        await memory.add("first", infer=False)
        assert await held(memory) == ["first"]


async def test_vectors_for_another_model_are_dropped(place):
    with contextlib.closing(NewVectors(place.path, "store", "first")) as vectors:
        vectors.keep([], [])
    with pytest.raises(ProviderRefused):
        await carried_out(place, Failing(32))
    done = await carried_out(place, MoodyEmbedder(NEW))
    assert (done.made, done.kept) == (600, 0)


_KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = sys.argv[2:]
from memories import MoodyEmbedder
from powermem_cli.reembed import reembed
from powermem_cli.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1], access="write")
    await store.open(None)
    await reembed(store, MoodyEmbedder(16), lambda done: os.kill(os.getpid(), signal.SIGKILL))

asyncio.run(main())
"""


async def test_killed_in_the_middle_it_goes_on(place):
    done = subprocess.run([sys.executable, "-c", _KILLED, place.path, *sys.path], check=False)  # noqa: ASYNC221
    assert done.returncode == -9
    assert await first_hit(place, TEXTS[7], OLD) == TEXTS[7]
    finished = await carried_out(place, MoodyEmbedder(NEW))
    assert (finished.kept, finished.made) == (512, 88)
    assert await sound(place)
