"""How a question finds its memories: both sides, one side alone, by time, by what stands before, by a reranker."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from fake_api import FakeApi, Reply
from memories import config, texts

from powermem_cli import dates
from powermem_cli.errors import InvalidInput, ProviderError
from powermem_cli.memory import AsyncMemory
from powermem_cli.model import Record, Scope
from powermem_cli.providers.local import LocalEmbedder
from powermem_cli.sync_memory import Memory

pytestmark = pytest.mark.anyio


def said(*turns: str, at: str = "2025-03-03T10:00:00", step: float = 1, user: str = "anna") -> list[Record]:
    start = datetime.fromisoformat(at).replace(tzinfo=timezone.utc).timestamp()
    return [
        Record(memory=text, scope=Scope(user), key=f"{at} {i}", created_at=int((start + step * i) * 1_000_000))
        for i, text in enumerate(turns)
    ]


@pytest.fixture
async def memory(tmp_path):
    async with AsyncMemory(config(tmp_path / "memories.db")) as opened:
        yield opened


async def first(memory: AsyncMemory, query: str, **options: object) -> str:
    return texts(await memory.search(query, user_id="anna", **options))[0]


class TestTime:
    async def test_what_is_of_the_time_that_is_named_comes_first(self, memory):
        trips = [f"We went on a trip to {place} and it rained" for place in ("Lyon", "Turin", "Ghent")]
        await memory.add_records(said("The oven is broken", "Ben sings bass", "My shoes are wet"), job="x")
        for month, trip in zip(("03", "05", "07"), trips, strict=True):
            await memory.add_records(said(trip, at=f"2025-{month}-12T10:00:00"), job="x")
        assert await first(memory, "Where did we go on a trip in May 2025?") == trips[1]
        assert await first(memory, "Where did we go on a trip on 12 July 2025?") == trips[2]
        assert await first(memory, "Where did we go on a trip in March 2025?") == trips[0]

    async def test_nothing_is_left_out_for_being_of_another_time(self, memory):
        await memory.add_records(said("We went to Lyon", "I like tea"), job="x")
        found = texts(await memory.search("Where did we go in May 2024?", user_id="anna"))
        assert set(found) == {"We went to Lyon", "I like tea"}

    async def test_relative_to_now(self, memory):
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        await memory.add_records(said("Had soup for dinner", at="2024-01-01T12:00:00"), job="x")
        await memory.add_records(said("Had pie for dinner", at=yesterday.strftime("%Y-%m-%dT12:00:00")), job="x")
        assert await first(memory, "what did I have for dinner yesterday?") == "Had pie for dinner"

    async def test_a_filter_still_holds(self, memory):
        await memory.add_records(said("We went to Lyon", at="2025-05-12T10:00:00"), job="x")
        await memory.add_records(said("We went to Turin", at="2025-05-13T10:00:00", user="ben"), job="x")
        assert texts(await memory.search("Where did we go in May 2025?", user_id="anna")) == ["We went to Lyon"]
        none = await memory.search("in May 2025?", user_id="anna", filters={"created_at": {"lt": "2025-05-01"}})
        assert none == {"results": []}

    async def test_a_list_of_dates_names_no_time(self, memory):
        await memory.add_records(said("We went to Lyon"), job="x")
        question = "Lyon " + " ".join(f"{day}.{month}." for day in range(1, 29) for month in range(1, 13))
        (hit,) = (await memory.search(question, user_id="anna", explain=True))["results"]
        assert "period" not in hit["explanation"]["boosts"]


async def test_an_answer_is_found_by_the_question_before_it(memory):
    await memory.add_records(said("Broke my ankle.", "Which leg is it?", "Left.", "Buns?"), job="x")
    await memory.add_records(said(*(f"Foot {i} is an ankle" for i in range(400)), at="2025-04-01T10:00:00"), job="x")
    found = (await memory.search("Which leg did he break?", user_id="anna", explain=True))["results"]
    (left,) = (hit for hit in found[:3] if hit["memory"] == "Left.")
    assert left["explanation"]["boosts"]["answers"] > 0
    assert left["explanation"]["cosine"] is None, "neither side came upon it"


async def test_numbers_and_names_are_found_exactly(memory):
    await memory.add_records(said(*(f"Invoice INV-{i} of {i} euros" for i in range(2000, 2400))), job="x")
    assert await first(memory, "INV-2217") == "Invoice INV-2217 of 2217 euros"


class TestModes:
    async def test_one_side_alone(self, memory):
        await memory.add_records(said("Green tea every morning", "She likes a hot drink"), job="x")
        by_words = await memory.search("tea", user_id="anna", mode="keyword", explain=True)
        assert texts(by_words) == ["Green tea every morning"]
        assert by_words["results"][0]["explanation"]["cosine"] is None
        by_meaning = await memory.search("tea", user_id="anna", mode="vector", explain=True)
        assert len(texts(by_meaning)) == 2
        assert by_meaning["results"][0]["explanation"]["bm25"] is None

    async def test_keywords_embed_nothing(self, tmp_path):
        async with AsyncMemory(config(tmp_path / "memories.db", embedding_dims=8)) as memory:
            await memory.add("Green tea", user_id="anna", infer=False)
            calls = len(memory._embedder.calls)
            assert texts(await memory.search("tea", mode="keyword")) == ["Green tea"]
            assert len(memory._embedder.calls) == calls

    async def test_keywords_load_no_model(self, tmp_path, monkeypatch):
        async with AsyncMemory(config(tmp_path / "memories.db")) as memory:
            await memory.add("Green tea", user_id="anna")
        monkeypatch.setattr(LocalEmbedder, "_model", None)
        lazy = AsyncMemory(config(tmp_path / "memories.db"))
        await lazy.initialize(lazily=True)
        try:
            assert texts(await lazy.search("tea", mode="keyword")) == ["Green tea"]
        finally:
            await lazy.close()

    async def test_there_is_no_other(self, memory):
        with pytest.raises(InvalidInput, match="hybrid, vector or keyword"):
            await memory.search("x", mode="fuzzy")

    def test_without_an_event_loop(self, tmp_path):
        with Memory(config(tmp_path / "memories.db")) as memory:
            memory.add("Green tea")
            (hit,) = memory.search("tea", mode="keyword", explain=True)["results"]
            assert hit["explanation"]["bm25"] > 0


@pytest.mark.parametrize("lazily", [False, True])
async def test_what_reads_dates_is_made_while_an_engine_is_opened_for_more_than_one_question(tmp_path, lazily):
    dates._rules.cache_clear()
    memory = AsyncMemory(config(tmp_path / "memories.db"))
    await memory.initialize(lazily=lazily)
    assert dates._rules.cache_info().currsize == (not lazily)
    await memory.close()


async def test_without_explain_a_result_says_nothing_of_it(memory):
    await memory.add("Green tea")
    assert "explanation" not in (await memory.search("tea"))["results"][0]


class TestReranker:
    @pytest.fixture
    def fake(self):
        with FakeApi() as api:
            yield api

    @pytest.fixture
    async def memory(self, tmp_path, fake):
        reranker = {
            "provider": "cohere",
            "config": {"api_key": "k", "model": "fake", "base_url": fake.url, "retries": 1},
        }
        async with AsyncMemory({**config(tmp_path / "memories.db"), "reranker": reranker}) as opened:
            await opened.add_records(said("tea", "tea and coffee", "coffee and cake", "rain"), job="x")
            yield opened

    async def test_it_has_the_last_word(self, memory, fake):
        fake.next(Reply(change=lambda said: {**said, "results": [
            {"index": i, "relevance_score": score} for i, score in enumerate((0.1, 0.9, 0.3, 0.2))
        ]}))  # fmt: skip
        found = (await memory.search("tea", user_id="anna", explain=True))["results"]
        (request,) = fake.requests
        judged = dict(zip(request.body["documents"], (0.1, 0.9, 0.3, 0.2), strict=True))
        assert {hit["memory"]: hit["score"] for hit in found} == judged
        assert [hit["score"] for hit in found] == [0.9, 0.3, 0.2, 0.1]
        assert found[0]["explanation"]["reranker"] == 0.9
        assert memory.usage["rerank"].calls == 1

    async def test_it_is_not_asked_where_one_side_is_wanted_or_nothing_is_found(self, memory, fake):
        await memory.search("tea", user_id="anna", mode="keyword")
        await memory.search("tea", user_id="nobody")
        assert fake.requests == []

    async def test_its_failure_is_no_answer(self, memory, fake):
        fake.next(Reply(500))
        with pytest.raises(ProviderError):
            await memory.search("tea", user_id="anna")


async def test_a_hundred_callers_at_once_get_what_each_would_alone(memory):
    await memory.add_records(said(*(f"note number {i} about topic {i % 7}" for i in range(300))), job="x")
    questions = [f"note number {i}" for i in range(100)]
    together = await asyncio.gather(*(memory.search(question, limit=5) for question in questions))
    assert all(texts(found)[0].startswith(f"{question} ") for question, found in zip(questions, together, strict=True))
    for question, found in list(zip(questions, together, strict=True))[::10]:
        alone = (await memory.search(question, limit=5))["results"]
        # SQL and numpy, which compares with vectors that are held, agree to the sixth digit.
        scores = [hit.pop("score") for hit in alone]
        assert [hit.pop("score") for hit in found["results"]] == pytest.approx(scores, abs=2e-6)
        assert found["results"] == alone


async def test_a_hundred_callers_at_once_are_embedded_in_few_calls(tmp_path):
    with FakeApi() as fake:
        embedder = {"provider": "openai", "config": {"api_key": "k", "model": "fake", "base_url": fake.url}}
        async with AsyncMemory({**config(tmp_path / "memories.db"), "embedder": embedder}) as memory:
            await memory.add("tea")
            fake.requests.clear()
            await asyncio.gather(*(memory.search(f"question {i}") for i in range(100)))
            assert sum(len(request.texts) for request in fake.requests) == 100
            assert len(fake.requests) <= 10
