"""Export and import: another store holds the same afterwards, on whatever engine, and nothing is lost in silence."""

from __future__ import annotations

import json

import pytest
from places import MODEL, add, digest, insert, noted, vector

from powermem_cli import moving
from powermem_cli.errors import EmbedderMismatch, InvalidInput, ProviderRefused
from powermem_cli.exchange import encoded
from powermem_cli.filters import parse_filter
from powermem_cli.model import Origin, Scope
from powermem_cli.moving import Import, export
from powermem_cli.stores.base import EVERYTHING, Delete, Update, Where, Write

pytestmark = pytest.mark.anyio

ANN = Scope("ann")
FUTURE = 4_000_000_000_000_000


class Embedder:
    """Makes `vector(length of the text)`, and counts."""

    def __init__(self, model=MODEL):
        self.model = model
        self.asked = []

    async def embed(self, texts):
        self.asked += texts
        return [vector(len(text)) for text in texts]


async def exported(store, where=EVERYTHING, *, vectors=True):
    return [encoded(line) async for page in export(store, where, vectors=vectors) for line in page]


async def taken(store, lines, embedder=None):
    return await Import(store, embedder or Embedder()).run(lines)


def body(lines):
    """Without the head, which says when it was made."""
    return lines[1:]


async def fill(store, number):
    inserts = [
        insert(
            f'memory {i} \N{SNOWMAN} "quoted" \\ \n{i % 7}',
            f"user {i % 5}",
            vector=vector(i) if i % 10 else b"",
            metadata={"n": i, "deep": [{"x": 0.1}]} if i % 3 else {},
            origin=Origin("job", "a.jsonl", i, "user") if i % 2 else None,
            expires_at=FUTURE + i if i % 4 == 0 else None,
        )
        for i in range(number)
    ]
    applied = await store.apply([Write((one,), noted(str(i))) for i, one in enumerate(inserts)])
    ids = [result.events[0][1] for result in applied]
    changes = [Update(id, 77, text=f"new {id}", digest=digest(f"new {id}"), vector=vector(id)) for id in ids[::9]]
    await store.apply([Write((change,)) for change in (*changes, *map(Delete, ids[::11]))])


@pytest.mark.parametrize(("name", "most"), [("LINES_AT_ONCE", 7), ("BYTES_AT_ONCE", 1500)])
async def test_however_many_are_taken_in_at_once_it_is_the_same(new_place, monkeypatch, name, most):
    async with new_place("sqlite").opened() as first, new_place("sqlite").opened() as second:
        await fill(first, 50)
        lines = await exported(first)
        monkeypatch.setattr(moving, name, most)
        heard = []
        result = await Import(second, Embedder(), lambda taken: heard.append(taken.added)).run(lines)
        assert (result.whole, result.rejected, result.bytes_read) == (True, 0, sum(map(len, lines)))
        assert len(heard) > 5
        assert sorted(body(await exported(second))) == sorted(body(lines))


async def test_what_ends_it_leaves_nobody_reading(new_place, monkeypatch):
    """The lines may come from a file that is closed right after."""
    async with new_place("sqlite").opened() as first, new_place("sqlite").opened() as second:
        await fill(first, 50)
        lines = iter(await exported(first))
        monkeypatch.setattr(moving, "LINES_AT_ONCE", 5)

        class Refusing(Embedder):
            async def embed(self, texts):
                raise ProviderRefused("no", provider="p", status=401)

        importing = Import(second, Refusing("another"), anew=True)
        with pytest.raises(ProviderRefused):
            await importing.run(lines)
        assert len(list(lines)) > 40  # but for two pages, and nothing takes them from us
        assert await second.count(EVERYTHING) == 0


async def test_around_all_engines_and_back_it_is_the_same(new_place):
    async with new_place("sqlite").opened() as first:
        await fill(first, 500)
        expected = lines = await exported(first)
    for engine in ("oceanbase", "postgres", "sqlite"):
        async with new_place(engine).opened() as store:
            result = await taken(store, lines)
            assert (result.whole, result.rejected, result.conflicting, result.there) == (True, 0, 0, 0)
            lines = await exported(store)
            assert sorted(body(lines)) == sorted(body(expected)), engine
            again = await taken(store, lines)
            assert (again.added, again.records, again.there) == (0, 0, result.added)
    assert sum(b'"type":"history"' in line for line in lines) > 90
    assert sum(b'"type":"ledger"' in line for line in lines) == 500


class TestExport:
    async def test_the_first_line_says_what_it_is_and_the_last_how_much(self, store):
        await add(store, insert("x", vector=vector(1)))
        first, _, last = map(json.loads, await exported(store))
        assert (first["type"], first["version"], first["model"], first["dims"]) == ("powermem", 1, MODEL, 8)
        assert last == {"type": "end", "memory": 1, "history": 0, "ledger": 0}

    async def test_a_part_of_the_store_is_its_memories_alone(self, store):
        await store.apply([Write((insert("a", "ann"), insert("b", "bob", metadata={"k": 1})), noted("x"))])
        for where in (Where(Scope("bob")), Where(filter=parse_filter({"k": 1}))):
            lines = [json.loads(line) for line in await exported(store, where)]
            assert [line.get("memory") for line in lines] == [None, "b", 1]

    async def test_what_is_written_meanwhile_is_not_in_it(self, store):
        await add(store, *[insert(str(i)) for i in range(3)])
        pages = export(store, EVERYTHING, vectors=False)
        assert len(await pages.__anext__()) == 1
        await add(store, insert("later"))
        assert [line.get("memory") async for page in pages for line in page] == ["0", "1", "2", 3]


class TestImport:
    async def test_without_vectors_they_are_made_anew_once(self, store, new_place, place):
        await add(store, insert("abc", vector=vector(99)), insert("defgh", vector=vector(98)))
        lines = await exported(store, vectors=False)
        async with new_place(place.engine).opened() as other:
            embedder = Embedder()
            for _ in range(2):
                await taken(other, lines, embedder)
            assert embedder.asked == ["abc", "defgh"]
            async with other.snapshot() as snapshot:
                ids = [memory.id for memory in await snapshot.memories(EVERYTHING, limit=5)]
                assert list((await snapshot.vectors(ids)).values()) == [vector(3), vector(5)]

    async def test_vectors_of_another_model_are_refused_before_anything_is_kept(self, store, new_place, place):
        await add(store, insert("abc", vector=vector(1)))
        lines = await exported(store)
        async with new_place(place.engine).opened("other/8") as other:
            with pytest.raises(EmbedderMismatch, match=r"test/8.*other/8"):
                await taken(other, lines, Embedder("other/8"))
            assert await other.count(EVERYTHING) == 0

    async def test_another_memory_of_that_id_is_left_and_counted(self, store):
        ids = await add(store, insert("one", "ann"), insert("two", "ann"))
        lines = await exported(store)
        await store.apply([Write((Update(ids[0], 9, text="changed", digest=digest("changed")),))])
        result = await taken(store, lines)
        assert (result.added, result.there, result.conflicts) == (0, 1, [ids[0]])
        assert [memory.text for memory in await store.find(EVERYTHING, limit=5)] == ["changed", "two"]

    async def test_a_file_that_was_cut_off_is_noticed_wherever(self, store, new_place, place):
        await add(store, *[insert(f"text {i}") for i in range(3)])
        whole = b"".join(await exported(store))
        for size in (len(whole) - 2, len(whole) // 2, whole.index(b"\n") + 1):
            async with new_place(place.engine).opened() as other:
                result = await taken(other, whole[:size].splitlines(keepends=True))
                assert (result.whole, result.rejected) == (False, 0)
                assert result.added == whole[:size].count(b'"type":"memory"', 0, whole[:size].rfind(b"\n") + 1)

    async def test_a_line_that_is_gone_is_missed(self, store, new_place, place):
        await add(store, *[insert(f"text {i}") for i in range(3)])
        lines = await exported(store)
        async with new_place(place.engine).opened() as other:
            assert not (await taken(other, [*lines[:2], *lines[3:]])).whole

    @pytest.mark.parametrize(
        ("changed", "why"),
        [
            ({"memory": ""}, "memory is empty"),
            ({"id": "-1"}, "id is a number"),
            ({"id": True}, "id is a number"),
            ({"user_id": 1.5}, "user_id must be a string"),
            ({"metadata": []}, "metadata must be an object"),
            ({"created_at": "yesterday"}, "created_at"),
            ({"vector": "ä"}, "no base64"),
            ({"vector": "AAA="}, "float32"),
            ({"source": {"evil": 1}}, "source has"),
            ({"source": {"job": 1}}, "texts"),
            ({"type": "other"}, "type is 'other'"),
        ],
    )
    async def test_a_bad_line_is_named_and_the_others_are_kept(self, new_place, changed, why):
        async with new_place("sqlite").opened() as store:
            await add(store, *[insert(f"text {i}") for i in range(3)])
            lines = await exported(store)
        lines[2] = encoded({**json.loads(lines[2]), **changed})
        async with new_place("sqlite").opened() as other:
            result = await taken(other, lines)
            ((line, message),) = result.rejects
            assert line == 3
            assert why in message
            assert result.added == 2

    @pytest.mark.parametrize(
        "first", [b"", b"nonsense\n", b'{"memory": "x"}\n', b'{"type": "powermem", "version": 2}\n']
    )
    async def test_what_is_no_export_is_refused(self, new_place, first):
        async with new_place("sqlite").opened() as store:
            with pytest.raises(InvalidInput, match="export"):
                await taken(store, [first] if first else [])

    async def test_what_has_expired_on_the_way_is_counted(self, new_place):
        async with new_place("sqlite").opened() as store:
            await add(store, insert("x", expires_at=FUTURE))
            lines = await exported(store)
        lines[1] = encoded({**json.loads(lines[1]), "expires_at": "2001-01-01"})
        async with new_place("sqlite").opened() as other:
            result = await taken(other, lines)
            assert (result.added, result.expired, result.whole) == (0, 1, True)
